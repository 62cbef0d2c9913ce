//! A gateway with scripted agents that is served at a socket in a temporary directory, and a client.

use std::path::{Path, PathBuf};

use serde_json::Value;
use switchboard_conformance::{TestGateway, WAIT, generous_limits};
use switchboard_core::Limits;
use switchboard_transport_unix::{Listener, Options, serve};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    task::JoinHandle,
    time::timeout,
};

pub(crate) struct Server {
    pub(crate) gateway: TestGateway,
    pub(crate) path: PathBuf,
    served: JoinHandle<()>,
    _directory: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.served.abort();
    }
}

impl Server {
    pub(crate) async fn new() -> Self {
        Self::with(generous_limits(), Options::default()).await
    }

    pub(crate) async fn with(limits: Limits, options: Options) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("private").join("socket");
        let listener = Listener::bind(&path).unwrap();
        let gateway = TestGateway::new(limits);
        let handle = gateway.handle().clone();
        let served = tokio::spawn(async move { serve(&listener, handle, options).await.unwrap() });
        tokio::task::yield_now().await;
        Self { gateway, path, served, _directory: directory }
    }
}

pub(crate) struct Raw {
    pub(crate) io: UnixStream,
    received: Vec<u8>,
}

impl Raw {
    pub(crate) async fn connect(path: &Path) -> Self {
        Self { io: UnixStream::connect(path).await.unwrap(), received: Vec::new() }
    }

    /// Connects, and reads `ready`.
    pub(crate) async fn open(path: &Path) -> Self {
        let mut raw = Self::connect(path).await;
        assert_eq!(raw.event().await["event"], "ready");
        raw
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        timeout(WAIT, self.io.write_all(bytes)).await.expect("it is read").unwrap();
    }

    pub(crate) async fn line(&mut self, line: &str) {
        self.write(format!("{line}\n").as_bytes()).await;
    }

    /// Reads the next line; none at the end of the connection, which may not come within a line.
    pub(crate) async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return Some(String::from_utf8(line).unwrap());
            }
            let read = timeout(WAIT, self.io.read_buf(&mut self.received)).await.expect("something comes");
            if !matches!(read, Ok(1..)) {
                assert!(self.received.is_empty(), "{:?}", String::from_utf8_lossy(&self.received));
                return None;
            }
        }
    }

    pub(crate) async fn event(&mut self) -> Value {
        let line = self.next().await.expect("the connection lives");
        serde_json::from_str(&line).unwrap()
    }

    /// Reads to the end of the connection, and returns the close code in the last line.
    pub(crate) async fn closed(&mut self) -> u64 {
        let mut last = Value::Null;
        while let Some(line) = self.next().await {
            last = serde_json::from_str(&line).unwrap();
        }
        assert_eq!(last["event"], "error", "{last}");
        last["close"].as_u64().unwrap()
    }

    /// Checks that the connection still works: the next event is the answer to a ping.
    pub(crate) async fn works(&mut self) {
        self.line(r#"{"type":"ping","nonce":"still here"}"#).await;
        assert_eq!(self.event().await, serde_json::json!({ "event": "pong", "nonce": "still here" }));
    }
}
