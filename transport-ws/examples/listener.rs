//! A gateway on a listener of its own, with an agent in the same process.
//!
//! Connect with any WebSocket client that sends `Authorization: Bearer` and the token that is printed.
#![allow(clippy::print_stdout, reason = "it says where it listens")]

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use axum::http::{StatusCode, header, request::Parts};
use switchboard_core::{
    Limits,
    agent::{AgentCommand, AgentEvent, AgentExit, AgentRecords, StreamId},
    ids::Principal,
    wire::Outcome,
};
use switchboard_runtime::{Admission, Agent, AgentContext, AgentControl, Gateway, Memory, entropy};
use switchboard_transport_ws::{AccessPolicy, Options, serve};
use tokio::net::TcpListener;

/// Says every message again, word by word.
struct Echo;

#[async_trait]
impl Agent for Echo {
    fn name(&self) -> &str {
        "echo"
    }

    async fn run(&self, mut context: AgentContext) -> AgentExit {
        let mut position = 0;
        while let AgentControl::Command(command) = context.control.next().await {
            let AgentCommand::Prompt { text, .. } = command else { continue };
            let stream: StreamId = format!("answer-{position}").into();
            let words = text.split_inclusive(' ');
            let mut events: Vec<AgentEvent> = words
                .map(|word| AgentEvent::Text { stream: stream.clone(), text: word.to_owned() })
                .collect();
            events.push(AgentEvent::TextEnd { stream, text: None, void: false, sources: Vec::new() });
            let outcome = Outcome::Completed;
            events.push(AgentEvent::TurnEnded { outcome, error: None, usage: None, cost: None });
            position += 1;
            if context.records.send(AgentRecords { position, events, checkpoint: None }).await.is_err() {
                break;
            }
        }
        AgentExit::Stopped
    }
}

/// Admits whoever has the token and does not come from a web page.
struct OneToken {
    credentials: String,
    host: String,
}

impl AccessPolicy for OneToken {
    fn admit(&self, head: &Parts, _: SocketAddr) -> Result<Admission, StatusCode> {
        let value = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
        // A web page sends its Origin; one behind a rebound name sends another Host.
        if head.headers.contains_key(header::ORIGIN) || value(header::HOST) != Some(&self.host) {
            return Err(StatusCode::FORBIDDEN);
        }
        // 128 random bits that change with every start; a lasting token wants a comparison in constant time.
        if value(header::AUTHORIZATION) != Some(&self.credentials) {
            return Err(StatusCode::UNAUTHORIZED);
        }
        Ok(Admission::Verified(Principal::owner()))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (gateway, running) = Gateway::start(Limits::default(), entropy()?, Memory::new(), Arc::new(Echo));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let host = listener.local_addr()?.to_string();
    let token: String = entropy()?[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    println!("ws://{host}/ with `Authorization: Bearer {token}`");
    let policy = OneToken { credentials: format!("Bearer {token}"), host };
    let serving = serve(listener, gateway.clone(), Options::default(), Arc::new(policy));
    tokio::select! {
        served = serving => served?,
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    gateway.shut_down();
    running.finished().await;
    Ok(())
}
