//! A chat's agent: its slot in the process's agent pool, its start and end, its commands, and when it is paused.

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

/// The state of a chat's agent slot. All states but `Empty` count as in use in the [`AgentPool`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SlotState {
    Empty,
    /// The slot is in use. The agent starts with its first prompt, once the journal has `AgentStarted` (`named`).
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

/// The process's agent slots. A chat uses a slot from its reservation until the agent exits. Adopted agents can exceed
/// the limit: then idle agents are stopped, and no new agent starts before the number is below the limit again.
#[derive(Debug, Default)]
pub(super) struct AgentPool {
    /// Slots in use, those of stopping agents included.
    pub(super) in_use: usize,
    /// Slots reserved for chats with open turns from an earlier gateway process, until the journal says whether they
    /// have an agent.
    expected: usize,
    /// How many of the slots `in_use` belong to agents that are stopping and so will be free soon.
    stopping: usize,
    /// Chats whose agent has no turn, with the time in milliseconds since when, longest idle first.
    idle: BTreeSet<(u64, ChatRef)>,
    /// Chats with a turn but no slot, by their waiting number, first come first served.
    waiting: BTreeMap<u64, ChatRef>,
    last_waiter: u64,
}

impl AgentPool {
    fn have_room(&self, limit: usize) -> bool {
        self.in_use + self.expected < limit
    }

    /// Whether more agents must stop: the slots in use and the waiting chats exceed the limit, even when all stopping
    /// agents are gone.
    fn are_too_few(&self, limit: usize) -> bool {
        self.in_use + self.waiting.len() > limit + self.stopping
    }
}

impl Hub {
    /// Gives free slots to the chats that have waited longest, and stops idle agents to free slots for the others.
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
    /// Takes a slot for this chat's agent. `false`: no slot is free, and the chat waits for one.
    pub(super) fn acquire_slot(&mut self, cx: &mut Context) -> bool {
        match self.slot {
            SlotState::Reserved { .. } | SlotState::Alive { .. } => true,
            // When the agent exits, the chat starts to wait for a slot.
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

    /// Frees the chat's slot: the agent has exited, or a reserved slot is not needed.
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

    /// Releases a reserved slot that no turn needs any more, and marks the agent as idle or busy. Called after each
    /// change of the turns or the agent.
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

    /// Sends the agent a command that the journal has. A prompt first starts the agent if none is running.
    pub(super) fn send_command(&mut self, cx: &mut Context, command: AgentCommand) {
        if let AgentCommand::Prompt { turn_id, .. } = &command {
            if self.active_turn_id().as_ref() != Some(turn_id) {
                return;
            }
            if let SlotState::Reserved { instance, named } = self.slot {
                if !named {
                    // The journal must name the agent before it starts, so that after a crash the next gateway
                    // process can adopt it.
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

    /// The journal has these changes. If they name the reserved agent, sends the prompt that waited for this.
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

    /// The chat has open turns from an earlier gateway process. Reserves a slot until the journal says whether the chat
    /// has an agent.
    pub(super) fn expect_agent(&mut self, cx: &mut Context) {
        self.recover = true;
        if self.phase == Phase::Loading && !self.agent_expected {
            self.agent_expected = true;
            cx.agents.expected += 1;
        }
    }

    /// The journal has answered or failed: frees the slot that [`expect_agent`](Self::expect_agent) reserved.
    pub(super) fn stop_expecting_agent(&mut self, cx: &mut Context) {
        if core::mem::take(&mut self.agent_expected) {
            cx.agents.expected -= 1;
            cx.deferred.push_back(DeferredAction::ServeWaitingChats);
        }
    }

    /// Adopts the agent that an earlier gateway process started for the chat, even if no slot is free, and sends it
    /// the commands again that it may not have received.
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

    /// Appends changes without events.
    pub(super) fn stage_changes(&mut self, cx: &mut Context, changes: impl IntoIterator<Item = Change>) {
        let mut draft = Draft::new();
        draft.changes.extend(changes);
        self.stage(cx, draft);
    }

    /// Asks the agent to exit, or kills it, and withdraws its requests. A reserved slot is freed.
    pub(super) fn stop_agent(&mut self, cx: &mut Context, kill: bool) {
        match self.slot {
            SlotState::Alive { instance, .. } => {
                let kill_at_ms = cx.now.ticks_ms + 2 * cx.limits.cancel_grace_ms;
                self.slot = SlotState::Stopping { instance, kill_at_ms, killed: kill };
                cx.agents.stopping += 1;
                cx.output(Output::StopAgent { instance, kill });
                // Its further records belong to a turn that is over. `AgentEnded` keeps the next gateway process from
                // adopting it and reading them.
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

    /// The agent exited: ends the turn, unless the agent never got the prompt, and frees the slot.
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
            // The agent exited before it got the prompt: a new instance gets it.
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
            // The chat waits behind the chats that have waited for this slot.
            self.wait_for_slot(cx);
        }
        self.go_on_deleting(cx);
    }

    /// The agent exited without taking the prompt that this gateway process sent: the prompt becomes undelivered.
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

    /// Whether this instance is the chat's live agent. Records of other instances are dropped.
    pub(super) fn accepts_records_of(&self, instance: AgentInstanceId) -> bool {
        matches!(self.slot, SlotState::Alive { instance: mine, .. } if mine == instance)
    }

    /// Pauses the agent while all readers, or the journal, are too far behind, and resumes it afterwards.
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
