//! The message that is being streamed: maps its content blocks to streams, and decides how each stream ends.

mod confirm;

use serde::{Deserialize, Serialize};
use switchboard_core::agent::{AgentEvent, StreamId};

use super::{
    growing::Shown,
    lines,
    records::{self, Delta},
    sources::Sources,
    texts::{KnownTexts, MessageKey, TextDigest},
};
use crate::limits::{BLOCKS, TOOL_INPUT_BYTES};

/// Stands for a character of which only a half came.
const LOST: &str = "\u{fffd}";

/// A message of the model that has begun and not ended.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct OpenMessage {
    pub(super) id: String,
    blocks: Vec<OpenBlock>,
    /// Whether the message may cite. Its text is cut into a block for each citation, so a text ends only where another
    /// kind of block follows.
    #[serde(default)]
    cites: bool,
}

/// A content block that begins.
pub(super) struct Opened<'a> {
    pub(super) index: u64,
    pub(super) kind: &'a str,
    /// Id and name of the tool that the block uses.
    pub(super) tool: Option<(&'a str, &'a str)>,
    /// The stream of the block, unless it continues the one before.
    pub(super) stream: StreamId,
    /// Whether the block has citations, even if none so far.
    pub(super) cites: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct OpenBlock {
    index: u64,
    kind: Kind,
    stream: StreamId,
    #[serde(flatten)]
    streamed: TextDigest,
    phase: Phase,
    /// The text so far, while it may be one that was sent before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    held: Option<String>,
    /// First half of a character whose second half begins the next piece.
    #[serde(default)]
    half: Option<u16>,
    #[serde(default)]
    sources: Sources,
    #[serde(default)]
    cites: bool,
    /// The first block of the stream, if this block continues one that has text.
    #[serde(default)]
    continues: Option<u64>,
    /// Whether the next block continues the stream.
    #[serde(default)]
    continued: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Text,
    Thinking,
    Tool {
        id: String,
        name: String,
        input: String,
        /// Whether a piece did not fit, so that the input ends before it.
        #[serde(default)]
        cut: bool,
        #[serde(default)]
        shown: Shown,
    },
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
    /// The block's text had been sent before, so that the block has no stream.
    Repeated,
}

/// How a message ends, which decides which of its blocks are valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MessageEnd {
    /// All blocks are valid.
    Stands,
    /// The agent reported that the blocks from this index on are void.
    AbandonedFrom(u64),
    /// Another message began before this one was stopped. Blocks that no `assistant` line has repeated are void, unless
    /// their stream begins with one that is not.
    Restarted,
}

/// A tool use with the input that was streamed, which no `assistant` line has repeated.
pub(super) struct StreamedTool {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) input: serde_json::Value,
}

impl OpenMessage {
    pub(super) fn new(id: &str) -> Self {
        Self { id: id.into(), ..Self::default() }
    }

    pub(super) fn key(&self) -> MessageKey {
        MessageKey::of(&self.id)
    }

    pub(super) fn open(&mut self, opened: Opened<'_>, texts: &mut KnownTexts, events: &mut Vec<AgentEvent>) {
        if self.blocks.len() >= BLOCKS {
            return;
        }
        let message = self.key();
        if let Some(last) = self.blocks.last_mut() {
            last.release(message, texts, events);
        }
        let Opened { index, kind, tool, stream, cites } = opened;
        self.cites |= cites || kind == "server_tool_use";
        let kind = match (kind, tool) {
            ("text", _) => Kind::Text,
            ("thinking", _) => Kind::Thinking,
            ("tool_use" | "server_tool_use" | "mcp_tool_use", Some((id, name))) => Kind::Tool {
                id: id.into(),
                name: name.into(),
                input: String::new(),
                cut: false,
                shown: Shown::default(),
            },
            _ => Kind::Other,
        };
        let mut block = OpenBlock {
            index,
            kind,
            stream,
            streamed: TextDigest::default(),
            phase: Phase::Open,
            held: None,
            half: None,
            sources: Sources::default(),
            cites,
            continues: None,
            continued: false,
        };
        let last = self.blocks.last_mut().filter(|last| last.kind == Kind::Text && !last.is_over());
        if let Some(last) = last {
            if block.kind == Kind::Text && (last.cites || cites) {
                last.continued = true;
                block.stream = last.stream.clone();
                block.sources = std::mem::take(&mut last.sources);
                block.continues = last.continues.or((last.streamed.bytes > 0).then_some(last.index));
            } else if last.phase == Phase::Confirmed {
                last.end(false, events);
            }
        }
        self.blocks.push(block);
    }

    /// The half character at the end of the last piece of a block whose stream is open.
    pub(super) fn half(&mut self, index: u64) -> Option<&mut Option<u16>> {
        let block = self.block(index).filter(|block| !block.is_over())?;
        Some(&mut block.half)
    }

    /// Adds a piece to its block, and sends what it has for people. Returns whether that is text.
    pub(super) fn add(
        &mut self,
        index: u64,
        delta: &Delta<'_>,
        texts: &KnownTexts,
        events: &mut Vec<AgentEvent>,
    ) -> bool {
        self.cites |= delta.citation.is_some();
        let message = self.key();
        let Some(at) = self.blocks.iter().rposition(|block| block.index == index) else { return false };
        let (before, block) = self.blocks.split_at_mut(at);
        let [block, ..] = block else { return false };
        let is_first = block.streamed.bytes == 0 && !block.is_over();
        let continues = before.last().is_some_and(|before| before.stream == block.stream);
        if block.kind == Kind::Text && is_first && !continues && texts.may_stream(message, "") {
            block.held.get_or_insert_default();
        }
        block.add(delta, message, texts, events)
    }

    /// The tool use of this block with its input so far, if that has grown enough to be shown.
    pub(super) fn grown(&mut self, index: u64) -> Option<StreamedTool> {
        let block = self.block(index).filter(|block| block.phase == Phase::Open)?;
        let Kind::Tool { id, name, input, shown, .. } = &mut block.kind else { return None };
        let input = shown.grown(input)?;
        Some(StreamedTool { id: id.clone(), name: name.clone(), input })
    }

    /// The ids of the tool uses whose input is void before it was whole, if the message ends with `end`.
    pub(super) fn void_tools(&self, end: MessageEnd) -> impl Iterator<Item = &str> {
        let blocks = self.blocks.iter().zip(self.void(end));
        blocks.filter_map(|(block, void)| match &block.kind {
            Kind::Tool { id, .. } if void && block.phase != Phase::Ended => Some(id.as_str()),
            Kind::Tool { .. } | Kind::Text | Kind::Thinking | Kind::Other => None,
        })
    }

    fn block(&mut self, index: u64) -> Option<&mut OpenBlock> {
        self.blocks.iter_mut().rev().find(|block| block.index == index)
    }

    /// Whether each block is void, if the message ends with `end`.
    fn void(&self, end: MessageEnd) -> Vec<bool> {
        let mut confirmed = None;
        let void = self.blocks.iter().map(|block| {
            let stands = end == MessageEnd::Restarted && confirmed == Some(&block.stream);
            if block.phase == Phase::Confirmed {
                confirmed = Some(&block.stream);
            }
            !stands && block.is_void(end)
        });
        void.collect()
    }

    /// Handles the end of a block. The stream of a confirmed block ends; otherwise it stays open until the message
    /// ends. Returns the tool use, if the block is one that has not been repeated.
    pub(super) fn stop(
        &mut self,
        index: u64,
        texts: &mut KnownTexts,
        events: &mut Vec<AgentEvent>,
    ) -> Option<StreamedTool> {
        let (cites, message) = (self.cites, self.key());
        let block = self.block(index)?;
        block.release(message, texts, events);
        match block.phase {
            // A text goes on in the next block, or ends there.
            Phase::Confirmed if cites && block.kind == Kind::Text => {}
            Phase::Confirmed => block.end(false, events),
            Phase::Open => block.phase = Phase::Stopped,
            Phase::Stopped | Phase::Ended | Phase::Repeated => {}
        }
        if block.phase != Phase::Stopped || !matches!(block.kind, Kind::Tool { .. }) {
            return None;
        }
        block.end_half(events);
        block.phase = Phase::Ended;
        let Kind::Tool { id, name, input, cut, .. } = &mut block.kind else { return None };
        let input = std::mem::take(input);
        let input =
            if *cut { (input + "…").into() } else { records::value(&lines::whole_characters(&input)) };
        Some(StreamedTool { id: id.clone(), name: name.clone(), input })
    }

    /// Ends all open streams, and notes which texts are valid.
    pub(super) fn finish(mut self, end: MessageEnd, texts: &mut KnownTexts, events: &mut Vec<AgentEvent>) {
        let message = self.key();
        let void = self.void(end);
        for (block, void) in self.blocks.iter_mut().zip(void) {
            if !void {
                block.release_cut_off(message, texts, events);
            }
            let is_text = block.kind == Kind::Text && block.streamed.bytes > 0;
            if is_text && !void && block.is_unconfirmed_text() {
                texts.streamed(block.streamed_with_half(), message, None);
            } else if is_text && void {
                texts.revoke(block.streamed, message);
            }
            if !block.is_over() && block.held.is_none() {
                block.end(void, events);
            } else if is_text && void && block.phase == Phase::Ended {
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
        self.kind == Kind::Text && self.held.is_none() && matches!(self.phase, Phase::Open | Phase::Stopped)
    }

    fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Ended | Phase::Repeated)
    }

    /// Decides about a text that is held back and is complete: it was sent before, or it is sent now.
    fn release(&mut self, message: MessageKey, texts: &mut KnownTexts, events: &mut Vec<AgentEvent>) {
        if self.held.is_none() {
            return;
        }
        self.end_half(events);
        if texts.take_stream(self.streamed, message) {
            self.held = None;
            self.phase = Phase::Repeated;
        } else {
            self.flush(events);
        }
    }

    /// Decides about a text that is held back and of which no more comes.
    fn release_cut_off(&mut self, message: MessageKey, texts: &mut KnownTexts, events: &mut Vec<AgentEvent>) {
        let Some(held) = &self.held else { return };
        let is_sent = texts.has_begun_with(message, held);
        if texts.take_stream(self.streamed_with_half(), message) || is_sent {
            self.held = None;
            self.phase = Phase::Repeated;
        } else {
            self.flush(events);
        }
    }

    /// Sends a text that was held back.
    fn flush(&mut self, events: &mut Vec<AgentEvent>) {
        if let Some(text) = self.held.take().filter(|text| !text.is_empty()) {
            events.push(AgentEvent::Text { stream: self.stream.clone(), text });
        }
    }

    fn is_void(&self, end: MessageEnd) -> bool {
        match end {
            MessageEnd::Stands => false,
            // Of a stream over several blocks, the first one decides.
            MessageEnd::AbandonedFrom(index) => self.continues.unwrap_or(self.index) >= index,
            MessageEnd::Restarted => matches!(self.phase, Phase::Open | Phase::Stopped),
        }
    }

    /// Length and hash of the text, with a mark for a half character at its end.
    fn streamed_with_half(&self) -> TextDigest {
        let mut streamed = self.streamed;
        if self.half.is_some() {
            streamed.add(LOST);
        }
        streamed
    }

    /// Adds a piece. Returns whether it is text that is sent.
    fn add(
        &mut self,
        delta: &Delta<'_>,
        message: MessageKey,
        texts: &KnownTexts,
        events: &mut Vec<AgentEvent>,
    ) -> bool {
        if let Some(citation) = delta.citation {
            self.cites = true;
            self.sources.add_json(citation.get());
        }
        let piece = match self.kind {
            Kind::Text => &delta.text,
            Kind::Thinking => &delta.thinking,
            Kind::Tool { .. } => &delta.partial_json,
            Kind::Other => return false,
        };
        if piece.is_empty() || self.is_over() {
            return false;
        }
        self.end_half(events);
        self.push(piece, events);
        if self.held.as_ref().is_some_and(|held| !texts.may_stream(message, held)) {
            self.flush(events);
        }
        self.kind == Kind::Text && self.held.is_none()
    }

    fn push(&mut self, piece: &str, events: &mut Vec<AgentEvent>) {
        let (stream, text) = (self.stream.clone(), piece.to_owned());
        match &mut self.kind {
            Kind::Text if self.held.is_some() => self.held.iter_mut().for_each(|held| held.push_str(piece)),
            Kind::Text => events.push(AgentEvent::Text { stream, text }),
            Kind::Thinking => events.push(AgentEvent::Reasoning { stream, text }),
            Kind::Tool { input, cut, .. } => {
                *cut |= input.len() + piece.len() > TOOL_INPUT_BYTES;
                if !*cut {
                    input.push_str(piece);
                }
                return;
            }
            Kind::Other => return,
        }
        self.streamed.add(piece);
    }

    /// Ends a half character that no piece completes.
    fn end_half(&mut self, events: &mut Vec<AgentEvent>) {
        if self.half.take().is_some() {
            self.push(LOST, events);
        }
    }

    fn end(&mut self, void: bool, events: &mut Vec<AgentEvent>) {
        self.phase = Phase::Ended;
        self.end_half(events);
        if self.continued || (self.streamed.bytes == 0 && self.continues.is_none()) {
            return;
        }
        let stream = self.stream.clone();
        let sources = std::mem::take(&mut self.sources).into();
        match self.kind {
            Kind::Text => events.push(AgentEvent::TextEnd { stream, text: None, void, sources }),
            Kind::Thinking => events.push(AgentEvent::ReasoningEnd { stream, void }),
            Kind::Tool { .. } | Kind::Other => {}
        }
    }
}
