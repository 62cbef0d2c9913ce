//! The framing on each kind of socket, for the load and the references.

use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use bytes::{Buf as _, Bytes, BytesMut};
use memchr::memmem;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
};

/// The transport that carries frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Wire {
    WebSocket,
    Sse,
    Unix,
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WebSocket => "WebSocket",
            Self::Sse => "SSE",
            Self::Unix => "Unix",
        })
    }
}

/// The addresses of a server.
#[derive(Debug, Clone)]
pub(crate) struct Addresses {
    pub(crate) tcp: SocketAddr,
    pub(crate) unix: PathBuf,
}

/// A socket of either family.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

pub(crate) async fn tcp(address: SocketAddr) -> io::Result<Box<dyn Socket>> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    Ok(Box::new(socket))
}

pub(crate) async fn unix(path: &Path) -> io::Result<Box<dyn Socket>> {
    Ok(Box::new(UnixStream::connect(path).await?))
}

/// Reads the head of an HTTP response, and leaves the following bytes in `input`. A status other than `status` is an
/// error.
pub(crate) async fn response(
    socket: &mut (impl AsyncRead + Unpin + ?Sized),
    input: &mut BytesMut,
    status: &str,
) -> io::Result<()> {
    loop {
        if let Some(end) = memmem::find(input, b"\r\n\r\n") {
            let head = input.split_to(end + 4);
            if head.starts_with(format!("HTTP/1.1 {status}").as_bytes()) {
                return Ok(());
            }
            return Err(io::Error::other(String::from_utf8_lossy(&head).into_owned()));
        }
        if socket.read_buf(input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Opens a WebSocket connection on a new socket, and leaves the bytes after the response in `input`.
pub(crate) async fn upgrade(
    socket: &mut dyn Socket,
    input: &mut BytesMut,
    address: SocketAddr,
) -> io::Result<()> {
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await?;
    response(socket, input, "101").await
}

/// A frame from a WebSocket server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Text(Bytes),
    Ping(Bytes),
}

/// The kinds of frames that a client sends (RFC 6455 section 5.2).
#[derive(Debug, Clone, Copy)]
pub(crate) enum Opcode {
    Text = 0x1,
    Pong = 0xa,
}

/// A frame of a WebSocket client.
pub(crate) fn client_frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    // A mask of zeros is valid and cheap; masks must be unpredictable only against attacks (RFC 6455 section 5.3).
    let mut frame = vec![0x80 | opcode as u8];
    match u8::try_from(payload.len()) {
        Ok(length @ 0..126) => frame.push(0x80 | length),
        _ => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// The next complete text or ping from a WebSocket server, whose frames are not masked. A close frame is an error.
pub(crate) fn web_socket_frame(input: &mut BytesMut) -> io::Result<Option<Frame>> {
    loop {
        let [first, second, ..] = input[..] else { return Ok(None) };
        let whole = |bytes: &[u8]| bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b));
        let (header, length) = match second & 0x7f {
            126 => match input.get(2..4) {
                Some(bytes) => (4, whole(bytes)),
                None => return Ok(None),
            },
            127 => match input.get(2..10) {
                Some(bytes) => (10, whole(bytes)),
                None => return Ok(None),
            },
            length => (2, usize::from(length)),
        };
        if input.len() < header + length {
            return Ok(None);
        }
        input.advance(header);
        let payload = input.split_to(length).freeze();
        match first & 0x0f {
            1 => return Ok(Some(Frame::Text(payload))),
            9 => return Ok(Some(Frame::Ping(payload))),
            8 => return Err(io::Error::other(format!("closed: {:?}", close_text(&payload)))),
            _ => {}
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

/// The next complete line, with its line break.
pub(crate) fn line(input: &mut BytesMut) -> Option<Bytes> {
    memchr::memchr(b'\n', input).map(|end| input.split_to(end + 1).freeze())
}

/// The next complete `data:` line of a server-sent event, without the field name.
pub(crate) fn sse_data(input: &mut BytesMut) -> Option<Bytes> {
    loop {
        let mut line = line(input)?;
        if line.starts_with(b"data: ") {
            line.advance(6);
            return Some(line);
        }
    }
}

/// Decodes the chunked transfer coding of an HTTP response (RFC 9112 section 7.1).
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    /// Remaining bytes of the current chunk, including the line break after it.
    left: usize,
}

impl Chunks {
    /// Moves the available bytes of the body from `raw` to `body`. The end of the body is an error.
    pub(crate) fn unpack(&mut self, raw: &mut BytesMut, body: &mut BytesMut) -> io::Result<()> {
        loop {
            if self.left == 0 {
                let Some(end) = memmem::find(raw, b"\r\n") else { return Ok(()) };
                let size = raw.split_to(end + 2);
                let size = std::str::from_utf8(&size[..end])
                    .ok()
                    .and_then(|hex| usize::from_str_radix(hex, 16).ok());
                self.left = match size {
                    Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Some(size) => size + 2,
                    None => return Err(io::Error::other("a chunk has no size")),
                };
            }
            let taken = raw.len().min(self.left.saturating_sub(2));
            body.extend_from_slice(&raw.split_to(taken));
            self.left -= taken;
            if self.left > 2 || raw.len() < 2 {
                return Ok(());
            }
            raw.advance(2);
            self.left = 0;
        }
    }
}

/// Appends one frame to `out`, as the broadcaster writes it.
pub(crate) fn put_frame(wire: Wire, out: &mut Vec<u8>, json: &[u8]) {
    match wire {
        Wire::WebSocket => {
            out.push(0x81);
            match u8::try_from(json.len()) {
                Ok(length @ 0..126) => out.push(length),
                _ => {
                    // All frames of the bench are shorter than 64 KiB, the most that a length of two bytes can express.
                    out.push(126);
                    out.extend(u16::try_from(json.len()).unwrap_or(u16::MAX).to_be_bytes());
                }
            }
            out.extend_from_slice(json);
        }
        Wire::Sse => {
            out.extend_from_slice(b"data: ");
            out.extend_from_slice(json);
            out.extend_from_slice(b"\n\n");
        }
        Wire::Unix => {
            out.extend_from_slice(json);
            out.push(b'\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_taken_apart_however_they_arrive() {
        let sent = b"5\r\nhello\r\n10\r\n, wide\r\n and far\r\n1\r\n!\r\n";
        for size in 1..=sent.len() {
            let (mut chunks, mut raw, mut body) = (Chunks::default(), BytesMut::new(), BytesMut::new());
            for part in sent.chunks(size) {
                raw.extend_from_slice(part);
                chunks.unpack(&mut raw, &mut body).unwrap();
            }
            assert_eq!(&body[..], b"hello, wide\r\n and far!", "{size} bytes at a time");
        }
        let end = &mut BytesMut::from(&b"0\r\n\r\n"[..]);
        assert!(Chunks::default().unpack(end, &mut BytesMut::new()).is_err());
    }

    #[test]
    fn frames_that_were_written_are_read_back() {
        for json in [&b"{}"[..], &[b'x'; 300]] {
            let mut out = Vec::new();
            put_frame(Wire::WebSocket, &mut out, json);
            let read = web_socket_frame(&mut BytesMut::from(&out[..])).unwrap();
            assert_eq!(read, Some(Frame::Text(Bytes::copy_from_slice(json))));
            out.clear();
            put_frame(Wire::Sse, &mut out, json);
            assert_eq!(sse_data(&mut BytesMut::from(&out[..])).unwrap().trim_ascii(), json);
            out.clear();
            put_frame(Wire::Unix, &mut out, json);
            assert_eq!(line(&mut BytesMut::from(&out[..])).unwrap().trim_ascii(), json);
        }
    }
}
