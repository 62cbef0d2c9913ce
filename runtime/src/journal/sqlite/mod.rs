//! The journal on SQLite. The documentation of [`Sqlite`] says which file contains what, and what survives a crash.

mod account;
mod accounts;
mod acks;
mod apply;
mod backup;
mod change;
mod check;
mod checkpoint;
mod column;
mod compact;
mod connect;
mod create;
mod disk;
mod erase;
mod error;
mod files;
mod header;
mod health;
mod leb128;
mod log;
mod loss;
mod meta;
mod mutex;
mod open;
mod options;
mod partial;
mod pool;
mod probe;
mod query;
mod questions;
mod reader;
mod salvage;
mod scan;
mod schema;
mod shared;
mod sql;
#[cfg(test)]
mod tests;
mod work;
mod writer;

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::PathBuf,
    sync::{Arc, Mutex, atomic::AtomicI64},
    task::{Context, Poll},
    thread::{self, JoinHandle},
};

use rusqlite::Connection;
use switchboard_core::{
    ids::ChatKey,
    journal::{Ask, Found, Grant, JournalAnswer, Query, Term},
};

pub use accounts::SqliteAccounts;
pub use backup::BackupReport;
pub use check::{CheckReport, DamagedChat};
pub use error::{OpenError, OpenErrorReason};
pub use open::OpenReport;
pub use options::SqliteOptions;
pub use salvage::Salvaged;

use self::{
    acks::PendingAcks,
    connect::{connect, connect_reader},
    disk::{Disk, SystemDisk},
    files::{Files, Lock, SideFile},
    health::Health,
    log::Log,
    meta::JournalState,
    pool::ConnectionPool,
    questions::Questions,
    shared::Shared,
    work::{Job, Work},
    writer::Writer,
};
use super::{Answers, Journal, OpenJournal, Request};

/// A journal in an SQLite database, opened and ready for [`Gateway::start`](crate::Gateway::start).
///
/// # Files
///
/// | file | contents |
/// |---|---|
/// | `journal.db` | the database; contains all data after an orderly stop |
/// | `journal.db-wal` | SQLite's write-ahead log with the latest commits. The log is part of the database: never copy, move or delete one without the other. It grows to about 64 MiB under load ([`SqliteOptions::wal_bytes`]), is up to 1 MiB longer than its contents if the disk has room, and is removed by an orderly stop |
/// | `journal.db-shm` | SQLite's index of the log; contains no data of its own |
/// | `journal.db.commits` | one line: the journal's id, the number of commits written, the number of commits known to be synced, and the boot id; a database with fewer commits has lost some |
/// | `journal.db.lock` | locked (`flock`) while a gateway has the journal open; contains the gateway's process id. The lock of a killed process is released |
///
/// All files are readable and writable by their owner only (mode 0600). The folder must be on a local file system,
/// because SQLite needs its locks and shared memory. A second gateway on the same file does not start, and its error
/// names the process that has the journal open.
///
/// # Durability
///
/// | | process killed | power lost, kernel crashed |
/// |---|---|---|
/// | appends answered with [`Durability::Synced`](switchboard_core::journal::Durability): messages, prompts and their answers, cancels, ends of turns | survive | survive |
/// | appends answered with [`Durability::Written`](switchboard_core::journal::Durability): pieces of a running turn | survive | the last ones may be lost |
/// | all appends, with [`SqliteOptions::strict`] | survive | survive |
///
/// One transaction carries all waiting appends, of any number of chats. One sync of the disk serves all appends that
/// wait for it, and does not run on the thread that writes. Within a chat, answers come in the order of the appends;
/// no chat waits for another chat's sync. A sync waits for other appends until as many chats are waiting as after the
/// last sync, but at most for half the duration of that sync and for 5 ms.
///
/// # After a loss
///
/// The number of an event that clients may have seen is never used for another event. A chat that may have lost
/// events gets a new epoch when it is next opened: its numbers begin at 1 again, clients whose cursor belongs to an
/// older epoch learn that the cursor cannot be served, and `history` leads back across epochs. The chats concerned
/// are
///
/// - chats with an open turn, after the machine stopped before the gateway did (the boot id in the database is an old
///   one, and the database was not closed);
/// - all chats, when `journal.db.commits` is missing, as after a backup was put back by hand;
/// - all chats, when the machine was rebooted and commits are missing that were written, but not yet synced to the
///   disk;
/// - all chats, when commits are missing that must be there, or the database is damaged, and
///   [`SqliteOptions::accept_loss`] is set.
///
/// Without `accept_loss`, a journal is not opened, and none of its files is changed, if a commit is missing that was
/// known to be on the disk or was written during the current boot: the database or its log was removed, emptied, cut
/// or damaged, or replaced by an older copy. The same holds if `journal.db.commits` is damaged, or if `journal.db`
/// exists but is empty: the gateway gives a new database this name only when the schema and the journal's id are in
/// it.
///
/// With `accept_loss`, the database, its log and the commit count are first copied to `journal.db.lost-TIME`,
/// `journal.db.lost-TIME-wal` and `journal.db.lost-TIME.commits`, so that SQLite can open the copy. Existing files
/// are not overwritten. The readable parts of a damaged database are then copied into a new database, which replaces
/// the damaged one: rows that cannot be read, or do not match their checksums, are left out
/// ([`OpenReport::salvaged`]).
///
/// # When the disk is full or fails
///
/// An append that cannot be committed is refused, and later appends of the same chat, which expect the version that it
/// would have made, are conflicts; other chats go on as far as they can, and everything can be read. Once the disk has
/// space again, the journal recovers by itself. A failed sync leaves the state of the disk unknown: the database is
/// reopened, and its log is written and synced again, before anything is committed or the state of a chat is read. The journal retries this for as long as requests come.
///
/// A damaged log costs the transactions from the damage on, and no others. A database that was cut is not opened, and
/// the error says what to do. When the journal is opened, the structure of the database is checked (`PRAGMA
/// quick_check`) if the database has at most 32 MiB, something may have been lost, or a loss is accepted;
/// [`Sqlite::check`] checks all of the database at any time. Every event has a checksum, and an event that does not
/// match is not published. A question about a damaged part is answered with [`JournalAnswer::Damaged`], and so is
/// every later question about a chat that cannot be appended to; other chats go on. A part that cannot be read from
/// the disk twice counts as damaged. If nothing at all can be read from the disk, questions are answered with
/// [`JournalAnswer::Failed`], the journal reports itself as degraded ([`Answers::degraded`]), and it tries the disk
/// every second until it can be read.
///
/// # Compaction
///
/// Some time after a stream of an answer has ended ([`SqliteOptions::compact_after`]), the stream's deltas of less than
/// 4 KiB are merged into records of at most 64 KiB, in short transactions between other writes. A record contains the
/// length of each delta's text, so that every cursor stays valid: a cursor that points into a record gets the rest of
/// the record.
///
/// # Reading the database by hand
///
/// `sqlite3 -readonly journal.db` works while the gateway runs; a transaction that is left open there keeps the log
/// from being truncated. The schema explains itself (`.schema`): most of its comments are stored with it. `PRAGMA
/// application_id` is 0x53574244 ("SWBD"), `PRAGMA user_version` is the number of the last migration. A newer program
/// migrates an older file when it opens the file; an older program refuses a newer file and does not change it.
///
/// ```sql
/// -- The chats of late, and how the turns of one ended.
/// SELECT id, chat_id, title, datetime(updated_at / 1000, 'unixepoch') FROM chats ORDER BY updated_at DESC;
/// SELECT turn_id, outcome, ended_at - accepted_at AS ms FROM turns WHERE chat = 1 ORDER BY accepted_at;
/// -- What its agent said.
/// SELECT frame ->> 'text' FROM events WHERE chat = 1 AND frame ->> 'event' = 'delta';
/// ```
///
/// # A backup
///
/// [`Sqlite::backup`] makes a complete and consistent copy while the gateway runs. [`Sqlite::restore`] puts a copy
/// where no journal exists, with a `journal.db.commits` that says `restored`. To put a copy there by hand, first
/// remove all files whose names begin with `journal.db`.
///
/// # Opening
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// use switchboard_runtime::{Sqlite, SqliteOptions};
///
/// let journal = Sqlite::open(folder.path().join("journal.db"), SqliteOptions::default())?;
/// if journal.report().lost_commits {
///     eprintln!("this journal is older than the last time; clients will be told");
/// }
/// // Gateway::start(limits, seed, journal, agent)
/// # Ok::<(), switchboard_runtime::OpenError>(())
/// ```
#[derive(Debug)]
pub struct Sqlite {
    files: Files,
    options: SqliteOptions,
    lock: Lock,
    db: Connection,
    side: SideFile,
    state: JournalState,
    report: OpenReport,
    disk: Arc<dyn Disk>,
}

impl Sqlite {
    /// Opens the journal in the file `path`, creates the file if it does not exist, and migrates an older journal.
    /// The file's folder must exist; the journal's other files have names that begin with the file's name. Blocks
    /// while it reads and writes the disk.
    ///
    /// # Errors
    /// If the file cannot be opened, is no journal, is in use, damaged or of a newer version, or if committed data is
    /// missing from it ([`OpenErrorReason`] lists all reasons).
    pub fn open(path: impl Into<PathBuf>, options: SqliteOptions) -> Result<Self, OpenError> {
        Self::open_on(path.into(), options, Arc::new(SystemDisk))
    }

    fn open_on(path: PathBuf, options: SqliteOptions, disk: Arc<dyn Disk>) -> Result<Self, OpenError> {
        let files = Files { db: path };
        let open::Opened { lock, db, side, state, report } = open::open(&files, &options)?;
        Ok(Self { files, options, lock, db, side, state, report, disk })
    }

    /// What was found when the journal was opened.
    pub fn report(&self) -> &OpenReport {
        &self.report
    }
}

impl OpenJournal for Sqlite {
    type Journal = OpenSqlite;

    /// Starts the journal's threads: one writes, one syncs the disk, one makes checkpoints, and
    /// [`SqliteOptions::readers`] threads answer questions.
    ///
    /// # Panics
    /// If the system cannot start a thread, or if the write-ahead log was removed since the journal was opened.
    fn open(self, answers: Answers) -> OpenSqlite {
        let wal = self.files.open_wal().expect("the write-ahead log is there while the journal is open");
        let shared = Arc::new(Shared {
            health: Health::new(answers.clone()),
            pending_acks: PendingAcks::new(answers.clone()),
            answers,
            work: Work::new(self.options.queue_bytes),
            questions: Questions::default(),
            log: Log::default(),
            readers: ConnectionPool::new(self.files.clone(), connect_reader),
            checkpoints: ConnectionPool::new(self.files.clone(), connect),
            writing: Mutex::default(),
            damaged: Mutex::default(),
            generation: AtomicI64::new(self.state.generation),
            files: self.files,
            options: self.options,
            disk: self.disk,
        });
        if self.report.unclean {
            // The log may contain text that was deleted just before the crash.
            shared.log.purge();
        }
        // Lets the checkpoint thread lengthen the log before the first append waits for the disk.
        shared.log.grown();
        let side = Arc::new(self.side);
        let writer = Writer::new(Arc::clone(&shared), self.db, Arc::clone(&side), self.state);
        let readers =
            (0..shared.options.readers.max(1)).map(|_| spawn("journal-read", &shared, reader::run)).collect();
        let checkpoints = spawn("journal-checkpoint", &shared, checkpoint::run);
        let writer = spawn("journal-write", &shared, move |_| writer.run());
        let syncs = spawn("journal-sync", &shared, move |shared| {
            shared.pending_acks.run(&side, || shared.sync(&wal), || shared.work.nudge());
        });
        let threads = Threads { readers, checkpoints, writer, syncs };
        let (term, unfinished) = (self.state.term, self.report.unfinished.into());
        OpenSqlite { shared, threads: Some(threads), term, unfinished, _lock: self.lock }
    }
}

/// An open [`Sqlite`] journal. Dropping it commits what was submitted and closes the file.
#[derive(Debug)]
pub struct OpenSqlite {
    shared: Arc<Shared>,
    /// `None` only while the journal is being dropped.
    threads: Option<Threads>,
    term: Term,
    unfinished: VecDeque<ChatKey>,
    _lock: Lock,
}

#[derive(Debug)]
struct Threads {
    readers: Vec<JoinHandle<()>>,
    checkpoints: JoinHandle<()>,
    writer: JoinHandle<()>,
    syncs: JoinHandle<()>,
}

impl OpenSqlite {
    /// What belongs to principals beside their chats, in the same database.
    pub fn accounts(&self) -> SqliteAccounts {
        SqliteAccounts::new(Arc::clone(&self.shared))
    }
}

impl Journal for OpenSqlite {
    fn submit(&mut self, batch: &mut Vec<Request>) {
        let mut jobs = Vec::with_capacity(batch.len());
        for request in batch.drain(..) {
            match request {
                Request::Append(append) => jobs.push(Job::Append(append)),
                Request::Ask(Ask { id, query: Query::Chat { term: Some(term), .. } })
                    if term != self.term =>
                {
                    self.shared.answers.send(JournalAnswer::Found(id, Found::Fenced));
                }
                Request::Ask(ask) => {
                    if let Query::Chat { chat, .. } = &ask.query
                        && self.shared.needs_the_writer(chat)
                    {
                        let chat = chat.clone();
                        jobs.push(Job::Chat(ask, chat));
                    } else if let Err(ask) = self.shared.questions.push(ask, false) {
                        self.shared.answers.send(JournalAnswer::Failed(ask.id));
                    }
                }
            }
        }
        if !jobs.is_empty() {
            self.shared.work.push(jobs);
        }
    }

    /// A chat is granted without the disk: the lock of the file leaves no other gateway.
    fn claim(&mut self, _: &ChatKey) -> Option<Grant> {
        Some(Grant::for_ever(self.term))
    }

    /// The chats that the journal had when it was opened. Nobody else leaves further ones.
    fn poll_unfinished(&mut self, _: &mut Context<'_>) -> Poll<ChatKey> {
        self.unfinished.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for OpenSqlite {
    fn drop(&mut self) {
        let Some(threads) = self.threads.take() else { return };
        // Each thread needs the ones that are stopped after it; the writer closes the file.
        self.shared.questions.stop();
        threads.readers.into_iter().for_each(join);
        self.shared.log.stop();
        join(threads.checkpoints);
        self.shared.work.stop();
        join(threads.writer);
        self.shared.pending_acks.stop();
        join(threads.syncs);
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the journal panicked");
    }
}

/// Starts a thread of the journal. If the thread panics, the whole journal fails, and the gateway stops.
fn spawn(name: &str, shared: &Arc<Shared>, run: impl FnOnce(&Shared) + Send + 'static) -> JoinHandle<()> {
    let shared = Arc::clone(shared);
    let watched = move || {
        let ended = catch_unwind(AssertUnwindSafe(|| run(&shared)));
        if let Err(panic) = ended {
            // Nobody will answer the requests that the thread had taken.
            shared.pending_acks.abandon();
            shared.answers.give_up();
            resume_unwind(panic);
        }
    };
    let thread = thread::Builder::new().name(name.to_owned()).spawn(watched);
    thread.expect("the system gives a thread")
}
