//! Clients that do not read, or not fast enough. No other client waits for them, and they lose no event.

use std::time::Duration;

use switchboard_conformance::{ReceivedCommand, Transcript, generous_limits};
use switchboard_core::{
    Limits,
    agent::{AgentCommand, AgentEvent},
    wire::Outcome,
};
use switchboard_transport_ws::Options;

use crate::{
    raw::{CLOSE, PING, Raw, TEXT},
    server::{Server, verified},
};

/// A limit that no test reaches, however slow the machine is.
const EVER: Duration = Duration::from_secs(24 * 3600);
/// The limit for readers that take nothing. On a slow machine it does not hit readers that read: the gateway notices if
/// it has not run for this long.
const STALL: Duration = Duration::from_secs(2);
/// Together, more bytes than the socket buffers of loopback hold.
const PIECES: usize = 400;
const PIECE: usize = 48 * 1024;

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap()
}

/// Options under which a client is closed only because it takes nothing.
fn patient() -> Options {
    Options { ping_every: EVER, close_within: EVER, ..Options::default() }
}

/// Starts a turn as the first client, and attaches the other clients to its chat.
async fn watched(server: &Server, names: &mut [&mut Raw]) {
    for (at, raw) in names.iter_mut().enumerate() {
        if at == 0 {
            raw.text(r#"{"type":"message","chat_id":"c1","content":"go","turn_id":"t1"}"#).await;
            while !matches!(
                server.gateway.agents().received("c1").await,
                Some(ReceivedCommand::Command(AgentCommand::Prompt { .. }))
            ) {}
        } else {
            raw.text(r#"{"type":"attach","chat_id":"c1"}"#).await;
            while raw.event().await["event"] != "replay_end" {}
        }
    }
}

/// Lets the agent send a long answer, as fast as the gateway takes it.
async fn flood(server: &Server) {
    for at in 0..PIECES {
        let text = format!("{at:08}{}", "x".repeat(PIECE - 8));
        let events = vec![AgentEvent::Text { stream: "s1".into(), text }];
        server.gateway.agents().send("c1", events).unwrap().await.unwrap();
    }
    let outcome = Outcome::Completed;
    let end = AgentEvent::TurnEnded { outcome, error: None, usage: None, cost: None };
    server.gateway.agents().send("c1", vec![end]).unwrap().await.unwrap();
}

/// Reads until the turn's end or the close, and returns the close code.
async fn read_on(raw: &mut Raw, transcript: &mut Transcript) -> Option<u16> {
    while !transcript.has("turn_end") {
        let frame = raw.next().await.expect("the connection lives");
        match frame.first {
            TEXT => transcript.take(std::str::from_utf8(&frame.payload).unwrap()).unwrap(),
            CLOSE => return Some(u16::from_be_bytes([frame.payload[0], frame.payload[1]])),
            PING => {}
            _ => panic!("{frame:?}"),
        }
    }
    None
}

fn is_whole(transcript: &Transcript) {
    let text = transcript.text();
    assert_eq!(text.len(), PIECES * PIECE);
    for (at, piece) in text.as_bytes().chunks(PIECE).enumerate() {
        assert_eq!(&piece[..8], format!("{at:08}").as_bytes());
    }
}

#[tokio::test]
async fn who_stops_reading_is_closed_and_resumes_and_nobody_waits_for_it() {
    let limits = Limits { reader_stall_ms: millis(STALL), ..generous_limits() };
    let server = Server::with(limits, patient(), verified()).await;
    let mut good = Raw::open(server.address).await;
    let mut stuck = Raw::connect_narrow(server.address).await;
    stuck.upgrade("").await;
    assert_eq!(stuck.event().await["event"], "ready");
    watched(&server, &mut [&mut good]).await;
    let mut seen = Transcript::default();
    stuck.text(r#"{"type":"attach","chat_id":"c1","after":{"epoch":"unknown","seq":0}}"#).await;
    // The snapshot has the beginning of the log.
    loop {
        let event = stuck.event().await;
        if event["event"] == "snapshot" {
            for event in event["events"].as_array().unwrap() {
                seen.take(&event.to_string()).unwrap();
            }
        }
        if event["event"] == "replay_end" {
            break;
        }
    }
    let mut whole = Transcript::default();
    let (_, closed) = tokio::join!(flood(&server), read_on(&mut good, &mut whole));
    assert_eq!(closed, None);
    is_whole(&whole);
    // The client reads again only after the gateway has closed it.
    server.gateway.stalled_readers_closed().await.unwrap();
    assert_eq!(read_on(&mut stuck, &mut seen).await, Some(4408));
    stuck.ended().await;
    assert!(seen.head() < whole.head());
    let mut again = Raw::open(server.address).await;
    let attach = serde_json::json!({ "type": "attach", "chat_id": "c1", "after": seen.cursor() });
    again.text(&attach.to_string()).await;
    assert_eq!(read_on(&mut again, &mut seen).await, None);
    is_whole(&seen);
    assert_eq!(seen.lines(), whole.lines());
}

#[tokio::test]
async fn a_client_that_reads_late_gets_everything() {
    // The reader takes nothing for as long as the answer takes, which depends on the machine.
    let limits = Limits { reader_stall_ms: millis(EVER), ..generous_limits() };
    let server = Server::with(limits, patient(), verified()).await;
    let mut late = Raw::connect_narrow(server.address).await;
    late.upgrade("").await;
    assert_eq!(late.event().await["event"], "ready");
    watched(&server, &mut [&mut late]).await;
    flood(&server).await;
    let mut transcript = Transcript::default();
    assert_eq!(read_on(&mut late, &mut transcript).await, None);
    is_whole(&transcript);
    late.works().await;
}
