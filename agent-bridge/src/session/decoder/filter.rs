//! Leaves out the events of turns that the log has lost.

use switchboard_core::{agent::AgentEvent, ids::TurnId};

/// The turns whose events are passed on.
#[derive(Debug)]
pub(super) enum TurnFilter {
    All,
    /// Only this turn, until it ends.
    Only(Option<TurnId>),
}

impl TurnFilter {
    /// Whether the events of this turn are passed on.
    pub(super) fn passes(&self, turn: &TurnId) -> bool {
        match self {
            Self::All => true,
            Self::Only(only) => only.as_ref() == Some(turn),
        }
    }

    /// Notes the end of a turn.
    pub(super) fn end(&mut self, turn: Option<&TurnId>) {
        if let Self::Only(only) = self {
            only.take_if(|only| turn == Some(only));
        }
    }
}

/// A prompt's open turn whose events are dropped.
#[derive(Debug, Clone, Copy)]
pub(super) struct LostTurn {
    /// Whether a turn of the agent's own is open beside it. The log has that one.
    pub(super) agent_turn: bool,
}

impl LostTurn {
    /// Removes the events from index `from` on that belong to the lost turn. What concerns the agent, and what belongs
    /// to a turn of the agent's own, stays.
    pub(super) fn leave_out(mut self, events: &mut Vec<AgentEvent>, from: usize) {
        let said = events.split_off(from);
        events.extend(said.into_iter().filter(|event| {
            let (starts, ends) = (
                matches!(event, AgentEvent::AgentTurnStarted { .. }),
                matches!(event, AgentEvent::AgentTurnEnded { .. }),
            );
            let of_agent = self.agent_turn && !matches!(event, AgentEvent::TurnEnded { .. });
            self.agent_turn = (self.agent_turn || starts) && !ends;
            of_agent || starts || ends || concerns_agent(event)
        }));
    }
}

/// Whether an event concerns the agent rather than the turn in which it comes.
fn concerns_agent(event: &AgentEvent) -> bool {
    matches!(
        event,
        AgentEvent::Session { .. }
            | AgentEvent::Model { .. }
            | AgentEvent::Task(_)
            | AgentEvent::Notice { .. }
    )
}
