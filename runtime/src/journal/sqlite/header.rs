//! Checks the header of a database file before SQLite opens the file, because SQLite could change another program's
//! database. Source: <https://www.sqlite.org/fileformat2.html#the_database_header>.

use std::{fs::File, io::Read as _};

use super::{
    error::{OpenError, OpenErrorReason},
    files::Files,
    schema,
};

const HEADER_BYTES: usize = 100;
/// The first bytes of every SQLite database, and its bytes from offset 21 on: the payload fractions.
const MAGIC: &[u8] = b"SQLite format 3\0";
const FRACTIONS: &[u8] = &[64, 32, 32];

/// Fails if an existing file is not a journal, as far as its header shows.
pub(super) fn check_file(files: &Files) -> Result<(), OpenError> {
    match check_header(files)? {
        0 => Err(OpenError::new(&files.db, OpenErrorReason::NotAJournal)),
        _ => Ok(()),
    }
}

/// Fails if the file cannot be a journal or is incomplete. Returns its size in bytes.
pub(super) fn check_header(files: &Files) -> Result<u64, OpenError> {
    let mut header = Vec::new();
    let file = File::open(&files.db).map_err(|error| OpenError::io(&files.db, error))?;
    (&file)
        .take(HEADER_BYTES as u64)
        .read_to_end(&mut header)
        .map_err(|error| OpenError::io(&files.db, error))?;
    if header.is_empty() {
        return Ok(0);
    }
    if !header.starts_with(&MAGIC[..header.len().min(MAGIC.len())]) {
        return Err(OpenError::new(&files.db, OpenErrorReason::NotAJournal));
    }
    if header.len() < HEADER_BYTES {
        return Err(OpenError::damaged(&files.db, "it ends within its header"));
    }
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let application = number(68).cast_signed();
    if application != 0 && application != schema::APPLICATION_ID {
        return Err(OpenError::new(&files.db, OpenErrorReason::NotAJournal));
    }
    let page = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        bytes => u64::from(bytes),
    };
    // The log is measured first, because a checkpoint of a running gateway moves pages from the log to the database.
    let logged = files.logged().map_err(|error| OpenError::io(&files.wal(), error))?;
    let size = file.metadata().map_err(|error| OpenError::io(&files.db, error))?.len();
    let needed = page * u64::from(number(28));
    // Pages that the database lacks may be in the write-ahead log.
    if size + logged < needed {
        let detail = format!("{} of {needed} bytes are there", size + logged);
        return Err(OpenError::damaged(&files.db, detail));
    }
    Ok(size)
}

/// Whether a file begins as an SQLite database.
pub(super) fn begins_as_sqlite(files: &Files) -> bool {
    let mut header = [0; 24];
    let read = File::open(&files.db).and_then(|mut file| file.read_exact(&mut header));
    read.is_ok() && header.starts_with(MAGIC) && header.ends_with(FRACTIONS)
}
