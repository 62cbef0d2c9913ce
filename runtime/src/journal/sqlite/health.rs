//! Whether the journal can be written, for those who ask and those who are connected. Once it cannot, that is tried again
//! every second, also if nobody wants anything kept.

use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};
use rustix::fs::statvfs;

use super::{Shared, files::Files, locked, sql::write};

/// It is tried this often whether the journal can be written again.
const AGAIN: Duration = Duration::from_secs(1);
/// A disk that was full has at least so much room before it counts as one that is not.
const ROOM_BYTES: u64 = 1024 * 1024;

/// Whether the journal can be written.
#[derive(Debug, Default)]
pub(super) struct Health {
    ill: Option<Ill>,
}

#[derive(Debug)]
struct Ill {
    full: bool,
    try_at: Instant,
}

impl Health {
    /// It could not be written.
    pub(super) fn failed(&mut self, shared: &Shared, error: &rusqlite::Error) {
        let full = error.sqlite_error_code() == Some(ErrorCode::DiskFull);
        self.suffers(shared, full, error);
    }

    /// It could not be brought to the disk, or not be opened again.
    pub(super) fn suffers(&mut self, shared: &Shared, full: bool, error: &dyn std::fmt::Display) {
        let try_at = Instant::now() + AGAIN;
        if self.ill.replace(Ill { full, try_at }).is_some_and(|ill| ill.full == full) {
            return;
        }
        let text = if full {
            "the disk is full, so what is sent is refused: make room where the data directory is".to_owned()
        } else {
            format!(
                "the journal cannot be written ({error}), so what is sent is refused: look at the disk of the data \
                 directory"
            )
        };
        tracing::error!("{text}");
        shared.answers.degraded(Some(text));
    }

    /// It was written.
    pub(super) fn written(&mut self, shared: &Shared) {
        if self.ill.take().is_some() {
            tracing::info!("the journal can be written again");
            shared.answers.degraded(None);
        }
    }

    /// When it is to be tried again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.ill.as_ref().map(|ill| ill.try_at)
    }

    /// Tries it, if that is due. Changes nothing but the page that counts commits.
    pub(super) fn probe(&mut self, shared: &Shared, db: Option<&Connection>, commits: u64) {
        let now = Instant::now();
        let Some(ill) = self.ill.as_mut().filter(|ill| ill.try_at <= now) else { return };
        ill.try_at = now + AGAIN;
        let Some(db) = db.filter(|_| !shared.verdicts.has_failed()) else { return };
        if ill.full && !has_room(&shared.files) {
            return;
        }
        let writing = locked(&shared.writing);
        let written = db
            .prepare_cached(write::COUNT_COMMIT)
            .and_then(|mut count| count.execute([commits.cast_signed()]));
        drop(writing);
        match written {
            Ok(_) => self.written(shared),
            Err(error) => self.failed(shared, &error),
        }
    }
}

fn has_room(files: &Files) -> bool {
    let folder = files.db.parent().filter(|folder| !folder.as_os_str().is_empty());
    let disk = statvfs(folder.unwrap_or(std::path::Path::new(".")));
    disk.is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) >= ROOM_BYTES)
}
