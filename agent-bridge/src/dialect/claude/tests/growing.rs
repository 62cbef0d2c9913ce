//! Long inputs of tools: they are shown while the model writes them, and end whole or with their use.

#![allow(clippy::wildcard_enum_match_arm, reason = "most events are not of tool uses")]

use std::path::Path;

use serde_json::{Value, json};
use switchboard_core::{
    agent::{AgentEvent, ToolInput},
    ids::TurnId,
};

use super::{
    codec,
    lines::{
        ask, assistant, block_start, block_stop, by, input_delta, message_start, message_stop, result,
        tool_result, tool_use, with,
    },
};
use crate::{
    dialect::{Codec as _, Decoded, claude::ClaudeCodec},
    limits::TOOL_UPDATE_LONGEST_BYTES,
};

fn input(content: &str) -> Value {
    json!({"file_path": "/workspace/a.txt", "content": content})
}

/// The beginning of a message that writes a file: `content`, in pieces of this many characters.
fn writing(parent: Option<&str>, message: &str, content: &str, piece: usize) -> Vec<Value> {
    // A model writes the path first.
    let json = format!(r#"{{"file_path":"/workspace/a.txt","content":{}}}"#, json!(content));
    let mut lines = vec![message_start(message), block_start(0, tool_use("u1", "Write", json!({})))];
    let letters: Vec<char> = json.chars().collect();
    let pieces = letters.chunks(piece).map(|piece| piece.iter().collect::<String>());
    lines.extend(pieces.map(|piece| input_delta(0, &piece)));
    lines.into_iter().map(|line| by(parent, line)).collect()
}

/// The whole of that message, behind its beginning.
fn whole(parent: Option<&str>, message: &str, content: &str) -> Vec<Value> {
    let whole = assistant(message, tool_use("u1", "Write", input(content)));
    [whole, block_stop(0), message_stop()].map(|line| by(parent, line)).into()
}

/// The result of the tool, and of the turn.
fn written(parent: Option<&str>) -> Vec<Value> {
    vec![by(parent, tool_result("u1", json!("written"))), result("done", json!({}))]
}

/// The events of these lines.
fn events(lines: &[Value]) -> Vec<AgentEvent> {
    let mut codec = codec();
    codec.prompted(&TurnId::parse("t").unwrap());
    let mut out = Decoded::default();
    decode(&mut codec, 1, lines, &mut out);
    out.events.retain(|event| !matches!(event, AgentEvent::Alive));
    out.events
}

fn decode(codec: &mut ClaudeCodec, first: u64, lines: &[Value], out: &mut Decoded) {
    for (line, position) in lines.iter().zip(first..) {
        codec.decode(position, line.to_string().as_bytes(), out);
    }
}

/// What the events say of tool uses, in short; of an input, the length of the content and a mark if it is partial.
fn uses(events: &[AgentEvent]) -> Vec<String> {
    let shown = events.iter().filter_map(|event| match event {
        AgentEvent::Subagent { parent_call_id, event } => {
            Some(format!("{parent_call_id}: {}", uses(&[(**event).clone()]).first()?))
        }
        AgentEvent::ToolStarted { input, .. } => Some(format!("start {}", length(input))),
        AgentEvent::ToolUpdated { input, .. } => Some(format!("update {}", length(input.as_ref()?))),
        AgentEvent::ToolEnded { result: Ok(text), .. } => Some(format!("end {text}")),
        AgentEvent::ToolEnded { result: Err(text), .. } => Some(format!("error {text}")),
        AgentEvent::FileEdit { edits } => Some(format!("edit +{}", edits[0].added)),
        AgentEvent::Permission(ask) => Some(format!("permission {}", ask.input.len())),
        _ => None,
    });
    shown.collect()
}

fn length(input: &ToolInput) -> String {
    let content = input.arguments["content"].as_str().unwrap_or_default();
    assert_eq!(input.title.as_deref(), Some("Write a.txt"));
    assert_eq!(input.locations[0].path, "a.txt");
    format!("{}{}", content.len(), if input.partial { "…" } else { "" })
}

#[test]
fn a_short_input_is_shown_once() {
    let lines = [writing(None, "m1", "short", 7), whole(None, "m1", "short"), written(None)].concat();
    assert_eq!(uses(&events(&lines)), ["start 5", "end written", "edit +1"]);
}

#[test]
fn a_long_input_grows_and_is_then_whole() {
    let content = "x".repeat(2_000);
    for parent in [None, Some("p")] {
        let mut lines = writing(parent, "m1", &content, 100);
        // An agent that does not repeat the message ends the input with its block.
        for end in [whole(parent, "m1", &content), vec![by(parent, block_stop(0))]] {
            lines.truncate(writing(parent, "m1", &content, 100).len());
            lines.extend(end);
            lines.extend(written(parent));
            let expected =
                ["start 557…", "update 857…", "update 1357…", "update 2000", "end written", "edit +1"];
            let below = |said: &str| parent.map_or(said.to_owned(), |parent| format!("{parent}: {said}"));
            assert_eq!(uses(&events(&lines)), expected.map(below));
        }
    }
}

#[test]
fn a_request_for_permission_makes_the_input_whole() {
    let content = "x".repeat(1_000);
    let more = json!({"tool_name": "Write", "input": input(&content), "tool_use_id": "u1"});
    let asks = vec![ask("r1", more)];
    let lines = [writing(None, "m1", &content, 600), asks, whole(None, "m1", &content), written(None)];
    let expected = ["start 557…", "update 1000…", "update 1000", "permission 1045", "end written", "edit +1"];
    assert_eq!(uses(&events(&lines.concat())), expected);
}

#[test]
fn an_input_that_the_agent_gives_up_ends_its_use() {
    let content = "x".repeat(1_000);
    let begun = || writing(None, "m1", &content, 2_000);
    let abandoned = vec![with(message_stop(), json!({"abandoned_blocks": {"from_block_index": 0}}))];
    let again = |message| [writing(None, message, &content, 2_000), whole(None, message, &content)].concat();
    let void = "error The agent did not finish the input.";
    for lines in [
        [begun(), again("m2"), written(None)].concat(),
        [begun(), abandoned.clone(), again("m2"), written(None)].concat(),
        [begun(), abandoned, again("m1"), written(None)].concat(),
    ] {
        let expected = ["start 1000…", void, "start 1000…", "update 1000", "end written", "edit +1"];
        assert_eq!(uses(&events(&lines)), expected);
    }
    // What is open at the turn's end, the hub closes.
    let stopped = vec![result("", json!({"subtype": "error_during_execution", "is_error": true}))];
    assert_eq!(uses(&events(&[begun(), stopped].concat())), ["start 1000…"]);
}

#[test]
fn a_restored_codec_shows_the_same() {
    let content = "é\n".repeat(2_000);
    let whole = |message| whole(None, message, &content);
    let lines = [writing(None, "m1", &content, 211), writing(None, "m2", &content, 500), whole("m2")];
    let lines = [lines.concat(), written(None)].concat();
    let expected = uses(&events(&lines));
    assert!(expected.len() > 12, "{expected:?}");
    let mut before = codec();
    before.prompted(&TurnId::parse("t").unwrap());
    let mut first = Decoded::default();
    for split in 0..=lines.len() {
        let mut restored = ClaudeCodec::restore(Path::new("/workspace"), &before.checkpoint()).unwrap();
        let mut second = Decoded::default();
        decode(&mut restored, split as u64 + 1, &lines[split..], &mut second);
        assert_eq!([uses(&first.events), uses(&second.events)].concat(), expected, "split at {split}");
        decode(&mut before, split as u64 + 1, lines.get(split..=split).unwrap_or_default(), &mut first);
    }
}

#[test]
fn what_is_shown_of_a_huge_input_is_bounded() {
    let content = "lorem ipsum\n".repeat(9 * 1024 * 1024 / 12);
    let lines = [writing(None, "m1", &content, 1_000), whole(None, "m1", &content), written(None)].concat();
    let events = events(&lines);
    let sizes = events.iter().filter_map(|event| match event {
        AgentEvent::ToolStarted { input, .. } => Some(input),
        AgentEvent::ToolUpdated { input, .. } => input.as_ref(),
        _ => None,
    });
    let sizes: Vec<usize> = sizes.map(|input| input.arguments.to_string().len()).collect();
    let (whole, beginnings) = sizes.split_last().unwrap();
    assert!(*whole > 9 * 1024 * 1024);
    assert!((5..=12).contains(&beginnings.len()), "{beginnings:?}");
    assert!(beginnings.iter().sum::<usize>() <= 4 * TOOL_UPDATE_LONGEST_BYTES, "{beginnings:?}");
    // A quote and a bracket complete the longest one.
    assert!(beginnings.is_sorted() && beginnings.last().unwrap() <= &(TOOL_UPDATE_LONGEST_BYTES + 2));
}
