//! Recorded conversations, split at every position.

use bytes::BytesMut;

use super::*;
use crate::host::protocol::{Action, record_head};

/// A recorded conversation as frames of a spool: a start, the prompts, and the agent's output.
pub(in super::super) fn frames(recording: &str) -> Vec<(Kind, u32, Vec<u8>)> {
    let head = |id: &str, told| {
        let head = CommandHead { id: id.into(), action: Action::Note, opens_turn: false, told };
        (Kind::Command, 1, serde_json::to_vec(&head).unwrap())
    };
    let mut frames = vec![head("start1", CommandMeaning::Start { session: None })];
    for line in recording.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        match (line["dir"].as_str(), line["msg"]["type"].as_str()) {
            (Some("out"), _) => frames.push((Kind::Output, 1, format!("{}\n", line["msg"]).into_bytes())),
            (Some("in"), Some("user")) => {
                let n = frames.len();
                frames.push(head(&format!("c{n}"), CommandMeaning::Prompt { turn: format!("turn-{n}") }));
            }
            _ => {}
        }
    }
    frames.push((Kind::Exited, 1, br#"{"code":0,"signal":null}"#.to_vec()));
    frames
}

pub(in super::super) fn put(bytes: &mut BytesMut, kind: Kind, first: u64, count: u32, payload: &[u8]) {
    bytes.extend_from_slice(&record_head(kind, first, count, payload.len()));
    bytes.extend_from_slice(payload);
}

fn decode(decoder: &mut InstanceDecoder, frames: &[(Kind, u32, Vec<u8>)], first: u64) -> Vec<AgentEvent> {
    let mut events = Vec::new();
    for (n, (kind, count, payload)) in frames.iter().enumerate() {
        let mut bytes = BytesMut::new();
        put(&mut bytes, *kind, first + n as u64, *count, payload);
        let frame = Frame::next(&mut bytes, usize::MAX).unwrap().unwrap();
        let mut step = DecodedBatch::default();
        decoder.record(&frame, &mut step);
        events.extend(step.events.into_iter().filter(|event| *event != AgentEvent::Alive));
    }
    events
}

pub(in super::super) fn new() -> InstanceDecoder {
    InstanceDecoder::new(crate::dialect::CLAUDE, Path::new("/workspace"), 7, None)
}

#[test]
fn from_any_checkpoint_on_everything_decodes_the_same() {
    for recording in [
        include_str!("../../../fixtures/claude/two_turns.jsonl"),
        include_str!("../../../fixtures/claude/tool_allow.jsonl"),
        include_str!("../../../fixtures/claude/interrupt_in_permission.jsonl"),
        include_str!("../../../fixtures/claude/think.jsonl"),
    ] {
        let frames = frames(recording);
        let mut whole = new();
        let expected = decode(&mut whole, &frames, 1);
        assert!(expected.len() > 3 && whole.state().exited.is_some());
        for cut in 0..frames.len() {
            let mut first = new();
            let events = decode(&mut first, &frames[..cut], 1);
            let checkpoint = first.checkpoint().unwrap();
            // The log may have more events than its checkpoint covers.
            for ahead in [0, 1, 5] {
                let shown = frames.len().min(cut + ahead);
                let mut second = new();
                assert!(second.restore(&checkpoint));
                second.hide_to(shown as u64);
                let mut known = events.clone();
                known.extend(decode(&mut first_at(&frames, cut), &frames[cut..shown], cut as u64 + 1));
                // Frames from before the checkpoint are skipped.
                known.extend(decode(&mut second, &frames, 1));
                assert!(known == expected, "cut at {cut}, {ahead} ahead");
                assert_eq!(second.state(), whole.state());
            }
        }
    }
}

fn first_at(frames: &[(Kind, u32, Vec<u8>)], cut: usize) -> InstanceDecoder {
    let mut decoder = new();
    decode(&mut decoder, &frames[..cut], 1);
    decoder
}

#[test]
fn what_is_no_checkpoint_changes_nothing() {
    let mut decoder = new();
    let before = decoder.checkpoint();
    for bytes in
        [&b""[..], b"{}", br#"{"state":{"version":99},"codec":{}}"#, br#"{"state":{"version":1},"codec":7}"#]
    {
        assert!(!decoder.restore(bytes));
    }
    assert_eq!(decoder.checkpoint(), before);
}
