//! How far those readers are that take bytes at the moment.

use alloc::collections::VecDeque;

/// A sliding window over what readers took: the furthest place in it costs a constant, however many read.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When a reader took something, and its next number then. Later entries stand further back.
    recent: VecDeque<(u64, u64)>,
}

impl Pace {
    /// A reader took bytes and stands before `next`.
    pub(super) fn took(&mut self, now_ms: u64, next: u64) {
        while self.recent.back().is_some_and(|(_, other)| *other <= next) {
            self.recent.pop_back();
        }
        self.recent.push_back((now_ms, next));
    }

    /// The furthest place of those who took something since `since_ms`.
    pub(super) fn furthest(&mut self, since_ms: u64) -> Option<u64> {
        while self.recent.front().is_some_and(|(at, _)| *at < since_ms) {
            self.recent.pop_front();
        }
        self.recent.front().map(|(_, next)| *next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_furthest_counts_until_it_is_too_long_ago() {
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
