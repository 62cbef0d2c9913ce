//! Endurance: a gateway with its journal, agent hosts and the demo agent, under a mixed load that goes on, and a chat
//! with very many turns. Every message is answered, and the gateway's resources do not grow.
//!
//! `SWITCHBOARD_ENDURANCE_SECONDS` says how long each test runs. With `SWITCHBOARD_ENDURANCE_TURNS` the one chat gets so
//! many turns, however long that takes. `SWITCHBOARD_BINARY` names another program to test: a release build, say.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod load;
mod log;
mod measure;
mod scenes;
mod turns;

use std::time::Duration;

/// How long a test runs by default, in seconds.
const SECONDS: u64 = 5;

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// How long each test runs.
fn run_time() -> Duration {
    Duration::from_secs(number("SWITCHBOARD_ENDURANCE_SECONDS").unwrap_or(SECONDS))
}

/// Prints a figure.
#[allow(clippy::print_stdout, reason = "figures are of use only where they can be read")]
fn report(line: &str) {
    println!("{line}");
}
