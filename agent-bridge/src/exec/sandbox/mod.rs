//! The sandbox of an agent's process, made with bubblewrap (`bwrap`).
//!
//! It hides everything by which an agent could act as the gateway's user: the gateway's own files and sockets, and
//! sockets of programs that can be made to act for that user. Files that run at the user's next login are read-only.
//! The agent has its own PID namespace, so that all its processes end with it. It shares the machine's network.
//!
//! [`Sandbox::new`] reads the environment and collects the names to hide, once. At each start of an agent, the real
//! paths behind these names are looked up again.

mod command;
mod configured;
mod names;
mod options;
mod plan;

pub(crate) use command::locate;
pub use command::locate as locate_program;
pub use configured::Sandbox;
pub use options::{SandboxAllow, SandboxFailure, SandboxLevel, SandboxOptions};
