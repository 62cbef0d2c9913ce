//! Streams: their events and ids, how a client resumes, and which requests are refused.

use axum::Extension;
use serde_json::{Value, json};
use std::time::Duration;
use switchboard_conformance::{
    ReceivedCommand, Transcript, generous_limits,
    sse_client::{OpenStream, RawClient, request, status},
};
use switchboard_core::{
    agent::{AgentCommand, AgentEvent, AgentExit},
    ids::Principal,
    wire::Outcome,
};
use switchboard_runtime::Admission;
use switchboard_transport_sse::{Options, router};
use tokio::net::TcpListener;

use crate::server::Server;

async fn prompted(server: &Server, chat: &str) {
    loop {
        let heard = server.gateway.agents().received(chat).await.expect("the agent is prompted");
        if matches!(heard, ReceivedCommand::Command(AgentCommand::Prompt { .. })) {
            return;
        }
    }
}

async fn say(server: &Server, chat: &str, text: &str) {
    let events = vec![AgentEvent::Text { stream: "s1".into(), text: text.to_owned() }];
    server.gateway.agents().send(chat, events).unwrap().await.unwrap();
}

fn message(chat: &str, turn: &str) -> String {
    json!({ "type": "message", "chat_id": chat, "content": "go", "turn_id": turn }).to_string()
}

#[tokio::test]
async fn nobody_on_the_way_may_keep_a_stream_or_hold_it_back() {
    let server = Server::new().await;
    let mut raw = RawClient::connect(server.address).await;
    let head = raw.get("/sse", &[]).await.to_ascii_lowercase();
    for line in [
        "content-type: text/event-stream\r\n",
        "cache-control: no-store, no-transform\r\n",
        "x-accel-buffering: no\r\n",
    ] {
        assert!(head.contains(line), "{head}");
    }
    let first = raw.next().await.unwrap();
    let retry = first.retry.unwrap();
    assert!((1000..=3000).contains(&retry), "{retry}");
    let ready: Value = serde_json::from_str(&first.data.unwrap()).unwrap();
    assert_eq!((&ready["event"], first.id), (&json!("ready"), None), "in the same block as the first event");
    assert_eq!(ready["stream"].as_str().unwrap().len(), 32, "128 bits");
}

#[tokio::test]
async fn retries_are_spread() {
    let server = Server::new().await;
    let mut told = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let mut raw = RawClient::connect(server.address).await;
        raw.get("/sse", &[]).await;
        told.insert(raw.next().await.unwrap().retry.unwrap());
    }
    assert!(told.len() > 5, "{told:?}");
}

#[tokio::test]
async fn an_idle_stream_has_comments() {
    let options = Options { comment_every: Duration::from_millis(50), ..Options::default() };
    let server = Server::with(generous_limits(), options).await;
    let mut open = OpenStream::new(server.address, "/sse").await;
    open.raw.comments(3).await;
    open.post(r#"{"type":"ping","nonce":"after comments"}"#).await;
    // Comments are no blocks of their own: `RawClient::next` asserts that each block has an event.
    let block = open.raw.next().await.unwrap();
    assert!(block.comments >= 3, "{block:?}");
    assert!(block.data.unwrap().contains("after comments"));
}

/// Some libraries report an empty event at each blank line, whatever stands before it.
#[tokio::test]
async fn no_block_of_a_stream_is_without_an_event() {
    let options = Options { comment_every: Duration::from_millis(10), ..Options::default() };
    let mut server = Server::with(generous_limits(), options).await;
    let mut open = OpenStream::new(server.address, "/sse").await;
    let mut transcript = Vec::new();
    for chat in ["c1", "c2"] {
        open.raw.comments(1).await;
        open.post(&message(chat, "t1")).await;
        prompted(&server, chat).await;
        say(&server, chat, "line one\n\n\nline two").await;
        while transcript
            .last()
            .is_none_or(|event: &Value| event["event"] != "delta" || event["chat_id"] != chat)
        {
            let block = open.raw.next().await.unwrap();
            transcript.push(serde_json::from_str(&block.data.unwrap()).unwrap());
        }
    }
    open.raw.comments(1).await;
    server.gateway.handle().shut_down();
    for chat in ["c1", "c2"] {
        server.gateway.agents().exit(chat, AgentExit::Stopped).unwrap();
    }
    while let Some(block) = open.raw.next().await {
        transcript.push(serde_json::from_str(&block.data.unwrap()).unwrap());
    }
    assert!(open.raw.is_whole(), "nothing follows the last event");
    assert!(transcript.iter().all(|event| event["event"].is_string()), "{transcript:?}");
    server.gateway.finished().await.unwrap();
}

#[tokio::test]
async fn with_one_chat_every_event_of_the_log_has_its_cursor() {
    let server = Server::new().await;
    let mut open = OpenStream::new(server.address, "/sse?client_id=me").await;
    open.post(&message("c1", "t1")).await;
    prompted(&server, "c1").await;
    say(&server, "c1", "hello").await;
    let (mut ids, mut transcript) = (Vec::new(), Transcript::default());
    while !transcript.has("delta") {
        let (event, id) = open.raw.event_and_id().await;
        transcript.take(&event.to_string()).unwrap();
        if let Some(seq) = event["seq"].as_u64() {
            let expected = format!("c1@{}:{seq}", event["epoch"].as_str().unwrap());
            assert_eq!(id, Some(expected.clone()), "{event}");
            ids.push(expected);
        } else if event["event"] != "attached" {
            assert_eq!(id, None, "{event}");
        }
    }
    let (first, last) = (&ids[0], ids.last().unwrap());
    // A client can resume after each id, by the URL and by the header, which takes precedence.
    for (at, id) in ids.iter().enumerate() {
        let after = format!("/sse?after={id}");
        for (target, header) in
            [(after.as_str(), None), (&*format!("/sse?after={first}"), Some(format!("Last-Event-ID: {id}")))]
        {
            let mut raw = RawClient::connect(server.address).await;
            let headers: Vec<&str> = header.iter().map(String::as_str).collect();
            raw.get(target, &headers).await;
            let attached = raw.wait_for("attached").await;
            assert_eq!(attached["recovered"], true);
            let mut come = Vec::new();
            loop {
                let (event, id) = raw.event_and_id().await;
                if event["event"] == "replay_end" {
                    assert_eq!(id.as_ref(), Some(last));
                    break;
                }
                come.push(id.unwrap());
            }
            come.dedup();
            let mut left = ids[at + 1..].to_vec();
            left.dedup();
            assert_eq!(come, left);
        }
    }
}

#[tokio::test]
async fn with_several_chats_every_event_of_the_log_carries_all_cursors() {
    let server = Server::new().await;
    let mut open = OpenStream::new(server.address, "/sse").await;
    for chat in ["a", "b"] {
        open.post(&message(chat, "t1")).await;
        prompted(&server, chat).await;
    }
    let mut last = String::new();
    let mut heads = std::collections::BTreeMap::new();
    for (chat, text) in [("a", "one"), ("b", "two"), ("a", "three")] {
        say(&server, chat, text).await;
        loop {
            let (event, id) = open.raw.event_and_id().await;
            if let (Some(chat), Some(seq)) = (event["chat_id"].as_str(), event["seq"].as_u64()) {
                heads.insert(chat.to_owned(), format!("{chat}@{}:{seq}", event["epoch"].as_str().unwrap()));
                let expected: Vec<&str> = heads.values().map(String::as_str).collect();
                assert_eq!(id.as_deref(), Some(&*expected.join(",")), "{event}");
            }
            last = id.unwrap_or(last);
            if event["text"] == text {
                break;
            }
        }
    }
    let expected: Vec<String> = heads.into_values().collect();
    assert_eq!(last, expected.join(","), "nothing was ahead of what was told");
    // A second stream resumes there: no event is missing, and none comes twice.
    say(&server, "b", "four").await;
    let mut raw = RawClient::connect(server.address).await;
    raw.get("/sse?chat=elsewhere", &[&format!("Last-Event-ID: {last}")]).await;
    let mut come = Vec::new();
    for _ in 0..2 {
        loop {
            let event = raw.event().await;
            come.extend(event["text"].as_str().map(str::to_owned));
            if event["event"] == "replay_end" {
                break;
            }
        }
    }
    assert_eq!(come, ["four"]);
}

#[tokio::test]
async fn chats_are_in_the_address_and_change_while_the_stream_runs() {
    let server = Server::new().await;
    let open = OpenStream::new(server.address, "/sse").await;
    for chat in ["a", "b", "c"] {
        open.post(&message(chat, "t1")).await;
        prompted(&server, chat).await;
    }
    let mut other = OpenStream::new(server.address, "/sse?chat=a&chat=b").await;
    for _ in 0..2 {
        other.raw.wait_for("replay_end").await;
    }
    other.post(r#"{"type":"detach","chat_id":"a"}"#).await;
    other.post(r#"{"type":"attach","chat_id":"c"}"#).await;
    other.raw.wait_for("replay_end").await;
    for chat in ["a", "b", "c"] {
        say(&server, chat, chat).await;
    }
    let mut told = Vec::new();
    let mut last = String::new();
    while told.len() < 2 {
        let (event, id) = other.raw.event_and_id().await;
        told.extend(event["text"].as_str().map(str::to_owned));
        last = id.unwrap_or(last);
    }
    told.sort();
    assert_eq!(told, ["b", "c"]);
    let chats: Vec<&str> = last.split(',').map(|entry| entry.split('@').next().unwrap()).collect();
    assert_eq!(chats, ["b", "c"], "and so says the id");
}

#[tokio::test]
async fn one_chat_too_many_is_refused() {
    let server = Server::with(generous_limits(), Options { chats: 2, ..Options::default() }).await;
    let mut raw = RawClient::connect(server.address).await;
    assert_eq!(status(&raw.get("/sse?chat=a&chat=b&chat=c", &[]).await), 400);
    let mut raw = RawClient::connect(server.address).await;
    raw.get("/sse", &[]).await;
    assert_eq!(raw.event().await["limits"]["chats_per_connection"], 2, "and it is said beforehand");
    let mut open = OpenStream::new(server.address, "/sse").await;
    open.post(&message("a", "t1")).await;
    open.post(&message("b", "t1")).await;
    for _ in 0..2 {
        open.raw.wait_for("message_accepted").await;
    }
    for frame in [&*message("c", "t1"), r#"{"type":"new_chat"}"#, r#"{"type":"attach","chat_id":"c"}"#] {
        open.post(frame).await;
        let error = open.raw.wait_for("error").await;
        assert_eq!((&error["code"], &error["retryable"]), (&json!("limit_reached"), &json!(true)));
    }
    open.post(&message("b", "t2")).await;
    open.raw.wait_for("message_accepted").await;
    open.post(r#"{"type":"detach","chat_id":"a"}"#).await;
    open.post(&message("c", "t1")).await;
    assert_eq!(open.raw.wait_for("message_accepted").await["chat_id"], "c");
}

#[tokio::test]
async fn an_unknown_chat_is_an_event() {
    let server = Server::new().await;
    let mut open = OpenStream::new(server.address, "/sse?chat=nothing&after=some@e:5").await;
    let codes = [open.raw.event().await, open.raw.event().await].map(|event| event["code"].clone());
    assert_eq!(codes, [json!("unknown_chat"), json!("unknown_chat")]);
    open.works().await;
}

#[tokio::test]
async fn invalid_requests_are_refused() {
    let server = Server::new().await;
    for (method, target, headers, expected) in [
        ("GET", "/sse?after=a@e", &[][..], 400),
        ("GET", "/sse?chat=a%20b", &[], 400),
        ("GET", "/sse", &["Last-Event-ID: a@e:x"][..], 400),
        ("GET", "/sse", &["Last-Event-ID: a@e:1", "Last-Event-ID: a@e:1"], 400),
        ("GET", "/sse", &["Authorization: nobody"], 401),
        ("POST", "/sse", &["Content-Length: 0"], 405),
        ("HEAD", "/sse", &[], 405),
        ("GET", "/messages", &[], 405),
    ] {
        let mut raw = RawClient::connect(server.address).await;
        raw.write(request(method, target, headers, None).as_bytes()).await;
        let head = raw.head().await;
        assert_eq!(status(&head), expected, "{method} {target} {headers:?}");
        assert!(head.to_ascii_lowercase().contains("connection: close"), "{head}");
        raw.ended().await;
    }
    assert_eq!(server.gateway.handle().counts().await.unwrap().connections, 0);
}

#[tokio::test]
async fn limits_of_a_principal_are_those_of_every_transport() {
    let mut limits = generous_limits();
    limits.connections_per_principal = Some(2);
    let server = Server::with(limits, Options::default()).await;
    let (_first, _second) =
        (OpenStream::new(server.address, "/sse").await, OpenStream::new(server.address, "/sse").await);
    let mut third = RawClient::connect(server.address).await;
    third.get("/sse", &[]).await;
    let mut retry = 0;
    let mut last = Value::Null;
    while let Some(block) = third.next().await {
        retry = block.retry.unwrap_or(retry);
        last = block.data.map_or(last, |data| serde_json::from_str(&data).unwrap());
    }
    assert_eq!((&last["code"], &last["close"]), (&json!("limit_reached"), &json!(1013)));
    assert_eq!(retry, 30_000, "it comes back later than others");
    assert!(third.is_whole());
    let mut other = RawClient::connect(server.address).await;
    other.get("/sse", &["Authorization: somebody"]).await;
    assert_eq!(other.event().await["event"], "ready");
}

#[tokio::test]
async fn a_stop_reaches_the_clients_after_the_ends_of_their_turns() {
    let mut server = Server::new().await;
    let mut open = OpenStream::new(server.address, "/sse").await;
    open.post(&message("c1", "t1")).await;
    prompted(&server, "c1").await;
    server.gateway.handle().shut_down();
    let ended = async {
        let end = AgentEvent::TurnEnded { outcome: Outcome::Completed, error: None, usage: None, cost: None };
        // The agent may have been stopped already.
        let _ = server.gateway.agents().send("c1", vec![end]);
    };
    ended.await;
    open.raw.wait_for("turn_end").await;
    server.gateway.agents().exit("c1", AgentExit::Stopped).unwrap();
    assert_eq!(open.raw.closed().await, 1012);
    assert!(open.raw.is_whole(), "a client tells it from a connection that broke");
    server.gateway.finished().await.unwrap();
    // A client that connects after the shutdown gets the same close code.
    let mut late = RawClient::connect(server.address).await;
    late.get("/sse", &[]).await;
    assert_eq!(late.closed().await, 1012);
}

#[tokio::test]
async fn it_is_mounted_into_an_axum_router() {
    let gateway = switchboard_conformance::TestGateway::new(generous_limits());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = || router(gateway.handle().clone(), Options::default());
    let admitted = Extension(Admission::Verified(Principal::owner()));
    let app = axum::Router::new().nest("/shut", routes()).merge(routes().layer(admitted));
    let served = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    OpenStream::new(address, "/sse").await.works().await;
    let mut raw = RawClient::connect(address).await;
    assert_eq!(status(&raw.get("/shut/sse", &[]).await), 401);
    served.abort();
}
