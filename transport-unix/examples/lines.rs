//! A gateway on a Unix socket, with an agent in the same process.
//!
//! ```text
//! cargo run -p switchboard-transport-unix --example lines -- /tmp/private/socket
//! echo '{"type":"message","chat_id":"c","content":"hello"}' | socat - UNIX:/tmp/private/socket
//! ```
#![allow(clippy::print_stdout, reason = "it says where it listens")]

use std::sync::Arc;

use async_trait::async_trait;
use switchboard_core::{
    Limits,
    agent::{AgentCommand, AgentEvent, AgentExit, AgentRecords},
    wire::Outcome,
};
use switchboard_runtime::{Agent, AgentContext, AgentControl, Gateway, Memory, entropy};
use switchboard_transport_unix::{Listener, Options, serve};

/// Says every message again in capitals.
struct Loud;

#[async_trait]
impl Agent for Loud {
    fn name(&self) -> &str {
        "loud"
    }

    async fn run(&self, mut context: AgentContext) -> AgentExit {
        let mut position = 0;
        while let AgentControl::Command(command) = context.control.next().await {
            let AgentCommand::Prompt { text, .. } = command else { continue };
            let outcome = Outcome::Completed;
            let end = AgentEvent::TurnEnded { outcome, error: None, usage: None, cost: None };
            let events = vec![AgentEvent::Message { text: text.to_uppercase() }, end];
            position += 1;
            if context.records.send(AgentRecords { position, events, checkpoint: None }).await.is_err() {
                break;
            }
        }
        AgentExit::Stopped
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: lines PATH, in a directory of your own")?;
    let (gateway, running) = Gateway::start(Limits::default(), entropy()?, Memory::new(), Arc::new(Loud));
    let listener = Listener::bind(path)?;
    println!("listening at {}", listener.path().display());
    tokio::select! {
        served = serve(&listener, gateway.clone(), Options::default()) => served?,
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    gateway.shut_down();
    running.finished().await;
    listener.remove();
    Ok(())
}
