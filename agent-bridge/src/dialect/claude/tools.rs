//! Uses of tools: how they begin, and what their results say.
//!
//! A use is known by the subagent that makes it and its id. Some models give the same id to several uses, one after
//! the other: after a result, the id belongs to a new use, unless the message that began the ended use is repeated.

use serde_json::{Value, value::RawValue};
use switchboard_core::agent::AgentEvent;

use super::{
    below::{handed_back, put_below},
    edits::Edit,
    media::Content,
    records::{self, Line, Message, parse},
    state::{ClaudeCodec, Tool},
    titles,
};
use crate::{
    dialect::{Decoded, sanitize::cut},
    limits::{TOOL_RESULT_BYTES, TOOLS},
};

/// The place of a record that uses a tool.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct UsedIn<'a> {
    /// The tool use that runs the subagent, if a subagent uses the tool.
    pub(super) parent: Option<&'a str>,
    /// The id of the message with the use. Empty if it is not known.
    pub(super) message: &'a str,
}

impl UsedIn<'_> {
    fn key(&self, id: &str) -> String {
        self.parent.map_or_else(|| id.into(), |parent| format!("{parent}\n{id}"))
    }
}

impl ClaudeCodec {
    pub(super) fn tool_started(
        &mut self,
        place: UsedIn<'_>,
        id: &str,
        name: &str,
        arguments: Value,
        out: &mut Decoded,
    ) {
        if let Some(key) = self.running_use(place, id) {
            let unplaced = self.state.tools.get(&key).is_some_and(|tool| tool.message.is_empty());
            if unplaced && let Some(mut tool) = self.state.tools.remove(&key) {
                tool.message = place.message.into();
                self.state.tools.insert(place.key(id), tool);
            }
            return;
        }
        let key = place.key(id);
        let is_repeat = self.state.ended_uses.get(&key).is_some_and(|message| message == place.message);
        if is_repeat || self.state.tools.len() >= TOOLS {
            return;
        }
        self.state.output.worked = true;
        let edit = Edit::of(name, &arguments);
        self.state.tools.insert(key, Tool { name: name.into(), edit, message: place.message.into() });
        out.events.push(AgentEvent::ToolStarted {
            call_id: id.into(),
            name: name.into(),
            title: titles::title(&self.workspace, name, &arguments),
            locations: titles::locations(&self.workspace, &arguments),
            arguments,
        });
    }

    /// The key of the running use with this id. A permission request does not say which subagent makes the use, and
    /// the use that it begins has no message.
    pub(super) fn running_use(&self, place: UsedIn<'_>, id: &str) -> Option<String> {
        let key = place.key(id);
        if self.state.tools.contains_key(&key) {
            return Some(key);
        }
        let unplaced = place.parent.is_none() && place.message.is_empty();
        let is_it = |(key, tool): &(&String, &Tool)| {
            let known = key.rsplit_once('\n').map_or(key.as_str(), |(_, id)| id);
            known == id && (unplaced || tool.message.is_empty())
        };
        self.state.tools.iter().find(is_it).map(|(key, _)| key.clone())
    }

    /// Handles a `user` line: the results of tool uses.
    pub(super) fn user(&mut self, line: &Line<'_>, out: &mut Decoded) {
        let Some(message) = parse::<Message<'_>>(line.message) else { return out.alive() };
        let mut results = 0;
        for block in records::blocks(message.content) {
            let ("tool_result", Some(id)) = (&*block.kind, block.tool_use_id) else {
                self.command_output(block.text.as_deref().unwrap_or_default(), false, out);
                continue;
            };
            results += 1;
            let place = UsedIn { parent: line.parent_tool_use_id.as_deref(), message: "" };
            // `tool_use_result` is the structured result of a line that has only one result.
            let report = line.tool_use_result.filter(|_| results == 1);
            let mut content = Content::read(block.content, report);
            if let Some(text) = handed_back(&content.text, report) {
                content.text = text;
            }
            let Some(tool) = self.tool_ended(place, &id, content, block.is_error == Some(true), out) else {
                continue;
            };
            if block.is_error == Some(true) {
                self.denied_by_rules(line, &id, &tool.name, out);
            }
            if let (false, Some(edit)) = (block.is_error == Some(true), tool.edit) {
                let edits = vec![edit.done(&self.workspace, &id, &tool.name, report.map(RawValue::get))];
                out.events.push(AgentEvent::FileEdit { edits });
            }
        }
        if results == 0 {
            out.alive();
        }
    }

    /// Ends a running use. Returns the use; `None` if there is no such use.
    pub(super) fn tool_ended(
        &mut self,
        place: UsedIn<'_>,
        id: &str,
        content: Content,
        failed: bool,
        out: &mut Decoded,
    ) -> Option<Tool> {
        let key = self.running_use(place, id)?;
        let tool = self.state.tools.remove(&key)?;
        let parent = key.split_once('\n').map(|(parent, _)| parent.to_owned());
        self.at_work(parent.is_none(), out);
        let from = out.events.len();
        if !self.outlives_turn(id) {
            self.subagent_ended(id, out);
        }
        if self.state.ended_uses.len() < TOOLS {
            self.state.ended_uses.insert(key, tool.message.clone());
        }
        let Content { mut text, truncated, media, sources } = content;
        let truncated = cut(&mut text, TOOL_RESULT_BYTES) || truncated;
        out.events.push(AgentEvent::ToolEnded {
            call_id: id.into(),
            name: tool.name.clone(),
            result: if failed { Err(text) } else { Ok(text) },
            truncated,
            media,
            sources,
        });
        put_below(parent.as_deref(), from, out);
        Some(tool)
    }
}
