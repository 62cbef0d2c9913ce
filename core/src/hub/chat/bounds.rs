//! Limits the length of names, ids and paths of an agent. As its texts are truncated or split too, no event is larger
//! than 256 KiB.

use alloc::{boxed::Box, format, string::String, vec::Vec};

use super::text::{boundary, is_short, json_size};
use crate::{
    agent::{AgentEvent, StreamId, ToolInput},
    wire::{FileEdit, Source, ToolMedia, TurnError, input_sha256},
};

/// Maximum length of the name of a tool or model, in bytes of JSON.
pub(super) const NAME_BYTES: usize = 512;
/// Maximum length of the id of a stream or of a tool use, in bytes of JSON. A longer id is replaced by its hash.
const ID_BYTES: usize = 256;
/// Maximum length of a path, and of the sentence about a turn's end, in bytes of JSON.
const LINE_BYTES: usize = 4 * 1024;
/// Maximum length of the title of a tool use or a task, and of the path of a tool's file, in bytes of JSON.
const TITLE_BYTES: usize = 1024;
/// Maximum length of a source's address, in bytes of JSON.
const ADDRESS_BYTES: usize = 2 * 1024;
/// Maximum number of sources, media or locations of an event.
const LIST_ITEMS: usize = 16;
/// Maximum size of a notice's details, in bytes of JSON. Larger ones are left out.
const DATA_BYTES: usize = 4 * 1024;
/// The size of a file edit in its event without its texts, in bytes, rounded up.
pub(super) const EDIT_BYTES: usize = 128;

/// The same event with names, ids, paths and reasons of limited length. A truncated text ends in an ellipsis.
pub(super) fn bounded(event: AgentEvent) -> AgentEvent {
    match event {
        AgentEvent::Text { stream, text } => AgentEvent::Text { stream: stream_id(stream), text },
        AgentEvent::TextEnd { stream, text, void, sources } => {
            AgentEvent::TextEnd { stream: stream_id(stream), text, void, sources: bounded_sources(sources) }
        }
        AgentEvent::Reasoning { stream, text } => AgentEvent::Reasoning { stream: stream_id(stream), text },
        AgentEvent::ReasoningEnd { stream, void } => {
            AgentEvent::ReasoningEnd { stream: stream_id(stream), void }
        }
        AgentEvent::Subagent { parent_call_id, event } => {
            AgentEvent::Subagent { parent_call_id: id(parent_call_id), event: Box::new(bounded(*event)) }
        }
        AgentEvent::ToolStarted { call_id, name, input } => {
            let (call_id, name) = (id(call_id), shortened(name, NAME_BYTES));
            AgentEvent::ToolStarted { call_id, name, input: bounded_input(input) }
        }
        AgentEvent::ToolUpdated { call_id, name, input, output } => {
            let (call_id, name) = (id(call_id), shortened(name, NAME_BYTES));
            AgentEvent::ToolUpdated { call_id, name, input: input.map(bounded_input), output }
        }
        AgentEvent::ToolEnded { call_id, name, result, truncated, media, sources } => {
            let (call_id, name) = (id(call_id), shortened(name, NAME_BYTES));
            let (media, sources) = (bounded_media(media), bounded_sources(sources));
            AgentEvent::ToolEnded { call_id, name, result, truncated, media, sources }
        }
        AgentEvent::Task(mut task) => {
            task.task_id = id(task.task_id);
            task.title = shortened(task.title, TITLE_BYTES);
            task.parent_call_id = task.parent_call_id.map(id);
            AgentEvent::Task(task)
        }
        AgentEvent::FileEdit { edits } => {
            AgentEvent::FileEdit { edits: edits.into_iter().map(edit).collect() }
        }
        AgentEvent::Permission(mut ask) => {
            ask.call_id = ask.call_id.map(id);
            AgentEvent::Permission(ask)
        }
        AgentEvent::Notice { level, code, text, data } => {
            let data = data.filter(|data| json_size(data) <= DATA_BYTES);
            AgentEvent::Notice { level, code: shortened(code, NAME_BYTES), text, data }
        }
        AgentEvent::Model { name } => AgentEvent::Model { name: shortened(name, NAME_BYTES) },
        AgentEvent::TurnEnded { outcome, error, usage, cost } => {
            AgentEvent::TurnEnded { outcome, error: error.map(bounded_error), usage, cost }
        }
        AgentEvent::AgentTurnEnded { outcome, error, usage, cost } => {
            AgentEvent::AgentTurnEnded { outcome, error: error.map(bounded_error), usage, cost }
        }
        same @ (AgentEvent::Message { .. }
        | AgentEvent::Progress { .. }
        | AgentEvent::AgentTurnStarted { .. }
        | AgentEvent::Alive
        | AgentEvent::Question(_)
        | AgentEvent::Withdrawn { .. }
        | AgentEvent::Session { .. }) => same,
    }
}

fn bounded_error(TurnError { code, detail }: TurnError) -> TurnError {
    TurnError { code: shortened(code, NAME_BYTES), detail: shortened(detail, LINE_BYTES) }
}

/// The input with a title and locations of limited length. Arguments are truncated where they are logged.
fn bounded_input(mut input: ToolInput) -> ToolInput {
    input.title = input.title.map(|title| shortened(title, TITLE_BYTES));
    input.locations.truncate(LIST_ITEMS);
    for location in &mut input.locations {
        location.path = shortened(core::mem::take(&mut location.path), TITLE_BYTES);
    }
    input
}

fn bounded_media(mut media: Vec<ToolMedia>) -> Vec<ToolMedia> {
    media.truncate(LIST_ITEMS);
    for medium in &mut media {
        medium.media_type = shortened(core::mem::take(&mut medium.media_type), ID_BYTES);
    }
    media
}

/// The first sources. One with a longer address is left out, because a truncated address leads elsewhere.
fn bounded_sources(sources: Vec<Source>) -> Vec<Source> {
    let fits = sources.into_iter().filter(|source| is_short(&source.url, ADDRESS_BYTES));
    let bounded =
        |Source { url, title }| Source { url, title: title.map(|title| shortened(title, NAME_BYTES)) };
    fits.take(LIST_ITEMS).map(bounded).collect()
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
