//! Runs the program and talks to it over its socket.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;

struct Program {
    child: Child,
    directory: tempfile::TempDir,
}

impl Program {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_switchboard-example-embed"))
            .arg(directory.path().join("private/socket"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It listens once it has said so.
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("listening at "), "{line}");
        Self { child, directory }
    }

    fn connect(&self) -> Client {
        let socket = UnixStream::connect(self.directory.path().join("private/socket")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Client { lines: BufReader::new(socket.try_clone().unwrap()), socket }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One that has ended already is no failure of what was tested.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Client {
    lines: BufReader<UnixStream>,
    socket: UnixStream,
}

impl Client {
    fn send(&mut self, frame: &str) {
        writeln!(self.socket, "{frame}").unwrap();
    }

    /// The events up to one of this kind.
    fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut events: Vec<Value> = Vec::new();
        while events.last().is_none_or(|event| event["event"] != kind) {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "the end before {kind}: {events:?}");
            events.push(serde_json::from_str(&line).unwrap());
        }
        events
    }
}

fn text(events: &[Value]) -> String {
    events.iter().filter(|e| e["event"] == "delta").filter_map(|e| e["text"].as_str()).collect()
}

#[test]
fn it_counts_asks_and_stops() {
    let program = Program::start();
    let mut client = program.connect();
    client.send(r#"{"type":"message","chat_id":"c","content":"count to 5","turn_id":"t1"}"#);
    let events = client.until("turn_end");
    assert_eq!(text(&events), "1 2 3 4 5 ");
    assert_eq!(events.last().unwrap()["outcome"], "completed");

    client.send(r#"{"type":"message","chat_id":"c","content":"count to 1000","turn_id":"t2"}"#);
    let request = client.until("permission_request").pop().unwrap();
    // Somebody else, who comes later, sees the open request and answers it.
    let mut other = program.connect();
    other.send(r#"{"type":"attach","chat_id":"c"}"#);
    let snapshot = other.until("snapshot").pop().unwrap();
    let open = &snapshot["state"]["requests"][0]["request_id"];
    assert_eq!(open, &request["request_id"]);
    other.send(&format!(r#"{{"type":"respond","chat_id":"c","request_id":{open},"decision":"allow"}}"#));
    assert_eq!(client.until("request_resolved").pop().unwrap()["resolution"], "allowed");
    client.until("delta");
    other.send(r#"{"type":"cancel","chat_id":"c","turn_id":"t2"}"#);
    assert_eq!(client.until("turn_end").pop().unwrap()["outcome"], "cancelled");

    client.send(r#"{"type":"message","chat_id":"c","content":"count to 1000","turn_id":"t3"}"#);
    let request = client.until("permission_request").pop().unwrap();
    let open = &request["request_id"];
    client.send(&format!(r#"{{"type":"respond","chat_id":"c","request_id":{open},"decision":"deny"}}"#));
    let events = client.until("turn_end");
    assert!(events.iter().any(|event| event["text"] == "Then I do not count."), "{events:?}");
}
