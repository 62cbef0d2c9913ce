//! The interface to the journal. It is asynchronous for every implementation, so that the rest of the runtime does
//! not depend on where the journal stores its data.

#[cfg(feature = "sqlite")]
mod sqlite;

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use switchboard_core::{
    Input,
    ids::ChatKey,
    journal::{Append, Ask, Grant, JournalAnswer, MemoryJournal, Term},
};
use tokio::sync::{Notify, mpsc, watch};

#[cfg(feature = "sqlite")]
pub use sqlite::{
    BackupReport, CheckReport, DamagedChat, OpenError, OpenErrorReason, OpenReport, OpenSqlite, Salvaged,
    Sqlite, SqliteAccounts, SqliteOptions,
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

    /// Claims a chat for this gateway, which appends nothing to it before. `None`: [`poll_owner`](Self::poll_owner) gives
    /// the answer once the journal has it. Must not block.
    ///
    /// A journal with one gateway grants every chat at once and for ever, as this one does.
    fn claim(&mut self, chat: &ChatKey) -> Option<Grant> {
        let _ = chat;
        Some(Grant::default())
    }

    /// This gateway does not need the chat any more, which it owned under this term. Another gateway may have it. Must
    /// not block.
    fn release(&mut self, chat: &ChatKey, term: Term) {
        let _ = (chat, term);
    }

    /// Waits for the next change of a chat's owner: the answer to a claim, a renewed grant, or a loss. A journal with one
    /// gateway has none.
    fn poll_owner(&mut self, cx: &mut Context<'_>) -> Poll<OwnerChange> {
        let _ = cx;
        Poll::Pending
    }

    /// Waits for the next chat that no gateway owns and that has open turns or an agent: from an earlier gateway process,
    /// or from another gateway whose time is over. The gateway claims the chat, ends or continues its turns and takes its
    /// agent over, even if no client opens it. The gateway takes the next chat when it has few chats in recovery.
    fn poll_unfinished(&mut self, cx: &mut Context<'_>) -> Poll<ChatKey> {
        let _ = cx;
        Poll::Pending
    }
}

/// A change of a chat's owner, from the view of this gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnerChange {
    /// The chat is granted to this gateway, or the grant is renewed. [`Grant::until_ms`] is a time of
    /// [`boot_ms`](crate::boot_ms).
    Owned(ChatKey, Grant),
    /// The chat is granted to another gateway, or not to this one.
    Lost(ChatKey),
}

/// Waits for what the journal reports by itself: changes of owners, and if `recovers` also chats to recover.
pub(crate) fn report(journal: &mut impl Journal, recovers: bool, cx: &mut Context<'_>) -> Poll<Input> {
    match journal.poll_owner(cx) {
        Poll::Ready(OwnerChange::Owned(chat, grant)) => Poll::Ready(Input::Owned { chat, grant }),
        Poll::Ready(OwnerChange::Lost(chat)) => Poll::Ready(Input::Lost { chat }),
        Poll::Pending if recovers => journal.poll_unfinished(cx).map(|chat| Input::Recover { chat }),
        Poll::Pending => Poll::Pending,
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
