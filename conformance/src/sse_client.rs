//! A client for server-sent events (HTML, section 9.2) over HTTP/1.1 (RFC 9112) that lets a test write every byte and
//! see every block. It panics where the server breaks a rule of the format.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::net::SocketAddr;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::WAIT;

/// An HTTP connection.
#[derive(Debug)]
pub struct RawClient {
    /// The socket.
    pub io: TcpStream,
    /// Bytes that were received and not yet read from the chunked encoding.
    received: Vec<u8>,
    /// The contents of the chunks that are not yet parsed into blocks.
    text: Vec<u8>,
    /// Whether the last chunk was received.
    whole: bool,
}

/// The lines of a stream up to an empty line.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Block {
    /// The event's id.
    pub id: Option<String>,
    /// The event, as JSON.
    pub data: Option<String>,
    /// How long a client is to wait before it reconnects, in milliseconds.
    pub retry: Option<u64>,
    /// The number of comment lines.
    pub comments: usize,
}

impl RawClient {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    /// Connects with a receive buffer of 4 KiB, so that the server soon has to wait for the client.
    pub async fn connect_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 * 1024).unwrap();
        Self::over(socket.connect(address).await.unwrap())
    }

    fn over(io: TcpStream) -> Self {
        Self { io, received: Vec::new(), text: Vec::new(), whole: false }
    }

    /// Sends bytes.
    pub async fn write(&mut self, bytes: &[u8]) {
        timeout(WAIT, self.io.write_all(bytes)).await.expect("it is read").unwrap();
    }

    /// Requests a stream with these header lines, and reads the head of the response.
    pub async fn get(&mut self, target: &str, headers: &[&str]) -> String {
        self.write(request("GET", target, headers, None).as_bytes()).await;
        self.head().await
    }

    /// Reads the head of a response: the status line and the header lines.
    pub async fn head(&mut self) -> String {
        loop {
            if let Some(at) = self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.received.drain(..at + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            assert!(self.more().await, "the connection ended: {:?}", String::from_utf8_lossy(&self.received));
        }
    }

    /// Receives more bytes. Returns `false` at the end of the connection. Cancel safe.
    async fn more(&mut self) -> bool {
        let read = timeout(WAIT, self.io.read_buf(&mut self.received)).await.expect("something comes");
        matches!(read, Ok(1..))
    }

    /// Waits for the end of the connection.
    pub async fn ended(&mut self) {
        while self.more().await {}
    }

    /// Reads the next block; none at the end of the response or the connection. Cancel safe.
    pub async fn next(&mut self) -> Option<Block> {
        loop {
            self.unchunk();
            if let Some(at) = memchr::memmem::find(&self.text, b"\n\n") {
                let block: Vec<u8> = self.text.drain(..at + 2).collect();
                let block = parse(std::str::from_utf8(&block).unwrap());
                let has_event = block.data.as_ref().is_some_and(|data| !data.is_empty());
                assert!(has_event, "some libraries make an empty event of {block:?}");
                return Some(block);
            }
            if self.whole || !self.more().await {
                return None;
            }
        }
    }

    /// Waits until the next block begins with this many comments, which stay to be read with it.
    pub async fn comments(&mut self, count: usize) {
        let wanted = ":\n".repeat(count);
        loop {
            self.unchunk();
            assert!(wanted.as_bytes().starts_with(&self.text) || self.text.starts_with(wanted.as_bytes()));
            if self.text.starts_with(wanted.as_bytes()) {
                return;
            }
            assert!(self.more().await, "the stream goes on");
        }
    }

    /// Whether the response was received to its end, and every block was read.
    pub fn is_whole(&self) -> bool {
        self.whole && self.text.is_empty()
    }

    fn unchunk(&mut self) {
        while let Some(line) = memchr::memmem::find(&self.received, b"\r\n") {
            let length = std::str::from_utf8(&self.received[..line]).unwrap();
            let length = usize::from_str_radix(length, 16).unwrap();
            let Some(chunk) = self.received.get(line + 2..line + 2 + length) else { return };
            if self.received.len() < line + 4 + length {
                return;
            }
            self.text.extend_from_slice(chunk);
            self.received.drain(..line + 4 + length);
            self.whole |= length == 0;
        }
    }

    /// Reads the next event and its id.
    pub async fn event_and_id(&mut self) -> (Value, Option<String>) {
        loop {
            let block = self.next().await.expect("the stream goes on");
            if let Some(data) = block.data {
                return (serde_json::from_str(&data).unwrap(), block.id);
            }
        }
    }

    /// Reads the next event.
    pub async fn event(&mut self) -> Value {
        self.event_and_id().await.0
    }

    /// Reads events up to the first one of this kind, and returns it.
    pub async fn wait_for(&mut self, kind: &str) -> Value {
        loop {
            let event = self.event().await;
            if event["event"] == kind {
                return event;
            }
        }
    }

    /// Reads to the end of the response, and returns the close code in the last event.
    pub async fn closed(&mut self) -> u64 {
        let mut last = None;
        while let Some(block) = self.next().await {
            last = block.data.or(last);
        }
        let last: Value = serde_json::from_str(&last.expect("there is a reason")).unwrap();
        assert_eq!(last["event"], "error", "{last}");
        last["close"].as_u64().unwrap()
    }
}

fn parse(text: &str) -> Block {
    let mut block = Block::default();
    for line in text.lines().filter(|line| !line.is_empty()) {
        match line.split_once(": ").unwrap_or((line, "")) {
            ("id", id) => block.id = Some(id.to_owned()),
            ("data", data) => assert_eq!(block.data.replace(data.to_owned()), None, "one line"),
            ("retry", ms) => block.retry = Some(ms.parse().unwrap()),
            (":", _) => block.comments += 1,
            _ => panic!("{line:?}"),
        }
    }
    block
}

/// Builds the head of a request with these header lines.
pub fn request(method: &str, target: &str, headers: &[&str], body: Option<&[u8]>) -> String {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    if let Some(body) = body {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text + "\r\n"
}

/// A stream whose `ready` was received.
#[derive(Debug)]
pub struct OpenStream {
    /// The connection of the stream.
    pub raw: RawClient,
    /// The stream's name, which a POST of its frames needs.
    pub name: String,
    /// The server's address.
    address: SocketAddr,
}

impl OpenStream {
    /// Connects and opens a stream.
    pub async fn new(address: SocketAddr, target: &str) -> Self {
        Self::over(RawClient::connect(address).await, address, target).await
    }

    /// Opens a stream over a connection.
    pub async fn over(mut raw: RawClient, address: SocketAddr, target: &str) -> Self {
        let head = raw.get(target, &[]).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let ready = raw.event().await;
        assert_eq!(ready["event"], "ready");
        Self { raw, name: ready["stream"].as_str().unwrap().to_owned(), address }
    }

    /// Posts a frame of the stream, which the server must accept.
    pub async fn post(&self, frame: &str) {
        assert_eq!(post(self.address, &self.name, frame.as_bytes()).await, 202, "{frame}");
    }

    /// Checks that the stream still works: the next event is the answer to a ping.
    pub async fn works(&mut self) {
        self.post(r#"{"type":"ping","nonce":"still here"}"#).await;
        let pong = serde_json::json!({ "event": "pong", "nonce": "still here" });
        assert_eq!(self.raw.event().await, pong);
    }
}

/// Posts a frame over a new connection, and returns the status code.
pub async fn post(address: SocketAddr, stream: &str, frame: &[u8]) -> u16 {
    post_with(address, &[&format!("Switchboard-Stream: {stream}"), "Content-Type: application/json"], frame)
        .await
}

/// Posts a frame over a new connection with these header lines only, and returns the status code.
pub async fn post_with(address: SocketAddr, headers: &[&str], frame: &[u8]) -> u16 {
    let mut raw = RawClient::connect(address).await;
    let headers = [headers, &["Connection: close"]].concat();
    let head = request("POST", "/messages", &headers, Some(frame));
    // A server that refuses a request early may close the connection before it has read all of it.
    let _ = raw.io.write_all(&[head.as_bytes(), frame].concat()).await;
    status(&raw.head().await)
}

/// The status code in the head of a response.
pub fn status(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap()
}
