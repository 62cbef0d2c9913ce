//! How a chat goes on after the journal refused an append. Once the journal has answered with the chat's state, the
//! chat publishes the appends that the journal has, refuses the clients' requests that the journal does not have, and
//! appends everything else again.

use alloc::{
    boxed::Box,
    collections::{BTreeSet, VecDeque},
};

use super::{
    Chat, Phase,
    agent::agent_stopped,
    log::{Effect, Origin, Pending},
    turns::Ending,
};
use crate::{
    hub::{
        context::Context,
        refusals::{Refusal, unavailable},
    },
    ids::TurnId,
    journal::{Change, ChatRecord},
    wire::{ChatBody, ControlEvent, Outcome},
};

impl Chat {
    /// The journal refused an append, or answered an append out of order: its state says which appends it has.
    pub(in crate::hub) fn refused(&mut self, cx: &mut Context) {
        let retry_at_ms = cx.now.ticks_ms + cx.limits.journal_retry_ms;
        self.log.refused(cx, &self.requests, retry_at_ms);
        self.pause_or_resume(cx);
        self.log.ask_resync(cx);
        self.rearm(cx);
    }

    /// The journal could not answer with the chat's state.
    pub(in crate::hub) fn resync_failed(&mut self, cx: &mut Context, refusal: &Refusal) {
        if refusal.is_retryable() {
            self.log.resync_failed(cx.now.ticks_ms + cx.limits.journal_retry_ms);
        } else {
            self.found_damaged(cx, refusal);
        }
        self.rearm(cx);
    }

    /// The chat is damaged in the journal. All waiting and later requests are refused, readers are dropped, and the
    /// agent is killed.
    fn found_damaged(&mut self, cx: &mut Context, refusal: &Refusal) {
        let Some(of_clients) = self.log.found_damaged(refusal) else { return };
        let mut refused_turns = BTreeSet::new();
        for pending in of_clients {
            if let Some(origin) = pending.origin.clone() {
                self.refuse_pending(cx, &mut refused_turns, &origin, pending, refusal);
            }
        }
        self.give_up_deleting(cx, refusal);
        self.stop_agent(cx, true, Ending::new(Outcome::Interrupted, Some(agent_stopped())));
        for conn in self.readers.connections() {
            self.with_readers(cx, |readers, cx, log, _| readers.drop_reader(cx, log, conn, refusal));
        }
        self.rearm(cx);
        self.take_intake(cx);
    }

    /// The journal answered with the chat's state.
    pub(in crate::hub) fn resync(&mut self, cx: &mut Context, record: Option<Box<ChatRecord>>) {
        let record = record.as_deref();
        let lost = self.log.is_lost(record, self.phase == Phase::Creating);
        let resynced = self.log.resynced(record);
        let (refused_turns, again) = if lost {
            for pending in &resynced.committed {
                self.log.apply_unpublished(pending);
                self.agent.note_received(&pending.changes);
            }
            let mut refused = self.refuse_uncommitted(cx, record, resynced.uncommitted);
            // In the new epoch, what was shown in the earlier one is new, and the epoch itself has begun.
            for pending in &mut refused.1 {
                (pending.shown, pending.create) = (false, false);
            }
            self.reset_epoch(cx, record, resynced.committed);
            refused
        } else {
            for pending in resynced.committed {
                self.publish(cx, pending);
            }
            self.log.go_on(record);
            self.refuse_uncommitted(cx, record, resynced.uncommitted)
        };
        self.append_again(cx, &refused_turns, again);
        self.give_up_deleting(cx, &unavailable());
        self.pause_or_resume(cx);
        self.rearm(cx);
        self.go_on_renewing(cx);
        self.try_start(cx);
        self.take_intake(cx);
    }

    /// Refuses the clients' appends, which the journal does not have. Returns the refused turns, and the remaining
    /// appends to append again.
    fn refuse_uncommitted(
        &mut self,
        cx: &mut Context,
        record: Option<&ChatRecord>,
        uncommitted: VecDeque<Pending>,
    ) -> (BTreeSet<TurnId>, VecDeque<Pending>) {
        let mut again: VecDeque<Pending> = VecDeque::new();
        let mut refused_turns = BTreeSet::new();
        for pending in uncommitted {
            let Some(origin) = pending.origin.clone() else {
                again.push_back(pending);
                continue;
            };
            if pending.changes.iter().any(|change| matches!(change, Change::Title { .. })) {
                // Back to the title that the journal has.
                self.profile.set_title(record.and_then(|record| record.title.clone()));
            }
            self.refuse_pending(cx, &mut refused_turns, &origin, pending, &unavailable());
        }
        (refused_turns, again)
    }

    fn refuse_pending(
        &mut self,
        cx: &mut Context,
        refused_turns: &mut BTreeSet<TurnId>,
        origin: &Origin,
        pending: Pending,
        refusal: &Refusal,
    ) {
        let (chat, refusal) = (self.log.reference(), refusal.clone().chat(self.log.chat_id()));
        cx.stop_expecting(chat, origin.conn);
        cx.refuse(origin.conn, refusal.clone().turn(origin.turn_id.as_ref()));
        for effect in pending.effects {
            match effect {
                Effect::Repeat { conn, accepted } => {
                    cx.stop_expecting(chat, conn);
                    cx.refuse(conn, refusal.clone().turn(Some(&accepted.turn_id)));
                }
                Effect::Stopped { conn, accepted } => {
                    cx.refuse(conn, refusal.clone().turn(Some(&accepted.turn_id)));
                }
                // This event does not depend on the refused append.
                Effect::Fan(event @ ControlEvent::RuntimeModelUpdated { .. }) => {
                    self.readers.deliver_live(cx, &event);
                }
                Effect::Fan(_)
                | Effect::SendCommand(_)
                | Effect::Announce { .. }
                | Effect::AnnounceNew { .. }
                | Effect::Deleted => {}
            }
        }
        if pending.events.iter().any(|event| matches!(event.body(), Some(ChatBody::GoalState { .. }))) {
            self.profile.set_goal(self.log.durable().goal().clone());
        }
        if let Some(turn_id) = &origin.turn_id {
            self.forget_turn(cx, turn_id);
            refused_turns.insert(turn_id.clone());
        }
    }

    /// Appends again what the journal does not have, without what concerns the refused turns.
    fn append_again(
        &mut self,
        cx: &mut Context,
        refused_turns: &BTreeSet<TurnId>,
        mut again: VecDeque<Pending>,
    ) {
        again.retain(|pending| !pending.changes.contains(&Change::Deleted));
        if self.phase == Phase::Creating {
            // The journal does not have the chat, so the remaining appends have no chat.
            self.phase = Phase::Absent;
            again.clear();
        }
        for pending in again {
            let Self { log, requests, agent, turns, .. } = self;
            let moved = log.append_again(cx, requests, refused_turns, pending, || agent.next_command());
            moved.iter().for_each(|(turn_id, seq)| turns.renumber(turn_id, *seq));
            self.pause_or_resume(cx);
        }
    }
}
