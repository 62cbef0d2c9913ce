//! `assistant` lines: content blocks as a whole, whether they were streamed before or not.

use std::borrow::Cow;

use switchboard_core::agent::{AgentEvent, StreamId};

use super::{
    blocks::Streamed,
    citing::CitingMessage,
    records::{self, Block, Line, Message, parse},
    state::ClaudeCodec,
    tools::UsedIn,
};
use crate::dialect::Decoded;

impl ClaudeCodec {
    /// Handles an `assistant` line, the `nth` object of the line at `position`.
    pub(super) fn assistant(&mut self, position: u64, nth: usize, line: &Line<'_>, out: &mut Decoded) {
        let parent = line.parent_tool_use_id.as_deref();
        let Some(message) = parse::<Message<'_>>(line.message) else { return out.alive() };
        let id = message.id.as_deref().unwrap_or_default();
        let synthetic = message.model.as_deref() == Some("<synthetic>");
        let blocks = records::blocks(message.content);
        self.note_citing(id, &blocks, out);
        for (number, block) in blocks.into_iter().enumerate() {
            if let (false, Some(citing)) = (block.kind == "text", &mut self.state.output.citing) {
                citing.end_text(&mut out.events);
            }
            match &*block.kind {
                "text" if synthetic => self.state.output.synthetic = block.text.map(Cow::into_owned),
                "text" => {
                    let mut stream = self.id(position, nth);
                    if number > 0 {
                        stream = format!("{stream}.b{number}");
                    }
                    self.whole_text(id, stream.into(), &block, out);
                }
                "thinking" => self.whole_thinking(id, block.thinking.as_deref().unwrap_or_default(), out),
                "tool_use" | "server_tool_use" | "mcp_tool_use" => {
                    let (Some(tool), Some(name)) = (block.id, block.name) else { continue };
                    if let Some(message) = &mut self.state.output.message {
                        message.confirm_tool(&tool);
                    }
                    let input = block.input.map(|input| records::value(input.get())).unwrap_or_default();
                    self.tool_started(UsedIn { parent, message: id }, &tool, &name, input, out);
                }
                _ => self.server_result(parent, &block, out),
            }
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

    /// Handles a whole text of the message `id`. If it is one of several that are one text, it may begin `stream`.
    fn whole_text(&mut self, id: &str, stream: StreamId, block: &Block<'_>, out: &mut Decoded) {
        let text = block.text.as_deref().unwrap_or_default();
        let this = Streamed::of(text);
        let output = &mut self.state.output;
        output.spoke |= !text.is_empty();
        // Some agents give the whole message another id than its stream, or send the whole message only after its
        // stream has ended.
        let streams = output.message.as_mut().filter(|message| message.id == id || message.streams(this));
        if streams.is_some_and(|message| message.confirm(text, block.citations, false, &mut out.events)) {
            return;
        }
        if let Some(at) = output.unconfirmed.iter().position(|streamed| *streamed == this) {
            output.unconfirmed.remove(at);
        } else if text.is_empty() {
            out.alive();
        } else if let Some(citing) = &mut output.citing {
            citing.add(stream, text, block.citations, &mut out.events);
        } else {
            out.events.push(AgentEvent::Message { text: text.into() });
        }
    }

    fn whole_thinking(&mut self, id: &str, text: &str, out: &mut Decoded) {
        let streams = self.state.output.message.as_mut().filter(|message| message.id == id);
        if !streams.is_some_and(|message| message.confirm(text, None, true, &mut out.events)) {
            // Thinking that was not streamed is not published.
            out.alive();
        }
    }
}
