//! Which chats this gateway owns. Several gateways can share a journal, which grants a chat to one of them at a time.
//!
//! A chat is claimed before anything else is done with it, and released when it is unloaded. A chat that is lost is
//! dropped as if the process had ended: nothing of it is published, answered or commanded any more, and its agent is left
//! to the next owner. The hub hangs up the connections that wait for something of the chat. They connect again, and
//! resume where the log ends.

use super::{
    Hub,
    io::{ChatRef, Output},
};
use crate::{ids::ChatKey, journal::Grant};

impl Hub {
    /// The journal has granted the chat, or renewed a grant.
    pub(super) fn owned(&mut self, key: ChatKey, grant: Grant) {
        let is_over = grant.until_ms.is_some_and(|until_ms| until_ms <= self.cx.now.boot_ms);
        let chat = self.by_key.get(&key).and_then(|reference| self.chats.get_mut(reference));
        let wants = !is_over && chat.is_some_and(|chat| chat.owned(&mut self.cx, grant));
        if !wants {
            // The grant has ended on its way, or the chat was given up or unloaded meanwhile.
            self.lost(&key);
            self.cx.output(Output::Release { chat: key, term: grant.term });
        }
    }

    /// The journal has granted the chat to another gateway.
    pub(super) fn lost(&mut self, key: &ChatKey) {
        if let Some(chat) = self.by_key.get(key).copied() {
            self.lose(chat);
        }
    }

    /// Drops a chat that belongs to another gateway.
    pub(super) fn lose(&mut self, reference: ChatRef) {
        let Some(chat) = self.chats.get_mut(&reference) else { return };
        let is_over = chat.lose(&mut self.cx);
        chat.end_grant(&mut self.cx);
        if is_over {
            self.forget(reference);
        }
    }

    /// Gives up the chats whose grants have ended. Called before anything else of an input, so that a late tick grants no
    /// time.
    pub(super) fn give_up_ended_grants(&mut self) {
        for reference in self.cx.grants.ended(self.cx.now) {
            let Some(chat) = self.chats.get_mut(&reference) else { continue };
            let is_over = chat.lose(&mut self.cx);
            // The journal has not heard of it, and would renew the grant.
            chat.release(&mut self.cx);
            if is_over {
                self.forget(reference);
            }
        }
    }
}
