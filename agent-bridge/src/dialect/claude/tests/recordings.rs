//! Recordings of real agents, decoded line by line, split at every line, and cut off at every byte.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
};

use serde_json::Value;
use switchboard_core::{agent::AgentEvent, ids::RequestId};

use super::{checker, codec, render::render};
use crate::dialect::{
    Codec as _, Decoded, Delivered,
    claude::{ClaudeCodec, state::Prompted},
};

/// Recordings with a process that was killed, or that exited without a result: what is open then, the hub ends.
const CUT_SHORT: [&str; 4] =
    ["kill_resume.jsonl", "resume_of_interrupted_turn.jsonl", "resume_unknown.jsonl", "sid_clash.jsonl"];

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
    /// The process was started to resume a session.
    Resumed,
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
pub(super) fn processes(recording: &str) -> Vec<Vec<Entry>> {
    let mut processes: Vec<Vec<Entry>> = Vec::new();
    for entry in recording.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let message = &entry["msg"];
        let new = match entry["dir"].as_str().unwrap() {
            "note" if message["what"] == "spawn" || message["argv"].is_array() => {
                let has = |argument: &str| {
                    message["argv"].as_array().is_some_and(|argv| argv.contains(&argument.into()))
                };
                let resumed = has("--resume").then_some(Entry::Resumed);
                // Otherwise the prompt was given in the command line.
                let prompt = (!has("--input-format")).then(|| Entry::Prompt(String::new()));
                processes.push(resumed.into_iter().chain(prompt).collect());
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
        processes.last_mut().unwrap().push(new);
    }
    processes
}

/// The agent's lines in a recording.
pub(super) fn lines(recording: &str) -> Vec<String> {
    let entries = processes(recording).concat();
    entries
        .into_iter()
        .filter_map(|entry| if let Entry::Line(line) = entry { Some(line) } else { None })
        .collect()
}

/// All recordings, by the names of their files.
pub(super) fn all() -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/claude");
    let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(path).unwrap())
    };
    paths.into_iter().map(read).collect()
}

/// A conversation that is replayed as the gateway has it: a prompt is delivered when no other one is open.
struct Replay {
    codec: ClaudeCodec,
    waiting: VecDeque<String>,
    /// Number of lines that were decoded.
    position: usize,
}

impl Replay {
    fn new() -> Self {
        Self { codec: codec(), waiting: VecDeque::new(), position: 0 }
    }

    /// The same conversation, with a codec that is restored from a checkpoint.
    fn restored(&self) -> Self {
        let checkpoint = self.codec.checkpoint();
        let codec = ClaudeCodec::restore(Path::new("/workspace"), &checkpoint).unwrap();
        assert_eq!(codec.checkpoint(), checkpoint);
        Self { codec, waiting: self.waiting.clone(), position: self.position }
    }

    /// Replays an entry. The events of a line are added to `out`. Returns the request that the entry answers.
    fn entry(&mut self, entry: &Entry, out: &mut Decoded) -> Option<RequestId> {
        match entry {
            Entry::Prompt(uuid) => self.waiting.push_back(uuid.clone()),
            Entry::Cancel => self.codec.delivered(Delivered::Cancel),
            Entry::Resumed => self.codec = ClaudeCodec::resumed(Path::new("/workspace"), "1-", "session"),
            Entry::Answer(agent_id) => {
                let mut open = self.codec.state.pending.iter();
                let (id, _) = open.find(|(_, pending)| pending.agent_id == *agent_id)?;
                let request_id = RequestId::parse(id).unwrap();
                self.codec.delivered(Delivered::Answer(&request_id));
                return Some(request_id);
            }
            Entry::Line(line) => {
                self.position += 1;
                self.codec.decode(self.position as u64, line.as_bytes(), out);
            }
        }
        None
    }

    /// Delivers the prompt that waits, if none is open. Returns whether it was delivered.
    fn prompt(&mut self) -> bool {
        if self.codec.state.turn.is_some() {
            return false;
        }
        self.codec.state.turn = self.waiting.pop_front().map(Prompted::new);
        self.codec.state.turn.is_some()
    }

    /// Replays entries, and adds the events of all lines to `out`.
    fn entries(&mut self, entries: &[Entry], out: &mut Decoded) {
        for entry in entries {
            self.entry(entry, out);
            self.prompt();
        }
    }
}

/// What happens when a recording is replayed line by line.
fn replay(entries: &[Entry]) -> Vec<Step> {
    let (mut replay, mut steps) = (Replay::new(), Vec::new());
    for entry in entries {
        let mut out = Decoded::default();
        steps.extend(replay.entry(entry, &mut out).map(Step::Answered));
        if matches!(entry, Entry::Line(_)) {
            steps.push(Step::Decoded(replay.position, out));
        }
        if replay.prompt() {
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

/// The events without `Alive`, and the replies.
fn essence<'a>(parts: impl IntoIterator<Item = &'a Decoded>) -> (Vec<&'a AgentEvent>, Vec<&'a Vec<u8>>) {
    let (mut events, mut replies) = (Vec::new(), Vec::new());
    for part in parts {
        events.extend(part.events.iter().filter(|event| !matches!(event, AgentEvent::Alive)));
        replies.extend(&part.replies);
    }
    (events, replies)
}

#[test]
fn recordings() {
    insta::glob!("../../../..", "fixtures/claude/*.jsonl", |path| {
        let recording = std::fs::read_to_string(path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let (mut shown, mut open) = (Vec::new(), Vec::new());
        for entries in processes(&recording) {
            let steps = replay(&entries);
            shown.push(show(&steps));
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
fn a_split_at_any_line_changes_nothing() {
    for (name, recording) in all() {
        for entries in processes(&recording) {
            let steps = replay(&entries);
            let decoded = steps.iter().filter_map(|step| match step {
                Step::Decoded(_, out) => Some(out),
                Step::Prompted | Step::Answered(_) => None,
            });
            let expected = essence(decoded);
            let (mut before, mut first) = (Replay::new(), Decoded::default());
            for split in 0..=entries.len() {
                // The entries before the split are one batch, those after it another one, by a restored codec.
                let mut second = Decoded::default();
                before.restored().entries(&entries[split..], &mut second);
                assert_eq!(essence([&first, &second]), expected, "{name} split at entry {split}");
                before.entries(entries.get(split..=split).unwrap_or_default(), &mut first);
            }
        }
    }
}

/// Most bytes at which one line is cut off. A longer line is cut off in larger steps, which begin elsewhere in each line.
const CUTS: usize = 1024;

#[test]
fn a_line_that_is_cut_off_at_any_byte_means_nothing() {
    for (name, recording) in all() {
        let mut replay = Replay::new();
        for line in lines(&recording) {
            let bytes = line.as_bytes();
            let (mut out, before) = (Decoded::default(), replay.codec.checkpoint());
            let step = 1 + bytes.len() / CUTS;
            for cut in (replay.position % step..bytes.len()).step_by(step) {
                replay.codec.decode(replay.position as u64 + 1, &bytes[..cut], &mut out);
                assert!(out.events.is_empty() && out.replies.is_empty(), "{name}: {}", &line[..cut]);
            }
            assert_eq!(replay.codec.checkpoint(), before, "{name}: {line}");
            replay.entries(&[Entry::Line(line)], &mut out);
        }
    }
}
