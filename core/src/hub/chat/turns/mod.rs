//! The turns of a chat: the state machine of a turn, the open turns, and how turns start, are cancelled and end.

mod lifecycle;
mod state;
mod transition;
mod work;

pub(super) use self::{
    state::{Applied, Turn, Turns},
    transition::{Ending, TurnInput},
    work::StreamKind,
};
