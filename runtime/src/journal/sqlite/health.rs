//! Whether the journal can be written and read, reported to monitoring and to connected clients. After a failure,
//! writing or reading is tried again every second, even if there are no requests.

use std::{
    fmt::Display,
    sync::Mutex,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode};
use rustix::fs::statvfs;

use super::{Shared, files::Files, locked, sql::write};

/// How often writing and reading are tried again after a failure.
const AGAIN: Duration = Duration::from_secs(1);
/// How many bytes must be free before a disk that was full counts as writable again.
const ROOM_BYTES: u64 = 1024 * 1024;

/// The state of writing and of reading.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Why the journal cannot be written.
    writing: Option<Fault>,
    /// Why the journal cannot be read.
    reading: Option<Fault>,
}

#[derive(Debug)]
struct Fault {
    full: bool,
    text: String,
    try_at: Instant,
}

impl State {
    /// Reports the state to the gateway.
    fn announce(&self, shared: &Shared) {
        let ill = self.writing.as_ref().or(self.reading.as_ref());
        shared.answers.degraded(ill.map(|ill| ill.text.clone()));
    }
}

impl Health {
    /// Records that a write failed.
    pub(super) fn failed(&self, shared: &Shared, error: &rusqlite::Error) {
        let full = error.sqlite_error_code() == Some(ErrorCode::DiskFull);
        self.suffers(shared, full, error);
    }

    /// Records that a write, a sync or a reopening failed.
    pub(super) fn suffers(&self, shared: &Shared, full: bool, error: &dyn Display) {
        let mut state = locked(&self.0);
        let try_at = Instant::now() + AGAIN;
        if let Some(ill) = state.writing.as_mut().filter(|ill| ill.full == full) {
            ill.try_at = try_at;
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
        state.writing = Some(Fault { full, text, try_at });
        state.announce(shared);
    }

    /// Records that nothing can be read from the disk.
    pub(super) fn unreadable(&self, shared: &Shared, error: &dyn Display) {
        let mut state = locked(&self.0);
        let try_at = Instant::now() + AGAIN;
        if let Some(ill) = &mut state.reading {
            ill.try_at = try_at;
            return;
        }
        let text = format!(
            "the journal cannot be read ({error}), so chats cannot be opened: look at the disk of the data directory"
        );
        tracing::error!("{text}");
        state.reading = Some(Fault { full: false, text, try_at });
        state.announce(shared);
        // The writer's thread does the retries.
        shared.work.nudge();
    }

    /// Records that a write succeeded.
    pub(super) fn written(&self, shared: &Shared) {
        let mut state = locked(&self.0);
        if state.writing.take().is_some() {
            tracing::info!("the journal can be written again");
            state.announce(shared);
        }
    }

    /// When the next retry is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let state = locked(&self.0);
        [&state.writing, &state.reading].into_iter().flatten().map(|ill| ill.try_at).min()
    }

    /// Retries what is due. Writes nothing but the commit count.
    pub(super) fn probe(&self, shared: &Shared, db: Option<&Connection>, commits: u64) {
        let now = Instant::now();
        let mut state = locked(&self.0);
        let due = |ill: &mut Option<Fault>| {
            let due = ill.as_mut().filter(|ill| ill.try_at <= now)?;
            due.try_at = now + AGAIN;
            Some(due.full)
        };
        let (writing, reading) = (due(&mut state.writing), due(&mut state.reading));
        drop(state);
        if reading.is_some() && shared.read_disk().is_ok() {
            let mut state = locked(&self.0);
            state.reading = None;
            tracing::info!("the journal can be read again");
            state.announce(shared);
        }
        let Some(full) = writing else { return };
        let Some(db) = db.filter(|_| !shared.verdicts.has_failed()) else { return };
        if full && !has_room(&shared.files) {
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
