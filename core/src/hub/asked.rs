//! What questions to the journal were asked for.

use super::io::ChatRef;
use crate::ids::{ChatId, ConnId};

/// What a question to the journal was asked for, and so what its answer is used for.
#[derive(Debug)]
pub(super) enum Asked {
    /// Load the chat.
    Load(ChatRef),
    /// Resync the chat after a refused append.
    Resync(ChatRef),
    /// Accept or refuse the message at the front of the chat's intake.
    Turn(ChatRef),
    /// Feed the readers that wait for the page, unless the epoch was reset since.
    Page { chat: ChatRef, page: PageKey },
    /// Send the snapshot that this reader waits for.
    Snapshot { chat: ChatRef, reader: ReaderKey },
    /// Answer `history`.
    History { conn: ConnId, chat_id: ChatId },
    /// Answer `list_chats`.
    Chats { conn: ConnId },
}

/// Identifies a page of a chat's log that readers wait for.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageKey {
    /// The sequence number of the page's first event.
    pub(super) first_seq: u64,
    /// How many times the chat's epoch had been reset when the page was asked for.
    pub(super) numbering: u64,
}

/// Identifies a subscription of a connection to a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReaderKey {
    pub(super) conn: ConnId,
    /// The subscription's number, from `Context::next_subscription`. A later subscription of the connection has another
    /// one.
    pub(super) subscription: u64,
}
