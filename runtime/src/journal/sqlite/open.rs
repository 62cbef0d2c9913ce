//! Opens a journal: checks that the file is a complete journal, finds its version, and finds what was lost since it
//! was closed.

use std::{collections::BTreeSet, fs, path::PathBuf};

use rusqlite::Connection;
use rustix::fs::fdatasync;
use switchboard_core::{
    agent::AgentInstanceId,
    ids::{ChatId, ChatKey, Principal},
    journal::Term,
};

use super::{
    connect::{connect, prepare},
    create::create,
    error::{OpenError, OpenErrorReason},
    files::{Files, Lock, RecordedCommits, SideFile, boot_id},
    header::{begins_as_sqlite, check_header},
    loss::{self, Loss, SideFilesBefore},
    meta::{self, JournalState, Meta},
    options::SqliteOptions,
    partial::remove_partials,
    salvage::{Salvaged, salvage},
    schema,
};

/// A database of at most this many bytes is checked completely at every start; a larger one only if something looks
/// wrong, because the check reads the whole file.
const CHECKED_BYTES: u64 = 32 * 1024 * 1024;

/// What was found when a journal was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenReport {
    /// The journal did not exist and was created.
    pub created: bool,
    /// The journal did not exist, but `journal.db.lock` did: a gateway once had a journal here, or was about to
    /// create one.
    pub removed: bool,
    /// The journal was not closed: the process before was killed, or the machine stopped.
    pub unclean: bool,
    /// The journal was not closed, and the machine was rebooted since. Chats with an open turn get a new epoch.
    pub rebooted: bool,
    /// Commits are missing, or may be: the file is a backup or an older copy, or the last commits were lost. Every
    /// chat gets a new epoch when it is next opened.
    pub lost_commits: bool,
    /// The journal was restored from a backup and is opened for the first time since. Every chat gets a new epoch.
    pub restored: bool,
    /// The number of commits is unknown (`journal.db.commits` is missing or unreadable): the file may be a backup
    /// that was put there by hand. Every chat gets a new epoch.
    pub uncounted: bool,
    /// Where the files were copied before a loss was accepted ([`SqliteOptions::accept_loss`]).
    pub set_aside: Option<PathBuf>,
    /// What was read from a damaged database, if the damage was accepted.
    pub salvaged: Option<Salvaged>,
    /// Chats that the gateway has to load at its start: chats with an open turn or an agent.
    pub unfinished: Vec<ChatKey>,
    /// The agent instances of all chats. A process that has outlived the gateway and is not one of these instances is
    /// an orphan.
    pub agents: BTreeSet<AgentInstanceId>,
}

/// An open database and the files and state that belong to it.
pub(super) struct Opened {
    pub(super) lock: Lock,
    pub(super) db: Connection,
    pub(super) side: SideFile,
    pub(super) state: JournalState,
    pub(super) report: OpenReport,
}

pub(super) fn open(files: &Files, options: &SqliteOptions) -> Result<Opened, OpenError> {
    let lock = Lock::take(files)?;
    remove_partials(files);
    match open_locked(files, options) {
        Ok((db, side, state, report)) => {
            let removed = report.created && report.set_aside.is_none() && lock.was_there();
            Ok(Opened { lock, db, side, state, report: OpenReport { removed, ..report } })
        }
        Err(error) => {
            lock.undo(files);
            Err(error)
        }
    }
}

fn open_locked(
    files: &Files,
    options: &SqliteOptions,
) -> Result<(Connection, SideFile, JournalState, OpenReport), OpenError> {
    let side = SideFile::read(files).map_err(|error| OpenError::io(&files.commits(), error))?;
    let boot = options.boot_id.clone().or_else(boot_id);
    let mut accepted = Accepted::default();
    let found = match find_usable(files, options, &side, boot.as_deref(), &mut accepted) {
        Err(error) if error.is_damage() && options.accept_loss => {
            accepted.set_aside(files)?;
            accepted.salvaged = Some(salvage(files, &side)?);
            find_usable(files, options, &side, boot.as_deref(), &mut accepted)?
        }
        found => found?,
    };
    mark_in_use(files, found, &side, boot, accepted)
}

/// A loss that [`SqliteOptions::accept_loss`] allowed.
#[derive(Debug, Default)]
struct Accepted {
    /// Where the files were copied before.
    aside: Option<PathBuf>,
    /// What was read from a damaged database.
    salvaged: Option<Salvaged>,
}

impl Accepted {
    fn set_aside(&mut self, files: &Files) -> Result<(), OpenError> {
        if self.aside.is_none() {
            self.aside = Some(loss::set_aside(files)?);
        }
        Ok(())
    }
}

/// A database that can be used, and in which nothing was changed yet.
struct Usable {
    db: Connection,
    size: u64,
    version: u32,
    meta: Option<Meta>,
    loss: Loss,
    /// Whether the database was created just now.
    created: bool,
}

/// Finds out whether a database can be used. If not, no file is changed.
fn find_usable(
    files: &Files,
    options: &SqliteOptions,
    side: &RecordedCommits,
    boot: Option<&str>,
    accepted: &mut Accepted,
) -> Result<Usable, OpenError> {
    if let Some(detail) = loss::of_file(files, side)? {
        loss::may_accept(files, options, detail)?;
        accepted.set_aside(files)?;
        // SQLite would remove the log; the copy contains it.
        loss::remove(files)?;
    }
    let created = !files.db.exists();
    if created {
        create(files)?;
    }
    let beside = SideFilesBefore::of(files);
    files.make_private().map_err(|error| OpenError::io(&files.db, error))?;
    let usable = examine(files, side, boot).and_then(|mut usable| {
        usable.created = created;
        match usable.loss {
            _ if created && accepted.aside.is_none() => usable.loss = Loss::Nothing,
            _ if accepted.salvaged.is_some() => usable.loss = Loss::Forgiven,
            Loss::Refused(detail) => {
                loss::may_accept(files, options, detail)?;
                usable.loss = Loss::Forgiven;
                // The files are copied while no connection has them open.
                drop(usable.db);
                beside.undo(files);
                accepted.set_aside(files)?;
                usable.db = connect(files).map_err(|error| OpenError::sqlite(&files.db, error))?;
            }
            Loss::Nothing | Loss::Forgiven => {}
        }
        prepare(&usable.db).map_err(|error| OpenError::sqlite(&files.db, error))?;
        if usable.size <= CHECKED_BYTES || usable.loss == Loss::Forgiven || options.accept_loss {
            check_whole(files, &usable.db)?;
        }
        Ok(usable)
    });
    if usable.is_err() {
        beside.undo(files);
        if created {
            // If the new file remained, its commit count would count as missing.
            let _ = fs::remove_file(&files.db);
        }
    }
    usable
}

/// Reads the metadata of a database and finds out which commits are missing.
fn examine(files: &Files, side: &RecordedCommits, boot: Option<&str>) -> Result<Usable, OpenError> {
    let was_ours = |error: OpenError| {
        // Another program's database may have a log, too; but a log beside a file that is no database is a journal's.
        let was = || *side != RecordedCommits::Nothing || (files.wal().exists() && !begins_as_sqlite(files));
        if matches!(error.reason, OpenErrorReason::NotAJournal) && was() {
            return OpenError::damaged(&files.db, "it does not begin as a journal does, and was one");
        }
        error
    };
    let size = check_header(files).map_err(was_ours)?;
    let of_db = |error| was_ours(OpenError::sqlite(&files.db, error));
    let db = connect(files).map_err(of_db)?;
    let version = check_identity(files, &db).map_err(was_ours)?;
    // Before version 6, commits were counted in another way, so missing commits must be found before the migration.
    let meta = if version > 0 { meta::read(&db, version).map_err(of_db)? } else { None };
    let loss = loss::of_commits(side, meta.as_ref(), boot);
    Ok(Usable { db, size, version, meta, loss, created: false })
}

/// Whether a database could be opened, as far as that shows without reading all of it. For a database that this
/// process is not going to open for writing.
pub(super) fn inspect(files: &Files, boot: Option<&str>) -> Result<(Connection, u32), OpenError> {
    let side = SideFile::read(files).map_err(|error| OpenError::io(&files.commits(), error))?;
    let lost = |detail| OpenError::new(&files.db, OpenErrorReason::Lost { detail });
    if let Some(detail) = loss::of_file(files, &side)? {
        return Err(lost(detail));
    }
    if !files.db.exists() {
        return Err(OpenError::new(&files.db, OpenErrorReason::Missing));
    }
    match examine(files, &side, boot)? {
        Usable { loss: Loss::Refused(detail), .. } => Err(lost(detail)),
        Usable { db, version, .. } => Ok((db, version)),
    }
}

/// Migrates the database, and marks it as in use.
fn mark_in_use(
    files: &Files,
    mut found: Usable,
    side: &RecordedCommits,
    boot: Option<String>,
    accepted: Accepted,
) -> Result<(Connection, SideFile, JournalState, OpenReport), OpenError> {
    let of_db = |error| OpenError::sqlite(&files.db, error);
    schema::migrate(&mut found.db, found.version).map_err(of_db)?;
    let (meta, report) = reconcile(files, boot, &mut found, side)?;
    let db = found.db;
    let (state, boot) = (meta.state, meta.boot_id);
    let side = sync_all(files, meta.journal_id, &boot, state)
        .map_err(|error| OpenError::io(&files.commits(), error))?;
    let (unfinished, agents) = (unfinished(&db).map_err(of_db)?, agents(&db).map_err(of_db)?);
    let Accepted { aside: set_aside, salvaged } = accepted;
    let report = OpenReport { unfinished, agents, set_aside, salvaged, ..report };
    Ok((db, side, state, report))
}

fn check_identity(files: &Files, db: &Connection) -> Result<u32, OpenError> {
    let of_db = |error| OpenError::sqlite(&files.db, error);
    let version = schema::version(db).map_err(of_db)?;
    let application = schema::application_id(db).map_err(of_db)?;
    let tables: u32 =
        db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(of_db)?;
    let fresh = application == 0 && version == 0 && tables == 0;
    if !fresh && application != schema::APPLICATION_ID {
        return Err(OpenError::new(&files.db, OpenErrorReason::NotAJournal));
    }
    let known = schema::newest();
    if version > known {
        return Err(OpenError::new(&files.db, OpenErrorReason::Newer { found: version, known }));
    }
    Ok(version)
}

/// Finds out what happened since the journal was closed, and records it in one transaction.
fn reconcile(
    files: &Files,
    boot: Option<String>,
    found: &mut Usable,
    side: &RecordedCommits,
) -> Result<(Meta, OpenReport), OpenError> {
    let of_db = |error| OpenError::sqlite(&files.db, error);
    let Usable { db, size, meta, loss, created, .. } = found;
    let mut report =
        OpenReport { created: *created, lost_commits: *loss != Loss::Nothing, ..OpenReport::default() };
    let mut meta = match meta.take() {
        Some(meta) if *created => meta,
        Some(meta) => {
            // A backup is a copy of an open journal, so it is never marked as closed.
            report.restored = *side == RecordedCommits::Restored;
            report.uncounted =
                report.lost_commits && matches!(side, RecordedCommits::Nothing | RecordedCommits::Garbage);
            report.unclean = !meta.clean && !report.restored;
            // A salvaged database may have lost its boot id.
            let unknown = report.lost_commits && meta.boot_id.is_empty();
            let elsewhere = boot.as_ref().is_none_or(|boot| *boot != meta.boot_id);
            report.rebooted = report.unclean && elsewhere && !unknown;
            meta
        }
        None => {
            report.created = true;
            Meta::new().map_err(|error| OpenError::io(&files.db, error))?
        }
    };
    if *size > CHECKED_BYTES && report.rebooted && !report.lost_commits {
        check_whole(files, db)?;
    }
    let recorded = match side {
        RecordedCommits::Commits { journal_id, commits, .. } if *journal_id == meta.journal_id => *commits,
        RecordedCommits::Commits { .. }
        | RecordedCommits::Nothing
        | RecordedCommits::Restored
        | RecordedCommits::Garbage => 0,
    };
    let newest = meta::newest_event(db).map_err(of_db)?;
    meta.state.commits = meta.state.commits.max(recorded).max(newest) + 1;
    meta.state.term = Term(meta.state.commits);
    meta.state.generation += i64::from(report.lost_commits);
    meta.boot_id = boot.unwrap_or_default();
    meta::write(db, &meta, report.rebooted).map_err(of_db)?;
    Ok((meta, report))
}

fn check_whole(files: &Files, db: &Connection) -> Result<(), OpenError> {
    let of_db = |error| OpenError::sqlite(&files.db, error);
    let result: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(of_db)?;
    if result == "ok" { Ok(()) } else { Err(OpenError::damaged(&files.db, result.replace('\n', "; "))) }
}

/// Syncs everything that was read and written while opening, because events published from now on may depend on it.
fn sync_all(files: &Files, journal_id: String, boot: &str, state: JournalState) -> std::io::Result<SideFile> {
    fdatasync(files.open_wal()?)?;
    let side = SideFile::open(files, journal_id, boot)?;
    side.record_durably(state.commits)?;
    files.sync_folder()?;
    Ok(side)
}

/// The chats that have open turns, background tasks or an agent, without those that are being erased, whose principal is empty.
fn unfinished(db: &Connection) -> rusqlite::Result<Vec<ChatKey>> {
    let mut find = db.prepare(
        "SELECT id, principal, chat_id FROM chats WHERE principal <> '' AND id IN \
         (SELECT chat FROM turns INDEXED BY open_turns WHERE outcome IS NULL \
         UNION SELECT id FROM chats INDEXED BY chats_with_agent WHERE agent_run IS NOT NULL \
         UNION SELECT id FROM chats INDEXED BY chats_with_agent_work \
         WHERE agent_turn IS NOT NULL OR tasks IS NOT NULL) ORDER BY id",
    )?;
    let rows = find.query_map([], |row| {
        let (principal, chat): (String, String) = (row.get(1)?, row.get(2)?);
        let ids = Principal::parse(&principal).ok().zip(ChatId::parse(&chat).ok());
        if ids.is_none() {
            let id: i64 = row.get(0)?;
            tracing::error!(
                row = id,
                "a chat is not recovered, because its principal or id is damaged; `switchboard doctor` says more"
            );
        }
        Ok(ids)
    })?;
    let keys = rows.filter_map(|row| {
        row.map(|found| found.map(|(principal, chat)| ChatKey { principal, chat })).transpose()
    });
    keys.collect()
}

fn agents(db: &Connection) -> rusqlite::Result<BTreeSet<AgentInstanceId>> {
    let mut find = db.prepare(
        "SELECT agent_run FROM chats INDEXED BY chats_with_agent WHERE agent_run IS NOT NULL ORDER BY id",
    )?;
    let rows = find.query_map([], |row| row.get::<_, i64>(0))?;
    rows.map(|id| id.map(|id| AgentInstanceId(id.cast_unsigned()))).collect()
}
