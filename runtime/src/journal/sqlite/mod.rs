//! The journal on SQLite. What is where, and what survives what, is in the documentation of [`Sqlite`].

mod apply;
mod checkpoint;
mod error;
mod files;
mod gate;
mod open;
mod pool;
mod query;
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
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicI64},
    thread::{self, JoinHandle},
};

use rusqlite::Connection;
use rustc_hash::FxHashSet;
use switchboard_core::{
    ids::ChatKey,
    journal::{JournalAnswer, Query},
};

pub use error::{OpenError, OpenErrorReason};
pub use open::OpenReport;

use self::{
    checkpoint::Log,
    files::{Files, Lock, SideFile},
    gate::Gate,
    pool::Questions,
    sync::Verdicts,
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
    /// Once the write-ahead log is longer than this many bytes it is cut, for which commits wait a moment.
    /// Default: 64 MiB.
    pub wal_bytes: u64,
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
            wal_bytes: 64 * 1024 * 1024,
            boot_id: None,
            #[cfg(test)]
            disk: Arc::default(),
        }
    }
}

/// A journal in an SQLite database, ready to be given to a gateway.
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
            verdicts: Verdicts::default(),
            log: Log::default(),
            readers: Gate::new(self.files.clone(), open::connect_reader),
            checkpoints: Gate::new(self.files.clone(), open::connect),
            writing: Mutex::default(),
            closed: Mutex::default(),
            era: AtomicI64::new(self.state.era),
            files: self.files,
            options: self.options,
        });
        let writer = Writer::new(Arc::clone(&shared), self.db, self.side, self.state);
        let readers = (0..shared.options.readers.max(1))
            .map(|_| spawn("journal-read", &shared, |shared| shared.questions.run(shared)))
            .collect();
        let checkpoints = spawn("journal-checkpoint", &shared, |shared| shared.log.run(shared));
        let writer = spawn("journal-write", &shared, move |_| writer.run());
        let syncs = spawn("journal-sync", &shared, move |shared| shared.verdicts.run(shared, &wal));
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
        if !jobs.is_empty() {
            self.shared.work.push(jobs);
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
    verdicts: Verdicts,
    log: Log,
    readers: Gate,
    checkpoints: Gate,
    /// Held during a transaction, and while the log is cut.
    writing: Mutex<()>,
    /// Chats of which an append was refused, until their state was asked for.
    closed: Mutex<FxHashSet<ChatKey>>,
    /// Chats of an earlier era get a new epoch when they are next opened.
    era: AtomicI64,
}

impl Shared {
    /// Brings the write-ahead log to the disk.
    fn sync(&self, wal: &File) -> io::Result<()> {
        #[cfg(test)]
        if self.options.disk.fails() {
            return Err(io::Error::other("a sync that a test lets fail"));
        }
        sync::to_disk(wal)
    }
}

fn spawn(name: &str, shared: &Arc<Shared>, run: impl FnOnce(&Shared) + Send + 'static) -> JoinHandle<()> {
    let shared = Arc::clone(shared);
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || run(&shared));
    thread.expect("the system gives a thread")
}

/// A panic elsewhere is that thread's affair; nothing here is left half done under a lock.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
