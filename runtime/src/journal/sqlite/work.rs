//! What waits for the writer, bounded in bytes.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, PoisonError},
    time::Instant,
};

use switchboard_core::{
    ids::ChatKey,
    journal::{Append, AppendId, Ask, Change, Durability},
};

use super::locked;

/// One transaction carries at most about this many bytes, so that the first of them need not wait for long.
const TRANSACTION_BYTES: usize = 4 * 1024 * 1024;
/// What an append takes beside what is in it.
const APPEND_BYTES: usize = 512;

/// Something for the writer.
#[derive(Debug)]
pub(super) enum Job {
    /// Keep this.
    Append(Append),
    /// There was no room for this append: it is refused in its turn.
    Overflow(AppendId, ChatKey),
    /// [`Query::Chat`](switchboard_core::journal::Query::Chat) about a chat of which the writer has to see
    /// first: its epoch is to be renewed, or an append was refused.
    Chat(Ask, ChatKey),
}

impl Job {
    /// The chat that it is about.
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

    /// Whether an answer or the use of a tool begins with it, or one of several ends, and it waits for no disk.
    pub(super) fn begins(&self) -> bool {
        let Self::Append(append) = self else { return false };
        let opens = |change: &Change| matches!(change, Change::OpenWork { work } if !work.is_empty());
        append.durability == Durability::Written && append.changes.iter().any(opens)
    }

    /// Whether a chat ends with it.
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
    /// The writer waits for more.
    idle: bool,
    nudged: bool,
    stopping: bool,
}

impl Work {
    pub(super) fn new(most_bytes: usize) -> Self {
        Self { state: Mutex::default(), ready: Condvar::new(), most_bytes }
    }

    /// Gives whether the writer was waiting for it.
    pub(super) fn push(&self, jobs: impl IntoIterator<Item = Job>) -> bool {
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
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        self.ready.notify_one();
        idle
    }

    /// Waits for work, at most until `due`, and takes as much as one transaction carries; nothing after a nudge.
    /// `None`: stop.
    pub(super) fn take(&self, jobs: &mut Vec<Job>, due: Option<Instant>) -> Option<()> {
        let mut state = locked(&self.state);
        loop {
            if !state.jobs.is_empty() || std::mem::take(&mut state.nudged) {
                break;
            }
            if state.stopping {
                return None;
            }
            state.idle = true;
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
        state.idle = false;
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

    /// Wakes the writer to look after the journal's health.
    pub(super) fn nudge(&self) {
        locked(&self.state).nudged = true;
        self.ready.notify_one();
    }

    /// Lets the writer end once everything is done.
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
        | Change::OpenWork { .. }
        | Change::Session { .. }
        | Change::Title { .. }
        | Change::Goal { .. }
        | Change::Deleted => 0,
    }
}

#[cfg(test)]
mod tests {
    use switchboard_core::{
        agent::AgentInstanceId,
        ids::{ChatId, Principal},
        journal::OpenWork,
    };

    use super::*;

    fn job(durability: Durability, changes: Vec<Change>) -> Job {
        let chat = ChatKey { principal: Principal::owner(), chat: ChatId::parse("c").expect("an id") };
        let (id, create, events, at_ms) = (AppendId(1), None, Vec::new(), 1);
        Job::Append(Append { id, chat, durability, create, events, changes, at_ms })
    }

    #[test]
    fn what_begins_is_known() {
        let some = OpenWork { tools: vec!["t".into()], ..OpenWork::default() };
        let moved = Change::AgentPosition { instance: AgentInstanceId(1), position: 1, checkpoint: None };
        let opens = |work| vec![Change::OpenWork { work }, moved.clone()];
        assert!(job(Durability::Written, opens(some.clone())).begins());
        assert!(!job(Durability::Written, opens(OpenWork::default())).begins(), "it ends");
        assert!(!job(Durability::Synced, opens(some)).begins(), "it waits for the disk all the same");
        assert!(!job(Durability::Written, vec![moved.clone()]).begins());
    }

    #[test]
    fn whoever_gives_work_learns_whether_it_was_waited_for() {
        let work = Work::new(1024);
        let push = || work.push([job(Durability::Written, Vec::new())]);
        assert!(!push(), "nobody has asked yet");
        let mut jobs = Vec::new();
        work.take(&mut jobs, None).expect("there is something");
        assert!(!push(), "what was taken is being done");
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut jobs = Vec::new();
                while work.take(&mut jobs, None).is_some() {}
                jobs.len()
            });
            while !locked(&work.state).idle {
                std::thread::yield_now();
            }
            assert!(push());
            work.stop();
            assert_eq!(writer.join().expect("it ends"), 2);
        });
    }
}
