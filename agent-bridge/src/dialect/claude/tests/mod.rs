//! Tests of the codec: each recording as a snapshot, and cases that do not occur in the recordings.

mod cancels;
mod cases;
mod checker;
mod commands;
mod cut_off;
mod forms;
#[path = "../../../../fuzz/agent_lines.rs"]
mod fuzz;
mod growing;
mod identity;
mod lines;
mod mutations;
mod orders;
mod reasons;
mod recordings;
mod render;
mod saying;
mod skipped;
mod subagents;
mod talk;
mod tasks;
mod text;
mod turns;

use std::path::Path;

use serde_json::json;
use switchboard_core::{agent::AgentCommand, ids::TurnId};

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

/// Decodes lines as answers to prompts: a prompt is delivered whenever none is open.
fn decode(codec: &mut ClaudeCodec, lines: &[String]) -> String {
    let mut shown = String::new();
    for (index, line) in lines.iter().enumerate() {
        if codec.state.turn.is_none() {
            codec.prompted(&TurnId::parse(&format!("turn-{index}")).unwrap());
        }
        let mut out = Decoded::default();
        codec.decode(index as u64 + 1, line.as_bytes(), &mut out);
        shown.push_str(&render(index + 1, &out));
    }
    shown
}

#[test]
fn foreign_checkpoints_are_refused() {
    for checkpoint in ["", "{}", r#"{"version":2}"#, "[]"] {
        assert!(ClaudeCodec::restore(Path::new("/"), checkpoint).is_err(), "{checkpoint}");
    }
}

#[test]
fn names_in_checkpoints_of_earlier_versions_are_known() {
    let checkpoint = json!({"version": 1, "spoke": true, "voices": {"u1": {"worked": true}},
        "told": {"decided": ["t1"]}});
    let state = ClaudeCodec::restore(Path::new("/"), &checkpoint.to_string()).unwrap().state;
    assert!(state.output.spoke && state.subagents["u1"].worked && state.sent_notices.decided.contains("t1"));
}
