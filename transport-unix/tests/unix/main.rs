//! The transport over real sockets.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]
#![allow(clippy::print_stdout, reason = "a seed, and what cannot be tested here, are said")]

mod bind;
mod lines;
mod peers;
mod random;
mod server;
mod slow;
