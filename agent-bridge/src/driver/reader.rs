//! The agent's output to records: big reads, whole lines, one batch for what arrived together.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes, BytesMut};
use switchboard_core::agent::AgentRecords;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::{mpsc, watch},
};

use super::{ends::RecordSink, input::WeakInput};
use crate::{codec::Decoded, limits::BridgeLimits};

/// What turns bytes into records, and counts them.
pub(super) trait Decoder: Send + 'static {
    /// Takes whole records off the front of what was read.
    fn decode(&mut self, read: &mut BytesMut, out: &mut Decoded) -> Result<(), RecordTooLong>;
    /// The output is complete.
    fn end(&mut self, out: &mut Decoded);
    /// The position after the last record.
    fn position(&self) -> u64;
    /// The state after the last record.
    fn checkpoint(&self) -> Option<Bytes>;
}

/// A record is over its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordTooLong;

/// What the reader noticed, besides records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Ready,
    UnknownSession,
    TurnEnded,
}

/// Why reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadEnd {
    /// The agent closed its output, or exited and has been silent since.
    Closed,
    /// A record is over its limit.
    TooLong,
}

/// What the reader is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ReadMode {
    Live,
    /// The agent has exited: read what is left in the pipe, which others may still hold open.
    Drain,
    /// Nobody wants it any more: read on only so that the agent is not blocked.
    Discard,
}

pub(super) struct Reader<D, S> {
    pub(super) decoder: Arc<Mutex<D>>,
    pub(super) sink: S,
    pub(super) replies: WeakInput,
    pub(super) signals: mpsc::UnboundedSender<Signal>,
    pub(super) mode: watch::Receiver<ReadMode>,
    pub(super) limits: BridgeLimits,
    /// Held from a position's being given to its records' being sent: they are sent in that order.
    pub(super) speaking: Arc<tokio::sync::Mutex<()>>,
}

impl<D: Decoder, S: RecordSink> Reader<D, S> {
    /// Reads until the agent's output ends.
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

    /// Reads something, or finds that there is nothing more.
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
        // Before the records: whoever hears of a turn's end may order the next one at once, and the supervisor
        // must know by then.
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
                // The gateway having gone reaches the supervisor as an order to stop.
                _ = self.sink.send(records) => {}
            }
        }
    }
}

/// Splits lines off the front of a buffer, and remembers how far it has looked.
#[derive(Debug)]
pub(super) struct Lines {
    searched: usize,
    longest: usize,
}

impl Lines {
    pub(super) fn new(longest: usize) -> Self {
        Self { searched: 0, longest }
    }

    /// The next whole line, without its newline.
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
