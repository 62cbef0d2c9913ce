//! A suite for stores of accounts: what callers rely on, whatever stores the entries and counters.
//!
//! Implement [`AccountsUnderTest`] in a test of the store, and call [`check`]. The suite makes random changes, and
//! compares all answers with [`MemoryAccounts`](switchboard_core::accounts::MemoryAccounts). Each [`Part`] is checked
//! with a store of its own.

mod author;
mod concurrent;
mod part;
mod parts;
mod under_test;

use self::author::Author;
pub use self::{part::Part, under_test::AccountsUnderTest};
use crate::Failure;

/// Checks all parts, each with an empty store that `open` opens. Returns the parts that the store fails. The same seed
/// makes the same changes, but for those of concurrent callers.
///
/// # Panics
/// If the system has no means for a runtime of tokio.
pub fn check<S: AccountsUnderTest>(seed: u64, mut open: impl FnMut() -> S) -> Vec<Failure<Part>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let failure = |part: &Part| {
        let (mut store, mut author) = (open(), Author::new(seed));
        let what = runtime.block_on(parts::check(*part, &mut store, &mut author)).err()?;
        Some(Failure { part: *part, what })
    };
    Part::ALL.iter().filter_map(failure).collect()
}
