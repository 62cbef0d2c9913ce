//! The only thread that writes: one transaction for all waiting jobs.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, config::DbConfig};
use switchboard_core::{
    ids::ChatKey,
    journal::{Ask, Durability, JournalAnswer},
};

use super::{
    accounts,
    acks::{Done, Outcome, PendingAck},
    apply::{self, ChatRows, NotApplied},
    checkpoint,
    compact::{self, Compaction},
    connect::{connect, prepare},
    erase::Erasure,
    error::is_unusable,
    files::SideFile,
    meta::{self, JournalState},
    mutex::locked,
    probe::probe,
    shared::Shared,
    sql::write,
    work::Job,
};

/// The shortest time between two attempts to reopen the database.
const REOPEN_EVERY: Duration = Duration::from_millis(250);

/// If at most this many jobs wait, the ones that need a sync get a transaction of their own. With more jobs, a second
/// transaction costs more than the others gain.
const APART_JOBS: usize = 8;

pub(super) struct Writer {
    shared: Arc<Shared>,
    /// `None` while the database cannot be reopened.
    db: Option<Connection>,
    side: Arc<SideFile>,
    state: JournalState,
    chat_rows: ChatRows,
    reopen_after: Option<Instant>,
    compaction: Compaction,
    erasure: Erasure,
}

/// Why a transaction was rolled back.
enum Failure {
    /// SQLite refuses the rows of one of its appends: each append is tried on its own.
    OfOne,
    /// The database failed.
    OfAll(rusqlite::Error),
    /// Rows that one of its appends needs are damaged or cannot be read: each append is tried on its own.
    Unusable(rusqlite::Error),
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, db: Connection, side: Arc<SideFile>, state: JournalState) -> Self {
        let compaction = Compaction::new(shared.options.compact_after.unwrap_or_default());
        let (chat_rows, erasure) = (ChatRows::default(), Erasure::new());
        let mut writer =
            Self { shared, db: None, side, state, chat_rows, reopen_after: None, compaction, erasure };
        writer.adopt(db);
        writer
    }

    /// Writes until the journal is to be closed, then closes it.
    pub(super) fn run(mut self) {
        let mut jobs = Vec::new();
        while self.shared.work.take(&mut jobs, self.due()).is_some() {
            self.reopen_database();
            probe(&self.shared, self.db.as_ref(), self.state.commits);
            self.compact(Instant::now());
            let mut later = if self.shared.options.strict { Vec::new() } else { synced_apart(&mut jobs) };
            self.carry_out(&mut jobs);
            if !later.is_empty() {
                // On a machine with few cores, lets the receivers of the first answers run first.
                thread::yield_now();
                self.carry_out(&mut later);
            }
            self.change_accounts();
            self.erase();
        }
        self.finish();
    }

    /// When work is due for which no request is waiting.
    fn due(&self) -> Option<Instant> {
        let able = self.db.is_some() && !self.shared.pending_acks.has_failed();
        let erase = self.erasure.due().filter(|_| able);
        self.compaction_due().into_iter().chain(erase).chain(self.shared.health.due()).min()
    }

    /// Erases some rows of deleted chats. Not counted as a commit: if a step is lost, the next start repeats it.
    fn erase(&mut self) {
        if self.shared.pending_acks.has_failed() {
            return;
        }
        let Some(db) = &self.db else { return };
        if let Err(error) = self.erasure.step(&self.shared, db) {
            self.failed(&error);
        }
        self.shared.log.grown();
    }

    fn compaction_due(&self) -> Option<Instant> {
        let able = self.shared.options.compact_after.is_some()
            && self.db.is_some()
            && !self.shared.pending_acks.has_failed();
        self.compaction.due().filter(|_| able)
    }

    /// Does a pass of compaction, if one is due. Not counted as a commit: no event is lost with it.
    fn compact(&mut self, now: Instant) {
        if self.compaction_due().is_none_or(|due| due > now) {
            return;
        }
        let Some(db) = &self.db else { return };
        let writing = locked(&self.shared.writing);
        let compacted = self.compaction.pass(db, now);
        drop(writing);
        if let Err(error) = compacted {
            self.failed(&error);
        }
        self.shared.log.grown();
    }

    fn adopt(&mut self, mut db: Connection) {
        let pages = self.shared.log.pages();
        let hook = move |_: &mut rusqlite::hooks::Wal, logged: i32| {
            pages.store(u32::try_from(logged).unwrap_or(0), Ordering::Release);
            Ok(())
        };
        if let Err(error) = db.wal_hook(Some(hook)) {
            tracing::warn!(%error, "the size of the journal's log is not known");
        }
        self.chat_rows.forget();
        self.shared.generation.store(self.state.generation, Ordering::Release);
        self.db = Some(db);
    }

    fn carry_out(&mut self, jobs: &mut Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        self.compaction.worked(Instant::now());
        let mut outcomes = vec![Outcome::Refused; jobs.len()];
        match self.transaction(jobs, &mut outcomes) {
            Ok(()) => {}
            Err(Failure::OfOne | Failure::Unusable(_)) => {
                for (job, outcome) in jobs.iter().zip(&mut outcomes) {
                    match self.transaction(std::slice::from_ref(job), std::slice::from_mut(outcome)) {
                        Ok(()) | Err(Failure::OfOne) => {}
                        Err(Failure::OfAll(error)) => self.failed(&error),
                        Err(Failure::Unusable(error)) => self.unusable(job.chat(), &error),
                    }
                }
            }
            Err(Failure::OfAll(error)) => {
                self.failed(&error);
                // Questions may still be answered.
                for (job, outcome) in
                    jobs.iter().zip(&mut outcomes).filter(|(job, _)| matches!(job, Job::Chat(..)))
                {
                    let _ = self.transaction(std::slice::from_ref(job), std::slice::from_mut(outcome));
                }
            }
        }
        self.shared.log.grown();
        let committed = |outcome: &Outcome| *outcome == Outcome::Committed;
        if jobs.iter().zip(&outcomes).any(|(job, outcome)| committed(outcome) && job.deletes()) {
            self.shared.log.purge();
            self.erasure.wake();
        }
        let strict = self.shared.options.strict;
        let acks = jobs.iter().zip(&outcomes).filter_map(|(job, outcome)| {
            let (id, chat, durability) = job.append()?;
            let synced = strict || durability == Durability::Synced;
            Some(PendingAck { done: Done::Append(id, chat.clone()), outcome: *outcome, synced })
        });
        self.shared.pending_acks.add(acks);
        for (job, outcome) in jobs.drain(..).zip(outcomes) {
            if let Job::Chat(ask, _) = job {
                self.pass_on(ask, committed(&outcome));
            }
        }
    }

    fn change_accounts(&mut self) {
        let Some(db) = &self.db else { return };
        if let Err(error) = accounts::change(&self.shared, db, &mut self.state, &self.side) {
            self.failed(&error);
        }
    }

    /// Applies jobs in one transaction, and notes what becomes of each.
    fn transaction(&mut self, jobs: &[Job], outcomes: &mut [Outcome]) -> Result<(), Failure> {
        let Some(db) = &self.db else { return Ok(()) };
        if self.shared.pending_acks.has_failed() {
            return Ok(());
        }
        let _writing = locked(&self.shared.writing);
        let mut state = self.state;
        let mut ended = Vec::new();
        match transact(&self.shared, db, &mut self.chat_rows, &mut state, jobs, outcomes, &mut ended) {
            Ok(false) => {}
            Ok(true) => {
                self.state = state;
                self.shared.health.written();
                ended.into_iter().for_each(|chat| self.compaction.ended(chat));
                if let Err(error) = self.side.record(state.commits) {
                    tracing::warn!(%error, "the count of commits could not be stored");
                }
            }
            Err(failure) => {
                outcomes.fill(Outcome::Refused);
                self.chat_rows.forget();
                if !db.is_autocommit()
                    && let Err(error) = db.execute_batch("ROLLBACK")
                {
                    return Err(Failure::OfAll(error));
                }
                return Err(failure);
            }
        }
        Ok(())
    }

    fn failed(&mut self, error: &rusqlite::Error) {
        let full = error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull);
        let busy = error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy);
        tracing::warn!(%error, "the journal could not commit its appends, and refuses them");
        self.shared.health.failed(error);
        if !full && !busy {
            // The state of the disk is unknown now.
            self.shared.pending_acks.fail();
        }
    }

    /// Handles rows that could not be read twice: either nothing can be read from the disk, or the chat is damaged.
    fn unusable(&mut self, chat: &ChatKey, error: &rusqlite::Error) {
        if self.shared.read_disk().is_err() {
            self.failed(error);
            return;
        }
        tracing::error!(chat = chat.chat.as_str(), "an append is refused: what it needs is damaged: {error}");
        locked(&self.shared.damaged).insert(chat.clone());
    }

    /// Passes a question about a chat to the readers, once the writer has handled the chat.
    fn pass_on(&self, ask: Ask, renewed: bool) {
        if ask.query.chat().is_some_and(|chat| locked(&self.shared.damaged).contains(chat)) {
            self.shared.answers.send(JournalAnswer::Damaged(ask.id));
            return;
        }
        let refused = if renewed { self.shared.questions.push(ask, true).err() } else { Some(ask) };
        if let Some(ask) = refused {
            self.shared.answers.send(JournalAnswer::Failed(ask.id));
        }
    }

    /// Reopens the database after the disk failed, and takes its contents as the new state.
    fn reopen_database(&mut self) {
        if self.db.is_some() && !self.shared.pending_acks.has_failed() {
            return;
        }
        if self.reopen_after.is_some_and(|after| Instant::now() < after) {
            return;
        }
        self.shared.pending_acks.fail();
        self.shared.readers.close();
        self.shared.checkpoints.close();
        self.db = None;
        let files = &self.shared.files;
        let durable = files.rewrite_wal().and_then(|()| self.shared.sync(&files.open_wal()?));
        let opened = self.reopen();
        self.shared.readers.reopen();
        self.shared.checkpoints.reopen();
        match (durable, opened) {
            (Ok(()), Ok(())) => {
                self.reopen_after = None;
                self.shared.pending_acks.reopened();
                tracing::info!("the journal was opened again and is in order");
            }
            (durable, opened) => {
                self.reopen_after = Some(Instant::now() + REOPEN_EVERY);
                if let Err(error) = durable {
                    tracing::error!(%error, "the journal cannot be synced to the disk, and can only be read until it is");
                    self.shared.health.write_failed(false, &error);
                }
                if let Err(error) = opened {
                    tracing::error!(%error, "the journal cannot be opened again");
                    self.shared.health.write_failed(false, &error);
                }
            }
        }
    }

    fn reopen(&mut self) -> rusqlite::Result<()> {
        let mut db = connect(&self.shared.files)?;
        prepare(&db)?;
        let (state, lost) = meta::reconcile_again(&mut db, self.state)?;
        self.state = state;
        if lost {
            tracing::error!("commits were lost: chats get new epochs as they are opened");
            if let Err(error) = self.side.record(state.commits) {
                tracing::warn!(%error, "the count of commits could not be stored");
            }
        }
        self.adopt(db);
        Ok(())
    }

    /// Closes the journal, with all data in the database file.
    fn finish(mut self) {
        self.shared.pending_acks.wait();
        self.shared.readers.close();
        self.shared.checkpoints.close();
        let Some(db) = self.db.take() else { return };
        if self.shared.pending_acks.has_failed() {
            return;
        }
        if let Err(error) = self.close(&db) {
            tracing::warn!(%error, "the journal was not closed in order; its next start reads the write-ahead log again");
        }
    }

    fn close(&mut self, db: &Connection) -> Result<(), Box<dyn std::error::Error>> {
        self.state.commits += 1;
        db.execute("UPDATE meta SET commits = ?1, clean = 1", [self.state.commits.cast_signed()])?;
        self.shared.sync(&self.shared.files.open_wal()?)?;
        self.side.record_durably(self.state.commits)?;
        if !checkpoint::finish(db)? {
            return Err(io::Error::other("another program has it open").into());
        }
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        Ok(())
    }
}

/// Takes out the jobs that need a sync and the later jobs of their chats, so that the other jobs are answered before
/// these are written. Takes none if there are more than [`APART_JOBS`] jobs, or if none would be left.
fn synced_apart(jobs: &mut Vec<Job>) -> Vec<Job> {
    let is_synced =
        |job: &Job| job.append().is_some_and(|(_, _, durability)| durability == Durability::Synced);
    if jobs.len() > APART_JOBS || jobs.iter().all(is_synced) {
        return Vec::new();
    }
    let mut behind: Vec<ChatKey> = Vec::new();
    let apart = |job: &mut Job| {
        let chat = job.chat();
        let apart = is_synced(job) || behind.contains(chat);
        if apart && !behind.contains(chat) {
            behind.push(chat.clone());
        }
        apart
    };
    let apart: Vec<Job> = jobs.extract_if(.., apart).collect();
    if jobs.is_empty() { std::mem::replace(jobs, apart) } else { apart }
}

/// Runs one transaction. Returns whether there was anything to commit.
fn transact(
    shared: &Shared,
    db: &Connection,
    chat_rows: &mut ChatRows,
    state: &mut JournalState,
    jobs: &[Job],
    outcomes: &mut [Outcome],
    ended: &mut Vec<i64>,
) -> Result<bool, Failure> {
    let sql = |error| Failure::OfAll(error);
    db.prepare_cached("BEGIN IMMEDIATE").and_then(|mut begin| begin.execute([])).map_err(sql)?;
    let (mut any, mut deleted) = (false, false);
    let before = state.commits;
    for (job, outcome) in jobs.iter().zip(outcomes.iter_mut()) {
        shared.disk.before_append(job.chat()).map_err(Failure::Unusable)?;
        let done = match job {
            Job::Overflow(..) => continue,
            Job::Append(append) => apply::append(db, chat_rows, state, append).map(|chat| {
                ended.extend(compact::ends_stream(append).then_some(chat));
                deleted |= job.deletes();
                true
            }),
            Job::Chat(_, chat) => reset_epoch(db, chat_rows, state.generation, chat),
        };
        match done {
            Ok(changed) => (*outcome, any) = (Outcome::Committed, any || changed),
            // Nothing of it was written.
            Err(NotApplied::Stale) => {}
            Err(NotApplied::Conflict(conflict)) => *outcome = Outcome::Conflict(conflict),
            Err(NotApplied::Sql(error)) if is_unusable(&error) => return Err(Failure::Unusable(error)),
            Err(NotApplied::Sql(error)) if !is_of_one(&error) => return Err(Failure::OfAll(error)),
            Err(NotApplied::Sql(error)) => {
                if jobs.len() == 1 {
                    tracing::error!(chat = job.chat().chat.as_str(), %error, "an append is refused");
                }
                return Err(Failure::OfOne);
            }
        }
    }
    // The newest event's id is the count, unless there is no event, or it may have been deleted.
    if any && (deleted || state.commits == before) {
        state.commits += 1;
        db.prepare_cached(write::COUNT_COMMIT)
            .and_then(|mut count| count.execute([state.commits.cast_signed()]))
            .map_err(sql)?;
    }
    db.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([])).map_err(sql)?;
    Ok(any)
}

fn reset_epoch(
    db: &Connection,
    chat_rows: &mut ChatRows,
    generation: i64,
    chat: &ChatKey,
) -> Result<bool, NotApplied> {
    // Without entropy for an epoch's name, the question fails.
    let Ok(epoch) = meta::new_epoch() else { return Err(NotApplied::Stale) };
    Ok(apply::reset_epoch(db, chat_rows, generation, chat, &epoch, meta::unix_ms())?)
}

fn is_of_one(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            rusqlite::ErrorCode::ConstraintViolation
                | rusqlite::ErrorCode::TypeMismatch
                | rusqlite::ErrorCode::TooBig
        )
    )
}

#[cfg(test)]
mod tests {
    use switchboard_core::{
        ids::{ChatId, Principal},
        journal::{Append, AppendId, Term, Version},
    };

    use super::*;

    /// One letter per job: the chat's name, upper case if the job needs a sync.
    fn jobs(said: &str) -> Vec<Job> {
        let job = |(id, letter): (u64, char)| {
            let chat_id = ChatId::parse(&letter.to_ascii_lowercase().to_string()).expect("an id");
            let durability =
                if letter.is_ascii_uppercase() { Durability::Synced } else { Durability::Written };
            let chat = ChatKey { principal: Principal::owner(), chat: chat_id };
            let (events, changes) = (Vec::new(), Vec::new());
            Job::Append(Append {
                id: AppendId(id),
                chat,
                term: Term::default(),
                expect: Version(0),
                durability,
                create: None,
                events,
                changes,
                at_ms: 1,
            })
        };
        (0..).zip(said.chars()).map(job).collect()
    }

    fn said(jobs: &[Job]) -> String {
        let letter = |job: &Job| {
            let (_, chat, durability) = job.append().expect("an append");
            let letter = chat.chat.as_str();
            if durability == Durability::Synced { letter.to_ascii_uppercase() } else { letter.to_owned() }
        };
        jobs.iter().map(letter).collect()
    }

    #[test]
    fn what_waits_for_the_disk_is_written_after_what_does_not() {
        let table = [
            ("", "", ""),
            ("AB", "AB", ""),
            ("aA", "a", "A"),
            ("Aab", "b", "Aa"),
            ("abAaBb", "ab", "AaBb"),
            ("aAaAbcB", "abc", "AaAB"),
            ("aaaaaaaaA", "aaaaaaaaA", ""),
        ];
        for (all, first, then) in table {
            let mut jobs = jobs(all);
            let later = synced_apart(&mut jobs);
            assert_eq!((said(&jobs).as_str(), said(&later).as_str()), (first, then), "{all}");
        }
    }
}
