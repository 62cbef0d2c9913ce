//! A suite of conversations that every transport must carry in the same way. `conformance/README.md` says how to run
//! the suite over a transport of your own.
//!
//! A transport implements [`Transport`], [`Endpoint`] and [`Client`]; [`traces::check`] then runs the trace files over it. They
//! are the same files that `core` runs against a bare hub. A [`Transcript`] contains the events that a client received,
//! in a form that can be compared between transports. [`trace`] describes the trace language.
//!
//! Only `core` writes trace files: a trace states every output of the bare hub, and a transport has to agree.
//!
//! # What is compared
//!
//! The suite runs a real gateway with the real clock, but scripts the journal and the agents. It gives one input, waits
//! for all outputs that the trace states for the input, and continues when the gateway is at rest. For each client, the
//! suite compares all frames and the close, byte for byte and in order, after it has replaced generated ids by names
//! and hidden times. For each agent, it compares all received commands, in order. It does not compare the order
//! *between* two readers, which sockets do not preserve. A close may come without the frames stated for the same
//! input, because a close drops frames that are still queued. At the end, no output may be left over.
//!
//! A [`Need`] is something that a transport or a real clock may not be able to do. `traces/cannot.txt` lists, per
//! transport, the traces that cannot run and their needs; a line that is missing or no longer true fails the suite.

#[cfg(feature = "gateway")]
pub mod accounts;
#[cfg(feature = "gateway")]
mod agent;
mod failure;
#[cfg(feature = "gateway")]
mod gateway;
pub mod journal;
pub mod journal_model;
#[cfg(feature = "gateway")]
mod play;
#[cfg(feature = "gateway")]
pub mod random;
#[cfg(feature = "gateway")]
mod scripted_journal;
#[cfg(feature = "gateway")]
pub mod sse_client;
pub mod trace;
#[cfg(feature = "gateway")]
pub mod traces;
#[cfg(feature = "gateway")]
mod transcript;
pub mod translate;
#[cfg(feature = "gateway")]
mod transport;

#[cfg(feature = "gateway")]
pub use agent::{ReceivedCommand, TestAgents};
pub use failure::Failure;
#[cfg(feature = "gateway")]
pub use gateway::{TestGateway, generous_limits};
#[cfg(feature = "gateway")]
pub use transcript::Transcript;
#[cfg(feature = "gateway")]
pub use transport::{Client, Endpoint, Need, Received, Transport, WAIT};
