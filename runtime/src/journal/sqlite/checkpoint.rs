//! Checkpoints: moving what is committed from the write-ahead log into the database, off the writer's thread. And room
//! in the log, made ahead of the writer.

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

/// Pages in the log from which on they are moved, 4 KiB each: 16 MiB. Each time syncs the log and the
/// database, which those who wait for the disk notice.
pub(super) const MOVE_PAGES: u32 = 4_000;

/// So many pages of room are made at a time, 1 MiB, when half of that is left. A sync of what a file gets longer by
/// waits for the file system's own journal as well, half as long again.
const AHEAD_PAGES: u32 = 256;
/// A disk with less room than this, in bytes, keeps it.
const SPARE_BYTES: u64 = 256 * 1024 * 1024;

/// How far the write-ahead log has grown.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// How many pages the last commit left in it. Changes only where nobody else writes.
    pages: Arc<AtomicU32>,
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// How many pages there were when a checkpoint was last due.
    moved_at: u32,
    /// How many there is room for in the file.
    room: u32,
    due: bool,
    /// Room is to be made.
    lengthen: bool,
    /// Something was deleted, or may have been: the log is to be cut, however short it is.
    purge: bool,
    stopping: bool,
}

/// What there is to do.
struct Work {
    /// A checkpoint.
    due: bool,
    /// The log is to be cut in any case.
    purge: bool,
    lengthen: bool,
}

/// What a checkpoint left.
struct Left {
    pages: u32,
    complete: bool,
}

impl Log {
    /// Where a commit tells how many pages it left.
    pub(super) fn pages(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.pages)
    }

    /// There may have been commits.
    pub(super) fn grown(&self) {
        let pages = self.pages.load(Ordering::Acquire);
        let mut state = locked(&self.state);
        if pages < state.moved_at {
            // It was begun anew.
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

    /// What is in the log is to be moved, so that the next commit begins it anew.
    pub(super) fn move_pages(&self) {
        locked(&self.state).due = true;
        self.ready.notify_one();
    }

    /// Something was deleted, or may have been, and the log still holds it.
    pub(super) fn purge(&self) {
        let mut state = locked(&self.state);
        (state.due, state.purge) = (true, true);
        self.ready.notify_one();
    }

    /// Makes checkpoints, and room, for as long as the journal is open.
    pub(super) fn run(&self, shared: &Shared) {
        while let Some(work) = self.wait() {
            if work.due {
                let cut = checkpoint(shared, work.purge);
                let mut state = locked(&self.state);
                match cut {
                    Ok(true) if work.purge => state.room = 0,
                    Ok(true) => {}
                    // With the next one.
                    Ok(false) => state.purge = true,
                    Err(error) => {
                        // The next one tries again; a failed sync is noticed by whoever waits for it.
                        tracing::warn!(%error, "a checkpoint of the journal failed");
                        state.purge |= work.purge;
                    }
                }
            }
            if work.lengthen {
                let room = lengthen(shared).unwrap_or_else(|error| {
                    tracing::debug!(%error, "no room is made in the journal's log");
                    // As if there were: the next attempt is as far away.
                    self.pages.load(Ordering::Acquire) + AHEAD_PAGES
                });
                locked(&self.state).room = room;
            }
        }
    }

    /// Waits until there is something to do. `None`: stop.
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

/// Gives whether what was to be cut was cut.
fn checkpoint(shared: &Shared, purge: bool) -> rusqlite::Result<bool> {
    let db = shared.checkpoints.lend()?;
    let left = run(&db, "PASSIVE")?;
    let page_bytes = 4096;
    if purge || u64::from(left.pages) * page_bytes > shared.options.wal_bytes {
        // Commits wait meanwhile; nearly everything has just been moved.
        let _writing = locked(&shared.writing);
        // Begun anew it keeps its blocks, which costs those who wait for the disk less than new ones; cut, it holds
        // nothing of what was deleted.
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

/// Makes room in the log's file behind its pages: zeros, which end the log for whoever reads it. Gives how many pages it
/// has room for.
fn lengthen(shared: &Shared) -> io::Result<u32> {
    let db = shared.checkpoints.lend().map_err(io::Error::other)?;
    let wal = shared.files.open_wal()?;
    let disk = fstatvfs(&wal)?;
    if disk.f_bavail.saturating_mul(disk.f_frsize) < SPARE_BYTES {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let room = {
        // Nobody here writes to the log meanwhile, and no other program either.
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

/// Makes a log this long, if that is not much.
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

/// Moves everything, when nothing else has the database open.
pub(super) fn finish(db: &Connection) -> rusqlite::Result<bool> {
    run(db, "TRUNCATE").map(|left| left.complete)
}
