//! Times as people read them.

/// A time in seconds of Unix time, as `2026-09-21 at 14:13 UTC`. `None` if it is beyond the year 9999.
pub(super) fn utc(seconds: u64) -> Option<String> {
    if seconds >= 253_402_300_800 {
        return None;
    }
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March, so that a leap day is the last day of its year; eras have 400 years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next;
    let (hour, minute) = (second / 3600, second % 3600 / 60);
    Some(format!("{year}-{month:02}-{date:02} at {hour:02}:{minute:02} UTC"))
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01 at 00:00 UTC"),
            (951_827_696, "2000-02-29 at 12:34 UTC"),
            (1_790_003_600, "2026-09-21 at 15:13 UTC"),
            (4_107_542_399, "2100-02-28 at 23:59 UTC"),
            (4_107_542_400, "2100-03-01 at 00:00 UTC"),
            (253_402_300_799, "9999-12-31 at 23:59 UTC"),
        ] {
            assert_eq!(utc(seconds).as_deref(), Some(expected));
        }
        assert_eq!(utc(u64::MAX), None);
    }
}
