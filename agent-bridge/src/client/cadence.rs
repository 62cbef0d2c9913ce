//! The number of bytes between two checkpoints of a decoder.

use crate::BridgeLimits;

/// Decides when a checkpoint is due.
#[derive(Debug)]
pub(super) struct Cadence {
    /// Most bytes between two checkpoints.
    every: u64,
    /// Bytes since the last checkpoint.
    since: u64,
}

impl Cadence {
    pub(super) fn new(limits: &BridgeLimits) -> Self {
        let host = &limits.host;
        // Several checkpoints per spool, so that the spool can be trimmed before it is full.
        Self { every: host.checkpoint_bytes.min(host.spool_bytes / 8), since: 0 }
    }

    /// Most bytes between two checkpoints.
    pub(super) fn bytes(&self) -> usize {
        usize::try_from(self.every).unwrap_or(usize::MAX)
    }

    /// Counts the bytes of a batch. Returns whether a checkpoint is due after it: at a turn's end, and regularly.
    pub(super) fn is_due_after(&mut self, bytes: u64, turn_ended: bool) -> bool {
        self.since += bytes;
        turn_ended || self.since >= self.every
    }

    /// Notes that a checkpoint is sent.
    pub(super) fn restart(&mut self) {
        self.since = 0;
    }
}
