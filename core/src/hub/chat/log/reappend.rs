//! What becomes of the pending appends after the journal has refused one. The chat's state in the journal says which
//! of them are committed. The others are refused or appended again.

use alloc::{
    collections::{BTreeSet, VecDeque},
    vec::Vec,
};

use super::{
    Log,
    draft::{Effect, Pending, Staged},
};
use crate::{
    agent::CommandId,
    hub::{chat::requests::Requests, context::Context, refusals::Refusal},
    ids::TurnId,
    journal::{Change, ChatRecord, Version},
    wire::{ChatBody, ControlEvent},
};

/// The pending appends, parted by the journal's answer, in order.
#[derive(Debug)]
pub(in crate::hub::chat) struct Resynced {
    pub(in crate::hub::chat) committed: VecDeque<Pending>,
    pub(in crate::hub::chat) uncommitted: VecDeque<Pending>,
}

impl Log {
    /// The chat is damaged in the journal, so that nothing can be appended to it and it is not asked for again. All
    /// later requests get the refusal. Takes out the appends that clients wait for. `None` outside of a recovery.
    pub(in crate::hub::chat) fn found_damaged(&mut self, refusal: &Refusal) -> Option<VecDeque<Pending>> {
        self.recovery.as_mut()?.give_up(refusal.clone());
        let of_clients;
        (of_clients, self.pending) =
            core::mem::take(&mut self.pending).into_iter().partition(|pending| pending.origin.is_some());
        self.pending_bytes = self.pending.iter().map(Pending::bytes).sum();
        Some(of_clients)
    }

    /// The chat was deleted: the recovery ends. Takes out all pending appends.
    pub(in crate::hub::chat) fn found_deleted(&mut self) -> VecDeque<Pending> {
        self.recovery = None;
        self.take_pending()
    }

    fn take_pending(&mut self) -> VecDeque<Pending> {
        self.pending_bytes = 0;
        core::mem::take(&mut self.pending)
    }

    /// Whether the journal has lost published events: it is in another epoch, or does not have the chat, though it had.
    pub(in crate::hub::chat) fn is_lost(&self, record: Option<&ChatRecord>, creating: bool) -> bool {
        match record {
            Some(record) => record.head.epoch != self.epoch && !self.begins_epoch_after(record.version),
            None => !creating,
        }
    }

    /// Whether an append begins the present epoch that the journal does not have at this version.
    fn begins_epoch_after(&self, version: Version) -> bool {
        let is_after = |pending: &Pending| pending.given.is_none_or(|(_, given)| given > version);
        self.pending.iter().any(|pending| pending.create && is_after(pending))
    }

    /// The journal answered with the chat's state: the recovery ends. Takes out all pending appends.
    pub(in crate::hub::chat) fn resynced(&mut self, record: Option<&ChatRecord>) -> Resynced {
        self.recovery = None;
        self.version = record.map(|record| record.version).unwrap_or_default();
        let mut committed = self.take_pending();
        let has = |pending: &&Pending| pending.given.is_some_and(|(_, version)| version <= self.version);
        let uncommitted = committed.split_off(committed.iter().take_while(has).count());
        Resynced { committed, uncommitted }
    }

    /// Goes on in the same epoch, behind the last event that the journal or a reader has.
    pub(in crate::hub::chat) fn go_on(&mut self, record: Option<&ChatRecord>) {
        let journalled = record.filter(|record| record.head.epoch == self.epoch);
        self.staged = journalled.map_or(0, |record| record.head.seq).max(self.head);
    }

    /// Applies a committed append to the durable state without publishing it, before the epoch is reset.
    pub(in crate::hub::chat) fn apply_unpublished(&mut self, pending: &Pending) {
        for event in &pending.events {
            if let Some(body) = event.body() {
                self.durable.apply(event.owner.turn_id.as_ref(), body, event.frame());
            }
        }
    }

    /// Appends an append again that the journal does not have, without what concerns the refused turns. Returns the
    /// messages in it with their new sequence numbers.
    pub(in crate::hub::chat) fn append_again(
        &mut self,
        cx: &mut Context,
        requests: &Requests,
        refused_turns: &BTreeSet<TurnId>,
        mut pending: Pending,
        next_command: impl FnMut() -> CommandId,
    ) -> Vec<(TurnId, u64)> {
        let about_refused = |turn_id: Option<&TurnId>| turn_id.is_some_and(|id| refused_turns.contains(id));
        pending.events.retain(|event| !about_refused(event.owner.turn_id.as_ref()));
        pending.changes.retain(|change| !about_refused(turn_of(change)));
        pending.effects.retain(|effect| !about_refused(effect_turn(effect)));
        if pending.events.is_empty() && pending.changes.is_empty() && !pending.create {
            return Vec::new();
        }
        if pending.shown {
            // Readers have the events under the numbers that they have.
            self.append(cx, requests, pending);
            return Vec::new();
        }
        let events = core::mem::take(&mut pending.events);
        pending.events = self.number(events.into_iter().map(Staged::unstage).collect());
        let moved = self.renumber_messages(&mut pending);
        renumber_commands(&mut pending, next_command);
        self.append(cx, requests, pending);
        moved
    }

    /// Updates the sequence numbers of messages that are logged again, and returns the messages.
    fn renumber_messages(&self, pending: &mut Pending) -> Vec<(TurnId, u64)> {
        let mut moved = Vec::new();
        for change in &mut pending.changes {
            let Change::TurnAccepted { turn_id, seq, .. } = change else { continue };
            let is_it = |event: &&Staged| {
                event.owner.turn_id.as_ref() == Some(&*turn_id)
                    && matches!(event.body(), Some(ChatBody::UserMessage { .. }))
            };
            let Some(event) = pending.events.iter().find(is_it) else { continue };
            *seq = event.seq;
            for effect in &mut pending.effects {
                if let Effect::Repeat { accepted, .. } = effect
                    && accepted.turn_id == *turn_id
                {
                    (accepted.epoch, accepted.seq) = (self.epoch.clone(), event.seq);
                }
            }
            moved.push((turn_id.clone(), event.seq));
        }
        moved
    }
}

/// Gives commands new ids. Ids must grow in the order of the log, in which an adopted agent gets its commands again,
/// and commands that were appended again before may have taken higher ids.
fn renumber_commands(pending: &mut Pending, mut next_command: impl FnMut() -> CommandId) {
    for change in &mut pending.changes {
        let Change::Command { command } = change else { continue };
        let id = next_command();
        for effect in &mut pending.effects {
            if let Effect::SendCommand(sent) = effect
                && sent == command
            {
                sent.set_id(id);
            }
        }
        command.set_id(id);
    }
}

fn turn_of(change: &Change) -> Option<&TurnId> {
    match change {
        Change::TurnAccepted { turn_id, .. }
        | Change::TurnStarted { turn_id }
        | Change::CancelRequested { turn_id, .. }
        | Change::TurnEnded { turn_id, .. } => Some(turn_id),
        Change::Command { command } => command.turn_id(),
        Change::RequestOpened { .. }
        | Change::RequestClosed { .. }
        | Change::AgentStarted { .. }
        | Change::AgentEnded { .. }
        | Change::AgentPosition { .. }
        | Change::AgentTurn { .. }
        | Change::Tasks { .. }
        | Change::OpenWork { .. }
        | Change::Session { .. }
        | Change::Title { .. }
        | Change::Goal { .. }
        | Change::Deleted => None,
    }
}

fn effect_turn(effect: &Effect) -> Option<&TurnId> {
    match effect {
        Effect::SendCommand(command) => command.turn_id(),
        Effect::Fan(ControlEvent::GoalStatus { turn_id, .. }) => turn_id.as_ref(),
        Effect::Fan(_)
        | Effect::Repeat { .. }
        | Effect::Announce { .. }
        | Effect::AnnounceNew { .. }
        | Effect::Stopped { .. }
        | Effect::Deleted => None,
    }
}
