//! The one thread that writes: one transaction for everything that waits.

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
    Shared,
    apply::{self, Known, NotApplied},
    checkpoint,
    compact::{self, Compaction},
    erase::Erasure,
    error::is_unusable,
    files::SideFile,
    locked, open,
    sql::write,
    sync::PendingAck,
    work::Job,
};

/// After a failed attempt to open the database again, the next one waits at least this long.
const HEAL_AGAIN: Duration = Duration::from_millis(250);

/// Of at most this many jobs, those that wait for the disk get a transaction of their own: among more, what another
/// transaction costs is more than what the others gain.
const APART_JOBS: usize = 8;

pub(super) struct Writer {
    shared: Arc<Shared>,
    /// Nothing while the database could not be opened again.
    db: Option<Connection>,
    side: Arc<SideFile>,
    state: open::State,
    known: Known,
    heal_after: Option<Instant>,
    compaction: Compaction,
    erasure: Erasure,
}

/// Why a transaction was rolled back.
enum Failure {
    /// One of its appends contradicts the journal: each is tried on its own.
    OfOne,
    /// The database could not do it.
    OfAll(rusqlite::Error),
    /// What one of its appends needs is damaged, or the disk does not give it: each is tried on its own.
    Unusable(rusqlite::Error),
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, db: Connection, side: Arc<SideFile>, state: open::State) -> Self {
        let compaction = Compaction::new(shared.options.join_after.unwrap_or_default());
        let (known, erasure) = (Known::default(), Erasure::new());
        let mut writer = Self { shared, db: None, side, state, known, heal_after: None, compaction, erasure };
        writer.adopt(db);
        writer
    }

    /// Writes for as long as the journal is open, and closes it.
    pub(super) fn run(mut self) {
        let mut jobs = Vec::new();
        while self.shared.work.take(&mut jobs, self.due()).is_some() {
            self.reopen_database();
            self.shared.health.probe(&self.shared, self.db.as_ref(), self.state.commits);
            self.join(Instant::now());
            let mut later = if self.shared.options.strict { Vec::new() } else { synced_apart(&mut jobs) };
            self.carry_out(&mut jobs);
            if !later.is_empty() {
                // Where there are few cores, whoever was told goes on first.
                thread::yield_now();
                self.carry_out(&mut later);
            }
            self.erase();
        }
        self.finish();
    }

    /// When something is to be done that nobody waits for.
    fn due(&self) -> Option<Instant> {
        let able = self.db.is_some() && !self.shared.verdicts.has_failed();
        let erase = self.erasure.due().filter(|_| able);
        self.join_due().into_iter().chain(erase).chain(self.shared.health.due()).min()
    }

    /// Erases some of what was deleted. Not counted as a commit: the next start would find it again.
    fn erase(&mut self) {
        if self.shared.verdicts.has_failed() {
            return;
        }
        let Some(db) = &self.db else { return };
        if let Err(error) = self.erasure.step(&self.shared, db) {
            self.failed(&error);
        }
        self.shared.log.grown();
    }

    fn join_due(&self) -> Option<Instant> {
        let able = self.shared.options.join_after.is_some()
            && self.db.is_some()
            && !self.shared.verdicts.has_failed();
        self.compaction.due().filter(|_| able)
    }

    /// Joins deltas, as far as that is due. Not counted as a commit: without it nothing would be missing.
    fn join(&mut self, now: Instant) {
        if self.join_due().is_none_or(|due| due > now) {
            return;
        }
        let Some(db) = &self.db else { return };
        let writing = locked(&self.shared.writing);
        let joined = self.compaction.pass(db, now);
        drop(writing);
        if let Err(error) = joined {
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
        self.known.forget();
        self.shared.generation.store(self.state.generation, Ordering::Release);
        self.db = Some(db);
    }

    fn carry_out(&mut self, jobs: &mut Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        self.compaction.worked(Instant::now());
        let mut kept = vec![false; jobs.len()];
        match self.transaction(jobs, &mut kept) {
            Ok(()) => {}
            Err(Failure::OfOne | Failure::Unusable(_)) => {
                for (job, kept) in jobs.iter().zip(&mut kept) {
                    match self.transaction(std::slice::from_ref(job), std::slice::from_mut(kept)) {
                        Ok(()) | Err(Failure::OfOne) => {}
                        Err(Failure::OfAll(error)) => self.failed(&error),
                        Err(Failure::Unusable(error)) => self.unusable(job.chat(), &error),
                    }
                    self.close_unkept(std::slice::from_ref(job), std::slice::from_ref(kept));
                }
            }
            Err(Failure::OfAll(error)) => {
                kept.fill(false);
                self.failed(&error);
                // What only asks may still be answered.
                for (job, kept) in jobs.iter().zip(&mut kept).filter(|(job, _)| matches!(job, Job::Chat(..)))
                {
                    let _ = self.transaction(std::slice::from_ref(job), std::slice::from_mut(kept));
                }
            }
        }
        self.close_unkept(jobs, &kept);
        self.shared.log.grown();
        if jobs.iter().zip(&kept).any(|(job, kept)| *kept && job.deletes()) {
            self.shared.log.purge();
            self.erasure.wake();
        }
        let strict = self.shared.options.strict;
        let verdicts = jobs.iter().zip(&kept).filter_map(|(job, kept)| {
            let (id, chat, durability) = job.append()?;
            let synced = strict || durability == Durability::Synced;
            Some(PendingAck { id, chat: chat.clone(), committed: *kept, synced })
        });
        self.shared.verdicts.settle(&self.shared, verdicts);
        for (job, kept) in jobs.drain(..).zip(kept) {
            if let Job::Chat(ask, _) = job {
                self.pass_on(ask, kept);
            }
        }
    }

    /// Carries out what can be in one transaction, and notes which of it was kept.
    fn transaction(&mut self, jobs: &[Job], kept: &mut [bool]) -> Result<(), Failure> {
        #[cfg(test)]
        assert!(!self.shared.options.disk.writing_panics.load(Ordering::Acquire), "this is the defect");
        let Some(db) = &self.db else { return Ok(()) };
        if self.shared.verdicts.has_failed() {
            return Ok(());
        }
        let _writing = locked(&self.shared.writing);
        let mut state = self.state;
        let mut ended = Vec::new();
        match transact(&self.shared, db, &mut self.known, &mut state, jobs, kept, &mut ended) {
            Ok(false) => {}
            Ok(true) => {
                self.state = state;
                self.shared.health.written(&self.shared);
                ended.into_iter().for_each(|chat| self.compaction.ended(chat));
                if let Err(error) = self.side.remember(state.commits) {
                    tracing::warn!(%error, "the count of commits is not remembered");
                }
            }
            Err(failure) => {
                kept.fill(false);
                self.known.forget();
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

    /// Refuses what comes after a refused append, until the hub has asked where the chat stands.
    fn close_unkept(&self, jobs: &[Job], kept: &[bool]) {
        let mut closed = locked(&self.shared.closed);
        let unkept = jobs.iter().zip(kept).filter(|(_, kept)| !**kept);
        closed.extend(unkept.filter_map(|(job, _)| Some(job.append()?.1.clone())));
    }

    fn failed(&mut self, error: &rusqlite::Error) {
        let full = error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull);
        let busy = error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy);
        tracing::warn!(%error, "the journal could not keep what it was given");
        self.shared.health.failed(&self.shared, error);
        if !full && !busy {
            // What is on the disk is not certain any more.
            self.shared.verdicts.fail();
        }
    }

    /// What an append needs was read in vain twice: the disk gives nothing at all, or the chat is damaged.
    fn unusable(&mut self, chat: &ChatKey, error: &rusqlite::Error) {
        if self.shared.read_disk().is_err() {
            self.failed(error);
            return;
        }
        tracing::error!(chat = chat.chat.as_str(), "an append is refused: what it needs is damaged: {error}");
        locked(&self.shared.damaged).insert(chat.clone());
    }

    /// The state of a chat is read by those who read, once nothing stands in the way.
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

    /// Opens the database again after the disk failed: what is in it then is the truth.
    fn reopen_database(&mut self) {
        if self.db.is_some() && !self.shared.verdicts.has_failed() {
            return;
        }
        if self.heal_after.is_some_and(|after| Instant::now() < after) {
            return;
        }
        self.shared.verdicts.fail();
        self.shared.readers.shut();
        self.shared.checkpoints.shut();
        self.db = None;
        let files = &self.shared.files;
        let durable = files.rewrite_wal().and_then(|()| self.shared.sync(&files.open_wal()?));
        let opened = self.reopen();
        self.shared.readers.open();
        self.shared.checkpoints.open();
        match (durable, opened) {
            (Ok(()), Ok(())) => {
                self.heal_after = None;
                self.shared.verdicts.reopened();
                tracing::info!("the journal was opened again and is in order");
            }
            (durable, opened) => {
                self.heal_after = Some(Instant::now() + HEAL_AGAIN);
                if let Err(error) = durable {
                    tracing::error!(%error, "the journal cannot be brought to the disk; it can be read only");
                    self.shared.health.suffers(&self.shared, false, &error);
                }
                if let Err(error) = opened {
                    tracing::error!(%error, "the journal cannot be opened again");
                    self.shared.health.suffers(&self.shared, false, &error);
                }
            }
        }
    }

    fn reopen(&mut self) -> rusqlite::Result<()> {
        let mut db = open::connect(&self.shared.files)?;
        open::prepare(&db)?;
        let (state, lost) = open::reconcile_again(&mut db, self.state)?;
        self.state = state;
        if lost {
            tracing::error!("commits were lost: chats get new epochs as they are opened");
            if let Err(error) = self.side.remember(state.commits) {
                tracing::warn!(%error, "the count of commits is not remembered");
            }
        }
        self.adopt(db);
        Ok(())
    }

    /// Leaves one file with everything in it.
    fn finish(mut self) {
        self.shared.verdicts.wait();
        self.shared.readers.shut();
        self.shared.checkpoints.shut();
        let Some(db) = self.db.take() else { return };
        if self.shared.verdicts.has_failed() {
            return;
        }
        if let Err(error) = self.close(&db) {
            tracing::warn!(%error, "the journal was not closed in order; its next start makes up for it");
        }
    }

    fn close(&mut self, db: &Connection) -> Result<(), Box<dyn std::error::Error>> {
        self.state.commits += 1;
        db.execute("UPDATE meta SET commits = ?1, clean = 1", [self.state.commits.cast_signed()])?;
        self.shared.sync(&self.shared.files.open_wal()?)?;
        self.side.remember_for_good(self.state.commits)?;
        if !checkpoint::finish(db)? {
            return Err(io::Error::other("another program has it open").into());
        }
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        Ok(())
    }
}

/// Takes out what waits for the disk, and whatever stands behind that in its chat: what is told at once need not wait
/// until the rest is written as well. Nothing of more than [`APART_JOBS`], and nothing if nothing would be left.
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

/// Gives whether there was anything to commit.
fn transact(
    shared: &Shared,
    db: &Connection,
    known: &mut Known,
    state: &mut open::State,
    jobs: &[Job],
    kept: &mut [bool],
    ended: &mut Vec<i64>,
) -> Result<bool, Failure> {
    let sql = |error| Failure::OfAll(error);
    db.prepare_cached("BEGIN IMMEDIATE").and_then(|mut begin| begin.execute([])).map_err(sql)?;
    let (mut any, mut deleted) = (false, false);
    let before = state.commits;
    for (job, kept) in jobs.iter().zip(kept.iter_mut()) {
        #[cfg(test)]
        shared.options.disk.read(Some(job.chat())).map_err(Failure::Unusable)?;
        let done = match job {
            Job::Overflow(..) => continue,
            Job::Append(append) if locked(&shared.closed).contains(&append.chat) => continue,
            Job::Append(append) => apply::append(db, known, state, append).map(|chat| {
                ended.extend(compact::ends_stream(append).then_some(chat));
                deleted |= job.deletes();
                true
            }),
            Job::Chat(_, chat) => reset_epoch(db, known, state.generation, chat),
        };
        match done {
            Ok(changed) => (*kept, any) = (true, any || changed),
            Err(NotApplied::Sql(error)) if is_unusable(&error) => return Err(Failure::Unusable(error)),
            Err(NotApplied::Sql(error)) if !is_of_one(&error) => return Err(Failure::OfAll(error)),
            Err(unkept) => {
                if jobs.len() == 1 {
                    tracing::error!(chat = job.chat().chat.as_str(), "an append is refused: {unkept}");
                }
                return Err(Failure::OfOne);
            }
        }
    }
    // The newest event has the count, unless there is none, or it may be among what was deleted.
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
    known: &mut Known,
    generation: i64,
    chat: &ChatKey,
) -> Result<bool, NotApplied> {
    let epoch = open::new_epoch().map_err(|_| NotApplied::Contradiction("there is no entropy"))?;
    apply::reset_epoch(db, known, generation, chat, &epoch, open::unix_ms())
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
        journal::{Append, AppendId},
    };

    use super::*;

    /// A letter for a chat, large if it waits for the disk.
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
            let letter = chat.chat.as_str().to_owned();
            if durability == Durability::Synced { letter.to_ascii_uppercase() } else { letter }
        };
        jobs.iter().map(letter).collect()
    }

    #[test]
    fn what_waits_for_the_disk_is_written_after_what_does_not() {
        let table = [
            ("", "", ""),
            ("a", "a", ""),
            ("AB", "AB", ""),
            ("aA", "a", "A"),
            ("Aa", "Aa", ""),
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
