//! Uses of tools: how they begin, and what their results say.

use serde_json::{Value, value::RawValue};
use switchboard_core::agent::AgentEvent;

use super::{
    decode::parse,
    edits::{self, Edit},
    records::{self, Line, Message},
    state::{ClaudeCodec, Tool},
};
use crate::{
    dialect::{
        Decoded,
        sanitize::{cut, sentence},
    },
    limits::{TOOL_RESULT_BYTES, TOOLS},
};

impl ClaudeCodec {
    pub(super) fn tool_started(&mut self, id: &str, name: &str, arguments: Value, out: &mut Decoded) {
        if self.state.tools.contains_key(id)
            || self.state.ended.contains(id)
            || self.state.tools.len() >= TOOLS
        {
            return;
        }
        let tool = Tool { name: name.into(), edit: Edit::of(name, &arguments) };
        self.state.tools.insert(id.into(), tool);
        let arguments = edits::shown_arguments(&self.workspace, arguments);
        out.events.push(AgentEvent::ToolStarted {
            call_id: id.into(),
            name: name.into(),
            arguments,
            title: None,
            locations: Vec::new(),
        });
    }

    /// Handles a `user` line: the results of tool uses.
    pub(super) fn user(&mut self, line: &Line<'_>, out: &mut Decoded) {
        let Some(message) = parse::<Message<'_>>(line.message) else { return out.alive() };
        let mut results = 0;
        for block in records::blocks(message.content) {
            let ("tool_result", Some(id)) = (&*block.kind, block.tool_use_id) else { continue };
            results += 1;
            let Some(tool) = self.state.tools.remove(&*id) else { continue };
            let mut text = result_text(block.content);
            let truncated = cut(&mut text, TOOL_RESULT_BYTES);
            let failed = block.is_error == Some(true);
            self.state.ended.insert(id.to_string());
            out.events.push(AgentEvent::ToolEnded {
                call_id: id.to_string(),
                name: tool.name.clone(),
                result: if failed { Err(text) } else { Ok(text) },
                truncated,
                media: Vec::new(),
                sources: Vec::new(),
            });
            if let (false, Some(edit)) = (failed, tool.edit) {
                // `tool_use_result` is the structured result of a line that has only one result.
                let detail = line.tool_use_result.filter(|_| results == 1).map(RawValue::get);
                let edits = vec![edit.done(&self.workspace, &id, &tool.name, detail)];
                out.events.push(AgentEvent::FileEdit { edits });
            }
        }
        if results == 0 {
            out.alive();
        }
    }
}

/// The result of a tool as text: a string as it is, or the text of each block and a placeholder for other blocks.
fn result_text(content: Option<Value>) -> String {
    match content {
        Some(Value::String(text)) => text,
        Some(Value::Array(blocks)) => {
            let texts: Vec<&str> = blocks
                .iter()
                .map(|block| match block.get("text").and_then(Value::as_str) {
                    Some(text) => text,
                    None if block.get("type").and_then(Value::as_str) == Some("image") => "[image]",
                    None => "[other content]",
                })
                .collect();
            texts.join("\n")
        }
        None | Some(Value::Null) => String::new(),
        Some(other) => sentence(&other.to_string()),
    }
}
