//! A suite for journals: what the hub relies on, whatever stores the chats.
//!
//! Implement [`JournalUnderTest`] in a test of the journal, and call [`check`]. The suite makes random appends, knows
//! what must come of them from [`ChatRecord::apply`](switchboard_core::journal::ChatRecord::apply), and compares all answers with that. Each [`Part`] is checked with
//! journals of its own.

mod author;
mod expected;
mod parts;

use std::fmt;

use switchboard_core::journal::JournalAnswer;

use self::{author::Author, expected::Expected};
use crate::journal_model::Request;

/// A journal that the suite checks. It must not compact what it stores while it is checked.
pub trait JournalUnderTest {
    /// Submits requests together, and waits for all their answers, which it returns in the order of their arrival.
    fn submit(&mut self, requests: Vec<Request>) -> Vec<JournalAnswer>;

    /// Closes the journal and opens it again. Nothing that was answered may be lost.
    fn reopen(&mut self);
}

/// What a part of the suite is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Appends change the state of a chat as the fold of `core` does, and its log and turns likewise.
    Fold,
    /// An append is committed once, and only after the one that it expects.
    Versions,
    /// Events that do not follow, and changes of turns that are not open, are conflicts.
    Contradictions,
    /// A turn's id is accepted once, also after the turn has ended.
    TurnIds,
    /// Nothing of a deleted chat is left, and its id is not used again.
    Deletion,
    /// The appends of a chat are answered in their order.
    Order,
    /// Pages of the log, forwards and backwards, have no gap and no overlap.
    Pages,
    /// Lists of chats are ordered by activity, and say what runs and what waits.
    Lists,
    /// Chats of the same id of several principals have nothing to do with each other.
    Principals,
    /// What was answered is there after the journal was opened again.
    Reopening,
}

impl Part {
    /// All parts.
    pub const ALL: &[Self] = &[
        Self::Fold,
        Self::Versions,
        Self::Contradictions,
        Self::TurnIds,
        Self::Deletion,
        Self::Order,
        Self::Pages,
        Self::Lists,
        Self::Principals,
        Self::Reopening,
    ];
}

/// How a journal fails a part.
#[derive(Debug)]
pub struct Failure {
    /// The part.
    pub part: Part,
    /// What was expected, and what the journal answered.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.part, self.what)
    }
}

/// Checks all parts, each with an empty journal that `open` opens. Returns the parts that the journal fails. The same
/// seed makes the same appends.
pub fn check<J: JournalUnderTest>(seed: u64, mut open: impl FnMut() -> J) -> Vec<Failure> {
    let failure = |part: &Part| {
        let mut bench = Bench { journal: open(), author: Author::new(seed), next_ask: 0 };
        let what = parts::check(*part, &mut bench).err()?;
        Some(Failure { part: *part, what })
    };
    Part::ALL.iter().filter_map(failure).collect()
}

/// A journal with the author of its appends.
struct Bench<J> {
    journal: J,
    author: Author,
    next_ask: u64,
}

/// What a part returns: `Err` says how the journal fails it.
type Checked<T = ()> = Result<T, String>;

/// Fails with `what` and both values if they differ.
fn same<T: PartialEq + fmt::Debug>(what: &str, found: &T, expected: &T) -> Checked {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}:\nfound    {found:?}\nexpected {expected:?}"))
}
