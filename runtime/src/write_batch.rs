//! Batches of frames on their way to a peer, for every transport. The core encodes each frame once for all peers; a
//! transport adds its framing here.
//!
//! Small frames are copied into shared buffers; large frames are written without a copy.

use std::{collections::VecDeque, io, io::IoSlice, time::Duration};

use bytes::{Buf as _, Bytes};
use switchboard_core::wire::Frame;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _},
    time::{Instant, sleep_until},
};

use crate::outbox::{OutboxReader, Progress};

/// Frames of at most this many bytes are copied.
const COPY_BYTES: usize = 8 * 1024;
/// The size of the buffers that copied frames share, in bytes. A buffer is freed once it is written.
const SCRATCH_BYTES: usize = 32 * 1024;
/// The most slices for one vectored write.
const SLICES: usize = 32;

/// The bytes that a transport puts around each frame.
pub trait Framing {
    /// How many bytes are usually added to one frame. Used to size buffers.
    const OVERHEAD: usize;

    /// Appends the bytes that come before `frame`.
    fn before(&mut self, out: &mut Vec<u8>, frame: &Frame);

    /// Appends the bytes that come after the frame of the last [`before`](Self::before).
    fn after(&mut self, out: &mut Vec<u8>);
}

/// Framed bytes that are being written to a peer.
#[derive(Debug, Default)]
pub struct WriteBatch {
    pieces: VecDeque<Bytes>,
    /// The offset of the end of each frame from the beginning of the batch.
    ends: VecDeque<usize>,
    written: usize,
}

impl WriteBatch {
    /// Frames all of `batch`, and leaves `batch` empty.
    pub fn frames<F: Framing>(framing: &mut F, batch: &mut Vec<Frame>) -> Self {
        let mut left: usize = batch.iter().map(|frame| F::OVERHEAD + copied_length(frame)).sum();
        let mut scratch = Vec::with_capacity(left.min(SCRATCH_BYTES));
        let mut in_flight = Self { ends: VecDeque::with_capacity(batch.len()), ..Self::default() };
        let mut total = 0;
        for frame in batch.drain(..) {
            let copied = F::OVERHEAD + copied_length(&frame);
            if scratch.len() + copied > SCRATCH_BYTES {
                let full = std::mem::replace(&mut scratch, Vec::with_capacity(left.min(SCRATCH_BYTES)));
                in_flight.pieces.push_back(full.into());
            }
            left -= copied;
            let begin = scratch.len();
            framing.before(&mut scratch, &frame);
            if copied_length(&frame) > 0 {
                scratch.extend_from_slice(frame.bytes());
                framing.after(&mut scratch);
                total += scratch.len() - begin;
            } else {
                total += scratch.len() - begin + frame.len();
                in_flight.pieces.push_back(std::mem::take(&mut scratch).into());
                in_flight.pieces.push_back(frame.bytes().clone());
                framing.after(&mut scratch);
                total += scratch.len();
            }
            in_flight.ends.push_back(total);
        }
        in_flight.pieces.push_back(scratch.into());
        in_flight.pieces.retain(|piece| !piece.is_empty());
        in_flight
    }

    /// A batch of one frame whose framing is complete already.
    pub fn raw(bytes: Bytes) -> Self {
        let ends = VecDeque::from([bytes.len()]);
        Self { pieces: VecDeque::from([bytes]), ends, written: 0 }
    }

    /// Whether every byte is written.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    fn advance(&mut self, mut count: usize) {
        self.written += count;
        while let Some(piece) = self.pieces.front_mut() {
            if count < piece.len() {
                piece.advance(count);
                break;
            }
            count -= piece.len();
            self.pieces.pop_front();
        }
    }

    /// Takes the next bytes, at most `most`, for a writer that needs its own [`Bytes`]. They count as written. `None`
    /// if every byte is written.
    pub fn take(&mut self, most: usize) -> Option<Bytes> {
        let piece = self.pieces.front_mut()?;
        let taken = piece.split_to(most.min(piece.len()));
        if piece.is_empty() {
            self.pieces.pop_front();
        }
        self.written += taken.len();
        Some(taken)
    }

    /// Drops every frame of which no byte was written.
    pub fn keep_only_begun_frame(&mut self) {
        let end = self.ends.iter().copied().find(|end| *end >= self.written).unwrap_or(self.written);
        let at_boundary = self.written == 0 || self.ends.contains(&self.written);
        let mut left = if at_boundary { 0 } else { end - self.written };
        self.pieces.retain_mut(|piece| {
            piece.truncate(left);
            left -= piece.len();
            !piece.is_empty()
        });
    }

    /// Writes the whole batch. If the connection is to be closed meanwhile, only the frame that has begun is
    /// finished, within `close_within`. Calls [`Progress::touch`] after each write.
    ///
    /// # Errors
    /// The error of `io`; [`io::ErrorKind::WriteZero`] if `io` accepts no bytes; [`io::ErrorKind::TimedOut`] if the
    /// begun frame is not written within `close_within`.
    pub async fn write<W: AsyncWrite + Unpin>(
        mut self,
        io: &mut W,
        outbox: &mut OutboxReader,
        progress: &Progress,
        close_within: Duration,
    ) -> io::Result<()> {
        let mut close_by: Option<Instant> = None;
        while !self.is_empty() {
            let slices: Vec<IoSlice<'_>> =
                self.pieces.iter().take(SLICES).map(|piece| IoSlice::new(piece)).collect();
            tokio::select! {
                biased;
                written = io.write_vectored(&slices) => {
                    let count = written?;
                    if count == 0 {
                        return Err(io::ErrorKind::WriteZero.into());
                    }
                    progress.touch();
                    self.advance(count);
                }
                () = outbox.closed(), if close_by.is_none() => {
                    close_by = Some(Instant::now() + close_within);
                    self.keep_only_begun_frame();
                }
                () = sleep_until(close_by.unwrap_or_else(Instant::now)), if close_by.is_some() => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
        }
        Ok(())
    }
}

fn copied_length(frame: &Frame) -> usize {
    if frame.len() <= COPY_BYTES { frame.len() } else { 0 }
}

#[cfg(test)]
mod tests {
    use switchboard_core::wire::{ControlEvent, encode_control};

    use super::*;

    /// A length before and a line break after each frame, so that both ends of a frame can be recognised.
    struct Marked;

    impl Framing for Marked {
        const OVERHEAD: usize = 9;

        fn before(&mut self, out: &mut Vec<u8>, frame: &Frame) {
            out.extend_from_slice(&(frame.len() as u64).to_be_bytes());
        }

        fn after(&mut self, out: &mut Vec<u8>) {
            out.push(b'\n');
        }
    }

    fn frame(length: usize) -> Frame {
        let empty = encode_control(&ControlEvent::Pong { nonce: Some(String::new()) }).len();
        encode_control(&ControlEvent::Pong { nonce: Some("x".repeat(length - empty)) })
    }

    fn bytes(in_flight: &WriteBatch) -> Vec<u8> {
        in_flight.pieces.iter().flat_map(|piece| piece.iter().copied()).collect()
    }

    #[test]
    fn small_and_large_frames_keep_their_order() {
        let frames = [frame(100), frame(20_000), frame(50), frame(9_000), frame(40)];
        let mut expected = Vec::new();
        for frame in &frames {
            expected.extend(bytes(&WriteBatch::frames(&mut Marked, &mut vec![frame.clone()])));
        }
        assert_eq!(bytes(&WriteBatch::frames(&mut Marked, &mut frames.to_vec())), expected);
    }

    #[test]
    fn a_large_batch_is_in_buffers_of_bounded_size_and_can_be_taken_in_pieces() {
        let mut frames: Vec<Frame> = (0..1000).map(|at| frame(50 + at % 700)).collect();
        let whole: Vec<u8> = frames
            .iter()
            .flat_map(|frame| bytes(&WriteBatch::frames(&mut Marked, &mut vec![frame.clone()])))
            .collect();
        let mut in_flight = WriteBatch::frames(&mut Marked, &mut frames);
        assert!(in_flight.pieces.iter().all(|piece| piece.len() <= SCRATCH_BYTES));
        assert!(in_flight.pieces.len() > 1);
        let mut taken = Vec::new();
        while let Some(piece) = in_flight.take(10_000) {
            assert!(!piece.is_empty() && piece.len() <= 10_000);
            taken.extend_from_slice(&piece);
        }
        assert!(in_flight.is_empty());
        assert_eq!(taken, whole);
    }

    #[test]
    fn a_close_lets_the_begun_frame_end_and_drops_the_rest() {
        let frames = vec![frame(100), frame(20_000), frame(50)];
        let whole = bytes(&WriteBatch::frames(&mut Marked, &mut frames.clone()));
        let ends: Vec<usize> = WriteBatch::frames(&mut Marked, &mut frames.clone()).ends.into();
        let near_an_end = |at: usize| ends.iter().any(|end| at.abs_diff(*end) <= 12);
        for written in (0..=whole.len()).filter(|at| *at % 61 == 0 || near_an_end(*at)) {
            let mut in_flight = WriteBatch::frames(&mut Marked, &mut frames.clone());
            if written % 2 == 0 {
                in_flight.advance(written);
            } else {
                let mut left = written;
                while left > 0 {
                    left -= in_flight.take(left).unwrap().len();
                }
            }
            in_flight.keep_only_begun_frame();
            let reached = written + bytes(&in_flight).len();
            let expected = if written == 0 { 0 } else { *ends.iter().find(|end| **end >= written).unwrap() };
            assert_eq!(reached, expected, "after {written}");
            assert_eq!(bytes(&in_flight), whole[written..reached]);
        }
    }
}
