//! Real Unix sockets.

use std::path::PathBuf;

use async_trait::async_trait;
use switchboard_conformance::{Client, Endpoint, Need, Received, Transport};
use switchboard_core::ids::Principal;
use switchboard_runtime::Gateway;
use switchboard_transport_unix::{Listener, Options, serve};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use crate::Served;

pub(crate) struct Unix;

struct UnixEndpoint {
    directory: TempDir,
    _served: Served,
}

struct UnixClient {
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
}

/// In a directory that the listener makes, closed to others.
fn path(directory: &TempDir) -> PathBuf {
    directory.path().join("private").join("socket")
}

#[async_trait]
impl Transport for Unix {
    fn name(&self) -> &'static str {
        "unix"
    }

    fn cannot(&self, need: Need) -> Option<&'static str> {
        match need {
            Need::Legacy => {
                Some("frames of the older vocabulary exist on WebSocket only, without a subprotocol")
            }
            Need::Principals => Some("every peer of the same user is the owner"),
            Need::Names => Some("a peer has no name of its own, and the one it gets is longer"),
            Need::Clock | Need::Outbox | Need::Ownership | Need::Strict => None,
        }
    }

    async fn serve(&self, gateway: Gateway) -> Box<dyn Endpoint> {
        let directory = tempfile::tempdir().expect("a directory for the socket");
        let listener = Listener::bind(path(&directory)).expect("it can be bound");
        let served = tokio::spawn(async move {
            serve(&listener, gateway, Options::default()).await.expect("connections can be accepted");
        });
        Box::new(UnixEndpoint { directory, _served: Served(served) })
    }
}

#[async_trait]
impl Endpoint for UnixEndpoint {
    async fn open(&self, _: &Principal, _: &str) -> Box<dyn Client> {
        let socket = UnixStream::connect(path(&self.directory)).await.expect("it listens");
        let (reader, writer) = socket.into_split();
        Box::new(UnixClient { lines: BufReader::new(reader).lines(), writer })
    }
}

#[async_trait]
impl Client for UnixClient {
    async fn send(&mut self, frame: &str) {
        self.send_bytes(frame.as_bytes()).await;
    }

    async fn send_bytes(&mut self, frame: &[u8]) {
        // One that is closed does not take it; what it was closed for is what comes next.
        let _ = self.writer.write_all(&[frame, b"\n"].concat()).await;
    }

    async fn next(&mut self) -> Received {
        let Ok(Some(line)) = self.lines.next_line().await else { return Received::Gone };
        let event: serde_json::Value = serde_json::from_str(&line).expect("a line is JSON");
        match event["close"].as_u64().and_then(|code| u16::try_from(code).ok()) {
            Some(code) => Received::Closed { code, frame: Some(line) },
            None => Received::Frame(line),
        }
    }

    async fn close(self: Box<Self>) {}

    async fn abort(self: Box<Self>) {}
}
