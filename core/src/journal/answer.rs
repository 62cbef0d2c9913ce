//! What the journal answers.

use alloc::{boxed::Box, string::String, vec::Vec};

use super::{AppendId, AskId, ChatRecord, Conflict, LogEvent, TurnRecord};
use crate::wire::{ChatSummary, Frame};

/// An answer of the journal.
#[derive(Debug, Clone)]
pub enum JournalAnswer {
    /// The append is committed, as durable as was asked.
    Appended(AppendId),
    /// The append is not committed, or not certainly. The chat's version, in the answer to [`Query::Chat`](super::Query::Chat), says
    /// which. Later appends that expect it to be committed are conflicts if it is not.
    Refused(AppendId),
    /// The append contradicts what the journal has of the chat. Nothing of it is committed.
    Conflict(AppendId, Conflict),
    /// The answer to a question.
    Found(AskId, Found),
    /// The question could not be answered at the moment.
    Failed(AskId),
    /// The data that the question concerns is damaged. The question fails until a person repairs the journal.
    Damaged(AskId),
}

/// The answers to the kinds of [`Query`](super::Query).
#[derive(Debug, Clone)]
pub enum Found {
    /// Answers [`Query::Chat`](super::Query::Chat). `None`: there is no such chat.
    Chat(Option<Box<ChatRecord>>),
    /// Answers [`Query::Chat`](super::Query::Chat): the chat was deleted.
    Deleted,
    /// Answers [`Query::Chat`](super::Query::Chat): the journal has granted the chat to another owner since.
    Fenced,
    /// Answers [`Query::Turn`](super::Query::Turn). `None`: no message with this id was accepted.
    Turn(Option<TurnRecord>),
    /// Answers [`Query::After`](super::Query::After). `None`: the journal no longer has the events after the cursor.
    After(Option<Vec<LogEvent>>),
    /// Answers [`Query::Before`](super::Query::Before). `None`: the page's start is not in the chat's log.
    Before(Option<HistoryPage>),
    /// Answers [`Query::Chats`](super::Query::Chats). `None`: `before` is not from an earlier page.
    Chats(Option<ChatsPage>),
}

/// A page of history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryPage {
    /// The encoded events, oldest first.
    pub events: Vec<Frame>,
    /// Where the next page begins; `None` at the chat's beginning.
    pub before: Option<String>,
}

/// A page of chats.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChatsPage {
    /// The chats, newest activity first.
    pub chats: Vec<ChatSummary>,
    /// Where the next page begins; `None` on the last.
    pub before: Option<String>,
}
