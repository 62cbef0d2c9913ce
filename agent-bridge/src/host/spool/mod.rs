//! The spool: an agent's records on disk until the gateway has no more use for them.
//!
//! A row of files `spool.<position of the first record>`, each a sequence of frames as [`super::protocol`] has
//! them, to the end of the file or to a length of zero. They are written and not synced: that survives the death of
//! host and gateway, not of the machine.
//!
//! A file that was trimmed is kept, and written over: new blocks of a file cost far more than old ones. There, a
//! frame's length is written last: until then the length of zero stands in its place, and what an earlier life of the
//! file has left behind it is no frame.
//!
//! While the agent's output is lent, its records are in the agent's pipe and not here. The commands of that time are in
//! a file of their own, `told`, until they and the output around them are here, or needed no more.

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

pub(crate) use self::dead::{first_position, has_records, read_dead, read_told};

const PREFIX: &str = "spool.";
/// The file of commands that were told while the output was lent.
const TOLD: &str = "told";
/// Files that wait to be written over: the name of the first of them, and so on.
const SPARE: &str = "spare.";
/// Most such files.
const SPARES: usize = 3;
/// A length that no frame has.
const END: [u8; 4] = [0; 4];
/// Most bytes of a file, where the spool is large enough for several of them.
const SEGMENT_BYTES: u64 = 1024 * 1024;
/// Most bytes that are read at once.
const READ_BYTES: u64 = 256 * 1024;
/// Most bytes of frames that are kept in memory for a reader that is close behind.
const RECENT_BYTES: usize = 256 * 1024;
/// Frames of at least this many bytes are handed on one by one; smaller ones that wait, together.
const LARGE_BYTES: usize = 4 * 1024;

/// The spool of a host that lives.
#[derive(Debug)]
pub(crate) struct Spool {
    inner: Mutex<Inner>,
    /// Changes with everything that is written or trimmed.
    changed: watch::Sender<State>,
    limit: u64,
}

/// What is watched about a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    /// Position of the next record.
    pub(crate) next: u64,
    /// Whether more output of the agent may be taken.
    pub(crate) room: bool,
    /// Nothing will be added any more.
    pub(crate) ended: bool,
    /// How often the disk has not taken what was to be added.
    pub(crate) stuck: u64,
    /// The output is lent.
    pub(crate) lent: bool,
    /// There are records that are to come before any other.
    pub(crate) owing: bool,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    segments: VecDeque<Segment>,
    next: u64,
    total: u64,
    segment_bytes: u64,
    /// The files that wait to be written over, and their lengths.
    spares: Vec<(File, u64)>,
    readers: usize,
    /// The last frames, for readers.
    recent: VecDeque<(SpoolPosition, Bytes)>,
    recent_bytes: usize,
    told: Option<Segment>,
    /// Records before this position exist, here or not yet: what is in the pipe when a loan ends.
    owed: u64,
    /// What is to be sent besides, once all that is spooled was.
    asides: VecDeque<Bytes>,
}

#[derive(Debug)]
struct Segment {
    first: u64,
    length: u64,
    /// Up to here the file holds what an earlier life of it has left.
    stale: u64,
    file: File,
}

/// The place of a frame: the first position of its file, and the bytes before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct SpoolPosition {
    segment: u64,
    offset: u64,
}

/// Reads a spool from a place on.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    spool: &'a Spool,
    place: SpoolPosition,
    buffer: BytesMut,
}

impl Spool {
    /// An empty spool in a directory; its first record gets position `first`.
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
            told: None,
            owed: 0,
            asides: VecDeque::new(),
        };
        let state = State { next: first, room: true, ended: false, stuck: 0, lent: false, owing: false };
        Self { inner: Mutex::new(inner), changed: watch::channel(state).0, limit }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn watch(&self) -> watch::Receiver<State> {
        self.changed.subscribe()
    }

    /// The first position that is left, and the one that the next record gets once what is owed is here.
    pub(crate) fn range(&self) -> (u64, u64) {
        let inner = self.inner();
        let first = inner.segments.front().map_or(inner.next, |segment| segment.first);
        (first, inner.next.max(inner.owed))
    }

    /// What comes from here on is lent, and said to whoever reads.
    pub(crate) fn lend(&self, frame: Bytes) {
        self.say(frame);
        self.changed.send_modify(|state| state.lent = true);
    }

    /// What was lent is to be spooled from here on. Records before this position are the first to come.
    pub(crate) fn take_back(&self, owed: u64) {
        let mut inner = self.inner();
        inner.owed = owed;
        self.changed.send_modify(|state| state.lent = false);
        self.tell(&inner, false);
    }

    /// Says something to whoever reads, once all that is spooled was read.
    pub(crate) fn say(&self, frame: Bytes) {
        let mut inner = self.inner();
        if inner.readers > 0 {
            inner.asides.push_back(frame);
            self.tell(&inner, false);
        }
    }

    /// Keeps a command whose place is in the output that is lent. Gives its record. After an error it is not kept.
    pub(crate) fn told(&self, position: u64, head: &[u8]) -> io::Result<Bytes> {
        let mut block = begin_block(head.len());
        block.extend_from_slice(head);
        block[..RECORD_HEAD].copy_from_slice(&record_head(Kind::Command, position, 1, head.len()));
        let mut inner = self.inner();
        if inner.told.is_none() {
            let file = create(&inner.dir.join(TOLD))?;
            inner.told = Some(Segment { first: 0, length: 0, stale: 0, file });
        }
        let Some(told) = &mut inner.told else { return Err(io::ErrorKind::NotFound.into()) };
        told.write(&mut block)?;
        told.length += block.len() as u64;
        Ok(block.freeze())
    }

    /// How many bytes of commands are kept beside the output that is lent.
    pub(crate) fn told_bytes(&self) -> u64 {
        self.inner().told.as_ref().map_or(0, |told| told.length)
    }

    /// The commands that were kept beside the output that was lent are spooled, or needed no more.
    pub(crate) fn forget_told(&self) {
        if let Some(told) = &mut self.inner().told
            && told.length > 0
            && told.file.write_all_at(&END, 0).is_ok()
        {
            told.stale = told.stale.max(told.length);
            told.length = 0;
        }
    }

    /// Adds records in one frame. After an error nothing was added.
    pub(crate) fn append(&self, kind: Kind, count: u32, payload: &[u8]) -> io::Result<()> {
        let mut block = begin_block(payload.len());
        block.extend_from_slice(payload);
        self.append_block(kind, count, &mut block).map(drop)
    }

    /// Adds records in one frame: a block as [`begin_block`] begins it, with the payload behind that. Gives the
    /// frame. After an error nothing was added, and the block is as it was.
    pub(crate) fn append_block(&self, kind: Kind, count: u32, block: &mut BytesMut) -> io::Result<Bytes> {
        let mut inner = self.inner();
        let place = inner.append(kind, count, block)?;
        let frame = std::mem::take(block).freeze();
        if inner.readers > 0 {
            inner.remember(place, frame.clone());
        }
        self.tell(&inner, false);
        Ok(frame)
    }

    /// Nothing more will come.
    pub(crate) fn end(&self) {
        let inner = self.inner();
        self.tell(&inner, true);
    }

    /// Drops whole files whose records all come before this position.
    pub(crate) fn trim(&self, before: u64) {
        let mut inner = self.inner();
        while inner.segments.get(1).is_some_and(|following| following.first <= before) {
            let Some(segment) = inner.segments.pop_front() else { break };
            inner.total -= segment.length;
            inner.put_by(segment);
        }
        self.tell(&inner, false);
    }

    /// Drops all records before this position, whether they came here or not: the next one gets it at least.
    pub(crate) fn skip_to(&self, position: u64) {
        let mut inner = self.inner();
        if position > inner.next {
            while let Some(segment) = inner.segments.pop_front() {
                inner.total -= segment.length;
                inner.put_by(segment);
            }
            inner.next = position;
            self.tell(&inner, false);
        }
    }

    fn tell(&self, inner: &Inner, ended: bool) {
        self.changed.send_modify(|state| {
            let (room, ended) = (inner.total < self.limit, ended || state.ended);
            let owing = inner.next < inner.owed;
            *state = State { next: inner.next, room, ended, owing, ..*state };
        });
    }

    /// The disk takes nothing, and somebody waits for that.
    pub(crate) fn is_stuck(&self) {
        self.changed.send_modify(|state| state.stuck += 1);
    }

    /// Reads from the frame on that holds this position, or from the first one that is left.
    pub(crate) fn read_from(&self, position: u64) -> io::Result<Reader<'_>> {
        let mut inner = self.inner();
        let place = inner.find(position)?;
        inner.readers += 1;
        inner.asides.clear();
        Ok(Reader { spool: self, place, buffer: BytesMut::new() })
    }
}

impl Reader<'_> {
    /// Whole frames, or a part of what is in a file, that come next; empty if there is nothing yet.
    pub(crate) fn next(&mut self) -> io::Result<Bytes> {
        let mut inner = self.spool.inner();
        let Some(at) = inner.seek(&mut self.place) else { return Ok(inner.aside()) };
        if let Some(frame) = inner.recall(self.place) {
            self.place.offset += frame.len() as u64;
            return Ok(frame);
        }
        let segment = &inner.segments[at];
        let count = segment.length.saturating_sub(self.place.offset).min(READ_BYTES);
        if count == 0 {
            return Ok(inner.aside());
        }
        self.buffer.resize(usize::try_from(count).unwrap_or(usize::MAX), 0);
        segment.file.read_exact_at(&mut self.buffer, self.place.offset)?;
        self.place.offset += count;
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
            inner.asides.clear();
        }
    }
}

impl Inner {
    fn path(&self, first: u64) -> PathBuf {
        self.dir.join(format!("{PREFIX}{first}"))
    }

    /// Where the next file that waits to be written over is put.
    fn spare_path(&self) -> PathBuf {
        self.dir.join(format!("{SPARE}{}", self.spares.len()))
    }

    /// The place of the frame that holds this position, or of the first one that is left.
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

    /// The file of a place, or None where there is none yet. Moves the place on where its file has been read to the
    /// end, or was trimmed after that.
    fn seek(&self, place: &mut SpoolPosition) -> Option<usize> {
        let front = self.segments.front()?;
        if front.first > place.segment {
            *place = SpoolPosition { segment: front.first, offset: 0 };
        }
        let at = self.segments.partition_point(|segment| segment.first < place.segment);
        let segment = self.segments.get(at)?;
        let Some(following) = self.segments.get(at + 1).filter(|_| place.offset >= segment.length) else {
            return Some(at);
        };
        *place = SpoolPosition { segment: following.first, offset: 0 };
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
        let place = SpoolPosition { segment: segment.first, offset: segment.length };
        segment.length += block.len() as u64;
        self.total += block.len() as u64;
        self.next += u64::from(count);
        Ok(place)
    }

    /// The file for the next record.
    fn open(&mut self) -> io::Result<Segment> {
        let path = self.path(self.next);
        if let Some((file, stale)) = self.spares.pop() {
            // Whatever goes wrong with this one, another will do.
            if file.write_all_at(&END, 0).is_ok() && fs::rename(self.spare_path(), &path).is_ok() {
                return Ok(Segment { first: self.next, length: 0, stale, file });
            }
        }
        Ok(Segment { first: self.next, length: 0, stale: 0, file: create(&path)? })
    }

    /// Keeps a file to be written over, or removes it where there are enough.
    fn put_by(&mut self, segment: Segment) {
        let path = self.path(segment.first);
        if self.spares.len() < SPARES && fs::rename(&path, self.spare_path()).is_ok() {
            self.spares.push((segment.file, segment.length.max(segment.stale)));
        } else if let Err(error) = fs::remove_file(path) {
            tracing::warn!(%error, "a part of a spool could not be removed");
        }
    }

    /// What is to be said next; empty if there is nothing.
    fn aside(&mut self) -> Bytes {
        self.asides.pop_front().unwrap_or_default()
    }

    fn remember(&mut self, place: SpoolPosition, frame: Bytes) {
        self.recent_bytes += frame.len();
        self.recent.push_back((place, frame));
        while self.recent_bytes > RECENT_BYTES {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, frame)) = self.recent.pop_front() {
            self.recent_bytes -= frame.len();
        }
    }

    /// The frame at a place, if it is one of the last: a large one, or the very last.
    fn recall(&mut self, place: SpoolPosition) -> Option<Bytes> {
        while self.recent.front().is_some_and(|(before, _)| *before < place) {
            self.forget_oldest();
        }
        let (at, frame) = self.recent.front()?;
        if *at != place || (frame.len() < LARGE_BYTES && self.recent.len() > 1) {
            return None;
        }
        let frame = frame.clone();
        self.forget_oldest();
        Some(frame)
    }
}

impl Segment {
    /// Writes a frame behind the last one. After an error it is not there.
    fn write(&self, block: &mut BytesMut) -> io::Result<()> {
        if self.length >= self.stale {
            return self.file.write_all_at(block, self.length).inspect_err(|_| {
                // Half a frame is no frame. Should this fail too, it is overwritten by the next try.
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

/// An empty file for this user alone.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // Not `create_new`: an earlier try may have failed right behind this.
    options.read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// The beginning of a block for [`Spool::append_block`]: room for its head, and for as many bytes of payload.
pub(crate) fn begin_block(payload: usize) -> BytesMut {
    let mut block = BytesMut::with_capacity(RECORD_HEAD + payload + END.len());
    block.resize(RECORD_HEAD, 0);
    block
}

#[cfg(test)]
mod tests;
