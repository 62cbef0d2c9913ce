//! The agent's output into the spool: big reads, one frame for what arrived together, held back when it is full.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::{Notify, watch},
};

use super::{protocol::Kind, spool::Spool};
use crate::{BridgeLimits, Dialect, codec::ClaudeCodec, driver::reader::ReadMode};

/// Why taking in ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IntakeEnd {
    /// The agent closed its output, or exited and has been silent since.
    Closed,
    /// A line is over its limit.
    TooLong,
}

pub(super) struct Intake {
    pub(super) spool: Arc<Spool>,
    pub(super) dialect: Dialect,
    pub(super) mode: watch::Receiver<ReadMode>,
    pub(super) limits: BridgeLimits,
    /// Told when a turn seems to have ended.
    pub(super) turn_ended: Arc<Notify>,
}

impl Intake {
    /// Takes in until the agent's output ends.
    pub(super) async fn run(mut self, mut output: impl AsyncRead + Unpin) -> IntakeEnd {
        let mut buffer = BytesMut::new();
        let mut searched = 0;
        // Whatever is trimmed, some frames stay: many must fit.
        let some = usize::try_from(self.limits.host.spool_bytes / 16).unwrap_or(usize::MAX);
        self.limits.read_bytes = self.limits.read_bytes.min(some).max(1);
        loop {
            self.room().await;
            buffer.reserve(self.limits.read_bytes);
            if !self.read(&mut output, &mut buffer).await {
                return IntakeEnd::Closed;
            }
            let whole = match self.dialect {
                Dialect::Text => buffer.len(),
                Dialect::Claude => match memchr::memrchr(b'\n', &buffer[searched..]) {
                    Some(last) => searched + last + 1,
                    None => 0,
                },
            };
            let block = buffer.split_to(whole).freeze();
            searched = buffer.len();
            let longest = self.limits.spooled_record_bytes();
            if buffer.len() > longest || block.len() > longest && has_longer_line(&block, longest) {
                return IntakeEnd::TooLong;
            }
            let records = match self.dialect {
                Dialect::Text => 1,
                Dialect::Claude => memchr::memchr_iter(b'\n', &block).count(),
            };
            self.keep(&block, u32::try_from(records).unwrap_or(u32::MAX)).await;
            if self.dialect == Dialect::Claude && ClaudeCodec::may_end_turn(&block) {
                self.turn_ended.notify_one();
            }
        }
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

    /// Waits until there is room in the spool, or nobody wants what comes.
    async fn room(&mut self) {
        let mut spool = self.spool.watch();
        tokio::select! {
            biased;
            _ = spool.wait_for(|spool| spool.room) => {}
            _ = self.mode.wait_for(|mode| *mode == ReadMode::Discard) => {}
        }
    }

    /// Spools records. While the disk takes nothing, the agent is not read.
    async fn keep(&mut self, block: &Bytes, records: u32) {
        if records == 0 {
            return;
        }
        loop {
            let discarded = *self.mode.borrow() == ReadMode::Discard && !self.spool.watch().borrow().room;
            if discarded || self.spool.append(Kind::Output, records, block).is_ok() {
                return;
            }
            self.spool.is_stuck();
            tokio::select! {
                () = tokio::time::sleep(self.limits.host.disk_retry) => {}
                _ = self.mode.wait_for(|mode| *mode == ReadMode::Discard) => return,
            }
        }
    }
}

fn has_longer_line(block: &[u8], longest: usize) -> bool {
    let mut start = 0;
    memchr::memchr_iter(b'\n', block).any(|end| end - std::mem::replace(&mut start, end + 1) > longest)
}
