//! What the agent has begun in a turn and not ended.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};

use crate::{
    agent::StreamId,
    journal::{OpenStream, OpenTool, OpenWork},
};

/// What the agent has begun in the present turn and not ended. Tool uses of background tasks outlive their turn.
#[derive(Debug, Default)]
pub(super) struct Work {
    streams: BTreeMap<StreamId, Stream>,
    tools: Vec<OpenTool>,
    /// The work differs from the journal's `OpenWork`.
    changed: bool,
}

/// An open stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::hub::chat) struct Stream {
    pub(in crate::hub::chat) kind: StreamKind,
    /// The tool use of the subagent whose stream it is, if it is one's.
    pub(in crate::hub::chat) parent_call_id: Option<String>,
    /// The stream has pieces that can be read again from the agent's spool.
    spooled: bool,
}

/// An open tool use: the use that runs the subagent which makes it, if one does, and its id. Two subagents may give the
/// same id.
pub(in crate::hub::chat) type ToolKey = (Option<String>, String);

/// What a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::hub::chat) enum StreamKind {
    Answer,
    Reasoning,
}

/// What the agent had begun, and what is to be closed because its turn, its task or the agent is over.
#[derive(Debug, Default)]
pub(in crate::hub::chat) struct LeftOpen {
    pub(in crate::hub::chat) streams: Vec<(StreamId, Stream)>,
    pub(in crate::hub::chat) tools: Vec<OpenTool>,
}

impl Work {
    pub(super) fn restore(work: OpenWork) -> Self {
        let of_kind = |kind| {
            move |OpenStream { stream_id, parent_call_id, spooled }| {
                (StreamId::from(stream_id), Stream { kind, parent_call_id, spooled })
            }
        };
        let answers = work.answers.into_iter().map(of_kind(StreamKind::Answer));
        let reasoning = work.reasoning.into_iter().map(of_kind(StreamKind::Reasoning));
        Self { streams: answers.chain(reasoning).collect(), tools: work.tools, changed: false }
    }

    /// A piece of a stream came. The first piece opens the stream. The first `spooled` one is marked, so that the journal
    /// has the mark before a piece is shown.
    pub(super) fn open_stream(
        &mut self,
        id: &StreamId,
        kind: StreamKind,
        parent_call_id: Option<&String>,
        spooled: bool,
    ) {
        if let Some(open) = self.streams.get_mut(id) {
            if spooled && !open.spooled {
                (open.spooled, self.changed) = (true, true);
            }
            return;
        }
        let parent_call_id = parent_call_id.cloned();
        self.streams.insert(id.clone(), Stream { kind, parent_call_id, spooled });
        self.changed = true;
    }

    /// Whether pieces may have been shown that the journal does not have.
    pub(super) fn has_spooled(&self) -> bool {
        self.streams.values().any(|stream| stream.spooled)
    }

    pub(super) fn close_stream(&mut self, stream: &StreamId) {
        self.changed |= self.streams.remove(stream).is_some();
    }

    pub(super) fn open_tool(&mut self, tool: OpenTool) {
        self.tools.push(tool);
        self.changed = true;
    }

    /// The use with this id ends: that of this subagent. If it has none, either the beginning or the end of a use does not
    /// say that it is a subagent's.
    pub(super) fn close_tool(&mut self, call_id: &str, parent_call_id: Option<&String>) {
        let same_id = |open: &OpenTool| open.call_id == call_id;
        let here = |open: &OpenTool| same_id(open) && open.parent_call_id.as_ref() == parent_call_id;
        let unplaced = |open: &OpenTool| open.parent_call_id.is_none() || parent_call_id.is_none();
        let or_unplaced = || self.tools.iter().position(|open| same_id(open) && unplaced(open));
        let place = self.tools.iter().position(here).or_else(or_unplaced);
        if let Some(place) = place {
            self.tools.remove(place);
            self.changed = true;
        }
    }

    pub(super) fn has_tool(&self, call_id: &str) -> bool {
        self.tools.iter().any(|open| open.call_id == call_id)
    }

    /// The number of open streams and tool uses.
    pub(super) fn len(&self) -> usize {
        self.streams.len() + self.tools.len()
    }

    pub(super) fn has_tools(&self) -> bool {
        !self.tools.is_empty()
    }

    /// The open streams and tool uses, if they changed since the last call and so have to be appended.
    pub(super) fn take_changed(&mut self) -> Option<OpenWork> {
        core::mem::take(&mut self.changed).then(|| self.record())
    }

    /// The journal may have lost the open work, so it is appended again.
    pub(super) fn append_again(&mut self) {
        self.changed = true;
    }

    fn record(&self) -> OpenWork {
        let streams = |kind| {
            let of_kind = self.streams.iter().filter(move |(_, stream)| stream.kind == kind);
            let open = of_kind.map(|(id, stream)| OpenStream {
                stream_id: String::from(&**id),
                parent_call_id: stream.parent_call_id.clone(),
                spooled: stream.spooled,
            });
            open.collect()
        };
        OpenWork {
            answers: streams(StreamKind::Answer),
            reasoning: streams(StreamKind::Reasoning),
            tools: self.tools.clone(),
        }
    }

    /// Takes out all streams, and the tool uses that are not in `kept`.
    pub(super) fn leave(&mut self, kept: &BTreeSet<ToolKey>) -> LeftOpen {
        let streams = core::mem::take(&mut self.streams).into_iter().collect();
        let (kept, tools) =
            core::mem::take(&mut self.tools).into_iter().partition(|tool| kept.contains(&key(tool)));
        self.tools = kept;
        self.note_left(LeftOpen { streams, tools })
    }

    /// Takes out these tool uses.
    pub(super) fn leave_tools(&mut self, left: &BTreeSet<ToolKey>) -> LeftOpen {
        let (tools, kept) =
            core::mem::take(&mut self.tools).into_iter().partition(|tool| left.contains(&key(tool)));
        self.tools = kept;
        self.note_left(LeftOpen { streams: Vec::new(), tools })
    }

    fn note_left(&mut self, left: LeftOpen) -> LeftOpen {
        self.changed |= !left.streams.is_empty() || !left.tools.is_empty();
        left
    }

    /// The open tool uses of subagents that these tool uses run, and of the subagents that those run in turn.
    pub(super) fn tools_below(&self, mut parents: BTreeSet<String>) -> BTreeSet<ToolKey> {
        let mut below = BTreeSet::new();
        // Each round but the last finds a tool use, so there are at most as many rounds as tool uses, and one more.
        loop {
            let is_new = |tool: &&OpenTool| {
                !below.contains(&key(tool))
                    && tool.parent_call_id.as_ref().is_some_and(|parent| parents.contains(parent))
            };
            let found: Vec<ToolKey> = self.tools.iter().filter(is_new).map(key).collect();
            if found.is_empty() {
                return below;
            }
            parents.extend(found.iter().map(|(_, call_id)| call_id.clone()));
            below.extend(found);
        }
    }
}

fn key(tool: &OpenTool) -> ToolKey {
    (tool.parent_call_id.clone(), tool.call_id.clone())
}
