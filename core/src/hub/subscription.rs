//! Who watches a chat, and how each reader is brought to where the log is.
//!
//! A reader is *live* while every event is offered to it as it is shown. Attaching, and a full outbox, make
//! it a *lagging* reader: the hub keeps its place only and feeds it from the ring or from journal pages
//! whenever its outbox has room for half of what it holds.

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

use super::{
    chat::Chat,
    context::{Asked, Context, Refusal},
    io::Recipients,
    view::raw,
};
use crate::{
    ids::{ConnId, Cursor},
    journal::{HistoryPage, LogEvent, PageStart, Query},
    time::Moment,
    wire::{ChatState, ControlEvent, ErrorCode, Frame, RunStatus, UpdateScope, encode_control},
};

#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    map: BTreeMap<ConnId, Subscription>,
    /// The live ones, shared with the outputs that name them; rebuilt when it changed.
    live: Option<Arc<Vec<ConnId>>>,
}

#[derive(Debug)]
struct Subscription {
    id: u64,
    place: ReaderPlace,
    /// The last number that belongs to the replay; `replay_end` follows it.
    join: Option<u64>,
    /// The client's own messages among what it has not read, in the form that it gets.
    own: BTreeMap<u64, Frame>,
    /// What it is told after `replay_end`.
    after_join: Vec<Frame>,
}

#[derive(Debug)]
enum ReaderPlace {
    Live,
    /// Next comes this number, as soon as there is room.
    Lagging {
        next: u64,
    },
    /// Next comes this number; the journal was asked for it.
    Paged {
        next: u64,
    },
    /// A snapshot as of this number comes first, as soon as there is room.
    SnapshotDue {
        seq: u64,
        state: ChatState,
    },
    /// The journal was asked for its events.
    SnapshotAsked {
        seq: u64,
    },
}

impl Subscriptions {
    pub(super) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    pub(super) fn contains(&self, conn: ConnId) -> bool {
        self.map.contains_key(&conn)
    }

    pub(super) fn is_live(&self, conn: ConnId) -> bool {
        self.map.get(&conn).is_some_and(|sub| matches!(sub.place, ReaderPlace::Live))
    }

    pub(super) fn live(&mut self) -> Arc<Vec<ConnId>> {
        let map = &self.map;
        let rebuilt = || {
            let live = map.iter().filter(|(_, sub)| matches!(sub.place, ReaderPlace::Live));
            Arc::new(live.map(|(conn, _)| *conn).collect())
        };
        self.live.get_or_insert_with(rebuilt).clone()
    }

    /// Keeps the form in which a lagging reader gets its own message. False if it does not watch.
    pub(super) fn remember_own(&mut self, conn: ConnId, seq: u64, frame: Frame) -> bool {
        let Some(sub) = self.map.get_mut(&conn) else { return false };
        sub.own.insert(seq, frame);
        true
    }

    fn set(&mut self, conn: ConnId, place: ReaderPlace) {
        if let Some(sub) = self.map.get_mut(&conn) {
            sub.place = place;
            self.live = None;
        }
    }
}

impl Chat {
    /// Subscribes a connection from a cursor on, or with a snapshot. Twice is one subscription; the later
    /// cursor replaces the earlier.
    pub(super) fn subscribe(&mut self, cx: &mut Context, conn: ConnId, after: Option<&Cursor>) {
        let Some(state) = cx.conns.get_mut(&conn) else { return };
        state.chats.insert(self.reference);
        let usable = after.filter(|cursor| cursor.epoch == self.epoch && cursor.seq <= self.head);
        let nothing_yet = self.head == 0;
        let recovered = usable.is_some() || (after.is_none() && nothing_yet);
        let attached = ControlEvent::Attached {
            chat_id: self.key.chat.clone(),
            epoch: self.epoch.clone(),
            head: self.head,
            recovered,
            title: self.title.clone(),
        };
        cx.deliver(conn, &attached);
        if nothing_yet {
            let updated = ControlEvent::SessionUpdated {
                chat_id: self.key.chat.clone(),
                scope: UpdateScope::Metadata,
                title: None,
            };
            cx.deliver(conn, &updated);
        }
        let place = match usable {
            Some(cursor) => ReaderPlace::Lagging { next: cursor.seq + 1 },
            None if nothing_yet && after.is_none() => ReaderPlace::Lagging { next: 1 },
            None => ReaderPlace::SnapshotDue { seq: self.head, state: self.view.state() },
        };
        // The client's own messages among what it missed come as `user_message`, like everybody's.
        let subscription = Subscription {
            id: cx.next_subscription(),
            place,
            join: Some(self.head),
            own: BTreeMap::new(),
            after_join: Vec::new(),
        };
        self.subs.map.insert(conn, subscription);
        self.subs.live = None;
        self.catch_up(cx, conn);
    }

    pub(super) fn unsubscribe(&mut self, cx: &mut Context, conn: ConnId) {
        if self.subs.map.remove(&conn).is_some() {
            self.subs.live = None;
            if let Some(state) = cx.conns.get_mut(&conn) {
                state.chats.remove(&self.reference);
            }
            self.hold(cx);
        }
    }

    /// Joins a reader that has everything; one that has not waits for room.
    fn catch_up(&mut self, cx: &mut Context, conn: ConnId) {
        let Some(sub) = self.subs.map.get(&conn) else { return };
        match sub.place {
            ReaderPlace::Lagging { next } if next > self.head => {
                self.finish_join(cx, conn, next);
                self.subs.set(conn, ReaderPlace::Live);
            }
            ReaderPlace::Lagging { .. } | ReaderPlace::SnapshotDue { .. } => cx.watch_drain(conn),
            ReaderPlace::Live | ReaderPlace::Paged { .. } | ReaderPlace::SnapshotAsked { .. } => {}
        }
    }

    /// The outbox refused this event: the reader lags from there on.
    pub(super) fn outbox_full(&mut self, cx: &mut Context, conn: ConnId, first_seq: u64) {
        let Some(sub) = self.subs.map.get_mut(&conn) else { return };
        match &mut sub.place {
            place @ ReaderPlace::Live => {
                *place = ReaderPlace::Lagging { next: first_seq };
                self.subs.live = None;
            }
            ReaderPlace::Lagging { next } | ReaderPlace::Paged { next } => *next = (*next).min(first_seq),
            ReaderPlace::SnapshotDue { .. } | ReaderPlace::SnapshotAsked { .. } => {}
        }
        cx.watch_drain(conn);
    }

    /// Feeds a reader whose outbox is at most half full, with at most `room` bytes. Returns what is left.
    pub(super) fn feed(&mut self, cx: &mut Context, conn: ConnId, room: usize) -> usize {
        let Some(sub) = self.subs.map.get_mut(&conn) else { return room };
        match &mut sub.place {
            ReaderPlace::SnapshotDue { seq, state } => {
                let (seq, state) = (*seq, core::mem::take(state));
                let subscription = sub.id;
                self.subs.set(conn, ReaderPlace::SnapshotAsked { seq });
                self.ask_snapshot(cx, conn, subscription, seq, state);
                room
            }
            ReaderPlace::Lagging { next } => {
                let next = *next;
                self.feed_from(cx, conn, next, room)
            }
            ReaderPlace::Live | ReaderPlace::Paged { .. } | ReaderPlace::SnapshotAsked { .. } => room,
        }
    }

    fn feed_from(&mut self, cx: &mut Context, conn: ConnId, mut next: u64, room: usize) -> usize {
        let Some(sub) = self.subs.map.get_mut(&conn) else { return room };
        let mut left = room;
        let mut fed_up = false;
        if next <= self.head {
            let Some(entries) = self.ring.from(next) else {
                self.subs.set(conn, ReaderPlace::Paged { next });
                self.ask_page(cx, next);
                return room;
            };
            for (seq, frame) in entries {
                // Nothing fits: one frame goes alone, and only into an untouched half.
                if frame.len() > left && left < room {
                    fed_up = true;
                    break;
                }
                let frame = sub.own.remove(&seq).unwrap_or_else(|| frame.clone());
                fed_up = frame.len() > left;
                left = left.saturating_sub(frame.len());
                cx.offer(self.reference, seq, frame, Recipients::One(conn));
                next = seq + 1;
                if fed_up {
                    break;
                }
            }
        }
        self.subs.set(conn, ReaderPlace::Lagging { next });
        // A frame larger than half an outbox may still be refused, so what follows it waits.
        if fed_up {
            cx.watch_drain(conn);
            return 0;
        }
        self.catch_up(cx, conn);
        left
    }

    /// Asks for the page that begins at `next`, once for all who stand there.
    fn ask_page(&self, cx: &mut Context, next: u64) {
        let mine = self.reference;
        let asked =
            |asked: &Asked| matches!(asked, Asked::Page { chat, next: n } if *chat == mine && *n == next);
        if !cx.asked.values().any(asked) {
            let query = Query::After {
                chat: self.key.clone(),
                after: self.cursor(next - 1),
                bytes: cx.limits.outbox_bytes / 2,
            };
            cx.ask(query, Asked::Page { chat: mine, next });
        }
    }

    /// The journal's page for everybody who stands at its beginning. `None`: that place is not kept.
    pub(super) fn page_found(&mut self, cx: &mut Context, next: u64, page: Option<Vec<LogEvent>>) {
        let here = |place: &ReaderPlace| matches!(place, ReaderPlace::Paged { next: n } if *n == next);
        let readers: Vec<ConnId> =
            self.subs.map.iter().filter(|(_, sub)| here(&sub.place)).map(|(conn, _)| *conn).collect();
        for conn in readers {
            match &page {
                Some(events) => self.feed_page(cx, conn, next, events),
                None => self.place_lost(cx, conn),
            }
        }
        // Readers that were set back meanwhile stand elsewhere and ask for themselves.
        let moved: Vec<ConnId> = self
            .subs
            .map
            .iter()
            .filter(|(_, sub)| matches!(sub.place, ReaderPlace::Paged { next: n } if n < next))
            .map(|(conn, _)| *conn)
            .collect();
        for conn in moved {
            if let Some(ReaderPlace::Paged { next }) = self.subs.map.get(&conn).map(|sub| &sub.place) {
                let next = *next;
                self.subs.set(conn, ReaderPlace::Lagging { next });
                self.catch_up(cx, conn);
            }
        }
    }

    fn feed_page(&mut self, cx: &mut Context, conn: ConnId, mut next: u64, events: &[LogEvent]) {
        let Some(sub) = self.subs.map.get_mut(&conn) else { return };
        let begin = next;
        for event in events.iter().filter(|event| event.first_seq >= begin && event.seq <= self.head) {
            let frame = sub.own.remove(&event.seq).unwrap_or_else(|| event.frame.clone());
            cx.offer(self.reference, event.first_seq, frame, Recipients::One(conn));
            next = event.seq + 1;
        }
        self.subs.set(conn, ReaderPlace::Lagging { next });
        // Whether all of it was taken is known when the drain is reported.
        cx.watch_drain(conn);
    }

    /// The journal could not read the page at the moment: the readers there try again when they drain.
    pub(super) fn page_failed(&mut self, cx: &mut Context, next: u64) {
        let readers: Vec<ConnId> = self.subs.map.keys().copied().collect();
        for conn in readers {
            if matches!(self.subs.map.get(&conn).map(|sub| &sub.place),
                Some(ReaderPlace::Paged { next: n }) if *n <= next)
            {
                self.drop_reader(cx, conn);
            }
        }
    }

    /// What the reader needs next is no longer kept.
    fn place_lost(&mut self, cx: &mut Context, conn: ConnId) {
        let joining = self.subs.map.get(&conn).is_some_and(|sub| sub.join.is_some());
        if joining {
            self.subscribe_anew(cx, conn);
        } else {
            let detail = "this reader fell behind what is kept; attach again for a snapshot";
            cx.hang_up(conn, 4408, Refusal::new(ErrorCode::TooSlow, detail).chat(&self.key.chat));
        }
    }

    /// An attach whose cursor turned out to be unusable: the client is told so and gets a snapshot.
    fn subscribe_anew(&mut self, cx: &mut Context, conn: ConnId) {
        let unknown = Cursor { epoch: self.epoch.clone(), seq: u64::MAX };
        self.subscribe(cx, conn, Some(&unknown));
    }

    fn drop_reader(&mut self, cx: &mut Context, conn: ConnId) {
        self.unsubscribe(cx, conn);
        let detail = "the log cannot be read at the moment; attach again shortly";
        cx.refuse(conn, Refusal::new(ErrorCode::Unavailable, detail).chat(&self.key.chat));
    }

    fn ask_snapshot(&self, cx: &mut Context, conn: ConnId, subscription: u64, seq: u64, state: ChatState) {
        let query = Query::Before {
            chat: self.key.clone(),
            before: PageStart::At(seq),
            events: cx.limits.history_events,
            bytes: cx.limits.page_bytes,
        };
        let asked = Asked::Snapshot { chat: self.reference, conn, subscription, seq, state };
        cx.ask(query, asked);
    }

    pub(super) fn snapshot_found(
        &mut self,
        cx: &mut Context,
        conn: ConnId,
        subscription: u64,
        seq: u64,
        state: ChatState,
        page: Option<HistoryPage>,
    ) {
        let asked = |sub: &&Subscription| sub.id == subscription;
        if self.subs.map.get(&conn).filter(asked).is_none() {
            return;
        }
        let Some(page) = page else {
            self.drop_reader(cx, conn);
            return;
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
        let mut parts: Vec<Vec<Frame>> = alloc::vec![Vec::new()];
        let mut bytes = 0;
        for frame in page.events {
            if bytes + frame.len() > cx.limits.page_bytes && bytes > 0 {
                parts.push(Vec::new());
                bytes = 0;
            }
            bytes += frame.len();
            if let Some(part) = parts.last_mut() {
                part.push(frame);
            }
        }
        // The state may be large (queued messages), so it goes alone where the last part is not empty.
        let state_bytes: usize = state.queue.iter().chain(&state.requests).map(|raw| raw.get().len()).sum();
        if bytes > 0 && bytes + state_bytes > cx.limits.page_bytes {
            parts.push(Vec::new());
        }
        let last = parts.len() - 1;
        let mut state = Some(state);
        let mut before = page.before;
        let part = |(part, events): (usize, Vec<Frame>)| ControlEvent::Snapshot {
            chat_id: self.key.chat.clone(),
            epoch: self.epoch.clone(),
            seq,
            part: u32::try_from(part).unwrap_or(u32::MAX),
            more: part < last,
            events: events.iter().map(raw).collect(),
            before: if part == 0 { before.take() } else { None },
            state: if part == last { state.take() } else { None },
        };
        parts.into_iter().enumerate().map(part).collect()
    }

    /// Ends the replay once everything that belongs to it was taken.
    fn finish_join(&mut self, cx: &mut Context, conn: ConnId, next: u64) {
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

    /// Whether every reader that takes part is more than half a ring behind.
    pub(super) fn readers_far_behind(&self, cx: &Context) -> bool {
        let mut taking_part = 0;
        for (conn, sub) in &self.subs.map {
            let next = match &sub.place {
                ReaderPlace::Live => return false,
                ReaderPlace::Lagging { next } | ReaderPlace::Paged { next } => *next,
                ReaderPlace::SnapshotDue { seq, .. } | ReaderPlace::SnapshotAsked { seq } => seq + 1,
            };
            let took_at = cx.conns.get(conn).map_or(0, |conn| conn.took_at_ms);
            if took_at + cx.limits.reader_active_ms < cx.now.ticks_ms {
                continue;
            }
            taking_part += 1;
            if self.ring.bytes_from(next) <= cx.limits.ring_bytes as u64 / 2 {
                return false;
            }
        }
        taking_part > 0
    }
}

impl super::Hub {
    pub(super) fn history_found(
        &mut self,
        conn: ConnId,
        chat_id: crate::ids::ChatId,
        page: Option<HistoryPage>,
    ) {
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
