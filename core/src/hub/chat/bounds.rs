//! Limits the length of names, ids and paths of an agent. As its texts are truncated or split too, no event is larger
//! than 256 KiB.

use alloc::{format, string::String};

use super::text::{boundary, is_short};
use crate::{
    agent::{AgentEvent, StreamId},
    wire::{FileEdit, TurnError, input_sha256},
};

/// Maximum length of the name of a tool or model, in bytes of JSON.
pub(super) const NAME_BYTES: usize = 512;
/// Maximum length of the id of a stream or of a tool use, in bytes of JSON. A longer id is replaced by its hash.
const ID_BYTES: usize = 256;
/// Maximum length of a path, and of the sentence about a turn's end, in bytes of JSON.
const LINE_BYTES: usize = 4 * 1024;
/// The size of a file edit in its event without its texts, in bytes, rounded up.
pub(super) const EDIT_BYTES: usize = 128;

/// The same event with names, ids, paths and reasons of limited length. A truncated text ends in an ellipsis.
pub(super) fn bounded(event: AgentEvent) -> AgentEvent {
    match event {
        AgentEvent::Text { stream, text } => AgentEvent::Text { stream: stream_id(stream), text },
        AgentEvent::TextEnd { stream, text, void } => {
            AgentEvent::TextEnd { stream: stream_id(stream), text, void }
        }
        AgentEvent::Reasoning { stream, text } => AgentEvent::Reasoning { stream: stream_id(stream), text },
        AgentEvent::ReasoningEnd { stream, void } => {
            AgentEvent::ReasoningEnd { stream: stream_id(stream), void }
        }
        AgentEvent::ToolStarted { call_id, name, arguments } => {
            AgentEvent::ToolStarted { call_id: id(call_id), name: shortened(name, NAME_BYTES), arguments }
        }
        AgentEvent::ToolEnded { call_id, name, result, truncated } => {
            let (call_id, name) = (id(call_id), shortened(name, NAME_BYTES));
            AgentEvent::ToolEnded { call_id, name, result, truncated }
        }
        AgentEvent::FileEdit { edits } => {
            AgentEvent::FileEdit { edits: edits.into_iter().map(edit).collect() }
        }
        AgentEvent::Permission(mut ask) => {
            ask.call_id = ask.call_id.map(id);
            AgentEvent::Permission(ask)
        }
        AgentEvent::Notice { level, code, text } => {
            AgentEvent::Notice { level, code: shortened(code, NAME_BYTES), text }
        }
        AgentEvent::Model { name } => AgentEvent::Model { name: shortened(name, NAME_BYTES) },
        AgentEvent::TurnEnded { outcome, error, usage, cost } => {
            let error = error.map(|TurnError { code, detail }| TurnError {
                code: shortened(code, NAME_BYTES),
                detail: shortened(detail, LINE_BYTES),
            });
            AgentEvent::TurnEnded { outcome, error, usage, cost }
        }
        same @ (AgentEvent::Message { .. }
        | AgentEvent::Progress { .. }
        | AgentEvent::Alive
        | AgentEvent::Question(_)
        | AgentEvent::Withdrawn { .. }
        | AgentEvent::Session { .. }) => same,
    }
}

fn edit(mut edit: FileEdit) -> FileEdit {
    edit.call_id = id(edit.call_id);
    edit.tool = shortened(edit.tool, NAME_BYTES);
    edit.path = shortened(edit.path, LINE_BYTES);
    edit
}

fn stream_id(stream: StreamId) -> StreamId {
    if is_short(&stream, ID_BYTES) { stream } else { id(String::from(&*stream)).into() }
}

/// The same id, or its hash if it is too long.
fn id(given: String) -> String {
    if is_short(&given, ID_BYTES) { given } else { format!("sha256-{}", input_sha256(&given)) }
}

fn shortened(mut text: String, most: usize) -> String {
    if !is_short(&text, most) {
        text.truncate(boundary(&text, most - '…'.len_utf8()));
        text.push('…');
    }
    text
}
