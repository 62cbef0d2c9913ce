//! The background tasks of a chat's agent, and how they are logged and end.

mod lifecycle;
mod state;

pub(super) use self::state::{RUNNING_TASKS, Tasks};
