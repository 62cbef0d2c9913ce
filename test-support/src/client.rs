//! Clients that send frames and receive events, one at a time and without async code.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    time::Instant,
};

use serde_json::{Value, json};
use tungstenite::{
    HandshakeError, Message, WebSocket, handshake::client::Response as UpgradeResponse, http::Request,
};

use crate::{
    http::{Chunks, Response, connect, send_lines},
    wait::TIMEOUT,
};

/// A client of a gateway.
pub trait Client {
    /// Sends this text as one frame, whether or not it is valid.
    fn send_text(&mut self, text: &str);

    /// Receives the next event; `None` if the connection is closed, or nothing comes within [`TIMEOUT`].
    fn next(&mut self) -> Option<Value>;

    /// Sends a frame.
    fn send(&mut self, frame: &Value) {
        self.send_text(&frame.to_string());
    }

    /// Receives events up to and including the first of this kind, and returns all of them.
    fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let event = self.next().unwrap_or_else(|| panic!("closed before {kind}; received: {events:?}"));
            let found = event["event"] == kind;
            events.push(event);
            if found {
                return events;
            }
        }
    }

    /// Receives events until the first of this kind, and returns that one.
    fn wait_for(&mut self, kind: &str) -> Value {
        self.until(kind).pop().unwrap()
    }

    /// Creates a chat, and returns its id.
    fn new_chat(&mut self) -> String {
        self.send(&json!({"type": "new_chat"}));
        self.wait_for("attached")["chat_id"].as_str().unwrap().to_owned()
    }

    /// Sends a message with this turn id to a chat.
    fn message(&mut self, chat: &str, turn: &str, content: &str) {
        self.send(&json!({"type": "message", "chat_id": chat, "turn_id": turn, "content": content}));
    }
}

/// The joined text of the `delta` events among these.
pub fn delta_text(events: &[Value]) -> String {
    let deltas = events.iter().filter(|event| event["event"] == "delta");
    deltas.map(|event| event["text"].as_str().unwrap()).collect()
}

/// A client over WebSocket.
#[derive(Debug)]
pub struct WebSocketClient(
    /// The connection.
    pub WebSocket<TcpStream>,
);

impl WebSocketClient {
    /// Upgrades a connection with this request.
    ///
    /// # Errors
    ///
    /// The server refuses the upgrade.
    ///
    /// # Panics
    ///
    /// The server does not respond within [`TIMEOUT`].
    pub fn upgrade(
        request: Request<()>,
        stream: TcpStream,
    ) -> Result<(Self, UpgradeResponse), Box<tungstenite::Error>> {
        match tungstenite::client(request, stream) {
            Ok((socket, response)) => Ok((Self(socket), response)),
            Err(HandshakeError::Failure(error)) => Err(Box::new(error)),
            Err(HandshakeError::Interrupted(_)) => panic!("no response within {TIMEOUT:?}"),
        }
    }
}

impl Client for WebSocketClient {
    fn send_text(&mut self, text: &str) {
        self.0.send(Message::text(text)).unwrap();
    }

    fn next(&mut self) -> Option<Value> {
        // A server that sends only pings would keep a single read from timing out.
        let deadline = Instant::now() + TIMEOUT;
        while Instant::now() < deadline {
            match self.0.read() {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(text.as_str()).unwrap()),
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(_) | Err(_) => return None,
            }
        }
        None
    }
}

/// A client over server-sent events: one stream, and a request of its own for each frame.
pub struct SseClient {
    stream: BufReader<Chunks>,
    address: SocketAddr,
    bearer: String,
    stream_id: String,
    /// The id of the last event that had one: the value of `Last-Event-ID` to resume with.
    pub last_id: Option<String>,
}

impl SseClient {
    /// Opens a stream at `/sse` with this query and `Authorization` header line.
    pub(crate) fn open(address: SocketAddr, bearer: String, query: &str) -> Self {
        let (start, host) = (format!("GET /sse{query} HTTP/1.1"), format!("Host: {address}"));
        let mut stream = BufReader::new(send_lines(address, &[&start, &host, &bearer]));
        let head = Response::read_head(&mut stream);
        assert_eq!(head.status(), 200, "{}", head.head);
        let stream = BufReader::new(Chunks::new(stream));
        let mut client = Self { stream, address, bearer, stream_id: String::new(), last_id: None };
        client.stream_id = client.wait_for("ready")["stream"].as_str().unwrap().to_owned();
        client
    }

    /// Posts a frame, and returns the status of the response.
    pub fn post(&self, frame: &Value) -> u16 {
        self.post_text(&frame.to_string())
    }

    fn post_text(&self, frame: &str) -> u16 {
        let head = format!(
            "POST /messages HTTP/1.1\r\nHost: {}\r\n{}\r\nSwitchboard-Stream: {}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.address,
            self.bearer,
            self.stream_id,
            frame.len()
        );
        let mut stream = connect(self.address);
        stream.write_all(format!("{head}{frame}").as_bytes()).unwrap();
        Response::read(stream).status()
    }
}

impl Client for SseClient {
    fn send_text(&mut self, text: &str) {
        assert_eq!(self.post_text(text), 202);
    }

    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        // A server that sends only comments would keep a single read from timing out.
        let deadline = Instant::now() + TIMEOUT;
        while Instant::now() < deadline && matches!(self.stream.read_line(&mut line), Ok(1..)) {
            if let Some(id) = line.strip_prefix("id: ") {
                self.last_id = Some(id.trim().to_owned());
            } else if let Some(data) = line.strip_prefix("data: ") {
                return Some(serde_json::from_str(data).unwrap());
            }
            line.clear();
        }
        None
    }
}

/// A client over a Unix socket.
#[derive(Debug)]
pub struct UnixClient(BufReader<UnixStream>);

impl UnixClient {
    /// Connects to the socket at this path.
    pub fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        Self(BufReader::new(stream))
    }
}

impl Client for UnixClient {
    fn send_text(&mut self, text: &str) {
        writeln!(self.0.get_mut(), "{text}").unwrap();
    }

    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).unwrap();
        (read > 0).then(|| serde_json::from_str(&line).unwrap())
    }
}
