//! One reader of a chat, and how far it is.

use alloc::{collections::BTreeMap, vec::Vec};

use super::snapshot::{Part, Parts};
use crate::{
    hub::{chat::log::StateAt, context::Context},
    ids::ConnId,
    journal::HistoryPage,
    wire::{ControlEvent, Frame, MessageAccepted, encode_control},
};

/// One connection's subscription to a chat.
#[derive(Debug)]
pub(super) struct Subscription {
    /// Identifies the subscription, so that answers for an earlier one of the same connection are ignored.
    id: u64,
    state: ReaderState,
    /// The first sequence number of this subscription. Refused events before it belong to an earlier subscription.
    start: u64,
    /// The last sequence number of the replay, after which `replay_end` follows. None once that was sent.
    replay_until: Option<u64>,
    /// The answers to the client's own messages that its outbox has not certainly accepted, by sequence number.
    own: BTreeMap<u64, Own>,
    /// Frames to deliver after `replay_end`.
    after_replay: Vec<Frame>,
}

/// A `message_accepted` that its sender gets in place of the `user_message`.
#[derive(Debug)]
struct Own {
    accepted: MessageAccepted,
    /// The number of the input during which the answer was offered. If the outbox does not refuse it before the next
    /// input, the outbox has accepted it.
    offered: Option<u64>,
}

/// How far a reader is, and what it waits for.
#[derive(Debug)]
pub(super) enum ReaderState {
    Live,
    /// Gets the event `next`, and those after it, as soon as its outbox has room.
    Lagging {
        next: u64,
    },
    /// Waits for the journal's page that begins at `next`.
    Paged {
        next: u64,
    },
    /// Gets a snapshot as of sequence number `seq`, as soon as its outbox has room.
    SnapshotDue {
        seq: u64,
        state: StateAt,
    },
    /// Waits for the events of the snapshot from the journal.
    SnapshotAsked {
        seq: u64,
        state: StateAt,
    },
    /// Gets the next part of the snapshot, as soon as its outbox has room.
    SnapshotParts {
        seq: u64,
        parts: Parts,
    },
}

impl ReaderState {
    pub(super) fn is_live(&self) -> bool {
        matches!(self, Self::Live)
    }

    /// The next sequence number for a reader that is not live.
    pub(super) fn next(&self) -> Option<u64> {
        match self {
            Self::Live => None,
            Self::Lagging { next } | Self::Paged { next } => Some(*next),
            Self::SnapshotDue { seq, .. }
            | Self::SnapshotAsked { seq, .. }
            | Self::SnapshotParts { seq, .. } => Some(seq + 1),
        }
    }
}

impl Subscription {
    /// Begins a subscription. The replay ends with sequence number `replay_until`.
    pub(super) fn new(id: u64, state: ReaderState, replay_until: u64) -> Self {
        Self {
            id,
            start: state.next().unwrap_or(0),
            state,
            replay_until: Some(replay_until),
            own: BTreeMap::new(),
            after_replay: Vec::new(),
        }
    }

    /// Takes over the answers that the client may still wait for from an earlier subscription of the connection.
    /// Messages already answered are replayed as `user_message`.
    pub(super) fn replace(&mut self, mut earlier: Self, inputs: u64) {
        self.after_replay = earlier.late_answers(self.start, inputs);
        self.own = earlier.own;
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn state(&self) -> &ReaderState {
        &self.state
    }

    /// Sets the state. Returns whether the reader was live.
    pub(super) fn set_state(&mut self, state: ReaderState) -> bool {
        core::mem::replace(&mut self.state, state).is_live()
    }

    /// The first sequence number of this subscription.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Whether `replay_end` is still to be sent.
    pub(super) fn is_joining(&self) -> bool {
        self.replay_until.is_some()
    }

    /// Ends the replay if its last event is before `next`. Returns the frames to deliver after `replay_end`.
    pub(super) fn end_replay(&mut self, next: u64) -> Option<Vec<Frame>> {
        if self.replay_until.is_none_or(|until| next <= until) {
            return None;
        }
        self.replay_until = None;
        Some(core::mem::take(&mut self.after_replay))
    }

    /// Delivers a frame, after `replay_end` if that is still to be sent.
    pub(super) fn deliver(&mut self, cx: &mut Context, conn: ConnId, frame: Frame) {
        if self.is_joining() {
            self.after_replay.push(frame);
        } else {
            cx.deliver_frame(conn, frame);
        }
    }

    /// The snapshot's events are asked for now. Returns its sequence number, if a snapshot is due.
    pub(super) fn ask_snapshot(&mut self) -> Option<u64> {
        let ReaderState::SnapshotDue { seq, state } = &mut self.state else { return None };
        let (seq, state) = (*seq, core::mem::take(state));
        self.state = ReaderState::SnapshotAsked { seq, state };
        Some(seq)
    }

    /// The snapshot's events have come.
    pub(super) fn begin_parts(&mut self, page: HistoryPage) {
        if let ReaderState::SnapshotAsked { seq, state } = &mut self.state {
            let (seq, parts) = (*seq, Parts::new(page, core::mem::take(state)));
            self.state = ReaderState::SnapshotParts { seq, parts };
        }
    }

    /// The next part of a snapshot that is being sent: the snapshot's sequence number, then the part.
    pub(super) fn next_part(&mut self, limit: usize) -> Option<(u64, Part)> {
        let ReaderState::SnapshotParts { seq, parts } = &mut self.state else { return None };
        Some((*seq, parts.next(limit)))
    }

    /// Whether parts of a snapshot are still to be sent.
    pub(super) fn sends_parts(&self) -> bool {
        matches!(self.state, ReaderState::SnapshotParts { .. })
    }

    /// Abandons a partly sent snapshot, so that the connection's next page or snapshot can be fetched.
    pub(super) fn give_up_parts(&self, cx: &mut Context, conn: ConnId) {
        if self.sends_parts() {
            cx.fetched(conn);
        }
    }

    /// Remembers that the reader gets this `message_accepted` in place of its own message. `offered`: it was offered
    /// to the outbox, which may still refuse it.
    pub(super) fn remember_own(&mut self, seq: u64, accepted: MessageAccepted, offered: bool, inputs: u64) {
        self.forget_accepted(inputs);
        self.own.insert(seq, Own { accepted, offered: offered.then_some(inputs) });
    }

    /// Removes the answers offered during earlier inputs: the outbox did not refuse them, so it has accepted them.
    pub(super) fn forget_accepted(&mut self, inputs: u64) {
        self.own.retain(|_, own| own.offered.is_none_or(|input| input >= inputs));
    }

    /// The outbox refused the events from `first_seq` on.
    pub(super) fn refused(&mut self, first_seq: u64) {
        self.own.range_mut(first_seq..).for_each(|(_, own)| own.offered = None);
    }

    /// Takes the answers below sequence number `before` that the outbox has not accepted, for a client that will not
    /// get the events there any more. They are marked as duplicates, so that they move no cursor.
    pub(super) fn late_answers(&mut self, before: u64, inputs: u64) -> Vec<Frame> {
        self.forget_accepted(inputs);
        let later = self.own.split_off(&before);
        let passed = core::mem::replace(&mut self.own, later);
        let late = passed.into_values().map(|own| {
            let accepted = MessageAccepted { duplicate: true, ..own.accepted };
            encode_control(&ControlEvent::MessageAccepted(accepted))
        });
        core::mem::take(&mut self.after_replay).into_iter().chain(late).collect()
    }

    /// The frame that this reader gets for an event: the event, or `message_accepted` for the client's own message.
    pub(super) fn frame_for(&mut self, seq: u64, frame: &Frame, inputs: u64) -> Frame {
        match self.own.get_mut(&seq) {
            Some(own) => {
                own.offered = Some(inputs);
                encode_control(&ControlEvent::MessageAccepted(own.accepted.clone()))
            }
            None => frame.clone(),
        }
    }
}
