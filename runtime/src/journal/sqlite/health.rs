//! Whether the journal can be written and read, for those who ask and those who are connected. Once it cannot, that is
//! tried again every second, also if nobody wants anything of it.

use std::{
    fmt::Display,
    sync::Mutex,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode};
use rustix::fs::statvfs;

use super::{Shared, files::Files, locked, sql::write};

/// It is tried this often whether the journal can be written and read again.
const AGAIN: Duration = Duration::from_secs(1);
/// A disk that was full has at least so much room before it counts as one that is not.
const ROOM_BYTES: u64 = 1024 * 1024;

/// Whether the journal can be written and read.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Why it cannot be written.
    writing: Option<Fault>,
    /// Why it cannot be read.
    reading: Option<Fault>,
}

#[derive(Debug)]
struct Fault {
    full: bool,
    text: String,
    try_at: Instant,
}

impl State {
    /// Tells those who ask and those who are connected.
    fn announce(&self, shared: &Shared) {
        let ill = self.writing.as_ref().or(self.reading.as_ref());
        shared.answers.degraded(ill.map(|ill| ill.text.clone()));
    }
}

impl Health {
    /// It could not be written.
    pub(super) fn failed(&self, shared: &Shared, error: &rusqlite::Error) {
        let full = error.sqlite_error_code() == Some(ErrorCode::DiskFull);
        self.suffers(shared, full, error);
    }

    /// It could not be brought to the disk, or not be opened again.
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

    /// The disk gives nothing.
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
        // The writer tries it again.
        shared.work.nudge();
    }

    /// It was written.
    pub(super) fn written(&self, shared: &Shared) {
        let mut state = locked(&self.0);
        if state.writing.take().is_some() {
            tracing::info!("the journal can be written again");
            state.announce(shared);
        }
    }

    /// When it is to be tried again.
    pub(super) fn due(&self) -> Option<Instant> {
        let state = locked(&self.0);
        [&state.writing, &state.reading].into_iter().flatten().map(|ill| ill.try_at).min()
    }

    /// Tries what is due. Changes nothing but the page that counts commits.
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
