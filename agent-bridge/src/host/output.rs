//! The part of a spool that has the agent's output: the bytes of its processes, one behind the other, in files
//! `output.<offset of the first byte>`.
//!
//! One process at a time moves bytes from the agent's pipe to these files: the connected gateway, else the host. They are
//! moved with splice(2): at any moment, a byte is in the pipe or in a file, whoever is killed. Files are never written
//! over, and nothing is synced: they survive the death of all processes, but not of the machine.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::{FileExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use bytes::BytesMut;

use super::numbered::numbered_files;

const PREFIX: &str = "output.";
/// Least and greatest size of one file, in bytes.
const FILE_BYTES: (u64, u64) = (16 * 1024, 4 * 1024 * 1024);
/// Most bytes that are moved at once.
const MOVE_BYTES: u64 = 256 * 1024;

/// The output in a spool.
#[derive(Debug)]
pub(crate) struct SpooledOutput {
    dir: PathBuf,
    files: VecDeque<OutputFile>,
    /// Size in bytes from which on no more output is moved.
    limit: u64,
}

#[derive(Debug)]
struct OutputFile {
    /// The offset of its first byte.
    first: u64,
    length: u64,
    file: File,
}

impl OutputFile {
    fn end(&self) -> u64 {
        self.first + self.length
    }
}

impl SpooledOutput {
    /// Opens the output in a directory, which has room for `limit` bytes.
    ///
    /// # Errors
    /// If the directory or a file cannot be read, or a file between two others is missing or short.
    pub(crate) fn open(dir: &Path, limit: u64) -> io::Result<Self> {
        let mut output = Self { dir: dir.into(), files: VecDeque::new(), limit };
        output.look_again()?;
        Ok(output)
    }

    /// Opens what another process has written since.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn look_again(&mut self) -> io::Result<()> {
        self.files.clear();
        for (first, path) in numbered_files(&self.dir, PREFIX)? {
            let file = OpenOptions::new().read(true).write(true).open(path)?;
            let length = file.metadata()?.len();
            if self.files.back().is_some_and(|before| before.end() != first) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a part of the agent's output is missing",
                ));
            }
            self.files.push_back(OutputFile { first, length, file });
        }
        Ok(())
    }

    /// The offsets of the first byte that is still there, and of the end.
    pub(crate) fn range(&self) -> (u64, u64) {
        let first = self.files.front().map_or(0, |file| file.first);
        (first, self.files.back().map_or(0, OutputFile::end))
    }

    /// Whether more output may be moved.
    pub(crate) fn has_room(&self) -> bool {
        let (first, end) = self.range();
        end - first < self.limit
    }

    /// Moves bytes from a pipe to the end. Returns their number; 0 at the end of the pipe.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if the pipe is empty. After any error nothing was moved.
    pub(crate) fn take_from(&mut self, pipe: impl AsFd) -> io::Result<usize> {
        let most = (self.limit / 16).clamp(FILE_BYTES.0, FILE_BYTES.1);
        if self.files.back().is_none_or(|file| file.length >= most) {
            let first = self.range().1;
            let path = self.dir.join(format!("{PREFIX}{first}"));
            let mut options = OpenOptions::new();
            // It may exist after an earlier attempt that has moved nothing.
            let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
            let length = file.metadata()?.len();
            self.files.push_back(OutputFile { first, length, file });
        }
        let Some(last) = self.files.back_mut() else { return Err(io::ErrorKind::NotFound.into()) };
        let some = (most - last.length).min(MOVE_BYTES);
        let count = move_bytes(pipe.as_fd(), &last.file, last.length, some)?;
        last.length += count as u64;
        Ok(count)
    }

    /// Reads up to `most` bytes from an offset on into a buffer. Returns their number.
    ///
    /// # Errors
    /// If there are no such bytes.
    pub(crate) fn read(&self, offset: u64, most: usize, buffer: &mut BytesMut) -> io::Result<usize> {
        let at = self.files.partition_point(|file| file.end() <= offset);
        let file =
            self.files.get(at).filter(|file| file.first <= offset).ok_or(io::ErrorKind::UnexpectedEof)?;
        let some = usize::try_from(file.end() - offset).unwrap_or(usize::MAX).min(most);
        let before = buffer.len();
        buffer.resize(before + some, 0);
        let read = file.file.read_exact_at(&mut buffer[before..], offset - file.first);
        if read.is_err() {
            buffer.truncate(before);
        }
        read.map(|()| some)
    }

    /// Removes files that contain only bytes before this offset, except the last one.
    pub(crate) fn trim(&mut self, before: u64) {
        while self.files.len() > 1
            && let Some(first) = self.files.front().filter(|file| file.end() <= before)
        {
            if let Err(error) = fs::remove_file(self.dir.join(format!("{PREFIX}{}", first.first)))
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, "a part of a spool could not be removed");
            }
            self.files.pop_front();
        }
    }
}

/// Moves up to `most` bytes from a pipe into a file.
#[cfg(target_os = "linux")]
fn move_bytes(pipe: BorrowedFd<'_>, file: &File, offset: u64, most: u64) -> io::Result<usize> {
    use rustix::pipe::{SpliceFlags, splice};

    let (mut offset, most) = (offset, usize::try_from(most).unwrap_or(usize::MAX));
    Ok(splice(pipe, None, file, Some(&mut offset), most, SpliceFlags::NONBLOCK)?)
}

/// Elsewhere, bytes that were read and not yet written are lost with this process.
#[cfg(not(target_os = "linux"))]
fn move_bytes(pipe: BorrowedFd<'_>, file: &File, offset: u64, most: u64) -> io::Result<usize> {
    let mut bytes = vec![0; usize::try_from(most).unwrap_or(usize::MAX)];
    let count = rustix::io::read(pipe, &mut bytes)?;
    file.write_all_at(&bytes[..count], offset)?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use std::io::{Write as _, pipe};

    use rustix::io::ioctl_fionbio;

    use super::*;

    const LIMIT: u64 = 256 * 1024;

    fn read_all(output: &SpooledOutput) -> Vec<u8> {
        let (mut offset, end) = output.range();
        let mut bytes = BytesMut::new();
        while offset < end {
            offset += output.read(offset, 1000, &mut bytes).unwrap() as u64;
        }
        bytes.to_vec()
    }

    #[test]
    fn what_was_in_the_pipe_is_in_the_files_in_order_until_they_are_full() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = SpooledOutput::open(dir.path(), LIMIT).unwrap();
        let (reader, mut writer) = pipe().unwrap();
        ioctl_fionbio(&reader, true).unwrap();
        assert_eq!(output.take_from(&reader).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let mut written: Vec<u8> = Vec::new();
        while output.has_room() {
            let bytes: Vec<u8> = (0..5000).map(|n| ((written.len() + n) % 251) as u8).collect();
            writer.write_all(&bytes).unwrap();
            written.extend(&bytes);
            // Each file is filled before the next one is begun.
            let mut moved = 0;
            while moved < bytes.len() {
                moved += output.take_from(&reader).unwrap();
            }
        }
        assert!(written.len() as u64 >= LIMIT && (written.len() as u64) < LIMIT + 5000);
        assert!(read_all(&output) == written);
        // Another process finds the same, and goes on behind it.
        let mut other = SpooledOutput::open(dir.path(), 2 * LIMIT).unwrap();
        assert!(read_all(&other) == written);
        writer.write_all(b"more").unwrap();
        other.take_from(&reader).unwrap();
        output.look_again().unwrap();
        assert_eq!(output.range(), (0, written.len() as u64 + 4));
        drop(writer);
        assert_eq!(output.take_from(&reader).unwrap(), 0);
    }

    #[test]
    fn what_is_not_needed_any_more_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = SpooledOutput::open(dir.path(), LIMIT).unwrap();
        let (reader, mut writer) = pipe().unwrap();
        ioctl_fionbio(&reader, true).unwrap();
        let mut trimmed = 0;
        for _ in 0..1000 {
            writer.write_all(&[b'x'; 5000]).unwrap();
            while output.take_from(&reader).is_ok() {}
            if !output.has_room() {
                let (first, end) = output.range();
                output.trim(end - 30_000);
                assert!(output.range().0 > first && output.range().0 <= end - 30_000);
                trimmed += 1;
            }
        }
        assert!(trimmed > 10);
        let end = output.range().1;
        output.trim(u64::MAX);
        assert!(output.range().1 == end && fs::read_dir(dir.path()).unwrap().count() == 1);
        assert!(output.read(0, 10, &mut BytesMut::new()).is_err(), "it is gone");
    }

    #[test]
    fn a_missing_or_short_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        for (first, length) in [(0, 10), (10, 10), (20, 10)] {
            fs::write(dir.path().join(format!("{PREFIX}{first}")), vec![b'x'; length]).unwrap();
        }
        assert_eq!(SpooledOutput::open(dir.path(), LIMIT).unwrap().range(), (0, 30));
        fs::write(dir.path().join("output.10"), b"short").unwrap();
        assert!(SpooledOutput::open(dir.path(), LIMIT).is_err());
        fs::remove_file(dir.path().join("output.10")).unwrap();
        assert!(SpooledOutput::open(dir.path(), LIMIT).is_err());
    }
}
