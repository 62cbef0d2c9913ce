//! What each kind of chat event means for the log.

use crate::wire::{ChatKind, FrameKind};

/// How durable an append must be before the journal answers [`JournalAnswer::Appended`](super::JournalAnswer::Appended).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// The append survives a crash of this process.
    Written,
    /// The append is synced to disk and survives a loss of power.
    Synced,
}

/// What a kind of chat event means for the log. See [`ChatKind::class`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventClass {
    /// How durable the event must be before it is published. An event outside of a turn is always synced.
    pub durability: Durability,
    /// Whether the event counts as the chat's last activity, which orders lists of chats.
    pub is_activity: bool,
    /// Whether the event ends one or more streams, so that their deltas can be compacted.
    pub ends_streams: bool,
}

impl FrameKind {
    /// What this kind of event means for the log. `None` for control events, which are not logged, and for kinds of a
    /// later version.
    pub const fn class(self) -> Option<EventClass> {
        match self {
            Self::Chat(kind) => Some(kind.class()),
            Self::Control(_) | Self::Unknown => None,
        }
    }
}

impl ChatKind {
    /// What this kind of event means for the log. No other place decides it.
    pub const fn class(self) -> EventClass {
        // The text of an answer is no activity: two chats with running turns would change places in the list all the
        // time.
        let (durability, is_activity) = match self {
            Self::Delta
            | Self::ReasoningDelta
            | Self::StreamEnd
            | Self::ReasoningEnd
            | Self::Message
            | Self::ToolEvent
            | Self::FileEdit
            | Self::Task
            | Self::Notice => (Durability::Written, false),
            Self::UserMessage
            | Self::TurnStarted
            | Self::TurnEnd
            | Self::PermissionRequest
            | Self::Question
            | Self::RequestResolved
            | Self::GoalState => (Durability::Synced, true),
        };
        let ends_streams = match self {
            // The end of a turn ends the streams that the agent left open.
            Self::StreamEnd | Self::ReasoningEnd | Self::TurnEnd => true,
            Self::Delta
            | Self::ReasoningDelta
            | Self::UserMessage
            | Self::TurnStarted
            | Self::Message
            | Self::ToolEvent
            | Self::FileEdit
            | Self::Task
            | Self::Notice
            | Self::PermissionRequest
            | Self::Question
            | Self::RequestResolved
            | Self::GoalState => false,
        };
        EventClass { durability, is_activity, ends_streams }
    }
}
