//! Chats whose appends are refused.

use std::sync::Mutex;

use rustc_hash::FxHashSet;
use switchboard_core::ids::ChatKey;

use super::mutex::locked;

/// The chats of which an append was refused. Their later appends are refused, too, until the hub has read what the
/// journal has of the chat.
#[derive(Debug, Default)]
pub(super) struct RefusedChats(Mutex<FxHashSet<ChatKey>>);

impl RefusedChats {
    pub(super) fn contains(&self, chat: &ChatKey) -> bool {
        locked(&self.0).contains(chat)
    }

    pub(super) fn add(&self, chats: impl IntoIterator<Item = ChatKey>) {
        locked(&self.0).extend(chats);
    }

    /// Allows appends to a chat again.
    pub(super) fn remove(&self, chat: &ChatKey) {
        locked(&self.0).remove(chat);
    }
}
