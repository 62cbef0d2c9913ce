//! Deletes chats. A deleted chat is hidden at once; then its rows are removed in steps, each a transaction of its own
//! whose pages in the log are used again. So the time of a step and the disk space of a deletion are bounded. An
//! unfinished deletion continues at the next start.

use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension as _};

use super::{error::is_unusable, mutex::locked, shared::Shared, sql::erase};

/// The most rows of one step.
const ROWS: u32 = 256;
/// The bytes of frames after which a step takes no further row.
const BYTES: i64 = 1024 * 1024;
/// How many pages the log may have, 4 MiB, before they must be moved into the database.
const LOG_PAGES: u32 = 1024;
/// The first wait for that; each further wait is twice as long.
const MOVED: Duration = Duration::from_millis(20);
/// The longest wait, also if the disk is full.
const PATIENCE: Duration = Duration::from_secs(1);

/// The removal of deleted chats.
#[derive(Debug)]
pub(super) struct Erasure {
    /// When the next step is due; `None`: nothing to erase.
    due: Option<Instant>,
    wait: Duration,
}

impl Erasure {
    /// The first step is due at once: the last start may have left an unfinished deletion.
    pub(super) fn new() -> Self {
        Self { due: Some(Instant::now()), wait: MOVED }
    }

    /// Makes a step due, after a chat was deleted.
    pub(super) fn wake(&mut self) {
        self.due = Some(Instant::now());
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Does one step, if one is due.
    ///
    /// # Errors
    /// If the database failed, so that its state is uncertain.
    pub(super) fn step(&mut self, shared: &Shared, db: &Connection) -> rusqlite::Result<()> {
        let now = Instant::now();
        if self.due.is_none_or(|due| due > now) {
            return Ok(());
        }
        let writing = locked(&shared.writing);
        let erased = some_of_any(db);
        drop(writing);
        match erased {
            Ok(Step::None) => self.due = None,
            Ok(Step::Last) => {
                // The log still contains the chat.
                shared.log.purge();
                self.due = Some(now);
            }
            Ok(Step::More) if shared.log.length() > LOG_PAGES => {
                shared.log.move_pages();
                self.later(now);
            }
            Ok(Step::More) => (self.due, self.wait) = (Some(now), MOVED),
            Err(error) if is_unusable(&error) => {
                tracing::error!(%error, "a deleted chat cannot be erased: a part of the journal is damaged");
                self.due = None;
            }
            Err(error) => {
                self.wait = PATIENCE;
                self.later(now);
                return Err(error);
            }
        }
        Ok(())
    }

    fn later(&mut self, now: Instant) {
        self.due = Some(now + self.wait);
        self.wait = (self.wait * 2).min(PATIENCE);
    }
}

enum Step {
    /// No chat is to be erased.
    None,
    /// Rows of the chat are left.
    More,
    /// All rows of a chat are removed.
    Last,
}

fn some_of_any(db: &Connection) -> rusqlite::Result<Step> {
    let chat: Option<i64> = db.prepare_cached(erase::NEXT)?.query_row([], |row| row.get(0)).optional()?;
    let Some(chat) = chat else { return Ok(Step::None) };
    let change = db.unchecked_transaction()?;
    let done = some(&change, chat)?;
    change.commit()?;
    Ok(if done { Step::Last } else { Step::More })
}

/// Removes a chat's owner and id, so that no query finds it.
pub(super) fn hide(db: &Connection, chat: i64) -> rusqlite::Result<()> {
    for statement in erase::HIDE {
        db.prepare_cached(statement)?.execute([chat])?;
    }
    Ok(())
}

/// Removes as many rows of a chat as one step may. Their contents are overwritten with zeros (`secure_delete`).
/// Returns whether no row is left.
pub(super) fn some(db: &Connection, chat: i64) -> rusqlite::Result<bool> {
    if let Some(LastErased { epoch_no, seq, is_last }) = last_erased(db, chat)? {
        db.prepare_cached(erase::EVENTS)?.execute((chat, epoch_no, seq))?;
        if !is_last {
            return Ok(false);
        }
    }
    if db.prepare_cached(erase::TURNS)?.execute((chat, ROWS))? == ROWS as usize {
        return Ok(false);
    }
    for statement in erase::REST {
        db.prepare_cached(statement)?.execute([chat])?;
    }
    Ok(true)
}

/// The last event that one step removes.
struct LastErased {
    epoch_no: i64,
    seq: i64,
    /// Whether it is the chat's last event.
    is_last: bool,
}

/// Finds the last event that one step removes; `None`: the chat has no events.
fn last_erased(db: &Connection, chat: i64) -> rusqlite::Result<Option<LastErased>> {
    let mut find = db.prepare_cached(erase::POSITIONS)?;
    let mut rows = find.query((chat, ROWS))?;
    let (mut last, mut count, mut bytes) = (None, 0, 0);
    while let Some(row) = rows.next()? {
        (count, bytes) = (count + 1, bytes + row.get::<_, i64>(2)?);
        last = Some(LastErased { epoch_no: row.get(0)?, seq: row.get(1)?, is_last: false });
        if bytes >= BYTES {
            break;
        }
    }
    // The query ends after `ROWS` rows, whether or not the chat has more.
    let is_last = count < ROWS && rows.next()?.is_none();
    Ok(last.map(|last| LastErased { is_last, ..last }))
}

/// Removes all rows of deleted chats from a copy that no other connection uses.
pub(super) fn all(db: &Connection) -> rusqlite::Result<()> {
    db.pragma_update(None, "secure_delete", true)?;
    while !matches!(some_of_any(db)?, Step::None) {}
    Ok(())
}
