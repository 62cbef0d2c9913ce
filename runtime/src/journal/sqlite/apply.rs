//! Applies one append within a transaction.

use rusqlite::{Connection, OptionalExtension as _};
use rustc_hash::FxHashMap;
use switchboard_core::{
    ids::{ChatKey, Epoch},
    journal::{Append, Change, Conflict, LogEvent, Version},
};

use super::{
    change::{change, command_of},
    column::int,
    erase,
    error::is_damage,
    meta::JournalState,
    sql::write,
};

/// How many chats' rows the writer caches.
const CACHED_ROWS: usize = 8192;

/// Why an append is not applied.
#[derive(Debug)]
pub(super) enum NotApplied {
    /// The append contradicts the contents of the journal.
    Conflict(Conflict),
    /// The chat needs a new epoch first.
    Stale,
    /// SQLite failed.
    Sql(rusqlite::Error),
}

impl From<Conflict> for NotApplied {
    fn from(conflict: Conflict) -> Self {
        Self::Conflict(conflict)
    }
}

impl From<rusqlite::Error> for NotApplied {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

/// The row of a chat, as far as appends need it.
#[derive(Debug, Clone, Copy)]
struct ChatRow {
    id: i64,
    epoch_no: i64,
    head: i64,
    /// The number of appends that were committed.
    version: i64,
    generation: i64,
    /// The time of the last activity, in milliseconds since 1970.
    updated_at: i64,
}

/// The rows of chats, cached between transactions, so that not every append has to look them up.
#[derive(Debug, Default)]
pub(super) struct ChatRows(FxHashMap<ChatKey, ChatRow>);

impl ChatRows {
    /// Clears the cache, after a transaction was rolled back.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    fn forget_chat(&mut self, chat: &ChatKey) {
        self.0.remove(chat);
    }

    fn row(&mut self, db: &Connection, chat: &ChatKey) -> rusqlite::Result<Option<ChatRow>> {
        if let Some(known) = self.0.get(chat) {
            return Ok(Some(*known));
        }
        db.prepare_cached(write::FIND_CHAT)?
            .query_row((chat.principal.as_str(), chat.chat.as_str()), |row| {
                Ok(ChatRow {
                    id: row.get(0)?,
                    epoch_no: row.get(1)?,
                    head: row.get(2)?,
                    version: row.get(3)?,
                    generation: row.get(4)?,
                    updated_at: row.get(5)?,
                })
            })
            .optional()
    }

    fn store(&mut self, chat: &ChatKey, chat_row: ChatRow) {
        if let Some(known) = self.0.get_mut(chat) {
            *known = chat_row;
            return;
        }
        if self.0.len() >= CACHED_ROWS {
            self.0.clear();
        }
        self.0.insert(chat.clone(), chat_row);
    }
}

/// Applies one append, and returns the chat's row id. After an error of SQLite the transaction must be rolled back;
/// all other errors are found before anything is written. Each event increases the commit count by one, and the new
/// count is the event's id, so the newest event's id is the journal's commit count.
pub(super) fn append(
    db: &Connection,
    chat_rows: &mut ChatRows,
    state: &mut JournalState,
    append: &Append,
) -> Result<i64, NotApplied> {
    append.check_term(state.term)?;
    let found = chat_rows.row(db, &append.chat)?;
    if found.is_some_and(|chat_row| chat_row.generation < state.generation) {
        return Err(NotApplied::Stale);
    }
    check(db, found.as_ref(), append)?;
    let mut chat_row = match (found, &append.create) {
        (Some(chat_row), Some(epoch)) if append.begins_epoch() => {
            begin_epoch(db, chat_row, state.generation, epoch, int(append.at_ms))?
        }
        (Some(chat_row), _) => chat_row,
        (None, Some(epoch)) => create(db, &append.chat, epoch, state.generation, int(append.at_ms))?,
        (None, None) => return Err(NotApplied::Conflict(Conflict::Version { stored: Version::default() })),
    };
    add_events(db, &mut chat_row, state, &append.events)?;
    move_chat(db, &mut chat_row, append)?;
    for one in &append.changes {
        change(db, chat_row.id, chat_row.epoch_no, append, one)?;
    }
    if append.changes.contains(&Change::Deleted) {
        delete(db, &append.chat, chat_row.id)?;
        chat_rows.forget_chat(&append.chat);
    } else {
        chat_rows.store(&append.chat, chat_row);
    }
    Ok(chat_row.id)
}

/// Checks that the append follows from what is stored. `found`: the row of the chat, if the chat exists.
fn check(db: &Connection, found: Option<&ChatRow>, append: &Append) -> Result<(), NotApplied> {
    if found.is_none() && is_deleted(db, &append.chat)? {
        return Err(NotApplied::Conflict(Conflict::Deleted));
    }
    let (version, head) = found.map_or((0, 0), |chat_row| (chat_row.version, chat_row.head));
    append.check(Version(version.unsigned_abs()), head.unsigned_abs(), |turn_id| {
        let Some(chat_row) = found else { return Ok(None) };
        let mut find = db.prepare_cached(write::TURN_IS_OPEN)?;
        Ok(find.query_row((chat_row.id, turn_id.as_str()), |row| row.get(0)).optional()?)
    })
}

fn add_events(
    db: &Connection,
    chat_row: &mut ChatRow,
    state: &mut JournalState,
    events: &[LogEvent],
) -> rusqlite::Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let mut add = db.prepare_cached(write::ADD_EVENT)?;
    for event in events {
        state.commits += 1;
        chat_row.head = int(event.seq);
        let (id, first) = (int(state.commits), int(event.first_seq));
        let (sum, frame) = (crc32fast::hash(event.frame.bytes()), event.frame.as_str());
        add.execute((id, chat_row.id, chat_row.epoch_no, chat_row.head, first, sum, frame))?;
    }
    Ok(())
}

/// Writes what every append changes in the row of its chat.
fn move_chat(db: &Connection, chat_row: &mut ChatRow, append: &Append) -> rusqlite::Result<()> {
    chat_row.version += 1;
    let ChatRow { id, head, version, updated_at, .. } = *chat_row;
    db.prepare_cached(write::MOVE_CHAT)?.execute((id, version, head, last_command(append)))?;
    if append.is_activity() && int(append.at_ms) > updated_at {
        chat_row.updated_at = int(append.at_ms);
        db.prepare_cached(write::MOVE_ACTIVITY)?.execute((id, chat_row.updated_at))?;
    }
    Ok(())
}

/// The highest id of a command in the append; 0: it has no command.
fn last_command(append: &Append) -> i64 {
    append.changes.iter().filter_map(command_of).map(|command| int(command.id().0)).max().unwrap_or(0)
}

/// Hides a chat; all rows of a small chat are removed at once.
fn delete(db: &Connection, chat: &ChatKey, id: i64) -> rusqlite::Result<()> {
    erase::hide(db, id)?;
    match erase::some(db, id) {
        // The chat is hidden all the same; rows that cannot be removed stay in the file.
        Err(error) if is_damage(&error) => tracing::error!(%error, "a damaged chat cannot be erased whole"),
        erased => {
            erased?;
        }
    }
    db.prepare_cached(write::ADD_DELETED)?.execute([&chat.hash()[..]])?;
    Ok(())
}

fn is_deleted(db: &Connection, chat: &ChatKey) -> rusqlite::Result<bool> {
    db.prepare_cached(write::IS_DELETED)?.query_row([&chat.hash()[..]], |row| row.get(0))
}

/// Begins a new epoch, if the chat's epoch belongs to an earlier generation. Returns whether it did.
pub(super) fn reset_epoch(
    db: &Connection,
    chat_rows: &mut ChatRows,
    generation: i64,
    chat: &ChatKey,
    epoch: &Epoch,
    at: i64,
) -> rusqlite::Result<bool> {
    let Some(chat_row) = chat_rows.row(db, chat)?.filter(|chat_row| chat_row.generation < generation) else {
        return Ok(false);
    };
    chat_rows.store(chat, begin_epoch(db, chat_row, generation, epoch, at)?);
    Ok(true)
}

fn begin_epoch(
    db: &Connection,
    before: ChatRow,
    generation: i64,
    epoch: &Epoch,
    at: i64,
) -> rusqlite::Result<ChatRow> {
    let chat_row = ChatRow { epoch_no: before.epoch_no + 1, head: 0, generation, ..before };
    db.prepare_cached(write::ADD_EPOCH)?.execute((chat_row.id, chat_row.epoch_no, epoch.as_str(), at))?;
    db.prepare_cached(write::RESET_EPOCH)?.execute((chat_row.id, chat_row.epoch_no, generation))?;
    Ok(chat_row)
}

fn create(
    db: &Connection,
    chat: &ChatKey,
    epoch: &Epoch,
    generation: i64,
    at: i64,
) -> rusqlite::Result<ChatRow> {
    db.prepare_cached(write::ADD_CHAT)?.execute((
        chat.principal.as_str(),
        chat.chat.as_str(),
        generation,
        at,
    ))?;
    let id = db.last_insert_rowid();
    db.prepare_cached(write::ADD_EPOCH)?.execute((id, 1, epoch.as_str(), at))?;
    Ok(ChatRow { id, epoch_no: 1, head: 0, version: 0, generation, updated_at: 0 })
}
