//! Faults: real gateways on a data directory, with real agent hosts and agents, that are killed, stopped, and given
//! disks that are full or fail, while clients stream. A recorder checks that the promises were kept.
//!
//! This binary is also the agent: it has a main of its own, and the first argument says which of the two it is.
#![allow(clippy::unwrap_used, reason = "a test says what it expects, and no more")]

mod agent;
mod client;
mod crowd;
mod disk;
mod installation;
mod kills;
mod pauses;
mod recorder;
mod scenes;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).map(String::as_str) == Some(agent::AS_AGENT) {
        agent::run(&arguments[2..]);
        return ExitCode::SUCCESS;
    }
    let trials = [scenes::trials(), kills::trials(), pauses::trials(), disk::trials()];
    libtest_mimic::run(&Arguments::from_args(), trials.into_iter().flatten().collect()).exit_code()
}

/// A test that succeeds if it does not panic.
fn trial(name: &'static str, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
