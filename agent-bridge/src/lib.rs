//! Agent CLIs as Switchboard agents: one codec per dialect, and the supervision of their processes.
//!
//! [`HostAgent`] runs each agent process under a [`host`]: a small process that outlives the gateway. [`ProcessAgent`]
//! runs the agent process as a subprocess of the gateway itself. A [`dialect`] says how an agent is started, and
//! translates, without I/O, between its output and input and Switchboard's events and commands. [`demo`] is an agent
//! for trials and tests; its dialect is Claude Code's.
//!
//! A gateway whose agent is any program that reads a prompt and prints an answer:
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use switchboard_agent_bridge::{BridgeLimits, ProcessAgent, ProcessConfig, dialect};
//! use switchboard_core::Limits;
//! use switchboard_runtime::{Gateway, Memory, entropy};
//!
//! let mut seed = [0; 16];
//! seed.copy_from_slice(&entropy()?[..16]);
//! let agent = ProcessAgent::new(ProcessConfig {
//!     name: "tr".into(),
//!     command: vec!["tr".into(), "a-z".into(), "A-Z".into()],
//!     dialect: dialect::TEXT,
//!     workspace: std::env::current_dir()?,
//!     env: Vec::new(),
//!     sandbox: None,
//!     mark_prefix: "my-program".into(),
//!     seed,
//!     limits: BridgeLimits::default(),
//! });
//! # let runtime = tokio::runtime::Runtime::new()?;
//! # let _entered = runtime.enter();
//! let (gateway, running) = Gateway::start(Limits::default(), entropy()?, Memory::new(), Arc::new(agent));
//! # Ok(())
//! # }
//! ```

mod client;
mod config;
pub mod demo;
pub mod dialect;
mod exec;
pub mod host;
mod limits;
mod memory;
mod session;
mod starter;
mod unhosted;

pub use client::{HostAgent, HostConfig, HostState, HostedInstance, end_orphans, kill_all_hosts, list_hosts};
pub use config::ProcessConfig;
pub use dialect::{AGENT_PRESETS, AgentPreset, Dialect, detect};
pub use exec::{
    ports::{ControlSource, RecordSink},
    sandbox::{Sandbox, SandboxAllow, SandboxFailure, SandboxLevel, SandboxOptions, locate_program},
    sweep::sweep_leftovers,
};
pub use limits::{BridgeLimits, HostLimits};
pub use memory::keep_memory_private;
pub use unhosted::{ProcessAgent, UnhostedInstance};
