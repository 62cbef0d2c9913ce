//! Runs the application, logs in, and talks to an agent as two users.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

use futures::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::time::timeout;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _},
};

const WAIT: Duration = Duration::from_secs(20);

struct Application {
    child: Child,
    host: String,
}

impl Application {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_switchboard-example-axum-app"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let host = line.strip_prefix("http://").unwrap().split('/').next().unwrap().to_owned();
        Self { child, host }
    }

    /// One request, and everything that is answered to it.
    fn request(&self, request: &str) -> String {
        let mut socket = TcpStream::connect(&self.host).unwrap();
        socket.set_read_timeout(Some(WAIT)).unwrap();
        socket.write_all(request.replace("HOST", &self.host).as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    fn log_in(&self, body: &str) -> Option<String> {
        let length = body.len();
        let answer = self.request(&format!(
            "POST /login HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: "))?;
        Some(cookie.split(';').next()?.to_owned())
    }

    async fn open(&self, cookie: Option<&str>, origin: Option<&str>) -> Result<Client, u16> {
        let mut request = format!("ws://{}/chat/ws", self.host).into_client_request().unwrap();
        let headers = [("cookie", cookie), ("origin", origin)];
        for (name, value) in headers.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        match connect_async(request).await {
            Ok((stream, _)) => Ok(Client(stream)),
            Err(Error::Http(refused)) => Err(refused.status().as_u16()),
            Err(other) => panic!("{other}"),
        }
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        // One that has ended already is no failure of what was tested.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Client(WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>);

impl Client {
    async fn send(&mut self, frame: &str) {
        self.0.send(Message::text(frame)).await.unwrap();
    }

    async fn until(&mut self, kind: &str) -> Value {
        loop {
            let message = timeout(WAIT, self.0.next()).await.unwrap().unwrap().unwrap();
            let Message::Text(text) = message else { continue };
            let event: Value = serde_json::from_str(&text).unwrap();
            if event["event"] == kind {
                return event;
            }
        }
    }
}

#[tokio::test]
async fn only_those_who_are_logged_in_pass_and_each_has_chats_of_their_own() {
    let application = Application::start();
    assert!(
        application.request("GET / HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n").contains("<form")
    );
    assert_eq!(application.log_in("alice guess"), None);
    let alice = application.log_in("alice wonderland").unwrap();
    let bob = application.log_in("bob builder").unwrap();

    assert_eq!(application.open(None, None).await.err(), Some(401));
    assert_eq!(application.open(Some("session=guess"), None).await.err(), Some(401));
    let foreign = application.open(Some(&alice), Some("http://evil.example")).await;
    assert_eq!(foreign.err(), Some(403), "another page's script has the cookie, too");

    let own = format!("http://{}", application.host);
    let mut client = application.open(Some(&alice), Some(&own)).await.unwrap();
    client.send(r#"{"type":"message","chat_id":"c","content":"hello"}"#).await;
    assert_eq!(client.until("message").await["text"], "5 letters");
    client.until("turn_end").await;

    let mut other = application.open(Some(&bob), None).await.unwrap();
    other.send(r#"{"type":"attach","chat_id":"c"}"#).await;
    assert_eq!(other.until("error").await["code"], "unknown_chat");
    let mut again = application.open(Some(&alice), None).await.unwrap();
    again.send(r#"{"type":"attach","chat_id":"c"}"#).await;
    assert_eq!(again.until("attached").await["chat_id"], "c");
}

/// The same conversation where no WebSocket gets through: a stream, and a request for each frame.
#[test]
fn a_stream_and_posts_do_the_same() {
    let application = Application::start();
    let alice = application.log_in("alice wonderland").unwrap();
    let refused = application.request("GET /chat/sse HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n");
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");

    let mut socket = TcpStream::connect(&application.host).unwrap();
    socket.set_read_timeout(Some(WAIT)).unwrap();
    let host = &application.host;
    write!(socket, "GET /chat/sse HTTP/1.1\r\nHost: {host}\r\nCookie: {alice}\r\n\r\n").unwrap();
    let mut lines = BufReader::new(socket).lines();
    let mut until = |kind: &str| loop {
        let line = lines.next().unwrap().unwrap();
        let Some(data) = line.strip_prefix("data: ") else { continue };
        let event: Value = serde_json::from_str(data).unwrap();
        if event["event"] == kind {
            return event;
        }
    };
    let ready = until("ready");
    let stream = ready["stream"].as_str().unwrap();
    let frame = r#"{"type":"message","chat_id":"c","content":"hello"}"#;
    let answer = application.request(&format!(
        "POST /chat/messages HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\nCookie: {alice}\r\n\
         Switchboard-Stream: {stream}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{frame}",
        frame.len()
    ));
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    assert_eq!(until("message")["text"], "5 letters");
    until("turn_end");
}
