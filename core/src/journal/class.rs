//! What each kind of chat event means for the log.

use crate::wire::{ChatBody, ChatKind};

/// How durable an append must be before the journal answers [`JournalAnswer::Appended`](super::JournalAnswer::Appended).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// The append survives a crash of this process.
    Written,
    /// The append is synced to disk and survives a loss of power.
    Synced,
}

/// What a kind of chat event means for the log. See [`ChatBody::class`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventClass {
    /// How durable the event must be before it is published. An event outside of a turn is always synced.
    pub durability: Durability,
    /// Whether the event counts as the chat's last activity, which orders lists of chats.
    pub is_activity: bool,
    /// What the event opens or closes.
    pub effect: EventEffect,
}

/// What an event opens, continues or closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventEffect {
    /// Opens a span.
    Opens(Span),
    /// Continues a span. The first such event of a stream or a tool use opens it.
    Continues(Span),
    /// Closes a span.
    Closes(Span),
    /// Concerns nothing that stays open.
    None,
}

/// What is open in a chat from one event to another. The end of a turn closes all that is open in the turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// A turn, from its message to its end.
    Turn,
    /// A stream of text or reasoning.
    Stream,
    /// A use of a tool. The `phase` of its events says whether it begins or ends.
    ToolUse,
    /// A permission request or question.
    Request,
}

impl ChatBody {
    /// What this kind of event means for the log.
    pub fn class(&self) -> EventClass {
        self.kind().class()
    }
}

impl ChatKind {
    /// What this kind of event means for the log. No other place decides it.
    pub const fn class(self) -> EventClass {
        use EventEffect::{Closes, Continues, None, Opens};
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
            | Self::Notice => (Durability::Written, false),
            Self::UserMessage
            | Self::TurnStarted
            | Self::TurnEnd
            | Self::PermissionRequest
            | Self::Question
            | Self::RequestResolved
            | Self::GoalState => (Durability::Synced, true),
        };
        let effect = match self {
            Self::UserMessage => Opens(Span::Turn),
            Self::TurnStarted => Continues(Span::Turn),
            Self::TurnEnd => Closes(Span::Turn),
            Self::Delta | Self::ReasoningDelta => Continues(Span::Stream),
            Self::StreamEnd | Self::ReasoningEnd => Closes(Span::Stream),
            Self::ToolEvent => Continues(Span::ToolUse),
            Self::PermissionRequest | Self::Question => Opens(Span::Request),
            Self::RequestResolved => Closes(Span::Request),
            Self::Message | Self::FileEdit | Self::Notice | Self::GoalState => None,
        };
        EventClass { durability, is_activity, effect }
    }
}
