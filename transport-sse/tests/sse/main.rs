//! The transport over real sockets.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]
#![allow(clippy::print_stdout, reason = "a seed is said")]

mod gone;
mod posts;
mod random;
mod server;
mod slow;
mod streams;
