//! The readers of a chat, and how each one catches up with the log.
//!
//! A reader is *live* while every event is offered to it as soon as it is published. Attaching, and a full outbox,
//! make a reader *lag*: the hub stores the next sequence number of the reader only, and feeds it from the ring or from
//! journal pages whenever its outbox is at most half full.

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

use super::{
    chat::{Chat, unreadable},
    context::{Asked, Context, DeferredAction, Refusal},
    durable_state::StateAt,
    io::Recipients,
    join::{Part, Parts},
    pace::Pace,
};
use crate::{
    ids::{ConnId, Cursor},
    journal::{LogEvent, Query},
    wire::{CloseCode, ControlEvent, ErrorCode, Frame, MessageAccepted, encode_control},
};

/// The subscriptions of a chat.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    pub(super) map: BTreeMap<ConnId, Subscription>,
    /// The live readers, sorted, in a list shared with the outputs that offer events to them.
    live: Arc<Vec<ConnId>>,
    /// Readers that wait for a page of the journal, as connection and subscription id, by the page's first sequence
    /// number.
    pages: BTreeMap<u64, Vec<(ConnId, u64)>>,
    /// Counts epoch resets, so that pages asked for under an earlier numbering are ignored.
    numbering: u64,
    pace: Pace,
}

/// One connection's subscription to a chat.
#[derive(Debug)]
pub(super) struct Subscription {
    /// Identifies the subscription, so that answers for an earlier one of the same connection are ignored.
    pub(super) id: u64,
    place: ReaderState,
    /// The first sequence number of this subscription. Refused events before it belong to an earlier subscription.
    start: u64,
    /// The last sequence number of the replay, after which `replay_end` follows. None once that was sent.
    pub(super) join: Option<u64>,
    /// The answers to the client's own messages that its outbox has not certainly accepted, by sequence number.
    own: BTreeMap<u64, Own>,
    /// Frames to deliver after `replay_end`.
    pub(super) after_join: Vec<Frame>,
}

/// A `message_accepted` that its sender gets in place of the `user_message`.
#[derive(Debug)]
struct Own {
    accepted: MessageAccepted,
    /// The number of the input during which the answer was offered. If the outbox does not refuse it before the next
    /// input, the outbox has accepted it.
    offered: Option<u64>,
}

/// How far a reader is, and what it waits for.
#[derive(Debug)]
pub(super) enum ReaderState {
    Live,
    /// Gets the event `next`, and those after it, as soon as its outbox has room.
    Lagging {
        next: u64,
    },
    /// Waits for the journal's page that begins at `next`.
    Paged {
        next: u64,
    },
    /// Gets a snapshot as of sequence number `seq`, as soon as its outbox has room.
    SnapshotDue {
        seq: u64,
        state: StateAt,
    },
    /// Waits for the events of the snapshot from the journal.
    SnapshotAsked {
        seq: u64,
    },
    /// Gets the next part of the snapshot, as soon as its outbox has room.
    SnapshotParts {
        seq: u64,
        parts: Parts,
    },
}

impl ReaderState {
    fn is_live(&self) -> bool {
        matches!(self, Self::Live)
    }

    /// The next sequence number for a reader that is not live.
    fn next(&self) -> Option<u64> {
        match self {
            Self::Live => None,
            Self::Lagging { next } | Self::Paged { next } => Some(*next),
            Self::SnapshotDue { seq, .. } | Self::SnapshotAsked { seq } | Self::SnapshotParts { seq, .. } => {
                Some(seq + 1)
            }
        }
    }
}

impl Subscription {
    /// Abandons a partly sent snapshot, so that the connection's next page or snapshot can be fetched.
    fn give_up_parts(&self, cx: &mut Context, conn: ConnId) {
        if matches!(self.place, ReaderState::SnapshotParts { .. }) {
            cx.fetched(conn);
        }
    }

    /// Removes the answers offered during earlier inputs: the outbox did not refuse them, so it has accepted them.
    fn forget_taken(&mut self, inputs: u64) {
        self.own.retain(|_, own| own.offered.is_none_or(|input| input >= inputs));
    }

    /// Takes the answers below sequence number `before` that the outbox has not accepted, for a client that will not
    /// get the events there any more. They are marked as duplicates, so that they move no cursor.
    fn late_answers(&mut self, before: u64, inputs: u64) -> Vec<Frame> {
        self.forget_taken(inputs);
        let later = self.own.split_off(&before);
        let passed = core::mem::replace(&mut self.own, later);
        let late = passed.into_values().map(|own| {
            let accepted = MessageAccepted { duplicate: true, ..own.accepted };
            encode_control(&ControlEvent::MessageAccepted(accepted))
        });
        core::mem::take(&mut self.after_join).into_iter().chain(late).collect()
    }

    /// The frame that this reader gets for an event: the event, or `message_accepted` for the client's own message.
    fn form(&mut self, seq: u64, frame: &Frame, inputs: u64) -> Frame {
        match self.own.get_mut(&seq) {
            Some(own) => {
                own.offered = Some(inputs);
                encode_control(&ControlEvent::MessageAccepted(own.accepted.clone()))
            }
            None => frame.clone(),
        }
    }
}

impl Subscriptions {
    pub(super) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    pub(super) fn connections(&self) -> Vec<ConnId> {
        self.map.keys().copied().collect()
    }

    pub(super) fn contains(&self, conn: ConnId) -> bool {
        self.map.contains_key(&conn)
    }

    pub(super) fn is_live(&self, conn: ConnId) -> bool {
        self.map.get(&conn).is_some_and(|sub| sub.place.is_live())
    }

    pub(super) fn live(&self) -> Arc<Vec<ConnId>> {
        self.live.clone()
    }

    /// Remembers that a reader gets this `message_accepted` in place of its own message.
    pub(super) fn remember_own(
        &mut self,
        cx: &Context,
        conn: ConnId,
        seq: u64,
        accepted: MessageAccepted,
        offered: bool,
    ) {
        let Some(sub) = self.map.get_mut(&conn) else { return };
        sub.forget_taken(cx.inputs);
        sub.own.insert(seq, Own { accepted, offered: offered.then_some(cx.inputs) });
    }

    /// Starts another numbering of events after an epoch reset: pages that were asked for before are ignored.
    pub(super) fn restart(&mut self) {
        self.numbering += 1;
        self.pages.clear();
        self.pace = Pace::default();
    }

    /// Takes the state out of a snapshot that is due, as subscription id, sequence number and state.
    pub(super) fn take_snapshot(&mut self, conn: ConnId) -> Option<(u64, u64, StateAt)> {
        let sub = self.map.get_mut(&conn)?;
        let ReaderState::SnapshotDue { seq, state } = &mut sub.place else { return None };
        let taken = (sub.id, *seq, core::mem::take(state));
        sub.place = ReaderState::SnapshotAsked { seq: taken.1 };
        Some(taken)
    }

    /// The next part of a snapshot that is being sent: the snapshot's sequence number, then the part with its number.
    pub(super) fn next_part(&mut self, conn: ConnId, limit: usize) -> Option<(u64, (u32, Part))> {
        let sub = self.map.get_mut(&conn)?;
        let ReaderState::SnapshotParts { seq, parts } = &mut sub.place else { return None };
        Some((*seq, parts.next(limit)))
    }

    /// Whether parts of a snapshot are still to be sent to this subscription.
    pub(super) fn sends_parts(&self, conn: ConnId, subscription: u64) -> bool {
        let sub = self.map.get(&conn).filter(|sub| sub.id == subscription);
        sub.is_some_and(|sub| matches!(sub.place, ReaderState::SnapshotParts { .. }))
    }

    pub(super) fn set(&mut self, conn: ConnId, place: ReaderState) {
        let Some(sub) = self.map.get_mut(&conn) else { return };
        let (was, is) = (sub.place.is_live(), place.is_live());
        sub.place = place;
        if was != is {
            self.mark_live(conn, is);
        }
    }

    fn mark_live(&mut self, conn: ConnId, is: bool) {
        match self.live.binary_search(&conn) {
            Ok(at) if !is => {
                Arc::make_mut(&mut self.live).remove(at);
            }
            Err(at) if is => Arc::make_mut(&mut self.live).insert(at, conn),
            Ok(_) | Err(_) => {}
        }
    }

    fn insert(&mut self, conn: ConnId, sub: Subscription) {
        self.mark_live(conn, sub.place.is_live());
        self.map.insert(conn, sub);
    }

    fn remove(&mut self, conn: ConnId) -> Option<Subscription> {
        self.mark_live(conn, false);
        self.map.remove(&conn)
    }
}

impl Chat {
    /// Subscribes a connection from a cursor on, or with a snapshot if there is no usable cursor. Replaces an earlier
    /// subscription of the connection.
    pub(super) fn subscribe(&mut self, cx: &mut Context, conn: ConnId, after: Option<&Cursor>) {
        let Some(state) = cx.conns.get_mut(&conn) else { return };
        state.coming.remove(&self.reference);
        state.chats.insert(self.reference);
        let usable = after.filter(|cursor| cursor.epoch == self.epoch && cursor.seq <= self.head);
        let nothing_yet = self.head == 0 && !self.earlier_epochs;
        let recovered = usable.is_some() || (after.is_none() && nothing_yet);
        self.begin_join(cx, conn, recovered, nothing_yet);
        let place = match usable {
            Some(cursor) => ReaderState::Lagging { next: cursor.seq + 1 },
            None if nothing_yet && after.is_none() => ReaderState::Lagging { next: 1 },
            None => ReaderState::SnapshotDue { seq: self.head, state: self.durable.state() },
        };
        let start = place.next().unwrap_or(0);
        let mut subscription = Subscription {
            id: cx.next_subscription(),
            place,
            start,
            join: Some(self.head),
            own: BTreeMap::new(),
            after_join: Vec::new(),
        };
        if let Some(mut earlier) = self.subs.remove(conn) {
            earlier.give_up_parts(cx, conn);
            // Answers that the client may still wait for. Messages already answered are replayed as `user_message`.
            subscription.after_join = earlier.late_answers(start, cx.inputs);
            subscription.own = earlier.own;
        }
        self.subs.insert(conn, subscription);
        self.catch_up(cx, conn);
    }

    /// Ends a connection's subscription. The client still gets the outstanding answers to its messages.
    pub(super) fn unsubscribe(&mut self, cx: &mut Context, conn: ConnId) {
        if let Some(mut earlier) = self.subs.remove(conn) {
            earlier.give_up_parts(cx, conn);
            for answer in earlier.late_answers(u64::MAX, cx.inputs) {
                cx.deliver_frame(conn, answer);
            }
            if let Some(state) = cx.conns.get_mut(&conn) {
                state.chats.remove(&self.reference);
            }
            self.pause_or_resume(cx);
            cx.deferred.push_back(DeferredAction::Settle(self.reference));
        }
    }

    /// Makes a reader live if it has all events; otherwise waits until its outbox drains.
    pub(super) fn catch_up(&mut self, cx: &mut Context, conn: ConnId) {
        let Some(sub) = self.subs.map.get(&conn) else { return };
        match sub.place {
            ReaderState::Lagging { next } if next > self.head => {
                self.finish_join(cx, conn, next);
                self.subs.set(conn, ReaderState::Live);
            }
            ReaderState::Lagging { .. }
            | ReaderState::SnapshotDue { .. }
            | ReaderState::SnapshotParts { .. } => cx.watch_drain(conn),
            ReaderState::Live | ReaderState::Paged { .. } | ReaderState::SnapshotAsked { .. } => {}
        }
    }

    /// The outbox refused this event: the reader lags from there on.
    pub(super) fn outbox_full(&mut self, cx: &mut Context, conn: ConnId, first_seq: u64) {
        let Some(sub) = self.subs.map.get_mut(&conn) else { return };
        for own in sub.own.range_mut(first_seq..).map(|(_, own)| own) {
            own.offered = None;
        }
        let first_seq = first_seq.max(sub.start);
        match sub.place {
            ReaderState::Live => self.subs.set(conn, ReaderState::Lagging { next: first_seq }),
            ReaderState::Lagging { next } | ReaderState::Paged { next } if first_seq < next => {
                self.subs.set(conn, ReaderState::Lagging { next: first_seq });
            }
            ReaderState::Lagging { .. }
            | ReaderState::Paged { .. }
            | ReaderState::SnapshotDue { .. }
            | ReaderState::SnapshotAsked { .. }
            | ReaderState::SnapshotParts { .. } => {}
        }
        cx.watch_drain(conn);
    }

    /// Feeds a reader whose outbox is at most half full, with at most `room` bytes. Returns what is left.
    pub(super) fn feed(&mut self, cx: &mut Context, conn: ConnId, room: usize) -> usize {
        let Some(sub) = self.subs.map.get_mut(&conn) else { return room };
        sub.forget_taken(cx.inputs);
        if let Some(next) = sub.place.next() {
            self.subs.pace.took(cx.now.ticks_ms, next);
        }
        match sub.place {
            ReaderState::SnapshotDue { .. } => {
                self.ask_snapshot(cx, conn);
                room
            }
            // A part may take all of half an outbox, and even some more.
            ReaderState::SnapshotParts { .. } => {
                self.send_part(cx, conn);
                0
            }
            ReaderState::Lagging { next } => self.feed_from(cx, conn, next, room),
            ReaderState::Live | ReaderState::Paged { .. } | ReaderState::SnapshotAsked { .. } => room,
        }
    }

    fn feed_from(&mut self, cx: &mut Context, conn: ConnId, begin: u64, room: usize) -> usize {
        let mut next = begin;
        let Some(sub) = self.subs.map.get_mut(&conn) else { return room };
        let mut left = room;
        let mut fed_up = false;
        if next <= self.head {
            let Some(entries) = self.ring.from(next) else {
                let id = sub.id;
                self.subs.set(conn, ReaderState::Paged { next });
                self.ask_page(cx, conn, id, next);
                return room;
            };
            for (seq, frame) in entries {
                // A frame larger than the room left is offered only as the first one.
                if frame.len() > left && left < room {
                    fed_up = true;
                    break;
                }
                let frame = sub.form(seq, frame, cx.inputs);
                fed_up = frame.len() > left;
                left = left.saturating_sub(frame.len());
                cx.offer(self.reference, seq, frame, Recipients::One(conn));
                next = seq + 1;
                if fed_up {
                    break;
                }
            }
        }
        self.subs.pace.took(cx.now.ticks_ms, next);
        self.subs.set(conn, ReaderState::Lagging { next });
        // A frame larger than half an outbox may still be refused, so what follows it waits.
        if fed_up {
            cx.watch_drain(conn);
            return 0;
        }
        // Other frames may be refused too, if the outbox got other frames meanwhile: `replay_end` waits for the drain.
        if next > begin && self.subs.map.get(&conn).is_some_and(|sub| sub.join.is_some()) {
            cx.watch_drain(conn);
            return left;
        }
        self.catch_up(cx, conn);
        left
    }

    /// Asks for the page that begins at `next`, once for all readers that need it.
    fn ask_page(&mut self, cx: &mut Context, conn: ConnId, subscription: u64, next: u64) {
        let waiting = self.subs.pages.entry(next).or_default();
        waiting.push((conn, subscription));
        if waiting.len() == 1 {
            let query = Query::After {
                chat: self.key.clone(),
                after: self.cursor(next - 1),
                bytes: cx.limits.outbox_bytes / 2,
            };
            cx.ask(query, Asked::Page { chat: self.reference, next, numbering: self.subs.numbering });
        }
    }

    /// Gives the journal's page to the readers that wait for it. `None`: the journal no longer has these events.
    pub(super) fn page_found(
        &mut self,
        cx: &mut Context,
        next: u64,
        numbering: u64,
        page: Option<Vec<LogEvent>>,
    ) {
        for conn in self.page_readers(next, numbering) {
            match &page {
                Some(events) => self.feed_page(cx, conn, next, events),
                None => self.place_lost(cx, conn),
            }
        }
    }

    /// The journal could not read the page.
    pub(super) fn page_failed(&mut self, cx: &mut Context, next: u64, numbering: u64, refusal: &Refusal) {
        for conn in self.page_readers(next, numbering) {
            self.drop_reader(cx, conn, refusal);
        }
    }

    /// The readers that still wait for the page at `next`. Others have gone, or begin elsewhere by now.
    fn page_readers(&mut self, next: u64, numbering: u64) -> Vec<ConnId> {
        if numbering != self.subs.numbering {
            return Vec::new();
        }
        let waiting = self.subs.pages.remove(&next).unwrap_or_default();
        let still = |(conn, subscription): &(ConnId, u64)| {
            let sub = self.subs.map.get(conn);
            sub.is_some_and(|sub| sub.id == *subscription && matches!(sub.place, ReaderState::Paged { .. }))
        };
        let mut readers: Vec<ConnId> = waiting.into_iter().filter(still).map(|(conn, _)| conn).collect();
        readers.dedup();
        readers
    }

    fn feed_page(&mut self, cx: &mut Context, conn: ConnId, begin: u64, events: &[LogEvent]) {
        let Some(sub) = self.subs.map.get_mut(&conn) else { return };
        let mut next = begin;
        for event in events.iter().filter(|event| event.first_seq >= begin && event.seq <= self.head) {
            let frame = sub.form(event.seq, &event.frame, cx.inputs);
            cx.offer(self.reference, event.first_seq, frame, Recipients::One(conn));
            next = event.seq + 1;
        }
        if next == begin {
            self.drop_reader(cx, conn, &unreadable());
            return;
        }
        self.subs.set(conn, ReaderState::Lagging { next });
        // Whether the outbox accepted all of the page is known when the drain is reported.
        cx.watch_drain(conn);
    }

    /// The journal does not have the reader's next event any more.
    fn place_lost(&mut self, cx: &mut Context, conn: ConnId) {
        let joining = self.subs.map.get(&conn).is_some_and(|sub| sub.join.is_some());
        if joining {
            self.subscribe_anew(cx, conn);
        } else {
            let detail = "this reader fell behind what is kept; attach again for a snapshot";
            let refusal = Refusal::new(ErrorCode::TooSlow, detail).chat(&self.key.chat);
            cx.hang_up(conn, CloseCode::TooSlow, refusal);
        }
    }

    /// Subscribes a client whose cursor turned out to be unusable: `recovered` is false and it gets a snapshot.
    pub(super) fn subscribe_anew(&mut self, cx: &mut Context, conn: ConnId) {
        let unknown = Cursor { epoch: self.epoch.clone(), seq: u64::MAX };
        self.subscribe(cx, conn, Some(&unknown));
    }

    /// Detaches a reader whose next events cannot be read, with an error.
    pub(super) fn drop_reader(&mut self, cx: &mut Context, conn: ConnId, refusal: &Refusal) {
        self.unsubscribe(cx, conn);
        // The error must say that the client is not attached any more, not only that reading failed.
        let again = "the log cannot be read at the moment; attach again shortly";
        let refusal = match refusal.is_retryable() {
            true => Refusal::new(ErrorCode::Unavailable, again),
            false => refusal.clone(),
        };
        cx.refuse(conn, refusal.chat(&self.key.chat));
    }

    /// Whether every active reader is more than half a ring behind.
    pub(super) fn readers_far_behind(&mut self, cx: &Context) -> bool {
        if !self.subs.live.is_empty() {
            return false;
        }
        let since_ms = cx.now.ticks_ms.saturating_sub(cx.limits.reader_active_ms);
        let furthest = self.subs.pace.furthest(since_ms);
        furthest.is_some_and(|next| self.ring.bytes_from(next) > cx.limits.ring_bytes as u64 / 2)
    }
}
