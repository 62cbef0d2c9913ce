//! The transport with real sockets: what is sent is written byte by byte, what comes back is read byte by byte.
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
