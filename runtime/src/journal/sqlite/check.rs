//! Checks a whole journal: its structure as SQLite sees it, and each chat as a gateway needs it.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _};
use switchboard_core::{
    ids::{ChatId, ChatKey, Principal},
    journal::{Found, Query},
};

use super::{
    Sqlite,
    column::{event_frame, lengths_of},
    connect::connect_reader,
    error::{OpenError, OpenErrorReason, is_unusable},
    files::{Files, boot_id},
    loss::SideFilesBefore,
    open::inspect,
    query::{self, Read},
    scan, schema,
};

/// The number of findings about the structure that are reported; more would not help.
const STRUCTURE: u32 = 10;

/// The result of [`Sqlite::check`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckReport {
    /// How many chats were checked.
    pub chats: u64,
    /// Chats with damaged data, or with events missing from their present epoch.
    pub damaged: Vec<DamagedChat>,
    /// Chats from whose earlier epochs events are missing. Clients learnt of the loss when the epoch ended, and
    /// nothing remains to be done.
    pub incomplete: Vec<DamagedChat>,
    /// What SQLite finds wrong with the structure of the database, in SQLite's words; at most 10 findings.
    pub structure: Vec<String>,
    /// Whether the journal has an older version: its chats were not checked, and the next start migrates it.
    pub older: bool,
}

/// A chat with damaged or missing data.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DamagedChat {
    /// The principal that owns the chat.
    pub principal: String,
    /// The chat's id.
    pub chat: String,
    /// What is damaged or missing, in words.
    pub what: String,
}

impl CheckReport {
    /// Whether no damage was found. Events missing from earlier epochs and an older version do not count as damage.
    pub fn is_sound(&self) -> bool {
        self.damaged.is_empty() && self.structure.is_empty()
    }
}

impl Sqlite {
    /// Checks the journal in the file `journal`: that no committed data is missing, that the structure of the
    /// database is sound, and that every chat can be read and has no gap in its present epoch. A gateway may have the
    /// journal open. Reads the whole file, about a second for some hundred MiB; `progress` is called with the number
    /// of chats checked so far and the number of all chats.
    ///
    /// # Errors
    /// For every reason for which a gateway could not open the journal, except damage, which is in the report.
    pub fn check(journal: &Path, progress: impl FnMut(u64, u64)) -> Result<CheckReport, OpenError> {
        let files = Files { db: journal.to_owned() };
        files.check_writable()?;
        let before = SideFilesBefore::of(&files);
        let checked = check(&files, progress);
        before.undo_if_free(&files);
        checked
    }
}

fn check(files: &Files, progress: impl FnMut(u64, u64)) -> Result<CheckReport, OpenError> {
    let mut report = CheckReport::default();
    match inspect(files, boot_id().as_deref()) {
        Ok(_) => {}
        // The readable parts are checked all the same.
        Err(OpenError { reason: OpenErrorReason::Damaged { detail }, .. }) => report.structure.push(detail),
        Err(error) => return Err(error),
    }
    match connect_reader(files).and_then(|mut db| check_all(&mut db, &mut report, progress)) {
        Err(error) if report.structure.is_empty() => Err(OpenError::sqlite(&files.db, error)),
        Err(_) | Ok(()) => Ok(report),
    }
}

fn check_all(
    db: &mut Connection,
    report: &mut CheckReport,
    progress: impl FnMut(u64, u64),
) -> rusqlite::Result<()> {
    report.structure.extend(structure(db)?);
    report.older = schema::version(db)? < schema::newest();
    if report.older { Ok(()) } else { chats(db, report, progress) }
}

fn structure(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut check = db.prepare(&format!("PRAGMA integrity_check({STRUCTURE})"))?;
    let found = check.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>();
    match found {
        Err(error) if is_unusable(&error) => Ok(vec![error.to_string()]),
        found => {
            Ok(found?.into_iter().filter(|line| line != "ok").map(|line| line.replace('\n', "; ")).collect())
        }
    }
}

fn chats(
    db: &mut Connection,
    report: &mut CheckReport,
    mut progress: impl FnMut(u64, u64),
) -> rusqlite::Result<()> {
    let mut all: Vec<(i64, String, String)> = Vec::new();
    let unread = scan::rows(db, "chats", "principal, chat_id", |row| {
        let principal: String = row.get(1)?;
        // An empty principal marks a deleted chat that is about to be erased.
        if !principal.is_empty() {
            all.push((row.get(0)?, principal, row.get(2)?));
        }
        Ok(())
    })?;
    if unread > 0 {
        report.structure.push("some chats are not in the list of chats any more".into());
    }
    let count = all.len() as u64;
    for (number, (id, principal, chat)) in (1..).zip(all) {
        let found = match check_chat(db, id, &principal, &chat) {
            Err(error) if is_unusable(&error) => Condition::Damaged(error.to_string()),
            found => found?,
        };
        match found {
            Condition::Sound => {}
            Condition::Incomplete(what) => report.incomplete.push(DamagedChat { principal, chat, what }),
            Condition::Damaged(what) => report.damaged.push(DamagedChat { principal, chat, what }),
        }
        report.chats = number;
        progress(number, count);
    }
    Ok(())
}

/// The state of one chat.
enum Condition {
    Sound,
    /// Something is missing from an epoch that has ended.
    Incomplete(String),
    Damaged(String),
}

fn check_chat(db: &mut Connection, id: i64, principal: &str, chat: &str) -> rusqlite::Result<Condition> {
    let damaged = |what: &str| Ok(Condition::Damaged(what.to_owned()));
    let (Ok(principal), Ok(chat)) = (Principal::parse(principal), ChatId::parse(chat)) else {
        return damaged("its id is damaged");
    };
    let key = ChatKey { principal, chat };
    match query::read(db, i64::MIN, &Query::Chat { chat: key, term: None })? {
        Read::Found(Found::Chat(None)) | Read::Stale => {
            return damaged("it is not found by its id, or its epoch has no name");
        }
        // The chat exists, or it was deleted meanwhile.
        Read::Found(_) => {}
    }
    let db = db.transaction()?;
    let lost: bool = db.query_row(
        "SELECT EXISTS (SELECT 1 FROM turns t INDEXED BY open_turns WHERE t.chat = ?1 AND t.outcome IS NULL AND NOT EXISTS \
         (SELECT 1 FROM events e WHERE e.chat = t.chat AND e.epoch_no = t.epoch_no AND e.seq = t.seq))",
        [id],
        |row| row.get(0),
    )?;
    if lost {
        return damaged("the message of an open turn is missing");
    }
    // After a loss, the chat has no present epoch until it is next opened.
    let position = db.query_row(
        "SELECT CASE WHEN era < (SELECT era FROM meta) THEN -1 ELSE epoch_no END, head_seq FROM chats WHERE id = ?1",
        [id],
        |row| Ok((row.get(0)?, row.get(1)?)),
    );
    let Some((present, head)): Option<(i64, i64)> = position.optional()? else { return Ok(Condition::Sound) };
    let mut find = db.prepare_cached(
        "SELECT epoch_no, first_seq, seq, sum, frame, lengths FROM events WHERE chat = ?1 ORDER BY epoch_no, seq",
    )?;
    let mut rows = find.query([id])?;
    let (mut epoch, mut last) = (present, 0);
    let mut condition = Condition::Sound;
    while let Some(row) = rows.next()? {
        let (epoch_no, first, seq): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let sound = event_frame(row, 3).and_then(|_| lengths_of(row, 5));
        match sound {
            Err(error) if is_unusable(&error) => return damaged(&format!("event {seq} is damaged")),
            sound => sound?,
        };
        if epoch_no != epoch {
            (epoch, last) = (epoch_no, 0);
        }
        if first != last + 1 {
            let what = format!("events {} to {} are missing", last + 1, first - 1);
            if epoch_no == present {
                return Ok(Condition::Damaged(what));
            }
            condition = Condition::Incomplete(what);
        }
        last = seq;
    }
    // The last number of an epoch that has ended is not recorded.
    let last = if epoch == present { last } else { 0 };
    if present >= 0 && last < head {
        return damaged(&format!("events {} to {head} are missing", last + 1));
    }
    Ok(condition)
}
