//! The gateway's clock.

use std::time::{Duration, Instant, SystemTime};

use rustix::time::{ClockId, clock_gettime};
use switchboard_core::Moment;

/// The engine reads the clock every second. If this much time passes between two reads, the process was suspended.
const STANDSTILL: Duration = Duration::from_millis(2_500);

/// The gateway's only clock. Its ticks do not advance while the process or the machine is suspended: the gateway saw
/// nothing of agents and readers meanwhile, so their silence must not count against a deadline.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    began: Instant,
    read: Instant,
    stood_still: Duration,
    /// The value of `stood_still` at the last call of `stood_still_lately`.
    checked: Duration,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self { began: now, read: now, stood_still: Duration::ZERO, checked: Duration::ZERO }
    }

    pub(crate) fn now(&mut self) -> Moment {
        self.read_at(Instant::now());
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Moment { ticks_ms: self.ticks_ms(), boot_ms: boot_ms(), unix_ms: millis(unix) }
    }

    /// Takes note of the time, and of a suspension since the last read.
    pub(crate) fn read_at(&mut self, now: Instant) {
        let since = now.saturating_duration_since(std::mem::replace(&mut self.read, now));
        if since > STANDSTILL {
            tracing::warn!(ms = millis(since), "the gateway stood still; no deadline counts that time");
            self.stood_still += since;
        }
    }

    /// Whether the process was suspended since the last call.
    pub(crate) fn stood_still_lately(&mut self) -> bool {
        std::mem::replace(&mut self.checked, self.stood_still) != self.stood_still
    }

    fn ticks_ms(&self) -> u64 {
        millis(self.read.saturating_duration_since(self.began).saturating_sub(self.stood_still))
    }

    pub(crate) fn instant(&self, ticks_ms: u64) -> tokio::time::Instant {
        (self.began + self.stood_still + Duration::from_millis(ticks_ms)).into()
    }
}

/// The time since the machine was started, in milliseconds, with the time in which it slept: the clock of
/// [`Moment::boot_ms`], by which a journal says how long it grants a chat.
pub fn boot_ms() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds * 1000 + u64::try_from(time.tv_nsec / 1_000_000).unwrap_or_default()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_the_process_stood_still_does_not_count() {
        let mut clock = Clock::new();
        let began = clock.began;
        let after = |ms: u64| began + Duration::from_millis(ms);
        clock.read_at(after(1_000));
        clock.read_at(after(2_100));
        assert_eq!(clock.ticks_ms(), 2_100);
        assert!(!clock.stood_still_lately());
        // A minute without a read.
        clock.read_at(after(62_100));
        assert_eq!(clock.ticks_ms(), 2_100);
        clock.read_at(after(63_000));
        assert_eq!(clock.ticks_ms(), 3_000);
        assert!(clock.stood_still_lately(), "whoever noticed it first");
        assert!(!clock.stood_still_lately());
        // Deadlines move by the length of the suspension.
        assert_eq!(clock.instant(3_500), after(63_500).into());
    }
}
