//! The interface to the journal. It is asynchronous for every implementation, so that the rest of the runtime does
//! not depend on where the journal stores its data.

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

/// What the hub asks of the journal.
#[derive(Debug)]
pub enum Request {
    /// Commit these changes.
    Append(Append),
    /// Answer this question.
    Ask(Ask),
}

/// Where a journal sends its answers. It answers every request exactly once.
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

    /// Sends one answer. The channel is unbounded: the hub limits how many requests are unanswered.
    pub fn send(&self, answer: JournalAnswer) {
        // A gateway that has gone needs no answer.
        let _ = self.to.send(answer);
    }

    /// Reports that the journal has failed for good and will answer nothing more. The gateway stops, and the next one
    /// starts with what is committed.
    pub fn give_up(&self) {
        self.failed.notify_one();
    }

    /// Reports whether the journal works. `Some`: why it cannot be written or read at the moment and what to do about
    /// it, as a sentence that begins with a small letter. `None`: the journal works again.
    pub fn degraded(&self, why: Option<String>) {
        self.degraded.send_replace(why);
    }

    /// What was last reported to [`degraded`](Self::degraded).
    pub fn health(&self) -> watch::Receiver<Option<String>> {
        self.degraded.subscribe()
    }

    /// Notified when the journal has failed for good.
    pub(crate) fn failed(&self) -> Arc<Notify> {
        Arc::clone(&self.failed)
    }
}

/// The log of all events. Requests that the hub makes together are submitted together, so that one commit can carry
/// all of them.
pub trait Journal: Send + 'static {
    /// Takes all requests out of `batch`, in order. The answers may come later, through [`Answers`]. Must not block.
    fn submit(&mut self, batch: &mut Vec<Request>);

    /// The chats in which an earlier gateway left open turns or an agent. The gateway asks once, at its start. It ends
    /// or continues these turns and takes the agents over, even if no client opens their chats.
    fn unfinished(&mut self) -> Vec<ChatKey> {
        Vec::new()
    }
}

/// A journal that is not open yet: it is opened once the gateway knows where its answers go.
pub trait OpenJournal {
    /// The type of the open journal.
    type Journal: Journal;

    /// Opens the journal, which sends its answers to `answers`.
    fn open(self, answers: Answers) -> Self::Journal;
}

/// A journal in memory. Its contents are lost when the process ends.
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
