//! Subagents: what they say, use and ask goes below the tool use that runs them.

use std::mem;

use super::{
    below::put_below,
    blocks::MessageEnd,
    state::{ClaudeCodec, Output},
    tools::{UsedIn, parent_of, split_key},
};
use crate::{dialect::Decoded, limits::SUBAGENTS};

/// Deepest nesting of subagents that is followed to the work that runs them.
const DEPTH: usize = 16;

impl ClaudeCodec {
    /// Handles a line of the subagent that the tool use `parent` runs, with `handle`.
    pub(super) fn subagent_line(
        &mut self,
        parent: &str,
        out: &mut Decoded,
        handle: impl FnOnce(&mut Self, &mut Decoded),
    ) {
        let others = &mut self.state.subagents;
        if !others.contains_key(parent) && others.len() >= SUBAGENTS {
            let idle = others.iter().find(|(_, output)| output.is_idle()).map(|(parent, _)| parent.clone());
            let Some(idle) = idle else { return out.alive() };
            others.remove(&idle);
        }
        let from = out.events.len();
        let (key, mut output) =
            others.remove_entry(parent).unwrap_or_else(|| (parent.into(), Output::default()));
        mem::swap(&mut self.state.output, &mut output);
        handle(self, out);
        mem::swap(&mut self.state.output, &mut output);
        if !output.is_idle() || !output.texts.is_empty() {
            self.state.subagents.insert(key, output);
        }
        put_below(Some(parent), from, out);
    }

    /// Ends the streams of all subagents, because the turn ends: each unfinished text comes as a whole later.
    pub(super) fn end_subagent_streams(&mut self, out: &mut Decoded) {
        for (parent, output) in &mut self.state.subagents {
            end_streams(parent, output, MessageEnd::Restarted, out);
        }
    }

    /// Handles the end of a subagent, which this tool use runs.
    pub(super) fn subagent_ended(&mut self, parent: &str, out: &mut Decoded) {
        if let Some(output) = self.state.subagents.get_mut(parent) {
            end_streams(parent, output, MessageEnd::Stands, out);
        }
    }

    /// Forgets the tool uses of the subagent that this tool use ran in the background, and of the subagents below: the
    /// hub closes those that are still open.
    pub(super) fn forget_uses_below(&mut self, call_id: &str) {
        let mut over = vec![call_id.to_owned()];
        for _ in 0..DEPTH {
            let is_below =
                |key: &str| parent_of(key).is_some_and(|parent| over.iter().any(|over| over == parent));
            let below = self.state.tools.keys().filter(|key| is_below(key));
            let ids = below.map(|key| split_key(key).1.to_owned()).collect();
            self.state.tools.retain(|key, _| !is_below(key));
            self.state.ended_uses.retain(|key, _| !is_below(key));
            over = ids;
        }
    }

    /// The tool use that runs the subagent which asks for something: the subagent with this task id, or the one that
    /// makes this tool use.
    pub(super) fn asking(&self, task_id: Option<&str>, call_id: Option<&str>) -> Option<String> {
        let task = task_id.and_then(|id| self.state.tasks.get(id));
        let key = || self.running_use(UsedIn::default(), call_id?);
        let parent = || key().and_then(|key| parent_of(&key).map(str::to_owned));
        task.and_then(|task| task.call_id.clone()).or_else(parent)
    }

    /// Whether the subagent that this tool use runs goes on when the turn ends: background work runs it.
    pub(super) fn outlives_turn(&self, call_id: &str) -> bool {
        self.top_of_subagent(call_id).is_some_and(|top| self.runs_in_background(top))
    }

    /// Whether the subagent that this tool use runs ends with the turn: the agent itself waits for it.
    pub(super) fn ends_with_turn(&self, call_id: &str) -> bool {
        let top = self.top_of_subagent(call_id);
        top.is_some_and(|top| self.state.tools.contains_key(top) && !self.runs_in_background(top))
    }

    fn runs_in_background(&self, call_id: &str) -> bool {
        self.state.tasks.values().any(|work| work.runs(call_id))
    }

    /// The tool use for whose subagent no other subagent waits: this one, or one above it. `None` if the subagents are
    /// nested too deep.
    fn top_of_subagent<'a>(&'a self, call_id: &'a str) -> Option<&'a str> {
        let mut top = call_id;
        for _ in 0..DEPTH {
            let mut keys = self.state.tools.keys().map(|key| split_key(key));
            let above = keys.find_map(|(above, id)| above.filter(|_| id == top));
            match above {
                Some(above) if !self.runs_in_background(top) => top = above,
                Some(_) | None => return Some(top),
            }
        }
        None
    }
}

fn end_streams(parent: &str, output: &mut Output, end: MessageEnd, out: &mut Decoded) {
    let from = out.events.len();
    if let Some(mut citing) = output.citing.take() {
        citing.end_text(&mut out.events);
    }
    if let Some(message) = output.message.take() {
        message.finish(end, &mut output.texts, &mut out.events);
    }
    put_below(Some(parent), from, out);
}
