//! The position of the furthest reader that is reading at the moment.

use alloc::collections::VecDeque;

/// A sliding window over the readers' positions. Finding the furthest one takes constant time, however many readers
/// there are.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Later entries have smaller sequence numbers.
    recent: VecDeque<Fed>,
}

/// A reader was fed.
#[derive(Debug)]
struct Fed {
    /// When, on the clock of `Moment::ticks_ms`.
    at_ms: u64,
    /// The reader's next sequence number then.
    next: u64,
}

impl Pace {
    /// A reader was fed, and `next` is its next sequence number.
    pub(super) fn took(&mut self, now_ms: u64, next: u64) {
        while self.recent.back().is_some_and(|fed| fed.next <= next) {
            self.recent.pop_back();
        }
        self.recent.push_back(Fed { at_ms: now_ms, next });
    }

    /// The highest next sequence number of all readers that were fed since `since_ms`.
    pub(super) fn furthest(&mut self, since_ms: u64) -> Option<u64> {
        while self.recent.front().is_some_and(|fed| fed.at_ms < since_ms) {
            self.recent.pop_front();
        }
        self.recent.front().map(|fed| fed.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_furthest_reader_counts_until_it_is_too_long_ago() {
        let mut pace = Pace::default();
        assert_eq!(pace.furthest(0), None);
        pace.took(10, 7);
        pace.took(20, 3);
        pace.took(30, 5);
        assert_eq!(pace.recent.len(), 2, "3 is hidden by 5");
        assert_eq!(pace.furthest(10), Some(7));
        assert_eq!(pace.furthest(11), Some(5));
        assert_eq!(pace.furthest(31), None);
    }
}
