//! Pieces of an answer that readers have and the journal was not given yet.
//!
//! A piece may be shown before the journal has it, because it can be read again from the agent's spool after a kill:
//! then it gets the same number again, as it follows the same events. So nothing else is ever numbered between a shown
//! piece and the journal: whatever is appended, the tail is appended in front of it.

use alloc::vec::Vec;

use super::draft::{Draft, Staged};
use crate::{
    journal::Change,
    wire::{ChatBody, json_bytes},
};

/// How long a piece waits for the pieces with which it is appended, in milliseconds. Chats flush at the multiples of it,
/// so that the tails of many chats are one commit.
const FLUSH_MS: u64 = 250;
/// The tail is appended once it has this size, in bytes.
const FLUSH_BYTES: usize = 64 * 1024;
/// The most bytes of a piece's frame beside its text.
const PLACE_BYTES: usize = 2 * 1024;

/// The shown pieces that are to be appended next.
#[derive(Debug, Default)]
pub(super) struct Tail {
    events: Vec<Staged>,
    /// The position of the agent after the newest piece.
    position: Option<Change>,
    bytes: usize,
    due_ms: u64,
}

impl Tail {
    /// Adds pieces that are shown now, and the agent's position after them.
    pub(super) fn hold(&mut self, now_ms: u64, events: Vec<Staged>, position: Option<Change>) {
        if self.events.is_empty() {
            self.due_ms = (now_ms / FLUSH_MS + 1) * FLUSH_MS;
        }
        self.bytes += events.iter().map(|event| event.frame().len()).sum::<usize>();
        self.events.extend(events);
        self.position = position.or(self.position.take());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The size of the pieces' frames, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// When to append the tail.
    pub(super) fn due_ms(&self) -> Option<u64> {
        (!self.is_empty()).then_some(self.due_ms)
    }

    /// Whether to append the tail now.
    pub(super) fn is_due(&self, now_ms: u64) -> bool {
        self.bytes >= FLUSH_BYTES || self.due_ms().is_some_and(|due| due <= now_ms)
    }

    /// Takes out the pieces, and the agent's position after them.
    pub(super) fn take(&mut self) -> (Vec<Staged>, Option<Change>) {
        let Self { events, position, .. } = core::mem::take(self);
        (events, position)
    }
}

/// The most bytes that the frames of a draft's events can have, if it has nothing but pieces of streams that are open
/// already, and the agent's position after them. A piece that opens a stream changes the open work, too.
pub(super) fn bytes_of_pieces(draft: &Draft) -> Option<usize> {
    let is_position = |change: &Change| matches!(change, Change::AgentPosition { checkpoint: None, .. });
    let has_more = draft.create || draft.origin.is_some() || !draft.effects.is_empty();
    if !draft.spooled || has_more || draft.events.is_empty() || !draft.changes.iter().all(is_position) {
        return None;
    }
    let bytes = |(_, body): &(_, ChatBody)| {
        let (ChatBody::Delta { text, .. } | ChatBody::ReasoningDelta { text, .. }) = body else {
            return None;
        };
        Some(PLACE_BYTES + json_bytes(text))
    };
    draft.events.iter().map(bytes).sum()
}
