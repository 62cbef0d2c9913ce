//! Time as an argument.

/// A moment, as the shell read it. The core reads no clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Milliseconds on a clock that never goes back; every deadline is measured on it.
    pub ticks_ms: u64,
    /// Milliseconds of Unix time, for people; may jump.
    pub unix_ms: u64,
}

impl Moment {
    /// Unix time in seconds, as the older vocabulary has it.
    #[expect(clippy::cast_precision_loss, reason = "exact until the year 287396")]
    pub fn unix_seconds(unix_ms: u64) -> f64 {
        unix_ms as f64 / 1000.0
    }
}
