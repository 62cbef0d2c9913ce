//! How turns start, are cancelled and end: what each transition logs, and what the agent is sent.

use super::{
    state::{Applied, EndedTurn},
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
        ChatBody, ControlEvent, ErrorCode, Outcome, Resolution, RunStatus, TurnError, TurnOrigin, UpdateScope,
    },
};

impl Chat {
    /// Starts the first turn within a draft. The chat already has an agent slot.
    pub(in crate::hub::chat) fn start_into(&mut self, cx: &Context, draft: &mut Draft) {
        let id = self.agent.next_command();
        self.turns.apply(cx.now.ticks_ms, TurnInput::Start);
        let Some(turn) = self.turns.first() else { return };
        draft.push(
            Some(turn.id()),
            ChatBody::TurnStarted { origin: TurnOrigin::User, reason: None, started_at_ms: cx.now.unix_ms },
        );
        draft.effects.push(Effect::Fan(ControlEvent::GoalStatus {
            chat_id: self.log.chat_id().clone(),
            status: RunStatus::Running,
            started_at: Some(Moment::unix_seconds(cx.now.unix_ms)),
            turn_id: Some(turn.id().clone()),
        }));
        draft.changes.extend(self.agent.naming());
        draft.command(AgentCommand::Prompt { id, turn_id: turn.id().clone(), text: turn.text().into() });
    }

    /// Starts the first turn if no turn runs and an agent slot is free.
    pub(in crate::hub::chat) fn try_start(&mut self, cx: &mut Context) {
        let waits = self.turns.started().is_none() && !self.turns.is_empty();
        if waits && !self.log.is_recovering() && !cx.shutting_down && self.agent.acquire_slot(cx) {
            let mut draft = Draft::new();
            self.start_into(cx, &mut draft);
            self.stage(cx, draft);
        }
    }

    /// A client cancels a turn; without an id, the first one.
    pub(in crate::hub::chat) fn cancel(
        &mut self,
        cx: &mut Context,
        turn_id: Option<&TurnId>,
    ) -> Result<(), Refusal> {
        let place = match turn_id {
            Some(id) => self.turns.place_of(id),
            None => (!self.turns.is_empty()).then_some(0),
        };
        let Some(place) = place else {
            return Err(Refusal::new(ErrorCode::UnknownTurn, "no such turn is open in this chat"));
        };
        self.cancel_at(cx, place, None);
        Ok(())
    }

    /// Cancels the turn at this place. `reason`: why the gateway itself cancels the turn.
    pub(in crate::hub::chat) fn cancel_at(
        &mut self,
        cx: &mut Context,
        place: usize,
        reason: Option<TurnError>,
    ) {
        let kill_at_ms = cx.now.ticks_ms + cx.limits.cancel_grace_ms;
        let input = TurnInput::Cancel { kill_at_ms, reason: reason.clone() };
        match self.turns.apply_to(place, cx.now.ticks_ms, input) {
            Applied::Unchanged => {}
            Applied::Changed => {
                let Some(turn_id) = self.turns.started().cloned() else { return };
                let mut draft = Draft::new();
                draft.changes.push(Change::CancelRequested { turn_id: turn_id.clone(), reason });
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

    /// Ends the started turn by the hub's decision.
    pub(in crate::hub::chat) fn end_turn(
        &mut self,
        cx: &mut Context,
        outcome: Outcome,
        error: Option<TurnError>,
    ) {
        if self.turns.started().is_some() {
            self.end_at(cx, 0, Ending::new(outcome, error));
        }
    }

    fn end_at(&mut self, cx: &mut Context, place: usize, ending: Ending) {
        if let Applied::Ended(ended) = self.turns.apply_to(place, cx.now.ticks_ms, TurnInput::End(ending)) {
            self.log_end(cx, *ended);
        }
    }

    /// Ends all turns, the queued turns first. The error is for the started turn only.
    pub(in crate::hub::chat) fn end_turns(
        &mut self,
        cx: &mut Context,
        outcome: Outcome,
        error: Option<TurnError>,
    ) {
        while self.turns.len() > usize::from(self.turns.started().is_some()) {
            self.end_at(cx, self.turns.len() - 1, Ending::new(outcome, None));
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
            self.close_requests(cx, draft, Some(turn_id), Resolution::TurnEnded);
        }
        for stream_end in ended.stream_ends {
            draft.push(Some(turn_id), stream_end);
        }
        draft.push(Some(turn_id), ended.turn.end(cx.now, ended.ending, self.profile.active_goal()));
        let chat_id = self.log.chat_id();
        draft.effects.push(Effect::Fan(self.profile.updated(chat_id, UpdateScope::Thread)));
        if ended.was_started {
            draft.effects.push(Effect::Fan(ControlEvent::GoalStatus {
                chat_id: chat_id.clone(),
                status: RunStatus::Idle,
                started_at: None,
                turn_id: Some(turn_id.clone()),
            }));
        }
        self.review_slot(cx);
    }

    /// Removes a turn whose message the journal refused. Nothing is logged of it.
    pub(in crate::hub::chat) fn forget_turn(&mut self, cx: &mut Context, turn_id: &TurnId) {
        self.turns.remove(turn_id);
        self.review_slot(cx);
    }
}
