//! A client that decides about every byte: HTTP/1.1 (RFC 9112) and server-sent events (HTML, section 9.2).

use std::net::SocketAddr;

use serde_json::Value;
use switchboard_conformance::WAIT;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

pub(crate) struct Raw {
    pub(crate) io: TcpStream,
    received: Vec<u8>,
    /// What was in chunks.
    text: Vec<u8>,
    whole: bool,
}

/// What comes between two empty lines.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) id: Option<String>,
    pub(crate) data: Option<String>,
    pub(crate) retry: Option<u64>,
    pub(crate) comments: usize,
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    /// One that takes little at a time.
    pub(crate) async fn connect_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 * 1024).unwrap();
        Self::over(socket.connect(address).await.unwrap())
    }

    fn over(io: TcpStream) -> Self {
        Self { io, received: Vec::new(), text: Vec::new(), whole: false }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        timeout(WAIT, self.io.write_all(bytes)).await.expect("it is read").unwrap();
    }

    /// Asks for a stream with these header lines, and reads the head of the answer.
    pub(crate) async fn get(&mut self, target: &str, headers: &[&str]) -> String {
        self.write(request("GET", target, headers, None).as_bytes()).await;
        self.head().await
    }

    pub(crate) async fn head(&mut self) -> String {
        loop {
            if let Some(at) = self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.received.drain(..at + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            assert!(self.more().await, "the connection ended: {:?}", String::from_utf8_lossy(&self.received));
        }
    }

    /// Reads on; `false` at the end. Cancel safe.
    async fn more(&mut self) -> bool {
        let read = timeout(WAIT, self.io.read_buf(&mut self.received)).await.expect("something comes");
        matches!(read, Ok(1..))
    }

    /// Nothing more comes, but what is there already.
    pub(crate) async fn ended(&mut self) {
        while self.more().await {}
    }

    /// The next block; none at the end of the stream, in good order or not. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Block> {
        loop {
            self.unchunk();
            if let Some(at) = memchr::memmem::find(&self.text, b"\n\n") {
                let block: Vec<u8> = self.text.drain(..at + 2).collect();
                let block = parse(std::str::from_utf8(&block).unwrap());
                assert!(block.data.is_some(), "some libraries make an empty event of {block:?}");
                return Some(block);
            }
            if self.whole || !self.more().await {
                return None;
            }
        }
    }

    /// Waits for so many comments in a row, and leaves them to the next block.
    pub(crate) async fn comments(&mut self, count: usize) {
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

    /// The response had its end.
    pub(crate) fn is_whole(&self) -> bool {
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

    /// The next event, with its id.
    pub(crate) async fn event_and_id(&mut self) -> (Value, Option<String>) {
        loop {
            let block = self.next().await.expect("the stream goes on");
            if let Some(data) = block.data {
                return (serde_json::from_str(&data).unwrap(), block.id);
            }
        }
    }

    pub(crate) async fn event(&mut self) -> Value {
        self.event_and_id().await.0
    }

    /// Reads until an event of this kind.
    pub(crate) async fn wait_for(&mut self, kind: &str) -> Value {
        loop {
            let event = self.event().await;
            if event["event"] == kind {
                return event;
            }
        }
    }

    /// Reads on to the end, and gives what the last event says.
    pub(crate) async fn closed(&mut self) -> u64 {
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

/// A request with the header lines that it needs.
pub(crate) fn request(method: &str, target: &str, headers: &[&str], body: Option<&[u8]>) -> String {
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

/// A stream that was greeted.
pub(crate) struct Open {
    pub(crate) raw: Raw,
    pub(crate) name: String,
    address: SocketAddr,
}

impl Open {
    pub(crate) async fn new(address: SocketAddr, target: &str) -> Self {
        Self::over(Raw::connect(address).await, address, target).await
    }

    pub(crate) async fn over(mut raw: Raw, address: SocketAddr, target: &str) -> Self {
        let head = raw.get(target, &[]).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let ready = raw.event().await;
        assert_eq!(ready["event"], "ready");
        Self { raw, name: ready["stream"].as_str().unwrap().to_owned(), address }
    }

    /// Posts a frame of the stream; it must be taken.
    pub(crate) async fn post(&self, frame: &str) {
        assert_eq!(post(self.address, &self.name, frame.as_bytes()).await, 202, "{frame}");
    }

    /// It still works: a ping of the protocol is answered next.
    pub(crate) async fn works(&mut self) {
        self.post(r#"{"type":"ping","nonce":"still here"}"#).await;
        let pong = serde_json::json!({ "event": "pong", "nonce": "still here" });
        assert_eq!(self.raw.event().await, pong);
    }
}

/// Posts a frame over a connection of its own, and gives the status.
pub(crate) async fn post(address: SocketAddr, stream: &str, frame: &[u8]) -> u16 {
    post_with(address, &[&format!("Switchboard-Stream: {stream}"), "Content-Type: application/json"], frame)
        .await
}

/// The same with these header lines and no others.
pub(crate) async fn post_with(address: SocketAddr, headers: &[&str], frame: &[u8]) -> u16 {
    let mut raw = Raw::connect(address).await;
    let headers = [headers, &["Connection: close"]].concat();
    let head = request("POST", "/messages", &headers, Some(frame));
    // One that is refused early is not read to its end.
    let _ = raw.io.write_all(&[head.as_bytes(), frame].concat()).await;
    status(&raw.head().await)
}

pub(crate) fn status(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap()
}
