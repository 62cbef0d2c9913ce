//! The built binary, with real processes and real sockets.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod backup;
mod conversation;
mod damage;
mod deletion;
mod handshake;
mod logs;
mod loss;
mod process;
mod server;
mod socket;
mod sse;
mod startup;
mod streams;
mod terminal;
mod terminal_consent;
mod terminal_events;
mod terminal_pipe;
mod verdicts;
