//! Lines as the agent writes them, and the events that they give.

use serde_json::{Value, json};

use super::{codec, decode};

/// Decodes lines, and renders the events without positions and `Alive`.
pub(super) fn shown<L: ToString>(lines: &[L]) -> Vec<String> {
    let lines: Vec<String> = lines.iter().map(L::to_string).collect();
    let shown = decode(&mut codec(), &lines);
    shown.lines().map(|line| line[4..].to_owned()).filter(|line| line != ".").collect()
}

/// Checks the events that these lines give.
#[track_caller]
pub(super) fn check<L: ToString>(lines: &[L], expected: &[&str]) {
    assert_eq!(shown(lines), expected);
}

/// The line with further members.
pub(super) fn with(mut line: Value, more: Value) -> Value {
    let Value::Object(more) = more else { panic!("{more} is no object") };
    line.as_object_mut().unwrap().extend(more);
    line
}

/// The line as one of the subagent that this tool use runs; without a tool use, the agent's own.
pub(super) fn by(parent: Option<&str>, line: Value) -> Value {
    with(line, json!({"parent_tool_use_id": parent}))
}

/// The line with JSON text in place of `TEXT`; the JSON text may have half a character.
pub(super) fn raw(line: &Value, json: &str) -> String {
    line.to_string().replace("TEXT", json)
}

pub(super) fn system(subtype: &str, more: Value) -> Value {
    with(json!({"type": "system", "subtype": subtype}), more)
}

/// A line with an event of a streamed message.
pub(super) fn event(event: Value) -> Value {
    json!({"type": "stream_event", "event": event, "parent_tool_use_id": null})
}

pub(super) fn message_start(id: &str) -> Value {
    event(json!({"type": "message_start", "message": {"id": id}}))
}

pub(super) fn block_start(index: u64, block: Value) -> Value {
    event(json!({"type": "content_block_start", "index": index, "content_block": block}))
}

pub(super) fn delta(index: u64, delta: Value) -> Value {
    event(json!({"type": "content_block_delta", "index": index, "delta": delta}))
}

pub(super) fn text_delta(index: u64, text: &str) -> Value {
    delta(index, json!({"type": "text_delta", "text": text}))
}

/// A piece of a tool's input.
pub(super) fn input_delta(index: u64, json: &str) -> Value {
    delta(index, json!({"type": "input_json_delta", "partial_json": json}))
}

pub(super) fn block_stop(index: u64) -> Value {
    event(json!({"type": "content_block_stop", "index": index}))
}

pub(super) fn message_stop() -> Value {
    event(json!({"type": "message_stop"}))
}

/// A line with a whole block of the message `id`.
pub(super) fn assistant(id: &str, block: Value) -> Value {
    json!({"type": "assistant", "message": {"id": id, "content": [block]}, "parent_tool_use_id": null})
}

/// A block of text.
pub(super) fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

/// A block with a tool use.
pub(super) fn tool_use(id: &str, name: &str, input: Value) -> Value {
    json!({"type": "tool_use", "id": id, "name": name, "input": input})
}

pub(super) fn tool_result(id: &str, content: Value) -> Value {
    let block = json!({"type": "tool_result", "tool_use_id": id, "content": content});
    json!({"type": "user", "message": {"role": "user", "content": [block]}, "parent_tool_use_id": null})
}

/// A request for permission to use Bash.
pub(super) fn ask(request_id: &str, more: Value) -> Value {
    let request = with(json!({"subtype": "can_use_tool", "tool_name": "Bash", "input": {}}), more);
    json!({"type": "control_request", "request_id": request_id, "request": request})
}

/// The result of a turn that is complete.
pub(super) fn result(text: &str, more: Value) -> Value {
    let result = json!({"type": "result", "subtype": "success", "is_error": false, "num_turns": 1,
        "terminal_reason": "completed", "result": text});
    with(result, more)
}
