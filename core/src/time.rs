//! The time, which callers pass to the core.

/// The time as the shell read it from three clocks. The core reads no clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Milliseconds of a clock that never goes back. All deadlines of the protocol use this clock. It may stand still
    /// while the process does, so that no peer's silence counts that the shell could not have noticed.
    pub ticks_ms: u64,
    /// Milliseconds of a clock that never goes back and never stands still, also while the machine sleeps. For
    /// agreements with others, whose time goes on: see [`Grant::until_ms`](crate::journal::Grant::until_ms).
    pub boot_ms: u64,
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
