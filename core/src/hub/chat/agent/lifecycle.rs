//! How a chat's agent instance starts, is sent commands, is paused, stops and exits, and what follows for its turn and
//! its requests.

use alloc::{collections::BTreeSet, format};

use super::state::{AgentWork, SlotState};
use crate::{
    agent::{AgentCommand, AgentExit, AgentInstanceId},
    hub::{
        chat::{
            Chat, Phase,
            log::Draft,
            turns::{Ending, TurnInput},
        },
        context::Context,
    },
    journal::Change,
    wire::{ChatBody, NoticeLevel, Outcome, TurnError},
};

impl Chat {
    /// The pool offers the chat a slot.
    pub(in crate::hub) fn slot_offered(&mut self, cx: &mut Context) {
        self.agent.slot_offered();
        self.try_start(cx);
    }

    /// Releases a reserved slot that no turn needs any more, and marks the agent as idle or busy. Called after each
    /// change of the turns or the agent.
    pub(in crate::hub::chat) fn review_slot(&mut self, cx: &mut Context) {
        let work = AgentWork {
            turns_of_people: self.turns.first().is_some(),
            agent_turn: self.turns.agent_turn().is_some(),
            tasks: !self.tasks.is_empty(),
        };
        self.agent.review_slot(cx, work);
        self.rearm(cx);
    }

    /// Sends the agent a command that the journal has. A prompt first starts the agent if none is running.
    pub(in crate::hub::chat) fn send_command(&mut self, cx: &mut Context, command: AgentCommand) {
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

    /// The journal has these changes. If they name the reserved agent, sends the prompt that waited for this.
    pub(in crate::hub::chat) fn note_named(&mut self, cx: &mut Context, changes: &[Change]) {
        if self.agent.note_named(changes)
            && let Some(prompt) = self.turns.undelivered().cloned()
        {
            self.send_command(cx, prompt);
        }
    }

    /// Pauses the agent while all readers, or the journal, are too far behind, and resumes it afterwards.
    pub(in crate::hub::chat) fn pause_or_resume(&mut self, cx: &mut Context) {
        if !matches!(self.agent.state(), SlotState::Alive { .. }) {
            return;
        }
        let behind = self.log.is_recovering()
            || matches!(self.phase, Phase::RenewingEpoch { .. })
            || self.log.pending_bytes() > cx.limits.pending_bytes
            || self.readers.are_far_behind(cx, &self.log);
        if self.agent.pause(cx, behind) {
            if !behind {
                self.turns.progress(cx.now.ticks_ms);
            }
            self.rearm(cx);
        }
    }

    /// Asks an agent that nobody needs to exit.
    pub(in crate::hub) fn stop_idle_agent(&mut self, cx: &mut Context) {
        self.stop_agent(cx, false, Ending::new(Outcome::Interrupted, Some(agent_stopped())));
    }

    /// Says why an agent that has no turn is stopping or gone: no `turn_end` can say it.
    pub(in crate::hub::chat) fn log_agent_stopped(
        &mut self,
        cx: &mut Context,
        level: NoticeLevel,
        text: &str,
    ) {
        let mut draft = Draft::new();
        let code = "agent_stopped".into();
        draft.push(None, ChatBody::Notice { level, code, text: text.into(), data: None });
        self.stage(cx, draft);
    }

    /// Asks the agent to exit, or kills it, and closes what it has begun. Its own turn ends with `ending`. A reserved
    /// slot is freed.
    pub(in crate::hub::chat) fn stop_agent(&mut self, cx: &mut Context, kill: bool, ending: Ending) {
        if let Some(instance) = self.agent.stop(cx, kill) {
            // Its further records belong to a turn that is over. `AgentEnded` keeps the next gateway process from
            // adopting it and reading them.
            self.stage_changes(cx, [Change::AgentEnded { instance }]);
            self.close_work_of_agent(cx, ending);
            self.review_slot(cx);
        }
    }

    /// Closes what the agent has begun, because it is stopping or gone: its requests, tasks, streams and tool uses, and
    /// then its own turn, which ends with `ending`.
    pub(in crate::hub::chat) fn close_work_of_agent(&mut self, cx: &mut Context, ending: Ending) {
        let mut draft = Draft::new();
        self.imply_turn_of_tools(cx, &mut draft);
        self.withdraw_requests(cx, &mut draft);
        self.end_tasks(&mut draft);
        let left = self.turns.leave_work(&BTreeSet::new());
        self.close_work(&mut draft, self.turns.current(), left, true);
        draft.changes.extend(self.turns.changed_work().map(|work| Change::OpenWork { work }));
        self.end_agent_turn_into(cx, &mut draft, ending);
        self.stage(cx, draft);
        self.rearm(cx);
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
        // Its output was not read to the end.
        self.give_up_catching_up(cx);
        if matches!(exit, AgentExit::Unprompted(_))
            && let Some(turn) = self.turns.first()
        {
            let (turn_id, text) = (turn.id().clone(), turn.text().into());
            self.turns.apply(cx.now.ticks_ms, TurnInput::PromptReturned { turn_id, text });
        }
        let (outcome, error) = error_of(exit);
        if !stopping && self.turns.started().is_some() && self.turns.prompted().is_none() {
            // The agent exited before it got the prompt: a new instance gets it.
            let naming = self.agent.replace(cx);
            self.log_lost_tasks(cx, &error);
            self.close_work_of_agent(cx, Ending::new(outcome, Some(error)));
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
        self.log_lost_tasks(cx, &error);
        self.close_work_of_agent(cx, Ending::new(outcome, Some(error.clone())));
        self.end_turn(cx, outcome, Some(error));
        self.review_slot(cx);
        if self.turns.first().is_some() {
            // The chat waits behind the chats that have waited for this slot.
            self.agent.wait_for_slot(cx);
        }
        self.go_on_deleting(cx);
    }

    /// Says why an agent that had background tasks exited, unless the end of a turn says it: of the current one, or of the
    /// one in which open tool uses are closed.
    fn log_lost_tasks(&mut self, cx: &mut Context, error: &TurnError) {
        let ends_turn = self.turns.current().is_some() || self.turns.has_tools();
        if !self.tasks.is_empty() && !ends_turn {
            let why = match &*error.code {
                "gateway_restarted" => "the gateway was restarted, and nothing is left of its agent",
                "agent_stopped" => "the agent was stopped",
                _ => &error.detail,
            };
            let text = format!("The agent's background work ended with the agent: {why}");
            self.log_agent_stopped(cx, NoticeLevel::Error, &text);
        }
    }
}

/// How a turn ends whose agent exits.
fn error_of(exit: AgentExit) -> (Outcome, TurnError) {
    match exit {
        AgentExit::StartFailed(error) => (Outcome::Failed, error),
        AgentExit::Gone(error) | AgentExit::Unprompted(error) => (Outcome::Interrupted, error),
        AgentExit::Stopped => (Outcome::Interrupted, agent_stopped()),
    }
}

/// The error of a turn whose agent the gateway stops.
pub(in crate::hub::chat) fn agent_stopped() -> TurnError {
    TurnError {
        code: "agent_stopped".into(),
        detail: "the agent was stopped before its answer was complete".into(),
    }
}
