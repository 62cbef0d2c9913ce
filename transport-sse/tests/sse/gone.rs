//! In whatever way a client disappears, the gateway notices, and no task or connection remains.

use std::time::Duration;

use serde_json::json;
use socket2::{SockFilter, SockRef};
use switchboard_conformance::{
    WAIT, generous_limits,
    sse_client::{OpenStream, RawClient, post, request},
};
use switchboard_core::agent::AgentEvent;
use switchboard_transport_sse::Options;
use tokio::{io::AsyncWriteExt as _, runtime::Handle, time::timeout};

use crate::server::Server;

/// Drops all packets to this socket, as if the cable were cut.
fn cut(raw: &RawClient) {
    // BPF_RET | BPF_K: keeps 0 bytes of each packet.
    let drop_all = SockFilter::new(0x06, 0, 0, 0);
    SockRef::from(&raw.io).attach_filter(&[drop_all]).unwrap();
}

/// With the default limits, a comment every 15 s and 30 s for its acknowledgement, this is noticed within 45 s. Here
/// the limits are shorter.
#[tokio::test]
async fn a_client_behind_a_cut_cable_is_noticed() {
    let options = Options { comment_every: Duration::from_millis(300), ..Options::default() };
    let server = Server::noticing(generous_limits(), options, Duration::from_secs(1)).await;
    let mut good = OpenStream::new(server.address, "/sse").await;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let dead = OpenStream::new(server.address, "/sse").await;
    cut(&dead.raw);
    server.gateway.until(|counts| counts.connections == 1).await.unwrap();
    let ended = async {
        while tasks() > before {
            tokio::task::yield_now().await;
        }
    };
    timeout(WAIT, ended).await.expect("all tasks have ended");
    assert_eq!(post(server.address, &dead.name, b"{}").await, 410);
    good.post(r#"{"type":"ping"}"#).await;
    good.raw.wait_for("pong").await;
}

#[tokio::test]
async fn a_client_that_closes_is_gone_at_once() {
    let server = Server::new().await;
    let open = OpenStream::new(server.address, "/sse").await;
    let OpenStream { raw, name, .. } = open;
    drop(raw);
    server.gateway.until(|counts| counts.connections == 0).await.unwrap();
    assert_eq!(post(server.address, &name, br#"{"type":"ping"}"#).await, 410);
    // A client that closes only its sending half is disconnected as well.
    let mut open = OpenStream::new(server.address, "/sse").await;
    open.raw.io.shutdown().await.unwrap();
    server.gateway.until(|counts| counts.connections == 0).await.unwrap();
}

#[tokio::test]
async fn half_a_request_is_none() {
    let server = Server::new().await;
    let open = OpenStream::new(server.address, "/sse").await;
    let stream = format!("Switchboard-Stream: {}", open.name);
    let frame = r#"{"type":"message","chat_id":"c1","content":"hi","turn_id":"t1"}"#;
    let headers = [&*stream, "Content-Type: application/json"];
    let whole = request("POST", "/messages", &headers, Some(frame.as_bytes())) + frame;
    for cut in [1, 30, whole.len() - frame.len() - 1, whole.len() - frame.len(), whole.len() - 1] {
        let mut raw = RawClient::connect(server.address).await;
        raw.write(&whole.as_bytes()[..cut]).await;
        drop(raw);
    }
    for cut in [1, 10, 25] {
        let mut raw = RawClient::connect(server.address).await;
        raw.write(&request("GET", "/sse", &[], None).as_bytes()[..cut]).await;
        drop(raw);
    }
    let mut open = open;
    open.works().await;
    open.post(r#"{"type":"list_chats"}"#).await;
    assert_eq!(open.raw.event().await["chats"], json!([]));
}

/// While a turn runs, clients disappear in every possible way. No task or connection remains, and the turn continues.
#[tokio::test]
async fn many_connections_leave_nothing_behind() {
    let server = Server::new().await;
    let mut good = OpenStream::new(server.address, "/sse").await;
    good.post(r#"{"type":"message","chat_id":"c1","content":"hi","turn_id":"t1"}"#).await;
    good.raw.wait_for("goal_status").await;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for round in 0..200 {
        match round % 6 {
            0 => drop(RawClient::connect(server.address).await),
            1 => RawClient::connect(server.address).await.write(b"GET /sse HT").await,
            2 => {
                RawClient::connect(server.address)
                    .await
                    .write(request("GET", "/sse", &[], None).as_bytes())
                    .await
            }
            3 => drop(OpenStream::new(server.address, "/sse?chat=c1").await),
            4 => {
                let open = OpenStream::new(server.address, "/sse?chat=c1").await;
                open.raw.io.set_zero_linger().unwrap();
            }
            _ => {
                let open = OpenStream::new(server.address, "/sse").await;
                open.post(r#"{"type":"attach","chat_id":"c1"}"#).await;
            }
        }
        let said = server.gateway.agents().send("c1", vec![AgentEvent::Progress { text: round.to_string() }]);
        said.unwrap().await.unwrap();
    }
    server.gateway.until(|counts| counts.connections == 1).await.unwrap();
    let ended = async {
        while tasks() > before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(WAIT, ended).await.expect("all tasks have ended");
    let counts = server.gateway.handle().counts().await.unwrap();
    assert_eq!((counts.connections, counts.chats, counts.agents), (1, 1, 1));
    let mut said = 0;
    while said < 200 {
        let event = good.raw.event().await;
        said += u32::from(event["text"].as_str() == Some(said.to_string().as_str()));
    }
    good.works().await;
}
