//! The rows of the other transports: what the WebSocket's rows ask, of sockets of their kind.

use crate::{rows::Throughput, wire::Wire};

pub(crate) const THROUGHPUT: [Throughput; 2] = [
    Throughput {
        name: "SSE, one chat, 100 subscribers",
        wire: Wire::Sse,
        chats: 1,
        subscribers: 100,
        deltas: 20_000,
        bars: [0.35, 0.7],
    },
    Throughput {
        name: "Unix, one chat, 100 subscribers",
        wire: Wire::Unix,
        chats: 1,
        subscribers: 100,
        deltas: 20_000,
        bars: [0.4, 0.8],
    },
];

/// What was measured where no bar was given before, and a good sixth more.
pub(crate) struct Single {
    pub(crate) wire: Wire,
    /// Resident memory of an idle connection, in KiB: 21.9 over SSE, of which the HTTP server's buffers are 16, and
    /// 7.2 over a Unix socket.
    pub(crate) idle_kib: f64,
    /// The first delta, times the relay. Over SSE the message is an HTTP request of its own.
    pub(crate) first_delta: f64,
}

pub(crate) const SINGLE: [Single; 2] = [
    Single { wire: Wire::Sse, idle_kib: 26.0, first_delta: 3.0 },
    Single { wire: Wire::Unix, idle_kib: 8.5, first_delta: 2.0 },
];
