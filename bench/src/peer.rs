//! The load: clients that check every delta, cheap enough not to be what is measured.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::{Buf as _, Bytes, BytesMut};
use memchr::memmem;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::token;

/// Longer than any row takes: what hangs ends the bench.
const PATIENCE: Duration = Duration::from_secs(120);
const CHUNK: usize = 64 * 1024;

/// How a peer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// WebSocket, to the gateway.
    Gateway,
    /// Lines out, unmasked WebSocket frames in: the limit.
    Limit,
    /// Lines both ways: the relay.
    Relay,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Peer {
    kind: Kind,
    socket: TcpStream,
    input: BytesMut,
}

/// What a client saw of one answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) deltas: u64,
    pub(crate) frames: u64,
    pub(crate) first: Instant,
    pub(crate) last: Instant,
}

impl Seen {
    /// Deltas a second.
    #[expect(clippy::cast_precision_loss, reason = "counts of a bench are far below 2^52")]
    pub(crate) fn rate(&self) -> f64 {
        self.deltas as f64 / self.last.duration_since(self.first).as_secs_f64().max(1e-6)
    }
}

impl Peer {
    pub(crate) async fn connect(kind: Kind, address: SocketAddr, path: &str) -> io::Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let mut peer = Self { kind, socket, input: BytesMut::new() };
        if kind == Kind::Gateway {
            peer.upgrade(address, path).await?;
        }
        Ok(peer)
    }

    async fn upgrade(&mut self, address: SocketAddr, path: &str) -> io::Result<()> {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        );
        self.socket.write_all(request.as_bytes()).await?;
        loop {
            if let Some(end) = memmem::find(&self.input, b"\r\n\r\n") {
                let head = self.input.split_to(end + 4);
                if head.starts_with(b"HTTP/1.1 101") {
                    return Ok(());
                }
                return Err(io::Error::other(String::from_utf8_lossy(&head).into_owned()));
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> io::Result<()> {
        self.input.reserve(CHUNK);
        let read = timeout(PATIENCE, self.socket.read_buf(&mut self.input));
        match read.await.map_err(|_| io::Error::other("nothing came for too long"))?? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Sends a frame, or a line to the references.
    pub(crate) async fn send(&mut self, text: &str) -> io::Result<()> {
        if self.kind != Kind::Gateway {
            return self.socket.write_all(format!("{text}\n").as_bytes()).await;
        }
        // A mask of zeros is a mask (RFC 6455 section 5.3 asks for unpredictable ones of browsers).
        let mut frame = vec![0x81];
        match u8::try_from(text.len()) {
            Ok(length @ 0..126) => frame.push(0x80 | length),
            _ => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(text.as_bytes());
        self.socket.write_all(&frame).await
    }

    /// The next frame or line.
    pub(crate) async fn next(&mut self) -> io::Result<Bytes> {
        loop {
            let whole = match self.kind {
                Kind::Gateway | Kind::Limit => self.frame()?,
                Kind::Relay => {
                    memchr::memchr(b'\n', &self.input).map(|end| self.input.split_to(end + 1).freeze())
                }
            };
            match whole {
                Some(frame) => return Ok(frame),
                None => self.fill().await?,
            }
        }
    }

    fn frame(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let [first, second, ..] = self.input[..] else { return Ok(None) };
            let (header, length) = match second & 0x7f {
                126 => match self.input.get(2..4) {
                    Some(bytes) => (4, bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b))),
                    None => return Ok(None),
                },
                127 => match self.input.get(2..10) {
                    Some(bytes) => (10, bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b))),
                    None => return Ok(None),
                },
                length => (2, usize::from(length)),
            };
            if self.input.len() < header + length {
                return Ok(None);
            }
            self.input.advance(header);
            let payload = self.input.split_to(length).freeze();
            match first & 0x0f {
                1 => return Ok(Some(payload)),
                8 => return Err(io::Error::other(format!("closed: {:?}", close_text(&payload)))),
                // A ping of the gateway: rows are shorter than its patience.
                _ => {}
            }
        }
    }

    /// Reads frames until one has this event's name.
    pub(crate) async fn until(&mut self, event: &str) -> io::Result<Bytes> {
        let wanted = format!(r#"{{"event":"{event}""#);
        loop {
            let frame = self.next().await?;
            if frame.starts_with(wanted.as_bytes()) {
                return Ok(frame);
            }
            if frame.starts_with(br#"{"event":"error""#) {
                return Err(io::Error::other(String::from_utf8_lossy(&frame).into_owned()));
            }
        }
    }

    /// Reads one answer of `count` deltas, checks that each comes once and in order, and calls `each` with
    /// when it was written.
    pub(crate) async fn answer(&mut self, count: u64, mut each: impl FnMut(u64)) -> io::Result<Seen> {
        let mut seen: Option<Seen> = None;
        let mut expected = 0;
        while expected < count {
            let frame = self.next().await?;
            let Some(text) = delta_text(self.kind, &frame) else { continue };
            let now = Instant::now();
            let seen = seen.get_or_insert(Seen { deltas: 0, frames: 0, first: now, last: now });
            seen.frames += 1;
            seen.last = now;
            for delta in text.chunks(token::LENGTH) {
                let Some((number, at)) = token::parse(delta) else {
                    return Err(io::Error::other("a delta is damaged"));
                };
                if number != expected {
                    return Err(io::Error::other(format!("delta {number} came in place of {expected}")));
                }
                expected += 1;
                seen.deltas += 1;
                each(at);
            }
        }
        seen.ok_or_else(|| io::Error::other("no delta came"))
    }

    /// Reads on to the end of the turn.
    pub(crate) async fn end_of_turn(&mut self) -> io::Result<()> {
        match self.kind {
            Kind::Gateway | Kind::Limit => self.until("turn_end").await.map(drop),
            Kind::Relay => loop {
                if memmem::find(&self.next().await?, br#""type":"result""#).is_some() {
                    return Ok(());
                }
            },
        }
    }
}

fn close_text(payload: &[u8]) -> String {
    match payload {
        [high, low, reason @ ..] => {
            format!("{} {}", u16::from_be_bytes([*high, *low]), String::from_utf8_lossy(reason))
        }
        _ => String::new(),
    }
}

/// The text of a delta's frame; none of the bench's texts need an escape.
fn delta_text(kind: Kind, frame: &[u8]) -> Option<&[u8]> {
    let is_delta = match kind {
        Kind::Gateway | Kind::Limit => frame.starts_with(br#"{"event":"delta""#),
        Kind::Relay => memmem::find(frame, br#""text_delta""#).is_some(),
    };
    if !is_delta {
        return None;
    }
    let begin = memmem::find(frame, br#""text":""#)? + 8;
    let length = memchr::memchr(b'"', &frame[begin..])?;
    Some(&frame[begin..begin + length])
}
