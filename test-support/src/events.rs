//! What must hold of the events of chats, whatever happens in them.

use std::collections::BTreeSet;

use serde_json::Value;

/// Whether a value matches a pattern. A pattern that is an object matches an object that has its fields and maybe more,
/// `null` a missing field or null, and `{"has": TEXT}` a text that contains TEXT. Other patterns match equal values.
pub fn matches(pattern: &Value, value: &Value) -> bool {
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

/// The whole text of a turn's answer, without what was declared void; with a tool use as parent, what the subagent said
/// in its place.
pub fn answer_text(events: &[Value], turn: &Value, parent: &Value) -> String {
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
    let ours = events.iter().filter(|event| event["turn_id"] == *turn && event["parent_call_id"] == *parent);
    ours.filter(said).filter_map(|event| event["text"].as_str()).collect()
}

/// The ids of the turns that the agent began, in order.
pub fn agent_turns(events: &[Value]) -> Vec<Value> {
    let began = |event: &&Value| event["event"] == "turn_started" && event["origin"] == "agent";
    events.iter().filter(began).map(|event| event["turn_id"].clone()).collect()
}

/// One sentence for each turn, stream, tool use and request that has begun and not ended, ended twice, or ended without
/// having begun, and for each event of an answer that is in no open turn.
pub fn unbalanced(events: &[Value]) -> Vec<String> {
    let mut open = BTreeSet::new();
    let mut wrong = Vec::new();
    for event in events {
        let kind = event["event"].as_str().unwrap_or_default();
        // Subagents may use the same ids for their tool uses.
        let place = |what| if what == "tool" { &event["parent_call_id"] } else { &Value::Null };
        let key = |what, id: &str| (what, format!("{} {} {}", event["chat_id"], place(what), event[id]));
        let answers = matches!(
            kind,
            "delta"
                | "stream_end"
                | "reasoning_delta"
                | "reasoning_end"
                | "message"
                | "tool_event"
                | "file_edit"
                | "permission_request"
                | "question"
        );
        if answers && !open.contains(&key("turn", "turn_id")) {
            wrong.push(format!("in no open turn: {event}"));
        }
        let (what, id, begins) = match kind {
            "turn_started" => ("turn", "turn_id", true),
            "turn_end" => ("turn", "turn_id", false),
            "permission_request" | "question" => ("request", "request_id", true),
            "request_resolved" => ("request", "request_id", false),
            "tool_event" if event["phase"] == "update" => {
                if !open.contains(&key("tool", "call_id")) {
                    wrong.push(format!("tool was not open at {event}"));
                }
                continue;
            }
            "tool_event" => ("tool", "call_id", event["phase"] == "start"),
            // A stream has no beginning of its own.
            "delta" | "reasoning_delta" => {
                open.insert(key("stream", "stream_id"));
                continue;
            }
            "stream_end" | "reasoning_end" => ("stream", "stream_id", false),
            _ => continue,
        };
        let key = key(what, id);
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
