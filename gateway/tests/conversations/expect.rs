//! The expected results of a conversation, one JSON object a line. `$WORKSPACE` is the path of the agent's workspace.
//!
//! - `{"event": PATTERN}`: events that match these patterns come in this order, among others;
//! - `{"never": PATTERN}`: no event matches;
//! - `{"text": TEXT, "turn": ID}`: this is all that the turn's answer says;
//! - `{"text": TEXT, "agent_turn": N}`: the same of the Nth turn that the agent began, from 1;
//! - `{"received": PATTERN}`: the agent received lines that match these patterns, in this order, among others;
//! - `{"received_bytes": TEXT}`: a line that the agent received has this in it, byte for byte;
//! - `{"never_received": PATTERN}`.
//!
//! `switchboard_test_support::matches` says what a pattern matches.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use serde::Deserialize;
use serde_json::Value;

use switchboard_test_support::{agent_turns, answer_text, matches, unbalanced};

use crate::client::Played;

#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Expected {
    Event { event: Value },
    Never { never: Value },
    Text { text: String, turn: String },
    AgentText { text: String, agent_turn: usize },
    Received { received: Value },
    ReceivedBytes { received_bytes: String },
    NeverReceived { never_received: Value },
}

/// Values, one a line.
pub(crate) fn lines(values: &[Value]) -> String {
    values.iter().fold(String::new(), |mut lines, value| {
        let _ = writeln!(lines, "{value}");
        lines
    })
}

pub(crate) fn check(path: &Path, workspace: &Path, played: &Played, received: &[&str], log: &str) {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let text = text.replace("$WORKSPACE", workspace.to_str().unwrap());
    let parsed: Vec<Value> =
        received.iter().map(|line| serde_json::from_str(line).unwrap_or_default()).collect();
    let (mut events, mut inputs) = (played.events.iter(), parsed.iter());
    let mut failures: Vec<String> = text
        .lines()
        .filter(|line| {
            let expected = serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("{}: {error}: {line}", path.display()));
            !match expected {
                Expected::Event { event } => events.any(|came| matches(&event, came)),
                Expected::Never { never } => !played.events.iter().any(|came| matches(&never, came)),
                Expected::Text { text, turn } => {
                    answer_text(&played.events, &turn.into(), &Value::Null) == text
                }
                Expected::AgentText { text, agent_turn: nth } => {
                    let turns = agent_turns(&played.events);
                    turns
                        .get(nth - 1)
                        .is_some_and(|turn| answer_text(&played.events, turn, &Value::Null) == text)
                }
                Expected::Received { received } => inputs.any(|line| matches(&received, line)),
                Expected::ReceivedBytes { received_bytes } => {
                    received.iter().any(|line| line.contains(&received_bytes))
                }
                Expected::NeverReceived { never_received } => {
                    !parsed.iter().any(|line| matches(&never_received, line))
                }
            }
        })
        .map(str::to_owned)
        .collect();
    failures.extend(unbalanced(&played.events));
    let live = played.events.iter().filter(|event| event["chat_id"] == played.chat);
    let (live, kept) = (of_the_log(live), of_the_log(&played.history));
    if live != kept {
        failures.push(format!("the history is another:\n{}", lines(&kept)));
    }
    assert!(
        failures.is_empty(),
        "not so:\n{}\nevents:\n{}\nreceived by the agent:\n{}\nlog:\n{log}",
        failures.join("\n"),
        lines(&played.events),
        received.join("\n"),
    );
}

/// The chat events, with the deltas of each stream joined at its end. Without the events that a sender gets in place of
/// its own messages.
fn of_the_log<'a>(events: impl IntoIterator<Item = &'a Value>) -> Vec<Value> {
    let mut pieces: BTreeMap<String, String> = BTreeMap::new();
    let mut log = Vec::new();
    for event in events {
        let kind = event["event"].as_str().unwrap_or_default();
        if event["seq"].is_null() || matches!(kind, "message_accepted" | "user_message" | "replay_end") {
            continue;
        }
        let stream = event["stream_id"].to_string();
        if matches!(kind, "delta" | "reasoning_delta") {
            pieces.entry(stream).or_default().push_str(event["text"].as_str().unwrap_or_default());
            continue;
        }
        let mut event = event.clone();
        if let Some(text) = pieces.remove(&stream) {
            event["pieces"] = text.into();
        }
        log.push(event);
    }
    log
}
