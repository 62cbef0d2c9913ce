//! Backups of a journal: making one while the journal is in use, and restoring one.

use std::{fs, io, path::Path};

use rusqlite::{Connection, OpenFlags};

use super::{
    Sqlite, erase,
    error::{OpenError, OpenErrorReason, is_damage},
    files::{Files, Lock, SideFile},
    header::check_file,
    partial::{Partial, remove_partials},
    schema,
};

/// What a backup contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupReport {
    /// The number of chats.
    pub chats: u64,
    /// The size of the file, in bytes.
    pub bytes: u64,
}

impl Sqlite {
    /// Copies the journal to another file, as it is at this moment. A gateway may have the journal open, and is not
    /// disturbed. The copy has mode 0600, is synced to the disk when this function returns, and never overwrites a
    /// file: an unfinished copy has another name, which ends in `.partial`.
    ///
    /// # Errors
    /// If the journal does not exist, if the copy exists already, or if either file cannot be read or written.
    pub fn backup(journal: &Path, copy: &Path) -> Result<BackupReport, OpenError> {
        if !journal.exists() {
            return Err(OpenError::new(journal, OpenErrorReason::Missing));
        }
        check_file(&Files { db: journal.to_owned() })?;
        let partial = Partial::make(copy)?;
        let of_journal = |error| OpenError::sqlite(journal, error);
        let db =
            Connection::open_with_flags(journal, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(of_journal)?;
        let target = partial
            .path
            .to_str()
            .ok_or_else(|| OpenError::io(&partial.path, io::Error::other("its name is not UTF-8")))?;
        db.execute("VACUUM INTO ?1", [target])
            .map_err(|error| OpenError::sqlite(if is_damage(&error) { journal } else { copy }, error))?;
        drop(db);
        // The copy must not contain deleted text that is about to be erased.
        Connection::open(&partial.path)
            .and_then(|copy| erase::all(&copy))
            .map_err(|error| OpenError::sqlite(copy, error))?;
        let report = check_copy(&partial.path)?;
        partial.finish(copy)?;
        Ok(report)
    }

    /// Restores a copy made by [`backup`](Self::backup) where no journal exists. Every chat gets a new epoch when it
    /// is next opened, so that no client takes old events for new ones.
    ///
    /// # Errors
    /// If a journal exists already or is in use, or if the copy is not a journal, is damaged, or has a newer version.
    /// On an error no new file remains.
    pub fn restore(copy: &Path, journal: &Path) -> Result<BackupReport, OpenError> {
        if !copy.exists() {
            return Err(OpenError::new(copy, OpenErrorReason::Missing));
        }
        check_file(&Files { db: copy.to_owned() })?;
        let files = Files { db: journal.to_owned() };
        let lock = Lock::take(&files)?;
        remove_partials(&files);
        let restored = restore(copy, &files);
        if restored.is_err() {
            lock.undo(&files);
        }
        restored
    }
}

fn restore(copy: &Path, files: &Files) -> Result<BackupReport, OpenError> {
    for file in [files.db.clone(), files.wal(), files.commits()] {
        if file.exists() {
            return Err(OpenError::new(&file, OpenErrorReason::Exists));
        }
    }
    let partial = Partial::make(&files.db)?;
    fs::copy(copy, &partial.path).map_err(|error| OpenError::io(&partial.path, error))?;
    let report = check_copy(&partial.path)?;
    partial.finish(&files.db)?;
    let noted = SideFile::note_restored(files).and_then(|()| files.sync_folder());
    if let Err(error) = noted {
        // Remove the new files again.
        let _ = fs::remove_file(&files.db);
        let _ = fs::remove_file(files.commits());
        return Err(OpenError::io(&files.commits(), error));
    }
    Ok(report)
}

/// Fails if a copy is incomplete, or of a version that this program does not support.
fn check_copy(copy: &Path) -> Result<BackupReport, OpenError> {
    let of_copy = |error: rusqlite::Error| {
        if is_damage(&error) {
            let detail = error.to_string();
            return OpenError::new(copy, OpenErrorReason::DamagedCopy { detail });
        }
        OpenError::sqlite(copy, error)
    };
    let db = Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(of_copy)?;
    if schema::application_id(&db).map_err(of_copy)? != schema::APPLICATION_ID {
        return Err(OpenError::new(copy, OpenErrorReason::NotAJournal));
    }
    let (found, known) = (schema::version(&db).map_err(of_copy)?, schema::newest());
    if found > known {
        return Err(OpenError::new(copy, OpenErrorReason::Newer { found, known }));
    }
    let result: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(of_copy)?;
    if result != "ok" {
        let detail = result.replace('\n', "; ");
        return Err(OpenError::new(copy, OpenErrorReason::DamagedCopy { detail }));
    }
    let chats: i64 = db
        .query_row("SELECT count(*) FROM chats WHERE principal <> ''", [], |row| row.get(0))
        .map_err(of_copy)?;
    let bytes = fs::metadata(copy).map_err(|error| OpenError::io(copy, error))?.len();
    Ok(BackupReport { chats: chats.unsigned_abs(), bytes })
}
