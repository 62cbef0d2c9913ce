//! The journal on SQLite. What is where, and what survives what, is in the documentation of [`Sqlite`].

mod apply;
mod backup;
mod check;
mod checkpoint;
mod compact;
mod create;
mod erase;
mod error;
mod files;
mod gate;
mod header;
mod health;
mod loss;
mod open;
mod pool;
mod query;
mod salvage;
mod scan;
mod schema;
mod sql;
mod sync;
#[cfg(test)]
mod tests;
mod work;
mod writer;

use std::{
    fs::File,
    io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicI64},
    thread::{self, JoinHandle},
    time::Duration,
};

use rusqlite::Connection;
use rustc_hash::FxHashSet;
use switchboard_core::{
    ids::ChatKey,
    journal::{JournalAnswer, Query},
};

pub use backup::BackupReport;
pub use check::{CheckReport, DamagedChat};
pub use error::{OpenError, OpenErrorReason};
pub use open::OpenReport;
pub use salvage::Salvaged;

use self::{
    checkpoint::Log,
    files::{Files, Lock, SideFile},
    gate::Gate,
    health::Health,
    pool::Questions,
    sync::PendingAcks,
    work::{Job, Work},
    writer::Writer,
};
use super::{Answers, Journal, OpenJournal, Request};

/// How the journal works. The default is right for nearly everybody.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SqliteOptions {
    /// Every append waits for the disk, not only those on which something hangs (`--durability strict`).
    /// Default: no.
    pub strict: bool,
    /// Threads that answer questions; at least 1. Default: 2.
    pub readers: usize,
    /// Appends that wait for the writer hold at most this many bytes; beyond that they are refused.
    /// Default: 64 MiB.
    pub queue_bytes: usize,
    /// Deltas are joined this long after their stream has ended; `None`: never. Default: 2 s.
    pub join_after: Option<Duration>,
    /// Once the write-ahead log is longer than this many bytes it is begun anew, for which commits wait a moment.
    /// Default: 64 MiB.
    pub wal_bytes: u64,
    /// Go on with what is left where something is missing that was kept (`--accept-loss`): the files are copied aside,
    /// and every chat gets a new epoch. Default: no, such a journal is not opened.
    pub accept_loss: bool,
    /// Which boot of the machine this is. Default: what the system says.
    pub boot_id: Option<String>,
    /// A disk that misbehaves, for tests.
    #[cfg(test)]
    disk: Arc<tests::Disk>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            strict: false,
            readers: 2,
            queue_bytes: 64 * 1024 * 1024,
            join_after: Some(Duration::from_secs(2)),
            wal_bytes: 64 * 1024 * 1024,
            accept_loss: false,
            boot_id: None,
            #[cfg(test)]
            disk: Arc::default(),
        }
    }
}

/// A journal in an SQLite database, ready to be given to a gateway.
///
/// # Files
///
/// | file | what it is |
/// |---|---|
/// | `journal.db` | the database; after an orderly stop, everything is in it |
/// | `journal.db-wal` | SQLite's write-ahead log: what was committed lately. It belongs to the database: never copy, move or delete one without the other. Where the disk has room, it is up to 1 MiB longer than what is in it. It grows to about 64 MiB under load ([`SqliteOptions::wal_bytes`]) and is gone after an orderly stop |
/// | `journal.db-shm` | SQLite's index of the log; nothing is lost with it |
/// | `journal.db.commits` | one line: the journal's id, the count of commits that were written, the count of those known to be on the disk, and the boot; if the database has fewer, some were lost |
/// | `journal.db.lock` | locked (`flock`) while a gateway has the journal open, and says which process; a process that is killed leaves no lock behind |
///
/// All are readable and writable by their owner only (mode 0600). The folder has to be on a local file
/// system: SQLite needs its locks and shared memory. A second gateway on the same file does not start, and
/// says which process has it.
///
/// # What survives what
///
/// | | process killed | power lost, kernel crashed |
/// |---|---|---|
/// | what was answered to [`Durability::Synced`](switchboard_core::journal::Durability): messages, prompts and their answers, cancels, ends of turns | survives | survives |
/// | what was answered to [`Durability::Written`](switchboard_core::journal::Durability): pieces of a running turn | survives | the last moments may be lost |
/// | the same, with [`SqliteOptions::strict`] | survives | survives |
///
/// One transaction carries everything that waits, of many chats; the disk is asked once for all who wait for
/// it, off the thread that writes. Within a chat, answers come in the order of the appends; one chat does
/// not wait for another's sync. Just before a sync, those who lately waited too are given a moment to come
/// along: at most half of what the last sync took, and 5 ms.
///
/// # When something is lost
///
/// Numbers of events that clients may have seen are never used for others. Where some may have been lost, a
/// chat gets a new epoch when it is next opened: its numbers begin at 1 again, clients that come with a
/// cursor of an older epoch are told that it cannot be served, and `history` leads back across epochs. This
/// happens
///
/// - to chats that had an open turn, after the machine stopped without the gateway being stopped before (the
///   boot id in the database is another, and the database was not closed);
/// - to all chats, when `journal.db.commits` is missing, as after a backup was put back by hand;
/// - to all chats, when the machine was started anew and commits are missing that were written, but not yet
///   brought to the disk;
/// - to all chats, when commits are missing that must be there, or the database is damaged, and
///   [`SqliteOptions::accept_loss`] is set.
///
/// Without that, a journal is not opened, and no file of it is changed, if a commit is missing that was known to
/// be on the disk, or one that was written in this same boot: its database or log was removed, emptied, cut or damaged,
/// or an older copy was put in its place. The same holds if `journal.db.commits` is damaged, or if `journal.db` is there
/// with nothing in it: it gets its name only when its schema and the journal's id are in it. With it, the database, its log and the count are first copied to
/// `journal.db.lost-TIME`, `journal.db.lost-TIME-wal` and `journal.db.lost-TIME.commits`, which are the names
/// that SQLite looks for. What is there already is not overwritten. Of a damaged database, what can be read is then put
/// into a new one, which takes its place: rows that cannot be read, or do not match their checksums, are left out
/// ([`OpenReport::salvaged`]).
///
/// # When the disk is full or fails
///
/// What cannot be committed is refused, and so is everything after it in the same chat until the chat's state
/// was read again; other chats go on as far as they can, and everything can be read. Nothing has to be done
/// after room was made. After a failed sync nothing is certain: the database is opened again, what its log
/// holds is written and synced anew, and only then is anything kept or a refused chat's state told; this is
/// tried for as long as requests come.
///
/// Damage of the log costs the transactions from there on and no others. A database that is cut is not
/// opened, and the error says what to do. At a start the structure of the database is checked
/// (`PRAGMA quick_check`) if it has at most 32 MiB, something may have been lost, or a loss is accepted;
/// [`Sqlite::check`] checks all of it at any time; every event has a
/// checksum, and one that does not match is not shown. A question about a part that is damaged is answered with
/// [`JournalAnswer::Damaged`], and so is every further one about a chat to which nothing can be added; other chats go on.
/// A part that the disk does not give when it is read twice counts as damaged. If the disk gives nothing at all, questions
/// are answered with [`JournalAnswer::Failed`], the gateway is told ([`Answers::degraded`]), and the disk is read every
/// second until it is well.
///
/// # Joining
///
/// Some time after a stream of an answer has ended ([`SqliteOptions::join_after`]), its deltas of less than 4 KiB are
/// joined into records of at most 64 KiB, in short transactions between those of others. A record keeps the length of
/// each delta's text, so that every cursor still finds its place: one within a record gets what is behind it.
///
/// # Looking into it
///
/// `sqlite3 -readonly journal.db` works, also while the gateway runs; a transaction that is left open there
/// keeps the log from being cut. The schema explains itself (`.schema`): most of its comments are kept.
/// `PRAGMA application_id` is 0x53574244 ("SWBD"), `PRAGMA user_version` the number of the last migration. A
/// newer program brings an older file up to date when it opens it; an older program refuses a newer file
/// and leaves it as it is.
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
/// [`Sqlite::backup`] makes a whole and consistent copy while the gateway runs, and [`Sqlite::restore`] puts one in
/// the place of a journal that does not exist, with a `journal.db.commits` that says `restored`. A copy that is put there by hand takes the place of all files whose
/// names begin with `journal.db`.
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
    state: open::State,
    report: OpenReport,
}

impl Sqlite {
    /// Opens the journal in this file, makes it if there is none, and brings an older one up to date. The
    /// file's folder must exist; files beside it have names that begin with its name. Reads and writes the
    /// disk, so it takes a moment.
    pub fn open(path: impl Into<PathBuf>, options: SqliteOptions) -> Result<Self, OpenError> {
        let files = Files { db: path.into() };
        let opened = open::open(&files, &options)?;
        let open::Opened { lock, db, side, state, report } = opened;
        Ok(Self { files, options, lock, db, side, state, report })
    }

    /// What was found.
    pub fn report(&self) -> &OpenReport {
        &self.report
    }
}

impl OpenJournal for Sqlite {
    type Journal = OpenSqlite;

    /// Starts the journal's threads: one writes, one brings it to the disk, one makes checkpoints, and a few
    /// read.
    ///
    /// # Panics
    /// If the system gives no thread, or the write-ahead log has gone since the journal was opened.
    fn open(self, answers: Answers) -> OpenSqlite {
        let wal = self.files.open_wal().expect("the write-ahead log is there while the journal is open");
        let shared = Arc::new(Shared {
            answers,
            work: Work::new(self.options.queue_bytes),
            questions: Questions::default(),
            verdicts: PendingAcks::default(),
            log: Log::default(),
            health: Health::default(),
            readers: Gate::new(self.files.clone(), open::connect_reader),
            checkpoints: Gate::new(self.files.clone(), open::connect),
            writing: Mutex::default(),
            closed: Mutex::default(),
            damaged: Mutex::default(),
            generation: AtomicI64::new(self.state.generation),
            files: self.files,
            options: self.options,
        });
        if self.report.unclean {
            // The log may hold what was deleted just before.
            shared.log.purge();
        }
        // Before anybody waits for the disk.
        shared.log.grown();
        let side = Arc::new(self.side);
        let writer = Writer::new(Arc::clone(&shared), self.db, Arc::clone(&side), self.state);
        let readers = (0..shared.options.readers.max(1))
            .map(|_| spawn("journal-read", &shared, |shared| shared.questions.run(shared)))
            .collect();
        let checkpoints = spawn("journal-checkpoint", &shared, |shared| shared.log.run(shared));
        let writer = spawn("journal-write", &shared, move |_| writer.run());
        let syncs = spawn("journal-sync", &shared, move |shared| shared.verdicts.run(shared, &wal, &side));
        let threads = Threads { readers, checkpoints, writer, syncs };
        OpenSqlite { shared, threads: Some(threads), unfinished: self.report.unfinished, _lock: self.lock }
    }
}

/// An open [`Sqlite`] journal. Dropping it finishes what was submitted, and closes the file.
#[derive(Debug)]
pub struct OpenSqlite {
    shared: Arc<Shared>,
    /// There until it is dropped.
    threads: Option<Threads>,
    unfinished: Vec<ChatKey>,
    _lock: Lock,
}

#[derive(Debug)]
struct Threads {
    readers: Vec<JoinHandle<()>>,
    checkpoints: JoinHandle<()>,
    writer: JoinHandle<()>,
    syncs: JoinHandle<()>,
}

impl Journal for OpenSqlite {
    fn submit(&mut self, batch: &mut Vec<Request>) {
        let mut jobs = Vec::with_capacity(batch.len());
        for request in batch.drain(..) {
            match request {
                Request::Append(append) => jobs.push(Job::Append(append)),
                Request::Ask(ask) => {
                    if let Query::Chat { chat } = &ask.query
                        && locked(&self.shared.closed).contains(chat)
                    {
                        let chat = chat.clone();
                        jobs.push(Job::Chat(ask, chat));
                    } else if let Err(ask) = self.shared.questions.push(ask, false) {
                        self.shared.answers.send(JournalAnswer::Failed(ask.id));
                    }
                }
            }
        }
        let begins = jobs.iter().any(Job::begins);
        if !jobs.is_empty() && self.shared.work.push(jobs) && begins {
            // Where there are few cores, the first words of an answer are kept and shown before more of it is decoded.
            thread::yield_now();
        }
    }

    fn unfinished(&mut self) -> Vec<ChatKey> {
        std::mem::take(&mut self.unfinished)
    }
}

impl Drop for OpenSqlite {
    fn drop(&mut self) {
        let Some(threads) = self.threads.take() else { return };
        // In the order in which they need each other; the writer closes the file.
        self.shared.questions.stop();
        threads.readers.into_iter().for_each(join);
        self.shared.log.stop();
        join(threads.checkpoints);
        self.shared.work.stop();
        join(threads.writer);
        self.shared.verdicts.stop();
        join(threads.syncs);
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the journal panicked");
    }
}

/// What the journal's threads share.
#[derive(Debug)]
struct Shared {
    answers: Answers,
    files: Files,
    options: SqliteOptions,
    work: Work,
    questions: Questions,
    verdicts: PendingAcks,
    log: Log,
    health: Health,
    readers: Gate,
    checkpoints: Gate,
    /// Held during a transaction, and while the log is begun anew or cut.
    writing: Mutex<()>,
    /// Chats of which an append was refused, until their state was asked for.
    closed: Mutex<FxHashSet<ChatKey>>,
    /// Chats to which nothing could be added because their part of the database is damaged.
    damaged: Mutex<FxHashSet<ChatKey>>,
    /// Chats of an earlier era get a new epoch when they are next opened.
    generation: AtomicI64,
}

impl Shared {
    /// Whether the disk gives anything at all.
    fn read_disk(&self) -> io::Result<()> {
        #[cfg(test)]
        self.options.disk.read(None).map_err(io::Error::other)?;
        self.files.read_disk()
    }

    /// Brings the write-ahead log to the disk.
    fn sync(&self, wal: &File) -> io::Result<()> {
        #[cfg(test)]
        if self.options.disk.fails() {
            return Err(io::Error::other("a sync that a test lets fail"));
        }
        sync::to_disk(wal)
    }
}

/// A thread. One that panics takes the journal along: the gateway is told.
fn spawn(name: &str, shared: &Arc<Shared>, run: impl FnOnce(&Shared) + Send + 'static) -> JoinHandle<()> {
    let shared = Arc::clone(shared);
    let watched = move || {
        let ended = catch_unwind(AssertUnwindSafe(|| run(&shared)));
        if let Err(panic) = ended {
            // What it had taken is answered by nobody.
            shared.verdicts.abandon();
            shared.answers.give_up();
            resume_unwind(panic);
        }
    };
    let thread = thread::Builder::new().name(name.to_owned()).spawn(watched);
    thread.expect("the system gives a thread")
}

/// A panic elsewhere is that thread's affair; nothing here is left half done under a lock.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
