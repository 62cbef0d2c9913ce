//! A gateway in an axum application that has an authentication of its own.
//!
//! The application's layer says who is who; the gateway never sees a password. With `BASE` the address that is printed:
//!
//! ```sh
//! curl -N -u alice:wonderland $BASE/sse
//! curl -u alice:wonderland -H "Switchboard-Stream: $STREAM" --json '{"type":"new_chat"}' $BASE/messages
//! ```
#![allow(clippy::print_stdout, reason = "it says where it listens")]

use std::sync::Arc;

use async_trait::async_trait;
use axum::{
    Router,
    extract::Request,
    http::{StatusCode, header},
    middleware::{Next, from_fn},
    response::Response,
    routing::get,
};
use switchboard_core::{
    Limits,
    agent::{AgentCommand, AgentEvent, AgentExit, AgentRecords},
    ids::Principal,
    wire::Outcome,
};
use switchboard_runtime::{Admission, Agent, Gateway, Memory, Order, Seat, entropy};
use switchboard_transport_sse::{Options, router};
use tokio::net::TcpListener;

/// Says how long a message is.
struct Counter;

#[async_trait]
impl Agent for Counter {
    fn name(&self) -> &str {
        "counter"
    }

    async fn run(&self, mut seat: Seat) -> AgentExit {
        let mut position = 0;
        while let Order::Command(command) = seat.orders.next().await {
            let AgentCommand::Prompt { text, .. } = command else { continue };
            let text = format!("{} letters", text.chars().count());
            let outcome = Outcome::Completed;
            let end = AgentEvent::TurnEnded { outcome, error: None, usage: None, cost: None };
            let events = vec![AgentEvent::Message { text }, end];
            position += 1;
            if seat.records.send(AgentRecords { position, events, checkpoint: None }).await.is_err() {
                break;
            }
        }
        AgentExit::Stopped
    }
}

/// The application's own authentication: whoever it knows becomes a principal of the gateway, with chats of
/// their own. It sits in front of everything, and checks where a request comes from as well.
async fn authenticate(mut request: Request, next: Next) -> Result<Response, StatusCode> {
    let headers = request.headers();
    if headers.contains_key(header::ORIGIN) {
        return Err(StatusCode::FORBIDDEN);
    }
    let credentials = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let user = match credentials {
        // Stands for a session store, an identity provider, whatever the application has.
        Some("Basic YWxpY2U6d29uZGVybGFuZA==") => "alice",
        Some("Basic Ym9iOmJ1aWxkZXI=") => "bob",
        Some(_) | None => return Err(StatusCode::UNAUTHORIZED),
    };
    let principal = Principal::parse(user).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    request.extensions_mut().insert(Admission::Verified(principal));
    Ok(next.run(request).await)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (gateway, _running) = Gateway::start(Limits::default(), entropy()?, Memory::new(), Arc::new(Counter));
    let app = Router::new()
        .route("/", get(|| async { "the application" }))
        .nest("/chat", router(gateway, Options::default()))
        .layer(from_fn(authenticate));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("BASE=http://{}/chat", listener.local_addr()?);
    // In production: a server with a header timeout, which `axum::serve` does not have.
    axum::serve(listener, app).await?;
    Ok(())
}
