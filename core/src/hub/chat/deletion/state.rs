//! The state of a deletion that is not finished.

use crate::{agent::AgentInstanceId, ids::ConnId};

/// A deletion that is not finished.
#[derive(Debug)]
pub(in crate::hub::chat) struct Deletion {
    by: ConnId,
    /// When to delete the chat even if its agent has not exited.
    due_ms: u64,
    /// The deletion is appended: nothing may follow in the chat's log.
    staged: bool,
    /// The agent instance that exited since the deletion was appended.
    exited: Option<AgentInstanceId>,
}

impl Deletion {
    pub(in crate::hub::chat) fn new(by: ConnId, due_ms: u64) -> Self {
        Self { by, due_ms, staged: false, exited: None }
    }

    /// The client that deletes the chat.
    pub(in crate::hub::chat) fn by(&self) -> ConnId {
        self.by
    }

    /// When to go on without the agent's exit; `None` once the deletion is appended.
    pub(in crate::hub::chat) fn due_ms(&self) -> Option<u64> {
        (!self.staged).then_some(self.due_ms)
    }

    /// Whether the deletion is to be appended now. From then on it counts as appended.
    pub(in crate::hub::chat) fn stage(&mut self, now_ms: u64, agent_is_gone: bool) -> bool {
        let due = !self.staged && (agent_is_gone || self.due_ms <= now_ms);
        self.staged |= due;
        due
    }

    /// The agent exited. Returns whether the deletion is appended, so that the exit cannot be logged.
    pub(in crate::hub::chat) fn agent_exited(&mut self, instance: AgentInstanceId) -> bool {
        if self.staged {
            self.exited = Some(instance);
        }
        self.staged
    }

    /// The agent instance whose exit was not logged.
    pub(in crate::hub::chat) fn unlogged_exit(&self) -> Option<AgentInstanceId> {
        self.exited
    }
}
