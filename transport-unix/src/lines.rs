//! Splits a byte stream into lines of bounded length.

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// How many bytes one read asks for at least.
const CHUNK: usize = 4 * 1024;

/// Reads lines of at most `limit` bytes.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    io: R,
    buffer: BytesMut,
    /// How many bytes at the start of `buffer` were searched and contain no line break.
    searched: usize,
    limit: usize,
    ended: bool,
}

/// The result of reading a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A line without its line break. The last line of a stream may have had none.
    Whole(Bytes),
    /// The line is longer than the limit. No further line can be read.
    TooLong,
    /// The peer has closed its sending side.
    End,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// The stream that the lines are read from.
    pub(crate) fn io(&self) -> &R {
        &self.io
    }

    pub(crate) fn new(io: R, limit: usize) -> Self {
        Self { io, buffer: BytesMut::new(), searched: 0, limit, ended: false }
    }

    /// Reads the next line. Cancel safe.
    pub(crate) async fn next(&mut self) -> io::Result<Line> {
        loop {
            if let Some(line) = self.buffered() {
                return Ok(line);
            }
            if self.ended {
                return Ok(self.rest());
            }
            self.buffer.reserve(CHUNK);
            self.ended = self.io.read_buf(&mut self.buffer).await? == 0;
        }
    }

    fn buffered(&mut self) -> Option<Line> {
        let found = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
        let Some(found) = found else {
            self.searched = self.buffer.len();
            return (self.buffer.len() > self.limit).then_some(Line::TooLong);
        };
        let end = self.searched + found;
        self.searched = 0;
        if end > self.limit {
            return Some(Line::TooLong);
        }
        let line = self.buffer.split_to(end).freeze();
        self.buffer.advance(1);
        if self.buffer.is_empty() {
            // An idle connection needs no buffer.
            self.buffer = BytesMut::new();
        }
        Some(Line::Whole(line))
    }

    fn rest(&mut self) -> Line {
        self.searched = 0;
        match self.buffer.split() {
            rest if rest.is_empty() => Line::End,
            rest => Line::Whole(rest.freeze()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(bytes: &[u8], limit: usize) -> Vec<Line> {
        let mut lines = Lines::new(bytes, limit);
        let mut all = Vec::new();
        loop {
            let line = lines.next().await.unwrap();
            let last = matches!(line, Line::End | Line::TooLong);
            all.push(line);
            if last {
                return all;
            }
        }
    }

    fn whole(text: &'static str) -> Line {
        Line::Whole(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn lines_end_with_a_break_or_with_the_stream() {
        assert_eq!(all(b"a\n\nbc", 10).await, [whole("a"), whole(""), whole("bc"), Line::End]);
        assert_eq!(all(b"", 10).await, [Line::End]);
    }

    #[tokio::test]
    async fn a_line_may_be_as_long_as_the_limit() {
        assert_eq!(all(b"12345\n", 5).await, [whole("12345"), Line::End]);
        assert_eq!(all(b"123456\n", 5).await, [Line::TooLong]);
        assert_eq!(all(b"123456", 5).await, [Line::TooLong]);
    }

    #[tokio::test]
    async fn lines_are_found_however_the_bytes_arrive() {
        let bytes = b"one\ntwo\nthree\n";
        for cut in 0..bytes.len() {
            let io = tokio::io::AsyncReadExt::chain(&bytes[..cut], &bytes[cut..]);
            let mut lines = Lines::new(io, 100);
            for expected in ["one", "two", "three"] {
                assert_eq!(lines.next().await.unwrap(), whole(expected), "cut at {cut}");
            }
        }
    }
}
