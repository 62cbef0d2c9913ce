//! Messages on their way to the gateway.

use std::collections::VecDeque;

use switchboard_core::ids::{ChatId, TurnId};

/// A message that the gateway has not accepted yet.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) turn_id: TurnId,
    pub(super) content: String,
    /// Whether it was sent on the present connection.
    pub(super) sent: bool,
}

/// Messages to chats other than the current one. At most one of them waits for its acknowledgement at a time.
#[derive(Debug, Default)]
pub(super) struct BackgroundSends {
    pub(super) waiting: VecDeque<(ChatId, Outgoing)>,
}

impl BackgroundSends {
    pub(super) fn handle_disconnect(&mut self) {
        self.waiting.iter_mut().for_each(|(_, message)| message.sent = false);
    }
}
