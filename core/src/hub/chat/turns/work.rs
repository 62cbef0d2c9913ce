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
}

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
            move |OpenStream { stream_id, parent_call_id }| {
                (StreamId::from(stream_id), Stream { kind, parent_call_id })
            }
        };
        let answers = work.answers.into_iter().map(of_kind(StreamKind::Answer));
        let reasoning = work.reasoning.into_iter().map(of_kind(StreamKind::Reasoning));
        Self { streams: answers.chain(reasoning).collect(), tools: work.tools, changed: false }
    }

    /// A piece of a stream came. The first piece opens the stream.
    pub(super) fn open_stream(&mut self, id: &StreamId, kind: StreamKind, parent_call_id: Option<&String>) {
        if !self.streams.contains_key(id) {
            self.streams.insert(id.clone(), Stream { kind, parent_call_id: parent_call_id.cloned() });
            self.changed = true;
        }
    }

    pub(super) fn close_stream(&mut self, stream: &StreamId) {
        self.changed |= self.streams.remove(stream).is_some();
    }

    pub(super) fn open_tool(&mut self, tool: OpenTool) {
        self.tools.push(tool);
        self.changed = true;
    }

    pub(super) fn close_tool(&mut self, call_id: &str) {
        let before = self.tools.len();
        self.tools.retain(|open| open.call_id != call_id);
        self.changed |= self.tools.len() < before;
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
    pub(super) fn leave(&mut self, kept: &BTreeSet<String>) -> LeftOpen {
        let streams = core::mem::take(&mut self.streams).into_iter().collect();
        let (kept, tools) =
            core::mem::take(&mut self.tools).into_iter().partition(|tool| kept.contains(&tool.call_id));
        self.tools = kept;
        self.note_left(LeftOpen { streams, tools })
    }

    /// Takes out these tool uses.
    pub(super) fn leave_tools(&mut self, left: &BTreeSet<String>) -> LeftOpen {
        let (tools, kept) =
            core::mem::take(&mut self.tools).into_iter().partition(|tool| left.contains(&tool.call_id));
        self.tools = kept;
        self.note_left(LeftOpen { streams: Vec::new(), tools })
    }

    fn note_left(&mut self, left: LeftOpen) -> LeftOpen {
        self.changed |= !left.streams.is_empty() || !left.tools.is_empty();
        left
    }

    /// The open tool uses of subagents that these tool uses run, and of the subagents that those run in turn.
    pub(super) fn tools_below(&self, mut parents: BTreeSet<String>) -> BTreeSet<String> {
        let mut below = BTreeSet::new();
        // Each round but the last finds a tool use, so there are at most as many rounds as tool uses, and one more.
        loop {
            let is_new = |tool: &&OpenTool| {
                !below.contains(&tool.call_id)
                    && tool.parent_call_id.as_ref().is_some_and(|parent| parents.contains(parent))
            };
            let found: Vec<String> =
                self.tools.iter().filter(is_new).map(|tool| tool.call_id.clone()).collect();
            if found.is_empty() {
                return below;
            }
            parents.extend(found.iter().cloned());
            below.extend(found);
        }
    }
}
