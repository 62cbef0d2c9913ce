//! The text of a message that cites and is not streamed.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use switchboard_core::agent::{AgentEvent, StreamId};

use super::sources::Sources;

/// A message that cites. Its text is cut into a block for each citation, and the blocks may come on several lines. They
/// are one text, which ends where another kind of block follows.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CitingMessage {
    id: String,
    /// The stream of the text, if one is open.
    stream: Option<StreamId>,
    sources: Sources,
}

impl CitingMessage {
    pub(super) fn new(id: &str) -> Self {
        Self { id: id.into(), stream: None, sources: Sources::default() }
    }

    /// Whether this is the message with this id.
    pub(super) fn is(&self, id: &str) -> bool {
        self.id == id && !id.is_empty()
    }

    /// Sends the text of a block. It begins `stream`, unless it continues the text of the block before.
    pub(super) fn add(
        &mut self,
        stream: StreamId,
        text: &str,
        citations: Option<&RawValue>,
        events: &mut Vec<AgentEvent>,
    ) {
        let stream = self.stream.get_or_insert(stream).clone();
        self.sources.add_list(citations);
        events.push(AgentEvent::Text { stream, text: text.into() });
    }

    /// Ends the text that is open.
    pub(super) fn end_text(&mut self, events: &mut Vec<AgentEvent>) {
        if let Some(stream) = self.stream.take() {
            let sources = std::mem::take(&mut self.sources).into();
            events.push(AgentEvent::TextEnd { stream, text: None, void: false, sources });
        }
    }
}
