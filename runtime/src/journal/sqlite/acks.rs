//! Answers appends. An append that must survive a power loss is answered after a sync of the disk, which runs on a
//! thread of its own.
//!
//! Answers of one chat keep the order of its appends: an append behind one that waits for a sync waits, too. Appends
//! of other chats do not. Changes of accounts are answered in their order as well.

use std::{
    collections::VecDeque,
    io,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustc_hash::{FxHashMap, FxHashSet};
use switchboard_core::{
    ids::ChatKey,
    journal::{AppendId, Conflict, JournalAnswer},
};

use super::{
    account::{self, Changed},
    files::SideFile,
    mutex::locked,
};
use crate::journal::Answers;

/// The longest time that a sync is delayed for other appends to join it.
const LONGEST_DELAY: Duration = Duration::from_millis(5);

/// What became of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Committed,
    /// Not committed, or perhaps not: the next read of the chat says so.
    Refused,
    /// Not committed, because it contradicts what is stored.
    Conflict(Conflict),
}

/// A job that was not answered yet.
#[derive(Debug)]
pub(super) struct PendingAck {
    pub(super) done: Done,
    pub(super) outcome: Outcome,
    /// Whether the answer must wait until the job's commit is synced to the disk.
    pub(super) synced: bool,
}

/// What the writer has carried out.
#[derive(Debug)]
pub(super) enum Done {
    Append(AppendId, ChatKey),
    Account(account::Job, Changed),
}

/// Jobs that are answered in their order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Lane {
    Chat(ChatKey),
    Accounts,
}

impl PendingAck {
    fn lane(&self) -> Lane {
        match &self.done {
            Done::Append(_, chat) => Lane::Chat(chat.clone()),
            Done::Account(..) => Lane::Accounts,
        }
    }

    fn waits_for_sync(&self) -> bool {
        self.synced && self.outcome == Outcome::Committed
    }
}

/// Outcomes that wait for a sync, or for an earlier job of their lane.
#[derive(Debug)]
pub(super) struct PendingAcks {
    answers: Answers,
    state: Mutex<State>,
    /// The thread that syncs waits here for outcomes.
    ready: Condvar,
    /// Notified when no append waits any more.
    idle: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<PendingAck>,
    /// The number of waiting jobs of each lane, including the ones that the current sync is for.
    behind: FxHashMap<Lane, usize>,
    /// A sync failed: the state of the disk is unknown until the journal is reopened.
    failed: bool,
    stopping: bool,
    /// A thread of the journal has panicked: waiting appends are never answered.
    abandoned: bool,
}

impl PendingAcks {
    pub(super) fn new(answers: Answers) -> Self {
        Self { answers, state: Mutex::default(), ready: Condvar::new(), idle: Condvar::new() }
    }

    /// Takes the outcomes of one transaction, and answers the appends that need not wait.
    pub(super) fn add(&self, outcomes: impl IntoIterator<Item = PendingAck>) {
        let mut state = locked(&self.state);
        let mut wake = false;
        for mut pending in outcomes {
            if state.failed && pending.outcome == Outcome::Committed {
                pending.outcome = Outcome::Refused;
            }
            let lane = pending.lane();
            if pending.waits_for_sync() || state.behind.contains_key(&lane) {
                *state.behind.entry(lane).or_default() += 1;
                state.waiting.push_back(pending);
                wake = true;
            } else {
                self.send(pending);
            }
        }
        drop(state);
        if wake {
            self.ready.notify_one();
        }
    }

    /// Syncs commits to the disk with `sync` until the journal is closed. Calls `failed` after a failed sync.
    pub(super) fn run(&self, side: &SideFile, sync: impl Fn() -> io::Result<()>, failed: impl Fn()) {
        let mut state = locked(&self.state);
        // How many chats waited at the end of the last sync, and how long that sync took.
        let (mut expected, mut took) = (0, Duration::ZERO);
        loop {
            while state.waiting.is_empty() {
                if state.stopping {
                    return;
                }
                state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state = self.gather(state, expected, (took / 2).min(LONGEST_DELAY));
            // All of these appends are committed, so one sync serves all of them.
            let taken = std::mem::take(&mut state.waiting);
            if !state.failed {
                drop(state);
                let (begun, written) = (Instant::now(), side.written());
                let synced = sync();
                if synced.is_ok()
                    && let Err(error) = side.record_synced(written)
                {
                    tracing::warn!(%error, "the count of synced commits could not be stored");
                }
                took = begun.elapsed();
                state = locked(&self.state);
                expected = state.behind.len();
                if let Err(error) = synced {
                    tracing::error!(%error, "the journal could not be synced to the disk; the appends that waited for it are refused");
                    state.failed = true;
                    failed();
                }
            }
            if state.failed {
                let later = std::mem::take(&mut state.waiting);
                taken.into_iter().chain(later).for_each(|outcome| self.refuse(&mut state, outcome));
            } else {
                taken.into_iter().for_each(|outcome| self.answer(&mut state, outcome));
                self.answer_unblocked(&mut state);
            }
            if state.behind.is_empty() {
                self.idle.notify_all();
            }
        }
    }

    /// Answers a job that waited.
    fn answer(&self, state: &mut State, outcome: PendingAck) {
        let lane = outcome.lane();
        if let Some(waiting) = state.behind.get_mut(&lane) {
            *waiting -= 1;
            if *waiting == 0 {
                state.behind.remove(&lane);
            }
        }
        self.send(outcome);
    }

    /// Answers the appends that waited only for earlier appends, now answered.
    fn answer_unblocked(&self, state: &mut State) {
        let mut blocked = FxHashSet::default();
        for outcome in std::mem::take(&mut state.waiting) {
            let lane = outcome.lane();
            if outcome.waits_for_sync() || blocked.contains(&lane) {
                blocked.insert(lane);
                state.waiting.push_back(outcome);
            } else {
                self.answer(state, outcome);
            }
        }
    }

    fn refuse(&self, state: &mut State, pending: PendingAck) {
        self.answer(state, PendingAck { outcome: Outcome::Refused, ..pending });
    }

    fn send(&self, PendingAck { done, outcome, .. }: PendingAck) {
        match done {
            Done::Append(id, _) => self.answers.send(match outcome {
                Outcome::Committed => JournalAnswer::Appended(id),
                Outcome::Refused => JournalAnswer::Refused(id),
                Outcome::Conflict(conflict) => JournalAnswer::Conflict(id, conflict),
            }),
            Done::Account(job, changed) if outcome == Outcome::Committed => job.answer(changed),
            Done::Account(refused, _) => drop(refused),
        }
    }

    /// Waits up to `delay` until as many chats are waiting as after the last sync: many chats append again as soon as
    /// they are answered, and one sync for all of them takes less time than two for half of them each. A chat that
    /// appends alone is not delayed.
    fn gather<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        expected: usize,
        delay: Duration,
    ) -> MutexGuard<'a, State> {
        let begun = Instant::now();
        while state.behind.len() < expected && !state.failed && !state.stopping {
            let Some(left) = delay.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) else { break };
            state = self.ready.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }

    pub(super) fn has_failed(&self) -> bool {
        locked(&self.state).failed
    }

    /// Refuses everything until the journal is reopened. Returns when all waiting appends have been refused.
    pub(super) fn fail(&self) {
        locked(&self.state).failed = true;
        self.wait();
    }

    /// Waits until every append has been answered.
    pub(super) fn wait(&self) {
        let mut state = locked(&self.state);
        while !state.behind.is_empty() && !state.abandoned {
            state = self.idle.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Gives up: the state of the disk is unknown, and waiting appends are never answered.
    pub(super) fn abandon(&self) {
        let mut state = locked(&self.state);
        (state.failed, state.abandoned) = (true, true);
        self.idle.notify_all();
        self.ready.notify_all();
    }

    /// Accepts commits again, after the journal was reopened and synced.
    pub(super) fn reopened(&self) {
        locked(&self.state).failed = false;
    }

    /// Ends the thread once no append is waiting.
    pub(super) fn stop(&self) {
        locked(&self.state).stopping = true;
        self.ready.notify_one();
    }
}
