//! The Switchboard protocol as a state machine without I/O.
//!
//! [`Hub`] is the state machine: connections, chats, turns and their log. Each side effect, such as an append to the
//! journal, is an [`Output`] for the caller. [`wire`] has the frames of the protocol; [`journal`] and [`agent`] are the
//! core's interfaces to a journal and to agents. Nothing in this crate reads a clock, opens a socket, asks the system
//! for randomness or waits; a shell such as `switchboard-runtime` does.
//!
//! A client's message, through the hub and a journal in memory, to an agent that repeats it:
//!
//! ```
//! use std::collections::VecDeque;
//! use switchboard_core::{
//!     Hub, Input, Limits, Moment, Output, Peer,
//!     agent::{AgentCommand, AgentEvent, AgentRecords},
//!     ids::{ChatKey, ConnId, Principal},
//!     journal::{Grant, MemoryJournal},
//!     wire::{ChatKind, FrameKind, Outcome, decode},
//! };
//!
//! let limits = Limits::default();
//! let now = Moment { ticks_ms: 0, boot_ms: 0, unix_ms: 1_790_000_000_000 };
//! let mut hub = Hub::new(limits.clone(), [7; 32], now); // in earnest, the seed is the system's entropy
//! let mut journal = MemoryJournal::default();
//! let mut chat: Option<ChatKey> = None;
//! let mut received = Vec::new();
//!
//! let message = r#"{"type":"message","chat_id":"c","content":"hello","turn_id":"t"}"#;
//! let message = decode(message, &limits, false).unwrap().unwrap();
//! let peer = Peer { principal: Principal::owner(), client_id: None };
//! let mut inputs = VecDeque::from([
//!     Input::Opened { conn: ConnId(1), peer },
//!     Input::Envelope { conn: ConnId(1), envelope: message },
//! ]);
//! while let Some(input) = inputs.pop_front() {
//!     hub.handle(now, input);
//!     while let Some(output) = hub.poll_output() {
//!         match output {
//!             Output::Deliver { frame, .. } => received.push(frame),
//!             Output::Offer { events, .. } => received.extend(events.into_iter().map(|event| event.frame)),
//!             Output::Claim { chat } => inputs.push_back(Input::Owned { chat, grant: Grant::default() }),
//!             Output::Append(append) => inputs.push_back(Input::Journal(journal.append(append))),
//!             Output::Ask(ask) => inputs.push_back(Input::Journal(journal.ask(ask))),
//!             Output::StartAgent { chat: key, .. } => chat = Some(key),
//!             Output::Command { instance, command: AgentCommand::Prompt { text, .. } } => {
//!                 let outcome = Outcome::Completed;
//!                 let end = AgentEvent::TurnEnded { outcome, error: None, usage: None, cost: None };
//!                 let events = vec![AgentEvent::Message { text }, end];
//!                 let records = AgentRecords { position: 1, events, checkpoint: None };
//!                 inputs.push_back(Input::AgentRecords { chat: chat.clone().unwrap(), instance, records });
//!             }
//!             _ => {} // `examples/bare-core` carries out all of them
//!         }
//!     }
//! }
//! let kinds: Vec<FrameKind> = received.iter().map(|frame| frame.kind()).collect();
//! assert!(kinds.contains(&FrameKind::Chat(ChatKind::Message)));
//! assert!(kinds.contains(&FrameKind::Chat(ChatKind::TurnEnd)));
//! ```
//!
//! Features: `schema` derives JSON Schema and TypeScript types for the wire; it needs std.
#![cfg_attr(not(feature = "schema"), no_std)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod accounts;
pub mod agent;
mod hub;
pub mod ids;
pub mod journal;
mod limits;
mod time;
pub mod wire;

pub use hub::{
    ChatRef, Close, Counts, Deadline, DeadlineReason, Hub, Input, Offered, Output, Peer, Recipients,
};
pub use limits::Limits;
pub use time::Moment;
