//! The limits that a program chooses for this transport.

use std::time::Duration;

/// The limits of the transport. Every duration named `…_within` limits how long the transport waits.
#[derive(Debug, Clone)]
pub struct Options {
    /// The interval between comments on a stream.
    pub comment_every: Duration,
    /// How long the peer may take to accept the events being written and the last event.
    pub close_within: Duration,
    /// The bounds of the delay before a client connects again, which the server chooses at random for each stream
    /// (`retry:`).
    pub retry: (Duration, Duration),
    /// The most chats of one stream.
    pub chats: usize,
    /// How long to wait for the body of a POST.
    pub body_within: Duration,
    /// How long to wait for the gateway to accept a POST's frame. The gateway accepts none while the stream's client
    /// does not read.
    pub answer_within: Duration,
    /// The most POSTs of one stream that are unanswered at the same time.
    pub unanswered_posts: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            comment_every: Duration::from_secs(15),
            close_within: Duration::from_secs(30),
            retry: (Duration::from_secs(1), Duration::from_secs(3)),
            chats: 32,
            body_within: Duration::from_secs(10),
            answer_within: Duration::from_secs(30),
            unanswered_posts: 8,
        }
    }
}
