//! A chat's agent: its place among the process's agents, its life, its commands, and when it is held.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use super::{
    Hub,
    chat::{Chat, Phase},
    context::{Context, DeferredAction},
    io::{ChatRef, Output},
    log::Draft,
};
use crate::{
    agent::{AgentCommand, AgentExit, AgentInstanceId},
    ids::TurnId,
    journal::{Change, RecordedAgent},
    wire::{Outcome, TurnError},
};

/// Where a chat's agent is in its life. A place is taken from `Reserved` until the exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SlotState {
    Empty,
    /// A place is taken; the agent starts with its first command, once the journal names it.
    Reserved {
        instance: AgentInstanceId,
        named: bool,
    },
    Alive {
        instance: AgentInstanceId,
        paused: bool,
    },
    Stopping {
        instance: AgentInstanceId,
        kill_at_ms: u64,
        killed: bool,
    },
}

/// The places for agents. A chat holds one from reservation to exit. Agents that are taken up may be more than there are
/// places: those that have nothing to do are stopped, and no other one starts before there is room again.
#[derive(Debug, Default)]
pub(super) struct AgentPool {
    pub(super) in_use: usize,
    /// AgentPool kept for chats of an earlier gateway whose agents the journal has yet to name.
    expected: usize,
    /// Of these, agents that were told to stop: places about to be free.
    stopping: usize,
    /// Chats whose agent has nothing to do, longest idle first.
    idle: BTreeSet<(u64, ChatRef)>,
    /// Chats with a turn but no place, by their ticket.
    waiting: BTreeMap<u64, ChatRef>,
    last_waiter: u64,
}

impl AgentPool {
    fn have_room(&self, limit: usize) -> bool {
        self.in_use + self.expected < limit
    }

    /// Whether there are more agents than places, or too few about to be free for those who wait.
    fn are_too_few(&self, limit: usize) -> bool {
        self.in_use + self.waiting.len() > limit + self.stopping
    }
}

impl Hub {
    /// Gives free places to those who wait longest, and makes room for the others where an agent is idle.
    pub(super) fn serve_waiting_chats(&mut self) {
        if self.cx.leaving {
            return;
        }
        while self.cx.agents.have_room(self.cx.limits.agents) {
            let Some((_, next)) = self.cx.agents.waiting.pop_first() else { break };
            self.with_chat(next, Chat::slot_offered);
        }
        while self.cx.agents.are_too_few(self.cx.limits.agents) {
            let Some((_, idle)) = self.cx.agents.idle.pop_first() else { break };
            self.with_chat(idle, |chat, cx| chat.stop_agent(cx, false));
        }
    }
}

impl Chat {
    /// Takes a place for this chat's agent. False: none is free, and the chat is called when one is.
    pub(super) fn acquire_slot(&mut self, cx: &mut Context) -> bool {
        match self.slot {
            SlotState::Reserved { .. } | SlotState::Alive { .. } => true,
            // Its exit puts the chat in line.
            SlotState::Stopping { .. } => false,
            SlotState::Empty if cx.agents.have_room(cx.limits.agents) => {
                self.stop_waiting_for_slot(cx);
                cx.agents.in_use += 1;
                self.slot = SlotState::Reserved { instance: cx.next_instance(), named: false };
                true
            }
            SlotState::Empty => {
                self.wait_for_slot(cx);
                false
            }
        }
    }

    fn wait_for_slot(&mut self, cx: &mut Context) {
        if self.waiting_number.is_none() {
            cx.agents.last_waiter += 1;
            cx.agents.waiting.insert(cx.agents.last_waiter, self.reference);
            self.waiting_number = Some(cx.agents.last_waiter);
        }
        cx.deferred.push_back(DeferredAction::ServeWaitingChats);
    }

    fn stop_waiting_for_slot(&mut self, cx: &mut Context) {
        if let Some(number) = self.waiting_number.take() {
            cx.agents.waiting.remove(&number);
        }
    }

    fn slot_offered(&mut self, cx: &mut Context) {
        self.waiting_number = None;
        self.try_start(cx);
    }

    fn release_slot(&mut self, cx: &mut Context) {
        if matches!(self.slot, SlotState::Stopping { .. }) {
            cx.agents.stopping -= 1;
        }
        self.slot = SlotState::Empty;
        self.adopted_for = None;
        cx.agents.in_use -= 1;
        cx.deferred.push_back(DeferredAction::ServeWaitingChats);
        cx.deferred.push_back(DeferredAction::Settle(self.reference));
    }

    /// To be called when turns came or went, or the agent did: whether a place is still needed, and whether
    /// the agent has nothing to do from now on.
    pub(super) fn review_slot(&mut self, cx: &mut Context) {
        if self.turns.is_empty() {
            self.stop_waiting_for_slot(cx);
            if matches!(self.slot, SlotState::Reserved { .. }) {
                self.release_slot(cx);
            }
        }
        let idle = self.turns.is_empty() && matches!(self.slot, SlotState::Alive { .. });
        match self.idle_since {
            None if idle => {
                self.idle_since = Some(cx.now.ticks_ms);
                cx.agents.idle.insert((cx.now.ticks_ms, self.reference));
                cx.deferred.push_back(DeferredAction::ServeWaitingChats);
            }
            Some(since) if !idle => {
                self.idle_since = None;
                cx.agents.idle.remove(&(since, self.reference));
            }
            Some(_) | None => {}
        }
        self.rearm(cx);
    }

    /// Tells the agent something that the journal has; a prompt starts the agent where it does not live.
    pub(super) fn send_command(&mut self, cx: &mut Context, command: AgentCommand) {
        if let AgentCommand::Prompt { turn_id, .. } = &command {
            if self.active_turn_id().as_ref() != Some(turn_id) {
                return;
            }
            if let SlotState::Reserved { instance, named } = self.slot {
                if !named {
                    // Should this gateway die, the next one must know whom to take up.
                    if let Some(active) = &mut self.active {
                        active.undelivered = Some(command);
                    }
                    return;
                }
                self.slot = SlotState::Alive { instance, paused: false };
                cx.output(Output::StartAgent {
                    chat: self.key.clone(),
                    instance,
                    session: self.session.clone(),
                });
            }
            if let Some(active) = &mut self.active {
                active.prompted = true;
                active.prompt = Some(command.id());
                active.progress(cx.now.ticks_ms);
            }
            self.rearm(cx);
        }
        if let SlotState::Alive { instance, .. } = self.slot {
            cx.output(Output::Command { instance, command });
        }
    }

    /// The journal has these changes: the agent that they name is told what waited for that.
    pub(super) fn note_named(&mut self, cx: &mut Context, changes: &[Change]) {
        if let SlotState::Reserved { instance, named: false } = self.slot
            && changes.contains(&Change::AgentStarted { instance })
        {
            self.slot = SlotState::Reserved { instance, named: true };
            if let Some(prompt) = self.active.as_mut().and_then(|active| active.undelivered.take()) {
                self.send_command(cx, prompt);
            }
        }
    }

    /// The chat is one of an earlier gateway. Until the journal says whether it has an agent, a place is kept for that.
    pub(super) fn expect_agent(&mut self, cx: &mut Context) {
        self.recover = true;
        if self.phase == Phase::Loading && !self.agent_expected {
            self.agent_expected = true;
            cx.agents.expected += 1;
        }
    }

    /// The journal has said so, or cannot at the moment: nobody else is to wait for that.
    pub(super) fn stop_expecting_agent(&mut self, cx: &mut Context) {
        if core::mem::take(&mut self.agent_expected) {
            cx.agents.expected -= 1;
            cx.deferred.push_back(DeferredAction::ServeWaitingChats);
        }
    }

    /// Takes up the agent that the chat had under an earlier gateway, whether or not there is a place, and tells it
    /// again what it may not have heard.
    pub(super) fn adopt_agent(
        &mut self,
        cx: &mut Context,
        agent: RecordedAgent,
        turn: Option<TurnId>,
        commands: Vec<AgentCommand>,
    ) {
        let instance = agent.instance;
        cx.agents.in_use += 1;
        cx.deferred.push_back(DeferredAction::ServeWaitingChats);
        self.slot = SlotState::Alive { instance, paused: false };
        self.adopted_for.clone_from(&turn);
        let (chat, session) = (self.key.clone(), self.session.clone());
        cx.output(Output::AdoptAgent { chat, agent, session, turn });
        for command in commands {
            cx.output(Output::Command { instance, command });
        }
    }

    pub(super) fn stage_changes(&mut self, cx: &mut Context, changes: impl IntoIterator<Item = Change>) {
        let mut draft = Draft::new();
        draft.changes.extend(changes);
        self.stage(cx, draft);
    }

    pub(super) fn stop_agent(&mut self, cx: &mut Context, kill: bool) {
        match self.slot {
            SlotState::Alive { instance, .. } => {
                let kill_at_ms = cx.now.ticks_ms + 2 * cx.limits.cancel_grace_ms;
                self.slot = SlotState::Stopping { instance, kill_at_ms, killed: kill };
                cx.agents.stopping += 1;
                cx.output(Output::StopAgent { instance, kill });
                // Nobody hears it any more, the next gateway included: what it still says is of a turn that is over.
                self.stage_changes(cx, [Change::AgentEnded { instance }]);
                self.withdraw_requests(cx);
                self.review_slot(cx);
            }
            SlotState::Reserved { .. } => self.release_slot(cx),
            SlotState::Stopping { instance, kill_at_ms, killed: false } if kill => {
                self.slot = SlotState::Stopping { instance, kill_at_ms, killed: true };
                cx.output(Output::StopAgent { instance, kill });
            }
            SlotState::Stopping { .. } | SlotState::Empty => {}
        }
    }

    pub(super) fn agent_exited(&mut self, cx: &mut Context, instance: AgentInstanceId, exit: AgentExit) {
        let (SlotState::Alive { instance: mine, .. } | SlotState::Stopping { instance: mine, .. }) =
            self.slot
        else {
            return;
        };
        if mine != instance || cx.leaving {
            return;
        }
        if matches!(exit, AgentExit::Unprompted(_)) {
            self.take_prompt_back();
        }
        let unprompted = self.active.as_ref().is_some_and(|active| !active.prompted);
        if unprompted && matches!(self.slot, SlotState::Alive { .. }) {
            // It went before it was told of the turn: another one will be.
            let instance = cx.next_instance();
            self.slot = SlotState::Reserved { instance, named: false };
            self.withdraw_requests(cx);
            self.stage_changes(cx, [Change::AgentStarted { instance }]);
            return;
        }
        let stopping = matches!(self.slot, SlotState::Stopping { .. });
        self.release_slot(cx);
        if self.ends_unlogged(cx, instance) {
            return;
        }
        if !stopping {
            self.stage_changes(cx, [Change::AgentEnded { instance }]);
        }
        self.withdraw_requests(cx);
        if let Some(active) = &self.active {
            let cancelling = active.cancel_by_ms.is_some();
            let (outcome, error) = match exit {
                _ if cancelling => (Outcome::Cancelled, None),
                AgentExit::StartFailed(error) => (Outcome::Failed, Some(error)),
                AgentExit::Gone(error) | AgentExit::Unprompted(error) => (Outcome::Interrupted, Some(error)),
                AgentExit::Stopped => (Outcome::Interrupted, Some(agent_stopped())),
            };
            self.end_turn(cx, outcome, error);
        }
        self.review_slot(cx);
        if !self.turns.is_empty() {
            // Behind those who may have waited for this very place.
            self.wait_for_slot(cx);
        }
        self.go_on_deleting(cx);
    }

    /// The agent that is gone has never had the prompt that this gateway sent it.
    fn take_prompt_back(&mut self) {
        let Some(turn) = self.turns.front() else { return };
        let Some(active) = self.active.as_mut().filter(|active| active.cancel_by_ms.is_none()) else {
            return;
        };
        if let Some(id) = active.prompt.take() {
            let (turn_id, text) = (turn.id.clone(), turn.text().into());
            active.prompted = false;
            active.undelivered = Some(AgentCommand::Prompt { id, turn_id, text });
        }
    }

    /// Whether records of this life count.
    pub(super) fn accepts_records_of(&self, instance: AgentInstanceId) -> bool {
        matches!(self.slot, SlotState::Alive { instance: mine, .. } if mine == instance)
    }

    /// Holds the agent while its readers or the journal are too far behind, and lets it go on after.
    pub(super) fn pause_or_resume(&mut self, cx: &mut Context) {
        let SlotState::Alive { instance, paused } = self.slot else { return };
        let behind = self.append_failed.is_some()
            || self.pending_bytes > cx.limits.pending_bytes
            || self.readers_far_behind(cx);
        if behind != paused {
            self.slot = SlotState::Alive { instance, paused: behind };
            cx.output(Output::PauseAgent { instance, paused: behind });
            if let Some(active) = self.active.as_mut().filter(|_| !behind) {
                active.progress(cx.now.ticks_ms);
            }
            self.rearm(cx);
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        matches!(self.slot, SlotState::Alive { paused: true, .. })
    }
}

fn agent_stopped() -> TurnError {
    TurnError {
        code: "agent_stopped".into(),
        detail: "the agent was stopped before its answer was complete".into(),
    }
}
