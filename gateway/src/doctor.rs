//! `switchboard doctor`: finds problems that would keep a gateway from working.

use std::{
    env,
    fs::{self, OpenOptions},
    io::{self, Read, Write as _},
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use switchboard_agent_bridge::AGENT_PRESETS;
use switchboard_runtime::{OpenErrorReason, Sqlite};
use switchboard_transport_unix::Listener;

use crate::{
    agents, backend,
    cli::ServeArgs,
    config::{AgentChoice, Config, Durability},
    console,
    data_dir::{self, JOURNAL},
    failure::Failure,
    http, sandbox, serve, startup, token,
};

/// An agent's program has this long to print its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);
/// How often to check whether the program has ended.
const VERSION_POLL: Duration = Duration::from_millis(20);

/// How often to print the progress of the journal's check.
const PROGRESS: Duration = Duration::from_secs(2);
/// Most damaged chats that are listed one by one; further chats are only counted.
const NAMED_CHATS: usize = 50;

/// Bytes that are written to test whether the disk has room.
const PROBE_BYTES: usize = 64 * 1024;

/// The result of one check.
enum Finding {
    Ok(String),
    Warn(String),
    Fail(Failure),
}

/// Runs all checks and prints a line about each. The exit code is a failure if a check fails.
pub(crate) fn run(args: &ServeArgs) -> ExitCode {
    let mut findings = Vec::new();
    match Config::read(args) {
        Ok(config) => {
            findings.push(Finding::Ok("The configuration is valid.".into()));
            findings.extend(data_directory(&config.data_dir));
            if config.durability != Durability::None {
                findings.extend(journal(&config.data_dir.join(JOURNAL)));
            }
            findings.push(token_file(&config));
            findings.extend(addresses(&config));
            findings.extend(config.port_file.as_deref().map(port_file));
            findings.push(workspace(&config.workspace));
            findings.extend(known_agents(&config.agent));
            findings.push(agent(&config.agent, &config.workspace));
            findings.extend(sandbox(&config));
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
    let mut findings = vec![match data_dir::check_usable(path) {
        Ok(()) if !path.exists() => {
            return vec![Finding::Ok(format!("The data directory {shown} is made at the first start."))];
        }
        Ok(()) => writable(path),
        Err(failure) => Finding::Fail(failure),
    }];
    findings.extend(data_dir::check_free(path).err().map(Finding::Fail));
    findings
}

/// Reads the whole journal; works while a gateway has the journal open, too.
fn journal(path: &Path) -> Vec<Finding> {
    let mut shown = Instant::now();
    let checked = Sqlite::check(path, |done, of| {
        if shown.elapsed() >= PROGRESS {
            shown = Instant::now();
            console::line(&format!("      {done} of {of} chats are checked"));
        }
    });
    let report = match checked {
        Ok(report) => report,
        Err(error) if matches!(error.reason, OpenErrorReason::Missing) => {
            return vec![Finding::Ok("No chats are stored yet.".into())];
        }
        Err(error) => return vec![Finding::Fail(backend::unusable(&error))],
    };
    let gaps = report.incomplete.iter().take(NAMED_CHATS).map(|chat| {
        Finding::Warn(format!(
            "The chat {} of {} lost a part in an earlier epoch: {}. Nothing is to be done about that.",
            chat.chat, chat.principal, chat.what
        ))
    });
    let mut findings: Vec<Finding> = gaps.collect();
    if let Some(more) = report.incomplete.len().checked_sub(NAMED_CHATS).filter(|more| *more > 0) {
        findings.push(Finding::Warn(format!("{more} more chats lost a part in an earlier epoch.")));
    }
    if report.is_sound() {
        findings.push(Finding::Ok(match (report.older, report.chats) {
            (true, _) => {
                "The journal is of an older version, and is brought up to date at the next start.".into()
            }
            (false, 1) => "The journal holds 1 chat, which can be read.".into(),
            (false, chats) => format!("The journal holds {chats} chats, which can all be read."),
        }));
        return findings;
    }
    if !report.structure.is_empty() {
        findings.push(Finding::Fail(Failure::new(
            format!("The journal is damaged: {}.", report.structure.join("; ")),
            "Restore a backup into another data directory. Or start once with --accept-loss: the files are copied \
             aside, and what can be read is served.",
        )));
    }
    for chat in report.damaged.iter().take(NAMED_CHATS) {
        findings.push(Finding::Fail(Failure::new(
            format!("The chat {} of {} is damaged: {}.", chat.chat, chat.principal, chat.what),
            "Other chats are not affected. Restore a backup into another data directory if you need this one.",
        )));
    }
    if let Some(more) = report.damaged.len().checked_sub(NAMED_CHATS).filter(|more| *more > 0) {
        findings.push(Finding::Warn(format!("{more} more chats are damaged.")));
    }
    findings
}

/// Tests whether a file can be written in a directory; leaves no file behind.
fn probe(directory: &Path) -> io::Result<()> {
    let probe = directory.join(format!("probe-{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&probe)?;
    // The name is removed before the write, so that no file is left even if this process is killed.
    fs::remove_file(&probe)?;
    file.write_all(&[0; PROBE_BYTES])
}

fn writable(path: &Path) -> Finding {
    let shown = path.display();
    match probe(path) {
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

fn port_file(path: &Path) -> Finding {
    let shown = path.display();
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match probe(directory) {
        Ok(()) => Finding::Ok(format!("The port file {shown} can be written.")),
        Err(error) => Finding::Fail(startup::no_port_file(path, &error)),
    }
}

fn addresses(config: &Config) -> Vec<Finding> {
    let bind = |address| match crate::executor::start().and_then(|runtime| {
        let _entered = runtime.enter();
        http::bind(address)
    }) {
        Ok(_) => Finding::Ok(format!("The address {address} is free.")),
        Err(failure) => Finding::Fail(failure),
    };
    let addresses = config.listen.iter().map(|address| bind(*address));
    let pages = config.listen_unix.iter().map(|path| socket(path, "--listen"));
    addresses.chain(pages).chain(config.unix.iter().map(|path| socket(path, "--unix"))).collect()
}

fn socket(path: &Path, flag: &str) -> Finding {
    let shown = path.display();
    match crate::executor::start().and_then(|runtime| {
        let _entered = runtime.enter();
        serve::bind_unix(path, flag).map(Listener::remove)
    }) {
        Ok(()) => Finding::Ok(format!("The socket {shown} can be listened on.")),
        Err(failure) => Finding::Fail(failure),
    }
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

fn sandbox(config: &Config) -> Vec<Finding> {
    let found = match sandbox::Found::probe(config, &config.data_dir) {
        Ok(found) => found,
        Err(failure) => return vec![Finding::Fail(failure)],
    };
    let gaps = found.gaps(config).into_iter().map(Finding::Warn);
    match &found {
        sandbox::Found::Works(sandbox) => {
            let level = sandbox.level();
            [Finding::Ok(format!("Agents run in a sandbox: {level}."))].into_iter().chain(gaps).collect()
        }
        sandbox::Found::NotWanted => {
            vec![Finding::Warn("Agents run without a sandbox, as configured.".into())]
        }
        sandbox::Found::Missing(why) => vec![Finding::Warn(format!(
            "Agents run without a sandbox: {}. --sandbox require would not start. {}, or say --sandbox off.",
            why.reason, why.remedy
        ))],
    }
}

/// Checks the agent presets that this configuration may use.
fn known_agents(choice: &AgentChoice) -> Vec<Finding> {
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
    let may_answer = |preset: &&switchboard_agent_bridge::AgentPreset| match choice {
        AgentChoice::Detect => true,
        AgentChoice::Named(name) => name == preset.name,
        AgentChoice::Command { .. } => false,
    };
    AGENT_PRESETS.iter().filter(may_answer).map(found).collect()
}

fn agent(choice: &AgentChoice, workspace: &Path) -> Finding {
    match agents::choose(choice, workspace) {
        Ok(chosen) => Finding::Ok(format!("The agent that answers is {} ({}).", chosen.name, chosen.why)),
        Err(failure) => Finding::Fail(failure),
    }
}

/// The first line that the program prints with `--version`; `None` if it prints none within [`VERSION_TIMEOUT`].
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
    // A version is short enough for the pipe's buffer, so the program does not block on its output.
    child.stdout.take()?.take(4096).read_to_string(&mut text).ok()?;
    let line: String = text.lines().next()?.chars().filter(|c| !c.is_control()).take(80).collect();
    (!line.trim().is_empty()).then(|| line.trim().to_owned())
}
