//! A snapshot in parts of bounded size.

use alloc::{boxed::Box, collections::VecDeque, string::String, vec::Vec};

use serde_json::value::RawValue;

use crate::{
    hub::chat::log::StateAt,
    journal::HistoryPage,
    wire::{ChatState, Frame},
};

/// A snapshot that is being sent in parts of bounded size. Until then its events share the bytes of the log's frames.
#[derive(Debug)]
pub(super) struct Parts {
    events: VecDeque<Frame>,
    before: Option<String>,
    state: StateAt,
    sent: u32,
}

/// One frame of a snapshot.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// The place of the part in the snapshot, from 0.
    pub(super) number: u32,
    pub(super) events: Vec<Box<RawValue>>,
    pub(super) before: Option<String>,
    pub(super) state: Option<Box<ChatState>>,
    pub(super) more: bool,
}

impl Parts {
    pub(super) fn new(page: HistoryPage, state: StateAt) -> Self {
        Self { events: page.events.into(), before: page.before, state, sent: 0 }
    }

    /// The next part. Events come first, then queued messages, then open requests. A part of `limit`
    /// bytes takes as many of them as fit, but at least one. The last part has the rest of the state.
    pub(super) fn next(&mut self, limit: usize) -> Part {
        let mut part = Part { number: self.sent, before: self.before.take(), more: true, ..Part::default() };
        self.sent = self.sent.saturating_add(1);
        let mut bytes = 0;
        while let Some(event) = take(&mut self.events, &mut bytes, limit) {
            part.events.push(event);
        }
        if self.events.is_empty() {
            while let Some(queued) = take(&mut self.state.queue, &mut bytes, limit) {
                part.state.get_or_insert_default().queue.push(queued);
            }
        }
        if self.events.is_empty() && self.state.queue.is_empty() {
            while let Some(request) = take(&mut self.state.requests, &mut bytes, limit) {
                part.state.get_or_insert_default().requests.push(request);
            }
            if self.state.requests.is_empty() && bytes <= limit {
                let last = part.state.get_or_insert_default();
                (last.turn, last.goal_state) = (self.state.turn.take(), self.state.goal_state.take());
                last.agent_turn = self.state.agent_turn.take();
                last.tasks = core::mem::take(&mut self.state.tasks);
                part.more = false;
            }
        }
        part
    }
}

/// Takes the first of these frames if it fits into a part that has `bytes` bytes already, or if the part is empty.
fn take(frames: &mut VecDeque<Frame>, bytes: &mut usize, limit: usize) -> Option<Box<RawValue>> {
    let length = frames.front()?.len();
    if *bytes > 0 && *bytes + length > limit {
        return None;
    }
    *bytes += length;
    frames.pop_front().map(|frame| frame.to_raw())
}
