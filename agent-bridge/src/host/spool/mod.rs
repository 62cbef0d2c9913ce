//! The spool: an agent's records on disk, until the gateway does not need them any more.
//!
//! The spool is a sequence of files `spool.<position of the first record>`. Each contains frames in the format of
//! [`super::protocol`], up to the end of the file or to a length of zero. The files are written without fsync: they
//! survive the death of host and gateway, but not of the machine.
//!
//! A trimmed file is retained and overwritten later, because new blocks of a file are far more expensive than old ones.
//! In a reused file, a frame's length is written last. Until then the file contains a length of zero there, which marks
//! the end; content after it is old.
//!
//! While the agent's output is lent, its records are in the agent's pipe and not in the spool. Commands of that time
//! are stored in the file `told` until they and the output around them are spooled or not needed any more.

mod dead;

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::{Bytes, BytesMut};
use tokio::sync::watch;

use super::protocol::{Kind, RECORD_HEAD, parse_record_head, record_head};

pub(crate) use self::dead::{first_position, has_records, read_dead, read_stored_commands};

const PREFIX: &str = "spool.";
/// The file for commands that arrive while the output is lent. Earlier versions of the host have the same name.
const COMMANDS: &str = "told";
/// First part of the names of files that are to be overwritten.
const SPARE: &str = "spare.";
/// Most files that are retained to be overwritten.
const SPARES: usize = 3;
/// A frame length of zero, which marks the end of a file's frames.
const END: [u8; 4] = [0; 4];
/// Most bytes of one file, if the spool is large enough for several such files.
const SEGMENT_BYTES: u64 = 1024 * 1024;
/// Most bytes of one read from a file.
const READ_BYTES: u64 = 256 * 1024;
/// Most bytes of recent frames in memory, for a reader that is almost up to date.
const RECENT_BYTES: usize = 256 * 1024;
/// A reader gets frames of at least this many bytes one by one from memory; several smaller ones are read together.
const LARGE_BYTES: usize = 4 * 1024;

/// The spool of a running host.
#[derive(Debug)]
pub(crate) struct Spool {
    inner: Mutex<Inner>,
    /// Notifies about everything that is written or trimmed.
    changed: watch::Sender<State>,
    limit: u64,
}

/// The published state of a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    /// Position of the next record.
    pub(crate) next: u64,
    /// Whether the spool has room for output of the agent.
    pub(crate) room: bool,
    /// Whether the last record has been appended.
    pub(crate) ended: bool,
    /// Number of failed writes to the disk.
    pub(crate) stuck: u64,
    /// Whether the output is lent.
    pub(crate) lent: bool,
    /// Whether records of a returned output must be appended before any other record.
    pub(crate) pending: bool,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    segments: VecDeque<Segment>,
    next: u64,
    total: u64,
    segment_bytes: u64,
    /// The files that can be overwritten, and their lengths.
    spares: Vec<(File, u64)>,
    readers: usize,
    /// The most recent frames, for readers.
    recent: VecDeque<(SpoolPosition, Bytes)>,
    recent_bytes: usize,
    /// Commands with a place in the lent output.
    commands: Option<Segment>,
    /// Records before this position exist, but may still be in the pipe of a returned output.
    pending_until: u64,
    /// Frames that are not records, to be sent after all spooled records.
    notices: VecDeque<Bytes>,
}

#[derive(Debug)]
struct Segment {
    first: u64,
    length: u64,
    /// Up to this offset, the file may have content from before it was reused.
    stale: u64,
    file: File,
}

/// The location of a frame: the first position of its file, and its offset in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct SpoolPosition {
    segment: u64,
    offset: u64,
}

/// Reads a spool from some location on.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    spool: &'a Spool,
    location: SpoolPosition,
    buffer: BytesMut,
}

impl Spool {
    /// Makes an empty spool in a directory. Its first record gets position `first`; it is full at `limit` bytes.
    pub(crate) fn new(dir: &Path, first: u64, limit: u64) -> Self {
        let inner = Inner {
            dir: dir.into(),
            segments: VecDeque::new(),
            next: first,
            total: 0,
            segment_bytes: (limit / 16).clamp(16 * 1024, SEGMENT_BYTES),
            spares: Vec::new(),
            readers: 0,
            recent: VecDeque::new(),
            recent_bytes: 0,
            commands: None,
            pending_until: 0,
            notices: VecDeque::new(),
        };
        let state = State { next: first, room: true, ended: false, stuck: 0, lent: false, pending: false };
        Self { inner: Mutex::new(inner), changed: watch::channel(state).0, limit }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn watch(&self) -> watch::Receiver<State> {
        self.changed.subscribe()
    }

    /// The first position in the spool, and the position of the next record once all pending records are appended.
    pub(crate) fn range(&self) -> (u64, u64) {
        let inner = self.inner();
        let first = inner.segments.front().map_or(inner.next, |segment| segment.first);
        (first, inner.next.max(inner.pending_until))
    }

    /// Notes that the output is lent from now on, and sends `frame` to the reader.
    pub(crate) fn lend(&self, frame: Bytes) {
        self.send(frame);
        self.changed.send_modify(|state| state.lent = true);
    }

    /// Notes that the output is returned. Its records, with positions before `pending_until`, must be appended first.
    pub(crate) fn take_back(&self, pending_until: u64) {
        let mut inner = self.inner();
        inner.pending_until = pending_until;
        self.changed.send_modify(|state| state.lent = false);
        self.publish(&inner, false);
    }

    /// Sends a frame that is not a record to the reader, after all spooled records.
    pub(crate) fn send(&self, frame: Bytes) {
        let mut inner = self.inner();
        if inner.readers > 0 {
            inner.notices.push_back(frame);
            self.publish(&inner, false);
        }
    }

    /// Stores a command whose place is in the lent output, and returns its record. After an error the command is not
    /// stored.
    pub(crate) fn store_command(&self, position: u64, head: &[u8]) -> io::Result<Bytes> {
        let mut block = begin_block(head.len());
        block.extend_from_slice(head);
        block[..RECORD_HEAD].copy_from_slice(&record_head(Kind::Command, position, 1, head.len()));
        let mut inner = self.inner();
        if inner.commands.is_none() {
            let file = create(&inner.dir.join(COMMANDS))?;
            inner.commands = Some(Segment { first: 0, length: 0, stale: 0, file });
        }
        let Some(commands) = &mut inner.commands else { return Err(io::ErrorKind::NotFound.into()) };
        commands.write(&mut block)?;
        commands.length += block.len() as u64;
        Ok(block.freeze())
    }

    /// Bytes of the commands that are stored beside the lent output.
    pub(crate) fn stored_command_bytes(&self) -> u64 {
        self.inner().commands.as_ref().map_or(0, |commands| commands.length)
    }

    /// Drops the commands that were stored beside the lent output, once they are spooled or not needed any more.
    pub(crate) fn drop_stored_commands(&self) {
        if let Some(commands) = &mut self.inner().commands
            && commands.length > 0
            && commands.file.write_all_at(&END, 0).is_ok()
        {
            commands.stale = commands.stale.max(commands.length);
            commands.length = 0;
        }
    }

    /// Appends records as one frame. After an error nothing was appended.
    pub(crate) fn append(&self, kind: Kind, count: u32, payload: &[u8]) -> io::Result<()> {
        let mut block = begin_block(payload.len());
        block.extend_from_slice(payload);
        self.append_block(kind, count, &mut block).map(drop)
    }

    /// Appends records as one frame. `block` comes from [`begin_block`], with the payload appended. Returns the frame.
    /// After an error nothing was appended, and the block is unchanged.
    pub(crate) fn append_block(&self, kind: Kind, count: u32, block: &mut BytesMut) -> io::Result<Bytes> {
        let mut inner = self.inner();
        let location = inner.append(kind, count, block)?;
        let frame = std::mem::take(block).freeze();
        if inner.readers > 0 {
            inner.remember(location, frame.clone());
        }
        self.publish(&inner, false);
        Ok(frame)
    }

    /// Notes that no records will be appended any more.
    pub(crate) fn end(&self) {
        let inner = self.inner();
        self.publish(&inner, true);
    }

    /// Drops files that contain only records before this position.
    pub(crate) fn trim(&self, before: u64) {
        let mut inner = self.inner();
        while inner.segments.get(1).is_some_and(|following| following.first <= before) {
            let Some(segment) = inner.segments.pop_front() else { break };
            inner.total -= segment.length;
            inner.retire(segment);
        }
        self.publish(&inner, false);
    }

    /// Drops all records before this position, appended or not: the next record gets at least this position.
    pub(crate) fn skip_to(&self, position: u64) {
        let mut inner = self.inner();
        if position > inner.next {
            while let Some(segment) = inner.segments.pop_front() {
                inner.total -= segment.length;
                inner.retire(segment);
            }
            inner.next = position;
            self.publish(&inner, false);
        }
    }

    fn publish(&self, inner: &Inner, ended: bool) {
        self.changed.send_modify(|state| {
            let (room, ended) = (inner.total < self.limit, ended || state.ended);
            let pending = inner.next < inner.pending_until;
            *state = State { next: inner.next, room, ended, pending, ..*state };
        });
    }

    /// Reports a failed write to the disk, for which the agent waits.
    pub(crate) fn is_stuck(&self) {
        self.changed.send_modify(|state| state.stuck += 1);
    }

    /// Reads from the frame that contains this position, or from the first one in the spool.
    pub(crate) fn read_from(&self, position: u64) -> io::Result<Reader<'_>> {
        let mut inner = self.inner();
        let location = inner.find(position)?;
        inner.readers += 1;
        inner.notices.clear();
        Ok(Reader { spool: self, location, buffer: BytesMut::new() })
    }
}

impl Reader<'_> {
    /// The next frames, or a part of a file's content; empty if there is nothing yet.
    pub(crate) fn next(&mut self) -> io::Result<Bytes> {
        let mut inner = self.spool.inner();
        let Some(at) = inner.seek(&mut self.location) else { return Ok(inner.next_notice()) };
        if let Some(frame) = inner.recall(self.location) {
            self.location.offset += frame.len() as u64;
            return Ok(frame);
        }
        let segment = &inner.segments[at];
        let count = segment.length.saturating_sub(self.location.offset).min(READ_BYTES);
        if count == 0 {
            return Ok(inner.next_notice());
        }
        self.buffer.resize(usize::try_from(count).unwrap_or(usize::MAX), 0);
        segment.file.read_exact_at(&mut self.buffer, self.location.offset)?;
        self.location.offset += count;
        Ok(self.buffer.split().freeze())
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        let mut inner = self.spool.inner();
        inner.readers -= 1;
        if inner.readers == 0 {
            inner.recent.clear();
            inner.recent_bytes = 0;
            inner.notices.clear();
        }
    }
}

impl Inner {
    fn path(&self, first: u64) -> PathBuf {
        self.dir.join(format!("{PREFIX}{first}"))
    }

    /// The path for the next file that can be overwritten.
    fn spare_path(&self) -> PathBuf {
        self.dir.join(format!("{SPARE}{}", self.spares.len()))
    }

    /// The location of the frame that contains this position, or of the first frame in the spool.
    fn find(&self, position: u64) -> io::Result<SpoolPosition> {
        let found = self.segments.iter().rev().find(|segment| segment.first <= position);
        let Some(segment) = found.or(self.segments.front()) else {
            return Ok(SpoolPosition { segment: self.next, offset: 0 });
        };
        let mut offset = 0;
        let mut head = [0; RECORD_HEAD];
        while offset < segment.length {
            segment.file.read_exact_at(&mut head, offset)?;
            let Some((first, count, length)) = parse_record_head(&head) else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            if first + u64::from(count) > position {
                break;
            }
            offset += length;
        }
        Ok(SpoolPosition { segment: segment.first, offset })
    }

    /// The index of the file for a location; `None` if there is no such file yet. Moves the location to the next file
    /// if its file was read to the end or was trimmed.
    fn seek(&self, location: &mut SpoolPosition) -> Option<usize> {
        let front = self.segments.front()?;
        if front.first > location.segment {
            *location = SpoolPosition { segment: front.first, offset: 0 };
        }
        let at = self.segments.partition_point(|segment| segment.first < location.segment);
        let segment = self.segments.get(at)?;
        let Some(following) = self.segments.get(at + 1).filter(|_| location.offset >= segment.length) else {
            return Some(at);
        };
        *location = SpoolPosition { segment: following.first, offset: 0 };
        Some(at + 1)
    }

    fn append(&mut self, kind: Kind, count: u32, block: &mut BytesMut) -> io::Result<SpoolPosition> {
        if self.segments.back().is_none_or(|segment| segment.length >= self.segment_bytes) {
            let segment = self.open()?;
            self.segments.push_back(segment);
        }
        let Some(segment) = self.segments.back_mut() else { return Err(io::ErrorKind::NotFound.into()) };
        let head = record_head(kind, self.next, count, block.len() - RECORD_HEAD);
        block[..RECORD_HEAD].copy_from_slice(&head);
        segment.write(block)?;
        let location = SpoolPosition { segment: segment.first, offset: segment.length };
        segment.length += block.len() as u64;
        self.total += block.len() as u64;
        self.next += u64::from(count);
        Ok(location)
    }

    /// Opens the file for the next record.
    fn open(&mut self) -> io::Result<Segment> {
        let path = self.path(self.next);
        if let Some((file, stale)) = self.spares.pop() {
            // If this file cannot be reused, a new one is created.
            if file.write_all_at(&END, 0).is_ok() && fs::rename(self.spare_path(), &path).is_ok() {
                return Ok(Segment { first: self.next, length: 0, stale, file });
            }
        }
        Ok(Segment { first: self.next, length: 0, stale: 0, file: create(&path)? })
    }

    /// Retains a file to be overwritten, or removes it if there are enough.
    fn retire(&mut self, segment: Segment) {
        let path = self.path(segment.first);
        if self.spares.len() < SPARES && fs::rename(&path, self.spare_path()).is_ok() {
            self.spares.push((segment.file, segment.length.max(segment.stale)));
        } else if let Err(error) = fs::remove_file(path) {
            tracing::warn!(%error, "a part of a spool could not be removed");
        }
    }

    /// The next frame that is not a record; empty if there is none.
    fn next_notice(&mut self) -> Bytes {
        self.notices.pop_front().unwrap_or_default()
    }

    fn remember(&mut self, location: SpoolPosition, frame: Bytes) {
        self.recent_bytes += frame.len();
        self.recent.push_back((location, frame));
        while self.recent_bytes > RECENT_BYTES {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, frame)) = self.recent.pop_front() {
            self.recent_bytes -= frame.len();
        }
    }

    /// The recent frame at a location, if it is large or the newest one.
    fn recall(&mut self, location: SpoolPosition) -> Option<Bytes> {
        while self.recent.front().is_some_and(|(before, _)| *before < location) {
            self.forget_oldest();
        }
        let (at, frame) = self.recent.front()?;
        if *at != location || (frame.len() < LARGE_BYTES && self.recent.len() > 1) {
            return None;
        }
        let frame = frame.clone();
        self.forget_oldest();
        Some(frame)
    }
}

impl Segment {
    /// Writes a frame at the end. After an error the frame is not in the file.
    fn write(&self, block: &mut BytesMut) -> io::Result<()> {
        if self.length >= self.stale {
            return self.file.write_all_at(block, self.length).inspect_err(|_| {
                // An incomplete frame is ignored. If truncating fails, the next write overwrites it.
                let _ = self.file.set_len(self.length);
            });
        }
        let length = block.len();
        block.extend_from_slice(&END);
        let behind = self.file.write_all_at(&block[END.len()..], self.length + END.len() as u64);
        block.truncate(length);
        behind?;
        self.file.write_all_at(&block[..END.len()], self.length).inspect_err(|_| {
            let _ = self.file.write_all_at(&END, self.length);
        })
    }
}

/// Creates an empty file with mode 0600.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // Not `create_new`: the file may exist after an earlier failed attempt.
    options.read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Begins a block for [`Spool::append_block`], with space for the head and for `payload` bytes.
pub(crate) fn begin_block(payload: usize) -> BytesMut {
    let mut block = BytesMut::with_capacity(RECORD_HEAD + payload + END.len());
    block.resize(RECORD_HEAD, 0);
    block
}

#[cfg(test)]
mod tests;
