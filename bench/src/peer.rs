//! The load: clients that check every delta, cheap enough not to limit the measurement.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::{
    token,
    wire::{self, Addresses, Chunks, Frame, Opcode, Socket, Wire},
};

/// A read that takes longer than this ends the bench with an error. Longer than any row takes.
const PATIENCE: Duration = Duration::from_secs(120);
const CHUNK: usize = 64 * 1024;

/// The kind of server that a peer connects to, and the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The gateway's protocol.
    Gateway(Wire),
    /// The `limit` reference: the peer sends lines and receives bare frames.
    Limit(Wire),
    /// The `relay` reference: lines in both directions.
    Relay,
    /// The program websocketd: a process for each connection, whose lines are text frames in both directions.
    Websocketd,
}

/// One client.
pub(crate) struct Peer {
    kind: Kind,
    socket: Box<dyn Socket>,
    input: BytesMut,
    /// The state of an SSE connection; `None` for other wires.
    sse: Option<Sse>,
}

struct Sse {
    raw: BytesMut,
    chunks: Chunks,
    stream: String,
    address: SocketAddr,
    /// The connection for POST requests, opened with the first frame to send.
    posts: Option<Box<dyn Socket>>,
}

/// The number of deltas and frames of one answer that a client received, and the times of the first and the last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) deltas: u64,
    pub(crate) frames: u64,
    pub(crate) first: Instant,
    pub(crate) last: Instant,
}

impl Seen {
    /// Deltas per second.
    #[expect(clippy::cast_precision_loss, reason = "counts of a bench are far below 2^52")]
    pub(crate) fn rate(&self) -> f64 {
        self.deltas as f64 / self.last.duration_since(self.first).as_secs_f64().max(1e-6)
    }
}

impl Peer {
    /// Connects to a server. With a gateway, waits for `ready`.
    pub(crate) async fn connect(kind: Kind, at: &Addresses) -> io::Result<Self> {
        let socket = match kind {
            Kind::Gateway(Wire::Unix) | Kind::Limit(Wire::Unix) => wire::unix(&at.unix).await?,
            Kind::Gateway(Wire::WebSocket | Wire::Sse)
            | Kind::Limit(Wire::WebSocket | Wire::Sse)
            | Kind::Relay
            | Kind::Websocketd => wire::tcp(at.tcp).await?,
        };
        let mut peer = Self { kind, socket, input: BytesMut::new(), sse: None };
        match kind {
            Kind::Gateway(Wire::WebSocket) | Kind::Websocketd => {
                wire::upgrade(&mut *peer.socket, &mut peer.input, at.tcp).await?;
            }
            Kind::Gateway(Wire::Sse) => peer.open_stream(at.tcp).await?,
            Kind::Gateway(Wire::Unix) | Kind::Limit(_) | Kind::Relay => {}
        }
        if let Kind::Gateway(_) = kind {
            let ready = peer.until("ready").await?;
            if let Some(sse) = &mut peer.sse {
                let ready: serde_json::Value = serde_json::from_slice(&ready)?;
                sse.stream = ready["stream"].as_str().unwrap_or_default().to_owned();
            }
        }
        Ok(peer)
    }

    async fn open_stream(&mut self, address: SocketAddr) -> io::Result<()> {
        let request = format!("GET /sse HTTP/1.1\r\nHost: {address}\r\n\r\n");
        self.socket.write_all(request.as_bytes()).await?;
        let mut raw = BytesMut::new();
        wire::response(&mut *self.socket, &mut raw, "200").await?;
        let mut chunks = Chunks::default();
        chunks.unpack(&mut raw, &mut self.input)?;
        self.sse = Some(Sse { raw, chunks, stream: String::new(), address, posts: None });
        Ok(())
    }

    async fn fill(&mut self) -> io::Result<()> {
        let into = self.sse.as_mut().map_or(&mut self.input, |sse| &mut sse.raw);
        into.reserve(CHUNK);
        let read = timeout(PATIENCE, self.socket.read_buf(into));
        if read.await.map_err(|_| io::Error::other("nothing came for too long"))?? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match &mut self.sse {
            Some(sse) => sse.chunks.unpack(&mut sse.raw, &mut self.input),
            None => Ok(()),
        }
    }

    /// Sends a frame to a gateway, or a line to a reference.
    pub(crate) async fn send(&mut self, text: &str) -> io::Result<()> {
        if let Some(sse) = &mut self.sse {
            return sse.post(text).await;
        }
        let bytes = match self.kind {
            Kind::Gateway(Wire::WebSocket) | Kind::Websocketd => {
                wire::client_frame(Opcode::Text, text.as_bytes())
            }
            Kind::Gateway(Wire::Sse | Wire::Unix) | Kind::Limit(_) | Kind::Relay => {
                format!("{text}\n").into_bytes()
            }
        };
        self.socket.write_all(&bytes).await
    }

    /// Receives the next frame or line, and answers pings before it.
    pub(crate) async fn next(&mut self) -> io::Result<Bytes> {
        loop {
            let whole = match self.kind {
                Kind::Gateway(Wire::WebSocket) | Kind::Limit(Wire::WebSocket) | Kind::Websocketd => {
                    match wire::web_socket_frame(&mut self.input)? {
                        Some(Frame::Ping(payload)) => {
                            self.socket.write_all(&wire::client_frame(Opcode::Pong, &payload)).await?;
                            continue;
                        }
                        Some(Frame::Text(text)) => Some(text),
                        None => None,
                    }
                }
                Kind::Gateway(Wire::Sse) | Kind::Limit(Wire::Sse) => wire::sse_data(&mut self.input),
                Kind::Gateway(Wire::Unix) | Kind::Limit(Wire::Unix) | Kind::Relay => {
                    wire::line(&mut self.input)
                }
            };
            match whole {
                Some(frame) => return Ok(frame),
                None => self.fill().await?,
            }
        }
    }

    /// Receives frames up to the first event of this name; an `error` event is an error.
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

    /// Receives one answer of `count` deltas, checks that each delta comes once and in order, and calls `each` with the
    /// time at which the agent wrote the delta, in nanoseconds.
    pub(crate) async fn answer(&mut self, count: u64, mut each: impl FnMut(u64)) -> io::Result<Seen> {
        let mut seen: Option<Seen> = None;
        let mut expected = 0;
        while expected < count {
            let frame = self.next().await?;
            let Some(text) = delta_text(self.kind, &frame) else {
                if frame.starts_with(br#"{"event":"turn_end""#) {
                    return Err(io::Error::other(String::from_utf8_lossy(&frame).into_owned()));
                }
                continue;
            };
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

    /// Receives frames up to the end of the turn.
    pub(crate) async fn end_of_turn(&mut self) -> io::Result<()> {
        match self.kind {
            Kind::Gateway(_) | Kind::Limit(_) => self.until("turn_end").await.map(drop),
            Kind::Relay | Kind::Websocketd => loop {
                if memmem::find(&self.next().await?, br#""type":"result""#).is_some() {
                    return Ok(());
                }
            },
        }
    }
}

impl Sse {
    async fn post(&mut self, text: &str) -> io::Result<()> {
        let request = format!(
            "POST /messages HTTP/1.1\r\nHost: {}\r\nSwitchboard-Stream: {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{text}",
            self.address,
            self.stream,
            text.len()
        );
        // The server may have closed the connection if it was idle for long.
        if let Some(mut posts) = self.posts.take()
            && exchange(&mut *posts, &request).await.is_ok()
        {
            self.posts = Some(posts);
            return Ok(());
        }
        let mut posts = wire::tcp(self.address).await?;
        exchange(&mut *posts, &request).await?;
        self.posts = Some(posts);
        Ok(())
    }
}

async fn exchange(posts: &mut dyn Socket, request: &str) -> io::Result<()> {
    posts.write_all(request.as_bytes()).await?;
    wire::response(posts, &mut BytesMut::new(), "202").await
}

/// The text of a delta's frame; `None` for other frames. No text of the bench contains JSON escapes.
fn delta_text(kind: Kind, frame: &[u8]) -> Option<&[u8]> {
    let is_delta = match kind {
        Kind::Gateway(_) | Kind::Limit(_) => frame.starts_with(br#"{"event":"delta""#),
        Kind::Relay | Kind::Websocketd => memmem::find(frame, br#""text_delta""#).is_some(),
    };
    if !is_delta {
        return None;
    }
    let begin = memmem::find(frame, br#""text":""#)? + 8;
    let length = memchr::memchr(b'"', &frame[begin..])?;
    Some(&frame[begin..begin + length])
}
