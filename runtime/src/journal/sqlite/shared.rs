//! The state that the journal's threads share.

use std::{
    fs::File,
    io,
    sync::{Arc, Mutex, atomic::AtomicI64},
};

use rustc_hash::FxHashSet;
use switchboard_core::ids::ChatKey;

use super::{
    acks::PendingAcks, disk::Disk, files::Files, health::Health, log::Log, mutex::locked,
    options::SqliteOptions, pool::ConnectionPool, questions::Questions, work::Work,
};
use crate::journal::Answers;

/// The state that the journal's threads share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) answers: Answers,
    pub(super) files: Files,
    pub(super) options: SqliteOptions,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) work: Work,
    pub(super) questions: Questions,
    pub(super) pending_acks: PendingAcks,
    pub(super) log: Log,
    pub(super) health: Health,
    pub(super) readers: ConnectionPool,
    pub(super) checkpoints: ConnectionPool,
    /// Locked during a transaction, and while the log is reset or truncated.
    pub(super) writing: Mutex<()>,
    /// Chats that cannot be appended to because their part of the database is damaged.
    pub(super) damaged: Mutex<FxHashSet<ChatKey>>,
    /// The journal's generation: chats of an earlier generation get a new epoch when they are next opened.
    pub(super) generation: AtomicI64,
}

impl Shared {
    /// Whether the writer must handle a chat before its state can be read: the state of the disk is unknown, or an
    /// append of the chat has found it damaged.
    pub(super) fn needs_the_writer(&self, chat: &ChatKey) -> bool {
        self.pending_acks.has_failed() || locked(&self.damaged).contains(chat)
    }

    /// Fails if nothing can be read from the disk.
    pub(super) fn read_disk(&self) -> io::Result<()> {
        self.disk.probe(&self.files)
    }

    /// Syncs the write-ahead log to the disk.
    pub(super) fn sync(&self, wal: &File) -> io::Result<()> {
        self.disk.sync(wal)
    }
}
