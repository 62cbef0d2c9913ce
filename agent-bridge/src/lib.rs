//! Agent CLIs as Switchboard agents: one codec per dialect, and the supervision of their processes.
//!
//! [`ProcessAgent`] runs an agent as a subprocess; [`codec`] is what it says and hears, without I/O;
//! [`demo`] is an agent of our own that speaks the same dialect as Claude Code.

pub mod codec;
pub mod demo;
mod dialect;
mod driver;
mod limits;

pub use dialect::{AGENT_PRESETS, AgentPreset, Dialect, UnknownDialect, detect};
pub use driver::{Life, OrderSource, ProcessAgent, ProcessConfig, RecordSink, sweep_leftovers};
pub use limits::BridgeLimits;
