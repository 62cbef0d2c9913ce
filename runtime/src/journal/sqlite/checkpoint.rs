//! Checkpoints: a thread moves committed pages from the write-ahead log into the database, and lengthens the log's
//! file ahead of the writer.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use rusqlite::Connection;
use rustix::fs::fstatvfs;

use super::{
    Shared,
    files::{LOG_PAGE, logged_bytes},
    locked,
};

/// How many pages, of 4 KiB, the log has when a checkpoint is due: 16 MiB. Each checkpoint syncs the log and the
/// database, which delays appends that wait for a sync.
pub(super) const MOVE_PAGES: u32 = 4_000;

/// How many pages the log's file is lengthened by at a time (1 MiB), when half of the last addition is used. A sync
/// of a file that has grown also waits for the file system's own journal, which takes half as long again.
const AHEAD_PAGES: u32 = 256;
/// If less than this many bytes of the disk are free, the log's file is not lengthened.
const SPARE_BYTES: u64 = 256 * 1024 * 1024;

/// The length of the write-ahead log, and what the checkpoint thread has to do.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// How many pages the log had after the last commit. Changes only under `Shared::writing`.
    pages: Arc<AtomicU32>,
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// How many pages the log had when the last checkpoint became due.
    moved_at: u32,
    /// How many pages fit into the log's file.
    room: u32,
    due: bool,
    /// Whether the log's file is to be lengthened.
    lengthen: bool,
    /// Whether the log is to be truncated, however short it is, because it may contain deleted text.
    purge: bool,
    stopping: bool,
}

/// What the checkpoint thread has to do.
struct Work {
    /// Whether a checkpoint is due.
    due: bool,
    /// Whether the log is to be truncated in any case.
    purge: bool,
    lengthen: bool,
}

/// The state of the log after a checkpoint.
struct Left {
    pages: u32,
    complete: bool,
}

impl Log {
    /// Where each commit stores how many pages the log has.
    pub(super) fn pages(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.pages)
    }

    /// Checks, after commits, whether a checkpoint or a longer file is due.
    pub(super) fn grown(&self) {
        let pages = self.pages.load(Ordering::Acquire);
        let mut state = locked(&self.state);
        if pages < state.moved_at {
            // The log was reset.
            state.moved_at = 0;
        } else if pages >= MOVE_PAGES && pages >= state.moved_at + MOVE_PAGES / 4 {
            state.moved_at = pages;
            state.due = true;
            self.ready.notify_one();
        }
        if pages + AHEAD_PAGES / 2 > state.room && !state.lengthen {
            state.lengthen = true;
            self.ready.notify_one();
        }
    }

    pub(super) fn is_longer_than(&self, pages: u32) -> bool {
        self.pages.load(Ordering::Acquire) > pages
    }

    /// Requests a checkpoint, after which the next commit can reset the log.
    pub(super) fn move_pages(&self) {
        locked(&self.state).due = true;
        self.ready.notify_one();
    }

    /// Requests a checkpoint that truncates the log, because the log may contain deleted text.
    pub(super) fn purge(&self) {
        let mut state = locked(&self.state);
        (state.due, state.purge) = (true, true);
        self.ready.notify_one();
    }

    /// Makes checkpoints and lengthens the log's file until the journal is closed.
    pub(super) fn run(&self, shared: &Shared) {
        while let Some(work) = self.wait() {
            if work.due {
                let cut = checkpoint(shared, work.purge);
                let mut state = locked(&self.state);
                match cut {
                    Ok(true) if work.purge => state.room = 0,
                    Ok(true) => {}
                    // The next checkpoint truncates the log.
                    Ok(false) => state.purge = true,
                    Err(error) => {
                        // The next checkpoint tries again; a failed sync is reported to the appends that wait for it.
                        tracing::warn!(%error, "a checkpoint of the journal failed");
                        state.purge |= work.purge;
                    }
                }
            }
            if work.lengthen {
                let room = lengthen(shared).unwrap_or_else(|error| {
                    tracing::debug!(%error, "no room is made in the journal's log");
                    // Counts as done, so that the next attempt comes after as many pages.
                    self.pages.load(Ordering::Acquire) + AHEAD_PAGES
                });
                locked(&self.state).room = room;
            }
        }
    }

    /// Waits until there is something to do. `None`: the journal is closing.
    fn wait(&self) -> Option<Work> {
        let mut state = locked(&self.state);
        while !state.due && !state.lengthen && !state.stopping {
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let due = std::mem::take(&mut state.due);
        let purge = due && std::mem::take(&mut state.purge);
        let work = Work { due, purge, lengthen: std::mem::take(&mut state.lengthen) };
        (!state.stopping).then_some(work)
    }

    pub(super) fn stop(&self) {
        locked(&self.state).stopping = true;
        self.ready.notify_one();
    }
}

/// Makes a checkpoint. Returns false if the log was to be truncated and could not be.
fn checkpoint(shared: &Shared, purge: bool) -> rusqlite::Result<bool> {
    let db = shared.checkpoints.lend()?;
    let left = run(&db, "PASSIVE")?;
    if purge || logged_bytes(left.pages.into()) > shared.options.wal_bytes {
        // Commits wait for this second checkpoint; it is short, because the first one has moved nearly all pages.
        let _writing = locked(&shared.writing);
        // A log that is reset keeps its disk blocks, so later syncs are faster; a log that is truncated contains no
        // deleted text.
        if !run(&db, if purge { "TRUNCATE" } else { "RESTART" })?.complete {
            tracing::debug!("the journal's log is read and cannot be cut yet");
            return Ok(!purge);
        }
        if purge {
            shared.log.pages.store(0, Ordering::Release);
        }
    }
    Ok(true)
}

/// Lengthens the log's file by zeros behind its pages; to readers of the log, zeros end it. Returns how many pages
/// fit into the file.
fn lengthen(shared: &Shared) -> io::Result<u32> {
    let db = shared.checkpoints.lend().map_err(io::Error::other)?;
    let wal = shared.files.open_wal()?;
    let disk = fstatvfs(&wal)?;
    if disk.f_bavail.saturating_mul(disk.f_frsize) < SPARE_BYTES {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let room = {
        // Neither this process nor another program can write to the log meanwhile.
        let _writing = locked(&shared.writing);
        db.execute_batch("BEGIN IMMEDIATE").map_err(io::Error::other)?;
        let room = shared.log.pages.load(Ordering::Acquire) + AHEAD_PAGES;
        let written = write_zeros(&wal, logged_bytes(room.into()));
        db.execute_batch("ROLLBACK").map_err(io::Error::other)?;
        written.map(|()| room)?
    };
    wal.sync_data()?;
    Ok(room)
}

/// Lengthens a log to this many bytes, by at most [`AHEAD_PAGES`] pages.
fn write_zeros(wal: &File, length: u64) -> io::Result<()> {
    let there = wal.metadata()?.len();
    let missing = length.saturating_sub(there).min(u64::from(AHEAD_PAGES) * LOG_PAGE);
    wal.write_all_at(&vec![0; usize::try_from(missing).unwrap_or(0)], there)
}

fn run(db: &Connection, mode: &str) -> rusqlite::Result<Left> {
    db.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
        let (busy, logged, moved): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(Left { pages: u32::try_from(logged).unwrap_or(0), complete: busy == 0 && logged == moved })
    })
}

/// Moves all pages into the database and truncates the log. Returns false if another connection prevented that.
pub(super) fn finish(db: &Connection) -> rusqlite::Result<bool> {
    run(db, "TRUNCATE").map(|left| left.complete)
}
