//! Creates a journal. The file gets its final name only when its schema and its id are in it, so an empty
//! `journal.db` means that something was lost.

use rusqlite::{Connection, OpenFlags};

use super::{
    error::OpenError,
    files::Files,
    meta::{self, Meta},
    partial::Partial,
    schema,
};

pub(super) fn create(files: &Files) -> Result<(), OpenError> {
    let partial = Partial::beside(&files.db)?;
    let meta = Meta::new().map_err(|error| OpenError::io(&files.db, error))?;
    fill(&partial, &meta).map_err(|error| OpenError::sqlite(&files.db, error))?;
    partial.replace(&files.db)
}

fn fill(partial: &Partial, meta: &Meta) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(&partial.path, flags)?;
    // Syncing is off while filling the file: the file is synced once, at the end.
    db.pragma_update(None, "synchronous", "off")?;
    schema::migrate(&mut db, 0)?;
    meta::write(&mut db, meta, false)?;
    db.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    db.close().map_err(|(_, error)| error)
}
