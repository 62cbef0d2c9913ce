//! A connection to the gateway that runs at the moment, over WebSocket or the Unix socket.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use switchboard_test_support::TIMEOUT;
use tokio_tungstenite::tungstenite::{
    self, Message, WebSocket,
    client::IntoClientRequest,
    http::{HeaderValue, header},
};

use crate::{installation::Installation, recorder::View};

/// How long a read waits before the client continues with other work.
const READ_TIMEOUT: Duration = Duration::from_millis(20);
/// The longest handshake: the gateway may be stopped in the middle of it.
const HANDSHAKE: Duration = Duration::from_secs(40);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    WebSocket,
    Unix,
}

/// A connection that may end at any moment.
pub(crate) enum Connection {
    WebSocket(Box<WebSocket<TcpStream>>),
    Unix { stream: UnixStream, buffer: Vec<u8> },
}

/// The result of a read.
pub(crate) enum Received {
    Event(Value),
    Nothing,
    Closed,
}

impl Connection {
    /// Connects, if a gateway is listening.
    pub(crate) fn open(installation: &Installation, over: Over) -> Option<Self> {
        let (address, token) = (installation.address()?, installation.token()?);
        match over {
            Over::Unix => {
                let stream = UnixStream::connect(installation.data("socket")).ok()?;
                stream.set_read_timeout(Some(READ_TIMEOUT)).ok()?;
                stream.set_write_timeout(Some(TIMEOUT)).ok()?;
                Some(Self::Unix { stream, buffer: Vec::new() })
            }
            Over::WebSocket => {
                let stream = TcpStream::connect(address).ok()?;
                stream.set_read_timeout(Some(HANDSHAKE)).ok()?;
                stream.set_write_timeout(Some(TIMEOUT)).ok()?;
                let mut request = format!("ws://{address}/ws").into_client_request().unwrap();
                let bearer = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
                request.headers_mut().insert(header::AUTHORIZATION, bearer);
                let (socket, _) = tungstenite::client(request, stream).ok()?;
                socket.get_ref().set_read_timeout(Some(READ_TIMEOUT)).ok()?;
                Some(Self::WebSocket(Box::new(socket)))
            }
        }
    }

    /// Sends a frame. False: the connection has ended.
    pub(crate) fn send(&mut self, frame: &Value) -> bool {
        match self {
            Self::WebSocket(socket) => socket.send(Message::text(frame.to_string())).is_ok(),
            Self::Unix { stream, .. } => stream.write_all(format!("{frame}\n").as_bytes()).is_ok(),
        }
    }

    /// The next event, if one arrives in time.
    pub(crate) fn read(&mut self) -> Received {
        match self {
            Self::WebSocket(socket) => match socket.read() {
                Ok(Message::Text(text)) => Received::Event(serde_json::from_str(text.as_str()).unwrap()),
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_)) => {
                    Received::Nothing
                }
                Err(tungstenite::Error::Io(error)) if is_silence(&error) => Received::Nothing,
                Ok(Message::Close(_)) | Err(_) => Received::Closed,
            },
            Self::Unix { stream, buffer } => {
                let mut some = [0; 64 * 1024];
                loop {
                    if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                        let line: Vec<u8> = buffer.drain(..=end).collect();
                        return Received::Event(serde_json::from_slice(&line).unwrap());
                    }
                    match stream.read(&mut some) {
                        Ok(0) => return Received::Closed,
                        Ok(bytes) => buffer.extend_from_slice(&some[..bytes]),
                        Err(error) if is_silence(&error) => return Received::Nothing,
                        Err(_) => return Received::Closed,
                    }
                }
            }
        }
    }

    /// Waits for the first event that satisfies the condition. `None`: the connection has ended, or no such event arrived
    /// in time.
    pub(crate) fn wait(&mut self, mut wanted: impl FnMut(&Value) -> bool) -> Option<Value> {
        let deadline = Instant::now() + TIMEOUT;
        while Instant::now() < deadline {
            match self.read() {
                Received::Event(event) if wanted(&event) => return Some(event),
                Received::Event(_) | Received::Nothing => {}
                Received::Closed => return None,
            }
        }
        None
    }
}

fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

/// A client that a test controls step by step. It applies all events to the views of its chats.
pub(crate) struct Client {
    pub(crate) connection: Connection,
    pub(crate) views: Vec<View>,
    /// Events of no chat's log, newest last.
    pub(crate) control: Vec<Value>,
}

impl Client {
    pub(crate) fn connect(installation: &Installation, over: Over) -> Self {
        Self { connection: connect_when_ready(installation, over), views: Vec::new(), control: Vec::new() }
    }

    /// Reconnects after the connection was lost, and resumes with its cursors.
    pub(crate) fn reconnect(&mut self, installation: &Installation, over: Over) {
        self.connection = connect_when_ready(installation, over);
        for view in self.views.clone() {
            self.attach(&view.chat);
        }
    }

    pub(crate) fn send(&mut self, frame: &Value) {
        assert!(self.connection.send(frame), "the connection has ended");
    }

    pub(crate) fn attach(&mut self, chat: &str) {
        let view = self.view(chat);
        let mut frame = json!({"type": "attach", "chat_id": chat});
        if view.begun {
            frame["after"] = json!({"epoch": view.epoch, "seq": view.cursor});
        }
        self.send(&frame);
    }

    pub(crate) fn message(&mut self, chat: &str, turn: &str, content: &str) {
        self.view(chat);
        self.send(&message(chat, turn, content));
    }

    pub(crate) fn view(&mut self, chat: &str) -> &mut View {
        if let Some(at) = self.views.iter().position(|view| view.chat == chat) {
            return &mut self.views[at];
        }
        self.views.push(View::new("the client", chat));
        self.views.last_mut().unwrap()
    }

    /// Applies events until one satisfies the condition, and returns it. The connection must not end.
    pub(crate) fn until(&mut self, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            assert!(
                Instant::now() < deadline,
                "it did not come: {what}; what came last: {:?}",
                self.control.last()
            );
            match self.connection.read() {
                Received::Nothing => {}
                Received::Closed => panic!("closed before {what}"),
                Received::Event(event) => {
                    self.take(&event);
                    if wanted(&event) {
                        return event;
                    }
                }
            }
        }
    }

    pub(crate) fn until_kind(&mut self, kind: &str) -> Value {
        self.until(kind, |event| event["event"] == *kind)
    }

    /// Applies events until the connection ends.
    pub(crate) fn until_closed(&mut self) {
        let deadline = Instant::now() + TIMEOUT;
        while Instant::now() < deadline {
            match self.connection.read() {
                Received::Nothing => {}
                Received::Closed => return,
                Received::Event(event) => self.take(&event),
            }
        }
        panic!("the connection did not end");
    }

    fn take(&mut self, event: &Value) {
        if let Some(chat) = event["chat_id"].as_str().filter(|_| event["event"] != "ready") {
            take(self.view(chat), event).unwrap();
        }
        if event.get("seq").is_none() {
            self.control.push(event.clone());
        }
    }
}

/// Applies an event to the view of its chat.
pub(crate) fn take(view: &mut View, event: &Value) -> Result<(), String> {
    match event["event"].as_str().unwrap_or_default() {
        "attached" => view.attached(event),
        "snapshot" => view.snapshot(event),
        "replay_end" if event["seq"].as_u64() != Some(view.cursor) => {
            Err(format!("{}: at {} is told {event}", view.who, view.cursor))
        }
        "message_accepted" if event["duplicate"] == true => Ok(()),
        "replay_end" | "history" => Ok(()),
        _ if event.get("seq").is_some() => view.event(event),
        _ => Ok(()),
    }
}

pub(crate) fn message(chat: &str, turn: &str, content: &str) -> Value {
    json!({"type": "message", "chat_id": chat, "turn_id": turn, "content": content})
}

/// Connects as soon as a gateway is listening.
pub(crate) fn connect_when_ready(installation: &Installation, over: Over) -> Connection {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(connection) = Connection::open(installation, over) {
            return connection;
        }
        assert!(Instant::now() < deadline, "nobody could be connected to: {}", installation.log_end());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The whole log of a chat: by pages of history, and once more by a replay from its beginning.
pub(crate) fn whole_log(installation: &Arc<Installation>, chat: &str) -> Option<(View, View)> {
    let mut connection = connect_when_ready(installation, Over::Unix);
    let mut paged = View::new("history", chat);
    let mut before = None;
    loop {
        let mut frame = json!({"type": "history", "chat_id": chat});
        if let Some(before) = before {
            frame["before"] = before;
        }
        connection.send(&frame);
        let answer = connection.wait(|event| event["event"] == "history" || event["event"] == "error")?;
        if answer["event"] == "error" {
            return (answer["code"] == "unknown_chat").then(|| (paged, View::new("replay", chat)));
        }
        paged.prepend(answer["events"].as_array()?);
        match answer.get("before") {
            Some(next) => before = Some(next.clone()),
            None => break,
        }
    }
    paged.settle();
    let mut replayed = View::new("replay", chat);
    (replayed.begun, replayed.epoch) = (true, paged.epoch.clone());
    connection.send(&json!({"type": "attach", "chat_id": chat, "after": {"epoch": paged.epoch, "seq": 0}}));
    loop {
        let event = connection.wait(|event| event["event"] != "ready")?;
        take(&mut replayed, &event).unwrap();
        if event["event"] == "replay_end" {
            return Some((paged, replayed));
        }
    }
}
