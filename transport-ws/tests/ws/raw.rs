//! A WebSocket client (RFC 6455) that lets a test write every byte and see every frame.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use switchboard_conformance::WAIT;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8a;

/// The upgrade request of section 1.3, without its last line break.
pub(crate) const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
/// The line with which a client offers the subprotocol.
pub(crate) const PROTOCOL: &str = "Sec-WebSocket-Protocol: switchboard.v1\r\n";

pub(crate) struct Raw {
    pub(crate) io: TcpStream,
    received: Vec<u8>,
}

/// A received frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) first: u8,
    pub(crate) payload: Vec<u8>,
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { io: TcpStream::connect(address).await.unwrap(), received: Vec::new() }
    }

    /// Connects with a receive buffer of 4 KiB, so that the server soon has to wait for the client.
    pub(crate) async fn connect_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 * 1024).unwrap();
        Self { io: socket.connect(address).await.unwrap(), received: Vec::new() }
    }

    /// Connects, upgrades, and reads `ready`.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let mut raw = Self::connect(address).await;
        raw.upgrade("").await;
        assert_eq!(raw.event().await["event"], "ready");
        raw
    }

    /// Sends the upgrade request with these further header lines, and returns the head of the response, whose status
    /// must be 101.
    pub(crate) async fn upgrade(&mut self, more: &str) -> String {
        self.write(format!("{UPGRADE}{more}\r\n").as_bytes()).await;
        let head = self.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        head
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        timeout(WAIT, self.io.write_all(bytes)).await.expect("it is read").unwrap();
    }

    /// Reads the head of an HTTP response.
    pub(crate) async fn head(&mut self) -> String {
        loop {
            if let Some(at) = self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.received.drain(..at + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            assert!(self.more().await, "the connection ended: {:?}", String::from_utf8_lossy(&self.received));
        }
    }

    /// Receives more bytes. Returns `false` at the end of the connection.
    async fn more(&mut self) -> bool {
        let read = timeout(WAIT, self.io.read_buf(&mut self.received)).await.expect("something comes");
        matches!(read, Ok(1..))
    }

    /// Whether neither a close frame nor the end of the connection has arrived. Reads what has arrived.
    pub(crate) async fn is_open(&mut self) -> bool {
        match timeout(Duration::from_millis(20), self.io.read_buf(&mut self.received)).await {
            Err(_) => true,
            Ok(read) => matches!(read, Ok(1..)) && self.received[0] != CLOSE,
        }
    }

    /// Waits for the end of the connection.
    pub(crate) async fn ended(&mut self) {
        while self.more().await {}
    }

    pub(crate) async fn text(&mut self, text: &str) {
        self.send(TEXT, text.as_bytes()).await;
    }

    pub(crate) async fn send(&mut self, first: u8, payload: &[u8]) {
        self.write(&frame(first, payload)).await;
    }

    /// Reads the next frame; none at the end of the connection.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.take_frame() {
                return Some(frame);
            }
            if !self.more().await {
                return None;
            }
        }
    }

    fn take_frame(&mut self) -> Option<Frame> {
        let (&first, &second) = (self.received.first()?, self.received.get(1)?);
        assert_eq!(second & 0x80, 0, "a server masks nothing");
        let extra = match second {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let length = match self.received.get(2..2 + extra)? {
            [] => usize::from(second),
            bytes => bytes.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte)),
        };
        let end = 2 + extra + length;
        let payload = self.received.get(2 + extra..end)?.to_vec();
        self.received.drain(..end);
        Some(Frame { first, payload })
    }

    /// Reads the next event, and skips pings before it.
    pub(crate) async fn event(&mut self) -> Value {
        loop {
            let frame = self.next().await.expect("the connection lives");
            match frame.first {
                TEXT => return serde_json::from_slice(&frame.payload).unwrap(),
                PING => self.send(PONG, &frame.payload).await,
                CLOSE => panic!("closed: {:?}", reason(&frame)),
                _ => panic!("{frame:?}"),
            }
        }
    }

    /// Reads to the close frame, and returns its code and reason.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        loop {
            let frame = self.next().await.expect("there is a reason");
            if frame.first == CLOSE {
                return reason(&frame);
            }
        }
    }

    /// Checks that the connection still works: the next event is the answer to a ping.
    pub(crate) async fn works(&mut self) {
        self.text(r#"{"type":"ping","nonce":"still here"}"#).await;
        assert_eq!(self.event().await, serde_json::json!({ "event": "pong", "nonce": "still here" }));
    }
}

fn reason(frame: &Frame) -> (u16, String) {
    let (code, text) = frame.payload.split_at(2);
    (u16::from_be_bytes([code[0], code[1]]), String::from_utf8(text.to_vec()).unwrap())
}

/// A masked frame (section 5.2).
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, payload.len());
    let mask = [0x12, 0x34, 0x56, 0x78];
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// The header of a masked frame, without the mask (section 5.2).
pub(crate) fn header(first: u8, length: usize) -> Vec<u8> {
    let mut header = vec![first];
    match length {
        0..126 => header.push(0x80 | u8::try_from(length).unwrap()),
        126..0x1_0000 => {
            header.push(0x80 | 126);
            header.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        _ => {
            header.push(0x80 | 127);
            header.extend((length as u64).to_be_bytes());
        }
    }
    header
}
