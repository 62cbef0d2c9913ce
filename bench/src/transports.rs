//! The rows of SSE and Unix sockets, which correspond to the rows of the WebSocket.

use crate::{
    rows::{Bars, Throughput},
    wire::Wire,
};

pub(crate) const THROUGHPUT: [(Throughput, Bars); 2] = [
    (
        Throughput {
            name: "SSE, one chat, 100 subscribers",
            wire: Wire::Sse,
            chats: 1,
            subscribers: 100,
            deltas: 20_000,
        },
        [0.35, 0.7],
    ),
    (
        Throughput {
            name: "Unix, one chat, 100 subscribers",
            wire: Wire::Unix,
            chats: 1,
            subscribers: 100,
            deltas: 20_000,
        },
        [0.4, 0.8],
    ),
];

/// The bars of the rows of one transport: values measured earlier, plus about a sixth.
pub(crate) struct Single {
    pub(crate) wire: Wire,
    /// Most resident memory of an idle connection, in KiB. Measured: 21.9 over SSE, 16 of them for buffers of the HTTP
    /// server, and 7.2 over a Unix socket.
    pub(crate) idle_kib: f64,
    /// Longest time to the first delta, as a multiple of the relay's. Over SSE a message is a separate HTTP request.
    pub(crate) first_delta: f64,
}

pub(crate) const SINGLE: [Single; 2] = [
    Single { wire: Wire::Sse, idle_kib: 26.0, first_delta: 3.0 },
    Single { wire: Wire::Unix, idle_kib: 8.5, first_delta: 2.0 },
];
