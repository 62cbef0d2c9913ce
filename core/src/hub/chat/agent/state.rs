//! The agent of a chat: its slot, its instance, how far its records are in the log, and its commands.

use alloc::{string::String, vec::Vec};

use bytes::Bytes;

use crate::{
    agent::{AgentCommand, AgentInstanceId, CommandId},
    hub::{
        context::{Context, DeferredAction},
        io::{ChatRef, Output},
    },
    ids::{ChatKey, TurnId},
    journal::{Change, ChatRecord, RecordedAgent},
    limits::Limits,
};

/// The state of a chat's agent slot. All states but `Empty` count as in use in the agent pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::hub::chat) enum SlotState {
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

/// What an agent has to do.
#[derive(Debug, Clone, Copy)]
pub(in crate::hub::chat) struct AgentWork {
    /// Turns of people are open.
    pub(in crate::hub::chat) turns_of_people: bool,
    /// A turn that the agent began by itself is open.
    pub(in crate::hub::chat) agent_turn: bool,
    /// The agent has background tasks.
    pub(in crate::hub::chat) tasks: bool,
}

/// How far the records of an agent instance are in the journal.
#[derive(Debug)]
struct Received {
    instance: AgentInstanceId,
    /// The position after the last record.
    position: u64,
    /// The decoder's newest checkpoint.
    checkpoint: Option<Bytes>,
}

/// The agent of one chat.
#[derive(Debug)]
pub(in crate::hub::chat) struct Agent {
    chat: ChatRef,
    state: SlotState,
    /// The agent's own id for the conversation.
    session: Option<String>,
    /// The id of the last command to an agent of this chat.
    last_command: u64,
    received: Option<Received>,
    /// The chat's waiting number in the pool, while it waits for a slot.
    waiting_number: Option<u64>,
    /// Since when the agent has been without a turn and without background tasks, on the clock of `Moment::ticks_ms`.
    idle_since_ms: Option<u64>,
    /// When a person last did something, on the clock of `Moment::ticks_ms`, while an agent runs and no turn of a person
    /// is open. What the agent does by itself does not change it.
    unattended_since_ms: Option<u64>,
    /// Whether the agent has background tasks and no turn.
    in_background: bool,
    /// A slot is reserved for the agent that the chat may have from an earlier gateway process.
    expected: bool,
    /// The person's turn for which the agent of an earlier gateway process was adopted: the agent may have got the turn's
    /// prompt from that process.
    adopted_for: Option<TurnId>,
}

impl Agent {
    pub(in crate::hub::chat) fn new(chat: ChatRef) -> Self {
        Self {
            chat,
            state: SlotState::Empty,
            session: None,
            last_command: 0,
            received: None,
            waiting_number: None,
            idle_since_ms: None,
            unattended_since_ms: None,
            in_background: false,
            expected: false,
            adopted_for: None,
        }
    }

    /// Restores what the journal has of the chat's agent, but for the agent itself: see [`adopt`](Self::adopt).
    pub(in crate::hub::chat) fn restore(&mut self, record: &ChatRecord) {
        let received = record.agent.clone();
        self.received = received.map(|RecordedAgent { instance, position, checkpoint }| Received {
            instance,
            position,
            checkpoint,
        });
        self.session.clone_from(&record.session);
        self.last_command = record.last_command;
    }

    pub(in crate::hub::chat) fn state(&self) -> SlotState {
        self.state
    }

    pub(in crate::hub::chat) fn is_gone(&self) -> bool {
        matches!(self.state, SlotState::Empty)
    }

    pub(in crate::hub::chat) fn is_alive(&self) -> bool {
        matches!(self.state, SlotState::Alive { .. })
    }

    pub(in crate::hub::chat) fn is_stopping(&self) -> bool {
        matches!(self.state, SlotState::Stopping { .. })
    }

    pub(in crate::hub::chat) fn is_paused(&self) -> bool {
        matches!(self.state, SlotState::Alive { paused: true, .. })
    }

    /// Whether this instance is the chat's live agent. Records of other instances are dropped.
    pub(in crate::hub::chat) fn accepts_records_of(&self, instance: AgentInstanceId) -> bool {
        matches!(self.state, SlotState::Alive { instance: mine, .. } if mine == instance)
    }

    /// Whether the agent was adopted, for this turn.
    pub(in crate::hub::chat) fn is_adopted_for(&self, turn_id: Option<&TurnId>) -> bool {
        self.adopted_for.is_some() && self.adopted_for.as_ref() == turn_id
    }

    /// The agent's own id for the conversation.
    pub(in crate::hub::chat) fn session(&self) -> Option<&String> {
        self.session.as_ref()
    }

    /// The agent told its own id for the conversation. Returns the change, if it is another one.
    pub(in crate::hub::chat) fn set_session(&mut self, token: String) -> Option<Change> {
        if self.session.as_ref() == Some(&token) {
            return None;
        }
        self.session = Some(token.clone());
        Some(Change::Session { token })
    }

    pub(in crate::hub::chat) fn next_command(&mut self) -> CommandId {
        self.last_command += 1;
        CommandId(self.last_command)
    }

    /// Takes a slot for the chat's agent. `false`: no slot is free, and the chat waits for one.
    pub(in crate::hub::chat) fn acquire_slot(&mut self, cx: &mut Context) -> bool {
        match self.state {
            SlotState::Reserved { .. } | SlotState::Alive { .. } => true,
            // When the agent exits, the chat starts to wait for a slot.
            SlotState::Stopping { .. } => false,
            SlotState::Empty if cx.agents.acquire(cx.limits.agents) => {
                self.stop_waiting(cx);
                self.state = SlotState::Reserved { instance: cx.next_instance(), named: false };
                true
            }
            SlotState::Empty => {
                self.wait_for_slot(cx);
                false
            }
        }
    }

    pub(in crate::hub::chat) fn wait_for_slot(&mut self, cx: &mut Context) {
        if self.waiting_number.is_none() {
            self.waiting_number = Some(cx.agents.wait(self.chat));
        }
        cx.defer(DeferredAction::ServeWaitingChats);
    }

    fn stop_waiting(&mut self, cx: &mut Context) {
        if let Some(number) = self.waiting_number.take() {
            cx.agents.stop_waiting(number);
        }
    }

    /// The pool offers the chat a slot, so the chat does not wait any more.
    pub(in crate::hub::chat) fn slot_offered(&mut self) {
        self.waiting_number = None;
    }

    /// Frees the chat's slot: the agent has exited, or a reserved slot is not needed.
    pub(in crate::hub::chat) fn release_slot(&mut self, cx: &mut Context) {
        cx.agents.release(matches!(self.state, SlotState::Stopping { .. }));
        self.state = SlotState::Empty;
        self.adopted_for = None;
        cx.defer(DeferredAction::ServeWaitingChats);
        cx.defer(DeferredAction::Settle(self.chat));
    }

    /// Releases a reserved slot that no turn needs any more, and marks the agent as idle or busy. Called after each
    /// change of the turns or the agent.
    pub(in crate::hub::chat) fn review_slot(&mut self, cx: &mut Context, work: AgentWork) {
        let is_alive = self.is_alive();
        let now_ms = cx.now.ticks_ms;
        let has_turns = work.turns_of_people || work.agent_turn;
        self.in_background = is_alive && !has_turns && work.tasks;
        let unattended = is_alive && !work.turns_of_people;
        self.unattended_since_ms = unattended.then(|| self.unattended_since_ms.unwrap_or(now_ms));
        if !has_turns {
            self.stop_waiting(cx);
            if matches!(self.state, SlotState::Reserved { .. }) {
                self.release_slot(cx);
            }
        }
        let idle = is_alive && !has_turns && !work.tasks;
        match self.idle_since_ms {
            None if idle => {
                self.idle_since_ms = Some(cx.now.ticks_ms);
                cx.agents.idle(cx.now.ticks_ms, self.chat);
                cx.defer(DeferredAction::ServeWaitingChats);
            }
            Some(since_ms) if !idle => {
                self.idle_since_ms = None;
                cx.agents.busy(since_ms, self.chat);
            }
            Some(_) | None => {}
        }
    }

    /// Notes that a person answered the agent or stopped a turn of its own.
    pub(in crate::hub::chat) fn person_acted(&mut self, now_ms: u64) {
        self.unattended_since_ms = self.unattended_since_ms.map(|_| now_ms);
    }

    /// When an agent that has background tasks and no turn is stopped. A turn of its own is not cut off, and does not
    /// extend the time.
    pub(in crate::hub::chat) fn background_due_ms(&self, limits: &Limits) -> Option<u64> {
        let since_ms = self.unattended_since_ms.filter(|_| self.in_background)?;
        Some(since_ms + limits.background_ms)
    }

    /// When an agent without a turn is stopped.
    pub(in crate::hub::chat) fn idle_due_ms(&self, limits: &Limits) -> Option<u64> {
        Some(self.idle_since_ms? + limits.agent_idle_ms)
    }

    /// When an agent that was asked to stop is killed.
    pub(in crate::hub::chat) fn kill_due_ms(&self) -> Option<u64> {
        match self.state {
            SlotState::Stopping { kill_at_ms, killed: false, .. } => Some(kill_at_ms),
            SlotState::Stopping { .. }
            | SlotState::Empty
            | SlotState::Reserved { .. }
            | SlotState::Alive { .. } => None,
        }
    }

    /// Starts the reserved agent. `false`: the journal must name it first, so that after a crash the next gateway
    /// process can adopt it.
    pub(in crate::hub::chat) fn start(&mut self, cx: &mut Context, key: &ChatKey) -> bool {
        match self.state {
            SlotState::Reserved { named: false, .. } => false,
            SlotState::Reserved { instance, named: true } => {
                self.state = SlotState::Alive { instance, paused: false };
                let session = self.session.clone();
                cx.output(Output::StartAgent { chat: key.clone(), instance, session });
                true
            }
            SlotState::Alive { .. } | SlotState::Stopping { .. } | SlotState::Empty => true,
        }
    }

    /// The change that names the reserved agent in the journal.
    pub(in crate::hub::chat) fn naming(&self) -> Option<Change> {
        match self.state {
            SlotState::Reserved { instance, .. } => Some(Change::AgentStarted { instance }),
            SlotState::Empty | SlotState::Alive { .. } | SlotState::Stopping { .. } => None,
        }
    }

    /// The journal has these changes. Returns whether they name the reserved agent.
    pub(in crate::hub::chat) fn note_named(&mut self, changes: &[Change]) -> bool {
        let SlotState::Reserved { instance, named: false } = self.state else { return false };
        let named = changes.contains(&Change::AgentStarted { instance });
        self.state = SlotState::Reserved { instance, named };
        named
    }

    /// Remembers the agent's position and checkpoint in the journal, to append them again should the journal lose them.
    pub(in crate::hub::chat) fn note_received(&mut self, changes: &[Change]) {
        for change in changes {
            if let Change::AgentPosition { instance, position, checkpoint } = change {
                let (instance, position) = (*instance, *position);
                let earlier = self.received.take().filter(|received| received.instance == instance);
                let checkpoint = checkpoint.clone().or(earlier.and_then(|earlier| earlier.checkpoint));
                self.received = Some(Received { instance, position, checkpoint });
            }
        }
    }

    /// Sends the live agent a command.
    pub(in crate::hub::chat) fn send(&self, cx: &mut Context, command: AgentCommand) {
        if let SlotState::Alive { instance, .. } = self.state {
            cx.output(Output::Command { instance, command });
        }
    }

    /// Reserves a slot until the journal says whether the chat has an agent from an earlier gateway process.
    pub(in crate::hub::chat) fn expect(&mut self, cx: &mut Context) {
        if !self.expected {
            self.expected = true;
            cx.agents.expect();
        }
    }

    /// The journal has answered or failed: frees the slot that [`expect`](Self::expect) reserved.
    pub(in crate::hub::chat) fn stop_expecting(&mut self, cx: &mut Context) {
        if core::mem::take(&mut self.expected) {
            cx.agents.stop_expecting();
            cx.defer(DeferredAction::ServeWaitingChats);
        }
    }

    /// Adopts the agent that an earlier gateway process started for the chat, even if no slot is free, and sends it
    /// the commands again that it may not have received.
    pub(in crate::hub::chat) fn adopt(
        &mut self,
        cx: &mut Context,
        key: &ChatKey,
        agent: RecordedAgent,
        turn: Option<TurnId>,
        commands: Vec<AgentCommand>,
    ) {
        let instance = agent.instance;
        cx.agents.acquire_over_limit();
        cx.defer(DeferredAction::ServeWaitingChats);
        self.state = SlotState::Alive { instance, paused: false };
        self.adopted_for.clone_from(&turn);
        let (chat, session) = (key.clone(), self.session.clone());
        cx.output(Output::AdoptAgent { chat, agent, session, turn });
        for command in commands {
            cx.output(Output::Command { instance, command });
        }
    }

    /// Leaves the agent to the chat's next owner, and gives up what the chat has of the pool.
    pub(in crate::hub::chat) fn leave(&mut self, cx: &mut Context) {
        self.stop_expecting(cx);
        self.stop_waiting(cx);
        if let Some(since_ms) = self.idle_since_ms.take() {
            cx.agents.busy(since_ms, self.chat);
        }
        match self.state {
            SlotState::Empty => return,
            SlotState::Reserved { .. } => {}
            SlotState::Alive { instance, .. } | SlotState::Stopping { instance, .. } => {
                cx.output(Output::LeaveAgent { instance });
            }
        }
        self.release_slot(cx);
    }

    /// Asks the agent to exit, or kills it. A reserved slot is freed. Returns the instance that is stopping from now on;
    /// none if no agent ran, or if it was stopping already.
    pub(in crate::hub::chat) fn stop(&mut self, cx: &mut Context, kill: bool) -> Option<AgentInstanceId> {
        match self.state {
            SlotState::Alive { instance, .. } => {
                let kill_at_ms = cx.now.ticks_ms + 2 * cx.limits.cancel_grace_ms;
                self.state = SlotState::Stopping { instance, kill_at_ms, killed: kill };
                cx.agents.stopping();
                cx.output(Output::StopAgent { instance, kill });
                Some(instance)
            }
            SlotState::Reserved { .. } => {
                self.release_slot(cx);
                None
            }
            SlotState::Stopping { instance, kill_at_ms, killed: false } if kill => {
                self.state = SlotState::Stopping { instance, kill_at_ms, killed: true };
                cx.output(Output::StopAgent { instance, kill });
                None
            }
            SlotState::Stopping { .. } | SlotState::Empty => None,
        }
    }

    /// The agent exited before it got a prompt: the slot is for a new instance. Returns the change that names it.
    pub(in crate::hub::chat) fn replace(&mut self, cx: &mut Context) -> Change {
        let instance = cx.next_instance();
        self.state = SlotState::Reserved { instance, named: false };
        Change::AgentStarted { instance }
    }

    /// Pauses the agent, or resumes it. Returns whether that is a change.
    pub(in crate::hub::chat) fn pause(&mut self, cx: &mut Context, pause: bool) -> bool {
        let SlotState::Alive { instance, paused } = self.state else { return false };
        if paused == pause {
            return false;
        }
        self.state = SlotState::Alive { instance, paused: pause };
        cx.output(Output::PauseAgent { instance, paused: pause });
        true
    }

    /// The changes that bring the journal up to date about the chat's agent and its position. `known`: the agent that
    /// the journal has.
    pub(in crate::hub::chat) fn changes_since(&self, known: Option<&RecordedAgent>) -> Vec<Change> {
        let mut changes = Vec::new();
        match (self.state, known) {
            (SlotState::Alive { instance, .. }, known) => {
                let known = known.filter(|known| known.instance == instance);
                if known.is_none() {
                    changes.push(Change::AgentStarted { instance });
                }
                let received = self.received.as_ref().filter(|received| received.instance == instance);
                if let Some(Received { position, checkpoint, .. }) = received
                    && known.is_none_or(|known| known.position < *position)
                {
                    let (position, checkpoint) = (*position, checkpoint.clone());
                    changes.push(Change::AgentPosition { instance, position, checkpoint });
                }
            }
            (SlotState::Empty | SlotState::Stopping { .. }, Some(known)) => {
                changes.push(Change::AgentEnded { instance: known.instance });
            }
            (SlotState::Empty | SlotState::Stopping { .. }, None) | (SlotState::Reserved { .. }, _) => {}
        }
        changes
    }
}
