//! The expected results of a conversation, one JSON object a line. `$WORKSPACE` is the path of the agent's workspace.
//!
//! - `{"event": PATTERN}`: events that match these patterns come in this order, among others;
//! - `{"never": PATTERN}`: no event matches;
//! - `{"text": TEXT, "turn": ID}`: this is all that the turn's answer says;
//! - `{"received": PATTERN}`: the agent received lines that match these patterns, in this order, among others;
//! - `{"received_bytes": TEXT}`: a line that the agent received has this in it, byte for byte;
//! - `{"never_received": PATTERN}`.
//!
//! A pattern that is an object matches an object that has its fields and maybe more, `null` a missing field or null, and
//! `{"has": TEXT}` a text that contains TEXT. Other patterns match equal values.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use serde::Deserialize;
use serde_json::Value;

use crate::client::Played;

#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Expected {
    Event { event: Value },
    Never { never: Value },
    Text { text: String, turn: String },
    Received { received: Value },
    ReceivedBytes { received_bytes: String },
    NeverReceived { never_received: Value },
}

pub(crate) fn matches(pattern: &Value, value: &Value) -> bool {
    match (pattern, value) {
        (Value::Object(fields), Value::String(text)) => {
            fields.len() == 1
                && fields.get("has").and_then(Value::as_str).is_some_and(|part| text.contains(part))
        }
        (Value::Object(fields), Value::Object(_)) => {
            fields.iter().all(|(name, pattern)| matches(pattern, &value[name]))
        }
        (Value::Array(patterns), Value::Array(values)) => {
            patterns.len() == values.len()
                && patterns.iter().zip(values).all(|(pattern, value)| matches(pattern, value))
        }
        _ => pattern == value,
    }
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
                Expected::Text { text, turn } => delta_text(&played.events, &turn) == text,
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
    let (live, kept) = (of_the_log(&played.events), of_the_log(&played.history));
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

fn delta_text(events: &[Value], turn: &str) -> String {
    let void = |stream: &Value| {
        events.iter().any(|event| {
            event["event"] == "stream_end" && event["stream_id"] == *stream && event["void"] == true
        })
    };
    let said = |event: &&Value| match event["event"].as_str() {
        Some("delta") => !void(&event["stream_id"]),
        Some("message") => event["kind"].is_null(),
        _ => false,
    };
    let ours = events.iter().filter(|event| event["turn_id"] == turn);
    ours.filter(said).filter_map(|event| event["text"].as_str()).collect()
}

/// The turns and streams that have begun and not ended, ended twice, or ended without having begun.
fn unbalanced(events: &[Value]) -> Vec<String> {
    let mut open = BTreeSet::new();
    let mut wrong = Vec::new();
    for event in events {
        let kind = event["event"].as_str().unwrap_or_default();
        let (what, id, begins) = match kind {
            "turn_started" => ("turn", "turn_id", true),
            "turn_end" => ("turn", "turn_id", false),
            "permission_request" | "question" => ("request", "request_id", true),
            "request_resolved" => ("request", "request_id", false),
            "tool_event" => ("tool", "call_id", event["phase"] == "start"),
            // A stream has no beginning of its own.
            "delta" | "reasoning_delta" => {
                open.insert(("stream", event["stream_id"].to_string()));
                continue;
            }
            "stream_end" | "reasoning_end" => ("stream", "stream_id", false),
            _ => continue,
        };
        let key = (what, event[id].to_string());
        let was_open = open.contains(&key);
        let right = if begins { open.insert(key) } else { open.remove(&key) };
        if !right {
            wrong
                .push(format!("{what} {} at {event}", if was_open { "began twice" } else { "was not open" }));
        }
    }
    wrong.extend(open.iter().map(|(what, id)| format!("{what} {id} has not ended")));
    wrong
}

/// The chat events, with the deltas of each stream joined at its end. Without the events that a sender gets in place of
/// its own messages.
fn of_the_log(events: &[Value]) -> Vec<Value> {
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
