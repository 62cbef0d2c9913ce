//! Finds out whether committed data is missing from a journal before any file is changed, and copies the files aside
//! before a start accepts a loss.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rusqlite::Connection;

use super::{
    error::{OpenError, OpenErrorReason},
    files::{Files, Lock, RecordedCommits},
    meta::Meta,
    options::SqliteOptions,
};

/// What is missing from a journal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Loss {
    Nothing,
    /// The missing data was never reported as synced, or the loss is accepted: every chat gets a new epoch.
    Forgiven,
    /// Committed data is missing, as the text says.
    Refused(String),
}

/// What is missing if the database file does not exist or is empty. SQLite would create a new database and remove the
/// old log.
pub(super) fn of_file(files: &Files, side: &RecordedCommits) -> Result<Option<String>, OpenError> {
    let state = match fs::metadata(&files.db) {
        Ok(metadata) if metadata.len() > 0 => return Ok(None),
        Ok(_) => "empty",
        Err(error) if error.kind() == io::ErrorKind::NotFound => "missing",
        Err(error) => return Err(OpenError::io(&files.db, error)),
    };
    Ok(match side {
        RecordedCommits::Commits { commits, .. } => {
            Some(format!("the file is {state}, and {commits} commits were written to it"))
        }
        RecordedCommits::Restored => Some(format!("the file is {state}, and a backup was restored there")),
        RecordedCommits::Garbage => Some(format!("the file is {state}, and its count of commits is damaged")),
        RecordedCommits::Nothing if files.wal().exists() => {
            Some(format!("the file is {state}, and its write-ahead log is there"))
        }
        // A gateway never leaves an empty file: it creates a database under another name and renames it.
        RecordedCommits::Nothing if state == "empty" => {
            Some("the file is empty, which a journal never is".into())
        }
        RecordedCommits::Nothing => None,
    })
}

/// What is missing from a database that can be read.
pub(super) fn of_commits(side: &RecordedCommits, found: Option<&Meta>, boot: Option<&str>) -> Loss {
    let (journal_id, commits, synced, boot_id) = match side {
        RecordedCommits::Commits { journal_id, commits, synced, boot_id } => {
            (journal_id, commits, synced, boot_id)
        }
        RecordedCommits::Garbage => return Loss::Refused("its count of commits is damaged".into()),
        // A backup without a commit count, or one whose count says `restored`.
        RecordedCommits::Nothing | RecordedCommits::Restored if found.is_some() => return Loss::Forgiven,
        RecordedCommits::Nothing | RecordedCommits::Restored => {
            return Loss::Refused(
                "the file is a database with nothing in it, which a journal never is".into(),
            );
        }
    };
    let Some(meta) = found else {
        return Loss::Refused(format!("none of {commits} commits is there"));
    };
    if meta.journal_id != *journal_id {
        return Loss::Refused("it is another journal than the one that its count of commits is of".into());
    }
    let there = meta.state.commits;
    if there >= *commits {
        return Loss::Nothing;
    }
    let written_in = boot_id.as_deref().unwrap_or(&meta.boot_id);
    if there < *synced || boot.is_some_and(|boot| boot == written_in) {
        return Loss::Refused(format!(
            "{there} of {commits} commits are there, so its write-ahead log is missing, cut or damaged, or it is an \
             older copy"
        ));
    }
    Loss::Forgiven
}

/// Fails unless [`SqliteOptions::accept_loss`] is set.
pub(super) fn may_accept(files: &Files, options: &SqliteOptions, detail: String) -> Result<(), OpenError> {
    if options.accept_loss {
        Ok(())
    } else {
        Err(OpenError::new(&files.db, OpenErrorReason::Lost { detail }))
    }
}

/// Copies all existing files of the journal aside, before a start accepts a loss. Returns the path of the copied
/// database.
pub(super) fn set_aside(files: &Files) -> Result<PathBuf, OpenError> {
    let time = now().map_err(|error| OpenError::sqlite(&files.db, error))?;
    let mut name = files.db.clone().into_os_string();
    name.push(format!(".lost-{time}"));
    let aside = Files { db: name.into() };
    for (from, to) in
        [(&files.db, &aside.db), (&files.wal(), &aside.wal()), (&files.commits(), &aside.commits())]
    {
        copy(from, to)?;
    }
    files.sync_folder().map_err(|error| OpenError::io(&aside.db, error))?;
    Ok(aside.db)
}

/// Removes an empty database, or the log of a missing one.
pub(super) fn remove(files: &Files) -> Result<(), OpenError> {
    for file in [files.wal(), files.index(), files.db.clone()] {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(OpenError::io(&file, error)),
            _ => {}
        }
    }
    Ok(())
}

/// Copies a file if it exists. Overwrites nothing.
fn copy(from: &Path, to: &Path) -> Result<(), OpenError> {
    let of = |error: io::Error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            OpenError::new(to, OpenErrorReason::Exists)
        } else {
            OpenError::io(to, error)
        }
    };
    let mut source = match File::open(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(|error| OpenError::io(from, error))?,
    };
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(of)?;
    io::copy(&mut source, &mut target).and_then(|_| target.sync_all()).map_err(of)
}

/// The current time, in a form that can be part of a file name.
fn now() -> rusqlite::Result<String> {
    let clock = Connection::open_in_memory()?;
    clock.query_row("SELECT strftime('%Y%m%dT%H%M%fZ', 'now')", [], |row| row.get(0))
}

/// The files of SQLite that did not exist when this value was made.
pub(super) struct SideFilesBefore(Vec<PathBuf>);

impl SideFilesBefore {
    pub(super) fn of(files: &Files) -> Self {
        Self([files.wal(), files.index()].into_iter().filter(|file| !file.exists()).collect())
    }

    /// Removes these files, unless something was written to the log. The caller must have the journal's lock.
    pub(super) fn undo(&self, files: &Files) {
        if fs::metadata(files.wal()).is_ok_and(|log| log.len() > 0) && self.0.contains(&files.wal()) {
            return;
        }
        for file in &self.0 {
            // A file that remains does no harm.
            let _ = fs::remove_file(file);
        }
    }

    /// Like [`undo`](Self::undo), for a caller without the lock. Does nothing if a gateway has opened the journal
    /// meanwhile.
    pub(super) fn undo_if_free(&self, files: &Files) {
        if self.0.iter().any(|file| file.exists())
            && let Ok(lock) = Lock::take_quietly(files)
        {
            self.undo(files);
            lock.undo(files);
        }
    }
}
