//! The queue of questions.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, PoisonError},
};

use switchboard_core::journal::Ask;

use super::{account, mutex::locked};

/// How many questions may wait. The hub has only a few unanswered questions for each connection.
const QUESTIONS: usize = 65_536;

/// Questions that wait for a thread that reads.
#[derive(Debug, Default)]
pub(super) struct Questions {
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Question>,
    stopping: bool,
}

/// A question that waits.
#[derive(Debug)]
pub(super) enum Question {
    /// A question of the hub.
    Chats {
        ask: Ask,
        /// Whether the writer has handled the chat, which has a present epoch now.
        renewed: bool,
    },
    /// A question about what belongs to a principal beside its chats.
    Account(account::Question),
}

impl Questions {
    /// Queues a question; gives it back if too many are waiting.
    pub(super) fn push(&self, ask: Ask, renewed: bool) -> Result<(), Ask> {
        let mut state = locked(&self.state);
        if state.waiting.len() >= QUESTIONS {
            return Err(ask);
        }
        state.waiting.push_back(Question::Chats { ask, renewed });
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    /// Queues a question; refuses it if too many are waiting, or if the journal is closing.
    pub(super) fn push_account(&self, question: account::Question) {
        let mut state = locked(&self.state);
        if state.stopping || state.waiting.len() >= QUESTIONS {
            return;
        }
        state.waiting.push_back(Question::Account(question));
        drop(state);
        self.ready.notify_one();
    }

    /// Waits for the next question. `None`: the journal is closing.
    pub(super) fn next(&self) -> Option<Question> {
        let mut state = locked(&self.state);
        loop {
            if let Some(question) = state.waiting.pop_front() {
                return Some(question);
            }
            if state.stopping {
                return None;
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends the threads that read once all questions are answered.
    pub(super) fn stop(&self) {
        locked(&self.state).stopping = true;
        self.ready.notify_all();
    }
}
