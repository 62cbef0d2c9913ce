//! A rate limit that needs no timer: the generic cell rate algorithm (ITU-T I.371).

/// One bucket. Times are given in milliseconds and stored in microseconds, for rates that do not divide evenly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    /// When the bucket will be full again, in microseconds.
    full_at_us: u64,
}

impl Bucket {
    /// Takes one from the bucket: `count` per `period_ms` on average, at most `burst` at once.
    ///
    /// # Errors
    /// If the bucket is empty: the milliseconds until the next one is free.
    pub(super) fn take(&mut self, now_ms: u64, count: u32, period_ms: u64, burst: u32) -> Result<(), u64> {
        let now = now_ms.saturating_mul(1000);
        let interval = period_ms.saturating_mul(1000) / u64::from(count.max(1));
        let full_at = self.full_at_us.max(now) + interval;
        let ahead = full_at - now;
        let allowed = interval.saturating_mul(u64::from(burst));
        if ahead > allowed {
            return Err((ahead - allowed).div_ceil(1000));
        }
        self.full_at_us = full_at;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let mut bucket = Bucket::default();
        for _ in 0..60 {
            assert_eq!(bucket.take(1000, 20, 1000, 60), Ok(()));
        }
        assert_eq!(bucket.take(1000, 20, 1000, 60), Err(50));
        assert_eq!(bucket.take(1049, 20, 1000, 60), Err(1));
        assert_eq!(bucket.take(1050, 20, 1000, 60), Ok(()));
        assert_eq!(bucket.take(1050, 20, 1000, 60), Err(50));
    }

    #[test]
    fn an_idle_bucket_holds_no_more_than_its_burst() {
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take(1_000_000, 1, 1000, 2), Ok(()));
        assert_eq!(bucket.take(1_000_000, 1, 1000, 2), Ok(()));
        assert_eq!(bucket.take(1_000_000, 1, 1000, 2), Err(1000));
    }
}
