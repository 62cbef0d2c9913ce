//! Messages that are to be sent though the person is in another chat, or in another run of this program: each is
//! repeated under its id until it is accepted.

use std::collections::VecDeque;

use switchboard_core::{
    ids::{ChatId, TurnId},
    wire::{ClientEnvelope, ErrorEvent, Message},
};

use super::{Effect, Outgoing, Session};
use crate::chat::{advice::explain, unsent::Unsent};

/// Messages for chats that are not shown. One is in flight at a time.
#[derive(Debug, Default)]
pub(super) struct BackgroundSends {
    waiting: VecDeque<(ChatId, Outgoing)>,
}

impl BackgroundSends {
    pub(super) fn handle_disconnect(&mut self) {
        self.waiting.iter_mut().for_each(|(_, message)| message.sent = false);
    }
}

impl Session {
    /// Takes up what an earlier run of this program left.
    pub(in crate::chat) fn take_up(&mut self, unsent: Vec<Unsent>) {
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

    /// Keeps a message of the outbox over the end of the program.
    pub(super) fn keep(&mut self, index: usize) {
        if self.batch.is_some() {
            return;
        }
        let Some(Outgoing { turn_id, content, .. }) = self.outbox.get(index) else { return };
        let (turn_id, content) = (turn_id.clone(), content.clone());
        self.effects.push_back(Effect::Keep(Unsent { chat: self.chat.clone(), turn_id, content }));
    }

    /// A message of the outbox is accepted, or not wanted any more.
    pub(super) fn give_up(&mut self, index: usize) {
        if let Some(message) = self.outbox.remove(index)
            && self.batch.is_none()
        {
            self.effects.push_back(Effect::Forget(message.turn_id));
        }
    }

    /// The person goes to another chat: what is on its way goes on.
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

    /// Whether it was a message for another chat that is accepted now.
    pub(super) fn settled_elsewhere(&mut self, turn_id: &TurnId) -> bool {
        let Some(chat_id) = self.remove_elsewhere(turn_id) else { return false };
        self.note(&format!("Sent to chat {chat_id}; /attach {chat_id} goes there."));
        if self.chat.as_ref() != Some(&chat_id) {
            // The message attached; what follows is not for this screen.
            self.send(&ClientEnvelope::Detach { chat_id });
        }
        self.flush_elsewhere();
        true
    }

    /// Whether it was a message for another chat that is refused.
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

    /// The person goes. What is not accepted yet is kept.
    pub(super) fn quit(&mut self) {
        let unsent = self.outbox.len() + self.elsewhere.waiting.len();
        if unsent > 0 {
            self.note(&format!("Not accepted yet, and sent when this program is next started: {unsent}"));
        }
        self.effects.push_back(Effect::Quit(0));
    }
}
