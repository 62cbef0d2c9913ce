//! Questions about accounts, and their changes, on the database.

use rusqlite::{Connection, OptionalExtension as _, Row};
use switchboard_core::{
    accounts::{
        Addition, CompareAndSet, Entry, EntryKey, EntryName, EntryPage, EntryQuery, EntryValue, EntryVersion,
        KEPT_WINDOWS, Outcome,
    },
    journal::Durability,
};
use tokio::sync::oneshot;

use super::{
    column::{damaged, id, int, unsigned},
    meta::JournalState,
    sql::account,
};

/// A question, and where its answer goes. Dropping it refuses it.
#[derive(Debug)]
pub(super) enum Question {
    Get(EntryKey, oneshot::Sender<Option<Entry>>),
    List(EntryQuery, oneshot::Sender<EntryPage>),
}

/// A change, and where its answer goes. Dropping it refuses it.
#[derive(Debug)]
pub(super) enum Job {
    Set(CompareAndSet, oneshot::Sender<Outcome>),
    Add(Addition, oneshot::Sender<i64>),
}

/// The result of a change in a transaction that is not committed yet.
#[derive(Debug, Clone, Copy)]
pub(super) enum Changed {
    Set(Outcome),
    Total(i64),
}

impl Job {
    pub(super) fn durability(&self) -> Durability {
        match self {
            Self::Set(change, _) => change.durability,
            Self::Add(addition, _) => addition.durability,
        }
    }

    /// Answers the change, once its result is as durable as it has to be. A caller that has gone needs no answer.
    pub(super) fn answer(self, changed: Changed) {
        match (self, changed) {
            (Self::Set(_, to), Changed::Set(outcome)) => drop(to.send(outcome)),
            (Self::Add(_, to), Changed::Total(total)) => drop(to.send(total)),
            (Self::Set(..), Changed::Total(_)) | (Self::Add(..), Changed::Set(_)) => {
                unreachable!("each change has a result of its kind")
            }
        }
    }
}

/// Makes a change within a transaction. If it writes anything, the commit count grows by one.
pub(super) fn apply(db: &Connection, state: &mut JournalState, job: &Job) -> rusqlite::Result<Changed> {
    match job {
        Job::Set(change, _) => set(db, state, change).map(Changed::Set),
        Job::Add(addition, _) => add(db, state, addition).map(Changed::Total),
    }
}

fn set(db: &Connection, state: &mut JournalState, change: &CompareAndSet) -> rusqlite::Result<Outcome> {
    let CompareAndSet { key, expect, value, .. } = change;
    let named = (key.space.as_str(), key.owner.as_str(), key.name.as_str());
    let version = |row: &Row<'_>| unsigned(row, 0).map(EntryVersion);
    let stored = db.prepare_cached(account::VERSION)?.query_row(named, version).optional()?;
    if stored != *expect {
        return Ok(Outcome::Conflict(stored));
    }
    let Some(value) = value else {
        if stored.is_some() {
            state.commits += 1;
            db.prepare_cached(account::REMOVE)?.execute(named)?;
        }
        return Ok(Outcome::Removed);
    };
    state.commits += 1;
    let (space, owner, name) = named;
    db.prepare_cached(account::SET)?.execute((space, owner, name, int(state.commits), &value.bytes()[..]))?;
    Ok(Outcome::Stored(EntryVersion(state.commits)))
}

fn add(db: &Connection, state: &mut JournalState, addition: &Addition) -> rusqlite::Result<i64> {
    let Addition { counter, window, amount, .. } = addition;
    let key = (counter.owner.as_str(), counter.name.as_str(), window.period().as_str(), window.as_str());
    let stored: Option<i64> =
        db.prepare_cached(account::TOTAL)?.query_row(key, |row| row.get(0)).optional()?;
    let total = stored.unwrap_or(0).saturating_add(*amount);
    if *amount == 0 {
        return Ok(total);
    }
    state.commits += 1;
    let (owner, name, period, window) = key;
    db.prepare_cached(account::SET_TOTAL)?.execute((owner, name, period, window, total))?;
    if stored.is_none() {
        let earlier_ones = int(KEPT_WINDOWS as u64 - 1);
        db.prepare_cached(account::FORGET_WINDOWS)?.execute((owner, name, period, window, earlier_ones))?;
    }
    Ok(total)
}

/// Answers a question.
pub(super) fn answer(db: &Connection, question: Question) -> rusqlite::Result<()> {
    match question {
        Question::Get(key, to) => drop(to.send(get(db, &key)?)),
        Question::List(query, to) => drop(to.send(list(db, &query)?)),
    }
    Ok(())
}

fn get(db: &Connection, key: &EntryKey) -> rusqlite::Result<Option<Entry>> {
    let named = (key.space.as_str(), key.owner.as_str(), key.name.as_str());
    db.prepare_cached(account::GET)?.query_row(named, |row| entry(row, 0)).optional()
}

fn list(db: &Connection, query: &EntryQuery) -> rusqlite::Result<EntryPage> {
    let prefix = query.prefix.as_str();
    let (statement, begin) = match &query.after {
        Some(after) if after.as_str() >= prefix => (account::LIST_AFTER, after.as_str()),
        Some(_) | None => (account::LIST_FROM, prefix),
    };
    let mut find = db.prepare_cached(statement)?;
    let found = find.query_map((query.space.as_str(), query.owner.as_str(), begin), |row| {
        Ok((id(row, 2, EntryName::parse)?, entry(row, 0)?))
    })?;
    EntryPage::collect(query, found)
}

/// An entry of which `column` has the version and the next column the value.
fn entry(row: &Row<'_>, column: usize) -> rusqlite::Result<Entry> {
    let version = EntryVersion(unsigned(row, column)?);
    let value: Vec<u8> = row.get(column + 1)?;
    Ok(Entry { version, value: EntryValue::new(value).ok_or_else(|| damaged(column + 1))? })
}
