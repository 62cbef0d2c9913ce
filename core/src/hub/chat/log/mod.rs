//! The log of a chat: numbering, appends that the journal has not answered, recent events, and the durable state.

mod draft;
mod durable_state;
mod reappend;
mod recovery;
mod ring;

use alloc::{boxed::Box, collections::VecDeque, vec::Vec};

use self::recovery::Recovery;
pub(in crate::hub::chat) use self::{
    draft::{Draft, Effect, Origin, Owner, Pending, Staged},
    durable_state::{Activity, DurableState, DurableTurn, StateAt},
    ring::Ring,
};
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
    /// The last sequence number that the journal has and that was published to readers.
    head: u64,
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

    /// Whether the journal has answered every append.
    pub(super) fn is_committed(&self) -> bool {
        self.pending.is_empty()
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
        self.pending_bytes
    }

    /// Numbers, encodes and appends a draft.
    pub(super) fn stage(&mut self, cx: &mut Context, requests: &Requests, draft: Draft) {
        let Draft { create, events, changes, effects, origin, parent_call_id: _ } = draft;
        let events = self.number(events);
        self.append(cx, requests, Pending { given: None, create, events, changes, effects, origin });
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

    /// Records that a committed event is published now.
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
        self.staged = self.head;
        self.earlier_epochs = record.is_some_and(|record| record.earlier.is_some());
        (
            core::mem::replace(&mut self.epoch, epoch),
            core::mem::replace(&mut self.durable, durable),
            core::mem::take(&mut self.ring),
        )
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
    pub(super) fn refused(&mut self, retry_at_ms: u64) {
        let outstanding = self.pending.len();
        self.recovery.get_or_insert_with(|| Recovery::new(outstanding, retry_at_ms)).answered();
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
