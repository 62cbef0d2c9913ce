//! HTTP/1.1 requests and responses, written out by hand, so that tests see every byte (RFC 9112).

use std::{
    io::{self, BufRead, BufReader, Read, Write as _},
    net::{SocketAddr, TcpStream},
};

use crate::wait::TIMEOUT;

/// The header lines of a WebSocket upgrade as browsers send them (RFC 6455, section 1.3).
pub const UPGRADE_HEADERS: [&str; 4] = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

/// Connects over TCP; a read that takes longer than [`TIMEOUT`] fails.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream
}

/// Connects, and sends these lines and an empty line.
pub(crate) fn send_lines(address: SocketAddr, lines: &[&str]) -> TcpStream {
    let mut stream = connect(address);
    stream.write_all(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes()).unwrap();
    stream
}

/// An HTTP response.
#[derive(Debug)]
pub struct Response {
    /// The status line and the header lines; empty if the server closed without a response.
    pub head: String,
    /// All bytes after the head until the end of the connection; empty if only the head was read.
    pub body: Vec<u8>,
}

impl Response {
    /// Reads until the server closes the connection.
    pub(crate) fn read(mut stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        match stream.read_to_end(&mut bytes) {
            Ok(_) => {}
            // A client whose request is refused before its end may find the connection reset.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the server did not close: {error}"),
        }
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(bytes.len(), |end| end + 4);
        let body = bytes.split_off(end);
        Self { head: String::from_utf8_lossy(&bytes).into_owned(), body }
    }

    /// Reads the head only.
    pub(crate) fn read_head(stream: &mut impl BufRead) -> Self {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).unwrap() > 0 {}
        Self { head, body: Vec::new() }
    }

    /// The status, or 0 if there was no response.
    pub fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// The value of the first header line with this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (own, value) = line.split_once(':')?;
            own.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Reads the body of a chunked response (RFC 9112, section 7.1).
pub(crate) struct Chunks {
    stream: BufReader<TcpStream>,
    left: usize,
}

impl Chunks {
    pub(crate) fn new(stream: BufReader<TcpStream>) -> Self {
        Self { stream, left: 0 }
    }
}

impl Read for Chunks {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.left == 0 {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Ok(0);
            }
            // Each chunk ends with an empty line.
            if !line.trim().is_empty() {
                self.left = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
                if self.left == 0 {
                    return Ok(0);
                }
            }
        }
        let most = out.len().min(self.left);
        let read = self.stream.read(&mut out[..most])?;
        self.left -= read;
        Ok(read)
    }
}
