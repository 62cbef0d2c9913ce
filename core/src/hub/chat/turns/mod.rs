//! The turns of a chat: the state machine of a turn, the open turns, and how turns start, are cancelled and end.

mod agent_turns;
mod lifecycle;
mod state;
mod transition;
mod turn;
mod work;

pub(super) use self::{
    state::{Place, Turns},
    transition::{Ending, TurnInput},
    turn::Turn,
    work::{StreamKind, ToolKey},
};
