//! After a failure, writing or reading is tried again every second, even if there are no requests.

use std::path::Path;

use rusqlite::Connection;
use rustix::fs::statvfs;

use super::{files::Files, mutex::locked, shared::Shared, sql::write};

/// How many bytes must be free before a disk that was full counts as writable again.
const ROOM_BYTES: u64 = 1024 * 1024;

/// Tries again what is due. Writes nothing but the commit count.
pub(super) fn probe(shared: &Shared, db: Option<&Connection>, commits: u64) {
    let (writing, reading) = shared.health.take_due();
    if reading && shared.read_disk().is_ok() {
        shared.health.readable();
    }
    let Some(full) = writing else { return };
    let Some(db) = db.filter(|_| !shared.pending_acks.has_failed()) else { return };
    if full && !has_room(&shared.files) {
        return;
    }
    let writing = locked(&shared.writing);
    let written =
        db.prepare_cached(write::COUNT_COMMIT).and_then(|mut count| count.execute([commits.cast_signed()]));
    drop(writing);
    match written {
        Ok(_) => shared.health.written(),
        Err(error) => shared.health.failed(&error),
    }
}

fn has_room(files: &Files) -> bool {
    let folder = files.db.parent().filter(|folder| !folder.as_os_str().is_empty());
    let disk = statvfs(folder.unwrap_or(Path::new(".")));
    disk.is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) >= ROOM_BYTES)
}
