//! The transport over real sockets. The tests write and read every byte themselves.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod authentication;
mod endings;
mod handshake;
mod limits;
mod malformed;
mod random;
mod raw;
mod server;
mod slow;
