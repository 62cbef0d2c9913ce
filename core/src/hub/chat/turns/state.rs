//! The open turns of a chat, and the silence of the started turn's agent.

use alloc::{boxed::Box, collections::VecDeque, string::String, vec::Vec};

use serde::Deserialize;

use super::{
    transition::{Ending, Transition, TurnInput, TurnState, transition},
    work::{StreamKind, Work},
};
use crate::{
    agent::{AgentCommand, StreamId},
    ids::{Cursor, Epoch, TurnId},
    journal::{OpenTool, OpenTurn, OpenWork, TurnRecord},
    limits::Limits,
    time::Moment,
    wire::{ChatBody, Frame, GoalState, TurnError, TurnOrigin},
};

/// The open turns of a chat.
#[derive(Debug, Default)]
pub(in crate::hub::chat) struct Turns {
    /// In the order of their messages. Only the first one may have started.
    open: VecDeque<Turn>,
    /// When the silence of the started turn's agent began: at its last progress, prompt or resume, or when its last
    /// request was closed.
    silent_since_ms: u64,
    /// The silence was reported to the readers.
    stalled: bool,
    work: Work,
}

/// An open turn.
#[derive(Debug)]
pub(in crate::hub::chat) struct Turn {
    id: TurnId,
    state: TurnState,
    text: String,
    hash: [u8; 32],
    /// The sequence number of its `user_message`; 0 if that event is in an earlier epoch.
    seq: u64,
    starts_turn: bool,
    /// When this gateway process accepted the turn, or restored it from the journal, on the clock of ticks.
    accepted_at_ms: u64,
    /// The turn's age at `accepted_at_ms`, in milliseconds; 0 unless it was restored.
    age_ms: u64,
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
    /// The events that close the streams that the agent has left open.
    pub(in crate::hub::chat) stream_ends: Vec<ChatBody>,
}

impl Turn {
    pub(in crate::hub::chat) fn new(
        id: TurnId,
        text: String,
        hash: [u8; 32],
        seq: u64,
        starts_turn: bool,
        now: Moment,
    ) -> Self {
        let state = TurnState::Queued;
        Self { id, state, text, hash, seq, starts_turn, accepted_at_ms: now.ticks_ms, age_ms: 0 }
    }

    /// Restores a turn that an earlier gateway process accepted. If the system clock was set back since, its age is 0.
    fn restore(open: OpenTurn, now: Moment, cancel_grace_ms: u64) -> Self {
        let state = match open.started_at_ms {
            None => TurnState::Queued,
            Some(_) if open.cancel_requested => TurnState::Cancelling {
                kill_at_ms: now.ticks_ms + cancel_grace_ms,
                reason: open.cancel_reason,
            },
            Some(_) => TurnState::Running { prompt: None },
        };
        let starts_turn = starts_turn(&open.frame);
        let mut turn = Self::new(open.turn_id, open.text, open.hash, open.seq, starts_turn, now);
        turn.state = state;
        turn.age_ms = now.unix_ms.saturating_sub(open.accepted_at_ms);
        turn
    }

    pub(in crate::hub::chat) fn id(&self) -> &TurnId {
        &self.id
    }

    pub(in crate::hub::chat) fn text(&self) -> &str {
        &self.text
    }

    /// What is known of the turn's message in the current epoch; none if the message is in an earlier one.
    pub(in crate::hub::chat) fn record(&self, epoch: &Epoch) -> Option<TurnRecord> {
        let place = Cursor { epoch: epoch.clone(), seq: self.seq };
        let record = TurnRecord { hash: self.hash, place, starts_turn: self.starts_turn };
        (self.seq > 0).then_some(record)
    }

    fn is_started(&self) -> bool {
        !matches!(self.state, TurnState::Queued)
    }

    /// The turn's `turn_end`.
    pub(in crate::hub::chat) fn end(
        &self,
        now: Moment,
        ending: Ending,
        goal_state: Option<GoalState>,
    ) -> ChatBody {
        ChatBody::TurnEnd {
            origin: TurnOrigin::User,
            outcome: ending.outcome,
            latency_ms: self.age_ms + now.ticks_ms.saturating_sub(self.accepted_at_ms),
            usage: ending.usage,
            cost: ending.cost,
            error: ending.error,
            goal_state,
        }
    }
}

impl Turns {
    /// Restores the turns that an earlier gateway process left, and what the agent had begun.
    pub(in crate::hub::chat) fn restore(
        &mut self,
        turns: Vec<OpenTurn>,
        work: OpenWork,
        now: Moment,
        limits: &Limits,
    ) {
        self.open = turns.into_iter().map(|open| Turn::restore(open, now, limits.cancel_grace_ms)).collect();
        self.silent_since_ms = now.ticks_ms;
        if self.started().is_some() {
            self.work = Work::restore(work);
        }
    }

    pub(in crate::hub::chat) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(in crate::hub::chat) fn len(&self) -> usize {
        self.open.len()
    }

    /// The first turn, which has started or starts next.
    pub(in crate::hub::chat) fn first(&self) -> Option<&Turn> {
        self.open.front()
    }

    pub(in crate::hub::chat) fn find(&self, id: &TurnId) -> Option<&Turn> {
        self.open.iter().find(|turn| turn.id == *id)
    }

    /// The place of a turn in the queue: 0 is the first one.
    pub(in crate::hub::chat) fn place_of(&self, id: &TurnId) -> Option<usize> {
        self.open.iter().position(|turn| turn.id == *id)
    }

    /// The started turn.
    pub(in crate::hub::chat) fn started(&self) -> Option<&TurnId> {
        self.open.front().filter(|turn| turn.is_started()).map(Turn::id)
    }

    /// The turn whose prompt the agent was sent. The agent's records belong to it.
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
        match self.open.front()?.state {
            TurnState::Cancelling { kill_at_ms, .. } => Some(kill_at_ms),
            TurnState::Queued | TurnState::Starting { .. } | TurnState::Running { .. } => None,
        }
    }

    /// Whether the started turn is being cancelled.
    pub(in crate::hub::chat) fn is_cancelling(&self) -> bool {
        self.kill_due_ms().is_some()
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
        if self.started() == Some(id) {
            self.work = Work::default();
        }
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

    /// Gives the first turn an input that does not end it.
    pub(in crate::hub::chat) fn apply(&mut self, now_ms: u64, input: TurnInput) {
        let applied = self.apply_to(0, now_ms, input);
        debug_assert!(!matches!(applied, Applied::Ended(_)), "the end of a turn is logged");
    }

    /// Gives an input to the turn at this place.
    pub(in crate::hub::chat) fn apply_to(&mut self, place: usize, now_ms: u64, input: TurnInput) -> Applied {
        let Some(turn) = self.open.get_mut(place) else { return Applied::Unchanged };
        let was_started = turn.is_started();
        match transition(core::mem::replace(&mut turn.state, TurnState::Queued), input) {
            Transition::Unchanged(state) => {
                turn.state = state;
                Applied::Unchanged
            }
            Transition::To(state) => {
                turn.state = state;
                if !was_started {
                    self.work = Work::default();
                    self.silent_since_ms = now_ms;
                    self.stalled = false;
                }
                Applied::Changed
            }
            Transition::Ended(ending) => {
                let work = if was_started { core::mem::take(&mut self.work) } else { Work::default() };
                let Some(turn) = self.open.remove(place) else { return Applied::Unchanged };
                let stream_ends = work.stream_ends();
                Applied::Ended(Box::new(EndedTurn { turn, ending, was_started, stream_ends }))
            }
        }
    }
}

/// The started turn's clock of silence.
impl Turns {
    /// Restarts the clock: the agent made progress, or its request was closed.
    pub(in crate::hub::chat) fn progress(&mut self, now_ms: u64) {
        if self.started().is_some() {
            self.silent_since_ms = now_ms;
            self.stalled = false;
        }
    }

    /// When the silence is to be reported, or is too long. `None` unless the agent answers a turn.
    pub(in crate::hub::chat) fn silence_due_ms(&self, limits: &Limits) -> Option<u64> {
        if !matches!(self.open.front()?.state, TurnState::Running { .. }) {
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

/// The streams and tool uses of the started turn.
impl Turns {
    /// A piece of a stream came. The first piece opens the stream.
    pub(in crate::hub::chat) fn open_stream(&mut self, stream: &StreamId, kind: StreamKind) {
        if self.prompted().is_some() {
            self.work.open_stream(stream, kind);
        }
    }

    pub(in crate::hub::chat) fn close_stream(&mut self, stream: &StreamId) {
        self.work.close_stream(stream);
    }

    pub(in crate::hub::chat) fn open_tool(&mut self, tool: OpenTool) {
        if self.started().is_some() {
            self.work.open_tool(tool);
        }
    }

    pub(in crate::hub::chat) fn close_tool(&mut self, call_id: &str) {
        self.work.close_tool(call_id);
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
        if self.started().is_some() {
            self.work.append_again();
        }
    }
}

/// The `starts_turn` of a logged `user_message`, which the answer to a repeat of the message contains again.
fn starts_turn(user_message: &Frame) -> bool {
    #[derive(Deserialize)]
    struct UserMessage {
        starts_turn: bool,
    }
    serde_json::from_slice(user_message.bytes()).is_ok_and(|message: UserMessage| message.starts_turn)
}
