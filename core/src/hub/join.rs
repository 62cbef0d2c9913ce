//! How a subscription begins: `attached`, then a snapshot or a replay, then `replay_end`.

use alloc::{boxed::Box, collections::VecDeque, string::String, vec::Vec};

use serde_json::value::RawValue;

use super::{
    Hub,
    chat::Chat,
    context::{Asked, Context, Refusal},
    durable_state::{StateAt, raw},
    io::ChatRef,
    subscription::ReaderState,
};
use crate::{
    ids::{ChatId, ConnId},
    journal::{HistoryPage, PageStart, Query},
    time::Moment,
    wire::{ChatState, ControlEvent, ErrorCode, Frame, RunStatus, UpdateScope},
};

/// A snapshot that waits for a page of events from the journal.
#[derive(Debug)]
pub(super) struct SnapshotRequest {
    chat: ChatRef,
    conn: ConnId,
    subscription: u64,
    seq: u64,
    state: StateAt,
}

impl Chat {
    /// Delivers the events that come before the replay or the snapshot.
    pub(super) fn begin_join(&mut self, cx: &mut Context, conn: ConnId, recovered: bool, nothing_yet: bool) {
        let attached = ControlEvent::Attached {
            chat_id: self.key.chat.clone(),
            epoch: self.epoch.clone(),
            head: self.head,
            recovered,
            // A new chat has a title only from its first message, which may be the request that attaches: then
            // `session_updated` brings it.
            title: self.title.clone().filter(|_| !nothing_yet),
        };
        cx.deliver(conn, &attached);
        if let Some(frame) = self.agent_state(cx) {
            cx.deliver_frame(conn, frame);
        }
        if nothing_yet {
            let updated = ControlEvent::SessionUpdated {
                chat_id: self.key.chat.clone(),
                scope: UpdateScope::Metadata,
                title: None,
            };
            cx.deliver(conn, &updated);
        }
    }

    /// Asks the journal for the events of the snapshot that is due, unless the connection already waits for a snapshot
    /// or a page.
    pub(super) fn ask_snapshot(&mut self, cx: &mut Context, conn: ConnId) {
        let Some(state) = cx.conns.get_mut(&conn).filter(|state| !state.fetching) else { return };
        let Some((subscription, seq, snapshot)) = self.subs.take_snapshot(conn) else { return };
        state.fetching = true;
        let query = Query::Before {
            chat: self.key.clone(),
            before: PageStart::At(seq),
            events: cx.limits.history_events,
            bytes: cx.limits.page_bytes,
        };
        let wanted = SnapshotRequest { chat: self.reference, conn, subscription, seq, state: snapshot };
        cx.ask(query, Asked::Snapshot(wanted));
    }

    fn snapshot_found(
        &mut self,
        cx: &mut Context,
        wanted: SnapshotRequest,
        page: Result<HistoryPage, Refusal>,
    ) {
        let SnapshotRequest { conn, subscription, seq, state, .. } = wanted;
        if self.subs.map.get(&conn).is_none_or(|sub| sub.id != subscription) {
            return;
        }
        let page = match page {
            Ok(page) => page,
            Err(refusal) => {
                self.drop_reader(cx, conn, &refusal);
                return;
            }
        };
        let parts = Parts::new(page, state);
        self.subs.set(conn, ReaderState::SnapshotParts { seq, parts });
        self.send_part(cx, conn);
    }

    /// Sends the next part of the snapshot. The part after it waits until the outbox has room again, so that a large
    /// snapshot is never encoded as a whole.
    pub(super) fn send_part(&mut self, cx: &mut Context, conn: ConnId) {
        let Some((seq, (number, mut part))) = self.subs.next_part(conn, cx.limits.page_bytes) else { return };
        if let Some(state) = part.state.as_mut().filter(|_| !part.more) {
            state.agent = self.agent(cx).cloned();
        }
        let event = ControlEvent::Snapshot {
            chat_id: self.key.chat.clone(),
            epoch: self.epoch.clone(),
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
        self.subs.set(conn, ReaderState::Lagging { next: seq + 1 });
        cx.fetched(conn);
        self.finish_join(cx, conn, seq + 1);
        self.catch_up(cx, conn);
    }

    /// Sends `replay_end`, and the present state of the chat, once all events of the replay were sent.
    pub(super) fn finish_join(&mut self, cx: &mut Context, conn: ConnId, next: u64) {
        let Some(sub) = self.subs.map.get_mut(&conn) else { return };
        if sub.join.is_none_or(|until| next <= until) {
            return;
        }
        sub.join = None;
        let after_join = core::mem::take(&mut sub.after_join);
        let end = ControlEvent::ReplayEnd {
            chat_id: self.key.chat.clone(),
            epoch: self.epoch.clone(),
            seq: next - 1,
        };
        cx.deliver(conn, &end);
        if let Some(goal) = self.durable.active_goal() {
            let event = ControlEvent::GoalState { chat_id: self.key.chat.clone(), goal_state: goal.clone() };
            cx.deliver(conn, &event);
        }
        if let Some(event) = self.running_status() {
            cx.deliver(conn, &event);
        }
        if let Some(model_name) = self.model.clone() {
            let event = ControlEvent::RuntimeModelUpdated { chat_id: self.key.chat.clone(), model_name };
            cx.deliver(conn, &event);
        }
        for frame in after_join {
            cx.deliver_frame(conn, frame);
        }
    }

    fn running_status(&self) -> Option<ControlEvent> {
        let turn = self.durable.turn()?;
        Some(ControlEvent::GoalStatus {
            chat_id: self.key.chat.clone(),
            status: RunStatus::Running,
            started_at: Some(Moment::unix_seconds(turn.started_at_ms)),
            turn_id: Some(turn.turn_id.clone()),
        })
    }

    pub(super) fn deliver_after_join(&mut self, cx: &mut Context, conn: ConnId, frame: Frame) {
        match self.subs.map.get_mut(&conn) {
            Some(sub) if sub.join.is_some() => sub.after_join.push(frame),
            _ => cx.deliver_frame(conn, frame),
        }
    }
}

impl Hub {
    pub(super) fn snapshot_found(&mut self, wanted: SnapshotRequest, page: Result<HistoryPage, Refusal>) {
        let (conn, reference, subscription) = (wanted.conn, wanted.chat, wanted.subscription);
        self.with_chat(reference, |chat, cx| chat.snapshot_found(cx, wanted, page));
        // A snapshot in several parts reports `fetched` with its last part.
        let sends_parts =
            self.chats.get(&reference).is_some_and(|chat| chat.subs.sends_parts(conn, subscription));
        if !sends_parts {
            self.cx.fetched(conn);
        }
    }

    pub(super) fn history_found(&mut self, conn: ConnId, chat_id: ChatId, page: Option<HistoryPage>) {
        if let Some(page) = page {
            let events = page.events.iter().map(raw).collect();
            self.cx.deliver(conn, &ControlEvent::History { chat_id, events, before: page.before });
        } else {
            let refusal = Refusal::new(ErrorCode::InvalidField, "before is no cursor of this chat");
            self.cx.refuse(conn, refusal.chat(&chat_id));
        }
        self.cx.fetched(conn);
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
    frames.pop_front().map(|frame| raw(&frame))
}
