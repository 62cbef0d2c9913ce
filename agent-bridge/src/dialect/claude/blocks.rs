//! The message that is being streamed: maps its content blocks to streams, and decides how each stream ends.

use serde::{Deserialize, Serialize};
use switchboard_core::agent::{AgentEvent, StreamId};

use super::records;
use crate::limits::{BLOCKS, TOOL_INPUT_BYTES};

/// A message of the model that has begun and not ended.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct OpenMessage {
    pub(super) id: String,
    blocks: Vec<OpenBlock>,
}

#[derive(Debug, Serialize, Deserialize)]
struct OpenBlock {
    index: u64,
    kind: Kind,
    stream: StreamId,
    #[serde(flatten)]
    streamed: Streamed,
    phase: Phase,
}

/// Length and hash of the streamed text of a block, to recognise the same text when it is repeated as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Streamed {
    /// Number of bytes.
    #[serde(rename = "streamed")]
    bytes: u64,
    /// FNV-1a hash of the bytes.
    #[serde(default)]
    hash: u64,
}

impl Streamed {
    pub(super) fn of(text: &str) -> Self {
        let mut streamed = Self::default();
        streamed.add(text);
        streamed
    }

    fn add(&mut self, text: &str) {
        self.bytes += text.len() as u64;
        for byte in text.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Text,
    Thinking,
    Tool { id: String, name: String, input: String },
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    Open,
    /// An `assistant` line has repeated the block, so it is final.
    Confirmed,
    /// The block stopped before an `assistant` line repeated it. The end of the message decides whether it is valid.
    Stopped,
    /// The end of the block's stream was sent as an event.
    Ended,
}

/// How a message ends, which decides which of its blocks are valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MessageEnd {
    /// All blocks are valid.
    Stands,
    /// The agent reported that the blocks from this index on are void.
    AbandonedFrom(u64),
    /// Another message began before this one was stopped. Blocks that no `assistant` line has repeated are void.
    Restarted,
}

/// A tool use whose input was streamed and not repeated as a whole.
pub(super) struct StreamedTool {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) input: serde_json::Value,
}

impl OpenMessage {
    pub(super) fn new(id: &str) -> Self {
        Self { id: id.into(), blocks: Vec::new() }
    }

    pub(super) fn open(&mut self, index: u64, kind: &str, tool: Option<(&str, &str)>, stream: StreamId) {
        if self.blocks.len() >= BLOCKS {
            return;
        }
        let kind = match (kind, tool) {
            ("text", _) => Kind::Text,
            ("thinking", _) => Kind::Thinking,
            ("tool_use", Some((id, name))) => {
                Kind::Tool { id: id.into(), name: name.into(), input: String::new() }
            }
            _ => Kind::Other,
        };
        self.blocks.push(OpenBlock {
            index,
            kind,
            stream,
            streamed: Streamed::default(),
            phase: Phase::Open,
        });
    }

    /// Adds a piece of text or thinking to its block. Returns the block's stream; `None` if there is no such block or
    /// its stream has ended.
    pub(super) fn piece(&mut self, index: u64, thinking: bool, text: &str) -> Option<StreamId> {
        let wanted = if thinking { Kind::Thinking } else { Kind::Text };
        let block = self.blocks.iter_mut().rev().find(|block| block.index == index)?;
        if block.kind != wanted || block.phase == Phase::Ended {
            return None;
        }
        block.streamed.add(text);
        Some(block.stream.clone())
    }

    pub(super) fn tool_piece(&mut self, index: u64, piece: &str) {
        let block = self.blocks.iter_mut().rev().find(|block| block.index == index);
        if let Some(OpenBlock { kind: Kind::Tool { input, .. }, .. }) = block
            && input.len() + piece.len() <= TOOL_INPUT_BYTES
        {
            input.push_str(piece);
        }
    }

    /// Whether `text` is the streamed text of the first text block that no `assistant` line has repeated.
    pub(super) fn streams(&self, text: &str) -> bool {
        let open = self.blocks.iter().find(|block| block.is_unconfirmed_text());
        open.is_some_and(|block| block.streamed == Streamed::of(text))
    }

    /// The valid text blocks that no `assistant` line has repeated, if the message ends with `end`.
    pub(super) fn unconfirmed(&self, end: MessageEnd) -> impl Iterator<Item = Streamed> {
        let stands = move |block: &&OpenBlock| block.is_unconfirmed_text() && !block.is_void(end);
        self.blocks.iter().filter(stands).map(|block| block.streamed)
    }

    /// Handles a whole text from an `assistant` line. Returns whether it is the text of a block here.
    pub(super) fn confirm(&mut self, text: &str, thinking: bool, events: &mut Vec<AgentEvent>) -> bool {
        let wanted = if thinking { Kind::Thinking } else { Kind::Text };
        let open = self
            .blocks
            .iter_mut()
            .find(|block| block.kind == wanted && matches!(block.phase, Phase::Open | Phase::Stopped));
        let Some(block) = open else { return false };
        if block.streamed.bytes == 0 {
            block.phase = Phase::Ended;
            if !text.is_empty() {
                let stream = block.stream.clone();
                if thinking {
                    events.push(AgentEvent::Reasoning { stream: stream.clone(), text: text.into() });
                    events.push(AgentEvent::ReasoningEnd { stream, void: false });
                } else {
                    events.push(AgentEvent::TextEnd {
                        stream,
                        text: Some(text.into()),
                        void: false,
                        sources: Vec::new(),
                    });
                }
            }
        } else if block.phase == Phase::Stopped {
            block.end(false, events);
        } else {
            block.phase = Phase::Confirmed;
        }
        true
    }

    /// Handles a whole tool use from an `assistant` line.
    pub(super) fn confirm_tool(&mut self, tool_id: &str) {
        for block in &mut self.blocks {
            if matches!(&block.kind, Kind::Tool { id, .. } if id == tool_id) {
                block.phase = Phase::Ended;
            }
        }
    }

    /// Handles the end of a block. The stream of a confirmed block ends; otherwise it stays open until the message
    /// ends. Returns the tool use, if the block is one that has not been repeated.
    pub(super) fn stop(&mut self, index: u64, events: &mut Vec<AgentEvent>) -> Option<StreamedTool> {
        let block = self.blocks.iter_mut().rev().find(|block| block.index == index)?;
        match block.phase {
            Phase::Confirmed => block.end(false, events),
            Phase::Open => block.phase = Phase::Stopped,
            Phase::Stopped | Phase::Ended => {}
        }
        let Kind::Tool { id, name, input } = &mut block.kind else { return None };
        if block.phase != Phase::Stopped {
            return None;
        }
        block.phase = Phase::Ended;
        let input = records::value(&std::mem::take(input));
        Some(StreamedTool { id: id.clone(), name: name.clone(), input })
    }

    /// Ends all open streams.
    pub(super) fn finish(mut self, end: MessageEnd, events: &mut Vec<AgentEvent>) {
        for block in &mut self.blocks {
            let void = block.is_void(end);
            if block.phase != Phase::Ended {
                block.end(void, events);
            } else if void && block.streamed.bytes > 0 && block.kind == Kind::Text {
                // The stream was ended as valid before; this event revokes its text.
                events.push(AgentEvent::TextEnd {
                    stream: block.stream.clone(),
                    text: None,
                    void,
                    sources: Vec::new(),
                });
            }
        }
    }
}

impl OpenBlock {
    fn is_unconfirmed_text(&self) -> bool {
        self.kind == Kind::Text && matches!(self.phase, Phase::Open | Phase::Stopped)
    }

    fn is_void(&self, end: MessageEnd) -> bool {
        match end {
            MessageEnd::Stands => false,
            MessageEnd::AbandonedFrom(index) => self.index >= index,
            MessageEnd::Restarted => matches!(self.phase, Phase::Open | Phase::Stopped),
        }
    }

    fn end(&mut self, void: bool, events: &mut Vec<AgentEvent>) {
        self.phase = Phase::Ended;
        if self.streamed.bytes == 0 {
            return;
        }
        let stream = self.stream.clone();
        match self.kind {
            Kind::Text => events.push(AgentEvent::TextEnd { stream, text: None, void, sources: Vec::new() }),
            Kind::Thinking => events.push(AgentEvent::ReasoningEnd { stream, void }),
            Kind::Tool { .. } | Kind::Other => {}
        }
    }
}
