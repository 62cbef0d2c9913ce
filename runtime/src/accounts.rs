//! The interface to what belongs to principals beside their chats.

use std::{
    error::Error,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use switchboard_core::accounts::{
    Addition, CompareAndSet, Entry, EntryKey, EntryPage, EntryQuery, MemoryAccounts, Outcome,
};

/// Entries and counters of principals, beside the [`Journal`](crate::Journal).
///
/// Many tasks may use a store at once. A change is atomic: everybody sees all of it or nothing. When it is answered, it
/// is as durable as it asked to be, and every later question sees it. A question may see a change that is not answered
/// yet.
///
/// After an error, or if the future of a change is dropped, the change may have been made or not. A caller of
/// [`compare_and_set`](Self::compare_and_set) finds out by reading the entry or by trying again, which is then a
/// conflict. A caller of [`add`](Self::add) that tries again may count twice.
///
/// The store does not bound how many entries and counters there are: a caller that makes them for others has to.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// An entry; none if there is no such entry.
    async fn get(&self, key: EntryKey) -> Result<Option<Entry>, Unavailable>;

    /// Changes an entry, if it is as expected.
    async fn compare_and_set(&self, change: CompareAndSet) -> Result<Outcome, Unavailable>;

    /// Adds to a counter, and returns its total in the window.
    async fn add(&self, addition: Addition) -> Result<i64, Unavailable>;

    /// A page of entries, ordered by name.
    async fn list(&self, query: EntryQuery) -> Result<EntryPage, Unavailable>;
}

/// A store cannot be read or written at the moment, or is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unavailable;

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what belongs to the principals cannot be read or written at the moment")
    }
}

impl Error for Unavailable {}

/// The store in memory. Its contents are lost when the process ends.
#[async_trait]
impl Accounts for Mutex<MemoryAccounts> {
    async fn get(&self, key: EntryKey) -> Result<Option<Entry>, Unavailable> {
        Ok(locked(self).get(&key))
    }

    async fn compare_and_set(&self, change: CompareAndSet) -> Result<Outcome, Unavailable> {
        Ok(locked(self).compare_and_set(change))
    }

    async fn add(&self, addition: Addition) -> Result<i64, Unavailable> {
        Ok(locked(self).add(&addition))
    }

    async fn list(&self, query: EntryQuery) -> Result<EntryPage, Unavailable> {
        Ok(locked(self).list(&query))
    }
}

fn locked(accounts: &Mutex<MemoryAccounts>) -> MutexGuard<'_, MemoryAccounts> {
    // No code that can panic leaves the contents half changed.
    accounts.lock().unwrap_or_else(PoisonError::into_inner)
}
