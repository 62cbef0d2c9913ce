//! Agents as real processes. This binary is also the demo agent: it has a main of its own, and the first
//! argument says which of the two it is.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test says what it expects, and no more"
)]
#![allow(clippy::too_many_lines, reason = "the tests of a module are one list")]

mod commands;
mod control;
mod deaths;
mod descendants;
mod dialect;
mod starts;
// Shared by both test programs.
#[path = "../support/mod.rs"]
mod support;
mod text;

use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};

use libtest_mimic::{Arguments, Trial};
use switchboard_agent_bridge::{Dialect, ProcessAgent, ProcessConfig, dialect::CLAUDE};

use self::support::{READY, config};

const AS_DEMO: &str = "as-demo-agent";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|argument| argument == AS_DEMO) {
        let further = arguments.into_iter().skip(2);
        let status = switchboard_agent_bridge::demo::run(further, std::io::stdin(), std::io::stdout());
        return ExitCode::from(status.unwrap());
    }
    // As in the gateway: orphans become children of this process.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let trials = [
        commands::trials(),
        deaths::trials(),
        descendants::trials(),
        dialect::trials(),
        control::trials(),
        starts::trials(),
        text::trials(),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials.into_iter().flatten().collect()).exit_code()
}

/// An async test with a workspace and a mark of its own. All processes with the mark must have exited at its end.
fn trial<F: Future<Output = ()>>(
    name: &'static str,
    test: impl FnOnce(Fixture) -> F + Send + 'static,
) -> Trial {
    support::trial(name, |dir, mark| Fixture { workspace: dir.into(), mark }, test)
}

struct Fixture {
    workspace: std::path::PathBuf,
    mark: String,
}

impl Fixture {
    fn workspace(&self) -> &Path {
        &self.workspace
    }

    fn config(&self, command: &[&str], dialect: &'static dyn Dialect) -> ProcessConfig {
        let command = command.iter().map(|&part| part.to_owned()).collect();
        let mut config = config(command, dialect, &self.workspace);
        config.mark_prefix.clone_from(&self.mark);
        config.limits.stop_eof = Duration::from_millis(400);
        config.limits.stop_term = Duration::from_millis(400);
        config
    }

    fn demo_config(&self) -> ProcessConfig {
        let exe = std::env::current_exe().unwrap();
        self.config(&[exe.to_str().unwrap(), AS_DEMO], CLAUDE)
    }

    fn demo(&self) -> Arc<ProcessAgent> {
        Arc::new(ProcessAgent::new(self.demo_config()))
    }

    /// A shell script that first answers the `initialize` request.
    fn stub(&self, script: &str) -> Arc<ProcessAgent> {
        Arc::new(ProcessAgent::new(self.stub_config(script)))
    }

    fn stub_config(&self, script: &str) -> ProcessConfig {
        let script = format!("echo '{READY}'\n{script}");
        self.config(&["sh", "-c", &script], CLAUDE)
    }
}
