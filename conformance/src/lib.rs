//! A suite of conversations that every transport must carry in the same way. `conformance/README.md` says how to run
//! the suite over a transport of your own.
//!
//! A transport implements [`Lab`], [`Site`] and [`Client`]; [`traces::check`] then runs the trace files over it. They
//! are the same files that `core` runs against a bare hub. A [`Transcript`] contains the events that a client received,
//! in a form that can be compared between transports. `core/tests/support/trace.rs` describes the trace language.
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

#[allow(dead_code, unreachable_pub, reason = "shared with core's tests, which use more of it")]
#[path = "../../core/tests/support/journal.rs"]
mod faulty;
#[allow(dead_code, unreachable_pub, reason = "shared with core's tests, which use more of it")]
#[path = "../../core/tests/support/meaning.rs"]
mod meaning;
#[allow(dead_code, unreachable_pub, reason = "shared with core's tests, which use more of it")]
#[path = "../../core/tests/support/trace.rs"]
mod trace;

mod agent;
mod journal;
mod lab;
mod play;
pub mod random;
pub mod traces;
mod transcript;
mod world;

pub use agent::{ReceivedCommand, Script};
pub use lab::{Client, Lab, Need, Received, Site, WAIT};
pub use transcript::Transcript;
pub use world::World;
