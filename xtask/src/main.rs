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
mod command;
mod edges;
mod fixtures;
mod generated;
mod git;
mod modules;
mod nginx;
mod peers;
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
mod web;
mod workspace;

use std::process::ExitCode;

/// All subcommands; `tidy` checks that documents name no other.
const SUBCOMMANDS: [&str; 5] = ["serve", "test", "bench", "schema", "fixtures"];

const USAGE: &str = "\
cargo xtask serve [-- FLAGS]     build the release gateway and run `switchboard serve FLAGS`
cargo xtask test [OPTIONS]       run everything that CI runs
    --only STEP                  only this step (repeatable)
    --list                       the steps and what each one proves
    --nightly                    randomised tests run for much longer
cargo xtask bench [-- ARGS]      measure against the limit and print a table of ratios
cargo xtask schema               write the JSON Schema and the TypeScript types of the wire anew
cargo xtask fixtures             write these, the snapshots and the page's bundle anew";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let subcommand = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    let done = match subcommand.as_str() {
        "serve" => Err(release::serve(rest)),
        "bench" => Err(release::bench(rest)),
        "test" => runner::Options::parse(rest).and_then(runner::run),
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

#[cfg(test)]
mod tests {
    use super::{SUBCOMMANDS, USAGE};

    #[test]
    fn every_subcommand_is_explained() {
        for subcommand in SUBCOMMANDS {
            assert!(USAGE.contains(&format!("cargo xtask {subcommand}")), "{subcommand}");
        }
    }
}
