//! An event of a tool use, with texts of limited length.

use alloc::{string::String, vec, vec::Vec};

use serde_json::Value;

use super::{
    log::Draft,
    text::{cut, cut_value},
};
use crate::{
    agent::ToolInput,
    ids::TurnId,
    wire::{ChatBody, MessageKind, Source, ToolHint, ToolLocation, ToolMedia, ToolPhase},
};

/// The fields of a [`ChatBody::ToolEvent`].
#[derive(Debug)]
pub(super) struct ToolUse {
    pub(super) phase: ToolPhase,
    pub(super) call_id: String,
    pub(super) name: String,
    pub(super) title: Option<String>,
    pub(super) locations: Vec<ToolLocation>,
    pub(super) arguments: Option<Value>,
    pub(super) output: Option<String>,
    pub(super) result: Option<String>,
    pub(super) error: Option<String>,
    pub(super) stopped: bool,
    pub(super) truncated: bool,
    pub(super) media: Vec<ToolMedia>,
    pub(super) sources: Vec<Source>,
}

impl ToolUse {
    /// An event with these fields only.
    pub(super) fn new(phase: ToolPhase, call_id: String, name: String) -> Self {
        Self {
            phase,
            call_id,
            name,
            title: None,
            locations: Vec::new(),
            arguments: None,
            output: None,
            result: None,
            error: None,
            stopped: false,
            truncated: false,
            media: Vec::new(),
            sources: Vec::new(),
        }
    }

    /// The same event with this input, if there is one.
    pub(super) fn with_input(self, input: Option<ToolInput>) -> Self {
        let Some(ToolInput { arguments, partial, title, locations }) = input else { return self };
        Self { arguments: Some(arguments), title, locations, truncated: self.truncated || partial, ..self }
    }

    /// The end of a tool use, with its result or its error.
    pub(super) fn ended(call_id: String, name: String, result: Result<String, String>) -> Self {
        match result {
            Ok(text) => Self { result: Some(text), ..Self::new(ToolPhase::End, call_id, name) },
            Err(text) => Self { error: Some(text), ..Self::new(ToolPhase::Error, call_id, name) },
        }
    }

    /// Logs the event, and the hint for clients that do not know `tool_event`.
    pub(super) fn log(self, draft: &mut Draft, turn_id: Option<&TurnId>) {
        let hint = (self.phase != ToolPhase::Update).then(|| self.hint());
        draft.push(turn_id, self.into());
        if let Some(hint) = hint {
            draft.push(turn_id, hint);
        }
    }

    /// The hint, which has neither the tool's input nor its output.
    fn hint(&self) -> ChatBody {
        let (call_id, name) = (self.call_id.clone(), self.name.clone());
        let hint = ToolHint { version: 1, phase: self.phase, call_id, name };
        ChatBody::Message { text: String::new(), kind: Some(MessageKind::ToolHint), tool_events: vec![hint] }
    }

    /// Truncates arguments, output and result to `limit` bytes of JSON each.
    pub(super) fn bounded(mut self, limit: usize) -> Self {
        if let Some(arguments) = self.arguments.take() {
            let (arguments, was_cut) = cut_value(arguments, limit);
            self.arguments = Some(arguments);
            self.truncated |= was_cut;
        }
        for text in [&mut self.output, &mut self.result, &mut self.error].into_iter().flatten() {
            let (short, was_cut) = cut(core::mem::take(text), limit);
            *text = short;
            self.truncated |= was_cut;
        }
        self
    }
}

impl From<ToolUse> for ChatBody {
    fn from(event: ToolUse) -> Self {
        let ToolUse {
            phase,
            call_id,
            name,
            title,
            locations,
            arguments,
            output,
            result,
            error,
            stopped,
            truncated,
            media,
            sources,
        } = event;
        Self::ToolEvent {
            phase,
            call_id,
            name,
            title,
            locations,
            arguments,
            output,
            result,
            error,
            stopped,
            truncated,
            media,
            sources,
        }
    }
}
