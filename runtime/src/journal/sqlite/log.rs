//! How long the write-ahead log is, and what is to be done about it.

use std::sync::{
    Arc, Condvar, Mutex, PoisonError,
    atomic::{AtomicU32, Ordering},
};

use super::mutex::locked;

/// How many pages, of 4 KiB, the log has when a checkpoint is due: 16 MiB. Each checkpoint syncs the log and the
/// database, which delays appends that wait for a sync.
const MOVE_PAGES: u32 = 4_000;

/// How many pages the log's file is lengthened by at a time (1 MiB), when half of the last addition is used. A sync
/// of a file that has grown also waits for the file system's own journal, which takes half as long again.
pub(super) const AHEAD_PAGES: u32 = 256;

/// The length of the write-ahead log, and what the checkpoint thread has to do.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// How many pages the log had after the last commit. Changes only under `Shared::writing`.
    pages: Arc<AtomicU32>,
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// How many pages the log had when the last checkpoint became due.
    moved_at: u32,
    /// How many pages fit into the log's file.
    room: u32,
    due: bool,
    /// Whether the log's file is to be lengthened.
    lengthen: bool,
    /// Whether the log is to be truncated, however short it is, because it may contain deleted text.
    purge: bool,
    stopping: bool,
}

/// What the checkpoint thread has to do.
pub(super) struct Work {
    /// Whether a checkpoint is due.
    pub(super) due: bool,
    /// Whether the log is to be truncated in any case.
    pub(super) purge: bool,
    pub(super) lengthen: bool,
}

impl Log {
    /// Where each commit stores how many pages the log has.
    pub(super) fn pages(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.pages)
    }

    /// Checks, after commits, whether a checkpoint or a longer file is due.
    pub(super) fn grown(&self) {
        let pages = self.pages.load(Ordering::Acquire);
        let mut state = locked(&self.state);
        if pages < state.moved_at {
            // The log was reset.
            state.moved_at = 0;
        } else if pages >= MOVE_PAGES && pages >= state.moved_at + MOVE_PAGES / 4 {
            state.moved_at = pages;
            state.due = true;
            self.ready.notify_one();
        }
        if pages + AHEAD_PAGES / 2 > state.room && !state.lengthen {
            state.lengthen = true;
            self.ready.notify_one();
        }
    }

    /// Requests a checkpoint, after which the next commit can reset the log.
    pub(super) fn move_pages(&self) {
        locked(&self.state).due = true;
        self.ready.notify_one();
    }

    /// Requests a checkpoint that truncates the log, because the log may contain deleted text.
    pub(super) fn purge(&self) {
        let mut state = locked(&self.state);
        (state.due, state.purge) = (true, true);
        self.ready.notify_one();
    }

    /// Waits until there is something to do. `None`: the journal is closing.
    pub(super) fn wait(&self) -> Option<Work> {
        let mut state = locked(&self.state);
        while !state.due && !state.lengthen && !state.stopping {
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let due = std::mem::take(&mut state.due);
        let purge = due && std::mem::take(&mut state.purge);
        let work = Work { due, purge, lengthen: std::mem::take(&mut state.lengthen) };
        (!state.stopping).then_some(work)
    }

    /// Records that the log was truncated.
    pub(super) fn truncated(&self) {
        self.pages.store(0, Ordering::Release);
        locked(&self.state).room = 0;
    }

    /// Lets the next checkpoint truncate the log, because this one could not.
    pub(super) fn truncate_later(&self) {
        locked(&self.state).purge = true;
    }

    /// Records that this many pages fit into the log's file.
    pub(super) fn set_room(&self, pages: u32) {
        locked(&self.state).room = pages;
    }

    /// How many pages the log had after the last commit.
    pub(super) fn length(&self) -> u32 {
        self.pages.load(Ordering::Acquire)
    }

    /// Ends the thread that makes checkpoints.
    pub(super) fn stop(&self) {
        locked(&self.state).stopping = true;
        self.ready.notify_one();
    }
}
