//! Counters: what was used in an hour, a day or a month.

use alloc::{format, string::String};

use super::EntryName;
use crate::{ids::Principal, journal::Durability};

/// How many windows of each period a store keeps of a counter. When an addition begins a window, earlier windows of the
/// same period beyond this number are forgotten; later windows are not, so that a clock that was wrong does no harm.
pub const KEPT_WINDOWS: usize = 32;

/// Identifies a counter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CounterKey {
    /// Whose use is counted.
    pub owner: Principal,
    /// What is counted.
    pub name: EntryName,
}

/// How long a window is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A month of the calendar.
    Month,
}

impl Period {
    /// The name under which stores have the period.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

/// A stretch of time in which a counter counts. The caller names it, since a store reads no clock.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    period: Period,
    name: String,
}

impl Window {
    /// The window that contains a time, in milliseconds of Unix time. Days and months are those of UTC; for those of
    /// another time zone, add its offset to the time.
    pub fn containing(period: Period, unix_ms: u64) -> Self {
        // The last day of the year 9999, so that all names have the same length and order.
        let hours = (unix_ms / 3_600_000).min(2_932_896 * 24 + 23);
        let (year, month, day) = date(hours / 24);
        let name = match period {
            Period::Hour => format!("{year:04}-{month:02}-{day:02}T{:02}", hours % 24),
            Period::Day => format!("{year:04}-{month:02}-{day:02}"),
            Period::Month => format!("{year:04}-{month:02}"),
        };
        Self { period, name }
    }

    /// How long the window is.
    pub fn period(&self) -> Period {
        self.period
    }

    /// The beginning of the window as in ISO 8601: `2026-11-30T19`, `2026-11-30` or `2026-11`. Among windows of one
    /// period, the order of the names is that of time.
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

/// Year, month and day of the Gregorian calendar, from the number of days since 1970.
fn date(mut days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

/// An addition to a counter in one window.
#[derive(Debug, Clone)]
pub struct Addition {
    /// The counter.
    pub counter: CounterKey,
    /// The window.
    pub window: Window,
    /// What is added; below 0, it is taken back. 0 reads the total and stores nothing. A total stays within the bounds
    /// of its type.
    pub amount: i64,
    /// What the addition must survive before it is answered.
    pub durability: Durability,
}

#[cfg(test)]
mod tests {
    use alloc::borrow::ToOwned as _;

    use super::*;

    #[test]
    fn a_window_is_named_by_its_beginning() {
        let names = |unix_ms| {
            [Period::Hour, Period::Day, Period::Month]
                .map(|period| Window::containing(period, unix_ms).as_str().to_owned())
        };
        assert_eq!(names(0), ["1970-01-01T00", "1970-01-01", "1970-01"]);
        assert_eq!(names(951_782_399_999), ["2000-02-28T23", "2000-02-28", "2000-02"]);
        assert_eq!(names(951_782_400_000), ["2000-02-29T00", "2000-02-29", "2000-02"]);
        assert_eq!(names(1_796_065_440_000), ["2026-11-30T19", "2026-11-30", "2026-11"]);
        assert_eq!(names(4_107_542_400_000), ["2100-03-01T00", "2100-03-01", "2100-03"]);
        assert_eq!(names(253_402_300_799_999), ["9999-12-31T23", "9999-12-31", "9999-12"]);
        assert_eq!(names(u64::MAX), ["9999-12-31T23", "9999-12-31", "9999-12"]);
    }
}
