//! The state machine of a turn: all its transitions, and nothing else.

use alloc::string::String;

use crate::{
    agent::{AgentCommand, CommandId},
    ids::TurnId,
    wire::{Cost, Outcome, TurnError, Usage},
};

/// The state of a turn that has not ended.
#[derive(Debug)]
pub(super) enum TurnState {
    /// The turn waits for earlier turns or for an agent slot.
    Queued,
    /// `turn_started` is logged, and the agent has not been sent the prompt.
    Starting {
        /// The prompt, while it waits until the journal has the agent's `AgentStarted`.
        undelivered: Option<AgentCommand>,
    },
    /// The agent has been sent the prompt, by this gateway process or an earlier one.
    Running {
        /// The id of the prompt, if this gateway process sent it.
        prompt: Option<CommandId>,
    },
    /// The agent has been asked to end the turn.
    Cancelling {
        /// When the agent is killed if the turn has not ended by then.
        kill_at_ms: u64,
        /// Why the gateway itself cancels the turn; none if a client asked for it.
        reason: Option<TurnError>,
    },
}

/// What happens to a turn.
#[derive(Debug)]
pub(in crate::hub::chat) enum TurnInput {
    /// The turn is the first one and the chat has an agent slot.
    Start,
    /// The prompt cannot be sent before the journal has the agent's `AgentStarted`.
    PromptDeferred(AgentCommand),
    /// The prompt goes to the agent.
    PromptSent(CommandId),
    /// An adopted agent answers the turn, so it has the prompt from an earlier gateway process.
    Answered,
    /// The agent exited without taking the prompt.
    PromptReturned { turn_id: TurnId, text: String },
    /// A client or the gateway cancels the turn.
    Cancel { kill_at_ms: u64, reason: Option<TurnError> },
    /// The agent ends the turn or exits, the time for the cancellation is over, the gateway stops, or the chat is
    /// deleted.
    End(Ending),
}

/// How a turn ends, as reported by the agent or decided by the hub.
#[derive(Debug)]
pub(in crate::hub::chat) struct Ending {
    pub(in crate::hub::chat) outcome: Outcome,
    pub(in crate::hub::chat) error: Option<TurnError>,
    pub(in crate::hub::chat) usage: Option<Usage>,
    pub(in crate::hub::chat) cost: Option<Cost>,
}

/// What an input makes of a turn.
pub(super) enum Transition {
    To(TurnState),
    Unchanged(TurnState),
    Ended(Ending),
}

/// The state machine of a turn.
pub(super) fn transition(state: TurnState, input: TurnInput) -> Transition {
    use Transition::{Ended, To, Unchanged};
    use TurnInput::{Answered, Cancel, End, PromptDeferred, PromptReturned, PromptSent, Start};
    use TurnState::{Cancelling, Queued, Running, Starting};
    match (state, input) {
        (Queued, Start) => To(Starting { undelivered: None }),
        (Starting { .. }, PromptDeferred(prompt)) => To(Starting { undelivered: Some(prompt) }),
        (Starting { .. }, Answered) => To(Running { prompt: None }),
        (Starting { .. } | Running { .. }, PromptSent(id)) => To(Running { prompt: Some(id) }),
        (Running { prompt: Some(id) }, PromptReturned { turn_id, text }) => {
            To(Starting { undelivered: Some(AgentCommand::Prompt { id, turn_id, text }) })
        }
        // The agent has not been sent the prompt, and now never is.
        (Queued | Starting { .. }, Cancel { .. }) => Ended(Ending::new(Outcome::Cancelled, None)),
        (Running { .. }, Cancel { kill_at_ms, reason }) => To(Cancelling { kill_at_ms, reason }),
        (Cancelling { reason, .. }, End(ending)) if ending.outcome != Outcome::Completed => {
            Ended(Ending { outcome: Outcome::Cancelled, error: reason, ..ending })
        }
        (Queued | Starting { .. } | Running { .. } | Cancelling { .. }, End(ending)) => Ended(ending),
        (state @ Queued, PromptDeferred(_) | PromptSent(_) | Answered | PromptReturned { .. })
        | (state @ Starting { .. }, Start | PromptReturned { .. })
        | (state @ Running { .. }, Start | PromptDeferred(_) | Answered | PromptReturned { .. })
        | (
            state @ Cancelling { .. },
            Start | PromptDeferred(_) | PromptSent(_) | Answered | PromptReturned { .. } | Cancel { .. },
        ) => Unchanged(state),
    }
}

impl Ending {
    pub(in crate::hub::chat) fn new(outcome: Outcome, error: Option<TurnError>) -> Self {
        Self { outcome, error, usage: None, cost: None }
    }
}

#[cfg(test)]
mod tests;
