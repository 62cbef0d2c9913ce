//! What a program chooses for this transport.

use std::time::Duration;

use switchboard_core::ids::Principal;

/// The limits of the transport.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long the peer may take to accept the lines being written and the last line.
    pub close_within: Duration,
    /// The most connections at the same time.
    pub connections: usize,
    /// As whom the peers act. All of them have the gateway's own user id.
    pub principal: Principal,
}

impl Default for Options {
    fn default() -> Self {
        Self { close_within: Duration::from_secs(30), connections: 1024, principal: Principal::owner() }
    }
}
