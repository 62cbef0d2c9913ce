//! What the hub asks the journal.

use alloc::string::String;

use super::Term;
use crate::ids::{ChatKey, Cursor, Principal, TurnId};

/// Identifies a question in its answer. Made by the hub, unique within a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub u64);

/// A question to the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The question's id, for the answer.
    pub id: AskId,
    /// The question.
    pub query: Query,
}

/// The kinds of questions. [`Found`](super::Found) has the answer to each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// The durable state of a chat.
    Chat {
        /// The chat to read.
        chat: ChatKey,
        /// The term of the owner that asks. If there is a newer term, the answer is
        /// [`Found::Fenced`](super::Found::Fenced): the state may have appends of the next owner, which this one could
        /// take for its own. `None`: whoever the owner is, for those that only read.
        term: Option<Term>,
    },
    /// Whether a message with this `turn_id` was ever accepted, and which.
    Turn {
        /// The chat of the turn.
        chat: ChatKey,
        /// The turn's id.
        turn_id: TurnId,
    },
    /// The events after a cursor, oldest first.
    After {
        /// The chat to read.
        chat: ChatKey,
        /// The cursor, in the chat's current epoch.
        after: Cursor,
        /// The size of the page: it ends with the event that reaches this many bytes.
        bytes: usize,
    },
    /// A page of history: the newest events up to a place in the log, across epochs.
    Before {
        /// The chat to read.
        chat: ChatKey,
        /// Where the page begins, going backwards.
        before: PageStart,
        /// The maximum number of events, after adjacent deltas of one stream are merged.
        events: u32,
        /// The maximum size in bytes, except that a page has at least one event if there is one.
        bytes: usize,
    },
    /// A page of a principal's chats, newest activity first.
    Chats {
        /// The owner of the chats.
        principal: Principal,
        /// The `before` of the previous page; none for the first page.
        before: Option<String>,
        /// The maximum number of chats.
        limit: u32,
    },
}

impl Query {
    /// The chat that the question concerns; none for a list of chats.
    pub fn chat(&self) -> Option<&ChatKey> {
        match self {
            Self::Chat { chat, .. }
            | Self::Turn { chat, .. }
            | Self::After { chat, .. }
            | Self::Before { chat, .. } => Some(chat),
            Self::Chats { .. } => None,
        }
    }
}

/// Where a page of history begins, going backwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageStart {
    /// With the event of this sequence number in the current epoch.
    At(u64),
    /// Where the previous page ended: its [`before`](super::HistoryPage::before).
    Opaque(String),
}
