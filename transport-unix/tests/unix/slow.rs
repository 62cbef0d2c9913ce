//! A client that does not read. No other client waits for it, it learns why it was closed, and it can resume.

use std::time::Duration;

use switchboard_conformance::{ReceivedCommand, Transcript, generous_limits};
use switchboard_core::{
    Limits,
    agent::{AgentCommand, AgentEvent},
    wire::Outcome,
};
use switchboard_transport_unix::Options;

use crate::server::{Raw, Server};

/// A limit that no test reaches, however slow the machine is.
const EVER: Duration = Duration::from_secs(24 * 3600);
/// The limit for readers that take nothing. On a slow machine it does not hit readers that read: the gateway notices if
/// it has not run for this long.
const STALL: Duration = Duration::from_secs(2);
const PIECES: usize = 100;
const PIECE: usize = 48 * 1024;

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap()
}

/// Reads until the turn's end or the last line, and returns the close code of the last line.
async fn read_on(raw: &mut Raw, transcript: &mut Transcript) -> Option<u64> {
    while !transcript.has("turn_end") {
        let line = raw.next().await.expect("the connection lives");
        transcript.take(&line).unwrap();
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        if let Some(close) = event["close"].as_u64() {
            return Some(close);
        }
    }
    None
}

#[tokio::test]
async fn who_stops_reading_is_closed_and_resumes_and_nobody_waits_for_it() {
    let limits = Limits { reader_stall_ms: millis(STALL), ..generous_limits() };
    let server = Server::with(limits, Options { close_within: EVER, ..Options::default() }).await;
    let mut stuck = Raw::open(&server.path).await;
    stuck.line(r#"{"type":"message","chat_id":"c1","content":"go","turn_id":"t1"}"#).await;
    let agents = server.gateway.agents();
    while !matches!(agents.received("c1").await, Some(ReceivedCommand::Command(AgentCommand::Prompt { .. })))
    {
    }
    let mut seen = Transcript::default();
    while !seen.has("turn_started") {
        seen.take(&stuck.next().await.unwrap()).unwrap();
    }
    let mut good = Raw::open(&server.path).await;
    let mut whole = seen.clone();
    let attach = |transcript: &Transcript| {
        serde_json::json!({ "type": "attach", "chat_id": "c1", "after": transcript.cursor() }).to_string()
    };
    good.line(&attach(&whole)).await;
    let flood = async {
        for _ in 0..PIECES {
            let events = vec![AgentEvent::Text { stream: "s1".into(), text: "x".repeat(PIECE) }];
            agents.send("c1", events).unwrap().await.unwrap();
        }
        let outcome = Outcome::Completed;
        let end = AgentEvent::TurnEnded { outcome, error: None, usage: None, cost: None };
        agents.send("c1", vec![end]).unwrap().await.unwrap();
    };
    let ((), closed) = tokio::join!(flood, read_on(&mut good, &mut whole));
    assert_eq!(closed, None);
    assert_eq!(whole.text().len(), PIECES * PIECE);
    // The client reads again only after the gateway has closed it.
    server.gateway.stalled_readers_closed().await.unwrap();
    assert_eq!(read_on(&mut stuck, &mut seen).await, Some(4408));
    assert_eq!(stuck.next().await, None);
    let mut again = Raw::open(&server.path).await;
    again.line(&attach(&seen)).await;
    assert_eq!(read_on(&mut again, &mut seen).await, None);
    assert_eq!(seen.lines(), whole.lines());
}
