//! Clients that do not read, or not fast enough. No other client waits for them, they lose no event, and once the
//! gateway has closed them, they use no memory, task or socket.

use std::time::Duration;

use switchboard_conformance::{
    ReceivedCommand, Transcript, WAIT, generous_limits,
    sse_client::{OpenStream, RawClient},
};
use switchboard_core::{
    Limits,
    agent::{AgentCommand, AgentEvent},
    wire::Outcome,
};
use switchboard_transport_sse::Options;
use tokio::{io::AsyncReadExt as _, runtime::Handle, time::timeout};

use crate::server::Server;

/// A limit that no test reaches, however slow the machine is.
const EVER: Duration = Duration::from_secs(24 * 3600);
/// The limit for readers that take nothing. On a slow machine it does not hit readers that read: the gateway notices if
/// it has not run for this long.
const STALL: Duration = Duration::from_secs(2);
/// Together, more bytes than the socket buffers of loopback hold.
const PIECES: usize = 300;
const PIECE: usize = 48 * 1024;

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap()
}

/// A server that closes a stream only if its client takes nothing for this long.
async fn patient(stall: Duration) -> Server {
    let limits = Limits { reader_stall_ms: millis(stall), merge_bytes: 0, ..generous_limits() };
    let options = Options { close_within: EVER, ..Options::default() };
    Server::noticing(limits, options, EVER).await
}

/// Starts a turn, and returns what its sender has received.
async fn turn(server: &Server, sender: &mut OpenStream) -> Transcript {
    sender.post(r#"{"type":"message","chat_id":"c1","content":"go","turn_id":"t1"}"#).await;
    while !matches!(
        server.gateway.agents().received("c1").await,
        Some(ReceivedCommand::Command(AgentCommand::Prompt { .. }))
    ) {}
    let mut transcript = Transcript::default();
    while !transcript.has("turn_started") {
        transcript.take(&sender.raw.event().await.to_string()).unwrap();
    }
    transcript
}

/// Lets the agent send a long answer, as fast as the gateway takes it.
async fn flood(server: &Server, pieces: usize, piece: usize) {
    for at in 0..pieces {
        let text = format!("{at:08}{}", "x".repeat(piece - 8));
        let events = vec![AgentEvent::Text { stream: "s1".into(), text }];
        server.gateway.agents().send("c1", events).unwrap().await.unwrap();
    }
    let outcome = Outcome::Completed;
    let end = AgentEvent::TurnEnded { outcome, error: None, usage: None, cost: None };
    server.gateway.agents().send("c1", vec![end]).unwrap().await.unwrap();
}

/// Reads until the turn's end or the stream's last event. Returns the close code of the last event, and the last id.
async fn read_on(raw: &mut RawClient, transcript: &mut Transcript) -> (Option<u64>, String) {
    let mut last = String::new();
    while !transcript.has("turn_end") {
        let (event, id) = raw.event_and_id().await;
        last = id.unwrap_or(last);
        transcript.take(&event.to_string()).unwrap();
        if let Some(close) = event["close"].as_u64() {
            return (Some(close), last);
        }
    }
    (None, last)
}

#[tokio::test]
async fn who_stops_reading_is_closed_and_resumes_by_its_last_id_and_nobody_waits_for_it() {
    stops_reading(0, PIECES, PIECE).await;
}

/// With many chats and short deltas, event ids are most of the bytes.
#[tokio::test]
async fn who_stops_reading_a_stream_of_many_chats_resumes_by_its_last_id_all_the_same() {
    stops_reading(31, 5000, 10).await;
}

async fn stops_reading(others: usize, pieces: usize, piece: usize) {
    let server = patient(STALL).await;
    let mut stuck =
        OpenStream::over(RawClient::connect_narrow(server.address).await, server.address, "/sse").await;
    for _ in 0..others {
        stuck.post(r#"{"type":"new_chat"}"#).await;
        stuck.raw.wait_for("replay_end").await;
    }
    let mut seen = turn(&server, &mut stuck).await;
    let cursor = seen.cursor();
    let after = format!("/sse?after=c1@{}:{}", cursor["epoch"].as_str().unwrap(), cursor["seq"]);
    let mut good = OpenStream::new(server.address, &after).await;
    let mut whole = seen.clone();
    let ((), (closed, _)) = tokio::join!(flood(&server, pieces, piece), read_on(&mut good.raw, &mut whole));
    assert_eq!(closed, None);
    assert_eq!(whole.text().len(), pieces * piece);
    // The client reads again only after the gateway has closed it.
    server.gateway.stalled_readers_closed().await.unwrap();
    let (closed, last) = read_on(&mut stuck.raw, &mut seen).await;
    assert_eq!(closed, Some(4408));
    assert_eq!(stuck.raw.next().await, None);
    assert!(stuck.raw.is_whole());
    let mut again = RawClient::connect(server.address).await;
    again.get("/sse", &[&format!("Last-Event-ID: {last}")]).await;
    for _ in 0..others {
        again.wait_for("replay_end").await;
    }
    assert_eq!(read_on(&mut again, &mut seen).await.0, None);
    assert_eq!(seen.lines(), whole.lines());
}

#[tokio::test]
async fn a_client_that_reads_late_gets_everything() {
    // The reader takes nothing for as long as the answer takes, which depends on the machine.
    let server = patient(EVER).await;
    let mut late =
        OpenStream::over(RawClient::connect_narrow(server.address).await, server.address, "/sse").await;
    let mut transcript = turn(&server, &mut late).await;
    flood(&server, PIECES, PIECE).await;
    assert_eq!(read_on(&mut late.raw, &mut transcript).await.0, None);
    assert_eq!(transcript.text().len(), PIECES * PIECE);
    late.post(r#"{"type":"ping"}"#).await;
    late.raw.wait_for("pong").await;
}

/// The resident memory of this process, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// With the default limits of 10 s and 30 s, such a reader is gone within 45 s. Here the limits are shorter.
#[tokio::test]
async fn who_reads_a_byte_now_and_then_or_none_is_given_up_in_time_and_costs_nothing_then() {
    let limits = Limits { reader_stall_ms: millis(STALL), ..generous_limits() };
    let options = Options { close_within: STALL, ..Options::default() };
    let server = Server::with(limits, options).await;
    let mut good = OpenStream::new(server.address, "/sse").await;
    let mut whole = turn(&server, &mut good).await;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let mut slow = Vec::new();
    for _ in 0..10 {
        let mut open =
            OpenStream::over(RawClient::connect_narrow(server.address).await, server.address, "/sse?chat=c1")
                .await;
        open.raw.wait_for("replay_end").await;
        slow.push(open);
    }
    let memory = resident();
    let ((), (closed, _)) = tokio::join!(flood(&server, PIECES, PIECE), read_on(&mut good.raw, &mut whole));
    assert_eq!(closed, None, "nobody else waits for them");
    assert_eq!(whole.text().len(), PIECES * PIECE);
    let grown = resident().saturating_sub(memory);
    // The journal and this test's transcript each have the answer once; everything else is bounded.
    assert!(grown < 6 * PIECES * PIECE, "{grown} bytes more");
    let reading = async {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            for open in &mut slow[..5] {
                let _ = open.raw.io.try_read(&mut [0]);
            }
        }
    };
    let given_up = async {
        server.gateway.until(|counts| counts.connections == 1).await.unwrap();
        while tasks() > before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        () = reading => {}
        given_up = timeout(WAIT, given_up) => given_up.expect("all tasks have ended"),
    }
    // The sockets are closed, too.
    for mut open in slow {
        let mut rest = vec![0; 1 << 20];
        let end = async { while matches!(open.raw.io.read(&mut rest).await, Ok(1..)) {} };
        timeout(WAIT, end).await.expect("it ends");
    }
    good.post(r#"{"type":"ping"}"#).await;
    good.raw.wait_for("pong").await;
}
