//! An application that has a gateway in it: its own login, its own page, and the chats below `/chat`.
#![allow(clippy::print_stdout, reason = "it says where it listens")]

mod login;

use std::sync::Arc;

use async_trait::async_trait;
use axum::{
    Router,
    middleware::from_fn_with_state,
    response::Html,
    routing::{get, post},
};
use switchboard_core::{
    Limits,
    agent::{AgentCommand, AgentEvent, AgentExit, AgentRecords},
    wire::Outcome,
};
use switchboard_runtime::{Agent, AgentContext, AgentControl, Gateway, Memory, entropy};
use switchboard_transport_sse as sse;
use switchboard_transport_ws as ws;
use tokio::net::TcpListener;

use crate::login::Sessions;

/// Says how long a message is.
struct Letters;

#[async_trait]
impl Agent for Letters {
    fn name(&self) -> &str {
        "letters"
    }

    async fn run(&self, mut context: AgentContext) -> AgentExit {
        let mut position = 0;
        while let AgentControl::Command(command) = context.control.next().await {
            let AgentCommand::Prompt { text, .. } = command else { continue };
            let text = format!("{} letters", text.chars().count());
            let outcome = Outcome::Completed;
            let end = AgentEvent::TurnEnded { outcome, error: None, usage: None, cost: None };
            let events = vec![AgentEvent::Message { text }, end];
            position += 1;
            if context.records.send(AgentRecords { position, events, checkpoint: None }).await.is_err() {
                break;
            }
        }
        AgentExit::Stopped
    }
}

/// The application as it was, and the gateway below `/chat`, behind the same login.
fn application(gateway: &Gateway, sessions: &Arc<Sessions>) -> Router {
    let chat = Router::new()
        .nest("/ws", ws::router(gateway.clone(), ws::Options::default()))
        // `GET /chat/sse` and `POST /chat/messages`, where no WebSocket gets through.
        .merge(sse::router(gateway.clone(), sse::Options::default()))
        .layer(from_fn_with_state(Arc::clone(sessions), login::admit));
    Router::new()
        .route("/", get(|| async { Html(include_str!("page.html")) }))
        .route("/login", post(login::login))
        .with_state(Arc::clone(sessions))
        .nest("/chat", chat)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (gateway, _running) = Gateway::start(Limits::default(), entropy()?, Memory::new(), Arc::new(Letters));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let host = listener.local_addr()?.to_string();
    println!("http://{host}/ (alice, wonderland)");
    let sessions = Arc::new(Sessions::new(host));
    // In production: a server with a limit on headers and their time, which `axum::serve` does not have.
    axum::serve(listener, application(&gateway, &sessions)).await?;
    Ok(())
}
