//! Messages to other chats than the current one: sent before the person changed the chat, or left from an earlier run
//! of this program. Each message is sent again with the same turn id until the gateway accepts or refuses it.

use switchboard_core::{
    ids::{ChatId, TurnId},
    wire::{ClientEnvelope, ErrorEvent, Message},
};

use super::{Effect, Session, outgoing::Outgoing};
use crate::chat::{advice::explain, unsent::Unsent};

impl Session {
    /// Queues the messages that an earlier run of this program has stored.
    pub(in crate::chat) fn queue_stored(&mut self, unsent: Vec<Unsent>) {
        if unsent.is_empty() {
            return;
        }
        self.note(&format!("Not accepted when this program last ended, and sent again: {}", unsent.len()));
        for Unsent { chat, turn_id, content } in unsent {
            let message = Outgoing { turn_id, content, sent: false };
            match chat.filter(|chat| self.chat.as_ref() != Some(chat)) {
                Some(chat) => self.elsewhere.waiting.push_back((chat, message)),
                None => self.outbox.push_back(message),
            }
        }
    }

    /// Stores a message of the outbox on disk, except in batch mode.
    pub(super) fn store_message(&mut self, index: usize) {
        if self.batch.is_some() {
            return;
        }
        let Some(Outgoing { turn_id, content, .. }) = self.outbox.get(index) else { return };
        let (turn_id, content) = (turn_id.clone(), content.clone());
        self.effects.push_back(Effect::Store(Unsent { chat: self.chat.clone(), turn_id, content }));
    }

    /// Removes a message from the outbox and from the disk: it was accepted, refused or cancelled.
    pub(super) fn give_up(&mut self, index: usize) {
        if let Some(message) = self.outbox.remove(index)
            && self.batch.is_none()
        {
            self.effects.push_back(Effect::Forget(message.turn_id));
        }
    }

    /// Moves the messages of the outbox to the background, since the person goes to another chat.
    pub(super) fn send_from_elsewhere(&mut self) {
        let Some(chat) = self.chat.clone() else { return };
        let moved = self.outbox.drain(..).map(|message| (chat.clone(), message));
        self.elsewhere.waiting.extend(moved);
    }

    pub(super) fn flush_elsewhere(&mut self) {
        let Some((chat, message)) = self.elsewhere.waiting.front_mut().filter(|(_, message)| !message.sent)
        else {
            return;
        };
        message.sent = true;
        let envelope = Message {
            chat_id: chat.clone(),
            content: message.content.clone(),
            turn_id: Some(message.turn_id.clone()),
        };
        self.send(&ClientEnvelope::Message(envelope));
    }

    /// Handles the acknowledgement of a background message. Returns whether `turn_id` belongs to one.
    pub(super) fn settled_elsewhere(&mut self, turn_id: &TurnId) -> bool {
        let Some(chat_id) = self.remove_elsewhere(turn_id) else { return false };
        self.note(&format!("Sent to chat {chat_id}; /attach {chat_id} goes there."));
        if self.chat.as_ref() != Some(&chat_id) {
            // The message attached this connection to its chat, whose events are not for this screen.
            self.send(&ClientEnvelope::Detach { chat_id });
        }
        self.flush_elsewhere();
        true
    }

    /// Handles an error about a background message. Returns whether the error is about one.
    pub(super) fn refused_elsewhere(&mut self, error: &ErrorEvent) -> bool {
        let Some(turn_id) = &error.turn_id else { return false };
        let Some((chat, message)) =
            self.elsewhere.waiting.iter_mut().find(|(_, message)| message.turn_id == *turn_id)
        else {
            return false;
        };
        let chat = chat.clone();
        if error.retryable {
            message.sent = false;
            self.effects.push_back(Effect::RetryAfter(error.retry_after_ms.unwrap_or(1_000)));
            return true;
        }
        self.remove_elsewhere(turn_id);
        self.note(&format!("Not accepted in chat {chat}: {}", explain(error)));
        self.flush_elsewhere();
        true
    }

    fn remove_elsewhere(&mut self, turn_id: &TurnId) -> Option<ChatId> {
        let waiting = &mut self.elsewhere.waiting;
        let place = waiting.iter().position(|(_, message)| message.turn_id == *turn_id)?;
        let (chat, message) = waiting.remove(place)?;
        self.effects.push_back(Effect::Forget(message.turn_id));
        Some(chat)
    }

    /// Ends the program. Messages that are not accepted yet stay on disk for the next run.
    pub(super) fn quit(&mut self) {
        let unsent = self.outbox.len() + self.elsewhere.waiting.len();
        if unsent > 0 {
            self.note(&format!("Not accepted yet, and sent when this program is next started: {unsent}"));
        }
        self.effects.push_back(Effect::Quit(0));
    }
}
