//! What a transport gives the suite.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use switchboard_core::ids::Principal;
use switchboard_runtime::Gateway;

/// How long the suite waits for anything before it fails. Nothing that works takes a noticeable part of it.
pub const WAIT: Duration = Duration::from_secs(20);

/// A transport under test.
///
/// Its methods may panic when the transport itself fails: the panic is the failure of the test.
#[async_trait]
pub trait Lab: Send + Sync {
    /// Its name in reports and in `traces/cannot.txt`.
    fn name(&self) -> &'static str;

    /// Why this transport cannot do something; `None`: it can. What no real gateway can do is not asked.
    fn cannot(&self, need: Need) -> Option<&'static str>;

    /// Serves a gateway at a new place, until the site is dropped.
    async fn serve(&self, gateway: Gateway) -> Box<dyn Site>;
}

/// Where a gateway is served.
#[async_trait]
pub trait Site: Send + Sync {
    /// Opens a connection as this principal, under this `client_id` where the transport carries one.
    async fn open(&self, principal: &Principal, client_id: &str) -> Box<dyn Client>;
}

/// The client's end of a connection.
#[async_trait]
pub trait Client: Send {
    /// Sends one frame of text.
    async fn send(&mut self, frame: &str);

    /// Sends one frame of any bytes: a binary frame, a line.
    async fn send_bytes(&mut self, frame: &[u8]);

    /// What comes next. Cancel safe.
    async fn next(&mut self) -> Received;

    /// Ends the connection as a well-behaved client does, and returns when the other side was told.
    async fn close(self: Box<Self>);

    /// Ends it without a word.
    async fn abort(self: Box<Self>);
}

/// What a client receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A frame.
    Frame(String),
    /// The gateway closed the connection. Nothing follows.
    Closed {
        /// The close code.
        code: u16,
        /// The `error` frame that says the same, on transports that send one in place of a code.
        frame: Option<String>,
    },
    /// The connection ended without a reason. Nothing follows.
    Gone,
}

/// What a trace needs of whoever runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Need {
    /// Time that passes when the trace says so.
    Clock,
    /// Outboxes that are full and drain when the trace says so.
    Outbox,
    /// Chats named for recovery at another time than the gateway's start.
    Recovery,
    /// Frames of the older vocabulary.
    Legacy,
    /// Clients whose text is never taken for a frame of the older vocabulary.
    Strict,
    /// Clients of several principals.
    Principals,
    /// Clients that are called what they call themselves, where their names count: in pages cut to bytes.
    Names,
}

impl Need {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Clock,
        Self::Outbox,
        Self::Recovery,
        Self::Legacy,
        Self::Strict,
        Self::Principals,
        Self::Names,
    ];

    /// The word for it in `traces/cannot.txt`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::Outbox => "outbox",
            Self::Recovery => "recovery",
            Self::Legacy => "legacy",
            Self::Strict => "strict",
            Self::Principals => "principals",
            Self::Names => "names",
        }
    }

    /// Why no lab around a real gateway can do it; `None`: it depends on the transport.
    pub fn beyond_a_gateway(self) -> Option<&'static str> {
        match self {
            Self::Clock => Some("a gateway reads the real clock"),
            Self::Outbox => Some("how much a peer has taken is up to its socket"),
            Self::Recovery => Some("a gateway asks at its start only what to recover"),
            Self::Legacy | Self::Strict | Self::Principals | Self::Names => None,
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
