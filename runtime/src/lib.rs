//! tokio around `switchboard-core`: the task that owns the hub, and the outboxes, clock, entropy, journal and agents
//! that the hub needs.
//!
//! [`Gateway::start`] starts a gateway. A transport verifies its peer and calls [`Gateway::connect`]; from then on it
//! carries frames between its socket and a [`Connection`] and decides nothing. Answers come from an [`Agent`], and an
//! [`OpenJournal`] stores the events.
//!
//! ```
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! use std::sync::Arc;
//! use switchboard_core::{Limits, Peer, agent::*, ids::Principal, wire::Outcome};
//! use switchboard_runtime::{Agent, Gateway, Memory, AgentControl, AgentContext, entropy};
//!
//! struct Echo;
//!
//! #[async_trait::async_trait]
//! impl Agent for Echo {
//!     fn name(&self) -> &str {
//!         "echo"
//!     }
//!     async fn run(&self, mut context: AgentContext) -> AgentExit {
//!         let mut position = 0;
//!         while let AgentControl::Command(command) = context.control.next().await {
//!             let AgentCommand::Prompt { text, .. } = command else { continue };
//!             let stream: StreamId = format!("s{position}").into();
//!             let events = vec![
//!                 AgentEvent::Text { stream: stream.clone(), text },
//!                 AgentEvent::TextEnd { stream, text: None, void: false, sources: Vec::new() },
//!                 AgentEvent::TurnEnded { outcome: Outcome::Completed, error: None, usage: None, cost: None },
//!             ];
//!             position += 1;
//!             if context.records.send(AgentRecords { position, events, checkpoint: None }).await.is_err() {
//!                 break;
//!             }
//!         }
//!         AgentExit::Stopped
//!     }
//! }
//!
//! let (gateway, running) = Gateway::start(Limits::default(), entropy().unwrap(), Memory::new(), Arc::new(Echo));
//! let peer = Peer { principal: Principal::owner(), client_id: None };
//! let mut connection = gateway.connect(peer, false).unwrap();
//! connection.inbox.text(r#"{"type":"message","chat_id":"c","content":"hello"}"#).await.unwrap();
//! let mut frames = Vec::new();
//! while !frames.iter().any(|f: &switchboard_core::wire::Frame| f.as_str().contains("turn_end")) {
//!     let mut batch = Vec::new();
//!     connection.outbox.next(&mut batch).await;
//!     connection.outbox.written();
//!     frames.append(&mut batch);
//! }
//! drop(connection);
//! gateway.shut_down();
//! running.finished().await;
//! # });
//! ```
//!
//! Features: `sqlite` adds the journal on SQLite, and compiles SQLite. Without it, chats are lost when the process
//! ends.

mod accounts;
mod admission;
mod agent;
mod clock;
mod connection;
mod engine;
mod gateway;
mod journal;
mod lifecycle;
mod outbox;
mod tally;
mod write_batch;

pub use accounts::{Accounts, Unavailable};
pub use admission::{Admission, Verifier};
pub use agent::{Agent, AgentContext, AgentControl, ControlReceiver, GatewayGone, Records, Resume};
pub use clock::boot_ms;
pub use connection::{Connection, Inbox, Stopped};
pub use gateway::{Gateway, Running, entropy};
pub use journal::{Answers, Journal, Memory, OpenJournal, OpenMemory, OwnerChange, Request};
#[cfg(feature = "sqlite")]
pub use journal::{
    BackupReport, CheckReport, DamagedChat, OpenError, OpenErrorReason, OpenReport, OpenSqlite, Salvaged,
    Sqlite, SqliteAccounts, SqliteOptions,
};
pub use outbox::{OutboxReader, Progress, WriterStep};
pub use tally::Tally;
pub use write_batch::{Framing, WriteBatch};
