//! The ends of connections: both sides learn the reason, and no task or connection remains.

use serde_json::json;
use switchboard_core::agent::AgentEvent;
use tokio::runtime::Handle;

use crate::{
    raw::{CLOSE, Raw, TEXT, UPGRADE, frame},
    server::{Server, until},
};

#[tokio::test]
async fn a_close_is_answered_with_its_code() {
    let server = Server::new().await;
    for code in [1000_u16, 1001, 3000, 4999] {
        let mut raw = Raw::open(server.address).await;
        raw.send(CLOSE, &code.to_be_bytes()).await;
        assert_eq!(raw.closed().await.0, code);
        raw.ended().await;
    }
    server.gateway.until(|counts| counts.connections == 0).await.unwrap();
}

#[tokio::test]
async fn a_close_with_an_illegal_code_is_an_error() {
    let server = Server::new().await;
    for payload in [&[0x03][..], &[0, 0], &1005_u16.to_be_bytes(), &1006_u16.to_be_bytes(), b"\x03\xe8\xff"] {
        let mut raw = Raw::open(server.address).await;
        raw.send(CLOSE, payload).await;
        let (code, _) = raw.closed().await;
        assert!(matches!(code, 1002 | 1007), "{payload:?}: {code}");
        raw.ended().await;
    }
    server.gateway.until(|counts| counts.connections == 0).await.unwrap();
}

#[tokio::test]
async fn what_was_sent_before_a_close_is_done() {
    let server = Server::new().await;
    let mut raw = Raw::open(server.address).await;
    let message = json!({ "type": "message", "chat_id": "c1", "content": "hi", "turn_id": "t1" });
    let both = [frame(TEXT, message.to_string().as_bytes()), frame(CLOSE, &1000_u16.to_be_bytes())].concat();
    raw.write(&both).await;
    raw.ended().await;
    let mut raw = Raw::open(server.address).await;
    raw.text(&message.to_string()).await;
    loop {
        let event = raw.event().await;
        if event["event"] == "message_accepted" {
            assert_eq!(event["duplicate"], true);
            break;
        }
    }
}

#[tokio::test]
async fn a_stop_reaches_the_peers() {
    let mut server = Server::new().await;
    let mut raw = Raw::open(server.address).await;
    server.gateway.handle().shut_down();
    let (code, reason) = raw.closed().await;
    assert_eq!(code, 1012, "{reason}");
    assert!(!reason.is_empty());
    raw.ended().await;
    server.gateway.finished().await.unwrap();
    // A client that connects after the shutdown gets the same close code.
    let mut late = Raw::connect(server.address).await;
    late.upgrade("").await;
    assert_eq!(late.closed().await.0, 1012);
}

#[tokio::test]
async fn half_a_frame_is_no_frame() {
    let server = Server::new().await;
    let message = r#"{"type":"message","chat_id":"c1","content":"hi","turn_id":"t1"}"#;
    let whole = frame(TEXT, message.as_bytes());
    for cut in [1, 2, 5, 7, whole.len() - 1] {
        let mut raw = Raw::open(server.address).await;
        raw.write(&whole[..cut]).await;
        drop(raw);
    }
    server.gateway.until(|counts| counts.connections == 0).await.unwrap();
    let mut raw = Raw::open(server.address).await;
    raw.text(r#"{"type":"list_chats"}"#).await;
    assert_eq!(raw.event().await["chats"], json!([]));
}

/// While a turn runs, clients disappear in every possible way. No task or connection remains, and the turn continues.
#[tokio::test]
async fn many_connections_leave_nothing_behind() {
    let server = Server::new().await;
    let mut good = Raw::open(server.address).await;
    good.text(r#"{"type":"message","chat_id":"c1","content":"hi","turn_id":"t1"}"#).await;
    while good.event().await["event"] != "goal_status" {}
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for round in 0..200 {
        match round % 7 {
            // A connection without a request.
            0 => drop(Raw::connect(server.address).await),
            1 => Raw::connect(server.address).await.write(&UPGRADE.as_bytes()[..30]).await,
            2 => Raw::connect(server.address).await.write(format!("{UPGRADE}\r\n").as_bytes()).await,
            3 => {
                let mut raw = Raw::open(server.address).await;
                raw.text(r#"{"type":"attach","chat_id":"c1"}"#).await;
            }
            4 => {
                let mut raw = Raw::open(server.address).await;
                raw.send(CLOSE, &[]).await;
                raw.ended().await;
            }
            5 => {
                let mut raw = Raw::open(server.address).await;
                raw.text(r#"{"type":"attach","chat_id":"c1"}"#).await;
                raw.io.set_zero_linger().unwrap();
            }
            _ => Raw::open(server.address).await.write(&[0x81, 0xfe]).await,
        }
        let said = server.gateway.agents().send("c1", vec![AgentEvent::Progress { text: round.to_string() }]);
        said.unwrap().await.unwrap();
    }
    server.gateway.until(|counts| counts.connections == 1).await.unwrap();
    until("all tasks have ended", async || tasks() <= before).await;
    let counts = server.gateway.handle().counts().await.unwrap();
    assert_eq!((counts.connections, counts.chats, counts.agents), (1, 1, 1));
    let mut said = 0;
    while said < 200 {
        let event = good.event().await;
        said += u32::from(event["text"].as_str() == Some(said.to_string().as_str()));
    }
    good.works().await;
}
