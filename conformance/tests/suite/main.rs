//! The suite over memory, WebSocket and Unix sockets.

mod memory;
mod same;
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
