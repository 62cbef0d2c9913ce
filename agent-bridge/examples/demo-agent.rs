//! The demo agent as a program of its own: `cargo run --example demo-agent`, then type stream-json.

use std::{io, process::ExitCode};

fn main() -> io::Result<ExitCode> {
    let status = switchboard_agent_bridge::demo::run(std::env::args().skip(1), io::stdin(), io::stdout())?;
    Ok(ExitCode::from(status))
}
