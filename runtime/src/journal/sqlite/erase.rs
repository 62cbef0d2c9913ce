//! Deleting a chat: at once it is nobody's and found by nobody, then its rows go in steps, each a transaction of its own
//! whose room in the log is used again. What a step costs is bounded, and so is the disk that a deletion needs. A chat that
//! was not erased whole is erased by the next start.

use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension as _};

use super::{Shared, error::is_unusable, locked, sql::erase};

/// Rows of one step.
const ROWS: u32 = 256;
/// Bytes of frames of one step, beyond which it takes no further row.
const BYTES: i64 = 1024 * 1024;
/// Once the log has so many pages, 4 MiB, they are moved into the database before a step adds more.
const LOG_PAGES: u32 = 1024;
/// That is waited for this long at first, and twice as long each time that it has not helped.
const MOVED: Duration = Duration::from_millis(20);
/// The longest wait, also where the disk has no room.
const PATIENCE: Duration = Duration::from_secs(1);

/// Chats that are to be erased.
#[derive(Debug)]
pub(super) struct Erasure {
    /// When the next step is due; nothing: there is none.
    due: Option<Instant>,
    wait: Duration,
}

impl Erasure {
    /// An earlier life of the journal may have left something.
    pub(super) fn new() -> Self {
        Self { due: Some(Instant::now()), wait: MOVED }
    }

    /// A chat was deleted.
    pub(super) fn wake(&mut self) {
        self.due = Some(Instant::now());
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Does one step, if one is due.
    ///
    /// # Errors
    /// If the database could not do it, and what is in it is not certain any more.
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
                // The log still holds it.
                shared.log.purge();
                self.due = Some(now);
            }
            Ok(Step::More) if shared.log.is_longer_than(LOG_PAGES) => {
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
    /// There was nothing to do.
    None,
    /// Of a chat more is left.
    More,
    /// A chat is gone.
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

/// Makes a chat nobody's, so that no one finds it.
pub(super) fn hide(db: &Connection, chat: i64) -> rusqlite::Result<()> {
    for statement in erase::HIDE {
        db.prepare_cached(statement)?.execute([chat])?;
    }
    Ok(())
}

/// Removes as many rows of a chat as one step takes. What they held is overwritten with zeros (`secure_delete`). Gives
/// whether nothing is left.
pub(super) fn some(db: &Connection, chat: i64) -> rusqlite::Result<bool> {
    if let Some((epoch_no, seq, whole)) = events(db, chat)? {
        db.prepare_cached(erase::EVENTS)?.execute((chat, epoch_no, seq))?;
        if !whole {
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

/// The place of the last event that one step removes, and whether that is the chat's last one.
fn events(db: &Connection, chat: i64) -> rusqlite::Result<Option<(i64, i64, bool)>> {
    let mut find = db.prepare_cached(erase::PLACES)?;
    let mut rows = find.query((chat, ROWS))?;
    let (mut last, mut count, mut bytes) = (None, 0, 0);
    while let Some(row) = rows.next()? {
        last = Some((row.get(0)?, row.get(1)?));
        (count, bytes) = (count + 1, bytes + row.get::<_, i64>(2)?);
        if bytes >= BYTES {
            let more = rows.next()?.is_some() || count == ROWS;
            return Ok(last.map(|(epoch_no, seq)| (epoch_no, seq, !more)));
        }
    }
    Ok(last.map(|(epoch_no, seq)| (epoch_no, seq, count < ROWS)))
}

/// Removes what is left of deleted chats from a copy that nobody uses.
pub(super) fn all(db: &Connection) -> rusqlite::Result<()> {
    db.pragma_update(None, "secure_delete", true)?;
    while !matches!(some_of_any(db)?, Step::None) {}
    Ok(())
}
