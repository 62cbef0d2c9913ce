//! Recent events of a chat, kept in memory.

use alloc::collections::VecDeque;

use crate::wire::Frame;

/// Recent events of a chat, for readers that are a little behind.
#[derive(Debug, Default)]
pub(in crate::hub::chat) struct Ring {
    entries: VecDeque<RingEntry>,
    bytes: usize,
    /// Bytes ever pushed. The difference of two values is the number of bytes between two events.
    total: u64,
}

#[derive(Debug)]
struct RingEntry {
    seq: u64,
    frame: Frame,
    /// `total` before this entry.
    before: u64,
}

impl Ring {
    pub(in crate::hub::chat) fn push(&mut self, seq: u64, frame: Frame, limit: usize) {
        self.bytes += frame.len();
        let before = self.total;
        self.total += frame.len() as u64;
        self.entries.push_back(RingEntry { seq, frame, before });
        while self.bytes > limit {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.frame.len();
        }
    }

    /// All events in the ring, oldest first.
    pub(in crate::hub::chat) fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.entries.iter().map(|entry| &entry.frame)
    }

    /// The events from `seq` on, or `None` if the event `seq` is not in the ring.
    pub(in crate::hub::chat) fn from(&self, seq: u64) -> Option<impl Iterator<Item = (u64, &Frame)>> {
        let first = self.entries.front()?.seq;
        let skip = usize::try_from(seq.checked_sub(first)?).ok()?;
        (skip < self.entries.len()).then(|| self.entries.range(skip..).map(|entry| (entry.seq, &entry.frame)))
    }

    /// The number of bytes from `seq` to the end. If the event has left the ring, the number of all bytes ever pushed.
    pub(in crate::hub::chat) fn bytes_from(&self, seq: u64) -> u64 {
        match self.entries.front() {
            Some(first) if seq >= first.seq => {
                let skip = usize::try_from(seq - first.seq).unwrap_or(usize::MAX);
                self.entries.get(skip).map_or(0, |entry| self.total - entry.before)
            }
            _ => self.total,
        }
    }
}
