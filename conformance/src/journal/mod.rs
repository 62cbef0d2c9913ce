//! A suite for journals: what the hub relies on, whatever stores the chats.
//!
//! Implement [`JournalUnderTest`] in a test of the journal, and call [`check`]. The suite makes random appends, knows
//! what must come of them from [`ChatRecord::apply`](switchboard_core::journal::ChatRecord::apply), and compares all answers with that. Each [`Part`] is checked with
//! journals of its own.

mod author;
mod bench;
mod part;
mod parts;
mod under_test;

use self::{author::Author, bench::Bench};
pub use self::{part::Part, under_test::JournalUnderTest};
use crate::Failure;

/// Checks all parts, each with an empty journal that `open` opens. Returns the parts that the journal fails. The same
/// seed makes the same appends.
pub fn check<J: JournalUnderTest>(seed: u64, mut open: impl FnMut() -> J) -> Vec<Failure<Part>> {
    let failure = |part: &Part| {
        let mut bench = Bench::new(open(), Author::new(seed));
        let what = parts::check(*part, &mut bench).err()?;
        Some(Failure { part: *part, what })
    };
    Part::ALL.iter().filter_map(failure).collect()
}
