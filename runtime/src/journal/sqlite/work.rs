//! The writer's queue, bounded in bytes.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, PoisonError},
    time::Instant,
};

use switchboard_core::{
    ids::ChatKey,
    journal::{Append, AppendId, Ask, Change, Durability},
};

use super::{account, mutex::locked};

/// The size at which a transaction takes no further append, in bytes, so that the first appends need not wait for
/// long.
const TRANSACTION_BYTES: usize = 4 * 1024 * 1024;
/// How many changes of accounts may wait.
const ACCOUNT_JOBS: usize = 1024;
/// How many changes of accounts one transaction takes, so that the appends behind it need not wait for long.
const ACCOUNT_JOBS_AT_ONCE: usize = 64;
/// The memory of an append beside its contents, in bytes.
const APPEND_BYTES: usize = 512;

/// A job for the writer.
#[derive(Debug)]
pub(super) enum Job {
    /// Commit this append.
    Append(Append),
    /// An append that did not fit into the queue. It is refused when its turn comes.
    Overflow(AppendId, ChatKey),
    /// [`Query::Chat`](switchboard_core::journal::Query::Chat) about a chat that the writer must handle first: the
    /// chat needs a new epoch, or the state of the disk is unknown until the database is reopened.
    Chat(Ask, ChatKey),
}

impl Job {
    /// The chat that the job concerns.
    pub(super) fn chat(&self) -> &ChatKey {
        match self {
            Self::Append(append) => &append.chat,
            Self::Overflow(_, chat) | Self::Chat(_, chat) => chat,
        }
    }

    pub(super) fn append(&self) -> Option<(AppendId, &ChatKey, Durability)> {
        match self {
            Self::Append(append) => Some((append.id, &append.chat, append.durability)),
            Self::Overflow(id, chat) => Some((*id, chat, Durability::Written)),
            Self::Chat(..) => None,
        }
    }

    /// Whether the job deletes its chat.
    pub(super) fn deletes(&self) -> bool {
        matches!(self, Self::Append(append) if append.changes.contains(&Change::Deleted))
    }
}

#[derive(Debug)]
pub(super) struct Work {
    state: Mutex<State>,
    ready: Condvar,
    most_bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<(Job, usize)>,
    bytes: usize,
    accounts: VecDeque<account::Job>,
    nudged: bool,
    stopping: bool,
}

impl Work {
    pub(super) fn new(most_bytes: usize) -> Self {
        Self { state: Mutex::default(), ready: Condvar::new(), most_bytes }
    }

    /// Queues jobs.
    pub(super) fn push(&self, jobs: impl IntoIterator<Item = Job>) {
        let mut state = locked(&self.state);
        for job in jobs {
            let bytes = size(&job);
            let full = state.bytes + bytes > self.most_bytes && !state.jobs.is_empty();
            match job {
                Job::Append(append) if full => {
                    state.jobs.push_back((Job::Overflow(append.id, append.chat), 0));
                }
                job @ (Job::Append(_) | Job::Overflow(..) | Job::Chat(..)) => {
                    state.bytes += bytes;
                    state.jobs.push_back((job, bytes));
                }
            }
        }
        drop(state);
        self.ready.notify_one();
    }

    /// Queues a change of an account; refuses it if too many are waiting, or if the journal is closing.
    pub(super) fn push_account(&self, job: account::Job) {
        let mut state = locked(&self.state);
        if state.stopping || state.accounts.len() >= ACCOUNT_JOBS {
            return;
        }
        state.accounts.push_back(job);
        drop(state);
        self.ready.notify_one();
    }

    /// Takes as many changes of accounts as one transaction should have.
    pub(super) fn take_accounts(&self) -> Vec<account::Job> {
        let mut state = locked(&self.state);
        let count = state.accounts.len().min(ACCOUNT_JOBS_AT_ONCE);
        state.accounts.drain(..count).collect()
    }

    /// Waits for jobs, at most until `due`, and takes as many as fit into one transaction; none after a nudge, or if only
    /// changes of accounts are waiting.
    /// `None`: the journal is closing and the queue is empty.
    pub(super) fn take(&self, jobs: &mut Vec<Job>, due: Option<Instant>) -> Option<()> {
        let mut state = locked(&self.state);
        loop {
            let is_waiting = !state.jobs.is_empty() || !state.accounts.is_empty();
            if is_waiting || std::mem::take(&mut state.nudged) {
                break;
            }
            if state.stopping {
                return None;
            }
            let Some(due) = due else {
                state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.ready.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let mut taken = 0;
        while taken < TRANSACTION_BYTES
            && let Some((job, bytes)) = state.jobs.pop_front()
        {
            taken += bytes;
            state.bytes -= bytes;
            jobs.push(job);
        }
        Some(())
    }

    /// Wakes the writer to check the journal's health.
    pub(super) fn nudge(&self) {
        locked(&self.state).nudged = true;
        self.ready.notify_one();
    }

    /// Ends the writer once all jobs are done.
    pub(super) fn stop(&self) {
        locked(&self.state).stopping = true;
        self.ready.notify_one();
    }
}

fn size(job: &Job) -> usize {
    let Job::Append(append) = job else { return APPEND_BYTES };
    let events: usize = append.events.iter().map(|event| event.frame.len()).sum();
    let changes: usize = append.changes.iter().map(weight).sum();
    APPEND_BYTES + events + changes
}

fn weight(change: &Change) -> usize {
    match change {
        Change::TurnAccepted { text, .. } => text.len(),
        Change::AgentPosition { checkpoint, .. } => checkpoint.as_ref().map_or(0, |state| state.len()),
        Change::TurnStarted { .. }
        | Change::CancelRequested { .. }
        | Change::TurnEnded { .. }
        | Change::RequestOpened { .. }
        | Change::RequestClosed { .. }
        | Change::Command { .. }
        | Change::AgentStarted { .. }
        | Change::AgentEnded { .. }
        | Change::AgentTurn { .. }
        | Change::Tasks { .. }
        | Change::OpenWork { .. }
        | Change::Session { .. }
        | Change::Title { .. }
        | Change::Goal { .. }
        | Change::Deleted => 0,
    }
}
