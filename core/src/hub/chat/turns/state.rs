//! The open turns of a chat, and the silence of the agent in them.

use alloc::{
    boxed::Box,
    collections::{BTreeSet, VecDeque},
    string::String,
    vec::Vec,
};

use super::{
    transition::{Ending, Transition, TurnInput, TurnState, transition},
    turn::{AgentTurn, Turn},
    work::{LeftOpen, StreamKind, ToolKey, Work},
};
use crate::{
    agent::{AgentCommand, StreamId},
    ids::TurnId,
    journal::{OpenAgentTurn, OpenTool, OpenTurn, OpenWork},
    limits::Limits,
    time::Moment,
    wire::{TurnError, TurnReason},
};

/// The open turns of a chat.
#[derive(Debug, Default)]
pub(in crate::hub::chat) struct Turns {
    /// The turns of people, in the order of their messages. Only the first one may have started.
    open: VecDeque<Turn>,
    /// The turn that the agent began by itself. While it is open, what the agent says belongs to it.
    agent_turn: Option<AgentTurn>,
    /// When the silence of the agent began: at its last progress, prompt or resume, when its own turn began or ended, or
    /// when its last request was closed.
    silent_since_ms: u64,
    /// The silence was reported to the readers.
    stalled: bool,
    work: Work,
}

/// Which open turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::hub::chat) enum Place {
    /// The turn that the agent began by itself.
    Agent,
    /// A person's turn, by its place in the queue: 0 is the first one.
    User(usize),
}

/// What came of an input to a turn.
#[derive(Debug)]
#[must_use]
pub(in crate::hub::chat) enum Applied {
    Unchanged,
    Changed,
    Ended(Box<EndedTurn>),
}

/// How long the agent of the started turn has been silent.
#[derive(Debug)]
pub(in crate::hub::chat) struct Silence {
    pub(in crate::hub::chat) silent_ms: u64,
    /// The turn is to be cancelled for it.
    pub(in crate::hub::chat) too_long: bool,
}

/// A turn that has just ended.
#[derive(Debug)]
pub(in crate::hub::chat) struct EndedTurn {
    pub(in crate::hub::chat) turn: Turn,
    pub(in crate::hub::chat) ending: Ending,
    pub(in crate::hub::chat) was_started: bool,
    /// The open streams and tool uses were the turn's.
    pub(in crate::hub::chat) has_work: bool,
}

impl Turns {
    /// Restores the turns that an earlier gateway process left, and what the agent had begun.
    pub(in crate::hub::chat) fn restore(
        &mut self,
        turns: Vec<OpenTurn>,
        agent_turn: Option<OpenAgentTurn>,
        work: OpenWork,
        now: Moment,
        limits: &Limits,
    ) {
        self.open = turns.into_iter().map(|open| Turn::restore(open, now, limits.cancel_grace_ms)).collect();
        self.agent_turn = agent_turn.map(|open| AgentTurn::restore(open, now, limits.cancel_grace_ms));
        self.silent_since_ms = now.ticks_ms;
        self.work = Work::restore(work);
    }

    /// Whether no turn is open, neither a person's nor the agent's.
    pub(in crate::hub::chat) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.agent_turn.is_none()
    }

    /// The number of people's turns that are open.
    pub(in crate::hub::chat) fn len(&self) -> usize {
        self.open.len()
    }

    /// The first of people's turns, which has started or starts next.
    pub(in crate::hub::chat) fn first(&self) -> Option<&Turn> {
        self.open.front()
    }

    pub(in crate::hub::chat) fn find(&self, id: &TurnId) -> Option<&Turn> {
        self.open.iter().find(|turn| turn.id == *id)
    }

    pub(in crate::hub::chat) fn place_of(&self, id: &TurnId) -> Option<Place> {
        if self.agent_turn() == Some(id) {
            return Some(Place::Agent);
        }
        self.open.iter().position(|turn| turn.id == *id).map(Place::User)
    }

    /// The turn that the agent began by itself.
    pub(in crate::hub::chat) fn agent_turn(&self) -> Option<&TurnId> {
        self.agent_turn.as_ref().map(|agent_turn| agent_turn.turn.id())
    }

    /// The turn that what the agent says belongs to: its own one, or that whose prompt it was sent.
    pub(in crate::hub::chat) fn current(&self) -> Option<&TurnId> {
        self.agent_turn().or_else(|| self.prompted())
    }

    /// The started turn of a person.
    pub(in crate::hub::chat) fn started(&self) -> Option<&TurnId> {
        self.open.front().filter(|turn| turn.is_started()).map(Turn::id)
    }

    /// A turn that runs, and when it started, in milliseconds of Unix time: the agent's own one, or else that of a person.
    pub(in crate::hub::chat) fn running(&self) -> Option<(&TurnId, u64)> {
        let of_agent = self.agent_turn.as_ref().map(|agent_turn| &agent_turn.turn);
        let turn = of_agent.or_else(|| self.open.front().filter(|turn| turn.is_started()))?;
        Some((&turn.id, turn.started_at_ms))
    }

    /// The turn whose prompt the agent was sent.
    pub(in crate::hub::chat) fn prompted(&self) -> Option<&TurnId> {
        let first = self.open.front()?;
        match first.state {
            TurnState::Running { .. } | TurnState::Cancelling { .. } => Some(&first.id),
            TurnState::Queued | TurnState::Starting { .. } => None,
        }
    }

    /// The prompt that waits until the journal has the agent's `AgentStarted`.
    pub(in crate::hub::chat) fn undelivered(&self) -> Option<&AgentCommand> {
        match &self.open.front()?.state {
            TurnState::Starting { undelivered } => undelivered.as_ref(),
            TurnState::Queued | TurnState::Running { .. } | TurnState::Cancelling { .. } => None,
        }
    }

    /// When the agent of a turn that is being cancelled is killed.
    pub(in crate::hub::chat) fn kill_due_ms(&self) -> Option<u64> {
        let agent_turn = self.agent_turn.as_ref().map(|agent_turn| &agent_turn.turn);
        agent_turn.into_iter().chain(self.open.front()).filter_map(Turn::kill_due_ms).min()
    }

    /// Whether the started turn of a person is being cancelled.
    pub(in crate::hub::chat) fn is_cancelling(&self) -> bool {
        self.open.front().and_then(Turn::kill_due_ms).is_some()
    }

    /// Why the gateway itself cancels the started turn; none if a client does.
    pub(in crate::hub::chat) fn cancel_reason(&self) -> Option<&TurnError> {
        match &self.open.front()?.state {
            TurnState::Cancelling { reason, .. } => reason.as_ref(),
            TurnState::Queued | TurnState::Starting { .. } | TurnState::Running { .. } => None,
        }
    }

    pub(in crate::hub::chat) fn push(&mut self, turn: Turn) {
        self.open.push_back(turn);
    }

    /// Removes a turn whose message the journal refused. Nothing is logged of it.
    pub(in crate::hub::chat) fn remove(&mut self, id: &TurnId) {
        self.open.retain(|turn| turn.id != *id);
    }

    /// The `user_message` of a turn has this sequence number from now on.
    pub(in crate::hub::chat) fn renumber(&mut self, id: &TurnId, seq: u64) {
        if let Some(turn) = self.open.iter_mut().find(|turn| turn.id == *id) {
            turn.seq = seq;
        }
    }

    /// The epoch was reset: all messages are in an earlier epoch.
    pub(in crate::hub::chat) fn forget_numbers(&mut self) {
        self.open.iter_mut().for_each(|turn| turn.seq = 0);
    }

    /// Begins a turn of the agent's. None may be open. `is_implied`: the agent did not say that it begins a turn.
    pub(in crate::hub::chat) fn begin_agent_turn(
        &mut self,
        id: TurnId,
        reason: TurnReason,
        is_implied: bool,
        now: Moment,
    ) {
        let turn = Turn::of_agent(id, now.unix_ms, now);
        self.agent_turn = Some(AgentTurn { turn, reason, is_implied });
        self.silent_since_ms = now.ticks_ms;
        self.stalled = false;
    }

    /// The agent says that it has begun its open turn. Returns whether that was not known.
    pub(in crate::hub::chat) fn announce_agent_turn(&mut self) -> bool {
        self.agent_turn.as_mut().is_some_and(|open| core::mem::take(&mut open.is_implied))
    }

    /// Whether the agent's turn is one of which the agent did not say that it begins.
    pub(in crate::hub::chat) fn is_agent_turn_implied(&self) -> bool {
        self.agent_turn.as_ref().is_some_and(|agent_turn| agent_turn.is_implied)
    }

    /// The agent's turn for the journal.
    pub(in crate::hub::chat) fn agent_turn_record(&self) -> Option<OpenAgentTurn> {
        let AgentTurn { turn, reason, is_implied } = self.agent_turn.as_ref()?;
        let mut open = OpenAgentTurn::new(turn.id.clone(), *reason, turn.started_at_ms);
        open.is_implied = *is_implied;
        if let TurnState::Cancelling { reason, .. } = &turn.state {
            open.cancel_requested = true;
            open.cancel_reason.clone_from(reason);
        }
        Some(open)
    }

    /// Starts the first turn of a person.
    pub(in crate::hub::chat) fn start(&mut self, now: Moment) {
        if let Some(first) = self.open.front_mut() {
            first.started_at_ms = now.unix_ms;
        }
        self.apply(now.ticks_ms, TurnInput::Start);
    }

    /// Gives the first turn of a person an input that does not end it.
    pub(in crate::hub::chat) fn apply(&mut self, now_ms: u64, input: TurnInput) {
        let applied = self.apply_to(Place::User(0), now_ms, input);
        debug_assert!(!matches!(applied, Applied::Ended(_)), "the end of a turn is logged");
    }

    /// Gives an input to a turn.
    pub(in crate::hub::chat) fn apply_to(&mut self, place: Place, now_ms: u64, input: TurnInput) -> Applied {
        let turn = match place {
            Place::Agent => self.agent_turn.as_mut().map(|agent_turn| &mut agent_turn.turn),
            Place::User(place) => self.open.get_mut(place),
        };
        let Some(turn) = turn else { return Applied::Unchanged };
        let was_started = turn.is_started();
        match transition(core::mem::replace(&mut turn.state, TurnState::Queued), input) {
            Transition::Unchanged(state) => {
                turn.state = state;
                Applied::Unchanged
            }
            Transition::To(state) => {
                turn.state = state;
                if !was_started && self.agent_turn.is_none() {
                    self.silent_since_ms = now_ms;
                    self.stalled = false;
                }
                Applied::Changed
            }
            Transition::Ended(ending) => {
                // While the agent's turn is open, all open work belongs to it, but for that of background tasks.
                let has_work = was_started && (place == Place::Agent || self.agent_turn.is_none());
                let turn = match place {
                    Place::Agent => self.agent_turn.take().map(|agent_turn| agent_turn.turn),
                    Place::User(place) => self.open.remove(place),
                };
                let Some(turn) = turn else { return Applied::Unchanged };
                if place == Place::Agent {
                    // The clock of silence starts anew for the turn whose prompt waited.
                    self.silent_since_ms = now_ms;
                    self.stalled = false;
                }
                Applied::Ended(Box::new(EndedTurn { turn, ending, was_started, has_work }))
            }
        }
    }
}

/// The clock of silence: of the agent's own turn, or of the started turn of a person.
impl Turns {
    /// Restarts the clock: the agent made progress, or its request was closed.
    pub(in crate::hub::chat) fn progress(&mut self, now_ms: u64) {
        if self.agent_turn.is_some() || self.started().is_some() {
            self.silent_since_ms = now_ms;
            self.stalled = false;
        }
    }

    /// When the silence is to be reported, or is too long. `None` unless the agent answers a turn.
    pub(in crate::hub::chat) fn silence_due_ms(&self, limits: &Limits) -> Option<u64> {
        let agent_turn = self.agent_turn.as_ref().map(|agent_turn| &agent_turn.turn);
        if !matches!(agent_turn.or(self.open.front())?.state, TurnState::Running { .. }) {
            return None;
        }
        let longest = self.longest_silence_ms(limits);
        let after = if self.stalled { longest } else { limits.stalled_after_ms.min(longest) };
        Some(self.silent_since_ms + after)
    }

    /// The silence of the agent until now. If it is not too long, it counts as reported.
    pub(in crate::hub::chat) fn note_silence(&mut self, now_ms: u64, limits: &Limits) -> Silence {
        let silent_ms = now_ms - self.silent_since_ms;
        let too_long = silent_ms >= self.longest_silence_ms(limits);
        self.stalled |= !too_long;
        Silence { silent_ms, too_long }
    }

    fn longest_silence_ms(&self, limits: &Limits) -> u64 {
        if self.work.has_tools() { limits.silent_tool_ms } else { limits.silent_turn_ms }
    }
}

/// The agent's open streams and tool uses.
impl Turns {
    /// A piece of a stream came. The first piece opens the stream.
    pub(in crate::hub::chat) fn open_stream(
        &mut self,
        id: &StreamId,
        kind: StreamKind,
        parent_call_id: Option<&String>,
        spooled: bool,
    ) {
        self.work.open_stream(id, kind, parent_call_id, spooled);
    }

    /// Whether pieces of an open stream may have been shown that the journal does not have.
    pub(in crate::hub::chat) fn has_spooled_streams(&self) -> bool {
        self.work.has_spooled()
    }

    pub(in crate::hub::chat) fn close_stream(&mut self, stream: &StreamId) {
        self.work.close_stream(stream);
    }

    pub(in crate::hub::chat) fn open_tool(&mut self, tool: OpenTool) {
        self.work.open_tool(tool);
    }

    pub(in crate::hub::chat) fn close_tool(&mut self, call_id: &str, parent_call_id: Option<&String>) {
        self.work.close_tool(call_id, parent_call_id);
    }

    /// Whether a tool use is open.
    pub(in crate::hub::chat) fn has_tools(&self) -> bool {
        self.work.has_tools()
    }

    pub(in crate::hub::chat) fn has_tool(&self, call_id: &str) -> bool {
        self.work.has_tool(call_id)
    }

    /// The number of streams and tool uses that the agent has begun and not ended.
    pub(in crate::hub::chat) fn open_work(&self) -> usize {
        self.work.len()
    }

    /// The open streams and tool uses, if they changed since the last call and so have to be appended.
    pub(in crate::hub::chat) fn changed_work(&mut self) -> Option<OpenWork> {
        self.work.take_changed()
    }

    /// The journal may have lost the open work, so it is appended again.
    pub(in crate::hub::chat) fn append_work_again(&mut self) {
        self.work.append_again();
    }

    /// Takes out all streams, and the tool uses that are not in `kept`.
    pub(in crate::hub::chat) fn leave_work(&mut self, kept: &BTreeSet<ToolKey>) -> LeftOpen {
        self.work.leave(kept)
    }

    /// Takes out these tool uses.
    pub(in crate::hub::chat) fn leave_tools(&mut self, left: &BTreeSet<ToolKey>) -> LeftOpen {
        self.work.leave_tools(left)
    }

    /// The open tool uses of subagents that these tool uses run, and of the subagents that those run in turn.
    pub(in crate::hub::chat) fn tools_below(&self, parents: BTreeSet<String>) -> BTreeSet<ToolKey> {
        self.work.tools_below(parents)
    }
}
