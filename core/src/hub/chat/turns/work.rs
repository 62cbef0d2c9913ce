//! What the agent has begun in a turn and not ended.

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use crate::{
    agent::StreamId,
    journal::{OpenTool, OpenWork},
    wire::ChatBody,
};

/// What the agent has begun in the started turn and not ended.
#[derive(Debug, Default)]
pub(super) struct Work {
    streams: BTreeMap<StreamId, StreamKind>,
    tools: Vec<OpenTool>,
    /// The work differs from the journal's `OpenWork`.
    changed: bool,
}

/// What a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::hub::chat) enum StreamKind {
    Answer,
    Reasoning,
}

impl Work {
    pub(super) fn restore(work: OpenWork) -> Self {
        let answers = work.answers.into_iter().map(|stream| (StreamId::from(stream), StreamKind::Answer));
        let reasoning =
            work.reasoning.into_iter().map(|stream| (StreamId::from(stream), StreamKind::Reasoning));
        Self { streams: answers.chain(reasoning).collect(), tools: work.tools, changed: false }
    }

    /// A piece of a stream came. The first piece opens the stream.
    pub(super) fn open_stream(&mut self, stream: &StreamId, kind: StreamKind) {
        if !self.streams.contains_key(stream) {
            self.streams.insert(stream.clone(), kind);
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
            let of_kind = self.streams.iter().filter(move |(_, is)| **is == kind);
            of_kind.map(|(stream, _)| String::from(&**stream)).collect()
        };
        OpenWork {
            answers: streams(StreamKind::Answer),
            reasoning: streams(StreamKind::Reasoning),
            tools: self.tools.clone(),
        }
    }

    /// The events that close the open streams.
    pub(super) fn stream_ends(self) -> Vec<ChatBody> {
        let end = |(stream, kind): (StreamId, StreamKind)| {
            let stream_id = (*stream).into();
            match kind {
                StreamKind::Answer => {
                    ChatBody::StreamEnd { stream_id, text: None, void: false, sources: Vec::new() }
                }
                StreamKind::Reasoning => ChatBody::ReasoningEnd { stream_id, void: false },
            }
        };
        self.streams.into_iter().map(end).collect()
    }
}
