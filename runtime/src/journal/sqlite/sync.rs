//! Answers appends. An append that must survive a power loss is answered after a sync of the disk, which runs on a
//! thread of its own.
//!
//! Answers of one chat keep the order of its appends: an append behind one that waits for a sync waits, too. Appends
//! of other chats do not.

use std::{
    collections::VecDeque,
    fs::File,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustc_hash::{FxHashMap, FxHashSet};
use switchboard_core::{
    ids::ChatKey,
    journal::{AppendId, JournalAnswer},
};

use super::{Shared, files::SideFile, locked};

/// The longest time that a sync is delayed for other appends to join it.
const LONGEST_DELAY: Duration = Duration::from_millis(5);

/// The outcome of an append that was not answered yet.
#[derive(Debug)]
pub(super) struct PendingAck {
    pub(super) id: AppendId,
    pub(super) chat: ChatKey,
    /// Whether the append was committed; if not, it is refused.
    pub(super) committed: bool,
    /// Whether the answer must wait until the append is synced to the disk.
    pub(super) synced: bool,
}

/// Outcomes that wait for a sync, or for an earlier append of their chat.
#[derive(Debug, Default)]
pub(super) struct PendingAcks {
    state: Mutex<State>,
    ready: Condvar,
    idle: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<PendingAck>,
    /// The number of waiting appends of each chat, including the ones that the current sync is for.
    behind: FxHashMap<ChatKey, usize>,
    /// A sync failed: the state of the disk is unknown until the journal is reopened.
    failed: bool,
    stopping: bool,
    /// A thread of the journal has panicked: waiting appends are never answered.
    abandoned: bool,
}

impl State {
    fn answer(&mut self, shared: &Shared, verdict: PendingAck) {
        if let Some(waiting) = self.behind.get_mut(&verdict.chat) {
            *waiting -= 1;
            if *waiting == 0 {
                self.behind.remove(&verdict.chat);
            }
        }
        answer(shared, verdict);
    }

    /// Answers the appends that waited only for earlier appends, now answered.
    fn answer_unblocked(&mut self, shared: &Shared) {
        let mut blocked = FxHashSet::default();
        let waiting = std::mem::take(&mut self.waiting);
        for verdict in waiting {
            if (verdict.synced && verdict.committed) || blocked.contains(&verdict.chat) {
                blocked.insert(verdict.chat.clone());
                self.waiting.push_back(verdict);
            } else {
                self.answer(shared, verdict);
            }
        }
    }

    fn refuse(&mut self, shared: &Shared, verdict: PendingAck) {
        if verdict.committed {
            locked(&shared.closed).insert(verdict.chat.clone());
        }
        self.answer(shared, PendingAck { committed: false, ..verdict });
    }
}

fn answer(shared: &Shared, verdict: PendingAck) {
    shared.answers.send(if verdict.committed {
        JournalAnswer::Appended(verdict.id)
    } else {
        JournalAnswer::Refused(verdict.id)
    });
}

impl PendingAcks {
    /// Takes the outcomes of one transaction, and answers the appends that need not wait.
    pub(super) fn settle(&self, shared: &Shared, verdicts: impl IntoIterator<Item = PendingAck>) {
        let mut state = locked(&self.state);
        let mut wake = false;
        for mut verdict in verdicts {
            if state.failed && verdict.committed {
                locked(&shared.closed).insert(verdict.chat.clone());
                verdict.committed = false;
            }
            if (verdict.synced && verdict.committed) || state.behind.contains_key(&verdict.chat) {
                *state.behind.entry(verdict.chat.clone()).or_default() += 1;
                state.waiting.push_back(verdict);
                wake = true;
            } else {
                answer(shared, verdict);
            }
        }
        drop(state);
        if wake {
            self.ready.notify_one();
        }
    }

    /// Syncs commits to the disk until the journal is closed.
    pub(super) fn run(&self, shared: &Shared, wal: &File, side: &SideFile) {
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
                let synced = shared.sync(wal);
                if synced.is_ok()
                    && let Err(error) = side.remember_synced(written)
                {
                    tracing::warn!(%error, "what is on the disk is not remembered");
                }
                took = begun.elapsed();
                state = locked(&self.state);
                expected = state.behind.len();
                if let Err(error) = synced {
                    tracing::error!(%error, "the journal could not be brought to the disk");
                    state.failed = true;
                    shared.work.nudge();
                }
            }
            if state.failed {
                let later = std::mem::take(&mut state.waiting);
                taken.into_iter().chain(later).for_each(|verdict| state.refuse(shared, verdict));
            } else {
                taken.into_iter().for_each(|verdict| state.answer(shared, verdict));
                state.answer_unblocked(shared);
            }
            if state.behind.is_empty() {
                self.idle.notify_all();
            }
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
