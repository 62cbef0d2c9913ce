//! Checkpoints: a thread moves committed pages from the write-ahead log into the database, and lengthens the log's
//! file ahead of the writer.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use rusqlite::Connection;
use rustix::fs::fstatvfs;

use super::{
    files::{LOG_PAGE, logged_bytes},
    log::AHEAD_PAGES,
    mutex::locked,
    shared::Shared,
};

/// If less than this many bytes of the disk are free, the log's file is not lengthened.
const SPARE_BYTES: u64 = 256 * 1024 * 1024;

/// The state of the log after a checkpoint.
struct Left {
    pages: u32,
    complete: bool,
}

/// Makes checkpoints and lengthens the log's file until the journal is closed.
pub(super) fn run(shared: &Shared) {
    while let Some(work) = shared.log.wait() {
        if work.due {
            match checkpoint(shared, work.purge) {
                Ok(true) => {}
                Ok(false) => shared.log.truncate_later(),
                Err(error) => {
                    // The next checkpoint tries again; a failed sync is reported to the appends that wait for it.
                    tracing::warn!(%error, "a checkpoint of the journal failed");
                    if work.purge {
                        shared.log.truncate_later();
                    }
                }
            }
        }
        if work.lengthen {
            let room = lengthen(shared).unwrap_or_else(|error| {
                tracing::debug!(%error, "the file of the journal's log cannot be lengthened");
                // Counts as done, so that the next attempt comes after as many pages.
                shared.log.length() + AHEAD_PAGES
            });
            shared.log.set_room(room);
        }
    }
}

/// Makes a checkpoint. Returns false if the log was to be truncated and could not be.
fn checkpoint(shared: &Shared, purge: bool) -> rusqlite::Result<bool> {
    let db = shared.checkpoints.get()?;
    let left = pragma(&db, "PASSIVE")?;
    if purge || logged_bytes(left.pages.into()) > shared.options.wal_bytes {
        // Commits wait for this second checkpoint; it is short, because the first one has moved nearly all pages.
        let _writing = locked(&shared.writing);
        // A log that is reset keeps its disk blocks, so later syncs are faster; a log that is truncated contains no
        // deleted text.
        if !pragma(&db, if purge { "TRUNCATE" } else { "RESTART" })?.complete {
            tracing::debug!("the journal's log is read and cannot be cut yet");
            return Ok(!purge);
        }
        if purge {
            shared.log.truncated();
        }
    }
    Ok(true)
}

/// Lengthens the log's file by zeros behind its pages; to readers of the log, zeros end it. Returns how many pages
/// fit into the file.
fn lengthen(shared: &Shared) -> io::Result<u32> {
    let db = shared.checkpoints.get().map_err(io::Error::other)?;
    let wal = shared.files.open_wal()?;
    let disk = fstatvfs(&wal)?;
    if disk.f_bavail.saturating_mul(disk.f_frsize) < SPARE_BYTES {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let room = {
        // Neither this process nor another program can write to the log meanwhile.
        let _writing = locked(&shared.writing);
        db.execute_batch("BEGIN IMMEDIATE").map_err(io::Error::other)?;
        let room = shared.log.length() + AHEAD_PAGES;
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

fn pragma(db: &Connection, mode: &str) -> rusqlite::Result<Left> {
    db.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
        let (busy, logged, moved): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(Left { pages: u32::try_from(logged).unwrap_or(0), complete: busy == 0 && logged == moved })
    })
}

/// Moves all pages into the database and truncates the log. Returns false if another connection prevented that.
pub(super) fn finish(db: &Connection) -> rusqlite::Result<bool> {
    pragma(db, "TRUNCATE").map(|left| left.complete)
}
