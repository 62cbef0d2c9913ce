//! One suite of conversations that every transport must carry alike. `conformance/README.md` says how to run it over a
//! transport of yours.
//!
//! A transport implements [`Lab`], [`Site`] and [`Client`]; [`traces::check`] then runs the trace files over it, the
//! same ones that `core` runs against a bare hub, and [`Transcript`] says what a client saw in a form that can be
//! compared between transports. `core/tests/support/trace.rs` describes the language of the traces.
//!
//! Only `core` writes trace files: its run states every output, and a transport has to agree.
//!
//! # What is compared
//!
//! Behind a real gateway there is a journal and an agent whose every word the suite orders, but the clock is the
//! real one. So the suite gives one input, waits for all that the trace states for it, and goes on when the gateway
//! is at rest. Compared is what each reader gets: for one client all frames and its close, byte for byte and in
//! order, once made-up ids have names and times are hidden; for one agent all that it is told, in order. Not
//! compared is the order *between* two readers, which sockets do not preserve; and a close may come without the
//! frames that are stated for the same input, because it drops what still waits for its reader. At the end nothing
//! may be left.
//!
//! What a transport or a real clock cannot do is a [`Need`]. `traces/cannot.txt` lists every trace that does not
//! run somewhere with what it needs; a line that is missing or no longer true fails the suite.

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
