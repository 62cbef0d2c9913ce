//! The inputs and outputs of a session.

use bytes::Bytes;
use switchboard_core::agent::AgentCommand;

use super::End;
use crate::host::protocol::CommandHead;

/// What happens to an agent instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// The gateway sends a command.
    Command(AgentCommand),
    /// The gateway wants the agent stopped.
    Stop,
    /// Records may have been decoded, or a deadline may have come. The events of all records up to the position
    /// `published` have been sent to the gateway.
    Progress { published: u64 },
}

/// What is to be done for an agent instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Output {
    /// Carry out a command and record it. The bytes are for the process's standard input.
    Command { head: CommandHead, bytes: Bytes },
    /// No turn is open.
    Idle,
    /// Stop the process gracefully. The last output.
    Stop,
    /// The host is to be stopped, and no turn is open. `holds_prompt` says that a prompt was received and not sent, so
    /// that the chat's next instance must get it. The last output.
    Retire { holds_prompt: bool },
    /// The instance has ended; end its process, if it runs. The last output.
    End(End),
}
