//! How turns start, are cancelled and end: what each transition logs, and what the agent is sent.

use super::{
    state::{Applied, EndedTurn, Place},
    transition::{Ending, TurnInput},
};
use crate::{
    agent::AgentCommand,
    hub::{
        chat::{
            Chat,
            log::{Draft, Effect},
        },
        context::Context,
        refusals::Refusal,
    },
    ids::TurnId,
    journal::Change,
    time::Moment,
    wire::{
        ChatBody, ControlEvent, ErrorCode, NoticeLevel, Outcome, RunStatus, TurnError, TurnOrigin,
        TurnReason, UpdateScope,
    },
};

impl Chat {
    /// Starts the first turn within a draft. The chat already has an agent slot.
    pub(in crate::hub::chat) fn start_into(&mut self, cx: &Context, draft: &mut Draft) {
        let id = self.agent.next_command();
        self.turns.start(cx.now);
        let Some(turn) = self.turns.first() else { return };
        self.log_start(cx, draft, turn.id(), (TurnOrigin::User, None));
        draft.changes.extend(self.agent.naming());
        draft.command(AgentCommand::Prompt { id, turn_id: turn.id().clone(), text: turn.text().into() });
    }

    /// Logs the start of a turn within a draft.
    pub(super) fn log_start(
        &self,
        cx: &Context,
        draft: &mut Draft,
        turn_id: &TurnId,
        (origin, reason): (TurnOrigin, Option<TurnReason>),
    ) {
        let started_at_ms = cx.now.unix_ms;
        draft.push(Some(turn_id), ChatBody::TurnStarted { origin, reason, started_at_ms });
        draft.effects.push(self.goal_status(Some(started_at_ms), turn_id));
    }

    /// Whether a turn runs, for clients: this turn, since `started_at_ms` of Unix time, or none, as this turn was the last.
    fn goal_status(&self, started_at_ms: Option<u64>, turn_id: &TurnId) -> Effect {
        Effect::Fan(ControlEvent::GoalStatus {
            chat_id: self.log.chat_id().clone(),
            status: if started_at_ms.is_some() { RunStatus::Running } else { RunStatus::Idle },
            started_at: started_at_ms.map(Moment::unix_seconds),
            turn_id: Some(turn_id.clone()),
        })
    }

    /// Starts the first turn if no turn runs and an agent slot is free.
    pub(in crate::hub::chat) fn try_start(&mut self, cx: &mut Context) {
        let waits = self.turns.started().is_none() && self.turns.first().is_some();
        if waits && !self.log.is_recovering() && !cx.shutting_down && self.agent.acquire_slot(cx) {
            let mut draft = Draft::new();
            self.start_into(cx, &mut draft);
            self.stage(cx, draft);
        }
    }

    /// A client cancels a turn; without an id, the agent's own one and the first one of a person. If no turn is open, an
    /// agent that works in the background is stopped.
    pub(in crate::hub::chat) fn cancel(
        &mut self,
        cx: &mut Context,
        turn_id: Option<&TurnId>,
    ) -> Result<(), Refusal> {
        let unknown = || Refusal::new(ErrorCode::UnknownTurn, "no such turn is open in this chat");
        match turn_id {
            Some(id) => {
                let place = self.turns.place_of(id).ok_or_else(unknown)?;
                self.cancel_at(cx, place, None);
            }
            None if self.turns.is_empty() && self.tasks.is_empty() => return Err(unknown()),
            None if self.turns.is_empty() => {
                let text = "The agent's background work was stopped because a client asked for it. The next message \
                            starts the agent again.";
                self.log_agent_stopped(cx, NoticeLevel::Info, text);
                self.stop_idle_agent(cx);
            }
            None => {
                self.cancel_at(cx, Place::Agent, None);
                self.cancel_at(cx, Place::User(0), None);
            }
        }
        self.agent.person_acted(cx.now.ticks_ms);
        Ok(())
    }

    /// Cancels a turn. `reason`: why the gateway itself cancels the turn.
    pub(in crate::hub::chat) fn cancel_at(
        &mut self,
        cx: &mut Context,
        place: Place,
        reason: Option<TurnError>,
    ) {
        let kill_at_ms = cx.now.ticks_ms + cx.limits.cancel_grace_ms;
        let input = TurnInput::Cancel { kill_at_ms, reason: reason.clone() };
        match self.turns.apply_to(place, cx.now.ticks_ms, input) {
            Applied::Unchanged => {}
            Applied::Changed => {
                let turn_id = match place {
                    Place::Agent => self.turns.agent_turn(),
                    Place::User(_) => self.turns.started(),
                };
                let Some(turn_id) = turn_id.cloned() else { return };
                let mut draft = Draft::new();
                draft.changes.push(match place {
                    Place::Agent => Change::AgentTurn { turn: self.turns.agent_turn_record() },
                    Place::User(_) => Change::CancelRequested { turn_id: turn_id.clone(), reason },
                });
                draft.command(AgentCommand::Cancel { id: self.agent.next_command(), turn_id });
                self.stage(cx, draft);
                self.rearm(cx);
            }
            Applied::Ended(ended) => {
                let was_started = ended.was_started;
                self.log_end(cx, *ended);
                if was_started {
                    self.try_start(cx);
                }
            }
        }
    }

    /// Ends the started turn of a person by the hub's decision.
    pub(in crate::hub::chat) fn end_turn(
        &mut self,
        cx: &mut Context,
        outcome: Outcome,
        error: Option<TurnError>,
    ) {
        if self.turns.started().is_some() {
            self.end_user_turn(cx, 0, Ending::new(outcome, error));
        }
    }

    fn end_user_turn(&mut self, cx: &mut Context, place: usize, ending: Ending) {
        let mut draft = Draft::new();
        self.end_user_turn_into(cx, &mut draft, place, ending);
        self.stage(cx, draft);
        self.rearm(cx);
    }

    /// Ends the turn of a person at this place of the queue, within a draft.
    pub(in crate::hub::chat) fn end_user_turn_into(
        &mut self,
        cx: &mut Context,
        draft: &mut Draft,
        place: usize,
        ending: Ending,
    ) {
        let input = TurnInput::End(ending);
        if let Applied::Ended(ended) = self.turns.apply_to(Place::User(place), cx.now.ticks_ms, input) {
            self.end_into(cx, draft, *ended);
        }
    }

    /// Ends all turns: the agent's own one, the queued ones, then the started one. The error is for turns that have
    /// started.
    pub(in crate::hub::chat) fn end_turns(
        &mut self,
        cx: &mut Context,
        outcome: Outcome,
        error: Option<TurnError>,
    ) {
        self.end_agent_turn(cx, outcome, error.clone());
        while self.turns.len() > usize::from(self.turns.started().is_some()) {
            self.end_user_turn(cx, self.turns.len() - 1, Ending::new(outcome, None));
        }
        self.end_turn(cx, outcome, error);
    }

    fn log_end(&mut self, cx: &mut Context, ended: EndedTurn) {
        let mut draft = Draft::new();
        self.end_into(cx, &mut draft, ended);
        self.stage(cx, draft);
        self.rearm(cx);
    }

    /// Logs the end of a turn within a draft.
    pub(in crate::hub::chat) fn end_into(&mut self, cx: &mut Context, draft: &mut Draft, ended: EndedTurn) {
        let turn_id = ended.turn.id();
        if ended.was_started {
            self.close_requests_of(cx, draft, turn_id);
        }
        if ended.has_work {
            let left = self.turns.leave_work(&self.background_tools());
            let stopped = ended.ending.outcome != Outcome::Completed;
            self.close_work(draft, Some(turn_id), left, stopped);
        }
        draft.changes.extend(self.turns.changed_work().map(|work| Change::OpenWork { work }));
        if ended.turn.origin() == TurnOrigin::Agent {
            draft.changes.push(Change::AgentTurn { turn: None });
        }
        let model = self.profile.model().filter(|_| ended.was_started).cloned();
        let end = ended.turn.end(cx.now, ended.ending, model, self.profile.active_goal());
        draft.push(Some(turn_id), end);
        draft.effects.push(Effect::Fan(self.profile.updated(self.log.chat_id(), UpdateScope::Thread)));
        if ended.was_started {
            // The agent's turn and that of a person can run side by side.
            draft.effects.push(match self.turns.running() {
                Some((turn_id, started_at_ms)) => self.goal_status(Some(started_at_ms), turn_id),
                None => self.goal_status(None, turn_id),
            });
        }
        self.review_slot(cx);
    }

    /// Removes a turn whose message the journal refused. Nothing is logged of it.
    pub(in crate::hub::chat) fn forget_turn(&mut self, cx: &mut Context, turn_id: &TurnId) {
        self.turns.remove(turn_id);
        self.review_slot(cx);
    }
}
