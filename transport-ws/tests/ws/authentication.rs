//! Credentials in the first frame.

use std::time::Duration;

use switchboard_conformance::generous_limits;
use switchboard_transport_ws::Options;

use crate::{
    raw::{BINARY, CLOSE, PING, PONG, PROTOCOL, Raw, TEXT, UPGRADE, frame, header},
    server::{Server, TOKEN, first_frame},
};

async fn server() -> Server {
    let options = Options { authenticate_within: Duration::from_millis(500), ..Options::default() };
    Server::with(generous_limits(), options, first_frame()).await
}

async fn upgraded(server: &Server) -> Raw {
    let mut raw = Raw::connect(server.address).await;
    raw.upgrade(PROTOCOL).await;
    raw
}

fn credentials(token: &str) -> String {
    format!(r#"{{"type":"authenticate","token":"{token}"}}"#)
}

#[tokio::test]
async fn the_right_token_is_greeted() {
    let server = server().await;
    let mut raw = upgraded(&server).await;
    raw.text(&credentials(TOKEN)).await;
    assert_eq!(raw.event().await["event"], "ready");
    raw.works().await;
    // A second `authenticate` is allowed.
    raw.text(&credentials("another")).await;
    raw.works().await;
}

#[tokio::test]
async fn the_same_segment_may_hold_the_request_the_token_and_more() {
    let server = server().await;
    let mut raw = Raw::connect(server.address).await;
    let mut bytes = format!("{UPGRADE}{PROTOCOL}\r\n").into_bytes();
    bytes.extend(frame(TEXT, credentials(TOKEN).as_bytes()));
    let nonce = "n".repeat(100);
    for _ in 0..100 {
        bytes.extend(frame(TEXT, format!(r#"{{"type":"ping","nonce":"{nonce}"}}"#).as_bytes()));
    }
    raw.write(&bytes).await;
    raw.head().await;
    assert_eq!(raw.event().await["event"], "ready");
    for _ in 0..100 {
        assert_eq!(raw.event().await["nonce"], *nonce);
    }
}

#[tokio::test]
async fn anything_else_is_closed() {
    let server = server().await;
    let long = credentials(&"x".repeat(5000));
    for (name, first, payload) in [
        ("a wrong token", TEXT, credentials("wrong")),
        ("an empty token", TEXT, credentials("")),
        ("another frame", TEXT, r#"{"type":"ping"}"#.to_owned()),
        ("text of the older vocabulary", TEXT, "hello".to_owned()),
        ("no JSON", TEXT, "{".to_owned()),
        ("a binary frame", BINARY, credentials(TOKEN)),
        ("more than 4 KiB", TEXT, long),
    ] {
        let mut raw = upgraded(&server).await;
        raw.send(first, payload.as_bytes()).await;
        let (code, reason) = raw.closed().await;
        assert_eq!(code, 4401, "{name}: {reason}");
        assert!(!reason.is_empty() && !reason.contains("wrong\""), "{name}: {reason}");
        raw.ended().await;
    }
    assert_eq!(server.gateway.handle().counts().await.unwrap().connections, 0);
}

#[tokio::test]
async fn a_client_that_sends_nothing_is_closed() {
    let server = server().await;
    let mut raw = upgraded(&server).await;
    assert_eq!(raw.closed().await.0, 4401);
}

#[tokio::test]
async fn a_client_that_never_ends_its_frame_is_closed() {
    let server = server().await;
    let mut raw = upgraded(&server).await;
    raw.write(&header(TEXT, 100)).await;
    assert_eq!(raw.closed().await.0, 4401);
}

#[tokio::test]
async fn pings_before_the_token_are_answered_after_it_and_win_no_time() {
    let server = server().await;
    let mut raw = upgraded(&server).await;
    raw.send(PING, b"x").await;
    raw.text(&credentials(TOKEN)).await;
    let mut frames = vec![raw.next().await.unwrap().first, raw.next().await.unwrap().first];
    frames.sort_unstable();
    assert_eq!(frames, [TEXT, PONG], "ready and the pong, in whatever order");
    raw.works().await;

    let mut raw = upgraded(&server).await;
    while raw.io.try_write(&frame(PING, b"")).is_ok() && raw.is_open().await {}
    assert_eq!(raw.closed().await.0, 4401);
}

#[tokio::test]
async fn a_close_before_the_token_ends_the_connection() {
    let server = server().await;
    let mut raw = upgraded(&server).await;
    raw.send(CLOSE, &[0x03, 0xe8]).await;
    raw.ended().await;
    assert_eq!(server.gateway.handle().counts().await.unwrap().connections, 0);
}
