//! A transport's side of a connection: an inbox for frames from the peer, an outbox for frames to the peer.

use std::sync::Arc;

use switchboard_core::{
    Input, Limits,
    ids::ConnId,
    wire::{ClientEnvelope, DecodeError, decode, decode_binary},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::{
    engine::FromPeer,
    outbox::{Outbox, OutboxReader},
};

/// An authenticated connection. It is closed for the gateway once both halves are dropped.
#[derive(Debug)]
pub struct Connection {
    /// For the task that reads from the peer.
    pub inbox: Inbox,
    /// For the task that writes to the peer.
    pub outbox: OutboxReader,
}

/// Where a transport puts the frames that its peer sends.
#[derive(Debug)]
pub struct Inbox {
    conn: ConnId,
    /// Whether the connection accepts frames of the older vocabulary.
    legacy: bool,
    limits: Arc<Limits>,
    /// Permits for frames that wait for the engine, shared by all connections.
    permits: Arc<Semaphore>,
    outbox: Arc<Outbox>,
    presence: Presence,
}

/// The gateway has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the gateway has stopped")
    }
}

impl std::error::Error for Stopped {}

/// Reports the end of a connection when it is dropped, however the connection's tasks end.
#[derive(Debug)]
pub(crate) struct Presence {
    pub(crate) conn: ConnId,
    pub(crate) peers: mpsc::UnboundedSender<FromPeer>,
}

impl Drop for Presence {
    fn drop(&mut self) {
        // A gateway that has gone needs no report.
        let _ = self.peers.send(FromPeer::Gone(self.conn));
    }
}

impl Inbox {
    pub(crate) fn new(
        presence: Presence,
        legacy: bool,
        limits: Arc<Limits>,
        permits: Arc<Semaphore>,
        outbox: Arc<Outbox>,
    ) -> Self {
        Self { conn: presence.conn, legacy, limits, permits, outbox, presence }
    }

    /// The connection's id, for logs.
    pub fn id(&self) -> ConnId {
        self.conn
    }

    /// The limits that the gateway enforces on frames.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Decodes a text frame and passes it to the gateway. Waits while the gateway is busy, and while this peer has
    /// too many unread bytes in its outbox. The gateway answers a frame that cannot be decoded; that is no error
    /// here.
    ///
    /// # Errors
    /// [`Stopped`] if the gateway has stopped.
    pub async fn text(&self, text: &str) -> Result<(), Stopped> {
        let permit = self.permit().await?;
        self.pass_decoded(decode(text, &self.limits, self.legacy), permit)
    }

    /// Decodes a binary frame, whose bytes must be UTF-8, like a text frame ([`text`](Self::text)).
    ///
    /// # Errors
    /// [`Stopped`] if the gateway has stopped.
    pub async fn binary(&self, bytes: &[u8]) -> Result<(), Stopped> {
        let permit = self.permit().await?;
        self.pass_decoded(decode_binary(bytes, &self.limits, self.legacy), permit)
    }

    /// Whether the gateway is closing this connection. It ignores frames that arrive after the close began, so a
    /// transport that acknowledges each frame must not acknowledge those.
    pub fn is_closing(&self) -> bool {
        self.outbox.is_closing()
    }

    /// Passes a frame that the transport has decoded to the gateway. Waits like [`text`](Self::text).
    ///
    /// # Errors
    /// [`Stopped`] if the gateway has stopped.
    pub async fn envelope(&self, envelope: ClientEnvelope) -> Result<(), Stopped> {
        let permit = self.permit().await?;
        self.pass(Input::Envelope { conn: self.conn, envelope }, permit)
    }

    /// Reports a frame that the transport itself could not decode, so that the gateway answers with this error. Waits
    /// like [`text`](Self::text).
    ///
    /// # Errors
    /// [`Stopped`] if the gateway has stopped.
    pub async fn malformed(&self, error: DecodeError) -> Result<(), Stopped> {
        let permit = self.permit().await?;
        self.pass(Input::Malformed { conn: self.conn, error }, permit)
    }

    /// Waits until this peer has read enough, and until the engine has room for a frame. A frame is decoded only then, so
    /// that a connection that waits holds no decoded frame.
    async fn permit(&self) -> Result<OwnedSemaphorePermit, Stopped> {
        self.outbox.wait_for_room().await;
        Arc::clone(&self.permits).acquire_owned().await.map_err(|_| Stopped)
    }

    fn pass_decoded(
        &self,
        decoded: Result<Option<ClientEnvelope>, DecodeError>,
        permit: OwnedSemaphorePermit,
    ) -> Result<(), Stopped> {
        match decoded {
            Ok(Some(envelope)) => self.pass(Input::Envelope { conn: self.conn, envelope }, permit),
            Ok(None) => Ok(()),
            Err(error) => self.pass(Input::Malformed { conn: self.conn, error }, permit),
        }
    }

    fn pass(&self, input: Input, permit: OwnedSemaphorePermit) -> Result<(), Stopped> {
        self.presence.peers.send(FromPeer::Frame(input, permit)).map_err(|_| Stopped)
    }
}
