//! Recordings of real agents, decoded whole, with a checkpoint after every line, and in batches of every size.

use std::path::Path;

use serde_json::Value;
use switchboard_core::{agent::AgentEvent, ids::RequestId};

use super::{checker, codec, render::render};
use crate::dialect::{
    Codec as _, Decoded, Delivered,
    claude::{ClaudeCodec, state::Prompted},
};

/// Recordings with a process that was killed, or that exited without a result: what is open then, the hub ends.
const CUT_SHORT: [&str; 3] = ["kill_resume.jsonl", "resume_unknown.jsonl", "sid_clash.jsonl"];

/// An entry of a recording.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    /// A line that the agent wrote.
    Line(String),
    /// A prompt, by the id that the recorded client gave it.
    Prompt(String),
    Cancel,
    /// An answer to the agent's request with this id.
    Answer(String),
}

/// What a client or the codec did.
#[derive(Debug)]
pub(super) enum Step {
    Prompted,
    Answered(RequestId),
    /// The agent's line with this number was decoded.
    Decoded(usize, Decoded),
}

/// The entries of a recording; one list per agent process.
fn lives(recording: &str) -> Vec<Vec<Entry>> {
    let mut lives = Vec::new();
    for entry in recording.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let message = &entry["msg"];
        let new = match entry["dir"].as_str().unwrap() {
            "note" if message["what"] == "spawn" || message["argv"].is_array() => {
                lives.push(Vec::new());
                continue;
            }
            "out" => {
                let line = entry.get("line").and_then(Value::as_str).map(str::to_owned);
                Entry::Line(line.unwrap_or_else(|| message.to_string()))
            }
            "in" => match message["type"].as_str() {
                Some("user") => Entry::Prompt(message["uuid"].as_str().unwrap_or_default().into()),
                Some("control_request") if message["request"]["subtype"] == "interrupt" => Entry::Cancel,
                Some("control_response") => {
                    Entry::Answer(message["response"]["request_id"].as_str().unwrap().into())
                }
                _ => continue,
            },
            _ => continue,
        };
        lives.last_mut().unwrap().push(new);
    }
    for life in &mut lives {
        // A prompt may have been given in the command line.
        if !life.iter().any(|entry| matches!(entry, Entry::Prompt(_))) {
            life.insert(0, Entry::Prompt(String::new()));
        }
    }
    lives
}

/// The agent's lines in a recording.
pub(super) fn lines(recording: &str) -> Vec<String> {
    let entries = lives(recording).concat();
    entries
        .into_iter()
        .filter_map(|entry| if let Entry::Line(line) = entry { Some(line) } else { None })
        .collect()
}

/// Decodes a recording as the gateway does: a prompt is delivered when no other one is open. `decoded` is called after
/// every line, and may restore the codec.
fn replay(entries: &[Entry], mut decoded: impl FnMut(&mut ClaudeCodec)) -> Vec<Step> {
    let (mut codec, mut steps, mut waiting, mut position) = (codec(), Vec::new(), Vec::new(), 0);
    for entry in entries {
        match entry {
            Entry::Prompt(uuid) => waiting.push(uuid.clone()),
            Entry::Cancel => codec.delivered(Delivered::Cancel),
            Entry::Answer(agent_id) => {
                let open = codec.state.pending.iter().find(|(_, pending)| pending.agent_id == *agent_id);
                let request_id = open.map(|(id, _)| RequestId::parse(id).unwrap());
                if let Some(request_id) = request_id {
                    codec.delivered(Delivered::Answer(&request_id));
                    steps.push(Step::Answered(request_id));
                }
            }
            Entry::Line(line) => {
                position += 1;
                let mut out = Decoded::default();
                codec.decode(position as u64, line.as_bytes(), &mut out);
                steps.push(Step::Decoded(position, out));
                decoded(&mut codec);
            }
        }
        if codec.state.turn.is_none() && !waiting.is_empty() {
            codec.state.turn = Some(Prompted::new(waiting.remove(0)));
            steps.push(Step::Prompted);
        }
    }
    steps
}

fn show(steps: &[Step]) -> String {
    let shown = steps.iter().map(|step| match step {
        Step::Prompted => "    > prompt\n".into(),
        Step::Answered(request_id) => format!("    > answer {request_id}\n"),
        Step::Decoded(position, out) => render(*position, out),
    });
    shown.collect()
}

fn events(steps: &[Step]) -> Vec<&AgentEvent> {
    let events = steps.iter().flat_map(|step| match step {
        Step::Decoded(_, out) => &out.events[..],
        Step::Prompted | Step::Answered(_) => &[],
    });
    events.filter(|event| !matches!(event, AgentEvent::Alive)).collect()
}

#[test]
fn recordings() {
    insta::glob!("../../../..", "fixtures/claude/*.jsonl", |path| {
        let recording = std::fs::read_to_string(path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let (mut shown, mut open) = (Vec::new(), Vec::new());
        for entries in lives(&recording) {
            let steps = replay(&entries, |_| {});
            shown.push(show(&steps));
            let restored = replay(&entries, |codec| {
                *codec = ClaudeCodec::restore(Path::new("/workspace"), &codec.checkpoint()).unwrap();
            });
            assert_eq!(show(&restored), shown[shown.len() - 1], "a checkpoint anywhere changes nothing");
            open.extend(checker::open_at_end(&steps));
            assert_eq!(checker::texts(&steps), recorded_texts(&entries), "{name}");
        }
        assert_eq!(!open.is_empty(), CUT_SHORT.contains(&name), "{name}: {open:?}");
        insta::assert_snapshot!(shown.join("----\n"));
    });
}

/// The text of each ended turn as the agent's own `assistant` records give it: the model's, or in a turn without any and
/// without an error, that of the agent's program. Turns without any text are left out.
fn recorded_texts(entries: &[Entry]) -> Vec<String> {
    let (mut texts, mut of_model, mut of_program) = (Vec::new(), String::new(), String::new());
    for entry in entries {
        let Entry::Line(line) = entry else { continue };
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        if line["type"] == "assistant" && line["parent_tool_use_id"].is_null() {
            let text =
                if line["message"]["model"] == "<synthetic>" { &mut of_program } else { &mut of_model };
            let blocks = line["message"]["content"].as_array().into_iter().flatten();
            text.extend(blocks.filter_map(|block| block["text"].as_str()));
        } else if line["type"] == "result" {
            let (of_model, of_program) = (std::mem::take(&mut of_model), std::mem::take(&mut of_program));
            let counts = of_model.is_empty() && line["is_error"] != true;
            texts.push(if counts { of_program } else { of_model });
        }
    }
    texts.retain(|text| !text.is_empty());
    texts
}

#[test]
fn batches_of_any_size_decode_to_the_same_events() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/claude");
    for path in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        let recording = std::fs::read_to_string(&path).unwrap();
        for entries in lives(&recording) {
            let whole = replay(&entries, |_| {});
            for size in [2, 3, 5, usize::MAX] {
                assert_eq!(
                    in_batches(&entries, size),
                    events(&whole).into_iter().cloned().collect::<Vec<_>>()
                );
            }
        }
    }
}

/// Decodes up to `size` lines into one [`Decoded`], but commands end a batch. Returns the events without `Alive`.
fn in_batches(entries: &[Entry], size: usize) -> Vec<AgentEvent> {
    let (mut all, mut out, mut lines) = (Vec::new(), Decoded::default(), 0);
    let mut position = 0;
    let (mut codec, mut waiting) = (codec(), Vec::new());
    for entry in entries {
        match entry {
            Entry::Line(line) => {
                position += 1;
                codec.decode(position, line.as_bytes(), &mut out);
                lines += 1;
            }
            Entry::Prompt(uuid) => waiting.push(uuid.clone()),
            Entry::Cancel => codec.delivered(Delivered::Cancel),
            Entry::Answer(agent_id) => {
                codec.state.pending.retain(|_, pending| pending.agent_id != *agent_id);
            }
        }
        if codec.state.turn.is_none() && !waiting.is_empty() {
            codec.state.turn = Some(Prompted::new(waiting.remove(0)));
        }
        if lines == size {
            all.append(&mut out.events);
            (out, lines) = (Decoded::default(), 0);
        }
    }
    all.append(&mut out.events);
    all.retain(|event| !matches!(event, AgentEvent::Alive));
    all
}
