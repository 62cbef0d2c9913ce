//! Counts frequent events, so that they do not fill the log.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// Counts events of one kind, such as refused peers, for the log. The first event is logged at once, all others
/// together in one line per [`Tally::PERIOD`]. A million events in one period cost two lines.
///
/// ```
/// # use switchboard_runtime::Tally;
/// let refused = Tally::default();
/// assert!(refused.count("peer 1"), "to be logged now");
/// assert!(!refused.count("peer 2"));
/// assert!(!refused.count("peer 3"));
/// assert_eq!(refused.take(), Some((2, "peer 3")), "to be logged as a sum");
/// ```
#[derive(Debug)]
pub struct Tally<T>(Mutex<Counted<T>>);

#[derive(Debug)]
struct Counted<T> {
    /// When the period began: at the first event or at the last sum. `None` after a period without events.
    since: Option<Instant>,
    /// How many events were not logged yet, and the newest of them.
    further: Option<(u64, T)>,
}

impl<T> Default for Tally<T> {
    fn default() -> Self {
        Self(Mutex::new(Counted { since: None, further: None }))
    }
}

impl<T> Tally<T> {
    /// How often the events are summed up.
    pub const PERIOD: Duration = Duration::from_secs(10);

    /// Counts an event. Returns true for the first event after a period without events: the caller logs this event at
    /// once, and no sum includes it.
    pub fn count(&self, event: T) -> bool {
        let mut counted = self.lock();
        if counted.since.is_none() {
            counted.since = Some(Instant::now());
            return true;
        }
        let before = counted.further.take().map_or(0, |(n, _)| n);
        counted.further = Some((before.saturating_add(1), event));
        false
    }

    /// Ends a period. Returns how many events the caller has not logged, and the newest of them. Call this function
    /// every [`Tally::PERIOD`] (see [`due`](Self::due)) and before the process ends.
    pub fn take(&self) -> Option<(u64, T)> {
        let mut counted = self.lock();
        let further = counted.further.take();
        counted.since = further.as_ref().map(|_| Instant::now());
        further
    }

    /// Waits until [`Tally::take`] is due: for ever if no event was counted. Cancel safe.
    pub async fn due(&self) {
        let since = self.lock().since;
        match since {
            Some(since) => sleep_until(since + Self::PERIOD).await,
            None => std::future::pending().await,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counted<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[test]
    fn the_first_is_reported_at_once_and_the_others_are_counted() {
        let tally = Tally::default();
        assert!(tally.count(0));
        for n in 1..=1000 {
            assert!(!tally.count(n));
        }
        assert_eq!(tally.take(), Some((1000, 1000)));
        assert!(!tally.count(1), "the flood goes on");
        assert_eq!(tally.take(), Some((1, 1)));
        assert_eq!(tally.take(), None);
        assert!(tally.count(1), "it was quiet for a period");
    }

    #[tokio::test(start_paused = true)]
    async fn a_sum_is_due_one_period_after_the_first_event_or_the_last_sum() {
        let tally = Tally::default();
        assert!(timeout(Duration::from_secs(3600), tally.due()).await.is_err(), "nothing was counted");
        for _ in 0..2 {
            tally.count(());
            tally.count(());
            let begun = Instant::now();
            tally.due().await;
            assert_eq!(begun.elapsed(), Tally::<()>::PERIOD);
            tally.take();
        }
        tally.due().await;
        assert_eq!(tally.take(), None);
        assert!(timeout(Duration::from_secs(3600), tally.due()).await.is_err(), "it was quiet");
    }
}
