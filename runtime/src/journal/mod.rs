//! The journal port: asynchronous for every implementation, so that a disk changes nothing above it.

#[cfg(feature = "sqlite")]
mod sqlite;

use std::sync::Arc;

use switchboard_core::{
    ids::ChatKey,
    journal::{Append, Ask, JournalAnswer, MemoryJournal},
};
use tokio::sync::{Notify, mpsc, watch};

#[cfg(feature = "sqlite")]
pub use sqlite::{
    BackupReport, CheckReport, DamagedChat, OpenError, OpenErrorReason, OpenReport, OpenSqlite, Salvaged,
    Sqlite, SqliteOptions,
};

/// What the hub wants of the journal.
#[derive(Debug)]
pub enum Request {
    /// Keep this.
    Append(Append),
    /// Answer this.
    Ask(Ask),
}

/// Where a journal's answers go. Every request is answered exactly once.
#[derive(Debug, Clone)]
pub struct Answers {
    to: mpsc::UnboundedSender<JournalAnswer>,
    failed: Arc<Notify>,
    degraded: Arc<watch::Sender<Option<String>>>,
}

impl Answers {
    /// For a journal that is used without a gateway, such as in its own tests.
    pub fn new(to: mpsc::UnboundedSender<JournalAnswer>) -> Self {
        Self { to, failed: Arc::default(), degraded: Arc::default() }
    }

    /// Gives one answer. The hub bounds how many can be on the way by what it asks.
    pub fn send(&self, answer: JournalAnswer) {
        // A gateway that has gone needs no answer.
        let _ = self.to.send(answer);
    }

    /// The journal has failed in a way that it cannot make up for, and answers nothing any more: the gateway stops,
    /// so that the next one begins with what is kept.
    pub fn give_up(&self) {
        self.failed.notify_one();
    }

    /// What is appended cannot be kept at the moment: why, and what to do, in a sentence that begins with a small letter.
    /// Nothing: it can be kept again.
    pub fn degraded(&self, why: Option<String>) {
        self.degraded.send_replace(why);
    }

    /// Why what is appended cannot be kept at the moment, if that is so.
    pub fn health(&self) -> watch::Receiver<Option<String>> {
        self.degraded.subscribe()
    }

    /// Told when the journal has given up.
    pub(crate) fn failed(&self) -> Arc<Notify> {
        Arc::clone(&self.failed)
    }
}

/// The log of record. Requests that the hub makes together come together, so that one commit can carry
/// them all.
pub trait Journal: Send + 'static {
    /// Takes requests out of `batch`, in order, and answers each in its own time. Must not block.
    fn submit(&mut self, batch: &mut Vec<Request>);

    /// The chats that an earlier gateway left with open turns, asked once at the start: their turns go on, or
    /// end, whether or not anybody comes back to them.
    fn unfinished(&mut self) -> Vec<ChatKey> {
        Vec::new()
    }
}

/// Something that becomes a journal once it knows where its answers go.
pub trait OpenJournal {
    /// The journal.
    type Journal: Journal;

    /// Opens it.
    fn open(self, answers: Answers) -> Self::Journal;
}

/// Keeps everything in memory, and nothing beyond the process.
#[derive(Debug, Default)]
pub struct Memory {
    _private: (),
}

impl Memory {
    /// An empty journal.
    pub fn new() -> Self {
        Self::default()
    }
}

impl OpenJournal for Memory {
    type Journal = OpenMemory;

    fn open(self, answers: Answers) -> OpenMemory {
        OpenMemory { journal: MemoryJournal::default(), answers }
    }
}

/// An open [`Memory`] journal.
#[derive(Debug)]
pub struct OpenMemory {
    journal: MemoryJournal,
    answers: Answers,
}

impl Journal for OpenMemory {
    fn submit(&mut self, batch: &mut Vec<Request>) {
        for request in batch.drain(..) {
            self.answers.send(match request {
                Request::Append(append) => self.journal.append(append),
                Request::Ask(ask) => self.journal.ask(ask),
            });
        }
    }
}
