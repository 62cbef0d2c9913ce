//! What belongs to a principal beside its chats: the values of the port that stores it.
//!
//! A store has *entries*, small values that are changed by compare-and-set, and *counters*, which are added to. It
//! decides nothing and reads no clock. [`MemoryAccounts`] is the model that other stores are compared with.

mod counter;
mod entry;
mod memory;

pub use counter::{Addition, CounterKey, KEPT_WINDOWS, Period, Window};
pub use entry::{
    CompareAndSet, Entry, EntryKey, EntryName, EntryPage, EntryQuery, EntryValue, EntryVersion, LONGEST_NAME,
    LONGEST_VALUE, Outcome, PAGE_BYTES, PAGE_ENTRIES, Space,
};
pub use memory::MemoryAccounts;
