//! The log of a chat: numbering, appends that the journal has not answered, recent events, and the durable state.

mod draft;
mod durable_state;
mod reappend;
mod recovery;
mod ring;
mod tail;

use alloc::{boxed::Box, collections::VecDeque, vec::Vec};

pub(in crate::hub::chat) use self::{
    draft::{Draft, Effect, Origin, Owner, Pending, Staged},
    durable_state::{Activity, DurableState, DurableTurn, StateAt},
    ring::Ring,
};
use self::{recovery::Recovery, tail::Tail};
use super::requests::Requests;
use crate::{
    hub::{
        asked::Asked,
        context::Context,
        io::{ChatRef, Output},
        refusals::Refusal,
    },
    ids::{ChatId, ChatKey, ConnId, Cursor, Epoch, TurnId},
    journal::{Append, AppendId, Change, ChatRecord, Query, Term, TurnRecord, Version},
    wire::{ChatBody, DeltaBatch, EventPosition, encode_chat},
};

/// The log of one chat. Events are numbered and encoded when they are staged, and published once the journal has them.
#[derive(Debug)]
pub(super) struct Log {
    key: ChatKey,
    reference: ChatRef,
    epoch: Epoch,
    /// The last sequence number given to an event, which the journal may not have yet.
    staged: u64,
    /// The term under which the journal has granted the chat. None: it has not.
    term: Option<Term>,
    /// The chat's version once the journal has every append that was given to it.
    version: Version,
    /// The last sequence number that was published to readers.
    head: u64,
    /// The last sequence number that the journal has, as far as the hub knows. Between it and `head` are shown pieces
    /// only: those of shown appends, then those of the tail.
    journalled: u64,
    /// The shown pieces that the journal was not given yet.
    tail: Tail,
    /// There are events under earlier epochs: the chat is not new, even if `head` is 0.
    earlier_epochs: bool,
    /// Appends that the journal has not answered yet, oldest first.
    pending: VecDeque<Pending>,
    /// The size of the events in `pending`, in bytes.
    pending_bytes: usize,
    /// Set while the chat recovers from a refused append.
    recovery: Option<Recovery>,
    ring: Ring,
    durable: DurableState,
}

impl Log {
    pub(super) fn new(key: ChatKey, reference: ChatRef, epoch: Epoch) -> Self {
        Self {
            key,
            reference,
            epoch,
            staged: 0,
            term: None,
            version: Version::default(),
            head: 0,
            journalled: 0,
            tail: Tail::default(),
            earlier_epochs: false,
            pending: VecDeque::new(),
            pending_bytes: 0,
            recovery: None,
            ring: Ring::default(),
            durable: DurableState::default(),
        }
    }

    /// Goes on where the journal's record ends.
    pub(super) fn restore(&mut self, record: &ChatRecord) {
        self.durable = DurableState::of(record);
        self.epoch = record.head.epoch.clone();
        self.head = record.head.seq;
        self.journalled = record.head.seq;
        self.staged = record.head.seq;
        self.version = record.version;
        self.earlier_epochs = record.earlier.is_some();
    }

    pub(super) fn key(&self) -> &ChatKey {
        &self.key
    }

    pub(super) fn chat_id(&self) -> &ChatId {
        &self.key.chat
    }

    pub(super) fn reference(&self) -> ChatRef {
        self.reference
    }

    pub(super) fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// The sequence number of the newest published event.
    pub(super) fn head(&self) -> u64 {
        self.head
    }

    /// The sequence number of the newest event that the journal has.
    pub(super) fn journalled(&self) -> u64 {
        self.journalled
    }

    /// The sequence number that the next staged event gets.
    pub(super) fn next_seq(&self) -> u64 {
        self.staged + 1
    }

    /// The cursor of this sequence number in the current epoch.
    pub(super) fn cursor(&self, seq: u64) -> Cursor {
        Cursor { epoch: self.epoch.clone(), seq }
    }

    /// Whether the log has no published event, of no epoch.
    pub(super) fn is_empty(&self) -> bool {
        self.head == 0 && !self.earlier_epochs
    }

    /// Recent events.
    pub(super) fn ring(&self) -> &Ring {
        &self.ring
    }

    /// The chat's state as far as the journal has it.
    pub(super) fn durable(&self) -> &DurableState {
        &self.durable
    }

    /// Whether the journal has answered every append, and no event is to be appended.
    pub(super) fn is_committed(&self) -> bool {
        self.pending.is_empty() && self.tail.is_empty()
    }

    /// The term under which the journal has granted the chat.
    pub(super) fn term(&self) -> Option<Term> {
        self.term
    }

    /// Sets the term of the next appends. Returns the one before.
    pub(super) fn set_term(&mut self, term: Option<Term>) -> Option<Term> {
        core::mem::replace(&mut self.term, term)
    }

    /// The clients that wait for the answer to a pending append.
    pub(super) fn clients(&self) -> impl Iterator<Item = ConnId> {
        self.pending.iter().flat_map(|pending| {
            let origin = pending.origin.as_ref().map(|origin| origin.conn);
            origin.into_iter().chain(pending.effects.iter().filter_map(Effect::client))
        })
    }

    /// The size of the events that the journal has not answered for, in bytes.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending_bytes + self.tail.bytes()
    }

    /// Numbers, encodes and appends a draft.
    pub(super) fn stage(&mut self, cx: &mut Context, requests: &Requests, draft: Draft) {
        self.flush(cx, requests);
        let Draft { create, events, changes, effects, origin, spooled: _, parent_call_id: _ } = draft;
        let events = self.number(events);
        let (given, shown) = (None, false);
        self.append(cx, requests, Pending { given, shown, create, events, changes, effects, origin });
    }

    /// Gives events their sequence numbers and encodes them.
    fn number(&mut self, events: Vec<(Owner, ChatBody)>) -> Vec<Staged> {
        let mut place = EventPosition {
            chat_id: self.key.chat.clone(),
            epoch: self.epoch.clone(),
            first_seq: None,
            seq: self.staged,
            turn_id: None,
            parent_call_id: None,
        };
        let mut deltas = DeltaBatch::default();
        let mut other = VecDeque::new();
        let mut numbered = Vec::with_capacity(events.len());
        for (owner, body) in events {
            place.seq += 1;
            (place.turn_id, place.parent_call_id) = (owner.turn_id, owner.parent_call_id);
            let is_delta = deltas.push(&place, &body);
            if !is_delta {
                other.push_back((encode_chat(&place, &body), Box::new(body)));
            }
            let (turn_id, parent_call_id) = (place.turn_id.take(), place.parent_call_id.take());
            numbered.push((place.seq, Owner { turn_id, parent_call_id }, is_delta));
        }
        self.staged = place.seq;
        let mut deltas = deltas.finish();
        let staged = |(seq, owner, is_delta)| {
            let (frame, body) = if is_delta {
                (deltas.next().expect("each delta has its frame"), None)
            } else {
                let (frame, body) = other.pop_front().expect("each other event was encoded");
                (frame, Some(body))
            };
            Staged::new(seq, owner, body, frame)
        };
        numbered.into_iter().map(staged).collect()
    }

    /// Appends numbered events, or only queues them during the recovery from a refused append.
    fn append(&mut self, cx: &mut Context, requests: &Requests, mut pending: Pending) {
        self.pending_bytes += pending.bytes();
        if self.recovery.is_none() {
            let (id, expect) = (cx.next_append(self.reference), self.version);
            self.version = expect.next();
            pending.given = Some((id, self.version));
            let changes = pending.all_changes(requests);
            cx.output(Output::Append(Append {
                id,
                chat: self.key.clone(),
                term: self.term.unwrap_or_default(),
                expect,
                durability: pending.durability(&changes),
                create: pending.create.then(|| self.epoch.clone()),
                events: pending.events.iter().map(Staged::log_event).collect(),
                changes,
                at_ms: cx.now.unix_ms,
            }));
        }
        self.pending.push_back(pending);
    }

    /// The journal has the oldest pending append, which is taken out. `None` for any other append: the journal
    /// answers out of order.
    pub(super) fn committed(&mut self, id: AppendId) -> Option<Pending> {
        let pending =
            self.pending.pop_front_if(|pending| pending.given.is_some_and(|(given, _)| given == id))?;
        self.pending_bytes -= pending.bytes();
        Some(pending)
    }

    /// Records that an event is published now: one that the journal has, or a shown piece.
    pub(super) fn publish(&mut self, event: &Staged, ring_bytes: usize) {
        if let Some(body) = event.body() {
            self.durable.apply(event.owner.turn_id.as_ref(), body, event.frame());
        }
        self.head = event.seq;
        self.ring.push(event.seq, event.frame().clone(), ring_bytes);
    }

    /// Adds an effect to the newest pending append. Without one, gives the effect back, to be carried out at once.
    pub(super) fn after_pending(&mut self, effect: Effect) -> Option<Effect> {
        let Some(last) = self.pending.back_mut() else { return Some(effect) };
        last.effects.push(effect);
        None
    }

    /// Adds an effect to the pending append of the event at this cursor. Without one, gives the effect back, to be
    /// carried out at once.
    pub(super) fn after_event(&mut self, place: &Cursor, effect: Effect) -> Option<Effect> {
        let current = place.epoch == self.epoch;
        let Some(pending) = self.pending.iter_mut().find(|pending| current && pending.contains(place.seq))
        else {
            return Some(effect);
        };
        pending.effects.push(effect);
        None
    }

    /// Finds a turn whose message is in a pending append.
    pub(super) fn pending_turn(&self, id: &TurnId) -> Option<TurnRecord> {
        self.pending.iter().flat_map(|pending| &pending.changes).find_map(|change| {
            let Change::TurnAccepted { turn_id, hash, seq, starts_turn, .. } = change else { return None };
            let record = TurnRecord { hash: *hash, place: self.cursor(*seq), starts_turn: *starts_turn };
            (turn_id == id).then_some(record)
        })
    }

    /// Switches to the journal's epoch after the journal has lost published events, or to a new one if the journal has
    /// nothing of the chat any more. Returns the earlier epoch, its durable state and its recent events.
    pub(super) fn reset_epoch(
        &mut self,
        cx: &mut Context,
        record: Option<&ChatRecord>,
    ) -> (Epoch, DurableState, Ring) {
        let epoch = record.map_or_else(|| cx.new_epoch(), |record| record.head.epoch.clone());
        let durable = record.map_or_else(DurableState::default, DurableState::of);
        self.head = record.map_or(0, |record| record.head.seq);
        self.journalled = self.head;
        self.staged = self.head;
        self.earlier_epochs = record.is_some_and(|record| record.earlier.is_some());
        (
            core::mem::replace(&mut self.epoch, epoch),
            core::mem::replace(&mut self.durable, durable),
            core::mem::take(&mut self.ring),
        )
    }
}

/// The tail: pieces that are shown before the journal has them.
impl Log {
    /// Whether the events of this draft may be shown before the journal has them: pieces only, whose streams and turn
    /// are in the journal, as it has answered every append but those of shown pieces. What it was not given or has not
    /// answered has to stay in the ring, from which readers are fed.
    pub(super) fn may_show(&self, draft: &Draft, ring_bytes: usize) -> bool {
        self.recovery.is_none()
            && self.pending.iter().all(|pending| pending.shown)
            && tail::bytes_of_pieces(draft)
                .is_some_and(|bytes| self.pending_bytes() + bytes <= ring_bytes / 2)
    }

    /// Numbers and encodes pieces that are published now. They have to be [held](Self::hold) then.
    pub(super) fn number_shown(&mut self, events: Vec<(Owner, ChatBody)>) -> Vec<Staged> {
        self.number(events)
    }

    /// Takes pieces that were published into the tail. `position`: the agent's position after them.
    pub(super) fn hold(
        &mut self,
        cx: &mut Context,
        requests: &Requests,
        events: Vec<Staged>,
        position: Option<Change>,
    ) {
        self.tail.hold(cx.now.ticks_ms, events, position);
        self.flush_due(cx, requests);
    }

    /// When to append the tail.
    pub(super) fn flush_due_ms(&self) -> Option<u64> {
        self.tail.due_ms()
    }

    /// Appends the tail if the time has come, or if it is large.
    pub(super) fn flush_due(&mut self, cx: &mut Context, requests: &Requests) {
        if self.tail.is_due(cx.now.ticks_ms) {
            self.flush(cx, requests);
        }
    }

    /// Appends the tail, in front of what is appended next. It has the numbers that its readers know.
    pub(super) fn flush(&mut self, cx: &mut Context, requests: &Requests) {
        if self.tail.is_empty() {
            return;
        }
        let (events, position) = self.tail.take();
        let (changes, effects) = (position.into_iter().collect(), Vec::new());
        let (given, shown, create, origin) = (None, true, false, None);
        self.append(cx, requests, Pending { given, shown, create, events, changes, effects, origin });
    }

    /// Begins a new epoch, because what was shown in the present one cannot be read again. The next append creates it.
    pub(super) fn begin_epoch(&mut self, epoch: Epoch) {
        (self.epoch, self.earlier_epochs) = (epoch, true);
        (self.head, self.journalled, self.staged) = (0, 0, 0);
        self.ring = Ring::default();
    }

    /// The journal has the events up to this sequence number.
    pub(super) fn note_journalled(&mut self, seq: u64) {
        self.journalled = seq;
    }
}

/// The recovery after the journal refused an append. Until the journal has answered with the chat's state, nothing is
/// appended.
impl Log {
    /// Whether the journal has refused an append, and the chat's state is not known again yet.
    pub(super) fn is_recovering(&self) -> bool {
        self.recovery.is_some()
    }

    /// Whether the chat takes requests that are logged.
    ///
    /// # Errors
    /// While the chat recovers from a refused append: the refusal for the request.
    pub(super) fn writable(&self) -> Result<(), Refusal> {
        self.recovery.as_ref().map_or(Ok(()), |recovery| Err(recovery.refusal().clone()))
    }

    /// The journal refused an append, or answered an append during a recovery.
    pub(super) fn refused(&mut self, cx: &mut Context, requests: &Requests, retry_at_ms: u64) {
        let outstanding = self.pending.len();
        self.recovery.get_or_insert_with(|| Recovery::new(outstanding, retry_at_ms)).answered();
        // From now on the tail waits with the refused appends, in front of everything that follows.
        self.flush(cx, requests);
    }

    /// When to ask the journal for the chat's state.
    pub(super) fn resync_due_ms(&self) -> Option<u64> {
        self.recovery.as_ref().and_then(Recovery::due_ms)
    }

    /// Asks for the chat's state if the time has come and every append is answered.
    pub(super) fn ask_resync(&mut self, cx: &mut Context) {
        if self.recovery.as_mut().is_some_and(|recovery| recovery.ask(cx.now.ticks_ms)) {
            let query = Query::Chat { chat: self.key.clone(), term: self.term };
            cx.ask(query, Asked::Resync(self.reference));
        }
    }

    /// The journal could not read the chat: it is asked again at this time.
    pub(super) fn resync_failed(&mut self, retry_at_ms: u64) {
        if let Some(recovery) = &mut self.recovery {
            recovery.retry_at(retry_at_ms);
        }
    }
}
