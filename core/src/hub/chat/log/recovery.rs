//! The state of the recovery after the journal refused an append.

use crate::hub::refusals::{Refusal, unavailable};

/// The state of the recovery of one chat.
#[derive(Debug)]
pub(super) struct Recovery {
    /// Appends that the journal has not answered yet.
    outstanding: usize,
    /// When to ask the journal for the chat's state.
    retry_at_ms: u64,
    asked: bool,
    /// The refusal for requests that come during the recovery.
    refusal: Refusal,
}

impl Recovery {
    /// Begins the recovery. `outstanding`: the number of appends that the journal has not answered.
    pub(super) fn new(outstanding: usize, retry_at_ms: u64) -> Self {
        Self { outstanding, retry_at_ms, asked: false, refusal: unavailable() }
    }

    /// The journal answered an append.
    pub(super) fn answered(&mut self) {
        self.outstanding = self.outstanding.saturating_sub(1);
    }

    /// When to ask for the chat's state; `None` while an answer of the journal is outstanding.
    pub(super) fn due_ms(&self) -> Option<u64> {
        (self.outstanding == 0 && !self.asked).then_some(self.retry_at_ms)
    }

    /// Whether the journal is to be asked now. From then on its answer is outstanding.
    pub(super) fn ask(&mut self, now_ms: u64) -> bool {
        let due = self.due_ms().is_some_and(|due| due <= now_ms);
        self.asked |= due;
        due
    }

    /// The journal could not answer: it is asked again at this time.
    pub(super) fn retry_at(&mut self, retry_at_ms: u64) {
        self.asked = false;
        self.retry_at_ms = retry_at_ms;
    }

    /// The refusal for requests that come during the recovery.
    pub(super) fn refusal(&self) -> &Refusal {
        &self.refusal
    }

    /// The chat cannot recover: requests get this refusal from now on.
    pub(super) fn give_up(&mut self, refusal: Refusal) {
        self.refusal = refusal;
    }
}
