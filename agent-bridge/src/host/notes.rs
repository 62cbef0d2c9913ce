//! The part of a spool that says what happened between two bytes of output: each command, and how processes began and
//! ended. The host alone writes it, to files `notes.<position of the first note>` of frames as in [`super::protocol`].

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use bytes::{Bytes, BytesMut};

use super::{
    numbered::numbered_files,
    position::Position,
    protocol::{Kind, RECORD_HEAD, record_head, split_record},
};

const PREFIX: &str = "notes.";
/// Most bytes of one file, apart from its last note.
const FILE_BYTES: u64 = 256 * 1024;

/// The notes of a running host.
#[derive(Debug)]
pub(crate) struct Notes {
    dir: PathBuf,
    files: VecDeque<NotesFile>,
    /// The position of the last note.
    last: u64,
}

#[derive(Debug)]
struct NotesFile {
    first: u64,
    length: u64,
    file: File,
}

impl Notes {
    /// No notes yet. The first one has a position of at least `first`.
    pub(crate) fn new(dir: &Path, first: u64) -> Self {
        Self { dir: dir.into(), files: VecDeque::new(), last: first.saturating_sub(1) }
    }

    /// The position of the last note; 0 if there is none.
    pub(crate) fn last(&self) -> u64 {
        if self.files.is_empty() { 0 } else { self.last }
    }

    /// Writes a note whose place is behind the output up to `offset`. Returns its frame.
    ///
    /// # Errors
    /// If it cannot be written, or there are too many notes at this offset. Then nothing was written.
    pub(crate) fn append(&mut self, kind: Kind, offset: u64, payload: &[u8]) -> io::Result<Bytes> {
        let position = Position::of_note(offset, self.last)
            .ok_or_else(|| io::Error::other("too many commands since the agent's last output"))?;
        let mut frame = BytesMut::with_capacity(RECORD_HEAD + payload.len());
        frame.extend_from_slice(&record_head(kind, position, 1, payload.len()));
        frame.extend_from_slice(payload);
        if self.files.back().is_none_or(|file| file.length >= FILE_BYTES) {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(true).mode(0o600);
            let file = file.open(self.dir.join(format!("{PREFIX}{position}")))?;
            self.files.push_back(NotesFile { first: position, length: 0, file });
        }
        let Some(last) = self.files.back_mut() else { return Err(io::ErrorKind::NotFound.into()) };
        last.file.write_all_at(&frame, last.length).inspect_err(|_| {
            // An incomplete note is ignored. If truncating fails, the next note overwrites it.
            let _ = last.file.set_len(last.length);
        })?;
        last.length += frame.len() as u64;
        self.last = position;
        Ok(frame.freeze())
    }

    /// Removes files that contain only notes before this position, except the last one.
    pub(crate) fn trim(&mut self, before: u64) {
        while self.files.get(1).is_some_and(|following| following.first <= before) {
            let Some(file) = self.files.pop_front() else { return };
            if let Err(error) = fs::remove_file(self.dir.join(format!("{PREFIX}{}", file.first))) {
                tracing::warn!(%error, "a part of a spool could not be removed");
            }
        }
    }
}

/// The notes of a host, alive or dead.
#[derive(Debug, Default)]
pub(crate) struct NotesRead {
    /// The position of the first note that is still there; `None` if there is none.
    pub(crate) first: Option<u64>,
    /// The position of the last note.
    pub(crate) last: u64,
    /// The frames of all notes from the wanted position on. Some before may be among them.
    pub(crate) frames: BytesMut,
}

/// Reads notes from a position on. An incomplete note at the end is ignored.
///
/// # Errors
/// If a file cannot be read.
pub(crate) fn read(dir: &Path, position: u64) -> io::Result<NotesRead> {
    let files = numbered_files(dir, PREFIX)?;
    let from = files.partition_point(|(first, _)| *first <= position).saturating_sub(1);
    let mut notes = NotesRead { first: files.first().map(|(first, _)| *first), ..NotesRead::default() };
    for (_, path) in &files[from.min(files.len())..] {
        let bytes = fs::read(path)?;
        let mut rest = &bytes[..];
        while let Some((position, frame, behind)) = split_record(rest) {
            notes.frames.extend_from_slice(frame);
            notes.last = position;
            rest = behind;
        }
    }
    Ok(notes)
}

/// Whether a host has written anything into this directory.
pub(crate) fn exist(dir: &Path) -> bool {
    numbered_files(dir, PREFIX)
        .is_ok_and(|files| files.iter().any(|(_, path)| path.metadata().is_ok_and(|meta| meta.len() > 0)))
}

#[cfg(test)]
mod tests {
    use super::{super::protocol::Frame, *};

    fn frames(mut bytes: BytesMut) -> Vec<(u64, Bytes)> {
        std::iter::from_fn(|| Frame::next(&mut bytes, 1 << 20).unwrap())
            .map(|frame| (frame.first, frame.payload))
            .collect()
    }

    #[test]
    fn notes_are_read_from_any_position_on_also_from_half_a_file() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!exist(dir.path()));
        let mut notes = Notes::new(dir.path(), 3);
        let mut written = Vec::new();
        for n in 0..100_u64 {
            let payload = vec![b'a' + (n % 20) as u8; 10_000];
            notes.append(Kind::Command, n / 3, &payload).unwrap();
            written.push((notes.last(), payload));
        }
        assert!(exist(dir.path()) && written[0].0 == 3 && written.is_sorted());
        for from in [0, 40, 99] {
            let found = read(dir.path(), written[from].0).unwrap();
            assert_eq!((found.first, found.last), (Some(3), notes.last()));
            let found = frames(found.frames);
            assert!(
                written[from..]
                    .iter()
                    .zip(&found[found.len() - (100 - from)..])
                    .all(|(a, b)| a.0 == b.0 && a.1 == b.1)
            );
        }
        notes.trim(written[60].0);
        let found = read(dir.path(), written[60].0).unwrap();
        assert!(found.first.is_some_and(|first| first > 3 && first <= written[60].0));
        let last = numbered_files(dir.path(), PREFIX).unwrap().pop().unwrap().1;
        let bytes = fs::read(&last).unwrap();
        fs::write(&last, &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(read(dir.path(), 0).unwrap().last, written[98].0);
    }
}
