//! How a subscription begins: `attached`, then a snapshot or a replay, then `replay_end`.

use alloc::{boxed::Box, collections::VecDeque, string::String, vec::Vec};

use serde_json::value::RawValue;

use super::{Readers, subscription::ReaderState};
use crate::{
    hub::{
        chat::{
            log::{Log, StateAt},
            profile::Profile,
        },
        context::{Asked, Context},
        io::ChatRef,
        refusals::Refusal,
    },
    ids::ConnId,
    journal::{HistoryPage, PageStart, Query},
    time::Moment,
    wire::{ChatState, ControlEvent, Frame, RunStatus, UpdateScope, encode_control},
};

/// A snapshot that waits for a page of events from the journal.
#[derive(Debug)]
pub(in crate::hub) struct SnapshotRequest {
    chat: ChatRef,
    conn: ConnId,
    subscription: u64,
    seq: u64,
    state: StateAt,
}

impl SnapshotRequest {
    pub(in crate::hub) fn chat(&self) -> ChatRef {
        self.chat
    }

    pub(in crate::hub) fn conn(&self) -> ConnId {
        self.conn
    }
}

impl Readers {
    /// Delivers the events that come before the replay or the snapshot.
    pub(super) fn begin_join(
        &mut self,
        cx: &mut Context,
        log: &Log,
        profile: &Profile,
        conn: ConnId,
        recovered: bool,
    ) {
        let attached = ControlEvent::Attached {
            chat_id: log.chat_id().clone(),
            epoch: log.epoch().clone(),
            head: log.head(),
            recovered,
            // A new chat has a title only from its first message, which may be the request that attaches: then
            // `session_updated` brings it.
            title: profile.title().cloned().filter(|_| !log.is_empty()),
        };
        cx.deliver(conn, &attached);
        if let Some(frame) = self.agent_state(cx, log) {
            cx.deliver_frame(conn, frame);
        }
        if log.is_empty() {
            let (chat_id, scope) = (log.chat_id().clone(), UpdateScope::Metadata);
            cx.deliver(conn, &ControlEvent::SessionUpdated { chat_id, scope, title: None });
        }
    }

    /// The description of the chat's agent as an `agent_state` event, encoded once.
    fn agent_state(&mut self, cx: &Context, log: &Log) -> Option<Frame> {
        if self.agent_state.is_none() {
            self.agent_state = cx.agent.as_ref().map(|agent| {
                let (chat_id, agent) = (log.chat_id().clone(), agent.clone());
                encode_control(&ControlEvent::AgentState { chat_id, agent })
            });
        }
        self.agent_state.clone()
    }

    /// Asks the journal for the events of the snapshot that is due, unless the connection already waits for a snapshot
    /// or a page.
    pub(super) fn ask_snapshot(&mut self, cx: &mut Context, log: &Log, conn: ConnId) {
        let Some(state) = cx.conns.get_mut(&conn).filter(|state| !state.is_fetching()) else { return };
        let Some(reader) = self.subscriptions.get_mut(&conn) else { return };
        let Some((seq, snapshot)) = reader.take_snapshot() else { return };
        state.set_fetching(true);
        let query = Query::Before {
            chat: log.key().clone(),
            before: PageStart::At(seq),
            events: cx.limits.history_events,
            bytes: cx.limits.page_bytes,
        };
        let (chat, subscription) = (log.reference(), reader.id());
        let request = SnapshotRequest { chat, conn, subscription, seq, state: snapshot };
        cx.ask(query, Asked::Snapshot(request));
    }

    /// The journal answered with the events of a snapshot, or could not read them. Returns whether further parts of the
    /// snapshot are to be sent.
    pub(in crate::hub::chat) fn snapshot_found(
        &mut self,
        cx: &mut Context,
        log: &Log,
        profile: &Profile,
        request: SnapshotRequest,
        page: Result<HistoryPage, Refusal>,
    ) -> bool {
        let SnapshotRequest { conn, subscription, seq, state, .. } = request;
        if self.subscriptions.get(&conn).is_none_or(|reader| reader.id() != subscription) {
            return false;
        }
        match page {
            Ok(page) => {
                let parts = Parts::new(page, state);
                self.set_state(conn, ReaderState::SnapshotParts { seq, parts });
                self.send_part(cx, log, profile, conn);
            }
            Err(refusal) => self.drop_reader(cx, log, conn, &refusal),
        }
        let reader = self.subscriptions.get(&conn).filter(|reader| reader.id() == subscription);
        reader.is_some_and(|reader| reader.sends_parts())
    }

    /// Sends the next part of the snapshot. The part after it waits until the outbox has room again, so that a large
    /// snapshot is never encoded as a whole.
    pub(super) fn send_part(&mut self, cx: &mut Context, log: &Log, profile: &Profile, conn: ConnId) {
        let Some(reader) = self.subscriptions.get_mut(&conn) else { return };
        let Some((seq, (number, mut part))) = reader.next_part(cx.limits.page_bytes) else { return };
        if let Some(state) = part.state.as_mut().filter(|_| !part.more) {
            state.agent.clone_from(&cx.agent);
        }
        let event = ControlEvent::Snapshot {
            chat_id: log.chat_id().clone(),
            epoch: log.epoch().clone(),
            seq,
            part: number,
            more: part.more,
            events: part.events,
            before: part.before,
            state: part.state,
        };
        cx.deliver(conn, &event);
        if part.more {
            cx.watch_drain(conn);
            return;
        }
        self.set_state(conn, ReaderState::Lagging { next: seq + 1 });
        cx.fetched(conn);
        self.finish_join(cx, log, profile, conn, seq + 1);
        self.catch_up(cx, log, profile, conn);
    }

    /// Sends `replay_end`, and the present state of the chat, once all events of the replay were sent.
    pub(super) fn finish_join(
        &mut self,
        cx: &mut Context,
        log: &Log,
        profile: &Profile,
        conn: ConnId,
        next: u64,
    ) {
        let Some(reader) = self.subscriptions.get_mut(&conn) else { return };
        let Some(after_replay) = reader.end_replay(next) else { return };
        let chat_id = log.chat_id();
        let (epoch, seq) = (log.epoch().clone(), next - 1);
        cx.deliver(conn, &ControlEvent::ReplayEnd { chat_id: chat_id.clone(), epoch, seq });
        if let Some(goal) = log.durable().active_goal() {
            let (chat_id, goal_state) = (chat_id.clone(), goal.clone());
            cx.deliver(conn, &ControlEvent::GoalState { chat_id, goal_state });
        }
        if let Some(turn) = log.durable().turn() {
            let event = ControlEvent::GoalStatus {
                chat_id: chat_id.clone(),
                status: RunStatus::Running,
                started_at: Some(Moment::unix_seconds(turn.started_at_ms)),
                turn_id: Some(turn.turn_id.clone()),
            };
            cx.deliver(conn, &event);
        }
        if let Some(model_name) = profile.model().cloned() {
            let chat_id = chat_id.clone();
            cx.deliver(conn, &ControlEvent::RuntimeModelUpdated { chat_id, model_name });
        }
        for frame in after_replay {
            cx.deliver_frame(conn, frame);
        }
    }

    /// Delivers a frame, after `replay_end` if that is still to be sent.
    pub(in crate::hub::chat) fn deliver_after_replay(
        &mut self,
        cx: &mut Context,
        conn: ConnId,
        frame: Frame,
    ) {
        match self.subscriptions.get_mut(&conn) {
            Some(reader) => reader.deliver(cx, conn, frame),
            None => cx.deliver_frame(conn, frame),
        }
    }
}

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
    events: Vec<Box<RawValue>>,
    before: Option<String>,
    state: Option<ChatState>,
    more: bool,
}

impl Parts {
    fn new(page: HistoryPage, state: StateAt) -> Self {
        Self { events: page.events.into(), before: page.before, state, sent: 0 }
    }

    /// The next part and its number. Events come first, then queued messages, then open requests. A part of `limit`
    /// bytes takes as many of them as fit, but at least one. The last part has the rest of the state.
    pub(super) fn next(&mut self, limit: usize) -> (u32, Part) {
        let number = self.sent;
        self.sent = self.sent.saturating_add(1);
        let mut part = Part { before: self.before.take(), more: true, ..Part::default() };
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
                part.more = false;
            }
        }
        (number, part)
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
