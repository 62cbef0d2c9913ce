//! Agent CLIs as Switchboard agents: one codec per dialect, and the supervision of their processes.
//!
//! [`HostAgent`] runs an agent below a [`host`] that outlives the gateway, [`ProcessAgent`] as a subprocess of the
//! gateway itself; [`codec`] is what it says and hears, without I/O;
//! [`demo`] is an agent of our own that speaks the same dialect as Claude Code.

pub mod codec;
#[cfg(test)]
#[allow(unreachable_pub, reason = "shared with other crates' tests")]
#[path = "../../core/tests/support/damage.rs"]
mod damage;
pub mod demo;
mod dialect;
mod driver;
pub mod host;
mod hosted;
mod limits;

pub use dialect::{AGENT_PRESETS, AgentPreset, Dialect, UnknownDialect, detect};
pub use driver::{Life, OrderSource, ProcessAgent, ProcessConfig, RecordSink, sweep_leftovers};
pub use hosted::{HostAgent, HostConfig, HostState, HostedLife, end_orphans, list_hosts};
pub use limits::{BridgeLimits, HostLimits};
