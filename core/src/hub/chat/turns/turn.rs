//! One open turn.

use alloc::string::String;

use serde::Deserialize;

use super::transition::{Ending, TurnState};
use crate::{
    ids::{Cursor, Epoch, TurnId},
    journal::{OpenAgentTurn, OpenTurn, TurnRecord},
    time::Moment,
    wire::{ChatBody, Frame, GoalState, TurnOrigin, TurnReason},
};

/// An open turn.
#[derive(Debug)]
pub(in crate::hub::chat) struct Turn {
    pub(super) id: TurnId,
    pub(super) origin: TurnOrigin,
    pub(super) state: TurnState,
    pub(super) text: String,
    pub(super) hash: [u8; 32],
    /// The sequence number of its `user_message`; 0 if that event is in an earlier epoch.
    pub(super) seq: u64,
    pub(super) starts_turn: bool,
    /// When this gateway process accepted the turn, or restored it from the journal, on the clock of ticks.
    pub(super) accepted_at_ms: u64,
    /// When the turn started, in milliseconds of Unix time; 0 while it is queued.
    pub(super) started_at_ms: u64,
    /// The turn's age at `accepted_at_ms`, in milliseconds; 0 unless it was restored.
    pub(super) age_ms: u64,
}

/// The open turn that the agent began by itself.
#[derive(Debug)]
pub(super) struct AgentTurn {
    pub(super) turn: Turn,
    pub(super) reason: TurnReason,
    /// The agent did not say that it begins a turn, so it will not say that the turn ends.
    pub(super) is_implied: bool,
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
        let (origin, accepted_at_ms, started_at_ms, age_ms) = (TurnOrigin::User, now.ticks_ms, 0, 0);
        Self { id, origin, state, text, hash, seq, starts_turn, accepted_at_ms, started_at_ms, age_ms }
    }

    /// Restores a turn that an earlier gateway process accepted. If the system clock was set back since, its age is 0.
    pub(super) fn restore(open: OpenTurn, now: Moment, cancel_grace_ms: u64) -> Self {
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
        turn.started_at_ms = open.started_at_ms.unwrap_or_default();
        turn.age_ms = now.unix_ms.saturating_sub(open.accepted_at_ms);
        turn
    }

    /// A turn that the agent began.
    pub(super) fn of_agent(id: TurnId, started_at_ms: u64, now: Moment) -> Self {
        let (origin, state) = (TurnOrigin::Agent, TurnState::Running { prompt: None });
        Self { origin, state, started_at_ms, ..Self::new(id, String::new(), [0; 32], 0, true, now) }
    }

    pub(in crate::hub::chat) fn origin(&self) -> TurnOrigin {
        self.origin
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

    pub(super) fn kill_due_ms(&self) -> Option<u64> {
        match self.state {
            TurnState::Cancelling { kill_at_ms, .. } => Some(kill_at_ms),
            TurnState::Queued | TurnState::Starting { .. } | TurnState::Running { .. } => None,
        }
    }

    pub(super) fn is_started(&self) -> bool {
        !matches!(self.state, TurnState::Queued)
    }

    /// The turn's `turn_end`.
    pub(in crate::hub::chat) fn end(
        &self,
        now: Moment,
        ending: Ending,
        model: Option<String>,
        goal_state: Option<GoalState>,
    ) -> ChatBody {
        ChatBody::TurnEnd {
            origin: self.origin,
            outcome: ending.outcome,
            latency_ms: self.age_ms + now.ticks_ms.saturating_sub(self.accepted_at_ms),
            usage: ending.usage,
            cost: ending.cost,
            model,
            error: ending.error,
            goal_state,
        }
    }
}

impl AgentTurn {
    /// Restores the turn that an agent began under an earlier gateway process.
    pub(super) fn restore(open: OpenAgentTurn, now: Moment, cancel_grace_ms: u64) -> Self {
        let OpenAgentTurn { turn_id, reason, started_at_ms, is_implied, cancel_requested, cancel_reason } =
            open;
        let mut turn = Turn::of_agent(turn_id, started_at_ms, now);
        turn.age_ms = now.unix_ms.saturating_sub(started_at_ms);
        if cancel_requested {
            let kill_at_ms = now.ticks_ms + cancel_grace_ms;
            turn.state = TurnState::Cancelling { kill_at_ms, reason: cancel_reason };
        }
        Self { turn, reason, is_implied }
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
