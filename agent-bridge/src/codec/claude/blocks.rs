//! The message that streams now: which block is which stream, and what becomes of it.

use serde::{Deserialize, Serialize};
use switchboard_core::agent::{AgentEvent, StreamId};

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

/// What was streamed of a block: as much as says whether a whole text is the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Streamed {
    /// How many bytes.
    #[serde(rename = "streamed")]
    bytes: u64,
    /// Their FNV-1a hash.
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
    /// The transcript has it (`assistant`): it stands.
    Confirmed,
    /// It stopped without being confirmed; whether it stands is known at the message's end.
    Stopped,
    /// Its end was told.
    Ended,
}

/// What becomes of a message's blocks when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MessageEnd {
    /// They stand.
    Stands,
    /// The agent says that those from this index on are void.
    AbandonedFrom(u64),
    /// Another message began before this one was stopped: what the transcript lacks is void.
    Restarted,
}

/// A tool whose input was streamed but not repeated whole.
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

    /// The stream that a piece of text or thinking belongs to. None: there is none, or it has ended.
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

    /// Whether the first text that the transcript does not have yet is this one.
    pub(super) fn streams(&self, text: &str) -> bool {
        let open = self.blocks.iter().find(|block| block.is_unconfirmed_text());
        open.is_some_and(|block| block.streamed == Streamed::of(text))
    }

    /// What stands of the texts that the transcript does not have yet, if the message ends so.
    pub(super) fn unconfirmed(&self, fate: MessageEnd) -> impl Iterator<Item = Streamed> {
        let stands = move |block: &&OpenBlock| block.is_unconfirmed_text() && !block.is_void(fate);
        self.blocks.iter().filter(stands).map(|block| block.streamed)
    }

    /// The transcript has this text whole. Says whether a stream here stands for it.
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
                    events.push(AgentEvent::TextEnd { stream, text: Some(text.into()), void: false });
                }
            }
        } else if block.phase == Phase::Stopped {
            block.end(false, events);
        } else {
            block.phase = Phase::Confirmed;
        }
        true
    }

    /// The transcript has this use of a tool whole.
    pub(super) fn confirm_tool(&mut self, tool_id: &str) {
        for block in &mut self.blocks {
            if matches!(&block.kind, Kind::Tool { id, .. } if id == tool_id) {
                block.phase = Phase::Ended;
            }
        }
    }

    /// A block is complete. A confirmed one ends here; another one waits for the message's end.
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
        let input = serde_json::from_str(&std::mem::take(input)).unwrap_or_default();
        Some(StreamedTool { id: id.clone(), name: name.clone(), input })
    }

    /// Everything that is still open ends.
    pub(super) fn finish(mut self, fate: MessageEnd, events: &mut Vec<AgentEvent>) {
        for block in &mut self.blocks {
            let void = block.is_void(fate);
            if block.phase != Phase::Ended {
                block.end(void, events);
            } else if void && block.streamed.bytes > 0 && block.kind == Kind::Text {
                // It ended well as far as anybody knew, and is taken back.
                events.push(AgentEvent::TextEnd { stream: block.stream.clone(), text: None, void });
            }
        }
    }
}

impl OpenBlock {
    fn is_unconfirmed_text(&self) -> bool {
        self.kind == Kind::Text && matches!(self.phase, Phase::Open | Phase::Stopped)
    }

    fn is_void(&self, fate: MessageEnd) -> bool {
        match fate {
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
            Kind::Text => events.push(AgentEvent::TextEnd { stream, text: None, void }),
            Kind::Thinking => events.push(AgentEvent::ReasoningEnd { stream, void }),
            Kind::Tool { .. } | Kind::Other => {}
        }
    }
}
