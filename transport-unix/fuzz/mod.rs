//! Arbitrary bytes give the same lines, however the bytes are split. `cargo bolero test -p switchboard-transport-unix
//! fuzz::whatever_arrives_is_cut_into_lines` searches further.

use std::{
    path::Path,
    pin::Pin,
    task::{Context, Poll},
};

use switchboard_test_support::replay_damaged;
use tokio::io::{AsyncRead, ReadBuf};

use crate::lines::{Line, Lines};

/// The longest line.
const LONGEST: usize = 32;

/// A peer whose bytes arrive in pieces.
struct Pieces<'a>(&'a [u8], usize);

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let length = self.1.min(self.0.len()).min(buf.remaining());
        let (now, later) = self.0.split_at(length);
        buf.put_slice(now);
        self.0 = later;
        Poll::Ready(Ok(()))
    }
}

/// A reference implementation: the expected lines.
fn expected(bytes: &[u8]) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut parts = bytes.split(|byte| *byte == b'\n').peekable();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        if part.len() > LONGEST {
            lines.push(Line::TooLong);
            return lines;
        }
        if !is_last || !part.is_empty() {
            lines.push(Line::Whole(part.to_vec().into()));
        }
    }
    lines.push(Line::End);
    lines
}

fn lines(bytes: &[u8]) {
    let expected = expected(bytes);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for size in [1, 2, 7, 4096] {
        let mut read = Lines::new(Pieces(bytes, size), LONGEST);
        for line in &expected {
            let next = runtime.block_on(read.next()).unwrap();
            assert_eq!(next, *line, "{bytes:?} in pieces of {size}");
        }
    }
}

#[test]
fn whatever_arrives_is_cut_into_lines() {
    bolero::check!(name = "lines")
        .with_iterations(1000)
        .with_max_len(256)
        .for_each(|bytes: &[u8]| lines(bytes));
}

#[test]
fn damaged_lines_are_cut_into_lines() {
    replay_damaged(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/__fuzz__/lines/corpus"), lines);
}
