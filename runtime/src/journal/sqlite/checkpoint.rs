//! Checkpoints: moving what is committed from the write-ahead log into the database, off the writer's thread.

use std::sync::{Condvar, Mutex, PoisonError};

use rusqlite::Connection;

use super::{Shared, locked};

/// Pages in the log from which on they are moved, 4 KiB each: 16 MiB. Each time syncs the log and the
/// database, which those who wait for the disk notice.
pub(super) const MOVE_PAGES: u32 = 4_000;

/// How far the write-ahead log has grown.
#[derive(Debug, Default)]
pub(super) struct Log {
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Debug, Default)]
struct State {
    pages: u32,
    due: bool,
    /// Something was deleted, or may have been: the log is to be cut, however short it is.
    purge: bool,
    stopping: bool,
}

/// What a checkpoint left.
struct Left {
    pages: u32,
    complete: bool,
}

impl Log {
    /// The log has this many pages after a commit.
    pub(super) fn grown(&self, pages: u32) {
        let mut state = locked(&self.state);
        let due = pages >= MOVE_PAGES && pages >= state.pages + MOVE_PAGES / 4;
        if pages < state.pages {
            // It was begun anew.
            state.pages = 0;
        }
        if due {
            state.pages = pages;
            state.due = true;
            self.ready.notify_one();
        }
    }

    /// Something was deleted, or may have been, and the log still holds it.
    pub(super) fn purge(&self) {
        let mut state = locked(&self.state);
        (state.due, state.purge) = (true, true);
        self.ready.notify_one();
    }

    /// Makes checkpoints for as long as the journal is open.
    pub(super) fn run(&self, shared: &Shared) {
        while let Some(purge) = self.wait() {
            match checkpoint(shared, purge) {
                Ok(true) => {}
                // With the next one.
                Ok(false) => locked(&self.state).purge = true,
                Err(error) => {
                    // The next one tries again; a failed sync is noticed by whoever waits for it.
                    tracing::warn!(%error, "a checkpoint of the journal failed");
                    locked(&self.state).purge |= purge;
                }
            }
        }
    }

    /// Waits until one is due. Gives whether the log is to be cut in any case; `None`: stop.
    fn wait(&self) -> Option<bool> {
        let mut state = locked(&self.state);
        while !state.due && !state.stopping {
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.due = false;
        let purge = std::mem::take(&mut state.purge);
        (!state.stopping).then_some(purge)
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
    }
    Ok(true)
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
