//! `assistant` lines: content blocks as a whole, whether they were streamed before or not.

use std::borrow::Cow;

use switchboard_core::agent::{AgentEvent, StreamId};

use super::{
    citing::CitingMessage,
    records::{self, Block, Line, Message, parse},
    state::ClaudeCodec,
    texts::{MessageKey, TextDigest, WholeBlock},
    tools::UsedIn,
};
use crate::dialect::Decoded;

impl ClaudeCodec {
    /// Handles an `assistant` line, the `nth` object of the line at `position`.
    pub(super) fn assistant(&mut self, position: u64, nth: usize, line: &Line<'_>, out: &mut Decoded) {
        let Some(message) = parse::<Message<'_>>(line.message) else { return out.alive() };
        let synthetic = message.model.as_deref() == Some("<synthetic>");
        let blocks = records::blocks(message.content);
        let texts = &self.state.output.texts;
        let mut said = blocks.iter().filter_map(|block| block.text.as_deref());
        let is_new = if synthetic {
            !said.all(|text| texts.has(text))
        } else {
            !texts.may_repeat(MessageKey::of(message.id.as_deref().unwrap_or_default()))
        };
        let is_main = line.subagent().is_none();
        self.work(is_main, is_new, out, |codec, out| {
            let id = message.id.as_deref().unwrap_or_default();
            codec.note_citing(id, &blocks, out);
            for (number, block) in blocks.into_iter().enumerate() {
                let mut stream = codec.id(position, nth);
                if number > 0 {
                    stream = format!("{stream}.b{number}");
                }
                match &*block.kind {
                    "text" if synthetic => codec.state.output.synthetic = block.text.map(Cow::into_owned),
                    "text" => {
                        let output = &codec.state.output;
                        let message = MessageKey::of(id);
                        let cites = output.citing.is_some();
                        let whole = WholeBlock::new(message, line.uuid.as_deref(), number, cites);
                        codec.whole_text(id, stream.into(), whole, &block, out);
                    }
                    _ => codec.whole_block(id, line, block, out),
                }
            }
        });
    }

    /// Handles a block other than text of the message `id`.
    fn whole_block(&mut self, id: &str, line: &Line<'_>, block: Block<'_>, out: &mut Decoded) {
        let parent = line.parent_tool_use_id.as_deref();
        if let Some(citing) = &mut self.state.output.citing {
            citing.end_text(&mut out.events);
        }
        match &*block.kind {
            "thinking" => self.whole_thinking(id, block.thinking.as_deref().unwrap_or_default(), out),
            "tool_use" | "server_tool_use" | "mcp_tool_use" => {
                let (Some(tool), Some(name)) = (block.id, block.name) else { return };
                if let Some(message) = &mut self.state.output.message {
                    message.confirm_tool(&tool);
                }
                let input = block.input.map(|input| records::value(input.get())).unwrap_or_default();
                self.tool_started(UsedIn { parent, message: id }, &tool, &name, input, out);
            }
            _ => self.server_result(parent, &block, out),
        }
    }

    /// Ends the text of another message than this one, and notes whether this one cites.
    fn note_citing(&mut self, id: &str, blocks: &[Block<'_>], out: &mut Decoded) {
        let citing = &mut self.state.output.citing;
        if let Some(mut other) = citing.take_if(|citing| !citing.is(id)) {
            other.end_text(&mut out.events);
        }
        if blocks.iter().any(|block| block.citations.is_some() || block.kind == "server_tool_use") {
            citing.get_or_insert_with(|| CitingMessage::new(id));
        }
    }

    /// Handles a whole text of the message `id`, which is this `whole` block. If it is one of several that are one text,
    /// it may begin `stream`.
    fn whole_text(
        &mut self,
        id: &str,
        stream: StreamId,
        whole: WholeBlock,
        block: &Block<'_>,
        out: &mut Decoded,
    ) {
        let text = block.text.as_deref().unwrap_or_default();
        let output = &mut self.state.output;
        let (texts, events) = (&mut output.texts, &mut out.events);
        let this = (whole, block.citations);
        // Some agents give the whole message another id than its stream.
        if let Some(message) = &mut output.message
            && message.confirm_streamed(text, this, texts, events)
        {
            return;
        }
        if !text.is_empty() && texts.take_whole(TextDigest::of(text), whole) {
            return out.alive();
        }
        if let Some(message) = output.message.as_mut().filter(|message| message.id == id)
            && message.confirm(text, this, texts, events)
        {
            return;
        }
        if text.is_empty() {
            return out.alive();
        }
        texts.came_whole(text, Some(whole));
        if let Some(citing) = &mut output.citing {
            citing.add(stream, text, block.citations, events);
        } else {
            events.push(AgentEvent::Message { text: text.into() });
        }
    }

    fn whole_thinking(&mut self, id: &str, text: &str, out: &mut Decoded) {
        let streams = self.state.output.message.as_mut().filter(|message| message.id == id);
        if !streams.is_some_and(|message| message.confirm_thinking(text, &mut out.events)) {
            // Thinking that was not streamed is not published.
            out.alive();
        }
    }
}
