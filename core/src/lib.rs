//! The Switchboard protocol as a state machine without I/O.
//!
//! [`Hub`] is the machine: connections, chats, turns and their log, with everything that is kept asked of a
//! journal and everything that is done said as an [`Output`]. [`wire`] is the vocabulary, [`journal`] and
//! [`agent`] are the core's side of the two ports. Nothing in here reads a clock, opens a socket, makes a
//! random number or waits; a shell such as `switchboard-runtime` does.
//!
//! The complete example is at [`Hub`].
//!
//! Features: `schema` derives JSON Schema and TypeScript types for the wire; it needs std.
#![cfg_attr(not(feature = "schema"), no_std)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod agent;
mod hub;
pub mod ids;
pub mod journal;
mod limits;
mod time;
pub mod wire;

pub use hub::{ChatRef, Close, Counts, Deadline, Hub, Input, Offered, Output, Peer, Recipients};
pub use limits::Limits;
pub use time::Moment;
