//! What the journal's threads ask of the disk. A trait, because only a disk that is made for it fails when a test wants
//! it to.

use std::{fmt::Debug, fs::File, io};

use rustix::fs::fdatasync;
use switchboard_core::ids::ChatKey;

use super::files::Files;

/// The disk that a journal is on.
pub(super) trait Disk: Debug + Send + Sync {
    /// Fails if nothing can be read from the disk.
    fn probe(&self, files: &Files) -> io::Result<()>;

    /// Syncs the data of the write-ahead log to the disk.
    fn sync(&self, wal: &File) -> io::Result<()>;

    /// Called before the rows of a chat are read to answer a question; fails if they cannot be read.
    fn before_read(&self, chat: Option<&ChatKey>) -> rusqlite::Result<()>;

    /// Called before an append of this chat is applied; fails if the rows that it needs cannot be read.
    fn before_append(&self, chat: &ChatKey) -> rusqlite::Result<()>;
}

/// The disk as the system gives it. SQLite reports by itself which rows it cannot read.
#[derive(Debug)]
pub(super) struct SystemDisk;

impl Disk for SystemDisk {
    fn probe(&self, files: &Files) -> io::Result<()> {
        files.read_disk()
    }

    fn sync(&self, wal: &File) -> io::Result<()> {
        Ok(fdatasync(wal)?)
    }

    fn before_read(&self, _: Option<&ChatKey>) -> rusqlite::Result<()> {
        Ok(())
    }

    fn before_append(&self, _: &ChatKey) -> rusqlite::Result<()> {
        Ok(())
    }
}
