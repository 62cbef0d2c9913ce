//! What the hub has the journal commit.

use alloc::{string::String, vec::Vec};
use core::fmt;

use bytes::Bytes;

use super::{Durability, EventClass, OpenAgentTurn, OpenWork, Term, Version};
use crate::{
    agent::{AgentCommand, AgentInstanceId},
    ids::{ChatKey, Epoch, RequestId, TurnId},
    wire::{Frame, GoalState, Outcome, Task, TurnError},
};

/// Identifies an append in its answer. Made by the hub, unique within a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppendId(pub u64);

/// One transaction for one chat: the journal commits all of it or nothing.
#[derive(Debug, Clone)]
pub struct Append {
    /// The append's id, for the answer.
    pub id: AppendId,
    /// The chat to append to.
    pub chat: ChatKey,
    /// The term under which the journal granted the chat to the hub. If there is a newer term, the append is a conflict.
    pub term: Term,
    /// The chat's version before the append. If the chat has another one, the append is a conflict.
    pub expect: Version,
    /// How durable the append must be before the answer.
    pub durability: Durability,
    /// With an epoch, the append creates the chat, under this epoch. If the chat exists, as `expect` says, a new epoch
    /// begins, in which the append's first event has the number 1.
    pub create: Option<Epoch>,
    /// The events in order. The first one's sequence number follows the chat's last in the epoch.
    pub events: Vec<LogEvent>,
    /// Changes of the chat's state that belong to the events.
    pub changes: Vec<Change>,
    /// The time of the events and changes, in milliseconds of Unix time.
    pub at_ms: u64,
}

impl Append {
    /// Whether the append begins a new epoch in a chat that exists.
    pub fn begins_epoch(&self) -> bool {
        self.create.is_some() && self.expect > Version::default()
    }

    /// Whether the append counts as the chat's last activity, which orders lists of chats. The chat's creation does,
    /// and events of some kinds, such as messages and turn ends. Changes without events, such as an agent's start or a
    /// title, do not.
    pub fn is_activity(&self) -> bool {
        (self.create.is_some() && !self.begins_epoch()) || self.events.iter().any(LogEvent::is_activity)
    }
}

/// An event as the log stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEvent {
    /// The first sequence number that the event covers.
    pub first_seq: u64,
    /// The last sequence number that the event covers; larger than `first_seq` for compacted deltas.
    pub seq: u64,
    /// The encoded event, as clients get it.
    pub frame: Frame,
}

impl LogEvent {
    /// The class of the event's kind; none for kinds of a later version.
    pub fn class(&self) -> Option<EventClass> {
        self.frame.kind().class()
    }

    fn is_activity(&self) -> bool {
        self.class().is_some_and(|class| class.is_activity)
    }

    /// Whether the event ends one or more streams, so that their deltas can be compacted.
    pub fn ends_stream(&self) -> bool {
        self.class().is_some_and(|class| class.ends_streams)
    }
}

/// A change of a chat's state, committed in the same transaction as the events that it belongs to.
#[derive(Clone, PartialEq)]
pub enum Change {
    /// A message was accepted. The journal remembers its id and hash as long as the chat exists.
    TurnAccepted {
        /// The turn that the message makes.
        turn_id: TurnId,
        /// SHA-256 of the message's content.
        hash: [u8; 32],
        /// The sequence number of its `user_message`.
        seq: u64,
        /// The message's content, stored until the turn ends.
        text: String,
        /// Whether the turn starts at once and is not queued.
        starts_turn: bool,
    },
    /// A turn started: its prompt may be sent to the agent from now on.
    TurnStarted {
        /// The started turn.
        turn_id: TurnId,
    },
    /// A client or the gateway cancels a turn, which has not ended yet.
    CancelRequested {
        /// The turn to cancel.
        turn_id: TurnId,
        /// The error for the turn's end, if the gateway cancels the turn. None if a client does.
        reason: Option<TurnError>,
    },
    /// A turn ended.
    TurnEnded {
        /// The ended turn.
        turn_id: TurnId,
        /// How the turn ended.
        outcome: Outcome,
    },
    /// A permission request or question is open.
    RequestOpened {
        /// The request's id in the chat.
        request_id: RequestId,
        /// The request's id at the agent's driver.
        agent_request_id: RequestId,
        /// The number of requests that the chat has had, which goes into the ids of requests.
        last_request: u64,
        /// Whether the request is a question.
        question: bool,
        /// The whole input of a permission request, as JSON text.
        input: Option<String>,
        /// The request's event.
        frame: Frame,
    },
    /// A permission request or question is closed.
    RequestClosed {
        /// The request's id in the chat.
        request_id: RequestId,
    },
    /// A command for the agent, committed before it is sent.
    Command {
        /// The command.
        command: AgentCommand,
    },
    /// The chat has an agent from now on, though its process may not have started yet.
    AgentStarted {
        /// The agent instance.
        instance: AgentInstanceId,
    },
    /// The chat's agent has exited or was asked to stop: no later gateway process may adopt it.
    AgentEnded {
        /// The agent instance.
        instance: AgentInstanceId,
    },
    /// How many of the agent's records are in the log.
    AgentPosition {
        /// The agent instance.
        instance: AgentInstanceId,
        /// The position after the last record in the log.
        position: u64,
        /// The decoder's state at this position, if it should be stored.
        checkpoint: Option<Bytes>,
    },
    /// The turn that the agent began by itself, from now on. None: it has ended. A person's turn may be open beside it.
    AgentTurn {
        /// The agent's open turn.
        turn: Option<OpenAgentTurn>,
    },
    /// The running background tasks of the agent from now on.
    Tasks {
        /// All running tasks, oldest first.
        tasks: Vec<Task>,
    },
    /// The streams and tool uses that are open from now on.
    OpenWork {
        /// All open streams and tool uses.
        work: OpenWork,
    },
    /// The agent's own id for the conversation.
    Session {
        /// The id. Opaque to all but the agent's driver.
        token: String,
    },
    /// The chat has another title.
    Title {
        /// The title from now on.
        title: String,
    },
    /// The chat has another goal.
    Goal {
        /// The goal from now on.
        goal_state: GoalState,
    },
    /// The chat and all its data are deleted. Only a hash of its key stays, so that its id is never used again. This is
    /// the last change of a chat.
    Deleted,
}

/// Prints the kind only: messages and agents' output do not belong in the gateway's own log.
impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TurnAccepted { .. } => "TurnAccepted",
            Self::TurnStarted { .. } => "TurnStarted",
            Self::CancelRequested { .. } => "CancelRequested",
            Self::TurnEnded { .. } => "TurnEnded",
            Self::RequestOpened { .. } => "RequestOpened",
            Self::RequestClosed { .. } => "RequestClosed",
            Self::Command { .. } => "Command",
            Self::AgentStarted { .. } => "AgentStarted",
            Self::AgentEnded { .. } => "AgentEnded",
            Self::AgentPosition { .. } => "AgentPosition",
            Self::AgentTurn { .. } => "AgentTurn",
            Self::Tasks { .. } => "Tasks",
            Self::OpenWork { .. } => "OpenWork",
            Self::Session { .. } => "Session",
            Self::Title { .. } => "Title",
            Self::Goal { .. } => "Goal",
            Self::Deleted => "Deleted",
        })
    }
}
