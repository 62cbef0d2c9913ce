//! The `switchboard` command: configuration, HTTP server, authentication, composition of the parts, signals.
//!
//! A library so that tests can look inside; it promises no stable interface.

mod agents;
pub mod auth;
mod backend;
mod backup;
pub mod chat;
pub mod cli;
pub mod config;
mod console;
pub mod data_dir;
mod doctor;
mod executor;
pub mod failure;
pub mod http;
pub mod logs;
mod paths;
mod sandbox;
mod serve;
mod startup;
pub mod token;

use std::{io, process::ExitCode};

use clap::Parser;

use cli::{Cli, Command};
use failure::{Failure, Result};

/// Runs the subcommand in this process's arguments, and returns the exit code.
pub fn run() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Chat(args) => chat::run(&args),
        Command::Backup(args) => backup::backup(&args),
        Command::Restore(args) => backup::restore(&args),
        Command::Doctor(args) => Ok(doctor::run(&args)),
        Command::DemoAgent { ignored } => demo_agent(ignored),
        Command::AgentHost => agent_host(),
    };
    result.unwrap_or_else(|failure| {
        console::print_before_exit(format!("switchboard: {failure}"));
        ExitCode::from(failure.status())
    })
}

fn demo_agent(arguments: Vec<String>) -> Result<ExitCode> {
    match switchboard_agent_bridge::demo::run(arguments, io::stdin(), io::stdout()) {
        Ok(status) => Ok(ExitCode::from(status)),
        // The gateway or host that started the agent is gone.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(Failure::new(
            format!("The demo agent cannot go on: {error}."),
            "Start it from a gateway: switchboard serve --agent demo.",
        )),
    }
}

fn agent_host() -> Result<ExitCode> {
    match switchboard_agent_bridge::host::run(io::stdin(), io::stdout()) {
        Ok(status) => Ok(ExitCode::from(status)),
        Err(error) => Err(Failure::new(
            format!("The agent's host cannot go on: {error}."),
            "It is started by a gateway, and by nobody else: switchboard serve.",
        )),
    }
}
