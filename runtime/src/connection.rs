//! A transport's side of a connection: frames in, frames out.

use std::{future::Future, sync::Arc};

use switchboard_core::{
    Input, Limits,
    ids::ConnId,
    wire::{ClientEnvelope, DecodeError, decode, decode_binary},
};
use tokio::sync::{Semaphore, mpsc};

use crate::{
    engine::FromPeer,
    outbox::{Outbox, OutboxReader},
};

/// An authenticated connection. Dropping both halves tells the gateway that it is gone.
#[derive(Debug)]
pub struct Connection {
    /// For the task that reads from the peer.
    pub inbox: Inbox,
    /// For the task that writes to it.
    pub outbox: OutboxReader,
}

/// Where a transport puts what its peer sends.
#[derive(Debug)]
pub struct Inbox {
    conn: ConnId,
    /// Whether frames of the older vocabulary are understood.
    legacy: bool,
    limits: Arc<Limits>,
    /// Room for frames that wait for the gateway.
    places: Arc<Semaphore>,
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

/// Reports the end of a connection, however its tasks end.
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
        places: Arc<Semaphore>,
        outbox: Arc<Outbox>,
    ) -> Self {
        Self { conn: presence.conn, legacy, limits, places, outbox, presence }
    }

    /// The connection's id, for logs.
    pub fn id(&self) -> ConnId {
        self.conn
    }

    /// The limits that frames must keep to.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Takes a text frame. Waits while the gateway is busy, and while this peer has not read its answers.
    pub async fn text(&self, text: &str) -> Result<(), Stopped> {
        self.decoded(decode(text, &self.limits, self.legacy)).await
    }

    /// Takes a binary frame: UTF-8 is read as text.
    pub async fn binary(&self, bytes: &[u8]) -> Result<(), Stopped> {
        self.decoded(decode_binary(bytes, &self.limits, self.legacy)).await
    }

    /// Whether the gateway closes this connection. It passes over what comes from then on, so that a transport which
    /// answers each frame must not say that one was taken.
    pub fn is_closing(&self) -> bool {
        self.outbox.is_closing()
    }

    /// Takes a frame that was decoded elsewhere.
    pub async fn envelope(&self, envelope: ClientEnvelope) -> Result<(), Stopped> {
        self.send(Input::Envelope { conn: self.conn, envelope }).await
    }

    /// Reports a frame that the transport itself could not make sense of.
    pub async fn malformed(&self, error: DecodeError) -> Result<(), Stopped> {
        self.send(Input::Malformed { conn: self.conn, error }).await
    }

    fn decoded(
        &self,
        decoded: Result<Option<ClientEnvelope>, DecodeError>,
    ) -> impl Future<Output = Result<(), Stopped>> {
        let input = match decoded {
            Ok(Some(envelope)) => Some(Input::Envelope { conn: self.conn, envelope }),
            Ok(None) => None,
            Err(error) => Some(Input::Malformed { conn: self.conn, error }),
        };
        async move {
            match input {
                Some(input) => self.send(input).await,
                None => Ok(()),
            }
        }
    }

    async fn send(&self, input: Input) -> Result<(), Stopped> {
        self.outbox.wait_for_room().await;
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| Stopped)?;
        self.presence.peers.send(FromPeer::Frame(input, place)).map_err(|_| Stopped)
    }
}
