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
    /// Feed the readers that wait for the page at `next`, unless the epoch was reset since.
    Page { chat: ChatRef, next: u64, numbering: u64 },
    /// Send the snapshot that this subscription of the connection waits for.
    Snapshot { chat: ChatRef, conn: ConnId, subscription: u64 },
    /// Answer `history`.
    History { conn: ConnId, chat_id: ChatId },
    /// Answer `list_chats`.
    Chats { conn: ConnId },
}
