//! Copies the readable parts of a damaged database into a new database, which replaces the damaged one. The damaged
//! database was copied aside before.

use std::fs;

use rusqlite::{Connection, OpenFlags, ToSql, params_from_iter, types::Value};
use switchboard_core::ids::{ChatId, Principal};

use super::{
    connect::connect_reader,
    error::{OpenError, is_unusable},
    files::{Files, RecordedCommits},
    meta,
    partial::Partial,
    scan, schema,
};

/// How much of a damaged database could be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Salvaged {
    /// The number of chats that were read.
    pub chats: u64,
    /// The number of events that were read, of all chats.
    pub events: u64,
    /// How many times reading failed, at a row or a range of rows. How many rows were lost is unknown.
    pub unread: u64,
}

/// Makes a new database of the readable parts, and replaces the damaged database with it.
pub(super) fn salvage(files: &Files, side: &RecordedCommits) -> Result<Salvaged, OpenError> {
    let partial = Partial::beside(&files.db)?;
    let of_new = |error| OpenError::sqlite(&partial.path, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut new = Connection::open_with_flags(&partial.path, flags).map_err(of_new)?;
    // Syncing is off while copying: the new database is synced once, at the end.
    new.pragma_update(None, "synchronous", "off").map_err(of_new)?;
    new.pragma_update(None, "foreign_keys", false).map_err(of_new)?;
    let mut unread = 0;
    let old = connect_reader(files).and_then(|old| {
        let version = schema::version(&old)?;
        Ok((old, version))
    });
    match old {
        Ok((old, version)) if (1..=schema::newest()).contains(&version) => {
            schema::migrate_to(&mut new, 0, version).map_err(of_new)?;
            let (gaps, named) = copy(&old, &mut new).map_err(|error| OpenError::sqlite(&files.db, error))?;
            unread += gaps;
            schema::migrate(&mut new, version).map_err(of_new)?;
            add_named(&new, &named).map_err(of_new)?;
        }
        // Nothing can be read.
        Ok(_) | Err(_) => {
            unread += 1;
            schema::migrate(&mut new, 0).map_err(of_new)?;
        }
    }
    repair(&mut new, side).map_err(of_new)?;
    let count = |sql: &str| new.query_row(sql, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs);
    let salvaged = Salvaged {
        chats: count("SELECT count(*) FROM chats WHERE principal <> ''").map_err(of_new)?,
        events: count("SELECT count(*) FROM events").map_err(of_new)?,
        unread,
    };
    new.close().map_err(|(_, error)| of_new(error))?;
    // SQLite must not apply the old log to the new database. Copies of both were made before.
    for file in [files.wal(), files.index()] {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(OpenError::io(&file, error));
            }
            _ => {}
        }
    }
    partial.replace(&files.db)?;
    Ok(salvaged)
}

/// A table, which both databases have.
struct Table {
    name: String,
    columns: Vec<String>,
    /// The table's primary key, for tables without row ids.
    key: Option<Vec<String>>,
}

/// A chat as the index of chat ids names it.
struct Named {
    id: i64,
    principal: String,
    chat: String,
}

/// Copies every row that can be read and is sound. Returns how many times reading failed, and, if some of the table
/// of chats could not be read, the chats that its index names.
fn copy(old: &Connection, new: &mut Connection) -> rusqlite::Result<(u64, Vec<Named>)> {
    let change = new.transaction()?;
    let (mut unread, mut named) = (0, Vec::new());
    for table in tables(&change)? {
        let Table { name, columns, key } = &table;
        let quoted: Vec<String> = columns.iter().map(|column| format!("\"{column}\"")).collect();
        let (list, marks) = (quoted.join(", "), vec!["?"; columns.len()].join(", "));
        let mut add =
            change.prepare(&format!("INSERT OR IGNORE INTO \"{name}\" ({list}) VALUES ({marks})"))?;
        let at = |wanted: &str| columns.iter().position(|column| column == wanted);
        let sums = if name == "events" { at("sum").zip(at("frame")) } else { None };
        let mut unsound = 0;
        let mut put = |values: Vec<Value>| {
            let is_sound = sums.is_none_or(|(sum, frame)| is_sound(&values[sum], &values[frame]));
            let added = if is_sound {
                add.execute(params_from_iter(values.iter().map(|v| v as &dyn ToSql)))
            } else {
                Ok(0)
            };
            match added {
                Ok(_) if is_sound => Ok(()),
                Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) => Err(error),
                // The row breaks the constraints of the table, so it is damaged.
                Ok(_) | Err(_) => {
                    unsound += 1;
                    Ok(())
                }
            }
        };
        let values = |row: &rusqlite::Row<'_>, first: usize| -> rusqlite::Result<Vec<Value>> {
            (first..first + columns.len()).map(|column| row.get(column)).collect()
        };
        let gaps = match key {
            None => scan::rows(old, name, &list, |row| put(values(row, 1)?)),
            Some(key) => scan::both_ways(old, name, &list, key, |row| put(values(row, 0)?)).map(u64::from),
        };
        let gaps = match gaps {
            Err(error) if is_unusable(&error) => 1,
            // The table does not exist, as far as can be read.
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::Unknown) => 1,
            gaps => gaps?,
        };
        unread += unsound + gaps;
        if name == "chats" && unsound + gaps > 0 {
            named = indexed(old)
                .or_else(|error| if is_unusable(&error) { Ok(Vec::new()) } else { Err(error) })?;
        }
    }
    change.commit()?;
    Ok((unread, named))
}

/// Reads chats from the index of their ids. With exactly these columns in this order, SQLite reads the index only.
fn indexed(old: &Connection) -> rusqlite::Result<Vec<Named>> {
    let mut named = Vec::new();
    let key = ["principal".to_owned(), "chat_id".to_owned()];
    scan::both_ways(old, "chats", "id, principal, chat_id", &key, |row| {
        let one = Named { id: row.get(0)?, principal: row.get(1)?, chat: row.get(2)? };
        // Other rows belong to deleted chats, or are damaged.
        if Principal::parse(&one.principal).is_ok() && ChatId::parse(&one.chat).is_ok() {
            named.push(one);
        }
        Ok(())
    })?;
    Ok(named)
}

/// Adds the chats whose rows are lost, with what their events and turns say about them. The numbers of events stand
/// in for the last numbers of commands and requests, which were never higher, so that no number is used twice.
fn add_named(new: &Connection, named: &[Named]) -> rusqlite::Result<()> {
    let mut add = new.prepare(
        "INSERT OR IGNORE INTO chats (id, principal, chat_id, epoch_no, head_seq, era, last_command, last_request, \
         created_at, updated_at) \
         SELECT ?1, ?2, ?3, max(e.no, 1), coalesce((SELECT max(seq) FROM events WHERE chat = ?1 AND epoch_no = e.no), 0), 0, \
         e.count, e.count, t.first, t.last FROM \
         (SELECT coalesce(max(no), 0) AS no, coalesce(sum(last), 0) AS count FROM \
         (SELECT epoch_no AS no, max(seq) AS last FROM events WHERE chat = ?1 GROUP BY epoch_no)) e, \
         (SELECT coalesce(min(accepted_at), 0) AS first, coalesce(max(accepted_at), 0) AS last FROM turns WHERE chat = ?1) t",
    )?;
    for Named { id, principal, chat } in named {
        add.execute((id, principal, chat))?;
    }
    Ok(())
}

fn is_sound(sum: &Value, frame: &Value) -> bool {
    let (Value::Integer(sum), Value::Text(frame)) = (sum, frame) else { return false };
    u32::try_from(*sum).is_ok_and(|sum| sum == crc32fast::hash(frame.as_bytes()))
}

fn tables(db: &Connection) -> rusqlite::Result<Vec<Table>> {
    let mut find = db.prepare("SELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite%'")?;
    let found = find.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    found
        .collect::<rusqlite::Result<Vec<(String, bool)>>>()?
        .into_iter()
        .map(|(name, without_numbers)| {
            let mut find = db.prepare("SELECT name, pk FROM pragma_table_info(?1) ORDER BY cid")?;
            let found = find.query_map([&name], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let columns: Vec<(String, i64)> = found.collect::<rusqlite::Result<_>>()?;
            let mut key: Vec<_> = columns.iter().filter(|(_, rank)| *rank > 0).cloned().collect();
            key.sort_by_key(|(_, rank)| *rank);
            let key = without_numbers.then(|| key.into_iter().map(|(name, _)| name).collect());
            Ok(Table { columns: columns.into_iter().map(|(name, _)| name).collect(), name, key })
        })
        .collect()
}

/// Repairs references to lost rows, and adds the journal's id if it was lost.
fn repair(new: &mut Connection, side: &RecordedCommits) -> rusqlite::Result<()> {
    let change = new.transaction()?;
    for table in ["events", "turns", "epochs", "requests", "commands", "checkpoints"] {
        change.execute(&format!("DELETE FROM {table} WHERE chat NOT IN (SELECT id FROM chats)"), [])?;
    }
    // Epochs whose names are lost get new names.
    change.execute(
        "INSERT INTO epochs (chat, no, epoch, began_at) \
         SELECT chat, no, lower(hex(randomblob(6))), 0 FROM (SELECT id AS chat, epoch_no AS no FROM chats \
         UNION SELECT chat, epoch_no FROM events UNION SELECT chat, epoch_no FROM turns) \
         WHERE (chat, no) NOT IN (SELECT chat, no FROM epochs)",
        [],
    )?;
    // Points each chat to its newest epoch, so that the next epoch comes after all of them.
    change.execute(
        "UPDATE chats SET epoch_no = (SELECT max(no) FROM epochs WHERE chat = chats.id) \
         WHERE epoch_no < (SELECT max(no) FROM epochs WHERE chat = chats.id)",
        [],
    )?;
    // A turn whose message is lost cannot be resumed.
    change.execute(
        "UPDATE turns SET outcome = 'interrupted', ended_at = accepted_at, text = NULL, prompt = NULL, \
         cancel_reason = NULL WHERE outcome IS NULL AND NOT EXISTS (SELECT 1 FROM events e \
         WHERE e.chat = turns.chat AND e.epoch_no = turns.epoch_no AND e.seq = turns.seq)",
        [],
    )?;
    let known = match side {
        RecordedCommits::Commits { journal_id, .. } => journal_id.clone(),
        RecordedCommits::Nothing | RecordedCommits::Restored | RecordedCommits::Garbage => {
            change.query_row("SELECT lower(hex(randomblob(8)))", [], |row| row.get(0))?
        }
    };
    change.execute(
        "INSERT OR IGNORE INTO meta (id, journal_id, created_at, commits, era, boot_id, clean) \
         VALUES (1, ?1, ?2, 0, 0, '', 0)",
        (&known, meta::unix_ms()),
    )?;
    // Marks the journal as not closed. No chat may have a later generation than the journal.
    change.execute(
        "UPDATE meta SET clean = 0, era = max(era, (SELECT coalesce(max(era), 0) FROM chats))",
        [],
    )?;
    change.commit()
}

#[cfg(test)]
mod tests {
    use super::{
        super::schema::tests::{ROWS, rows, tables},
        *,
    };

    #[test]
    fn a_database_of_every_version_is_read_and_brought_up_to_date() {
        for version in 1..=schema::newest() {
            let folder = tempfile::tempdir().expect("a folder");
            let files = Files { db: folder.path().join("journal.db") };
            let mut old = Connection::open(&files.db).expect("a database");
            old.pragma_update(None, "foreign_keys", false).expect("SQL");
            schema::migrate_to(&mut old, 0, version).expect("it migrates");
            old.execute_batch(ROWS).expect("rows");
            // An event whose checksum matches, and an open turn that belongs to this event.
            old.execute_batch("UPDATE events SET frame = '{\"a\":1}', seq = 5, first_seq = 1").expect("rows");
            old.execute("UPDATE events SET sum = ?1", [crc32fast::hash(b"{\"a\":1}")]).expect("rows");
            let before = rows(&old);
            drop(old);
            let salvaged = salvage(&files, &RecordedCommits::Garbage).expect("it is read");
            assert_eq!(salvaged, Salvaged { chats: 1, events: 1, unread: 0 }, "version {version}");
            let new = Connection::open(&files.db).expect("a database");
            assert_eq!(rows(&new), before, "version {version}");
            let mut whole = Connection::open_in_memory().expect("memory");
            schema::migrate(&mut whole, 0).expect("it migrates");
            assert_eq!(tables(&new), tables(&whole));
            let generation: i64 = new.query_row("SELECT era FROM meta", [], |row| row.get(0)).expect("a row");
            assert_eq!(generation, 0);
        }
    }

    #[test]
    fn rows_that_refer_to_missing_rows_are_repaired() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = Files { db: folder.path().join("journal.db") };
        let mut old = Connection::open(&files.db).expect("a database");
        old.pragma_update(None, "foreign_keys", false).expect("SQL");
        schema::migrate(&mut old, 0).expect("it migrates");
        // The event does not match its checksum, the name of its epoch is missing, and a command belongs to a missing
        // chat.
        old.execute_batch(ROWS).expect("rows");
        old.execute_batch("DELETE FROM epochs; INSERT INTO commands VALUES (9, 1, 'cancel', 't', NULL); UPDATE chats SET era = 4")
            .expect("rows");
        drop(old);
        let salvaged = salvage(&files, &RecordedCommits::Nothing).expect("it is read");
        assert_eq!(salvaged, Salvaged { chats: 1, events: 0, unread: 1 });
        let new = Connection::open(&files.db).expect("a database");
        let count = |sql: &str| new.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a number");
        assert_eq!(count("SELECT count(*) FROM commands"), 0, "nobody has them");
        assert_eq!(count("SELECT count(*) FROM turns WHERE outcome IS NULL"), 0, "its message is gone");
        assert_eq!(count("SELECT count(*) FROM epochs WHERE chat = 3 AND length(epoch) = 12"), 1);
        assert_eq!(count("SELECT era FROM meta"), 4);
        drop(new);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing is left beside it");
    }
}
