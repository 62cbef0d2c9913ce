//! End-to-end tests of the page: Chromium, a debug build of the gateway, and the demo agent.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::command::{Running, Task};
use crate::report::Verdict;
use crate::runner::Session;
use crate::workspace::{Context as _, Failure, Result, empty_scratch, find_program, target};
use crate::{agents, tools, web};

/// A gateway has this long to write its addresses.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Runs the page's end-to-end tests.
pub(crate) fn step(session: &Session) -> Result<Verdict> {
    let chromium = match chromium(session) {
        Ok(chromium) => chromium,
        Err(failure) => return Ok(Verdict::Skipped(failure.to_string())),
    };
    web::install(session)?;
    let program = build_gateway(session)?;
    let mut gateway = Gateway::start(&program, "browser", "", &[])?;
    let mut tests =
        web::npm(&["run", "e2e"])?.env("SWITCHBOARD_URL", &gateway.url).env("CHROMIUM", &chromium);
    let claude = agents::claude_environment(session);
    for (name, value) in claude.iter().flatten() {
        tests = tests.env(name, value);
    }
    let passed = tests.run(session.deadline()).and_then(|()| gateway.require_alive());
    if passed.is_err() {
        println!("What the gateway said:\n{}", said(&gateway.log));
    }
    passed?;
    Ok(match claude {
        Ok(_) => Verdict::Passed,
        Err(failure) => Verdict::PassedInPart(format!("SKIPPED here: the page with Claude Code: {failure}")),
    })
}

/// The path of Chromium, which is installed if it is missing.
fn chromium(session: &Session) -> Result<PathBuf> {
    if let Some(chosen) = std::env::var_os("CHROMIUM") {
        return Ok(chosen.into());
    }
    if let Some(found) = find_chromium() {
        return Ok(found);
    }
    tools::apt_install(session, "Chromium", &["chromium", "fonts-liberation"])?;
    find_chromium().ok_or_else(|| Failure::new("apt-get installed Chromium, but it is not on PATH"))
}

fn find_chromium() -> Option<PathBuf> {
    ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
        .into_iter()
        .find_map(find_program)
}

/// Builds the gateway with the options of the build step, so that nothing is left to compile after that step.
pub(crate) fn build_gateway(session: &Session) -> Result<PathBuf> {
    let build = ["build", "--locked", "--workspace", "--all-features", "--bin", "switchboard"];
    Task::cargo().args(build).run(session.deadline())?;
    Ok(target().join("debug/switchboard"))
}

/// A gateway with its own data directory. Dropping it ends the gateway.
pub(crate) struct Gateway {
    running: Running,
    /// The TCP address, as `IP:PORT`.
    pub(crate) address: String,
    /// The URL of the TCP address, without a path.
    pub(crate) base: String,
    /// The URL of the page, with the token in the fragment, as the gateway prints it.
    url: String,
    pub(crate) token_file: PathBuf,
    /// The path of the gateway's Unix socket.
    pub(crate) socket: PathBuf,
    log: PathBuf,
}

impl Gateway {
    /// Starts a gateway with the demo agent, in a scratch directory called `name`, with this configuration file and
    /// further arguments.
    pub(crate) fn start(program: &Path, name: &str, config: &str, args: &[&str]) -> Result<Self> {
        let dir = empty_scratch(name)?;
        let (data, workspace) = (dir.join("data"), dir.join("workspace"));
        let (config_file, socket) = (dir.join("config.toml"), data.join("socket"));
        std::fs::write(&config_file, config).context("writing a configuration")?;
        let (port_file, token_file) = (dir.join("addresses"), dir.join("token"));
        std::fs::create_dir(&workspace).context("making a workspace for the demo agent")?;

        let log = dir.join("log");
        let mut running = Task::new(program)
            .log_to(&log)?
            .args(["serve", "--listen", "127.0.0.1:0", "--dialect", "claude", "--agent-command"])
            // Quoted as in a shell: the path of a checkout may contain a space.
            .arg(format!("'{}' demo-agent", program.display()))
            .arg("--port-file")
            .arg(&port_file)
            .arg("--token-file")
            .arg(&token_file)
            .arg("--data-dir")
            .arg(&data)
            .arg("--workspace")
            .arg(&workspace)
            .arg("--config")
            .arg(&config_file)
            .arg("--unix")
            .arg(&socket)
            .args(args)
            .spawn()?;
        let address = await_address(&mut running, &port_file)
            .map_err(|failure| Failure::new(format!("{failure}; it said:\n{}", said(&log))))?;
        let token =
            std::fs::read_to_string(&token_file).context("reading the token that the gateway made")?;
        let base = format!("http://{address}");
        let url = format!("{base}/#token={}", token.trim());
        Ok(Self { running, address, base, url, token_file, socket, log })
    }

    /// Fails if the gateway has ended by itself.
    pub(crate) fn require_alive(&mut self) -> Result {
        match self.running.poll()? {
            None => Ok(()),
            Some(status) => Err(Failure::new(format!("the gateway ended during the tests with {status}"))),
        }
    }
}

/// The log of a gateway; empty if it cannot be read, since the caller already reports another failure.
fn said(log: &Path) -> String {
    std::fs::read_to_string(log).unwrap_or_default()
}

/// Waits for the first TCP address in the port file.
fn await_address(gateway: &mut Running, port_file: &Path) -> Result<String> {
    let deadline = Instant::now() + START_LIMIT;
    while Instant::now() < deadline {
        // The file does not exist until the gateway is ready.
        let addresses = std::fs::read_to_string(port_file).unwrap_or_default();
        if let Some(address) = tcp_address(&addresses) {
            return Ok(address.to_owned());
        }
        if let Some(status) = gateway.poll()? {
            return Err(Failure::new(format!("the gateway ended at once with {status}")));
        }
        thread::sleep(Duration::from_millis(50));
    }
    Err(Failure::new(format!("the gateway wrote no address within {} s", START_LIMIT.as_secs())))
}

/// The first complete line that is a TCP address; lines of Unix sockets contain a path.
fn tcp_address(addresses: &str) -> Option<&str> {
    let complete = &addresses[..=addresses.rfind('\n')?];
    complete.lines().find(|line| line.parse::<std::net::SocketAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::tcp_address;

    #[test]
    fn the_address_is_taken_when_its_line_is_complete() {
        assert_eq!(tcp_address("127.0.0.1:80"), None);
        assert_eq!(tcp_address("127.0.0.1:8021\n"), Some("127.0.0.1:8021"));
        assert_eq!(tcp_address("unix:/run/s\n[::1]:80\n"), Some("[::1]:80"));
        assert_eq!(tcp_address(""), None);
    }
}
