//! Agent dialects: what an agent's process is started with, what its output means, and what is written to its input.
//!
//! A [`Dialect`] says how a process is started and how a session is handed over to it; its [`Codec`] translates,
//! without I/O, between the process's output and input and Switchboard's events and commands. The rest of the gateway
//! knows these two traits only, and an agent host knows the [`Framing`] only. A new dialect is a folder beside this
//! file and a line of the registry ([`ALL`]).

mod claude;
mod codec;
mod definition;
mod diff;
mod json;
mod presets;
mod registry;
mod sanitize;
mod text;
pub(crate) mod vendors;

pub use self::{
    codec::{CheckpointError, Codec, Decoded, Delivered, Encoded, ProcessExit, TurnEnding},
    definition::{Conversation, Dialect, Framing, ProcessLifetime, ProcessStart},
    presets::{AGENT_PRESETS, AgentPreset, detect},
    registry::{ALL, CLAUDE, TEXT, TEXT_RAW, UnknownDialect, by_name},
};
