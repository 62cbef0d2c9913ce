//! The agent's output into the spool: big reads, one frame for what arrived together, held back when it is full.

use std::{collections::VecDeque, sync::Arc};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::{Notify, watch},
};

use super::{
    lines,
    protocol::{Kind, RECORD_HEAD},
    spool::{Spool, begin_block},
};
use crate::{BridgeLimits, Dialect, codec::ClaudeCodec, driver::reader::ReadMode};

/// Why taking in ended.
#[derive(Debug)]
pub(super) enum IntakeEnd<R> {
    /// The agent closed its output, or exited and has been silent since.
    Closed,
    /// A line is over its limit.
    TooLong,
    /// It was to end between two records: here is the output.
    Between(R),
}

/// Records that are known and not spooled yet: kind, how many, payload.
pub(super) type Backlog = VecDeque<(Kind, u32, Bytes)>;

/// Most that is read at once, in bytes: what a pipe holds unless told otherwise.
const READ_BYTES: usize = 64 * 1024;

pub(super) struct Intake {
    pub(super) spool: Arc<Spool>,
    pub(super) dialect: Dialect,
    pub(super) mode: watch::Receiver<ReadMode>,
    pub(super) limits: BridgeLimits,
    /// Told when a turn seems to have ended.
    pub(super) turn_ended: Arc<Notify>,
    /// To be spooled before anything that is read.
    pub(super) backlog: Backlog,
    /// What was read already.
    pub(super) begun: Bytes,
    /// Asks it to end between two records.
    pub(super) pause: Arc<Notify>,
}

/// What came of reading.
enum Read {
    /// So many bytes; 0: there is nothing more.
    Bytes(usize),
    Pause,
}

impl Intake {
    /// Takes in until the agent's output ends.
    pub(super) async fn run<R: AsyncRead + Unpin>(mut self, mut output: R) -> IntakeEnd<R> {
        while let Some((kind, records, payload)) = self.backlog.pop_front() {
            let mut block = begin_block(payload.len());
            block.extend_from_slice(&payload);
            self.keep(kind, &mut block, records).await;
        }
        self.spool.forget_told();
        // Whatever is trimmed, some frames stay: many must fit.
        let some = usize::try_from(self.limits.host.spool_bytes / 16).unwrap_or(usize::MAX);
        let most = self.limits.read_bytes.min(READ_BYTES).min(some).max(1);
        let longest = self.limits.spooled_record_bytes();
        let mut block = begin_block(most);
        let mut searched = block.len();
        loop {
            self.room().await;
            let count = match self.read(&mut output, &mut block, most).await {
                Read::Bytes(0) => return IntakeEnd::Closed,
                Read::Bytes(count) => count,
                Read::Pause if block.len() > RECORD_HEAD => continue,
                Read::Pause => return IntakeEnd::Between(output),
            };
            let whole = match self.dialect {
                Dialect::Text => block.len(),
                Dialect::Claude => match memchr::memrchr(b'\n', &block[searched..]) {
                    Some(last) => searched + last + 1,
                    None => RECORD_HEAD,
                },
            };
            let payload = &block[RECORD_HEAD..whole];
            if block.len() - whole > longest || payload.len() > longest && lines::has_longer(payload, longest)
            {
                return IntakeEnd::TooLong;
            }
            searched = block.len();
            if payload.is_empty() {
                continue;
            }
            let records = match self.dialect {
                Dialect::Text => 1,
                Dialect::Claude => lines::count(payload),
            };
            let turn_ended = self.dialect == Dialect::Claude && ClaudeCodec::may_end_turn(payload);
            let begun = Bytes::copy_from_slice(&block[whole..]);
            block.truncate(whole);
            let frame = self.keep(Kind::Output, &mut block, records).await;
            if turn_ended {
                self.turn_ended.notify_one();
            }
            if count == most {
                // The gateway hears of it before more is read. Otherwise reading waits, and it does.
                tokio::task::yield_now().await;
            }
            block = again(frame, most + begun.len());
            block.extend_from_slice(&begun);
            searched = block.len();
        }
    }

    /// Reads something, unless it is to pause.
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

    /// Waits until there is room in the spool, or nobody wants what comes.
    async fn room(&mut self) {
        let mut spool = self.spool.watch();
        tokio::select! {
            biased;
            _ = spool.wait_for(|spool| spool.room) => {}
            _ = self.mode.wait_for(|mode| *mode == ReadMode::Discard) => {}
        }
    }

    /// Spools records. While the disk takes nothing, the agent is not read. Gives the frame, unless nobody wants it.
    async fn keep(&mut self, kind: Kind, block: &mut BytesMut, records: u32) -> Option<Bytes> {
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

/// The next block, in the same memory if nobody else looks at it and it is no larger than is usual.
fn again(frame: Option<Bytes>, room: usize) -> BytesMut {
    match frame.map(Bytes::try_into_mut) {
        Some(Ok(mut block)) if block.capacity() <= 4 * READ_BYTES => {
            block.truncate(RECORD_HEAD);
            block
        }
        Some(_) | None => begin_block(room),
    }
}
