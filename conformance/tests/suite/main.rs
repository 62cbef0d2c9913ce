//! The suite over memory, WebSocket, SSE and Unix sockets.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]
#![allow(clippy::print_stdout, reason = "what does not run is said")]

mod memory;
mod same;
mod sse;
mod traces;
mod unix;
mod websocket;

/// Ends a task when it is dropped.
struct Served(tokio::task::JoinHandle<()>);

impl Drop for Served {
    fn drop(&mut self) {
        self.0.abort();
    }
}
