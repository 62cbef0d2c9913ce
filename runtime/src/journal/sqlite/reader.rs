//! The threads that answer questions. They only read, and see every commit that was answered before the question.

use std::sync::atomic::Ordering;

use switchboard_core::journal::{Ask, JournalAnswer, Query};

use super::{
    account,
    error::is_unusable,
    query::{self, Read},
    questions::Question,
    shared::Shared,
    work::Job,
};

/// Answers questions until the journal is closed.
pub(super) fn run(shared: &Shared) {
    while let Some(question) = shared.questions.next() {
        match question {
            Question::Chats { ask, renewed } => answer(shared, ask, renewed),
            Question::Account(question) => answer_account(shared, question),
        }
    }
}

/// Answers a question about an account, or refuses it.
fn answer_account(shared: &Shared, question: account::Question) {
    let answered = shared.readers.get().and_then(|db| account::answer(&db, question));
    if let Err(error) = answered {
        tracing::error!(%error, "what belongs to a principal could not be read");
        if let Err(error) = shared.read_disk() {
            shared.health.unreadable(&error);
            shared.work.nudge();
        }
    }
}

fn answer(shared: &Shared, ask: Ask, renewed: bool) {
    let generation = shared.generation.load(Ordering::Acquire);
    let read = || {
        shared.disk.before_read(ask.query.chat())?;
        shared.readers.get().and_then(|mut db| query::read(&mut db, generation, &ask.query))
    };
    let mut answer = read();
    if answer.as_ref().is_err_and(is_unusable) {
        answer = read();
    }
    match (answer, &ask.query) {
        (Ok(Read::Found(found)), _) => {
            shared.answers.send(JournalAnswer::Found(ask.id, found));
        }
        (Ok(Read::Stale), Query::Chat { chat, .. }) if !renewed => {
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
                shared.health.unreadable(&error);
                // The writer retries.
                shared.work.nudge();
            }
            shared.answers.send(JournalAnswer::Failed(ask.id));
        }
    }
}
