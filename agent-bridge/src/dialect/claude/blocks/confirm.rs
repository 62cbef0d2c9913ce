//! Blocks that come as a whole after their pieces.

use serde_json::value::RawValue;
use switchboard_core::agent::AgentEvent;

use super::{Kind, OpenBlock, OpenMessage, Phase};
use crate::dialect::claude::texts::{KnownTexts, TextDigest, WholeBlock};

impl OpenMessage {
    /// Handles a text of any message that came as a whole, if it is the streamed text of a block here that no `assistant`
    /// line has repeated. Returns whether it is.
    pub(in crate::dialect::claude) fn confirm_streamed(
        &mut self,
        text: &str,
        block: (WholeBlock, Option<&RawValue>),
        texts: &mut KnownTexts,
        events: &mut Vec<AgentEvent>,
    ) -> bool {
        let this = TextDigest::of(text);
        let is_this = |block: &OpenBlock| block.is_unconfirmed_text() && block.streamed_with_half() == this;
        let Some(at) = self.blocks.iter().position(is_this) else { return false };
        let (whole, citations) = block;
        self.confirm_block(at, text, citations, events);
        texts.streamed(this, self.key(), Some(whole));
        true
    }

    /// Adds the rest of the text that a result has as a whole, because no more of its pieces comes.
    pub(in crate::dialect::claude) fn complete(&mut self, text: &str, events: &mut Vec<AgentEvent>) {
        let Some(block) = self.blocks.last_mut().filter(|block| block.kind == Kind::Text) else { return };
        if !block.is_over() && block.held.is_none() && block.streamed.bytes > 0 {
            let rest = block.streamed.rest_of(text).filter(|rest| !rest.is_empty());
            if let Some(rest) = rest {
                block.half = None;
                block.push(rest, events);
            }
        }
    }

    /// Handles a whole text of this message. Returns whether it is the text of a block here.
    pub(in crate::dialect::claude) fn confirm(
        &mut self,
        text: &str,
        block: (WholeBlock, Option<&RawValue>),
        texts: &mut KnownTexts,
        events: &mut Vec<AgentEvent>,
    ) -> bool {
        let Some(at) = self.unconfirmed(&Kind::Text) else { return false };
        let (whole, citations) = block;
        self.blocks[at].flush(events);
        self.confirm_block(at, text, citations, events);
        texts.streamed(TextDigest::of(text), self.key(), Some(whole));
        true
    }

    /// Handles the whole thinking of a block of this message. Returns whether it is that of a block here.
    pub(in crate::dialect::claude) fn confirm_thinking(
        &mut self,
        text: &str,
        events: &mut Vec<AgentEvent>,
    ) -> bool {
        let at = self.unconfirmed(&Kind::Thinking);
        at.map(|at| self.confirm_block(at, text, None, events)).is_some()
    }

    /// The first block of this kind that no `assistant` line has repeated.
    fn unconfirmed(&self, kind: &Kind) -> Option<usize> {
        let is_open = |block: &OpenBlock| matches!(block.phase, Phase::Open | Phase::Stopped);
        self.blocks.iter().position(|block| block.kind == *kind && is_open(block))
    }

    fn confirm_block(
        &mut self,
        at: usize,
        text: &str,
        citations: Option<&RawValue>,
        events: &mut Vec<AgentEvent>,
    ) {
        let block = &mut self.blocks[at];
        let goes_on = self.cites && block.kind == Kind::Text;
        block.sources.add_list(citations);
        if block.streamed.bytes > 0 {
            if block.phase == Phase::Stopped && !goes_on {
                block.end(false, events);
            } else {
                block.phase = Phase::Confirmed;
            }
            return;
        }
        block.half = None;
        let stream = block.stream.clone();
        if goes_on {
            block.phase = Phase::Confirmed;
            block.push(text, events);
            return;
        }
        block.phase = Phase::Ended;
        if text.is_empty() {
            return;
        }
        block.streamed.add(text);
        if block.kind == Kind::Thinking {
            events.push(AgentEvent::Reasoning { stream: stream.clone(), text: text.into() });
            events.push(AgentEvent::ReasoningEnd { stream, void: false });
        } else {
            let sources = std::mem::take(&mut block.sources).into();
            events.push(AgentEvent::TextEnd { stream, text: Some(text.into()), void: false, sources });
        }
    }

    /// Handles a whole tool use from an `assistant` line.
    pub(in crate::dialect::claude) fn confirm_tool(&mut self, tool_id: &str) {
        for block in &mut self.blocks {
            if matches!(&block.kind, Kind::Tool { id, .. } if id == tool_id) {
                block.phase = Phase::Ended;
            }
        }
    }
}
