//! Answering: what must survive a loss of power waits for the disk here, off the writer's thread.
//!
//! Within a chat nothing overtakes: what comes behind an append that waits for the disk waits with it. Other
//! chats do not.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustc_hash::{FxHashMap, FxHashSet};
use switchboard_core::{
    ids::ChatKey,
    journal::{AppendId, JournalAnswer},
};

use super::{Shared, files::SideFile, locked};

/// A sync waits at most this long for others to come along.
const LONGEST_DELAY: Duration = Duration::from_millis(5);

/// What became of an append.
#[derive(Debug)]
pub(super) struct PendingAck {
    pub(super) id: AppendId,
    pub(super) chat: ChatKey,
    /// It was committed.
    pub(super) committed: bool,
    /// It is answered once it is on the disk.
    pub(super) synced: bool,
}

/// PendingAcks that cannot be told yet.
#[derive(Debug, Default)]
pub(super) struct PendingAcks {
    state: Mutex<State>,
    ready: Condvar,
    idle: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<PendingAck>,
    /// How many of each chat wait, those included that the disk is being asked for.
    behind: FxHashMap<ChatKey, usize>,
    /// The disk failed: nothing is certain until the journal was opened again.
    failed: bool,
    stopping: bool,
    /// A thread of the journal has panicked: what waits is told nothing.
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

    /// Tells what waited only for those that have been told.
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
    /// Takes the verdicts of one transaction: those that can be told are told.
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

    /// Brings commits to the disk for as long as the journal is open.
    pub(super) fn run(&self, shared: &Shared, wal: &File, side: &SideFile) {
        let mut state = locked(&self.state);
        // Chats that lately waited for the disk, and how long it took.
        let (mut expected, mut took) = (0, Duration::ZERO);
        loop {
            while state.waiting.is_empty() {
                if state.stopping {
                    return;
                }
                state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state = self.gather(state, expected, (took / 2).min(LONGEST_DELAY));
            // All of these are committed, so one sync is for all of them.
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

    /// Waits a little for those who come back as soon as they are answered: one sync for all of them is done
    /// sooner than two for half of them each. Whoever is alone waits for nobody.
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

    /// Nothing is certain until the journal was opened again. Returns when everything that waited has been
    /// refused.
    pub(super) fn fail(&self) {
        locked(&self.state).failed = true;
        self.wait();
    }

    /// Waits until everything has been told.
    pub(super) fn wait(&self) {
        let mut state = locked(&self.state);
        while !state.behind.is_empty() && !state.abandoned {
            state = self.idle.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Nothing is certain, and nobody will answer what waits.
    pub(super) fn abandon(&self) {
        let mut state = locked(&self.state);
        (state.failed, state.abandoned) = (true, true);
        self.idle.notify_all();
        self.ready.notify_all();
    }

    /// The journal was opened again and everything in it is on the disk.
    pub(super) fn reopened(&self) {
        locked(&self.state).failed = false;
    }

    /// Lets the thread end once nothing waits.
    pub(super) fn stop(&self) {
        locked(&self.state).stopping = true;
        self.ready.notify_one();
    }
}

/// Brings what was written of a file to the disk.
pub(super) fn to_disk(file: &File) -> io::Result<()> {
    Ok(rustix::fs::fdatasync(file)?)
}
