//! The text of a delta: its number and the time at which it was written, always with the same length, so that deltas
//! can be counted even if the gateway has joined them.

use std::{io::Write as _, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// Length of a delta's text, in bytes.
pub(crate) const LENGTH: usize = 32;

/// Nanoseconds on the machine's monotonic clock, which all processes share.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let now = Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0));
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// Appends the text of delta `number`, written now.
pub(crate) fn put(out: &mut Vec<u8>, number: u64) {
    let begin = out.len();
    // Writing to a Vec does not fail.
    let _ = write!(out, "{number:010}@{:019}. ", now_ns());
    debug_assert_eq!(out.len() - begin, LENGTH);
}

/// The number and the time, in nanoseconds, of one delta's text; `None` if the text is damaged.
pub(crate) fn parse(text: &[u8]) -> Option<(u64, u64)> {
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0_u64, |number, digit| {
            digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0'))
        })
    };
    if text.len() != LENGTH || text[10] != b'@' || &text[30..] != b". " {
        return None;
    }
    Some((number(&text[..10])?, number(&text[11..30])?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_was_written_is_parsed() {
        let before = now_ns();
        let mut text = Vec::new();
        put(&mut text, 1_234_567);
        let (number, at) = parse(&text).unwrap();
        assert_eq!(number, 1_234_567);
        assert!((before..=now_ns()).contains(&at));
        text[3] = b'x';
        assert_eq!(parse(&text), None);
    }
}
