//! Agent CLIs as Switchboard agents: one codec per dialect, and the supervision of their processes.
//!
//! [`ProcessAgent`] runs an agent as a subprocess; [`codec`] is what it says and hears, without I/O;
//! [`demo`] is an agent of our own that speaks the same dialect as Claude Code.
#![warn(missing_docs)]

pub mod codec;
mod limits;

pub use limits::BridgeLimits;
