//! The limits that a program chooses for this transport.

use std::time::Duration;

/// The limits of the transport. Every duration named `…_within` limits how long the transport waits.
#[derive(Debug, Clone)]
pub struct Options {
    /// The interval between pings to a peer.
    pub ping_every: Duration,
    /// How long to wait for bytes from the peer after a ping.
    pub pong_within: Duration,
    /// How long to wait for the first frame, if the handshake carried no credentials.
    pub authenticate_within: Duration,
    /// How many bytes are read before the peer is authenticated.
    pub unauthenticated_bytes: u64,
    /// How long to wait for the rest of a message after its first fragment.
    pub message_within: Duration,
    /// The most fragments of one message.
    pub fragments: u32,
    /// How long the peer may take to accept the frames being written and the close frame.
    pub close_within: Duration,
    /// How long to wait for the header of the request. Used by [`serve`](crate::serve) only.
    pub header_within: Duration,
    /// The most connections at the same time. Used by [`serve`](crate::serve) only.
    pub connections: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ping_every: Duration::from_secs(20),
            pong_within: Duration::from_secs(20),
            authenticate_within: Duration::from_secs(5),
            unauthenticated_bytes: 4 * 1024,
            message_within: Duration::from_secs(30),
            fragments: 1024,
            close_within: Duration::from_secs(30),
            header_within: Duration::from_secs(10),
            connections: 10_240,
        }
    }
}
