//! Connections to the database.

use std::time::Duration;

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::files::Files;

/// How long a statement waits for a lock of another program, such as an administrator's `sqlite3`.
const BUSY_MS: u64 = 5_000;
/// How many prepared statements each connection caches.
const STATEMENTS: usize = 64;

/// Opens a connection that can write. Opening it changes no file.
pub(super) fn connect(files: &Files) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(&files.db, flags)?;
    db.busy_timeout(Duration::from_millis(BUSY_MS))?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    // Checkpoints have a thread of their own, and the log must not be reset while a sync of it is under way.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    db.pragma_update(None, "trusted_schema", false)?;
    Ok(db)
}

/// Sets up a connection made by [`connect`] for writing.
pub(super) fn prepare(db: &Connection) -> rusqlite::Result<()> {
    let mode: String = db.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode != "wal" {
        let refused = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_PROTOCOL);
        let detail = format!("the journal mode is {mode} in place of wal");
        return Err(rusqlite::Error::SqliteFailure(refused, Some(detail)));
    }
    db.pragma_update(None, "synchronous", "normal")?;
    db.pragma_update(None, "wal_autocheckpoint", 0)?;
    // The code adds rows only for chats that it has just looked up, and deletes each table's rows itself.
    db.pragma_update(None, "foreign_keys", false)?;
    // Deleted text must not remain in the file.
    db.pragma_update(None, "secure_delete", true)?;
    db.pragma_update(None, "cache_size", -8192)?;
    db.pragma_update(None, "temp_store", "memory")
}

/// Opens a connection that only reads.
pub(super) fn connect_reader(files: &Files) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(&files.db, flags)?;
    db.busy_timeout(Duration::from_millis(BUSY_MS))?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    db.pragma_update(None, "trusted_schema", false)?;
    db.pragma_update(None, "cache_size", -2048)?;
    Ok(db)
}
