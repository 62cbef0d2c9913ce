//! The sandbox of agents, through the real program: a hostile agent attempts to reach each hidden thing by name. And
//! what protects the memory of gateway and hosts without a sandbox.
//!
//! This binary is also that agent: it has a main of its own, and the first argument says which of the two it is. Without
//! a `bwrap` that works, the tests that need it print that they are skipped.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod hostile;
mod memory;
mod places;
mod reach;
mod scenes;
mod site;

use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).map(String::as_str) == Some(hostile::AS_HOSTILE) {
        hostile::run();
        return ExitCode::SUCCESS;
    }
    let works = bwrap_works();
    if let Err(why) = &works {
        say(&format!("NOT TESTED: agents in their sandbox: {why}"));
    }
    let trials =
        scenes::WITH_BWRAP.iter().map(|(name, test)| trial(name, test).with_ignored_flag(works.is_err()));
    let all = trials.chain(scenes::ALWAYS.iter().chain(memory::SCENES).map(|(name, test)| trial(name, test)));
    libtest_mimic::run(&Arguments::from_args(), all.collect()).exit_code()
}

#[allow(clippy::print_stderr, reason = "it is for whoever runs the tests")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

fn trial(name: &str, test: &'static (impl Fn() + Sync)) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}

fn bwrap_works() -> Result<(), String> {
    let options =
        ["--unshare-user", "--unshare-pid", "--dev-bind", "/", "/", "--proc", "/proc", "--", "true"];
    match Command::new("bwrap").args(options).output() {
        Err(error) => Err(format!("bwrap cannot be run: {error}")),
        Ok(ran) if !ran.status.success() => Err(String::from_utf8_lossy(&ran.stderr).trim().into()),
        Ok(_) => Ok(()),
    }
}
