//! Counts and measures the lines of an agent's output, and skips lines that are too long.

use crate::limits::SKIPPED_PREFIX_BYTES;

/// Number of whole lines in `bytes`.
pub(crate) fn count(bytes: &[u8]) -> u32 {
    u32::try_from(memchr::memchr_iter(b'\n', bytes).count()).unwrap_or(u32::MAX)
}

/// Length of whole lines at the start of `bytes`: as many as fit into `about` bytes, but at least one. `None` if there
/// is no whole line.
pub(crate) fn length(bytes: &[u8], about: usize) -> Option<usize> {
    let some = &bytes[..bytes.len().min(about)];
    let last = memchr::memrchr(b'\n', some);
    let end = last.or_else(|| memchr::memchr(b'\n', &bytes[some.len()..]).map(|end| some.len() + end));
    end.map(|end| end + 1)
}

/// Whether one of these lines is longer than `longest` bytes.
pub(crate) fn has_longer(lines: &[u8], longest: usize) -> bool {
    let mut start = 0;
    memchr::memchr_iter(b'\n', lines).any(|end| end - std::mem::replace(&mut start, end + 1) > longest)
}

/// Length of the whole lines in front of the first line that is longer than `longest` bytes, and whether there is such
/// a line. It may lack its end. The first `searched` bytes contain no newline.
pub(crate) fn whole(bytes: &[u8], searched: usize, longest: usize) -> (usize, bool) {
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', &bytes[searched..]) {
        let end = searched + end;
        if end - start > longest {
            return (start, true);
        }
        start = end + 1;
    }
    (start, bytes.len() - start > longest)
}

/// A line that is too long and is skipped.
#[derive(Debug, Default)]
pub(crate) struct SkippedLine {
    /// Its length so far, without its newline.
    pub(crate) bytes: u64,
    /// Its first bytes, at most [`SKIPPED_PREFIX_BYTES`].
    pub(crate) prefix: Vec<u8>,
}

impl SkippedLine {
    /// Skips what `output` has of the line. Returns how many bytes that was, with the newline; `None` if the line goes
    /// on.
    pub(crate) fn skip(&mut self, output: &[u8]) -> Option<usize> {
        let end = memchr::memchr(b'\n', output);
        let line = &output[..end.unwrap_or(output.len())];
        let room = SKIPPED_PREFIX_BYTES - self.prefix.len();
        self.prefix.extend_from_slice(&line[..line.len().min(room)]);
        self.bytes += line.len() as u64;
        end.map(|end| end + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_at_the_limit_passes_and_one_beyond_does_not() {
        for (bytes, expected) in [
            ("12345\n", (6, false)),
            ("12345\n123456\n1\n", (6, true)),
            ("1\n12345", (2, false)),
            ("1\n123456", (2, true)),
            ("123456", (0, true)),
        ] {
            assert_eq!(whole(bytes.as_bytes(), 0, 5), expected, "{bytes:?}");
        }
        assert_eq!(whole(b"12345\n", 5, 5), (6, false));
    }

    #[test]
    fn a_skipped_line_is_measured_and_remembered_in_part() {
        let mut line = SkippedLine::default();
        assert_eq!(line.skip(&[b'a'; 3000]), None);
        assert_eq!(line.skip(&[b'b'; 3000]), None);
        assert_eq!(line.skip(b"cc\nnext\n"), Some(3));
        assert_eq!((line.bytes, line.prefix.len()), (6002, SKIPPED_PREFIX_BYTES));
        assert!(line.prefix.starts_with(b"aaa") && line.prefix.ends_with(b"bbb"));
    }
}
