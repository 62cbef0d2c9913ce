//! The built binary, with real processes and real sockets.

mod conversation;
mod handshake;
mod lab;
mod logs;
mod process;
mod server;
mod startup;
mod terminal;
