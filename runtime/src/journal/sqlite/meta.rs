//! What the database says about the journal as a whole: its id, its commit count, its generation, and whether it was
//! closed.

use std::{io, time::SystemTime};

use rusqlite::{Connection, OptionalExtension as _};
use switchboard_core::{ids::Epoch, journal::Term};

use super::schema;

/// Since this version of the schema, the id of an event is the commit count.
const COUNTED_BY_EVENTS: u32 = 6;

/// The state of the journal as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct JournalState {
    /// The commit count. Grows by one for each event, whose id is the new count, and by one for a commit without
    /// events.
    pub(super) commits: u64,
    pub(super) generation: i64,
    /// The term of this gateway, which is the commit count right after the journal was opened. Each opening is counted as a
    /// commit, so a later gateway has a newer term.
    pub(super) term: Term,
}

/// The metadata of a journal.
#[derive(Debug)]
pub(super) struct Meta {
    pub(super) journal_id: String,
    pub(super) state: JournalState,
    pub(super) boot_id: String,
    /// Whether the journal was closed.
    pub(super) clean: bool,
}

impl Meta {
    /// For a new journal.
    pub(super) fn new() -> io::Result<Self> {
        let state = JournalState { commits: 0, generation: 0, term: Term::default() };
        Ok(Self { journal_id: random_hex(8)?, state, boot_id: String::new(), clean: true })
    }
}

/// Reads the metadata of a database of this version.
pub(super) fn read(db: &Connection, version: u32) -> rusqlite::Result<Option<Meta>> {
    let newest = if version >= COUNTED_BY_EVENTS { newest_event(db)? } else { 0 };
    db.query_row("SELECT journal_id, commits, era, boot_id, clean FROM meta", [], |row| {
        let commits: i64 = row.get(1)?;
        Ok(Meta {
            journal_id: row.get(0)?,
            state: JournalState {
                commits: commits.unsigned_abs().max(newest),
                generation: row.get(2)?,
                term: Term::default(),
            },
            boot_id: row.get(3)?,
            clean: row.get(4)?,
        })
    })
    .optional()
}

/// The id of the newest event. Compaction does not change it: a record has the position and the id of its newest
/// delta.
pub(super) fn newest_event(db: &Connection) -> rusqlite::Result<u64> {
    db.query_row("SELECT coalesce(max(id), 0) FROM events", [], |row| row.get::<_, i64>(0))
        .map(i64::unsigned_abs)
}

/// Writes the metadata, and marks the journal as in use.
pub(super) fn write(db: &mut Connection, meta: &Meta, rebooted: bool) -> rusqlite::Result<()> {
    let change = db.transaction()?;
    change.execute(
        "INSERT INTO meta (id, journal_id, created_at, commits, era, boot_id, clean) \
         VALUES (1, ?1, ?2, ?3, ?4, ?5, 0) ON CONFLICT (id) DO UPDATE SET commits = excluded.commits, \
         era = excluded.era, boot_id = excluded.boot_id, clean = 0",
        (&meta.journal_id, unix_ms(), meta.state.commits.cast_signed(), meta.state.generation, &meta.boot_id),
    )?;
    if rebooted {
        change.execute(
            "UPDATE chats SET era = -1 WHERE id IN \
             (SELECT chat FROM turns INDEXED BY open_turns WHERE outcome IS NULL)",
            [],
        )?;
    }
    change.commit()
}

/// Starts a new generation in a journal that is in use, if commits are missing from it.
pub(super) fn reconcile_again(
    db: &mut Connection,
    known: JournalState,
) -> rusqlite::Result<(JournalState, bool)> {
    let found = read(db, schema::newest())?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    if found.state.commits >= known.commits {
        return Ok((JournalState { term: known.term, ..found.state }, false));
    }
    let (commits, generation) = (known.commits + 1, found.state.generation + 1);
    let state = JournalState { commits, generation, term: known.term };
    write(db, &Meta { state, ..found }, false)?;
    Ok((state, true))
}

/// A random name for an epoch, which no other epoch has.
pub(super) fn new_epoch() -> io::Result<Epoch> {
    let name = random_hex(6)?;
    Epoch::parse(&name).map_err(|error| io::Error::other(error.to_string()))
}

fn random_hex(bytes: usize) -> io::Result<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(io::Error::from)?;
    Ok(random.iter().take(bytes).map(|byte| format!("{byte:02x}")).collect())
}

/// The time, in milliseconds since 1970.
pub(super) fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
