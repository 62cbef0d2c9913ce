//! Turns an agent's events into events of the log.

use alloc::{format, string::String, vec::Vec};

use serde_json::Value;

use super::{
    bounds::{EDIT_BYTES, bounded},
    chat::Chat,
    context::Context,
    log::{Draft, Effect},
    turn::{ActiveTurn, Ending, StreamKind},
};
use crate::{
    agent::{AgentEvent, AgentInstanceId, AgentRecords, StreamId},
    journal::Change,
    limits::Limits,
    wire::{
        ChatBody, ControlEvent, FileEdit, MessageKind, Outcome, Resolution, ToolHint, ToolPhase, TurnError,
        json_bytes, json_length,
    },
};

impl Chat {
    pub(super) fn records(&mut self, cx: &mut Context, instance: AgentInstanceId, records: AgentRecords) {
        if !self.accepts_records_of(instance) || cx.leaving {
            return;
        }
        if let Some(active) = &mut self.active {
            active.progress(cx.now.ticks_ms);
        }
        let mut draft = Draft::new();
        for event in records.events {
            self.note_adopted_prompt(&event);
            self.record(cx, &mut draft, event);
        }
        if let Some(work) = self.active.as_mut().and_then(ActiveTurn::changed_work) {
            draft.changes.push(Change::OpenWork { work });
        }
        if !draft.events.is_empty() || records.checkpoint.is_some() {
            let (position, checkpoint) = (records.position, records.checkpoint);
            draft.changes.push(Change::AgentPosition { instance, position, checkpoint });
        }
        self.stage(cx, draft);
        if self.requests.len() > cx.limits.open_requests {
            self.fail_turn(
                cx,
                "too_many_requests",
                "the agent asked too many things at once and was stopped",
            );
        } else if self.active.as_ref().is_some_and(|active| active.open_work() > cx.limits.open_work) {
            self.fail_turn(cx, "too_many_open", "the agent had too many things open at once and was stopped");
        }
        self.try_start(cx);
        self.rearm(cx);
    }

    /// Marks the prompt as sent if an adopted agent answers the active turn: the earlier gateway process sent the
    /// prompt, though the journal has lost the turn's start.
    fn note_adopted_prompt(&mut self, event: &AgentEvent) {
        if self.adopted_for.is_some()
            && event.is_of_turn()
            && self.adopted_for == self.active_turn_id()
            && let Some(active) = &mut self.active
        {
            active.prompted = true;
        }
    }

    /// Fails the turn of an agent that exceeds a limit, and kills the agent.
    fn fail_turn(&mut self, cx: &mut Context, code: &str, detail: &str) {
        self.stop_agent(cx, true);
        let error = TurnError { code: code.into(), detail: detail.into() };
        self.end_turn(cx, Outcome::Failed, Some(error));
    }

    fn record(&mut self, cx: &mut Context, draft: &mut Draft, event: AgentEvent) {
        match bounded(event) {
            AgentEvent::Text { stream, text } => {
                self.delta(&cx.limits, draft, &stream, StreamKind::Answer, text);
            }
            AgentEvent::Reasoning { stream, text } => {
                self.delta(&cx.limits, draft, &stream, StreamKind::Reasoning, text);
            }
            AgentEvent::TextEnd { stream, text, void } => self.text_end(cx, draft, &stream, text, void),
            AgentEvent::ReasoningEnd { stream, void } => {
                self.close_stream(&stream);
                self.push(draft, ChatBody::ReasoningEnd { stream_id: (*stream).into(), void });
            }
            AgentEvent::Message { text } => self.message_text(cx, draft, text),
            AgentEvent::Progress { text } => {
                let text = cut(text, cx.limits.event_text_bytes).0;
                let kind = Some(MessageKind::Progress);
                self.push(draft, ChatBody::Message { text, kind, tool_events: Vec::new() });
            }
            AgentEvent::Alive => {}
            AgentEvent::ToolStarted { call_id, name, arguments } => {
                self.tool_started(cx, draft, call_id, name, arguments);
            }
            AgentEvent::ToolEnded { call_id, name, result, truncated } => {
                self.tool_ended(cx, draft, call_id, name, result, truncated);
            }
            AgentEvent::FileEdit { edits } => self.file_edit(cx, draft, edits),
            AgentEvent::Permission(ask) => self.permission_asked(cx, draft, ask),
            AgentEvent::Question(question) => self.question_asked(cx, draft, question),
            AgentEvent::Withdrawn { request_id } => {
                if let Some(open) = self.requests.of_agent(&request_id) {
                    self.close_request(cx, draft, &open, Resolution::Withdrawn, None);
                }
            }
            AgentEvent::Notice { level, code, text } => {
                let text = cut(text, cx.limits.event_text_bytes).0;
                self.push(draft, ChatBody::Notice { level, code, text });
            }
            AgentEvent::Model { name } => {
                if self.model.as_ref() != Some(&name) {
                    self.model = Some(name.clone());
                    let chat_id = self.key.chat.clone();
                    draft
                        .effects
                        .push(Effect::Fan(ControlEvent::RuntimeModelUpdated { chat_id, model_name: name }));
                }
            }
            AgentEvent::Session { token } => {
                if self.session.as_ref() != Some(&token) {
                    self.session = Some(token.clone());
                    draft.changes.push(Change::Session { token });
                }
            }
            // Before the prompt was sent, the agent can only have ended an earlier turn.
            AgentEvent::TurnEnded { outcome, error, usage, cost } => {
                if self.answered_turn_id().is_some() {
                    self.end_into(cx, draft, Ending { outcome, error, usage, cost });
                }
            }
        }
    }

    pub(super) fn push(&self, draft: &mut Draft, body: ChatBody) {
        draft.push(self.answered_turn_id().as_ref(), body);
    }

    fn close_stream(&mut self, stream: &StreamId) {
        if let Some(active) = &mut self.active {
            active.work_changed |= active.streams.remove(stream).is_some();
        }
    }

    /// Appends text to a stream. Adjacent pieces that arrived together are merged into one event, up to a limit.
    fn delta(
        &mut self,
        limits: &Limits,
        draft: &mut Draft,
        stream: &StreamId,
        kind: StreamKind,
        text: String,
    ) {
        if text.is_empty() {
            return;
        }
        if let Some(active) = self.active.as_mut().filter(|active| active.prompted)
            && !active.streams.contains_key(stream)
        {
            active.streams.insert(stream.clone(), kind);
            active.work_changed = true;
        }
        // JSON escapes a byte with at most six.
        if text.len() <= limits.event_text_bytes / 6 {
            self.piece(limits, draft, stream, kind, text);
            return;
        }
        for piece in pieces(&text, limits.event_text_bytes) {
            self.piece(limits, draft, stream, kind, String::from(piece));
        }
    }

    fn piece(&self, limits: &Limits, draft: &mut Draft, stream: &StreamId, kind: StreamKind, text: String) {
        if joined(limits, draft, stream, kind, &text) {
            return;
        }
        let stream_id = String::from(&**stream);
        let body = match kind {
            StreamKind::Answer => ChatBody::Delta { stream_id, text },
            StreamKind::Reasoning => ChatBody::ReasoningDelta { stream_id, text },
        };
        self.push(draft, body);
    }

    /// Logs changed files, in as many events as they need.
    fn file_edit(&self, cx: &Context, draft: &mut Draft, edits: Vec<FileEdit>) {
        let limit = cx.limits.event_text_bytes;
        let (mut fitting, mut size) = (Vec::new(), 0);
        for mut edit in edits {
            edit.diff = edit.diff.filter(|diff| boundary(diff, limit) == diff.len());
            let texts = [&edit.call_id, &edit.tool, &edit.path].into_iter().chain(&edit.diff);
            let more = EDIT_BYTES + texts.map(|text| json_bytes(text)).sum::<usize>();
            if size + more > limit && !fitting.is_empty() {
                self.push(draft, ChatBody::FileEdit { edits: core::mem::take(&mut fitting) });
                size = 0;
            }
            size += more;
            fitting.push(edit);
        }
        if !fitting.is_empty() {
            self.push(draft, ChatBody::FileEdit { edits: fitting });
        }
    }

    fn text_end(
        &mut self,
        cx: &Context,
        draft: &mut Draft,
        stream: &StreamId,
        text: Option<String>,
        void: bool,
    ) {
        let text = match text {
            Some(text) if boundary(&text, cx.limits.event_text_bytes) < text.len() => {
                self.delta(&cx.limits, draft, stream, StreamKind::Answer, text);
                None
            }
            text => text,
        };
        self.close_stream(stream);
        self.push(draft, ChatBody::StreamEnd { stream_id: (**stream).into(), text, void });
    }

    /// Logs a whole answer: as one message, or as a stream if it is too long for one event.
    fn message_text(&mut self, cx: &Context, draft: &mut Draft, text: String) {
        if text.is_empty() {
            return;
        }
        if boundary(&text, cx.limits.event_text_bytes) == text.len() {
            self.push(draft, ChatBody::Message { text, kind: None, tool_events: Vec::new() });
            return;
        }
        let stream: StreamId = format!("m{}", self.staged + draft.events.len() as u64 + 1).into();
        self.delta(&cx.limits, draft, &stream, StreamKind::Answer, text);
        self.text_end(cx, draft, &stream, None, false);
    }

    fn tool_started(
        &mut self,
        cx: &Context,
        draft: &mut Draft,
        call_id: String,
        name: String,
        arguments: Value,
    ) {
        if let Some(active) = &mut self.active {
            active.tools.push(call_id.clone());
            active.work_changed = true;
        }
        let (arguments, truncated) = cut_value(arguments, cx.limits.event_text_bytes);
        let hint = hint(ToolPhase::Start, &call_id, &name);
        self.push(
            draft,
            ChatBody::ToolEvent {
                phase: ToolPhase::Start,
                call_id,
                name,
                arguments: Some(arguments),
                result: None,
                error: None,
                truncated,
            },
        );
        self.push(draft, hint);
    }

    fn tool_ended(
        &mut self,
        cx: &Context,
        draft: &mut Draft,
        call_id: String,
        name: String,
        result: Result<String, String>,
        truncated: bool,
    ) {
        if let Some(active) = &mut self.active {
            active.tools.retain(|open| *open != call_id);
            active.work_changed = true;
        }
        let limit = cx.limits.event_text_bytes;
        let (phase, result, error, cut_here) = match result {
            Ok(text) => {
                let (text, was_cut) = cut(text, limit);
                (ToolPhase::End, Some(text), None, was_cut)
            }
            Err(text) => {
                let (text, was_cut) = cut(text, limit);
                (ToolPhase::Error, None, Some(text), was_cut)
            }
        };
        let hint = hint(phase, &call_id, &name);
        let truncated = truncated || cut_here;
        self.push(
            draft,
            ChatBody::ToolEvent { phase, call_id, name, arguments: None, result, error, truncated },
        );
        self.push(draft, hint);
    }
}

/// Merges a piece into the draft's last event if that is a delta of the same stream with room.
fn joined(limits: &Limits, draft: &mut Draft, stream: &StreamId, kind: StreamKind, piece: &str) -> bool {
    let Some((_, last)) = draft.events.last_mut() else { return false };
    let (
        (ChatBody::Delta { stream_id, text }, StreamKind::Answer)
        | (ChatBody::ReasoningDelta { stream_id, text }, StreamKind::Reasoning),
    ) = ((last, kind),)
    else {
        return false;
    };
    if **stream != **stream_id || text.len() + piece.len() > limits.merge_bytes {
        return false;
    }
    text.push_str(piece);
    true
}

/// The hint for clients that do not know `tool_event`, without the tool's input and output.
fn hint(phase: ToolPhase, call_id: &str, name: &str) -> ChatBody {
    let hint = ToolHint { version: 1, phase, call_id: call_id.into(), name: name.into() };
    ChatBody::Message {
        text: String::new(),
        kind: Some(MessageKind::ToolHint),
        tool_events: alloc::vec![hint],
    }
}

/// Splits a text at character boundaries into pieces of at most `limit` bytes of JSON.
fn pieces(text: &str, limit: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, tail) = rest.split_at(boundary(rest, limit));
        rest = tail;
        Some(piece)
    })
}

/// The length in bytes of the longest start of `text` that takes at most `limit` bytes of JSON, but of one character at
/// least.
pub(super) fn boundary(text: &str, limit: usize) -> usize {
    // JSON takes at most six times a character's bytes.
    if text.len() <= limit / 6 {
        return text.len();
    }
    let mut json = 0;
    for (at, letter) in text.char_indices() {
        json += json_length(letter);
        if json > limit {
            return if at == 0 { letter.len_utf8() } else { at };
        }
    }
    text.len()
}

pub(super) fn cut(mut text: String, limit: usize) -> (String, bool) {
    let end = boundary(&text, limit);
    let was_cut = end < text.len();
    text.truncate(end);
    (text, was_cut)
}

/// Truncates the strings of a value so that it fits. If that is not enough, the result is the start of the value's JSON
/// text, as a string.
pub(super) fn cut_value(value: Value, limit: usize) -> (Value, bool) {
    let size = |value: &Value| serde_json::to_vec(value).map_or(usize::MAX, |json| json.len());
    if size(&value) <= limit {
        return (value, false);
    }
    let mut value = value;
    cut_strings(&mut value, limit / 8);
    if size(&value) <= limit {
        return (value, true);
    }
    let text = serde_json::to_string(&value).unwrap_or_default();
    (Value::String(cut(text, limit).0), true)
}

fn cut_strings(value: &mut Value, limit: usize) {
    match value {
        Value::String(text) => *text = cut(core::mem::take(text), limit).0,
        Value::Array(items) => items.iter_mut().for_each(|item| cut_strings(item, limit)),
        Value::Object(fields) => fields.values_mut().for_each(|field| cut_strings(field, limit)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    #[test]
    fn texts_are_measured_as_they_stand_in_a_frame() {
        assert_eq!(boundary("plain", 5), 5);
        assert_eq!(boundary("plain", 4), 4);
        assert_eq!(boundary("\"quoted\"", 9), 7, "a quote takes two");
        assert_eq!(boundary("a\nb", 3), 2);
        assert_eq!(boundary("\u{1b}[1m", 8), 3, "an escape takes six");
        assert_eq!(boundary("aé", 2), 1, "a character is not cut");
        assert_eq!(boundary("é", 1), 2, "there is always progress");
        assert_eq!(boundary("", 0), 0);
        assert_eq!(pieces("abécd", 3).collect::<Vec<_>>(), vec!["ab", "éc", "d"]);
        let json = |text: &str| serde_json::to_string(text).expect("a text").len() - 2;
        let text: String = (0..4000_u32).filter_map(|n| char::from_u32(n % 300)).collect();
        assert!(pieces(&text, 100).all(|piece| json(piece) <= 100));
    }
}
