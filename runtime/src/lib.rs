//! tokio around `switchboard-core`: the loop that owns the hub, outboxes, clock, entropy, the journal
//! and the agents.
//!
//! [`Gateway::start`] runs a gateway; a transport verifies its peer and calls [`Gateway::connect`], and from
//! then on carries frames between its socket and a [`Connection`] and decides nothing. [`Agent`] is what
//! answers, [`OpenJournal`] what keeps. The complete example is at [`Gateway`].

mod admission;
mod agent;
mod connection;
mod engine;
mod flight;
mod gateway;
mod journal;
mod outbox;

pub use admission::{Admission, Verifier};
pub use agent::{Agent, GatewayGone, Order, Orders, Records, Resume, Seat};
pub use connection::{Connection, Inbox, Stopped};
pub use flight::{Framing, InFlight};
pub use gateway::{Gateway, Running, entropy};
pub use journal::{Answers, Journal, Memory, OpenJournal, OpenMemory, Request};
#[cfg(feature = "sqlite")]
pub use journal::{BackupReport, OpenError, OpenErrorReason, OpenReport, OpenSqlite, Sqlite, SqliteOptions};
pub use outbox::{Next, OutboxReader, Progress};
