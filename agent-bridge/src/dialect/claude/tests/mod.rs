//! Tests of the codec: each recording as a snapshot, and cases that do not occur in the recordings.

mod cases;
mod commands;
mod forms;
mod fuzz;
mod identity;
mod mutations;
mod render;
mod saying;
mod text;

use std::path::Path;

use serde_json::Value;
use switchboard_core::agent::AgentCommand;

use self::render::render;
use super::ClaudeCodec;
use crate::dialect::{Codec as _, Decoded, Delivered, Encoded};

fn codec() -> ClaudeCodec {
    ClaudeCodec::new(Path::new("/workspace"), "1-")
}

/// Encodes a command as a line, without its newline, and delivers it.
fn sent(codec: &mut ClaudeCodec, command: &AgentCommand) -> Option<Vec<u8>> {
    let Encoded::Write(mut line) = codec.encode(command) else { return None };
    assert_eq!(line.pop(), Some(b'\n'));
    codec.delivered(match command {
        AgentCommand::Prompt { turn_id, .. } => Delivered::Prompt(turn_id),
        AgentCommand::Cancel { .. } => Delivered::Cancel,
        AgentCommand::Answer { request_id, .. } => Delivered::Answer(request_id),
    });
    Some(line)
}

/// The agent's lines in a recording; one list per agent process.
fn lives(recording: &str) -> Vec<Vec<String>> {
    let mut lives = Vec::new();
    for entry in recording.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        match entry["dir"].as_str().unwrap() {
            "note" if entry["msg"]["what"] == "spawn" => lives.push(Vec::new()),
            "out" => {
                let line = entry.get("line").and_then(Value::as_str).map(str::to_owned);
                lives.last_mut().unwrap().push(line.unwrap_or_else(|| entry["msg"].to_string()));
            }
            _ => {}
        }
    }
    lives
}

fn decode(codec: &mut ClaudeCodec, lines: &[String]) -> String {
    let mut shown = String::new();
    for (index, line) in lines.iter().enumerate() {
        let mut out = Decoded::default();
        codec.decode(index as u64 + 1, line.as_bytes(), &mut out);
        shown.push_str(&render(index + 1, &out));
    }
    shown
}

#[test]
fn recordings() {
    insta::glob!("../../../..", "fixtures/claude/*.jsonl", |path| {
        let recording = std::fs::read_to_string(path).unwrap();
        let lives: Vec<String> = lives(&recording)
            .iter()
            .map(|lines| {
                let shown = decode(&mut codec(), lines);
                assert_eq!(shown, with_checkpoints(lines), "a checkpoint anywhere changes nothing");
                shown
            })
            .collect();
        insta::assert_snapshot!(lives.join("----\n"));
    });
}

/// Decodes with a codec that is restored from its checkpoint after every line.
fn with_checkpoints(lines: &[String]) -> String {
    let mut codec = codec();
    let mut shown = String::new();
    for (index, line) in lines.iter().enumerate() {
        let mut out = Decoded::default();
        codec.decode(index as u64 + 1, line.as_bytes(), &mut out);
        shown.push_str(&render(index + 1, &out));
        codec = ClaudeCodec::restore(Path::new("/workspace"), &codec.checkpoint()).unwrap();
    }
    shown
}

#[test]
fn foreign_checkpoints_are_refused() {
    for checkpoint in ["", "{}", r#"{"version":2}"#, "[]"] {
        assert!(ClaudeCodec::restore(Path::new("/"), checkpoint).is_err(), "{checkpoint}");
    }
}
