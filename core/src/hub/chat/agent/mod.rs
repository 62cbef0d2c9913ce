//! The agent of a chat: its slot, its instance, its commands, and how an instance starts, is paused, stops and exits.

mod lifecycle;
mod state;

pub(super) use self::{lifecycle::agent_stopped, state::Agent};
