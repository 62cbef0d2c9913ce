//! POSTs: which clients may post which frames to which stream, and the statuses of the responses.

use std::time::Duration;

use serde_json::json;
use switchboard_conformance::{
    WAIT, generous_limits,
    sse_client::{OpenStream, RawClient, post, post_with, request, status},
};
use switchboard_core::Limits;
use switchboard_transport_sse::Options;
use tokio::time::timeout;

use crate::server::Server;

const PING: &[u8] = br#"{"type":"ping"}"#;
const JSON: &str = "Content-Type: application/json";

#[tokio::test]
async fn a_post_needs_a_json_type_and_a_stream_of_its_principal() {
    let server = Server::new().await;
    let mut open = OpenStream::new(server.address, "/sse").await;
    let stream = format!("Switchboard-Stream: {}", open.name);
    let cases: [(&[&str], u16); 14] = [
        (&[&stream, JSON], 202),
        (&[&stream, "Content-Type: Application/JSON ; charset=utf-8"], 202),
        (&[&stream], 415),
        (&[&stream, "Content-Type: text/plain"], 415),
        (&[&stream, "Content-Type: text/plain; application/json"], 415),
        (&[&stream, "Content-Type: application/jsonx"], 415),
        (&[&stream, JSON, "Content-Type: text/plain"], 415),
        (&[JSON], 400),
        (&[JSON, &stream, &stream], 400),
        (&[JSON, "Switchboard-Stream: 00000000000000000000000000000000"], 410),
        (&[JSON, "Switchboard-Stream: "], 410),
        (&[&stream, JSON, "Authorization: nobody"], 401),
        (&[&stream, JSON, "Authorization: somebody"], 410),
        (&[&stream, JSON], 202),
    ];
    for (headers, expected) in cases {
        assert_eq!(post_with(server.address, headers, PING).await, expected, "{headers:?}");
    }
    for _ in 0..3 {
        assert_eq!(open.raw.event().await, json!({ "event": "pong" }));
    }
    open.works().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_frame_is_said_on_the_stream() {
    let server = Server::new().await;
    let mut open = OpenStream::new(server.address, "/sse").await;
    for (frame, code) in [
        (&b"{"[..], "malformed"),
        (b"hello", "malformed"),
        (b"\xff", "malformed"),
        (br#"{"type":"dance"}"#, "unknown_type"),
        (br#"{"content":"legacy"}"#, "missing_field"),
    ] {
        assert_eq!(post(server.address, &open.name, frame).await, 202);
        assert_eq!(open.raw.event().await["code"], code, "{frame:?}");
    }
    open.works().await;
}

#[tokio::test]
async fn a_frame_is_as_long_as_the_limit_and_no_longer() {
    let server = Server::with(Limits { frame_bytes: 2048, ..generous_limits() }, Options::default()).await;
    let mut open = OpenStream::new(server.address, "/sse").await;
    let mut frame = br#"{"type":"ping"}"#.to_vec();
    frame.resize(2048, b' ');
    assert_eq!(post(server.address, &open.name, &frame).await, 202);
    assert_eq!(open.raw.event().await["event"], "pong");
    frame.push(b' ');
    assert_eq!(post(server.address, &open.name, &frame).await, 413);
    // The limit also holds for a body without a `Content-Length`.
    let mut raw = RawClient::connect(server.address).await;
    let stream = format!("Switchboard-Stream: {}", open.name);
    let head = request("POST", "/messages", &[JSON, &stream, "Transfer-Encoding: chunked"], None);
    raw.write(format!("{head}801\r\n{}\r\n0\r\n\r\n", " ".repeat(2049)).as_bytes()).await;
    assert_eq!(status(&raw.head().await), 413);
    open.works().await;
}

#[tokio::test]
async fn a_body_has_its_time() {
    let options = Options { body_within: Duration::from_millis(100), ..Options::default() };
    let server = Server::with(generous_limits(), options).await;
    let mut open = OpenStream::new(server.address, "/sse").await;
    let stream = format!("Switchboard-Stream: {}", open.name);
    let mut raw = RawClient::connect(server.address).await;
    let head = request("POST", "/messages", &[JSON, &stream, "Content-Length: 100"], None);
    // The body is sent one byte at a time.
    raw.write(head.as_bytes()).await;
    let (mut reader, mut writer) = raw.io.into_split();
    let trickle = async {
        use tokio::io::AsyncWriteExt as _;
        while writer.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    };
    let answer = async {
        use tokio::io::AsyncReadExt as _;
        let mut answer = vec![0; 12];
        reader.read_exact(&mut answer).await.unwrap();
        answer
    };
    let answer = tokio::select! {
        answer = answer => answer,
        () = trickle => panic!("no answer"),
    };
    assert_eq!(answer, b"HTTP/1.1 408");
    open.works().await;
}

/// A stream whose client does not read takes no frames. Only POSTs to that stream are refused.
#[tokio::test]
async fn posts_to_a_stream_that_is_not_read_have_a_limit_and_a_time() {
    let options =
        Options { unanswered_posts: 2, answer_within: Duration::from_millis(300), ..Options::default() };
    let limits = Limits { outbox_bytes: 16 * 1024, reader_stall_ms: 60_000, ..generous_limits() };
    let server = Server::with(limits, options).await;
    let open =
        OpenStream::over(RawClient::connect_narrow(server.address).await, server.address, "/sse").await;
    let mut good = OpenStream::new(server.address, "/sse").await;
    let long = json!({ "type": "message", "chat_id": "c1", "content": "x".repeat(150_000), "turn_id": "t1" });
    good.post(&long.to_string()).await;
    good.raw.wait_for("message_accepted").await;
    let question = br#"{"type":"history","chat_id":"c1"}"#;
    // Posts until all buffers between the gateway and the client are full.
    let mut statuses = Vec::new();
    while !statuses.contains(&503) {
        assert!(statuses.len() < 1000, "it never fills");
        statuses.push(post(server.address, &open.name, question).await);
    }
    let all = tokio::join!(
        post(server.address, &open.name, PING),
        post(server.address, &open.name, PING),
        post(server.address, &open.name, PING),
        post(server.address, &open.name, PING),
    );
    let mut all = [all.0, all.1, all.2, all.3];
    all.sort_unstable();
    assert_eq!(all, [429, 429, 503, 503]);
    good.post(r#"{"type":"ping"}"#).await;
    good.raw.wait_for("pong").await;
    // When the stream ends, the POSTs that wait for it are answered.
    let waiting = post(server.address, &open.name, PING);
    let gone = async {
        tokio::task::yield_now().await;
        drop(open.raw);
    };
    assert!(matches!(tokio::join!(waiting, gone).0, 410 | 503));
    server.gateway.until(|counts| counts.connections == 1).await.unwrap();
    assert_eq!(post(server.address, &open.name, PING).await, 410);
}

#[tokio::test]
async fn frames_of_a_stream_are_served_in_the_order_of_their_answers() {
    let server = Server::new().await;
    let mut open = OpenStream::new(server.address, "/sse").await;
    for n in 0..200 {
        open.post(&format!(r#"{{"type":"ping","nonce":"{n}"}}"#)).await;
    }
    for n in 0..200 {
        assert_eq!(open.raw.event().await["nonce"], n.to_string());
    }
}

#[tokio::test]
async fn several_posts_go_over_one_connection() {
    let server = Server::new().await;
    let mut open = OpenStream::new(server.address, "/sse").await;
    let stream = format!("Switchboard-Stream: {}", open.name);
    let mut raw = RawClient::connect(server.address).await;
    let one = request("POST", "/messages", &[JSON, &stream], Some(PING)) + std::str::from_utf8(PING).unwrap();
    raw.write(one.repeat(3).as_bytes()).await;
    for _ in 0..3 {
        assert_eq!(status(&raw.head().await), 202);
        assert_eq!(open.raw.event().await["event"], "pong");
    }
}

/// While the last event of a stream waits for its reader, POSTs to the stream are refused.
#[tokio::test]
async fn a_stream_that_is_being_closed_takes_no_frames() {
    let limits = Limits { outbox_bytes: 16 * 1024, reader_stall_ms: 300, ..generous_limits() };
    let options = Options { close_within: 2 * WAIT, ..Options::default() };
    let server = Server::with(limits, options).await;
    let open =
        OpenStream::over(RawClient::connect_narrow(server.address).await, server.address, "/sse").await;
    let long = json!({ "type": "message", "chat_id": "c1", "content": "x".repeat(150_000), "turn_id": "t1" });
    open.post(&long.to_string()).await;
    // Posts until the stream's outbox is full, and its reader has taken nothing for too long.
    let closed = async {
        let history = br#"{"type":"history","chat_id":"c1"}"#;
        loop {
            match post(server.address, &open.name, history).await {
                202 => {}
                410 => return,
                other => panic!("{other}"),
            }
        }
    };
    timeout(WAIT, closed).await.expect("the stream is closed");
    assert_eq!(
        server.gateway.handle().counts().await.unwrap().connections,
        1,
        "its last event is still to be taken"
    );
    assert_eq!(post(server.address, &open.name, PING).await, 410);
}
