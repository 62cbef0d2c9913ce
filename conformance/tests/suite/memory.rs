//! No transport at all: a client in the gateway's own process.

use std::collections::VecDeque;

use async_trait::async_trait;
use switchboard_conformance::{Client, Endpoint, Need, Received, Transport};
use switchboard_core::{Peer, ids::Principal};
use switchboard_runtime::{Connection, Gateway, WriterStep};

pub(crate) struct Memory;

struct MemoryEndpoint(Gateway);

struct MemoryClient {
    connection: Connection,
    closed: bool,
    received: VecDeque<Received>,
}

#[async_trait]
impl Transport for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn cannot(&self, need: Need) -> Option<&'static str> {
        (need == Need::Strict).then_some("it takes frames of the older vocabulary")
    }

    async fn serve(&self, gateway: Gateway) -> Box<dyn Endpoint> {
        Box::new(MemoryEndpoint(gateway))
    }
}

#[async_trait]
impl Endpoint for MemoryEndpoint {
    async fn open(&self, principal: &Principal, client_id: &str) -> Box<dyn Client> {
        let peer = Peer { principal: principal.clone(), client_id: Some(client_id.to_owned()) };
        let connection = self.0.connect(peer, true).expect("the gateway lives");
        Box::new(MemoryClient { connection, closed: false, received: VecDeque::new() })
    }
}

#[async_trait]
impl Client for MemoryClient {
    async fn send(&mut self, frame: &str) {
        // A gateway that has stopped takes nothing; why it closed is what comes next.
        let _ = self.connection.inbox.text(frame).await;
    }

    async fn send_bytes(&mut self, frame: &[u8]) {
        // A gateway that has stopped takes nothing; why it closed is what comes next.
        let _ = self.connection.inbox.binary(frame).await;
    }

    async fn next(&mut self) -> Received {
        if let Some(received) = self.received.pop_front() {
            return received;
        }
        if self.closed {
            return Received::Gone;
        }
        let mut batch = Vec::new();
        match self.connection.outbox.next(&mut batch).await {
            WriterStep::Close(close) => {
                self.closed = true;
                let frame = close.frame.as_str().to_owned();
                self.received.push_back(Received::Closed { code: close.code.number(), frame: Some(frame) });
            }
            WriterStep::Frames => {
                self.connection.outbox.written();
                self.received.extend(batch.iter().map(|frame| Received::Frame(frame.as_str().to_owned())));
            }
        }
        self.received.pop_front().expect("a batch is not empty")
    }

    async fn close(self: Box<Self>) {}

    async fn abort(self: Box<Self>) {}
}
