//! The spool: an agent's records on disk until the gateway has no more use for them.
//!
//! A row of files `spool.<position of the first record>`, each a sequence of frames as [`super::protocol`] has
//! them, to the end of the file or to a length of zero. They are written and not synced: that survives the death of
//! host and gateway, not of the machine.
//!
//! A file that was trimmed is kept, and written over: new blocks of a file cost far more than old ones. There, a
//! frame's length is written last: until then the length of zero stands in its place, and what an earlier life of the
//! file has left behind it is no frame.

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

pub(crate) use self::dead::{first_position, has_records, read_dead};

const PREFIX: &str = "spool.";
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
    recent: VecDeque<(Place, Bytes)>,
    recent_bytes: usize,
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
struct Place {
    segment: u64,
    offset: u64,
}

/// Reads a spool from a place on.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    spool: &'a Spool,
    place: Place,
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
        };
        let state = State { next: first, room: true, ended: false, stuck: 0 };
        Self { inner: Mutex::new(inner), changed: watch::channel(state).0, limit }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn watch(&self) -> watch::Receiver<State> {
        self.changed.subscribe()
    }

    /// The first position that is left, and the one that the next record gets.
    pub(crate) fn range(&self) -> (u64, u64) {
        let inner = self.inner();
        (inner.segments.front().map_or(inner.next, |segment| segment.first), inner.next)
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

    fn tell(&self, inner: &Inner, ended: bool) {
        self.changed.send_modify(|state| {
            let (room, ended) = (inner.total < self.limit, ended || state.ended);
            *state = State { next: inner.next, room, ended, stuck: state.stuck };
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
        Ok(Reader { spool: self, place, buffer: BytesMut::new() })
    }
}

impl Reader<'_> {
    /// Whole frames, or a part of what is in a file, that come next; empty if there is nothing yet.
    pub(crate) fn next(&mut self) -> io::Result<Bytes> {
        let mut inner = self.spool.inner();
        let Some(at) = inner.seek(&mut self.place) else { return Ok(Bytes::new()) };
        if let Some(frame) = inner.recall(self.place) {
            self.place.offset += frame.len() as u64;
            return Ok(frame);
        }
        let segment = &inner.segments[at];
        let count = segment.length.saturating_sub(self.place.offset).min(READ_BYTES);
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
    fn find(&self, position: u64) -> io::Result<Place> {
        let found = self.segments.iter().rev().find(|segment| segment.first <= position);
        let Some(segment) = found.or(self.segments.front()) else {
            return Ok(Place { segment: self.next, offset: 0 });
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
        Ok(Place { segment: segment.first, offset })
    }

    /// The file of a place, or None where there is none yet. Moves the place on where its file has been read to the
    /// end, or was trimmed after that.
    fn seek(&self, place: &mut Place) -> Option<usize> {
        let front = self.segments.front()?;
        if front.first > place.segment {
            *place = Place { segment: front.first, offset: 0 };
        }
        let at = self.segments.partition_point(|segment| segment.first < place.segment);
        let segment = self.segments.get(at)?;
        let Some(following) = self.segments.get(at + 1).filter(|_| place.offset >= segment.length) else {
            return Some(at);
        };
        *place = Place { segment: following.first, offset: 0 };
        Some(at + 1)
    }

    fn append(&mut self, kind: Kind, count: u32, block: &mut BytesMut) -> io::Result<Place> {
        if self.segments.back().is_none_or(|segment| segment.length >= self.segment_bytes) {
            let segment = self.open()?;
            self.segments.push_back(segment);
        }
        let Some(segment) = self.segments.back_mut() else { return Err(io::ErrorKind::NotFound.into()) };
        let head = record_head(kind, self.next, count, block.len() - RECORD_HEAD);
        block[..RECORD_HEAD].copy_from_slice(&head);
        segment.write(block)?;
        let place = Place { segment: segment.first, offset: segment.length };
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
        let mut options = OpenOptions::new();
        // Not `create_new`: an earlier try may have failed right behind this.
        let file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
        Ok(Segment { first: self.next, length: 0, stale: 0, file })
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

    fn remember(&mut self, place: Place, frame: Bytes) {
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
    fn recall(&mut self, place: Place) -> Option<Bytes> {
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

/// The beginning of a block for [`Spool::append_block`]: room for its head, and for as many bytes of payload.
pub(crate) fn begin_block(payload: usize) -> BytesMut {
    let mut block = BytesMut::with_capacity(RECORD_HEAD + payload + END.len());
    block.resize(RECORD_HEAD, 0);
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(spool: &Spool, from: u64) -> Vec<u8> {
        let mut reader = spool.read_from(from).unwrap();
        let mut all = Vec::new();
        loop {
            let part = reader.next().unwrap();
            if part.is_empty() {
                return all;
            }
            all.extend_from_slice(&part);
        }
    }

    fn positions(bytes: &[u8]) -> Vec<u64> {
        let mut bytes = BytesMut::from(bytes);
        let mut positions = Vec::new();
        while let Some(frame) = super::super::protocol::Frame::next(&mut bytes, 10_000_000).unwrap() {
            positions.push(frame.first);
        }
        assert!(bytes.is_empty(), "whole frames");
        positions
    }

    fn read_dead_from(dir: &Path, position: u64) -> Vec<u64> {
        let files = read_dead(dir, position).unwrap();
        files.flat_map(|bytes| positions(&bytes.unwrap())).collect()
    }

    #[test]
    fn frames_come_back_from_any_position_and_files_go_when_trimmed() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::new(dir.path(), 5, 64 * 1024);
        for n in 0..40_u8 {
            spool.append(Kind::Output, 2, &vec![n; 2000]).unwrap();
        }
        assert_eq!(spool.range(), (5, 85));
        assert!(!spool.watch().borrow().room, "80,000 bytes are over the limit");
        for from in [0, 5, 6, 7, 40, 84] {
            let first = from.max(5) - (from.max(5) - 5) % 2;
            assert_eq!(positions(&read_all(&spool, from)), (first..85).step_by(2).collect::<Vec<_>>());
        }
        assert!(read_all(&spool, 85).is_empty());
        spool.trim(60);
        let (first, next) = spool.range();
        assert!(first > 5 && first <= 60 && next == 85);
        assert!(spool.watch().borrow().room);
        assert!(!read_all(&spool, 5).is_empty(), "from the first that is left");
        let dead = read_dead_from(dir.path(), 60);
        assert!(dead[0] <= 60 && dead.ends_with(&[83]), "{dead:?}");
    }

    #[test]
    fn a_reader_that_is_close_behind_gets_the_very_frames_and_one_that_is_not_gets_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::new(dir.path(), 1, 1 << 20);
        let mut close = spool.read_from(1).unwrap();
        let mut followed = Vec::new();
        for n in 0..60_u8 {
            let mut block = begin_block(0);
            block.extend_from_slice(&vec![n; if n % 3 == 0 { 30_000 } else { 50 }]);
            let frame = spool.append_block(Kind::Output, 1, &mut block).unwrap();
            let close_behind = n < 30;
            if close_behind || n % 5 == 0 {
                let part = close.next().unwrap();
                assert!(part.as_ptr() == frame.as_ptr() || !close_behind, "{n}");
                followed.extend_from_slice(&part);
            }
            assert!(spool.inner().recent_bytes <= RECENT_BYTES);
        }
        loop {
            let part = close.next().unwrap();
            if part.is_empty() {
                break;
            }
            followed.extend_from_slice(&part);
        }
        assert_eq!(followed, read_all(&spool, 1));
        assert_eq!(positions(&followed).len(), 60);
        drop(close);
        assert!(spool.inner().recent.is_empty(), "nobody reads");
    }

    #[test]
    fn what_a_file_held_before_is_never_read_whatever_part_of_a_frame_was_written_over_it() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::new(dir.path(), 1, 256 * 1024);
        let append = |bytes: usize| spool.append(Kind::Output, 1, &vec![b'x'; bytes]).unwrap();
        // Two files are filled, and the first is trimmed: the third writes over it.
        (0..33).for_each(|_| append(1000));
        let (_, next) = spool.range();
        spool.trim(next - 1);
        let spare = dir.path().join("spare.0");
        assert!(spare.exists());
        while spare.exists() {
            append(1000);
        }
        // Where its frames end is another place than where the old ones did.
        append(700);
        append(300);
        let (first, next) = spool.range();
        let expected: Vec<u64> = (first..next).collect();
        assert_eq!(read_dead_from(dir.path(), first), expected);
        assert_eq!(positions(&read_all(&spool, first)), expected);
        let (path, length) = {
            let inner = spool.inner();
            let last = inner.segments.back().unwrap();
            (inner.path(last.first), usize::try_from(last.length).unwrap())
        };
        let whole = fs::read(&path).unwrap();
        // The host dies in the next write, before it comes to the length.
        append(1500);
        let after = fs::read(&path).unwrap();
        let behind = length + END.len()..length + RECORD_HEAD + 1500 + END.len();
        for cut in behind.clone() {
            let mut torn = whole.clone();
            torn[behind.start..cut].copy_from_slice(&after[behind.start..cut]);
            fs::write(&path, &torn).unwrap();
            assert_eq!(read_dead_from(dir.path(), first), expected, "{cut}");
        }
        fs::write(&path, &after).unwrap();
        assert_eq!(read_dead_from(dir.path(), first), (first..=next).collect::<Vec<_>>());
    }
}
