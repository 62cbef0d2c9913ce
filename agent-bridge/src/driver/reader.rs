//! Reads an agent's output in large pieces and sends all records of one read as one batch.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes, BytesMut};
use switchboard_core::agent::AgentRecords;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::{mpsc, watch},
};

use super::{ends::RecordSink, input::WeakInput};
use crate::{dialect::Decoded, limits::BridgeLimits};

/// Decodes bytes to events and counts the records.
pub(super) trait Decoder: Send + 'static {
    /// Takes whole records off the front of `read`. Fails if a record is too long.
    fn decode(&mut self, read: &mut BytesMut, out: &mut Decoded) -> Result<(), RecordTooLong>;
    /// Decodes the end of the output.
    fn end(&mut self, out: &mut Decoded);
    /// The position of the last decoded record.
    fn position(&self) -> u64;
    /// The decoder's state after the last decoded record; `None` if the dialect has no checkpoints.
    fn checkpoint(&self) -> Option<Bytes>;
}

/// A record is longer than [`BridgeLimits::record_bytes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordTooLong;

/// What the reader reports to the supervisor of the instance, besides records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Ready,
    UnknownSession,
    TurnEnded,
}

/// Why the reader has finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadEnd {
    /// The agent closed its output, or has exited and its output has been silent since.
    Closed,
    /// A record is longer than the limit.
    TooLong,
}

/// How the reader treats the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ReadMode {
    Live,
    /// The agent has exited: read the rest of the output. Other processes may still keep the pipe open.
    Drain,
    /// Discard the records, and read only so that the agent does not block.
    Discard,
}

pub(super) struct Reader<D, S> {
    pub(super) decoder: Arc<Mutex<D>>,
    pub(super) sink: S,
    pub(super) replies: WeakInput,
    pub(super) signals: mpsc::UnboundedSender<Signal>,
    pub(super) mode: watch::Receiver<ReadMode>,
    pub(super) limits: BridgeLimits,
    /// Locked from the moment in which a batch gets its position until the batch is sent, so that batches are sent in
    /// the order of their positions.
    pub(super) speaking: Arc<tokio::sync::Mutex<()>>,
}

impl<D: Decoder, S: RecordSink> Reader<D, S> {
    /// Reads until the agent's output ends or a record is too long.
    pub(super) async fn run(mut self, mut output: impl AsyncRead + Unpin) -> ReadEnd {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(self.limits.read_bytes);
            if !self.read(&mut output, &mut buffer).await {
                break;
            }
            let speaking = Arc::clone(&self.speaking);
            let _speaks = speaking.lock().await;
            let mut out = Decoded::default();
            let decoded = self.decoder().decode(&mut buffer, &mut out);
            self.hand_on(out).await;
            if decoded.is_err() {
                return ReadEnd::TooLong;
            }
        }
        let speaking = Arc::clone(&self.speaking);
        let _speaks = speaking.lock().await;
        let mut out = Decoded::default();
        self.decoder().end(&mut out);
        self.hand_on(out).await;
        ReadEnd::Closed
    }

    fn decoder(&self) -> std::sync::MutexGuard<'_, D> {
        self.decoder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads some bytes into `buffer`. Returns false at the end of the output.
    async fn read(&mut self, output: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut) -> bool {
        let mut limited = output.take(self.limits.read_bytes as u64);
        loop {
            let mode = *self.mode.borrow_and_update();
            let silence = tokio::time::sleep(self.limits.drain);
            tokio::select! {
                biased;
                read = limited.read_buf(buffer) => return read.is_ok_and(|bytes| bytes > 0),
                () = silence, if mode == ReadMode::Drain => return false,
                changed = self.mode.changed() => if changed.is_err() { return false },
            }
        }
    }

    async fn hand_on(&mut self, out: Decoded) {
        for mut reply in out.replies {
            reply.push(b'\n');
            self.replies.send(reply);
        }
        // Before the records: a client that receives a turn's end may send the next prompt at once, and by then the
        // supervisor must know that the turn has ended.
        for (seen, signal) in [
            (out.ready, Signal::Ready),
            (out.unknown_session, Signal::UnknownSession),
            (out.turn_ended, Signal::TurnEnded),
        ] {
            if seen {
                let _ = self.signals.send(signal);
            }
        }
        if !out.events.is_empty() {
            let (position, checkpoint) = {
                let decoder = self.decoder();
                (decoder.position(), if out.turn_ended { decoder.checkpoint() } else { None })
            };
            let records = AgentRecords { position, events: out.events, checkpoint };
            let mut mode = self.mode.clone();
            tokio::select! {
                biased;
                _ = mode.wait_for(|mode| *mode == ReadMode::Discard) => {}
                // If the gateway is gone, the supervisor gets `AgentControl::Stop`.
                _ = self.sink.send(records) => {}
            }
        }
    }
}

/// Splits whole lines off the front of a buffer without searching the same bytes twice.
#[derive(Debug)]
pub(super) struct Lines {
    searched: usize,
    longest: usize,
}

impl Lines {
    pub(super) fn new(longest: usize) -> Self {
        Self { searched: 0, longest }
    }

    /// The next whole line, without its newline; `None` if the buffer has no whole line.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<BytesMut>, RecordTooLong> {
        let Some(found) = memchr::memchr(b'\n', &buffer[self.searched..]) else {
            self.searched = buffer.len();
            return if buffer.len() > self.longest { Err(RecordTooLong) } else { Ok(None) };
        };
        let line = buffer.split_to(self.searched + found);
        buffer.advance(1);
        self.searched = 0;
        if line.len() > self.longest { Err(RecordTooLong) } else { Ok(Some(line)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_they_arrive() {
        let text = b"one\n\ntwo two\nrest";
        for size in 1..=text.len() {
            let (mut lines, mut buffer, mut found) = (Lines::new(100), BytesMut::new(), Vec::new());
            for part in text.chunks(size) {
                buffer.extend_from_slice(part);
                while let Some(line) = lines.next(&mut buffer).unwrap() {
                    found.push(String::from_utf8(line.to_vec()).unwrap());
                }
            }
            assert_eq!(found, ["one", "", "two two"], "{size} bytes a read");
            assert_eq!(&buffer[..], b"rest");
        }
    }

    #[test]
    fn a_line_at_the_limit_passes_and_one_beyond_does_not() {
        let mut buffer = BytesMut::from(&b"12345\n123456\n"[..]);
        let mut lines = Lines::new(5);
        assert_eq!(lines.next(&mut buffer), Ok(Some(BytesMut::from(&b"12345"[..]))));
        assert_eq!(lines.next(&mut buffer), Err(RecordTooLong));
        let mut endless = BytesMut::from(&b"123456"[..]);
        assert_eq!(Lines::new(5).next(&mut endless), Err(RecordTooLong));
    }
}
