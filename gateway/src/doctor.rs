//! `switchboard doctor`: says what would keep a gateway from working, before it does.

use std::{
    env,
    fs::{self, OpenOptions},
    io::Read,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use switchboard_agent_bridge::AGENT_PRESETS;
use switchboard_transport_unix::Listener;

use crate::{
    agents,
    cli::ServeArgs,
    config::{AgentChoice, Config},
    console, data_dir,
    failure::Failure,
    http, serve, token,
};

/// An agent has this long to say its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked whether it did.
const VERSION_POLL: Duration = Duration::from_millis(20);

/// What was found about one thing.
enum Finding {
    Ok(String),
    Warn(String),
    Fail(Failure),
}

/// Checks everything, prints a line about each, and fails if anything fails.
pub(crate) fn run(args: &ServeArgs) -> ExitCode {
    let mut findings = Vec::new();
    match Config::read(args) {
        Ok(config) => {
            findings.push(Finding::Ok("The configuration is valid.".into()));
            findings.extend(data_directory(&config.data_dir));
            findings.push(token_file(&config));
            findings.extend(addresses(&config));
            findings.push(workspace(&config.workspace));
            findings.extend(known_agents());
            findings.push(agent(&config.agent));
        }
        Err(failure) => findings.push(Finding::Fail(failure)),
    }
    let failed = findings.iter().any(|finding| matches!(finding, Finding::Fail(_)));
    for finding in findings {
        match finding {
            Finding::Ok(text) => console::line(&format!("ok    {text}")),
            Finding::Warn(text) => console::line(&format!("warn  {text}")),
            Finding::Fail(failure) => {
                console::line(&format!("FAIL  {}\n      {}", failure.what(), failure.remedy()));
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn data_directory(path: &Path) -> Vec<Finding> {
    let shown = path.display();
    if !path.exists() {
        return vec![Finding::Ok(format!("The data directory {shown} is made at the first start."))];
    }
    let mut findings = vec![match data_dir::check(path) {
        Ok(()) => writable(path),
        Err(failure) => Finding::Fail(failure),
    }];
    if data_dir::is_locked(path) {
        findings.push(Finding::Warn(format!(
            "A gateway runs on {shown}; a second one needs its own --data-dir."
        )));
    }
    findings
}

fn writable(path: &Path) -> Finding {
    let shown = path.display();
    let probe = path.join(format!("probe-{}", std::process::id()));
    let written = OpenOptions::new().write(true).create_new(true).open(&probe);
    match written.and_then(|_| fs::remove_file(&probe)) {
        Ok(()) => Finding::Ok(format!("The data directory {shown} is private and can be written.")),
        Err(error) => Finding::Fail(Failure::new(
            format!("The data directory {shown} cannot be written: {error}."),
            "Make room on the disk, or name another directory with --data-dir.",
        )),
    }
}

fn token_file(config: &Config) -> Finding {
    let shown = config.token_file.display();
    if !config.auth {
        return Finding::Warn("There is no authentication: every program on this machine is let in.".into());
    }
    if !config.token_file.exists() {
        return Finding::Ok(format!("The token file {shown} is made at the first start."));
    }
    match token::read_existing(&config.token_file) {
        Ok(_) => Finding::Ok(format!("The token file {shown} is private and holds a token.")),
        Err(failure) => Finding::Fail(failure),
    }
}

fn addresses(config: &Config) -> Vec<Finding> {
    let running = data_dir::is_locked(&config.data_dir);
    let bind = |address| match crate::runtime().and_then(|runtime| {
        let _entered = runtime.enter();
        http::bind(address)
    }) {
        Ok(_) => Finding::Ok(format!("The address {address} is free.")),
        // Most likely by the gateway that was found.
        Err(failure) if running => Finding::Warn(failure.what().into()),
        Err(failure) => Finding::Fail(failure),
    };
    let socket = |path: &PathBuf| match crate::runtime().and_then(|runtime| {
        let _entered = runtime.enter();
        serve::bind_unix(path, "--listen").map(Listener::remove)
    }) {
        Ok(()) => Finding::Ok(format!("The socket {} can be listened on.", path.display())),
        Err(failure) if running => Finding::Warn(failure.what().into()),
        Err(failure) => Finding::Fail(failure),
    };
    config.listen.iter().map(|address| bind(*address)).chain(config.listen_unix.iter().map(socket)).collect()
}

fn workspace(path: &Path) -> Finding {
    match fs::read_dir(path) {
        Ok(_) => Finding::Ok(format!("Agents work in {}.", path.display())),
        Err(error) => Finding::Fail(Failure::new(
            format!("The workspace {} cannot be read: {error}.", path.display()),
            "Name another directory with --workspace.",
        )),
    }
}

fn known_agents() -> Vec<Finding> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = |preset: &switchboard_agent_bridge::AgentPreset| match preset.find(&path) {
        Some(program) => match version(&program) {
            Some(version) => Finding::Ok(format!("{} is at {}: {version}.", preset.name, program.display())),
            None => Finding::Warn(format!(
                "{} is at {} but does not say its version.",
                preset.name,
                program.display()
            )),
        },
        None => Finding::Warn(format!("{} is not on PATH.", preset.name)),
    };
    AGENT_PRESETS.iter().map(found).collect()
}

fn agent(choice: &AgentChoice) -> Finding {
    match agents::choose(choice) {
        Ok(chosen) => Finding::Ok(format!("The agent that answers is {} ({}).", chosen.name, chosen.why)),
        Err(failure) => Finding::Fail(failure),
    }
}

/// The first line of what the program says to `--version`, in time.
fn version(program: &Path) -> Option<String> {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let deadline = Instant::now() + VERSION_TIMEOUT;
    while child.try_wait().ok()?.is_none() {
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(VERSION_POLL);
    }
    let mut text = String::new();
    // A version is short; a pipe holds it.
    child.stdout.take()?.take(4096).read_to_string(&mut text).ok()?;
    let line: String = text.lines().next()?.chars().filter(|c| !c.is_control()).take(80).collect();
    (!line.trim().is_empty()).then(|| line.trim().to_owned())
}
