//! An event of a tool use, with texts of limited length.

use alloc::{string::String, vec::Vec};

use serde_json::Value;

use super::text::{cut, cut_value};
use crate::wire::{ChatBody, Source, ToolLocation, ToolMedia, ToolPhase};

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
            truncated: false,
            media: Vec::new(),
            sources: Vec::new(),
        }
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
            truncated,
            media,
            sources,
        }
    }
}
