//! Delays the next start of an agent after failed starts.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{exec::random::Random, limits::BridgeLimits};

/// Bounded exponential backoff with jitter. Shared by all instances of one agent.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    random: Random,
    failures: u32,
    not_before: Option<Instant>,
}

impl Backoff {
    pub(crate) fn new(limits: &BridgeLimits, random: Random) -> Self {
        let state = Mutex::new(State { random, failures: 0, not_before: None });
        Self { first: limits.backoff_first, longest: limits.backoff_longest, state }
    }

    /// The earliest time of the next start; `None` means at once.
    pub(crate) fn not_before(&self) -> Option<Instant> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).not_before
    }

    /// Notes a failed start, which delays the next one.
    pub(crate) fn failed(&self, now: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let doubled = self.first.saturating_mul(1 << state.failures.min(16));
        let longest = doubled.min(self.longest);
        // Half of the delay is fixed and half is random, so that agents that failed together do not restart together.
        let drawn = longest.mul_f64(0.5 + 0.5 * state.random.fraction());
        state.failures = state.failures.saturating_add(1);
        state.not_before = Some(now + drawn);
    }

    /// Notes a successful start, which ends the delays.
    pub(crate) fn succeeded(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures = 0;
        state.not_before = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_bound_and_success_resets() {
        let limits = BridgeLimits {
            backoff_first: Duration::from_millis(100),
            backoff_longest: Duration::from_secs(1),
            ..BridgeLimits::default()
        };
        let backoff = Backoff::new(&limits, Random::new([7; 16]));
        let now = Instant::now();
        assert_eq!(backoff.not_before(), None);
        for longest in [100, 200, 400, 800, 1000, 1000, 1000] {
            backoff.failed(now);
            let delay = backoff.not_before().unwrap() - now;
            let longest = Duration::from_millis(longest);
            assert!(delay <= longest && delay >= longest / 2, "{delay:?} of {longest:?}");
        }
        backoff.succeeded();
        assert_eq!(backoff.not_before(), None);
    }
}
