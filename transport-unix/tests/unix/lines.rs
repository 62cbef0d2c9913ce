//! Lines in both directions: an invalid line gets an error with its code, and the connection still works.

use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::server::{Raw, Server};

/// The name of a case, an invalid line, and the code of its error.
const SOFT: &[(&str, &[u8], &str)] = &[
    ("no JSON", b"{", "malformed"),
    ("an array", b"[]", "malformed"),
    ("text of the older vocabulary", b"hello", "malformed"),
    ("an object without a type", b"{\"content\":\"hello\"}", "missing_field"),
    ("an unknown type", b"{\"type\":\"dance\"}", "unknown_type"),
    ("a type that is no text", b"{\"type\":1}", "invalid_field"),
    ("an unknown chat", b"{\"type\":\"attach\",\"chat_id\":\"nowhere\"}", "unknown_chat"),
    ("no content", b"{\"type\":\"message\",\"chat_id\":\"c1\"}", "missing_field"),
    ("no UTF-8", b"{\"type\":\"ping\",\"nonce\":\"\xff\"}", "malformed"),
    ("half a character", b"\xc3", "malformed"),
    ("a NUL", b"\0", "malformed"),
];

#[tokio::test]
async fn what_is_wrong_is_said_and_the_next_line_works() {
    let server = Server::new().await;
    let mut raw = Raw::open(&server.path).await;
    for (name, line, expected) in SOFT {
        raw.write(&[line, &b"\n"[..]].concat()).await;
        let error = raw.event().await;
        assert_eq!(error["event"], "error", "{name}: {error}");
        assert_eq!(error["code"], *expected, "{name}: {error}");
        assert_eq!(error.get("close"), None, "{name}");
        raw.works().await;
    }
    let depth = 400_000;
    raw.line(&format!(r#"{{"type":"ping","x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth))).await;
    assert_eq!(raw.event().await["code"], "too_large");
    raw.works().await;
}

#[tokio::test]
async fn blank_lines_and_carriage_returns_do_no_harm() {
    let server = Server::new().await;
    let mut raw = Raw::open(&server.path).await;
    raw.write(b"\n \r\n\t\n{\"type\":\"ping\"}\r\n").await;
    assert_eq!(raw.event().await, json!({ "event": "pong" }));
}

#[tokio::test]
async fn lines_arrive_however_they_are_cut() {
    let server = Server::new().await;
    let mut raw = Raw::open(&server.path).await;
    for byte in b"{\"type\":\"ping\",\"nonce\":\"\xc3\xa9\"}\n" {
        raw.write(&[*byte]).await;
    }
    assert_eq!(raw.event().await["nonce"], "é");
    raw.write(&b"{\"type\":\"ping\"}\n".repeat(1000)).await;
    for _ in 0..1000 {
        assert_eq!(raw.event().await, json!({ "event": "pong" }));
    }
}

#[tokio::test]
async fn a_line_over_the_limit_is_the_last() {
    let server = Server::new().await;
    let limit = server.gateway.handle().limits().frame_bytes;
    let mut good = Raw::open(&server.path).await;
    // The longest frame that is allowed.
    let ping = r#"{"type":"ping"}"#;
    good.line(&format!("{ping}{}", " ".repeat(limit - ping.len()))).await;
    assert_eq!(good.event().await, json!({ "event": "pong" }));
    for (over, end) in [(limit + 1, "\n"), (limit + 1, ""), (40 << 20, "")] {
        let raw = Raw::open(&server.path).await;
        let (reader, mut writer) = raw.io.into_split();
        let line = format!("{}{end}", "x".repeat(over));
        let writing = tokio::spawn(async move {
            // The server may close the connection at any byte.
            let _ = writer.write_all(line.as_bytes()).await;
            writer
        });
        let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(reader));
        let last: serde_json::Value =
            serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
        assert_eq!((&last["code"], &last["close"]), (&json!("too_large"), &json!(1009)), "{over}");
        assert!(!matches!(lines.next_line().await, Ok(Some(_))), "nothing follows");
        drop(writing.await.unwrap());
    }
    server.gateway.until(|counts| counts.connections == 1).await.unwrap();
    good.works().await;
}

#[tokio::test]
async fn a_line_that_ends_with_the_stream_is_a_line() {
    let server = Server::new().await;
    let mut raw = Raw::open(&server.path).await;
    raw.write(br#"{"type":"ping","nonce":"last"}"#).await;
    raw.io.shutdown().await.unwrap();
    assert_eq!(raw.event().await["nonce"], "last");
}

/// `echo … | socat - UNIX:PATH`: a client that has closed its sending half still receives the answer.
#[tokio::test]
async fn a_client_that_closed_its_sending_side_still_receives() {
    use switchboard_conformance::ReceivedCommand;
    use switchboard_core::{
        agent::{AgentCommand, AgentEvent},
        wire::Outcome,
    };
    let server = Server::new().await;
    let mut raw = Raw::connect(&server.path).await;
    raw.write(br#"{"type":"message","chat_id":"c1","content":"hi","turn_id":"t1"}"#).await;
    raw.io.shutdown().await.unwrap();
    let agents = server.gateway.agents();
    while !matches!(agents.received("c1").await, Some(ReceivedCommand::Command(AgentCommand::Prompt { .. })))
    {
    }
    let end = AgentEvent::TurnEnded { outcome: Outcome::Completed, error: None, usage: None, cost: None };
    agents.send("c1", vec![AgentEvent::Message { text: "ho".to_owned() }, end]).unwrap().await.unwrap();
    let mut heard = Vec::new();
    while heard.last().is_none_or(|event| event != "turn_end") {
        heard.push(raw.event().await["event"].as_str().unwrap().to_owned());
    }
    assert!(heard.contains(&"message".to_owned()), "{heard:?}");
    drop(raw);
    server.gateway.until(|counts| counts.connections == 0).await.unwrap();
}
