//! Uses of tools: how they begin, and what their results say.
//!
//! A use is known by the subagent that makes it and its id. Some models give the same id to several uses, one after
//! the other: after a result, the id belongs to a new use, unless the message that began the ended use is repeated.

use serde_json::Value;
use switchboard_core::agent::{AgentEvent, ToolInput};

use super::{
    below::{handed_back, put_below},
    blocks::StreamedTool,
    edits::Edit,
    media::Content,
    records::{self, Block, Line, Message, ToolReport, parse},
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

/// Of the use with this key: the tool use that runs the subagent which makes it, if one does, and its id.
pub(super) fn split_key(key: &str) -> (Option<&str>, &str) {
    key.split_once('\n').map_or((None, key), |(parent, id)| (Some(parent), id))
}

/// The tool use that runs the subagent which makes the use with this key, if one does.
pub(super) fn parent_of(key: &str) -> Option<&str> {
    split_key(key).0
}

impl Tool {
    fn new(name: &str, edit: Option<Edit>, partial: bool) -> Self {
        Self { name: name.into(), edit, message: String::new(), partial }
    }
}

/// A use that has ended.
pub(super) struct EndedUse {
    pub(super) tool: Tool,
    /// The tool use that runs the subagent which made this one, if one did.
    parent: Option<String>,
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
        let edit = Edit::of(name, &arguments);
        let Some(key) = self.running_use(place, id) else {
            return self.use_begins(place, id, Tool::new(name, edit, false), arguments, out);
        };
        let Some(mut tool) = self.state.tools.remove(&key) else { return };
        if std::mem::take(&mut tool.partial) {
            tool.edit = edit;
            out.events.push(self.update(id, name, arguments, false));
        }
        let key = if tool.message.is_empty() {
            tool.message = place.message.into();
            place.key(id)
        } else {
            key
        };
        self.state.tools.insert(key, tool);
    }

    /// Handles the beginning of an input that the model still writes.
    pub(super) fn tool_input_grew(
        &mut self,
        place: UsedIn<'_>,
        StreamedTool { id, name, input }: StreamedTool,
        out: &mut Decoded,
    ) {
        let Some(key) = self.running_use(place, &id) else {
            return self.use_begins(place, &id, Tool::new(&name, None, true), input, out);
        };
        if self.state.tools.get(&key).is_some_and(|tool| tool.partial) {
            out.events.push(self.update(&id, &name, input, true));
        }
    }

    fn use_begins(&mut self, place: UsedIn<'_>, id: &str, tool: Tool, arguments: Value, out: &mut Decoded) {
        let key = place.key(id);
        let is_repeat = self.state.ended_uses.get(&key).is_some_and(|message| message == place.message);
        if is_repeat || self.state.tools.len() >= TOOLS {
            return;
        }
        self.state.output.worked = true;
        let input = self.input(&tool.name, arguments, tool.partial);
        out.events.push(AgentEvent::ToolStarted { call_id: id.into(), name: tool.name.clone(), input });
        self.state.tools.insert(key, Tool { message: place.message.into(), ..tool });
    }

    fn update(&self, id: &str, name: &str, arguments: Value, partial: bool) -> AgentEvent {
        let input = Some(self.input(name, arguments, partial));
        AgentEvent::ToolUpdated { call_id: id.into(), name: name.into(), input, output: None }
    }

    fn input(&self, name: &str, arguments: Value, partial: bool) -> ToolInput {
        let title = titles::title(&self.workspace, name, &arguments);
        let locations = titles::locations(&self.workspace, &arguments);
        ToolInput { arguments, partial, title, locations }
    }

    /// Ends the uses whose input the model did not write to its end, because their message is void.
    pub(super) fn unfinished_uses_end(&mut self, place: UsedIn<'_>, ids: &[String], out: &mut Decoded) {
        for id in ids {
            let key = self.running_use(place, id);
            if key.is_some_and(|key| self.state.tools.get(&key).is_some_and(|tool| tool.partial)) {
                let why =
                    Content { text: "The agent did not finish the input.".into(), ..Content::default() };
                self.tool_ended(place, id, why, true, out);
                // Should the message be repeated after all, that is another use.
                self.state.ended_uses.remove(&place.key(id));
            }
        }
    }

    /// The key of the running use with this id. A permission request does not say which subagent makes the use, and
    /// the use that it begins has no message.
    pub(super) fn running_use(&self, place: UsedIn<'_>, id: &str) -> Option<String> {
        let key = place.key(id);
        if self.state.tools.contains_key(&key) {
            return Some(key);
        }
        let unplaced = place.parent.is_none() && place.message.is_empty();
        let is_it =
            |(key, tool): &(&String, &Tool)| split_key(key).1 == id && (unplaced || tool.message.is_empty());
        self.state.tools.iter().find(is_it).map(|(key, _)| key.clone())
    }

    /// Whether a use with this id has ended, at this place or, if the place is not known, anywhere.
    pub(super) fn has_ended(&self, place: UsedIn<'_>, id: &str) -> bool {
        let is_it = |key: &String| {
            let (parent, known) = split_key(key);
            known == id && (place.parent.is_none() || place.parent == parent)
        };
        self.running_use(place, id).is_none() && self.state.ended_uses.keys().any(is_it)
    }

    /// Handles a `user` line: the results of tool uses, and texts that the agent gives to itself.
    pub(super) fn user(&mut self, line: &Line<'_>, out: &mut Decoded) {
        let origin = line.origin.as_ref().filter(|_| line.subagent().is_none());
        if let Some(origin) = origin {
            self.caused_by(origin);
        }
        let Some(message) = parse::<Message<'_>>(line.message) else { return out.alive() };
        // The line has one report, also if it has several results.
        let mut report: Option<ToolReport<'_>> = parse(line.tool_use_result);
        let mut any_result = false;
        for block in records::blocks(message.content) {
            if let ("tool_result", Some(id)) = (&*block.kind, block.tool_use_id.as_deref()) {
                any_result = true;
                self.tool_result(line, id, &block, report.take().as_ref(), out);
                continue;
            }
            let text = block.text.as_deref().unwrap_or_default();
            if origin.is_some() {
                self.task_notification_text(text, out);
            }
            self.command_output(text, false, out);
        }
        if any_result {
            self.state.output.texts.pass();
        } else {
            out.alive();
        }
    }

    /// Handles the result of the tool use `id`, which `block` contains.
    fn tool_result(
        &mut self,
        line: &Line<'_>,
        id: &str,
        block: &Block<'_>,
        report: Option<&ToolReport<'_>>,
        out: &mut Decoded,
    ) {
        let place = UsedIn { parent: line.parent_tool_use_id.as_deref(), message: "" };
        let mut content = Content::read(block.content, report);
        if let Some(text) = handed_back(&content.text, report) {
            content.text = text;
        }
        let failed = block.is_error == Some(true);
        let Some(EndedUse { tool, parent }) = self.tool_ended(place, id, content, failed, out) else {
            return;
        };
        if failed {
            self.denied_by_rules(line, id, &tool.name, out);
        } else if let Some(edit) = tool.edit {
            let from = out.events.len();
            let edits = vec![edit.done(&self.workspace, id, &tool.name, report)];
            out.events.push(AgentEvent::FileEdit { edits });
            put_below(parent.as_deref(), from, out);
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
    ) -> Option<EndedUse> {
        let key = self.running_use(place, id)?;
        let tool = self.state.tools.remove(&key)?;
        let parent = parent_of(&key).map(str::to_owned);
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
        Some(EndedUse { tool, parent })
    }
}
