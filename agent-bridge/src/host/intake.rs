//! Reads the agent's output into the spool: one frame per read, and no reads while the spool is full.

use std::{collections::VecDeque, sync::Arc};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::{Notify, watch},
};

use super::{
    protocol::{Kind, RECORD_HEAD},
    spool::{Spool, begin_block},
};
use crate::{
    BridgeLimits,
    dialect::Framing,
    exec::{
        lines::{self, SkippedLine},
        read_mode::ReadMode,
    },
};

/// Why reading has ended.
#[derive(Debug)]
pub(super) enum IntakeEnd<R> {
    /// The agent closed its output, or has exited and its output has been silent since.
    Closed,
    /// Reading was paused between two records; contains the output.
    Between(R),
}

/// Records that are not spooled yet: kind, number of records, payload.
pub(super) type Backlog = VecDeque<(Kind, u32, Bytes)>;

/// Most bytes of one read: the default capacity of a pipe.
const READ_BYTES: usize = 64 * 1024;

pub(super) struct Intake {
    pub(super) spool: Arc<Spool>,
    pub(super) framing: Framing,
    pub(super) mode: watch::Receiver<ReadMode>,
    pub(super) limits: BridgeLimits,
    /// Notified when a turn seems to have ended.
    pub(super) turn_ended: Arc<Notify>,
    /// Records to spool before anything is read.
    pub(super) backlog: Backlog,
    /// Bytes that were read from the output before.
    pub(super) begun: Bytes,
    /// Notified to pause reading between two records.
    pub(super) pause: Arc<Notify>,
}

/// The result of one read.
enum Read {
    /// This many bytes were read; zero at the end of the output.
    Bytes(usize),
    Pause,
}

impl Intake {
    /// Reads until the agent's output ends or reading is paused.
    pub(super) async fn run<R: AsyncRead + Unpin>(mut self, mut output: R) -> IntakeEnd<R> {
        self.append_backlog().await;
        // The spool is trimmed by whole files, so its size must be many times that of a frame.
        let some = usize::try_from(self.limits.host.spool_bytes / 16).unwrap_or(usize::MAX);
        let most = self.limits.read_bytes.min(READ_BYTES).min(some).max(1);
        let longest = self.limits.spooled_record_bytes();
        let mut block = begin_block(most);
        let mut searched = block.len();
        // The line that is being skipped. Nothing of it is in the block.
        let mut skipped: Option<SkippedLine> = None;
        loop {
            self.room().await;
            let count = match self.read(&mut output, &mut block, most).await {
                Read::Bytes(0) => {
                    self.append_rest(block, skipped).await;
                    return IntakeEnd::Closed;
                }
                Read::Bytes(count) => count,
                Read::Pause if block.len() > RECORD_HEAD || skipped.is_some() => continue,
                Read::Pause => return IntakeEnd::Between(output),
            };
            if let Some(line) = skipped.take() {
                skipped = self.skip(line, &block[RECORD_HEAD..]).await;
                block.truncate(RECORD_HEAD);
                continue;
            }
            let whole = self.whole_records(&block, searched);
            let payload = &block[RECORD_HEAD..whole];
            if block.len() - whole > longest || payload.len() > longest && lines::has_longer(payload, longest)
            {
                self.append_before_long_line(block, longest).await;
                skipped = Some(SkippedLine::default());
                block = begin_block(most);
                searched = block.len();
                continue;
            }
            if !payload.is_empty() {
                block = self.append_whole(block, whole, most).await;
                if count == most {
                    // Lets the gateway's task send the frame before more is read. Otherwise the next read waits and
                    // yields anyway.
                    tokio::task::yield_now().await;
                }
            }
            searched = block.len();
        }
    }

    /// Spools what has to be spooled before anything is read.
    async fn append_backlog(&mut self) {
        while let Some((kind, records, payload)) = self.backlog.pop_front() {
            let mut block = begin_block(payload.len());
            block.extend_from_slice(&payload);
            self.append(kind, &mut block, records).await;
        }
        self.spool.drop_stored_commands();
    }

    /// Skips bytes of a line that is too long. Returns the line if it goes on behind them; otherwise spools how long it
    /// was, and puts back what follows the line.
    async fn skip(&mut self, mut line: SkippedLine, bytes: &[u8]) -> Option<SkippedLine> {
        let Some(end) = line.skip(bytes) else { return Some(line) };
        self.put_back(&bytes[end..]);
        self.append_skipped(&line).await;
        None
    }

    /// Where the last whole record of a block ends. The bytes before `searched` belong to no whole record.
    fn whole_records(&self, block: &[u8], searched: usize) -> usize {
        match self.framing {
            Framing::Reads => block.len(),
            Framing::Lines { .. } => match memchr::memrchr(b'\n', &block[searched..]) {
                Some(last) => searched + last + 1,
                None => RECORD_HEAD,
            },
        }
    }

    /// Spools the lines of a block before the first one that is longer than `longest`, and puts back the rest.
    async fn append_before_long_line(&mut self, mut block: BytesMut, longest: usize) {
        let (front, _) = lines::whole(&block[RECORD_HEAD..], 0, longest);
        self.put_back(&block[RECORD_HEAD + front..]);
        block.truncate(RECORD_HEAD + front);
        self.append_lines(&mut block).await;
    }

    /// Spools the records of a block up to `whole`. Returns the next block, which begins with the rest.
    async fn append_whole(&mut self, mut block: BytesMut, whole: usize, most: usize) -> BytesMut {
        let payload = &block[RECORD_HEAD..whole];
        let records = match &self.framing {
            Framing::Reads => 1,
            Framing::Lines { .. } => lines::count(payload),
        };
        let turn_ended = may_end_turn(&self.framing, payload);
        let begun = Bytes::copy_from_slice(&block[whole..]);
        block.truncate(whole);
        let frame = self.append(Kind::Output, &mut block, records).await;
        if turn_ended {
            self.turn_ended.notify_one();
        }
        let mut next = again(frame, most + begun.len());
        next.extend_from_slice(&begun);
        next
    }

    /// Returns bytes that were read, so that they are read again.
    fn put_back(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.begun = [bytes, &self.begun].concat().into();
        }
    }

    /// Spools the last line of the output, which may lack its newline, or be too long.
    async fn append_rest(&mut self, mut block: BytesMut, skipped: Option<SkippedLine>) {
        if let Some(line) = skipped {
            self.append_skipped(&line).await;
        } else if block.len() > RECORD_HEAD {
            block.extend_from_slice(b"\n");
            self.append_lines(&mut block).await;
        }
    }

    /// Spools the whole lines in a block, if there are any.
    async fn append_lines(&mut self, block: &mut BytesMut) {
        let records = lines::count(&block[RECORD_HEAD..]);
        let turn_ended = may_end_turn(&self.framing, &block[RECORD_HEAD..]);
        if records > 0 {
            self.append(Kind::Output, block, records).await;
        }
        if turn_ended {
            self.turn_ended.notify_one();
        }
    }

    async fn append_skipped(&mut self, line: &SkippedLine) {
        tracing::warn!(bytes = line.bytes, "a line of the agent is too long and is skipped");
        let mut block = begin_block(size_of::<u64>() + line.prefix.len());
        block.extend_from_slice(&line.bytes.to_le_bytes());
        block.extend_from_slice(&line.prefix);
        self.append(Kind::Skipped, &mut block, 1).await;
    }

    /// Reads some bytes, unless reading is paused.
    async fn read(
        &mut self,
        output: &mut (impl AsyncRead + Unpin),
        buffer: &mut BytesMut,
        most: usize,
    ) -> Read {
        if !self.begun.is_empty() {
            let some = self.begun.split_to(most.min(self.begun.len()));
            buffer.extend_from_slice(&some);
            return Read::Bytes(some.len());
        }
        let mut limited = output.take(most as u64);
        buffer.reserve(most);
        loop {
            let mode = *self.mode.borrow_and_update();
            let silence = tokio::time::sleep(self.limits.drain);
            tokio::select! {
                biased;
                () = self.pause.notified() => return Read::Pause,
                read = limited.read_buf(buffer) => return Read::Bytes(read.unwrap_or(0)),
                () = silence, if mode == ReadMode::Drain => return Read::Bytes(0),
                changed = self.mode.changed() => if changed.is_err() { return Read::Bytes(0) },
            }
        }
    }

    /// Waits until the spool has room, or the output is discarded.
    async fn room(&mut self) {
        let mut spool = self.spool.watch();
        tokio::select! {
            biased;
            _ = spool.wait_for(|spool| spool.room) => {}
            _ = self.mode.wait_for(|mode| *mode == ReadMode::Discard) => {}
        }
    }

    /// Spools records, and retries while the disk fails. Returns the frame; `None` if the output is discarded.
    async fn append(&mut self, kind: Kind, block: &mut BytesMut, records: u32) -> Option<Bytes> {
        loop {
            if *self.mode.borrow() == ReadMode::Discard && !self.spool.watch().borrow().room {
                return None;
            }
            if let Ok(frame) = self.spool.append_block(kind, records, block) {
                return Some(frame);
            }
            self.spool.is_stuck();
            tokio::select! {
                () = tokio::time::sleep(self.limits.host.disk_retry) => {}
                _ = self.mode.wait_for(|mode| *mode == ReadMode::Discard) => return None,
            }
        }
    }
}

/// Whether these lines look as if one of them ended a turn.
pub(super) fn may_end_turn(framing: &Framing, lines: &[u8]) -> bool {
    match framing {
        Framing::Lines { turn_end: Some(text) } => memchr::memmem::find(lines, text.as_bytes()).is_some(),
        Framing::Lines { turn_end: None } | Framing::Reads => false,
    }
}

/// The next block. Reuses the frame's memory if it is not shared and not unusually large.
fn again(frame: Option<Bytes>, room: usize) -> BytesMut {
    match frame.map(Bytes::try_into_mut) {
        Some(Ok(mut block)) if block.capacity() <= 4 * READ_BYTES => {
            block.truncate(RECORD_HEAD);
            block
        }
        Some(_) | None => begin_block(room),
    }
}
