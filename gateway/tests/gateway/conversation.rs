//! Whole conversations, through the gateway and a real agent process.

use std::{collections::BTreeMap, process::Command};

use serde_json::{Value, json};

use switchboard_test_support::{Client, Gateway, delta_text};

#[test]
fn a_client_of_the_older_vocabulary_has_its_conversation() {
    let gateway = Gateway::start(&[]);
    let mut client = gateway.websocket();
    let ready = client.next().unwrap();
    assert_eq!((&ready["event"], &ready["client_id"]), (&json!("ready"), &json!("test")));
    client.send(&json!({"type": "new_chat"}));
    let attached = client.next().unwrap();
    assert_eq!(attached["event"], "attached");
    assert_eq!(client.next().unwrap()["event"], "agent_state");
    let updated = client.next().unwrap();
    assert_eq!((&updated["event"], &updated["scope"]), (&json!("session_updated"), &json!("metadata")));
    let chat = attached["chat_id"].as_str().unwrap();
    client.message(chat, "turn-1", "hello\nthere");
    let events = client.until("turn_end");
    let kinds: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    let at = |kind: &str| {
        kinds.iter().position(|other| *other == kind).unwrap_or_else(|| panic!("{kind}: {kinds:?}"))
    };
    assert!(at("message_accepted") < at("delta") && at("delta") < at("stream_end"), "{kinds:?}");
    assert_eq!(events[at("message_accepted")]["turn_id"], "turn-1");
    let end = events.last().unwrap();
    assert_eq!((&end["turn_id"], &end["outcome"]), (&json!("turn-1"), &json!("completed")), "{end}");
    assert!(end["latency_ms"].is_u64());
    assert_eq!(delta_text(&events), "hello\nthere");
    assert_eq!(events.iter().filter(|event| event["event"] == "turn_end").count(), 1);
}

#[test]
fn a_client_gets_to_know_which_agent_it_talks_to_where_it_works_and_what_it_is_kept_from() {
    let gateway = Gateway::start_with(|command| {
        command.args(["--agent", "demo", "--sandbox", "off"]);
    });
    let mut client = gateway.websocket();
    let ready = client.next().unwrap();
    let folder = gateway.path("work").file_name().unwrap().to_str().unwrap().to_owned();
    let expected = json!({"agent": "demo", "dialect": "claude", "workspace": folder, "sandbox": "off"});
    assert_eq!(ready["agent"], expected);
    // A client that attaches gets the same state of the chat's agent, also in a snapshot.
    let chat = client.new_chat();
    let mut state = expected.clone();
    (state["event"], state["chat_id"]) = (json!("agent_state"), json!(chat));
    client.send(&json!({"type": "message", "chat_id": chat, "content": "hello", "turn_id": "t-1"}));
    client.wait_for("turn_end");
    let mut other = gateway.websocket();
    other.send(&json!({"type": "attach", "chat_id": chat}));
    assert_eq!(other.wait_for("agent_state"), state);
    assert_eq!(other.wait_for("snapshot")["state"]["agent"], expected);
}

#[test]
fn a_bare_line_is_a_message_for_the_default_chat() {
    let gateway = Gateway::start(&[]);
    let mut client = gateway.websocket();
    let ready = client.next().unwrap();
    client.0.send("just words".into()).unwrap();
    let events = client.until("turn_end");
    assert_eq!(delta_text(&events), "just words");
    assert!(
        events
            .iter()
            .filter(|event| event["event"] == "delta")
            .all(|event| event["chat_id"] == ready["chat_id"])
    );
}

/// An agent that writes one half of its answer, waits until a pipe in its directory is opened, and writes the other.
const IN_TWO_HALVES: &str = "sh -c 'cat > /dev/null; seq 1 300; cat go > /dev/null; seq 301 600'";

pub(crate) fn halves(args: &[&str]) -> Gateway {
    let gateway = Gateway::start_with(|command| {
        command.args(["--agent-command", IN_TWO_HALVES, "--dialect", "text"]).args(args);
    });
    let made = Command::new("mkfifo").arg(gateway.path("work/go")).status().unwrap();
    assert!(made.success());
    gateway
}

pub(crate) fn numbers(range: std::ops::RangeInclusive<u32>) -> String {
    range.map(|number| format!("{number}\n")).collect()
}

/// Adds a chat event to a log, which must go on without hole or overlap.
fn log(events: &mut BTreeMap<u64, Value>, event: &Value) {
    let Some(seq) = event["seq"].as_u64().filter(|_| event["event"] != "replay_end") else { return };
    let first = event["first_seq"].as_u64().unwrap_or(seq);
    let last = events.keys().next_back().copied().unwrap_or(0);
    assert_eq!(first, last + 1, "after {last} comes {event}");
    events.insert(seq, event.clone());
}

#[test]
fn a_connection_killed_in_mid_answer_is_resumed_over_the_other_transport() {
    let gateway = halves(&[]);
    let mut client = gateway.websocket();
    let chat = client.new_chat();
    client.message(&chat, "turn-1", "count");
    let mut events = BTreeMap::new();
    let mut text = String::new();
    while text != numbers(1..=300) {
        let event = client.next().unwrap();
        if event["event"] == "delta" {
            text.push_str(event["text"].as_str().unwrap());
        }
        log(&mut events, &event);
    }
    let (seq, last) = events.iter().next_back().unwrap();
    let cursor = json!({"epoch": last["epoch"], "seq": seq});
    drop(client);
    std::fs::write(gateway.path("work/go"), "").unwrap();
    let mut client = gateway.unix();
    client.send(&json!({"type": "attach", "chat_id": chat, "after": cursor}));
    let attached = client.wait_for("attached");
    assert_eq!(attached["recovered"], true, "{attached}");
    for event in client.until("turn_end") {
        log(&mut events, &event);
    }
    let all: Vec<Value> = events.into_values().collect();
    assert_eq!(delta_text(&all), numbers(1..=600));
    assert_eq!(all.last().unwrap()["outcome"], "completed");
}

#[test]
fn two_clients_see_the_same_and_the_answer_goes_on_without_them() {
    let gateway = halves(&[]);
    let mut sender = gateway.websocket();
    let chat = sender.new_chat();
    let mut watcher = gateway.unix();
    watcher.send(&json!({"type": "attach", "chat_id": chat}));
    watcher.wait_for("replay_end");
    sender.message(&chat, "turn-1", "count");
    assert_eq!(watcher.wait_for("user_message")["text"], "count");
    drop((sender, watcher));
    std::fs::write(gateway.path("work/go"), "").unwrap();
    let mut late = gateway.websocket();
    late.send(&json!({"type": "attach", "chat_id": chat}));
    let mut text = String::new();
    loop {
        let event = late.next().unwrap();
        let snapshot = event["events"].as_array().cloned().unwrap_or_default();
        text.push_str(&delta_text(&snapshot));
        text.push_str(&delta_text(std::slice::from_ref(&event)));
        if event["event"] == "turn_end" || snapshot.iter().any(|event| event["event"] == "turn_end") {
            break;
        }
    }
    assert_eq!(text, numbers(1..=600));
}

#[test]
fn a_permission_asked_by_the_demo_agent_is_answered_by_another_client() {
    let gateway = Gateway::start_with(|command| {
        command.args(["--agent", "demo"]);
    });
    let mut sender = gateway.websocket();
    let chat = sender.new_chat();
    let mut other = gateway.unix();
    other.send(&json!({"type": "attach", "chat_id": chat}));
    other.wait_for("replay_end");
    sender.message(&chat, "turn-1", "permission touch x");
    let request = other.wait_for("permission_request");
    let id = request["request_id"].clone();
    assert_eq!(sender.wait_for("permission_request")["request_id"], id);
    other.send(&json!({"type": "respond", "chat_id": chat, "request_id": id, "decision": "allow"}));
    assert_eq!(sender.wait_for("request_resolved")["resolution"], "allowed");
    assert_eq!(sender.wait_for("turn_end")["outcome"], "completed");
}

#[test]
fn after_a_soft_error_the_next_message_works() {
    let gateway = Gateway::start(&[]);
    let mut client = gateway.websocket();
    for wrong in
        ["{", "{\"type\":\"message\"}", "{\"type\":\"no\"}", "{\"type\":\"attach\",\"chat_id\":\"x\"}", "[]"]
    {
        client.0.send(wrong.into()).unwrap();
        client.wait_for("error");
    }
    let chat = client.new_chat();
    client.message(&chat, "turn-1", "still there");
    assert_eq!(delta_text(&client.until("turn_end")), "still there");
}
