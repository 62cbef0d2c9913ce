//! The Switchboard protocol as a state machine without I/O.
#![cfg_attr(not(feature = "schema"), no_std)]

extern crate alloc;

pub mod agent;
pub mod ids;
mod limits;
pub mod wire;

pub use limits::Limits;
