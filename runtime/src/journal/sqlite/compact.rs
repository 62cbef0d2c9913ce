//! Compaction: deltas of streams that have ended are merged into records of at most 64 KiB, so that a long answer is
//! a few rows, not thousands. What clients and the hub read does not change.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OptionalExtension as _};
use rustc_hash::FxHashSet;
use switchboard_core::journal::{Append, CompactedDelta, DeltaRun, LogEvent};

use super::{
    column::{event_frame, int, lengths_of},
    error::is_unusable,
    leb128,
    sql::compact,
};

/// How long a due pass waits at most while the writer is busy.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long the writer must be idle before a pass: between two commits in quick succession, appends would wait for
/// the pass.
const QUIET: Duration = Duration::from_millis(25);
/// The most rows of one pass, so that it takes only a few milliseconds of the writer's time.
const PASS_ROWS: i64 = 512;
/// The bytes of frames after which a pass takes no further row.
const PASS_BYTES: usize = 512 * 1024;
/// Records whose frames have at least this many bytes are not merged: they are few, and merging would rewrite them.
const LARGE: i64 = 4096;
/// The most chats that wait for a pass. Further chats are found at the next start.
const WAITING: usize = 16_384;
/// How many chats one pass of the search after a start covers.
const SEARCHED: i64 = 2_000;

/// Whether the append ends a stream or a turn.
pub(super) fn ends_stream(append: &Append) -> bool {
    append.events.iter().any(LogEvent::ends_stream)
}

/// The chats that have deltas to merge.
#[derive(Debug)]
pub(super) struct Compaction {
    /// The delay after the end of a stream, so that running streams are not slowed down.
    rest: Duration,
    waiting: VecDeque<(Instant, i64)>,
    known: FxHashSet<i64>,
    /// After a start, the search has covered chats up to this id; `None`: the search is complete.
    searched: Option<i64>,
    search_at: Instant,
    /// When the writer will have been idle for [`QUIET`], if no further job comes.
    quiet_at: Instant,
}

impl Compaction {
    pub(super) fn new(rest: Duration) -> Self {
        Self {
            rest,
            waiting: VecDeque::new(),
            known: FxHashSet::default(),
            searched: Some(0),
            search_at: Instant::now() + rest,
            quiet_at: Instant::now(),
        }
    }

    /// Records that the writer has done a job.
    pub(super) fn worked(&mut self, now: Instant) {
        self.quiet_at = now + QUIET;
    }

    /// Records that a stream of this chat has ended.
    pub(super) fn ended(&mut self, chat: i64) {
        if self.waiting.len() < WAITING && self.known.insert(chat) {
            self.waiting.push_back((Instant::now() + self.rest, chat));
        }
    }

    /// When a pass is due: when the writer is idle, or after [`PATIENCE`].
    pub(super) fn due(&self) -> Option<Instant> {
        self.earliest().map(|earliest| earliest.max(self.quiet_at.min(earliest + PATIENCE)))
    }

    fn earliest(&self) -> Option<Instant> {
        let search = self.searched.map(|_| self.search_at);
        self.waiting.front().map(|(rested, _)| *rested).into_iter().chain(search).min()
    }

    /// Does one pass, in a transaction of its own. Damaged records are not changed, and not tried again.
    pub(super) fn pass(&mut self, db: &Connection, now: Instant) -> rusqlite::Result<()> {
        match self.try_pass(db, now) {
            Err(error) if is_unusable(&error) => {
                tracing::error!(%error, "deltas cannot be merged: a part of the journal is damaged");
                Ok(())
            }
            done => done,
        }
    }

    fn try_pass(&mut self, db: &Connection, now: Instant) -> rusqlite::Result<()> {
        if let Some((_, chat)) = self.waiting.front().copied().filter(|(due, _)| *due <= now) {
            self.waiting.pop_front();
            self.known.remove(&chat);
            if compact_rows(db, chat)? {
                self.known.insert(chat);
                self.waiting.push_back((now, chat));
            }
        } else if let Some(searched) = self.searched.filter(|_| self.search_at <= now) {
            let found = self.search(db, searched);
            if found.as_ref().is_err_and(is_unusable) {
                self.searched = None;
            }
            found?;
        }
        Ok(())
    }

    /// Finds chats that were not compacted before the last stop.
    fn search(&mut self, db: &Connection, searched: i64) -> rusqlite::Result<()> {
        let last: Option<i64> = db.prepare_cached(compact::LAST_CHAT)?.query_row([], |row| row.get(0))?;
        let until = searched + SEARCHED;
        let mut find = db.prepare_cached(compact::UNCOMPACTED_CHATS)?;
        let found = find.query_map((searched, until), |row| row.get(0))?;
        found.collect::<rusqlite::Result<Vec<i64>>>()?.into_iter().for_each(|chat| self.ended(chat));
        self.searched = last.filter(|last| *last > until).map(|_| until);
        Ok(())
    }
}

/// The present epoch of a chat's log.
struct ChatLog {
    chat: i64,
    epoch_no: i64,
    /// The sequence number of the last event.
    head: i64,
    /// The sequence number up to which the log was compacted.
    compacted_to: i64,
}

impl ChatLog {
    fn find(db: &Connection, chat: i64) -> rusqlite::Result<Option<Self>> {
        db.prepare_cached(compact::POSITION)?
            .query_row([chat], |row| {
                Ok(Self { chat, epoch_no: row.get(0)?, head: row.get(1)?, compacted_to: row.get(2)? })
            })
            .optional()
    }
}

/// Merges the rows of one pass. Returns whether the chat has more rows.
fn compact_rows(db: &Connection, chat: i64) -> rusqlite::Result<bool> {
    // Without a log, the chat was deleted meanwhile.
    let Some(log) = ChatLog::find(db, chat)? else { return Ok(false) };
    let (rows, more) = read(db, &log)?;
    let runs = runs(&rows);
    let mut done = log.head;
    let mut runs = runs.into_iter().peekable();
    let change = db.unchecked_transaction()?;
    while let Some(run) = runs.next() {
        // The last run may continue in the next pass, unless it is the only run.
        let last = runs.peek().is_none();
        if more && last && run.records < rows.len() {
            done = int(run.first_seq) - 1;
            break;
        }
        if let Some(merged) = run.merged {
            write(&change, &log, &merged)?;
        }
        if more && last {
            done = int(run.seq);
        }
    }
    change.prepare_cached(compact::MOVE_COMPACTED)?.execute((chat, log.epoch_no, done))?;
    change.commit()?;
    Ok(more)
}

struct Row {
    first_seq: u64,
    seq: u64,
    /// The record; `None` if its frame is large.
    small: Option<(LogEvent, Option<Vec<u32>>)>,
}

/// Reads the rows of one pass, and returns whether there may be more.
fn read(db: &Connection, log: &ChatLog) -> rusqlite::Result<(Vec<Row>, bool)> {
    let mut find = db.prepare_cached(compact::ROWS)?;
    let mut found = find.query((log.chat, log.epoch_no, log.compacted_to, PASS_ROWS, LARGE))?;
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while let Some(row) = found.next()? {
        let (first_seq, seq): (i64, i64) = (row.get(0)?, row.get(1)?);
        let (first_seq, seq) = (first_seq.unsigned_abs(), seq.unsigned_abs());
        let small = if row.get(2)? {
            None
        } else {
            let frame = event_frame(row, 3)?;
            bytes += frame.len();
            Some((LogEvent { first_seq, seq, frame }, lengths_of(row, 5)?))
        };
        rows.push(Row { first_seq, seq, small });
        if bytes >= PASS_BYTES {
            return Ok((rows, true));
        }
    }
    let more = i64::try_from(rows.len()).is_ok_and(|rows| rows >= PASS_ROWS);
    Ok((rows, more))
}

/// Rows that are merged into one, or a single row.
struct Run {
    first_seq: u64,
    seq: u64,
    records: usize,
    /// The merged record, if there are several rows.
    merged: Option<CompactedDelta>,
}

fn runs(rows: &[Row]) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut at = 0;
    while let Some(row) = rows.get(at) {
        let begun =
            row.small.as_ref().and_then(|(event, lengths)| DeltaRun::begin(event, lengths.as_deref()));
        let Some(mut run) = begun else {
            runs.push(Run { first_seq: row.first_seq, seq: row.seq, records: 1, merged: None });
            at += 1;
            continue;
        };
        let following = rows[at + 1..].iter().map_while(|row| row.small.as_ref());
        at += 1 + following.take_while(|(event, lengths)| run.takes(event, lengths.as_deref())).count();
        let (records, merged) = (run.records(), run.finish());
        let (first_seq, seq) = (merged.event.first_seq, merged.event.seq);
        runs.push(Run { first_seq, seq, records, merged: (records > 1).then_some(merged) });
    }
    runs
}

fn write(db: &Connection, log: &ChatLog, merged: &CompactedDelta) -> rusqlite::Result<()> {
    let &ChatLog { chat, epoch_no, .. } = log;
    let LogEvent { first_seq, seq, frame } = &merged.event;
    let (first_seq, seq) = (int(*first_seq), int(*seq));
    db.prepare_cached(compact::DROP_ROWS)?.execute((chat, epoch_no, first_seq, seq))?;
    let sum = crc32fast::hash(frame.bytes());
    let row = (chat, epoch_no, seq, first_seq, sum, frame.as_str(), leb128::encode(&merged.lengths));
    db.prepare_cached(compact::MERGE_ROW)?.execute(row)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_waits_for_a_quiet_moment_and_not_for_ever() {
        let mut compaction = Compaction::new(Duration::from_secs(1));
        compaction.searched = None;
        compaction.worked(Instant::now());
        assert_eq!(compaction.due(), None, "there is nothing to merge");
        compaction.ended(7);
        let rested = compaction.earliest().expect("a chat waits");
        assert_eq!(compaction.due(), Some(rested), "it has been quiet by then");
        compaction.worked(rested);
        assert_eq!(compaction.due(), Some(rested + QUIET));
        compaction.worked(rested + PATIENCE);
        assert_eq!(compaction.due(), Some(rested + PATIENCE));
    }
}
