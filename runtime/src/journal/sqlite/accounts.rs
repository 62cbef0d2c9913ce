//! What belongs to principals beside their chats, in tables of the same database.
//!
//! Changes go through the writer's thread, which has the only connection that writes: a second one would wait for its
//! lock, and chats would wait for the second one's. They get transactions of their own after those of the appends, of
//! bounded size, and share the appends' syncs.

use std::{iter, slice, sync::Arc};

use async_trait::async_trait;
use rusqlite::Connection;
use switchboard_core::{
    accounts::{Addition, CompareAndSet, Entry, EntryKey, EntryPage, EntryQuery, Outcome},
    journal::Durability,
};
use tokio::sync::oneshot;

use super::{
    account::{self, Changed, Job, Question},
    acks::{self, Done, PendingAck},
    error::is_unusable,
    files::SideFile,
    meta::JournalState,
    mutex::locked,
    shared::Shared,
    sql::write,
};
use crate::accounts::{Accounts, Unavailable};

/// The accounts of an open [`Sqlite`](super::Sqlite) journal, made by [`OpenSqlite::accounts`](super::OpenSqlite::accounts).
/// Everything is refused once the journal is closed.
#[derive(Debug, Clone)]
pub struct SqliteAccounts {
    shared: Arc<Shared>,
}

impl SqliteAccounts {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Question) -> Result<T, Unavailable> {
        let (to, answer) = oneshot::channel();
        self.shared.questions.push_account(make(to));
        // Dropped unanswered: refused.
        answer.await.map_err(|_| Unavailable)
    }

    async fn change<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Job) -> Result<T, Unavailable> {
        let (to, answer) = oneshot::channel();
        self.shared.work.push_account(make(to));
        answer.await.map_err(|_| Unavailable)
    }
}

#[async_trait]
impl Accounts for SqliteAccounts {
    async fn get(&self, key: EntryKey) -> Result<Option<Entry>, Unavailable> {
        self.ask(|to| Question::Get(key, to)).await
    }

    async fn compare_and_set(&self, change: CompareAndSet) -> Result<Outcome, Unavailable> {
        self.change(|to| Job::Set(change, to)).await
    }

    async fn add(&self, addition: Addition) -> Result<i64, Unavailable> {
        self.change(|to| Job::Add(addition, to)).await
    }

    async fn list(&self, query: EntryQuery) -> Result<EntryPage, Unavailable> {
        self.ask(|to| Question::List(query, to)).await
    }
}

/// Makes changes that wait, as many as one transaction should have. A change that cannot be made is refused, and hinders
/// no other.
///
/// # Errors
/// If the last of the changes could not be made because the disk is full or fails.
pub(super) fn change(
    shared: &Shared,
    db: &Connection,
    state: &mut JournalState,
    side: &SideFile,
) -> rusqlite::Result<()> {
    let jobs = shared.work.take_accounts();
    if jobs.is_empty() || shared.pending_acks.has_failed() {
        return Ok(());
    }
    let writing = locked(&shared.writing);
    let mut made = Ok(());
    match transaction(db, state, side, &jobs) {
        Ok(changed) => acknowledge(shared, jobs.into_iter().zip(changed)),
        Err(error) if jobs.len() == 1 => made = Err(error),
        Err(_) => {
            for job in jobs {
                made = transaction(db, state, side, slice::from_ref(&job))
                    .map(|changed| acknowledge(shared, iter::once(job).zip(changed)));
            }
        }
    }
    drop(writing);
    shared.log.grown();
    match made {
        Err(error) if is_unusable(&error) && shared.read_disk().is_ok() => {
            tracing::error!(%error, "a change is refused: the part of the journal that it needs is damaged");
            Ok(())
        }
        Err(error) => Err(error),
        Ok(()) => {
            shared.health.written();
            Ok(())
        }
    }
}

/// Makes changes in one transaction. If it fails, none of them is made.
fn transaction(
    db: &Connection,
    state: &mut JournalState,
    side: &SideFile,
    jobs: &[Job],
) -> rusqlite::Result<Vec<Changed>> {
    db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let mut after = *state;
    let made = make(db, &mut after, jobs);
    if made.is_err() && !db.is_autocommit() {
        db.execute_batch("ROLLBACK")?;
    }
    let changed = made?;
    if after.commits != state.commits {
        *state = after;
        if let Err(error) = side.record(state.commits) {
            tracing::warn!(%error, "the count of commits could not be stored");
        }
    }
    Ok(changed)
}

/// Makes changes, and commits them.
fn make(db: &Connection, state: &mut JournalState, jobs: &[Job]) -> rusqlite::Result<Vec<Changed>> {
    let before = state.commits;
    let changed: Vec<Changed> =
        jobs.iter().map(|job| account::apply(db, state, job)).collect::<rusqlite::Result<_>>()?;
    if state.commits != before {
        db.prepare_cached(write::COUNT_COMMIT)?.execute([state.commits.cast_signed()])?;
    }
    db.prepare_cached("COMMIT")?.execute([])?;
    Ok(changed)
}

/// Answers changes that are committed, or leaves that to the next sync.
fn acknowledge(shared: &Shared, changed: impl Iterator<Item = (Job, Changed)>) {
    let strict = shared.options.strict;
    shared.pending_acks.add(changed.map(|(job, changed)| {
        let synced = strict || job.durability() == Durability::Synced;
        PendingAck { done: Done::Account(job, changed), outcome: acks::Outcome::Committed, synced }
    }));
}
