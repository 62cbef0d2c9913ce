//! Runs the program and talks to it over its standard input and output.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::Value;

/// What the program answers to these frames, up to its end.
fn converse(frames: &[&str]) -> Vec<Value> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_switchboard-example-bare-core"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    for frame in frames {
        writeln!(input, "{frame}").unwrap();
    }
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let output = String::from_utf8(output.stdout).unwrap();
    output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event"].as_str().unwrap()).collect()
}

#[test]
fn a_conversation_is_the_whole_protocol() {
    let events = converse(&[
        r#"{"type":"message","chat_id":"c","content":"hello","turn_id":"t1"}"#,
        r#"{"type":"message","chat_id":"c","content":"hello","turn_id":"t1"}"#,
        r#"{"type":"message","chat_id":"c","content":"other","turn_id":"t1"}"#,
        r#"{"type":"attach","chat_id":"c","after":{"epoch":"unknown","seq":7}}"#,
        "no frame",
        r#"{"type":"ping","nonce":"last"}"#,
    ]);
    let kinds = kinds(&events);
    assert_eq!(kinds[0], "ready");
    let answer = events.iter().find(|event| event["event"] == "message").unwrap();
    assert_eq!(answer["text"], "hello");
    let ends = kinds.iter().filter(|kind| **kind == "turn_end").count();
    assert_eq!(ends, 1, "{kinds:?}");
    let repeat = events.iter().find(|event| event["duplicate"] == true);
    assert!(repeat.is_some_and(|event| event["event"] == "message_accepted"), "{events:?}");
    let codes: Vec<&Value> = events.iter().filter(|e| e["event"] == "error").map(|e| &e["code"]).collect();
    assert!(codes.iter().any(|code| **code == "turn_conflict"), "{codes:?}");
    assert!(codes.iter().any(|code| **code == "malformed"), "{codes:?}");
    let again = events.iter().find(|event| event["event"] == "attached" && event["recovered"] == false);
    assert!(again.is_some(), "a cursor of another epoch cannot be used");
    assert!(kinds.contains(&"snapshot") && kinds.contains(&"pong"), "{kinds:?}");
}

#[test]
fn the_end_of_its_input_ends_it_in_good_order() {
    let events = converse(&[r#"{"type":"new_chat"}"#]);
    let last = events.last().unwrap();
    assert_eq!((last["event"].as_str(), last["close"].as_u64()), (Some("error"), Some(1012)), "{last}");
}
