//! A pool of threads that answer questions and only read. They see every commit that was answered before the
//! question.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, PoisonError, atomic::Ordering},
};

use switchboard_core::journal::{Ask, JournalAnswer, Query};

use super::{
    Shared,
    error::is_unusable,
    locked,
    query::{self, Read},
    work::Job,
};

/// How many questions may wait. The hub has only a few unanswered questions for each connection.
const QUESTIONS: usize = 65_536;

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

#[derive(Debug)]
struct Question {
    ask: Ask,
    /// Whether the writer is done with this chat, so that the answer allows appends to the chat again.
    reopens: bool,
}

impl Questions {
    /// Queues a question; gives it back if too many are waiting.
    pub(super) fn push(&self, ask: Ask, reopens: bool) -> Result<(), Ask> {
        let mut state = locked(&self.state);
        if state.waiting.len() >= QUESTIONS {
            return Err(ask);
        }
        state.waiting.push_back(Question { ask, reopens });
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    /// Answers questions until the journal is closed.
    pub(super) fn run(&self, shared: &Shared) {
        while let Some(question) = self.next() {
            answer(shared, question);
        }
    }

    fn next(&self) -> Option<Question> {
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

    pub(super) fn stop(&self) {
        locked(&self.state).stopping = true;
        self.ready.notify_all();
    }
}

fn answer(shared: &Shared, Question { ask, reopens }: Question) {
    let generation = shared.generation.load(Ordering::Acquire);
    let read = || {
        shared.disk.before_read(ask.query.chat())?;
        shared.readers.lend().and_then(|mut db| query::read(&mut db, generation, &ask.query))
    };
    let mut answer = read();
    if answer.as_ref().is_err_and(is_unusable) {
        answer = read();
    }
    match (answer, &ask.query) {
        (Ok(Read::Found(found)), _) => {
            if let Query::Chat { chat } = &ask.query
                && reopens
            {
                locked(&shared.closed).remove(chat);
            }
            shared.answers.send(JournalAnswer::Found(ask.id, found));
        }
        (Ok(Read::Stale), Query::Chat { chat }) if !reopens => {
            let chat = chat.clone();
            shared.work.push([Job::Chat(ask, chat)]);
        }
        (Ok(Read::Stale), _) => shared.answers.send(JournalAnswer::Failed(ask.id)),
        // Both reads failed: either this part is damaged, or nothing can be read from the disk.
        (Err(error), query) if is_unusable(&error) && shared.read_disk().is_ok() => {
            let chat = query.chat().map(|chat| chat.chat.as_str());
            tracing::error!(%error, chat, "a part of the journal is damaged; `switchboard doctor` says more");
            shared.answers.send(JournalAnswer::Damaged(ask.id));
        }
        (Err(error), _) => {
            tracing::warn!(%error, "the journal could not be read");
            if let Err(error) = shared.read_disk() {
                shared.health.unreadable(shared, &error);
            }
            shared.answers.send(JournalAnswer::Failed(ask.id));
        }
    }
}
