//! How turns and agents start, are cancelled and end: what each transition logs, and what the agent is sent.

use alloc::string::String;

use super::{
    Chat,
    agent::SlotState,
    log::{Draft, Effect},
    turns::{Applied, EndedTurn, Ending, TurnInput},
};
use crate::{
    agent::{AgentCommand, AgentExit, AgentInstanceId},
    hub::{context::Context, refusals::Refusal},
    ids::{ConnId, RequestId, TurnId},
    journal::Change,
    time::Moment,
    wire::{
        Answer, ChatBody, ControlEvent, ErrorCode, Outcome, Resolution, RunStatus, TurnError, UpdateScope,
    },
};

/// Turns.
impl Chat {
    /// Starts the first turn within a draft. The chat already has an agent slot.
    pub(super) fn start_into(&mut self, cx: &Context, draft: &mut Draft) {
        let id = self.agent.next_command();
        self.turns.apply(cx.now.ticks_ms, TurnInput::Start);
        let Some(turn) = self.turns.first() else { return };
        draft.push(Some(turn.id()), ChatBody::TurnStarted { started_at_ms: cx.now.unix_ms });
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
    pub(super) fn try_start(&mut self, cx: &mut Context) {
        let waits = self.turns.started().is_none() && !self.turns.is_empty();
        if waits && !self.log.is_recovering() && !cx.shutting_down && self.agent.acquire_slot(cx) {
            let mut draft = Draft::new();
            self.start_into(cx, &mut draft);
            self.stage(cx, draft);
        }
    }

    /// The pool offers the chat a slot.
    pub(in crate::hub) fn slot_offered(&mut self, cx: &mut Context) {
        self.agent.slot_offered();
        self.try_start(cx);
    }

    /// A client cancels a turn; without an id, the first one.
    pub(super) fn cancel(&mut self, cx: &mut Context, turn_id: Option<&TurnId>) -> Result<(), Refusal> {
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
    pub(super) fn cancel_at(&mut self, cx: &mut Context, place: usize, reason: Option<TurnError>) {
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
    pub(super) fn end_turn(&mut self, cx: &mut Context, outcome: Outcome, error: Option<TurnError>) {
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
    pub(super) fn end_turns(&mut self, cx: &mut Context, outcome: Outcome, error: Option<TurnError>) {
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
    pub(super) fn end_into(&mut self, cx: &mut Context, draft: &mut Draft, ended: EndedTurn) {
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
    pub(super) fn forget_turn(&mut self, cx: &mut Context, turn_id: &TurnId) {
        self.turns.remove(turn_id);
        self.review_slot(cx);
    }

    /// The gateway stops: ends all turns and stops the agent.
    pub(in crate::hub) fn shut_down(&mut self, cx: &mut Context) {
        let detail = "the gateway was stopped before the answer was complete";
        let error = TurnError { code: "gateway_stopped".into(), detail: detail.into() };
        self.stop_agent(cx, false);
        self.end_turns(cx, Outcome::Interrupted, Some(error));
    }
}

/// The agent.
impl Chat {
    /// Releases a reserved slot that no turn needs any more, and marks the agent as idle or busy. Called after each
    /// change of the turns or the agent.
    pub(super) fn review_slot(&mut self, cx: &mut Context) {
        self.agent.review_slot(cx, !self.turns.is_empty());
        self.rearm(cx);
    }

    /// Sends the agent a command that the journal has. A prompt first starts the agent if none is running.
    pub(super) fn send_command(&mut self, cx: &mut Context, command: AgentCommand) {
        if let AgentCommand::Prompt { turn_id, id, .. } = &command {
            if self.turns.started() != Some(turn_id) {
                return;
            }
            let now_ms = cx.now.ticks_ms;
            if !self.agent.start(cx, self.log.key()) {
                self.turns.apply(now_ms, TurnInput::PromptDeferred(command));
                return;
            }
            self.turns.apply(now_ms, TurnInput::PromptSent(*id));
            self.turns.progress(now_ms);
            self.rearm(cx);
        }
        self.agent.send(cx, command);
    }

    /// Asks the agent to exit, or kills it, and withdraws its requests. A reserved slot is freed.
    pub(in crate::hub) fn stop_agent(&mut self, cx: &mut Context, kill: bool) {
        if let Some(instance) = self.agent.stop(cx, kill) {
            // Its further records belong to a turn that is over. `AgentEnded` keeps the next gateway process from
            // adopting it and reading them.
            self.stage_changes(cx, [Change::AgentEnded { instance }]);
            self.withdraw_requests(cx);
            self.review_slot(cx);
        }
    }

    /// The agent exited: ends the turn, unless the agent never got the prompt, and frees the slot.
    pub(in crate::hub) fn agent_exited(
        &mut self,
        cx: &mut Context,
        instance: AgentInstanceId,
        exit: AgentExit,
    ) {
        let stopping = match self.agent.state() {
            SlotState::Alive { instance: mine, .. } if mine == instance => false,
            SlotState::Stopping { instance: mine, .. } if mine == instance => true,
            SlotState::Empty
            | SlotState::Reserved { .. }
            | SlotState::Alive { .. }
            | SlotState::Stopping { .. } => return,
        };
        if cx.leaving {
            return;
        }
        if matches!(exit, AgentExit::Unprompted(_))
            && let Some(turn) = self.turns.first()
        {
            let (turn_id, text) = (turn.id().clone(), turn.text().into());
            self.turns.apply(cx.now.ticks_ms, TurnInput::PromptReturned { turn_id, text });
        }
        if !stopping && self.turns.started().is_some() && self.turns.prompted().is_none() {
            // The agent exited before it got the prompt: a new instance gets it.
            let naming = self.agent.replace(cx);
            self.withdraw_requests(cx);
            self.stage_changes(cx, [naming]);
            return;
        }
        self.agent.release_slot(cx);
        if self.ends_unlogged(cx, instance) {
            return;
        }
        if !stopping {
            self.stage_changes(cx, [Change::AgentEnded { instance }]);
        }
        self.withdraw_requests(cx);
        let (outcome, error) = match exit {
            AgentExit::StartFailed(error) => (Outcome::Failed, error),
            AgentExit::Gone(error) | AgentExit::Unprompted(error) => (Outcome::Interrupted, error),
            AgentExit::Stopped => (Outcome::Interrupted, agent_stopped()),
        };
        self.end_turn(cx, outcome, Some(error));
        self.review_slot(cx);
        if !self.turns.is_empty() {
            // The chat waits behind the chats that have waited for this slot.
            self.agent.wait_for_slot(cx);
        }
        self.go_on_deleting(cx);
    }
}

/// The agent's requests.
impl Chat {
    /// A client answers a request of the agent.
    pub(super) fn respond(
        &mut self,
        cx: &mut Context,
        conn: ConnId,
        request_id: &RequestId,
        answer: Answer,
    ) -> Result<(), Refusal> {
        let resolved = self.requests.resolve(request_id, answer)?;
        self.log.writable()?;
        let mut draft = Draft::new();
        let turn_id = self.turns.started().cloned();
        let client_id = cx.conns.get(&conn).map(|conn| conn.client_id().clone());
        self.close_request(cx, &mut draft, turn_id.as_ref(), request_id, (resolved.resolution, client_id));
        let (request_id, answer) = (resolved.agent_id, resolved.answer);
        draft.command(AgentCommand::Answer { id: self.agent.next_command(), request_id, answer });
        self.stage(cx, draft);
        Ok(())
    }

    /// Closes an open request within a draft: with this resolution, by the answer of this client. The turn's clock of
    /// silence starts again.
    pub(super) fn close_request(
        &mut self,
        cx: &Context,
        draft: &mut Draft,
        turn_id: Option<&TurnId>,
        request_id: &RequestId,
        (resolution, client_id): (Resolution, Option<String>),
    ) {
        if self.requests.close(request_id) {
            self.turns.progress(cx.now.ticks_ms);
            let request_id = request_id.clone();
            draft.push(turn_id, ChatBody::RequestResolved { request_id, resolution, client_id });
        }
    }

    /// Closes all open requests within a draft.
    fn close_requests(
        &mut self,
        cx: &Context,
        draft: &mut Draft,
        turn_id: Option<&TurnId>,
        resolution: Resolution,
    ) {
        for request_id in self.requests.open_ids() {
            self.close_request(cx, draft, turn_id, &request_id, (resolution, None));
        }
    }

    /// Closes all open requests as withdrawn: the agent is gone or stopping and takes no answer any more.
    pub(super) fn withdraw_requests(&mut self, cx: &mut Context) {
        let mut draft = Draft::new();
        let turn_id = self.turns.started().cloned();
        self.close_requests(cx, &mut draft, turn_id.as_ref(), Resolution::Withdrawn);
        self.stage(cx, draft);
    }
}

fn agent_stopped() -> TurnError {
    TurnError {
        code: "agent_stopped".into(),
        detail: "the agent was stopped before its answer was complete".into(),
    }
}
