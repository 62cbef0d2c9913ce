//! The interface between the suite and a transport under test.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use switchboard_core::ids::Principal;
use switchboard_runtime::Gateway;

/// How long the suite waits for any single output before it fails; far longer than a working transport needs.
pub const WAIT: Duration = Duration::from_secs(20);

/// A transport under test.
///
/// The methods may panic when the transport fails: the panic fails the test.
#[async_trait]
pub trait Transport: Send + Sync {
    /// The name of the transport in reports and in `traces/cannot.txt`.
    fn name(&self) -> &'static str;

    /// Why this transport cannot meet `need`; `None` if it can. Not called for needs that no real gateway can meet.
    fn cannot(&self, need: Need) -> Option<&'static str>;

    /// Serves a gateway at a new address, until the returned endpoint is dropped.
    async fn serve(&self, gateway: Gateway) -> Box<dyn Endpoint>;
}

/// An address at which a gateway is served.
#[async_trait]
pub trait Endpoint: Send + Sync {
    /// Opens a connection as `principal`, with `client_id` if the transport can carry it.
    async fn open(&self, principal: &Principal, client_id: &str) -> Box<dyn Client>;
}

/// The client's end of a connection.
#[async_trait]
pub trait Client: Send {
    /// Sends one frame of text.
    async fn send(&mut self, frame: &str);

    /// Sends one frame of arbitrary bytes: a binary frame or a line.
    async fn send_bytes(&mut self, frame: &[u8]);

    /// Receives the next frame or the end of the connection. Cancel safe.
    async fn next(&mut self) -> Received;

    /// Closes the connection as a well-behaved client does, and returns once the close was sent.
    async fn close(self: Box<Self>);

    /// Drops the connection without a close.
    async fn abort(self: Box<Self>);
}

/// A frame, or the end of a connection, as a client receives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A frame.
    Frame(String),
    /// The gateway closed the connection. Nothing follows.
    Closed {
        /// The close code.
        code: u16,
        /// The `error` frame with the same reason, on transports that send one in place of a close code.
        frame: Option<String>,
    },
    /// The connection ended without a close. Nothing follows.
    Gone,
}

/// A capability that a trace needs from the transport or the gateway that runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Need {
    /// A clock that the trace controls.
    Clock,
    /// Outboxes whose filling and draining the trace controls.
    Outbox,
    /// Chats that are granted to the gateway, and to another one, when the trace says so.
    Ownership,
    /// Frames of the older vocabulary.
    Legacy,
    /// Clients whose text is never parsed as a frame of the older vocabulary.
    Strict,
    /// Clients of several principals.
    Principals,
    /// Clients whose `client_id` reaches the gateway unchanged, in traces where its length matters: pages are cut by
    /// bytes.
    Names,
}

impl Need {
    /// All needs.
    pub const ALL: [Self; 7] = [
        Self::Clock,
        Self::Outbox,
        Self::Ownership,
        Self::Legacy,
        Self::Strict,
        Self::Principals,
        Self::Names,
    ];

    /// The word for this need in `traces/cannot.txt`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::Outbox => "outbox",
            Self::Ownership => "ownership",
            Self::Legacy => "legacy",
            Self::Strict => "strict",
            Self::Principals => "principals",
            Self::Names => "names",
        }
    }

    /// Why no transport with a real gateway can meet this need; `None` if it depends on the transport.
    pub fn beyond_a_gateway(self) -> Option<&'static str> {
        match self {
            Self::Clock => Some("a gateway reads the real clock"),
            Self::Outbox => Some("how much a peer has taken is up to its socket"),
            Self::Ownership => Some("a gateway's agents are told no more than that their gateway has gone"),
            Self::Legacy | Self::Strict | Self::Principals | Self::Names => None,
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
