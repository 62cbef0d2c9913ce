//! The interface of the suite to a journal.

use switchboard_core::{
    ids::ChatKey,
    journal::{JournalAnswer, Term},
};

use crate::journal_model::Request;

/// A journal that the suite checks. It must not compact what it stores while it is checked.
pub trait JournalUnderTest {
    /// Submits requests together, and waits for all their answers, which it returns in the order of their arrival.
    fn submit(&mut self, requests: Vec<Request>) -> Vec<JournalAnswer>;

    /// Claims a chat for the gateway that has the journal open, and returns the term. After [`reopen`](Self::reopen) that is
    /// another gateway.
    fn claim(&mut self, chat: &ChatKey) -> Term;

    /// Closes the journal and opens it again. Nothing that was answered may be lost.
    fn reopen(&mut self);
}
