//! The readers of a chat, and how each one catches up with the log.
//!
//! A reader is *live* while every event is offered to it as soon as it is published. Attaching, and a full outbox,
//! make a reader *lag*: the hub stores the next sequence number of the reader only, and feeds it from the ring or from
//! journal pages whenever its outbox is at most half full.

mod join;
mod pace;
mod publish;
mod snapshot;
mod subscription;

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

use self::{
    pace::Pace,
    subscription::{ReaderState, Subscription},
};
use super::{log::Log, profile::Profile};
use crate::{
    hub::{
        asked::{Asked, PageKey, ReaderKey},
        context::{Context, DeferredAction},
        io::{ChatRef, Recipients},
        refusals::{Refusal, unreadable},
    },
    ids::{ConnId, Cursor},
    journal::{LogEvent, Query},
    wire::{CloseCode, ErrorCode, Frame},
};

/// The readers of a chat.
#[derive(Debug, Default)]
pub(super) struct Readers {
    subscriptions: BTreeMap<ConnId, Subscription>,
    /// The live readers, sorted, in a list shared with the outputs that offer events to them.
    live: Arc<Vec<ConnId>>,
    /// Readers that wait for a page of the journal, by the sequence number of the page's first event.
    pages: BTreeMap<u64, Vec<ReaderKey>>,
    /// Counts epoch resets, so that pages asked for under an earlier numbering are ignored.
    numbering: u64,
    pace: Pace,
    /// The encoded `agent_state` event, cached from the first attach on.
    agent_state: Option<Frame>,
}

/// Who reads.
impl Readers {
    pub(super) fn is_empty(&self) -> bool {
        self.subscriptions.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.subscriptions.len()
    }

    pub(super) fn connections(&self) -> Vec<ConnId> {
        self.subscriptions.keys().copied().collect()
    }

    pub(super) fn contains(&self, conn: ConnId) -> bool {
        self.subscriptions.contains_key(&conn)
    }

    fn is_live(&self, conn: ConnId) -> bool {
        self.subscriptions.get(&conn).is_some_and(|reader| reader.state().is_live())
    }

    /// Counts this chat among the connection's chats already now: the connection is attached once the journal has the
    /// frame that it sent. [`Context::stop_expecting`] undoes it once the append is answered.
    pub(super) fn expect(&self, cx: &mut Context, chat: ChatRef, conn: ConnId) {
        if !self.contains(conn)
            && let Some(conn) = cx.conns.get_mut(&conn)
        {
            conn.expect(chat);
        }
    }

    /// Subscribes a connection from a cursor on, or with a snapshot if there is no usable cursor. Replaces an earlier
    /// subscription of the connection.
    pub(super) fn subscribe(
        &mut self,
        cx: &mut Context,
        log: &Log,
        profile: &Profile,
        conn: ConnId,
        after: Option<&Cursor>,
    ) {
        let next = match after {
            Some(cursor) => {
                let usable = cursor.epoch == *log.epoch() && cursor.seq <= log.head();
                usable.then(|| cursor.seq + 1)
            }
            None => log.is_empty().then_some(1),
        };
        self.subscribe_from(cx, log, profile, conn, next);
    }

    /// Subscribes a client whose cursor turned out to be unusable: `recovered` is false and it gets a snapshot.
    pub(super) fn subscribe_anew(&mut self, cx: &mut Context, log: &Log, profile: &Profile, conn: ConnId) {
        self.subscribe_from(cx, log, profile, conn, None);
    }

    /// Subscribes a connection from this sequence number on; without one, with a snapshot.
    fn subscribe_from(
        &mut self,
        cx: &mut Context,
        log: &Log,
        profile: &Profile,
        conn: ConnId,
        next: Option<u64>,
    ) {
        let Some(state) = cx.conns.get_mut(&conn) else { return };
        state.attach(log.reference());
        self.begin_join(cx, log, profile, conn, next.is_some());
        let state = match next {
            Some(next) => ReaderState::Lagging { next },
            // Shown pieces that the journal does not have change no state. They follow from the ring.
            None => ReaderState::SnapshotDue { seq: log.journalled(), state: log.durable().state() },
        };
        let mut subscription = Subscription::new(cx.next_subscription(), state, log.head());
        if let Some(earlier) = self.remove(conn) {
            earlier.give_up_parts(cx, conn);
            subscription.replace(earlier, cx.inputs);
        }
        self.insert(conn, subscription);
        self.catch_up(cx, log, profile, conn);
    }

    /// Ends a connection's subscription. The client still gets the outstanding answers to its messages. `false`: the
    /// connection is not subscribed.
    pub(super) fn unsubscribe(&mut self, cx: &mut Context, chat: ChatRef, conn: ConnId) -> bool {
        let Some(mut earlier) = self.remove(conn) else { return false };
        earlier.give_up_parts(cx, conn);
        for answer in earlier.late_answers(u64::MAX, cx.inputs) {
            cx.deliver_frame(conn, answer);
        }
        if let Some(state) = cx.conns.get_mut(&conn) {
            state.detach(chat);
        }
        cx.defer(DeferredAction::Settle(chat));
        true
    }

    /// Detaches a reader whose next events cannot be read, with an error.
    pub(super) fn drop_reader(&mut self, cx: &mut Context, log: &Log, conn: ConnId, refusal: &Refusal) {
        self.unsubscribe(cx, log.reference(), conn);
        // The error must say that the client is not attached any more, not only that reading failed.
        let again = "the log cannot be read at the moment; attach again shortly";
        let refusal = match refusal.is_retryable() {
            true => Refusal::new(ErrorCode::Unavailable, again),
            false => refusal.clone(),
        };
        cx.refuse(conn, refusal.chat(log.chat_id()));
    }

    /// Starts another numbering of events after an epoch reset: pages that were asked for before are ignored.
    pub(super) fn restart(&mut self) {
        self.numbering += 1;
        self.pages.clear();
        self.pace = Pace::default();
    }

    fn insert(&mut self, conn: ConnId, reader: Subscription) {
        self.mark_live(conn, reader.state().is_live());
        self.subscriptions.insert(conn, reader);
    }

    fn remove(&mut self, conn: ConnId) -> Option<Subscription> {
        self.mark_live(conn, false);
        self.subscriptions.remove(&conn)
    }

    fn set_state(&mut self, conn: ConnId, state: ReaderState) {
        let Some(reader) = self.subscriptions.get_mut(&conn) else { return };
        let is_live = state.is_live();
        if reader.set_state(state) != is_live {
            self.mark_live(conn, is_live);
        }
    }

    fn mark_live(&mut self, conn: ConnId, is_live: bool) {
        match self.live.binary_search(&conn) {
            Ok(at) if !is_live => {
                Arc::make_mut(&mut self.live).remove(at);
            }
            Err(at) if is_live => Arc::make_mut(&mut self.live).insert(at, conn),
            Ok(_) | Err(_) => {}
        }
    }
}

/// What readers get as soon as their outboxes have room.
impl Readers {
    /// Makes a reader live if it has all events; otherwise waits until its outbox drains.
    fn catch_up(&mut self, cx: &mut Context, log: &Log, profile: &Profile, conn: ConnId) {
        let Some(reader) = self.subscriptions.get(&conn) else { return };
        match reader.state() {
            ReaderState::Lagging { next } if *next > log.head() => {
                let next = *next;
                self.finish_join(cx, log, profile, conn, next);
                self.set_state(conn, ReaderState::Live);
            }
            ReaderState::Lagging { .. }
            | ReaderState::SnapshotDue { .. }
            | ReaderState::SnapshotParts { .. } => cx.watch_drain(conn),
            ReaderState::Live | ReaderState::Paged { .. } | ReaderState::SnapshotAsked { .. } => {}
        }
    }

    /// The outbox refused this event: the reader lags from there on.
    pub(super) fn outbox_full(&mut self, cx: &mut Context, conn: ConnId, first_seq: u64) {
        let Some(reader) = self.subscriptions.get_mut(&conn) else { return };
        reader.refused(first_seq);
        let first_seq = first_seq.max(reader.start());
        match reader.state() {
            ReaderState::Live => self.set_state(conn, ReaderState::Lagging { next: first_seq }),
            ReaderState::Lagging { next } | ReaderState::Paged { next } if first_seq < *next => {
                self.set_state(conn, ReaderState::Lagging { next: first_seq });
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
    pub(super) fn feed(
        &mut self,
        cx: &mut Context,
        log: &Log,
        profile: &Profile,
        conn: ConnId,
        room: usize,
    ) -> usize {
        let Some(reader) = self.subscriptions.get_mut(&conn) else { return room };
        reader.forget_accepted(cx.inputs);
        if let Some(next) = reader.state().next() {
            self.pace.took(cx.now.ticks_ms, next);
        }
        match reader.state() {
            ReaderState::SnapshotDue { .. } => {
                self.ask_snapshot(cx, log, conn);
                room
            }
            // A part may take all of half an outbox, and even some more.
            ReaderState::SnapshotParts { .. } => {
                self.send_part(cx, log, profile, conn);
                0
            }
            ReaderState::Lagging { next } => {
                let next = *next;
                self.feed_from(cx, log, profile, conn, next, room)
            }
            ReaderState::Live | ReaderState::Paged { .. } | ReaderState::SnapshotAsked { .. } => room,
        }
    }

    fn feed_from(
        &mut self,
        cx: &mut Context,
        log: &Log,
        profile: &Profile,
        conn: ConnId,
        begin: u64,
        room: usize,
    ) -> usize {
        let mut next = begin;
        let Some(reader) = self.subscriptions.get_mut(&conn) else { return room };
        let mut left = room;
        let mut full = false;
        if next <= log.head() {
            let Some(entries) = log.ring().from(next) else {
                let reader = ReaderKey { conn, subscription: reader.id() };
                self.set_state(conn, ReaderState::Paged { next });
                self.ask_page(cx, log, reader, next);
                return room;
            };
            for (seq, frame) in entries {
                // A frame larger than the room left is offered only as the first one.
                if frame.len() > left && left < room {
                    full = true;
                    break;
                }
                let frame = reader.frame_for(seq, frame, cx.inputs);
                full = frame.len() > left;
                left = left.saturating_sub(frame.len());
                cx.offer(log.reference(), seq, frame, Recipients::One(conn));
                next = seq + 1;
                if full {
                    break;
                }
            }
        }
        let joining = reader.is_joining();
        self.pace.took(cx.now.ticks_ms, next);
        self.set_state(conn, ReaderState::Lagging { next });
        // A frame larger than half an outbox may still be refused, so what follows it waits.
        if full {
            cx.watch_drain(conn);
            return 0;
        }
        // Other frames may be refused too, if the outbox got other frames meanwhile: `replay_end` waits for the drain.
        if next > begin && joining {
            cx.watch_drain(conn);
            return left;
        }
        self.catch_up(cx, log, profile, conn);
        left
    }

    /// Asks for the page that begins at `first_seq`, once for all readers that need it.
    fn ask_page(&mut self, cx: &mut Context, log: &Log, reader: ReaderKey, first_seq: u64) {
        let waiting = self.pages.entry(first_seq).or_default();
        waiting.push(reader);
        if waiting.len() == 1 {
            let query = Query::After {
                chat: log.key().clone(),
                after: log.cursor(first_seq - 1),
                bytes: cx.limits.outbox_bytes / 2,
            };
            let page = PageKey { first_seq, numbering: self.numbering };
            cx.ask(query, Asked::Page { chat: log.reference(), page });
        }
    }

    /// Gives the journal's page to the readers that wait for it. `None`: the journal no longer has these events.
    pub(super) fn page_found(
        &mut self,
        cx: &mut Context,
        log: &Log,
        profile: &Profile,
        asked: PageKey,
        page: Option<&[LogEvent]>,
    ) {
        for conn in self.page_readers(asked) {
            match page {
                Some(events) => self.feed_page(cx, log, conn, asked.first_seq, events),
                None => self.events_lost(cx, log, profile, conn),
            }
        }
    }

    /// The journal could not read the page.
    pub(super) fn page_failed(&mut self, cx: &mut Context, log: &Log, asked: PageKey, refusal: &Refusal) {
        for conn in self.page_readers(asked) {
            self.drop_reader(cx, log, conn, refusal);
        }
    }

    /// The readers that still wait for the page. Others have gone, or begin elsewhere by now.
    fn page_readers(&mut self, asked: PageKey) -> Vec<ConnId> {
        if asked.numbering != self.numbering {
            return Vec::new();
        }
        let waiting = self.pages.remove(&asked.first_seq).unwrap_or_default();
        let still = |waiting: &ReaderKey| {
            let reader = self.subscriptions.get(&waiting.conn);
            reader.is_some_and(|reader| {
                reader.id() == waiting.subscription && matches!(reader.state(), ReaderState::Paged { .. })
            })
        };
        let mut readers: Vec<ConnId> = waiting.into_iter().filter(still).map(|reader| reader.conn).collect();
        readers.dedup();
        readers
    }

    fn feed_page(&mut self, cx: &mut Context, log: &Log, conn: ConnId, begin: u64, events: &[LogEvent]) {
        let Some(reader) = self.subscriptions.get_mut(&conn) else { return };
        let mut next = begin;
        for event in events.iter().filter(|event| event.first_seq >= begin && event.seq <= log.head()) {
            let frame = reader.frame_for(event.seq, &event.frame, cx.inputs);
            cx.offer(log.reference(), event.first_seq, frame, Recipients::One(conn));
            next = event.seq + 1;
        }
        if next == begin {
            self.drop_reader(cx, log, conn, &unreadable());
            return;
        }
        self.set_state(conn, ReaderState::Lagging { next });
        // Whether the outbox accepted all of the page is known when the drain is reported.
        cx.watch_drain(conn);
    }

    /// The journal does not have the reader's next event any more.
    fn events_lost(&mut self, cx: &mut Context, log: &Log, profile: &Profile, conn: ConnId) {
        if self.subscriptions.get(&conn).is_some_and(Subscription::is_joining) {
            self.subscribe_anew(cx, log, profile, conn);
        } else {
            let detail = "this reader fell behind what is kept; attach again for a snapshot";
            let refusal = Refusal::new(ErrorCode::TooSlow, detail).chat(log.chat_id());
            cx.hang_up(conn, CloseCode::TooSlow, refusal);
        }
    }

    /// Whether every active reader is more than half a ring behind.
    pub(super) fn are_far_behind(&mut self, cx: &Context, log: &Log) -> bool {
        if !self.live.is_empty() {
            return false;
        }
        let since_ms = cx.now.ticks_ms.saturating_sub(cx.limits.reader_active_ms);
        let furthest = self.pace.furthest(since_ms);
        furthest.is_some_and(|next| log.ring().bytes_from(next) > cx.limits.ring_bytes as u64 / 2)
    }
}
