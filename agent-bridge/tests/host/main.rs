//! Agents under hosts, as real processes. This binary is also the host and the demo agent: it has a main of its
//! own, and the first argument says which of the three it is.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test says what it expects, and no more"
)]
#![allow(clippy::too_many_lines, reason = "the tests of a module are one list")]

mod adoption;
mod crashes;
mod deaths;
mod descendants;
mod dialect;
mod gateway;
mod grace;
mod requests;
mod stops;
// Shared by both test programs.
#[path = "../support/mod.rs"]
mod support;
mod turns;
mod versions;
mod wire;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use libtest_mimic::{Arguments, Trial};
use switchboard_agent_bridge::{
    Dialect, HostAgent, HostConfig,
    dialect::{CLAUDE, TEXT},
};

use self::support::{READY, config};

const AS_DEMO: &str = "as-demo-agent";
const AS_HOST: &str = "as-agent-host";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some(AS_DEMO) => {
            let further = arguments.into_iter().skip(2);
            let status = switchboard_agent_bridge::demo::run(further, std::io::stdin(), std::io::stdout());
            return ExitCode::from(status.unwrap());
        }
        Some(AS_HOST) => {
            let status = switchboard_agent_bridge::host::run(std::io::stdin(), std::io::stdout());
            return ExitCode::from(status.unwrap());
        }
        _ => {}
    }
    // As in the gateway: orphans become children of this process.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let trials = [
        turns::trials(),
        requests::trials(),
        adoption::trials(),
        deaths::trials(),
        descendants::trials(),
        dialect::trials(),
        grace::trials(),
        stops::trials(),
        crashes::trials(),
        versions::trials(),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials.into_iter().flatten().collect()).exit_code()
}

/// An async test with directories and a mark of its own. All processes with the mark must have exited at its end.
fn trial<F: Future<Output = ()>>(
    name: &'static str,
    test: impl FnOnce(Fixture) -> F + Send + 'static,
) -> Trial {
    let fixture = |dir: &Path, mark| {
        let workspace = dir.join("workspace");
        std::fs::create_dir(&workspace).unwrap();
        Fixture { workspace, hosts: dir.join("hosts"), mark }
    };
    support::trial(name, fixture, test)
}

#[derive(Clone)]
struct Fixture {
    workspace: PathBuf,
    hosts: PathBuf,
    mark: String,
}

impl Fixture {
    fn workspace(&self) -> &Path {
        &self.workspace
    }

    fn config(&self, command: &[&str], dialect: &'static dyn Dialect) -> HostConfig {
        let command = command.iter().map(|&part| part.to_owned()).collect();
        let mut process = config(command, dialect, &self.workspace);
        process.mark_prefix.clone_from(&self.mark);
        process.limits.stop_eof = Duration::from_millis(400);
        process.limits.stop_term = Duration::from_millis(400);
        // Hosts that a failed test leaves behind end soon.
        process.limits.host.grace_idle = support::TIMEOUT;
        process.limits.host.grace_turn = support::TIMEOUT;
        let exe = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
        HostConfig { process, hosts: self.hosts.clone(), host: vec![exe, AS_HOST.into()], spools_lost: false }
    }

    fn demo(&self) -> HostConfig {
        let exe = std::env::current_exe().unwrap();
        self.config(&[exe.to_str().unwrap(), AS_DEMO], CLAUDE)
    }

    /// A shell script that first answers the `initialize` request.
    fn stub(&self, script: &str) -> HostConfig {
        let script = format!("read -r line; echo '{READY}'\n{script}");
        self.config(&["sh", "-c", &script], CLAUDE)
    }

    fn text(&self, script: &str) -> HostConfig {
        self.config(&["sh", "-c", script], TEXT)
    }

    /// The host's directory of the first instance.
    fn run_dir(&self) -> PathBuf {
        self.hosts.join("1")
    }

    fn host_pid(&self) -> i32 {
        let card = std::fs::read(self.run_dir().join("host.json")).unwrap();
        let card: serde_json::Value = serde_json::from_slice(&card).unwrap();
        i32::try_from(card["pid"].as_i64().unwrap()).unwrap()
    }

    /// The agent's processes, without the host.
    fn agents(&self) -> Vec<i32> {
        let host = self.host_pid();
        support::alive(&self.mark).into_iter().filter(|pid| *pid != host).collect()
    }
}

fn agent(config: &HostConfig) -> Arc<HostAgent> {
    Arc::new(HostAgent::new(config.clone()))
}

fn kill(pid: i32) {
    signal(pid, rustix::process::Signal::KILL);
}

/// Stops a process until it is continued or killed.
fn pause(pid: i32) {
    signal(pid, rustix::process::Signal::STOP);
}

fn signal(pid: i32, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
}
