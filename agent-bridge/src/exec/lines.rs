//! Counts and measures the lines of an agent's output, and skips lines that are too long.

use bytes::{Buf as _, BytesMut};

use crate::limits::SKIPPED_PREFIX_BYTES;

/// Number of whole lines in `bytes`.
pub(crate) fn count(bytes: &[u8]) -> u32 {
    u32::try_from(memchr::memchr_iter(b'\n', bytes).count()).unwrap_or(u32::MAX)
}

/// Length of the whole lines in front of the first line that is longer than `longest` bytes, and whether there is such
/// a line. It may lack its end. The first `searched` bytes contain no newline.
fn whole(bytes: &[u8], searched: usize, longest: usize) -> (usize, bool) {
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

/// What is at the front of a buffer.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Whole lines.
    Lines(BytesMut),
    /// A line that was too long.
    Skipped(SkippedLine),
}

/// Splits whole lines off the front of a buffer without searching the same bytes twice, and skips lines that are too
/// long.
#[derive(Debug)]
pub(crate) struct LineSplitter {
    searched: usize,
    longest: usize,
    /// The line that is being skipped. The buffer begins with what follows of it.
    skipped: Option<SkippedLine>,
}

impl LineSplitter {
    /// `longest` is the length of the longest line that is not skipped, in bytes.
    pub(crate) fn new(longest: usize) -> Self {
        Self { searched: 0, longest, skipped: None }
    }

    /// The next piece; `None` if more output is needed.
    pub(crate) fn next(&mut self, buffer: &mut BytesMut) -> Option<Piece> {
        if self.skipped.is_none() {
            let (whole, is_too_long) = whole(buffer, self.searched, self.longest);
            self.searched = if is_too_long { 0 } else { buffer.len() - whole };
            self.skipped = is_too_long.then(SkippedLine::default);
            if whole > 0 {
                return Some(Piece::Lines(buffer.split_to(whole)));
            }
        }
        let mut line = self.skipped.take()?;
        let Some(end) = line.skip(buffer) else {
            *buffer = BytesMut::new();
            self.skipped = Some(line);
            return None;
        };
        buffer.advance(end);
        Some(Piece::Skipped(line))
    }

    /// The last line, which lacks its end, if there is one. What is put into the buffer then belongs to other output.
    pub(crate) fn rest(&mut self, buffer: &mut BytesMut) -> Option<Piece> {
        self.searched = 0;
        if let Some(line) = self.skipped.take() {
            return Some(Piece::Skipped(line));
        }
        (!buffer.is_empty()).then(|| {
            buffer.extend_from_slice(b"\n");
            Piece::Lines(buffer.split())
        })
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

    #[test]
    fn lines_come_whole_and_long_ones_are_skipped_however_they_arrive() {
        for (text, expected) in [
            ("one\n\ntwo two\nrest", "one\n\ntwo two\nrest\n"),
            ("one\n12345678901\ntwo\n", "one\n[11 12345678901]two\n"),
            ("12345678901\n\n123456789012", "[11 12345678901]\n[12 123456789012]"),
            ("1234567890\n", "1234567890\n"),
        ] {
            for size in 1..=text.len() {
                let mut lines = LineSplitter::new(10);
                let (mut buffer, mut found) = (BytesMut::new(), String::new());
                let mut note = |piece| match piece {
                    Piece::Lines(whole) => found.push_str(std::str::from_utf8(&whole).unwrap()),
                    Piece::Skipped(SkippedLine { bytes, prefix }) => {
                        found.push_str(&format!("[{bytes} {}]", String::from_utf8(prefix).unwrap()));
                    }
                };
                for part in text.as_bytes().chunks(size) {
                    buffer.extend_from_slice(part);
                    while let Some(piece) = lines.next(&mut buffer) {
                        note(piece);
                    }
                }
                lines.rest(&mut buffer).into_iter().for_each(note);
                assert_eq!(found, expected, "{size} bytes a read");
            }
        }
    }
}
