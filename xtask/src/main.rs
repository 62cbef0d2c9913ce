//! The project's own commands: `cargo xtask serve`, `test`, `bench`, `schema` and `fixtures`.
//!
//! Runs cargo and other tools and checks sources. Depends on no crate of the workspace or of crates.io, so that it
//! builds in a moment and works while everything else is broken.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "talking to the person at the terminal is its job"
)]

mod agents;
mod autobahn;
mod browser;
mod clients;
mod command;
mod edges;
mod fixtures;
mod generated;
mod git;
mod modules;
mod nginx;
mod package;
mod passed;
mod peers;
mod readme;
mod release;
mod report;
mod runner;
mod rust;
mod sandbox;
mod secrets;
mod snapshots;
mod steps;
mod tidy;
mod tools;
mod usage;
mod web;
mod workspace;

use std::process::ExitCode;

use usage::USAGE;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let subcommand = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    let done = match subcommand.as_str() {
        "serve" => Err(release::serve(rest)),
        "bench" => Err(release::bench(rest)),
        "test" => runner::Options::parse(rest).and_then(|options| runner::run(options, steps::STEPS)),
        "schema" => generated::schema(),
        "fixtures" => fixtures::rewrite(),
        "" | "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        other => Err(workspace::Failure::new(format!("no subcommand `{other}`\n\n{USAGE}"))),
    };
    done.unwrap_or_else(|failure| {
        eprintln!("xtask: {failure}");
        ExitCode::FAILURE
    })
}
