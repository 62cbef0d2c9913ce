//! The journal of a gateway under test: the test decides when and how it answers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use switchboard_core::ids::ChatKey;
use switchboard_runtime::{Answers, Journal, OpenJournal, Request};

use crate::journal_model::{self, How};

/// The content of the journal, shared by consecutive gateways.
#[derive(Debug, Clone, Default)]
pub(crate) struct ScriptedJournal(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    journal: journal_model::Journal,
    /// The channel to the current gateway.
    answers: Option<Answers>,
    generation: u64,
    paused: bool,
    /// How to answer the next appends: an outcome, and the number of appends it applies to.
    faults: Vec<(How, u32)>,
    failing_asks: u32,
    /// The chats that the gateway has to recover.
    unfinished: VecDeque<ChatKey>,
    /// Wakes the gateway that waits for a chat to recover.
    waker: Option<Waker>,
}

impl ScriptedJournal {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Withholds all answers until [`ScriptedJournal::release`].
    pub(crate) fn pause(&self) {
        self.state().paused = true;
    }

    pub(crate) fn release(&self) {
        let mut state = self.state();
        state.paused = false;
        state.answer();
    }

    /// Answers the next `appends` appends as `how` says.
    pub(crate) fn fault(&self, how: How, appends: u32) {
        self.state().faults.push((how, appends));
    }

    pub(crate) fn fail_asks(&self, asks: u32) {
        self.state().failing_asks += asks;
    }

    /// Reports a chat to the gateway that has open turns.
    pub(crate) fn leave_unfinished(&self, chat: ChatKey) {
        let mut state = self.state();
        state.unfinished.push_back(chat);
        state.waker.take().into_iter().for_each(Waker::wake);
    }

    /// Removes the events of this chat up to and including the seq `until`.
    pub(crate) fn trim(&self, chat: ChatKey, until: u64) {
        self.state().journal.trimmed.insert(chat, until);
    }

    /// Reports to the gateway that the journal cannot write, with the reason, or that it can write again.
    pub(crate) fn degraded(&self, why: Option<String>) {
        if let Some(answers) = &self.state().answers {
            answers.degraded(why);
        }
    }

    /// Damages the stored events of this chat.
    pub(crate) fn damage(&self, chat: ChatKey) {
        self.state().journal.damaged.insert(chat);
    }
}

impl State {
    fn answer(&mut self) {
        let Some(answers) = self.answers.clone() else { return };
        while !self.paused && !self.journal.waiting.is_empty() {
            let how = self.how();
            answers.send(self.journal.carry_out(0, how));
        }
    }

    fn how(&mut self) -> How {
        if matches!(self.journal.waiting[0], journal_model::Request::Ask(_)) {
            if self.failing_asks == 0 {
                return How::Keep;
            }
            self.failing_asks -= 1;
            return How::Refuse;
        }
        let Some((how, left)) = self.faults.first_mut() else { return How::Keep };
        let how = *how;
        *left -= 1;
        if *left == 0 {
            self.faults.remove(0);
        }
        how
    }
}

impl OpenJournal for ScriptedJournal {
    type Journal = Port;

    fn open(self, answers: Answers) -> Port {
        let mut state = self.state();
        state.journal.restart();
        state.answers = Some(answers);
        state.generation += 1;
        let generation = state.generation;
        drop(state);
        Port { journal: self, generation }
    }
}

/// The journal as one gateway sees it.
#[derive(Debug)]
pub(crate) struct Port {
    journal: ScriptedJournal,
    generation: u64,
}

impl Journal for Port {
    fn submit(&mut self, batch: &mut Vec<Request>) {
        let mut state = self.journal.state();
        if state.generation != self.generation {
            // The requests come from an earlier gateway, which was abandoned.
            batch.clear();
            return;
        }
        state.journal.waiting.extend(batch.drain(..).map(|request| match request {
            Request::Append(append) => journal_model::Request::Append(append),
            Request::Ask(ask) => journal_model::Request::Ask(ask),
        }));
        state.answer();
    }

    fn poll_unfinished(&mut self, cx: &mut Context<'_>) -> Poll<ChatKey> {
        let mut state = self.journal.state();
        if state.generation != self.generation {
            return Poll::Pending;
        }
        state.waker = Some(cx.waker().clone());
        state.unfinished.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}
