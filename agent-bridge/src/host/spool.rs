//! The spool: an agent's records on disk until the gateway has no more use for them.
//!
//! A row of files `spool.<position of the first record>`, each a sequence of frames as [`super::protocol`] has
//! them. They are written and not synced: that survives the death of host and gateway, not of the machine.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::BytesMut;
use tokio::sync::watch;

use super::protocol::{Kind, RECORD_HEAD, parse_record_head, record_head};

const PREFIX: &str = "spool.";

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
}

#[derive(Debug)]
struct Segment {
    first: u64,
    length: u64,
    file: Arc<File>,
}

/// A place in a spool.
#[derive(Debug)]
pub(crate) struct Cursor {
    segment: u64,
    offset: u64,
}

impl Spool {
    /// An empty spool in a directory; its first record gets position `first`.
    pub(crate) fn new(dir: &Path, first: u64, limit: u64) -> Self {
        let segment_bytes = (limit / 16).clamp(16 * 1024, 4 * 1024 * 1024);
        let inner =
            Inner { dir: dir.into(), segments: VecDeque::new(), next: first, total: 0, segment_bytes };
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
        let mut inner = self.inner();
        inner.append(kind, count, payload)?;
        self.tell(&inner, false);
        Ok(())
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
            if let Err(error) = fs::remove_file(inner.path(segment.first)) {
                tracing::warn!(%error, "a part of a spool could not be removed");
            }
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

    /// The place of the frame that holds this position, or of the first one that is left.
    pub(crate) fn find(&self, position: u64) -> io::Result<Cursor> {
        let inner = self.inner();
        let found = inner.segments.iter().rev().find(|segment| segment.first <= position);
        let Some(segment) = found.or(inner.segments.front()) else {
            return Ok(Cursor { segment: inner.next, offset: 0 });
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
        Ok(Cursor { segment: segment.first, offset })
    }

    /// What comes after a place, at most `most` bytes; empty if there is nothing yet.
    pub(crate) fn read(&self, cursor: &mut Cursor, most: usize, out: &mut BytesMut) -> io::Result<()> {
        let (file, length) = {
            let inner = self.inner();
            // The file of the place may have been trimmed once all of it was read; what follows is at the front.
            let Some(front) = inner.segments.front() else { return Ok(()) };
            if front.first > cursor.segment {
                *cursor = Cursor { segment: front.first, offset: 0 };
            }
            let at = inner.segments.partition_point(|segment| segment.first < cursor.segment);
            let Some(mut segment) = inner.segments.get(at) else { return Ok(()) };
            if cursor.offset >= segment.length
                && let Some(following) = inner.segments.get(at + 1)
            {
                *cursor = Cursor { segment: following.first, offset: 0 };
                segment = following;
            }
            (Arc::clone(&segment.file), segment.length)
        };
        let count = usize::try_from(length.saturating_sub(cursor.offset)).unwrap_or(usize::MAX).min(most);
        out.resize(count, 0);
        file.read_exact_at(out, cursor.offset)?;
        cursor.offset += count as u64;
        Ok(())
    }
}

impl Inner {
    fn path(&self, first: u64) -> PathBuf {
        self.dir.join(format!("{PREFIX}{first}"))
    }

    fn append(&mut self, kind: Kind, count: u32, payload: &[u8]) -> io::Result<()> {
        if self.segments.back().is_none_or(|segment| segment.length >= self.segment_bytes) {
            let path = self.path(self.next);
            let mut options = OpenOptions::new();
            // Not `create_new`: an earlier try may have failed right behind this.
            let file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
            self.segments.push_back(Segment { first: self.next, length: 0, file: Arc::new(file) });
        }
        let next = self.next;
        let Some(segment) = self.segments.back_mut() else { return Err(io::ErrorKind::NotFound.into()) };
        let head = record_head(kind, next, count, payload.len());
        let mut frame = BytesMut::with_capacity(head.len() + payload.len());
        frame.extend_from_slice(&head);
        frame.extend_from_slice(payload);
        if let Err(error) = segment.file.write_all_at(&frame, segment.length) {
            // Half a frame is no frame. Should this fail too, it is overwritten by the next try.
            let _ = segment.file.set_len(segment.length);
            return Err(error);
        }
        segment.length += frame.len() as u64;
        self.total += frame.len() as u64;
        self.next += u64::from(count);
        Ok(())
    }
}

/// Whether anything was ever spooled in a directory.
pub(crate) fn has_records(dir: &Path) -> bool {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut spools =
        files.filter(|file| file.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX)));
    spools.any(|file| file.metadata().is_ok_and(|meta| meta.len() > 0))
}

/// The bytes of all frames of a dead host's spool from the file on that holds `position`; what a dying host left
/// half-written at the end is among them.
pub(crate) fn read_dead(dir: &Path, position: u64) -> io::Result<impl Iterator<Item = io::Result<Vec<u8>>>> {
    let segments = dead_segments(dir)?;
    let from = segments.partition_point(|(first, _)| *first <= position).saturating_sub(1);
    Ok(segments.into_iter().skip(from).map(|(_, path)| fs::read(path)))
}

/// The position of the first record that a dead host has left.
pub(crate) fn first_position(dir: &Path) -> Option<u64> {
    dead_segments(dir).ok()?.first().map(|(first, _)| *first)
}

fn dead_segments(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut segments: Vec<(u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let first = entry.file_name().to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse().ok());
        segments.extend(first.map(|first| (first, entry.path())));
    }
    segments.sort_unstable();
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(spool: &Spool, from: u64) -> Vec<u8> {
        let mut cursor = spool.find(from).unwrap();
        let (mut all, mut part) = (Vec::new(), BytesMut::new());
        loop {
            part.clear();
            spool.read(&mut cursor, 1000, &mut part).unwrap();
            if part.is_empty() {
                return all;
            }
            all.extend_from_slice(&part);
        }
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
            let mut bytes = BytesMut::from(&read_all(&spool, from)[..]);
            let mut expected = first;
            while let Some(frame) = super::super::protocol::Frame::next(&mut bytes, 10_000).unwrap() {
                assert_eq!(frame.first, expected);
                expected += 2;
            }
            assert_eq!((expected, bytes.len()), (85, 0));
        }
        assert!(read_all(&spool, 85).is_empty());
        spool.trim(60);
        let (first, next) = spool.range();
        assert!(first > 5 && first <= 60 && next == 85);
        assert!(spool.watch().borrow().room);
        assert!(!read_all(&spool, 5).is_empty(), "from the first that is left");
        let dead: usize = read_dead(dir.path(), 60).unwrap().map(|bytes| bytes.unwrap().len()).sum();
        assert!(dead > 0);
    }
}
