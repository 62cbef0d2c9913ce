//! How a subscription begins: the snapshot, and the end of the replay.

use alloc::{boxed::Box, vec::Vec};

use serde_json::value::RawValue;

use super::{
    Hub,
    chat::Chat,
    context::{Asked, Context, Refusal},
    io::ChatRef,
    subscription::ReaderPlace,
    view::raw,
};
use crate::{
    ids::{ChatId, ConnId},
    journal::{HistoryPage, PageStart, Query},
    time::Moment,
    wire::{ChatState, ControlEvent, ErrorCode, Frame, RunStatus, encode_control},
};

/// A snapshot that waits for the journal's page.
#[derive(Debug)]
pub(super) struct WantedSnapshot {
    chat: ChatRef,
    conn: ConnId,
    subscription: u64,
    seq: u64,
    state: ChatState,
}

impl Chat {
    /// Asks for the snapshot that is due, unless the connection waits for another one.
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
        let wanted = WantedSnapshot { chat: self.reference, conn, subscription, seq, state: snapshot };
        cx.ask(query, Asked::Snapshot(wanted));
    }

    fn snapshot_found(
        &mut self,
        cx: &mut Context,
        wanted: WantedSnapshot,
        page: Result<HistoryPage, Refusal>,
    ) {
        let WantedSnapshot { conn, subscription, seq, state, .. } = wanted;
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
        for part in self.snapshot_parts(cx, seq, page, state) {
            cx.deliver(conn, &part);
        }
        self.subs.set(conn, ReaderPlace::Lagging { next: seq + 1 });
        self.finish_join(cx, conn, seq + 1);
        self.catch_up(cx, conn);
    }

    fn snapshot_parts(
        &self,
        cx: &Context,
        seq: u64,
        page: HistoryPage,
        state: ChatState,
    ) -> Vec<ControlEvent> {
        let mut parts = Parts { parts: alloc::vec![Part::default()], bytes: 0, limit: cx.limits.page_bytes };
        for frame in page.events {
            let length = frame.len();
            parts.room_for(length).events.push(raw(&frame));
        }
        // What waits may be large, so it is spread over as many parts as it needs.
        for queued in state.queue {
            let part = parts.room_for(queued.get().len());
            part.state.get_or_insert_default().queue.push(queued);
        }
        for request in state.requests {
            let part = parts.room_for(request.get().len());
            part.state.get_or_insert_default().requests.push(request);
        }
        let last = parts.room_for(0).state.get_or_insert_default();
        (last.turn, last.goal_state) = (state.turn, state.goal_state);
        let count = parts.parts.len();
        let mut before = page.before;
        let event = |(number, part): (usize, Part)| ControlEvent::Snapshot {
            chat_id: self.key.chat.clone(),
            epoch: self.epoch.clone(),
            seq,
            part: u32::try_from(number).unwrap_or(u32::MAX),
            more: number + 1 < count,
            events: part.events,
            before: if number == 0 { before.take() } else { None },
            state: part.state,
        };
        parts.parts.into_iter().enumerate().map(event).collect()
    }

    /// Ends the replay once everything that belongs to it was taken.
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
        if let Some(goal) = self.view.active_goal() {
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
        let turn = self.view.turn()?;
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
    pub(super) fn snapshot_found(&mut self, wanted: WantedSnapshot, page: Result<HistoryPage, Refusal>) {
        let conn = wanted.conn;
        self.with_chat(wanted.chat, |chat, cx| chat.snapshot_found(cx, wanted, page));
        if let Some(state) = self.cx.conns.get_mut(&conn) {
            state.fetching = false;
            // The next one may come once this one has gone out.
            self.cx.watch_drain(conn);
        }
    }

    pub(super) fn history_found(&mut self, conn: ConnId, chat_id: ChatId, page: Option<HistoryPage>) {
        let Some(page) = page else {
            let refusal = Refusal::new(ErrorCode::InvalidField, "before is no cursor of this chat");
            self.cx.refuse(conn, refusal.chat(&chat_id));
            return;
        };
        let events = page.events.iter().map(raw).collect();
        let event = ControlEvent::History { chat_id, events, before: page.before };
        self.cx.deliver_frame(conn, encode_control(&event));
    }
}

/// A snapshot on its way into frames of bounded length.
struct Parts {
    parts: Vec<Part>,
    /// Bytes in the last part.
    bytes: usize,
    limit: usize,
}

#[derive(Default)]
struct Part {
    events: Vec<Box<RawValue>>,
    state: Option<ChatState>,
}

impl Parts {
    /// The part that takes this many more bytes: the last one, or a new one. An empty part takes anything.
    fn room_for(&mut self, bytes: usize) -> &mut Part {
        if self.bytes > 0 && self.bytes + bytes > self.limit {
            self.parts.push(Part::default());
            self.bytes = 0;
        }
        self.bytes += bytes;
        self.parts.last_mut().expect("there is a part from the beginning")
    }
}
