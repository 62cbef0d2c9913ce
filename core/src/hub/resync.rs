//! Recovery after the journal refused an append. The hub sends no further append of the chat until it has read the
//! chat's state again. Then it publishes the appends that the journal has, refuses the clients' requests that the
//! journal does not have, and appends everything else again.

use alloc::{
    boxed::Box,
    collections::{BTreeSet, VecDeque},
    vec::Vec,
};

use super::{
    chat::{Chat, Phase, unavailable},
    context::{Asked, Context, Refusal},
    log::{Effect, Origin, Pending, Staged},
};
use crate::{
    agent::{AgentCommand, AgentInstanceId},
    ids::{Epoch, TurnId},
    journal::{Change, ChatRecord, Query},
    wire::{ChatBody, ControlEvent},
};

/// The state of the recovery of one chat.
#[derive(Debug)]
pub(super) struct AppendFailed {
    /// Appends that the journal has not answered yet.
    outstanding: usize,
    /// When to ask the journal for the chat's state.
    retry_at_ms: u64,
    asked: bool,
    /// The refusal for requests that come during the recovery.
    refusal: Refusal,
}

impl AppendFailed {
    /// When to ask for the chat's state; `None` while an answer of the journal is outstanding.
    pub(super) fn due_ms(&self) -> Option<u64> {
        (self.outstanding == 0 && !self.asked).then_some(self.retry_at_ms)
    }
}

impl Chat {
    /// The journal refused an append. It refuses the later appends of the chat too.
    pub(super) fn refused(&mut self, cx: &mut Context) {
        let retry_at_ms = cx.now.ticks_ms + cx.limits.journal_retry_ms;
        let outstanding = self.pending.len();
        let failure = self.append_failed.get_or_insert(AppendFailed {
            outstanding,
            retry_at_ms,
            asked: false,
            refusal: unavailable(),
        });
        failure.outstanding = failure.outstanding.saturating_sub(1);
        self.pause_or_resume(cx);
        self.try_resync(cx);
        self.rearm(cx);
    }

    /// Asks for the chat's state if the time has come and every append is answered.
    pub(super) fn try_resync(&mut self, cx: &mut Context) {
        let Some(failure) = &mut self.append_failed else { return };
        if failure.due_ms().is_some_and(|due| due <= cx.now.ticks_ms) {
            failure.asked = true;
            cx.ask(Query::Chat { chat: self.key.clone() }, Asked::Resync(self.reference));
        }
    }

    pub(super) fn refuse_while_broken(&self) -> Result<(), Refusal> {
        self.append_failed.as_ref().map_or(Ok(()), |failure| Err(failure.refusal.clone()))
    }

    pub(super) fn resync_failed(&mut self, cx: &mut Context, refusal: Refusal) {
        if !refusal.is_retryable() {
            self.found_damaged(cx, refusal);
        } else if let Some(failure) = &mut self.append_failed {
            failure.asked = false;
            failure.retry_at_ms = cx.now.ticks_ms + cx.limits.journal_retry_ms;
        }
        self.rearm(cx);
    }

    /// The chat is damaged in the journal, so that nothing can be appended to it and it is not asked for again. All
    /// waiting and later requests are refused, readers are dropped, and the agent is killed.
    fn found_damaged(&mut self, cx: &mut Context, refusal: Refusal) {
        let Some(failure) = &mut self.append_failed else { return };
        failure.refusal = refusal.clone();
        let (waiting, kept) =
            core::mem::take(&mut self.pending).into_iter().partition(|one| one.origin.is_some());
        self.pending = kept;
        let waiting: VecDeque<Pending> = waiting;
        let mut refused_turns = BTreeSet::new();
        for pending in waiting {
            self.pending_bytes -= pending.bytes;
            if let Some(origin) = pending.origin.clone() {
                self.refuse_pending(cx, &mut refused_turns, &origin, pending, &refusal);
            }
        }
        self.give_up_deleting(cx, &refusal);
        self.stop_agent(cx, true);
        for conn in self.subs.connections() {
            self.drop_reader(cx, conn, &refusal);
        }
        self.rearm(cx);
        self.take_intake(cx);
    }

    /// The journal answered with the chat's state.
    pub(super) fn resync(&mut self, cx: &mut Context, record: Option<Box<ChatRecord>>) {
        let record = record.as_deref();
        if self.is_renewed(record) { self.resync_renewed(cx, record) } else { self.go_on(cx, record) }
    }

    /// How many of these appends the journal has. It commits a chat's appends in order: if it has one, it has all
    /// earlier ones too.
    fn committed_of(&self, waiting: &VecDeque<Pending>, record: Option<&ChatRecord>) -> usize {
        let last = record.and_then(|record| {
            waiting.iter().rposition(|pending| is_committed(pending, record, &self.epoch))
        });
        last.map_or(0, |last| last + 1)
    }

    /// The journal has all published events, and perhaps more.
    fn go_on(&mut self, cx: &mut Context, record: Option<&ChatRecord>) {
        self.append_failed = None;
        let mut waiting = core::mem::take(&mut self.pending);
        let kept = self.committed_of(&waiting, record);
        for pending in waiting.drain(..kept) {
            self.publish(cx, pending);
        }
        self.staged = record.map_or(0, |record| record.head.seq).max(self.head);
        let (refused_turns, again) = self.refuse_unkept(cx, record, waiting);
        self.append_rest(cx, &refused_turns, again);
    }

    /// The journal has lost published events: the chat goes on in another epoch.
    fn resync_renewed(&mut self, cx: &mut Context, record: Option<&ChatRecord>) {
        self.append_failed = None;
        let mut waiting = core::mem::take(&mut self.pending);
        let kept = self.committed_of(&waiting, record);
        let kept: Vec<Pending> = waiting.drain(..kept).collect();
        for pending in &kept {
            self.pending_bytes -= pending.bytes;
            for event in &pending.events {
                if let Some(body) = event.body() {
                    self.durable.apply(event.turn_id.as_ref(), body, event.frame());
                }
            }
            self.note_received(pending.changes.clone());
        }
        let (refused_turns, again) = self.refuse_unkept(cx, record, waiting);
        self.reset_epoch(cx, record, kept);
        self.append_rest(cx, &refused_turns, again);
    }

    /// Refuses the clients' appends, which the journal does not have. Returns the refused turns, and the remaining
    /// appends to append again.
    fn refuse_unkept(
        &mut self,
        cx: &mut Context,
        record: Option<&ChatRecord>,
        waiting: VecDeque<Pending>,
    ) -> (BTreeSet<TurnId>, VecDeque<Pending>) {
        let mut again: VecDeque<Pending> = VecDeque::new();
        let mut refused_turns = BTreeSet::new();
        for pending in waiting {
            self.pending_bytes -= pending.bytes;
            if pending.origin.is_some()
                && pending.changes.iter().any(|one| matches!(one, Change::Title { .. }))
            {
                // Back to the title that the journal has.
                self.title = record.and_then(|record| record.title.clone());
            }
            match pending.origin.clone() {
                Some(origin) => self.refuse_pending(cx, &mut refused_turns, &origin, pending, &unavailable()),
                None => again.push_back(pending),
            }
        }
        (refused_turns, again)
    }

    fn append_rest(
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
            self.append_again(cx, refused_turns, pending);
        }
        self.give_up_deleting(cx, &unavailable());
        self.pause_or_resume(cx);
        self.rearm(cx);
        self.try_start(cx);
        self.take_intake(cx);
    }

    fn refuse_pending(
        &mut self,
        cx: &mut Context,
        refused_turns: &mut BTreeSet<TurnId>,
        origin: &Origin,
        pending: Pending,
        refusal: &Refusal,
    ) {
        self.expect_no_more(cx, origin.conn);
        cx.refuse(origin.conn, refusal.clone().chat(&self.key.chat).turn(origin.turn_id.as_ref()));
        for effect in pending.effects {
            match effect {
                Effect::Repeat { conn, accepted } => {
                    self.expect_no_more(cx, conn);
                    cx.refuse(conn, refusal.clone().chat(&self.key.chat).turn(Some(&accepted.turn_id)));
                }
                Effect::Stopped { conn, accepted } => {
                    cx.refuse(conn, refusal.clone().chat(&self.key.chat).turn(Some(&accepted.turn_id)));
                }
                // This event does not depend on the refused append.
                Effect::Fan(event @ ControlEvent::RuntimeModelUpdated { .. }) => self.fan(cx, &event),
                Effect::Fan(_)
                | Effect::SendCommand(_)
                | Effect::Announce { .. }
                | Effect::Made { .. }
                | Effect::Deleted => {}
            }
        }
        if pending.events.iter().any(|event| matches!(event.body(), Some(ChatBody::GoalState { .. }))) {
            self.goal = self.durable.goal().clone();
        }
        if let Some(turn_id) = &origin.turn_id {
            self.forget_turn(cx, turn_id);
            refused_turns.insert(turn_id.clone());
        }
    }

    fn append_again(&mut self, cx: &mut Context, refused_turns: &BTreeSet<TurnId>, mut pending: Pending) {
        let about_refused = |turn_id: Option<&TurnId>| turn_id.is_some_and(|id| refused_turns.contains(id));
        pending.events.retain(|event| !about_refused(event.turn_id.as_ref()));
        pending.changes.retain(|change| !about_refused(turn_of(change)));
        pending.effects.retain(|effect| !about_refused(effect_turn(effect)));
        if pending.events.is_empty() && pending.changes.is_empty() {
            return;
        }
        let events = core::mem::take(&mut pending.events);
        pending.events = self.number(events.into_iter().map(Staged::unstage).collect());
        self.move_messages(&mut pending);
        self.renumber_commands(&mut pending);
        self.append(cx, pending);
    }
}

impl Chat {
    /// Gives commands new ids. Ids must grow in the order of the log, because [`is_committed`] compares them, and
    /// commands that were appended again before may have taken higher ids.
    fn renumber_commands(&mut self, pending: &mut Pending) {
        for change in &mut pending.changes {
            let Change::Command { command } = change else { continue };
            let id = self.next_command();
            for effect in &mut pending.effects {
                if let Effect::SendCommand(told) = effect
                    && told == command
                {
                    told.set_id(id);
                }
            }
            command.set_id(id);
        }
    }

    /// Updates the sequence numbers of messages that are logged again, wherever they are stored.
    fn move_messages(&mut self, pending: &mut Pending) {
        for change in &mut pending.changes {
            let Change::TurnAccepted { turn_id, seq, .. } = change else { continue };
            let is_it = |event: &&Staged| {
                event.turn_id.as_ref() == Some(&*turn_id)
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
            if let Some(turn) = self.turns.iter_mut().find(|turn| turn.id == *turn_id) {
                turn.seq = event.seq;
            }
        }
    }
}

/// Whether the journal certainly has this append of an epoch. Some changes leave no trace in a chat's record; they may
/// be appended twice.
fn is_committed(pending: &Pending, record: &ChatRecord, epoch: &Epoch) -> bool {
    if let Some(last) = pending.events.last() {
        // A journal loses events at the end of an epoch only.
        let mut places = [Some(&record.head), record.earlier.as_ref()].into_iter().flatten();
        return places.any(|kept| kept.epoch == *epoch && last.seq <= kept.seq);
    }
    let agent = |instance: AgentInstanceId| record.agent.as_ref().filter(|agent| agent.instance == instance);
    pending.create
        || pending.changes.iter().any(|change| match change {
            Change::Command { command } => command.id().0 <= record.last_command,
            Change::AgentPosition { instance, position, .. } => {
                agent(*instance).is_some_and(|agent| agent.position >= *position)
            }
            Change::TurnAccepted { .. }
            | Change::TurnStarted { .. }
            | Change::CancelRequested { .. }
            | Change::TurnEnded { .. }
            | Change::RequestOpened { .. }
            | Change::RequestClosed { .. }
            // An instance that was sent no command is named again with the next turn.
            | Change::AgentStarted { .. }
            | Change::AgentEnded { .. }
            | Change::OpenWork { .. }
            | Change::Session { .. }
            | Change::Title { .. }
            | Change::Goal { .. }
            // A deleted chat has no record.
            | Change::Deleted => false,
        })
}

fn turn_of(change: &Change) -> Option<&TurnId> {
    match change {
        Change::TurnAccepted { turn_id, .. }
        | Change::TurnStarted { turn_id }
        | Change::CancelRequested { turn_id, .. }
        | Change::TurnEnded { turn_id, .. } => Some(turn_id),
        Change::Command { command } => command_turn(command),
        Change::RequestOpened { .. }
        | Change::RequestClosed { .. }
        | Change::AgentStarted { .. }
        | Change::AgentEnded { .. }
        | Change::AgentPosition { .. }
        | Change::OpenWork { .. }
        | Change::Session { .. }
        | Change::Title { .. }
        | Change::Goal { .. }
        | Change::Deleted => None,
    }
}

fn effect_turn(effect: &Effect) -> Option<&TurnId> {
    match effect {
        Effect::SendCommand(command) => command_turn(command),
        Effect::Fan(ControlEvent::GoalStatus { turn_id, .. }) => turn_id.as_ref(),
        Effect::Fan(_)
        | Effect::Repeat { .. }
        | Effect::Announce { .. }
        | Effect::Made { .. }
        | Effect::Stopped { .. }
        | Effect::Deleted => None,
    }
}

fn command_turn(command: &AgentCommand) -> Option<&TurnId> {
    match command {
        AgentCommand::Prompt { turn_id, .. } | AgentCommand::Cancel { turn_id, .. } => Some(turn_id),
        AgentCommand::Answer { .. } => None,
    }
}
