//! The time, which callers pass to the core.

/// The time as the shell read it from two clocks. The core reads no clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Milliseconds of a clock that never goes back. All deadlines use this clock.
    pub ticks_ms: u64,
    /// Milliseconds of Unix time, for times that people see. May jump.
    pub unix_ms: u64,
}

impl Moment {
    /// Unix time in seconds, as some older fields of the protocol have it, from milliseconds.
    #[expect(clippy::cast_precision_loss, reason = "exact until the year 287396")]
    pub fn unix_seconds(unix_ms: u64) -> f64 {
        unix_ms as f64 / 1000.0
    }
}
