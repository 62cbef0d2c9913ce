//! The accounts in memory: the model of every store.

use alloc::collections::BTreeMap;
use core::{convert::Infallible, ops::Bound};

use super::{
    Addition, CompareAndSet, CounterKey, Entry, EntryKey, EntryPage, EntryQuery, EntryVersion, KEPT_WINDOWS,
    Outcome, Window,
};

/// Entries and counters in memory only.
#[derive(Debug, Default, Clone)]
pub struct MemoryAccounts {
    entries: BTreeMap<EntryKey, Entry>,
    counters: BTreeMap<CounterKey, BTreeMap<Window, i64>>,
    last_version: u64,
}

impl MemoryAccounts {
    /// An entry; none if there is no such entry.
    pub fn get(&self, key: &EntryKey) -> Option<Entry> {
        self.entries.get(key).cloned()
    }

    /// Changes an entry, if it is as expected.
    pub fn compare_and_set(&mut self, change: CompareAndSet) -> Outcome {
        let stored = self.entries.get(&change.key).map(|entry| entry.version);
        if stored != change.expect {
            return Outcome::Conflict(stored);
        }
        let Some(value) = change.value else {
            self.entries.remove(&change.key);
            return Outcome::Removed;
        };
        self.last_version += 1;
        let version = EntryVersion(self.last_version);
        self.entries.insert(change.key, Entry { version, value });
        Outcome::Stored(version)
    }

    /// Adds to a counter, and returns its total in the window.
    pub fn add(&mut self, addition: &Addition) -> i64 {
        let Addition { counter, window, amount, .. } = addition;
        let stored = self.counters.get(counter).and_then(|windows| windows.get(window));
        let total = stored.copied().unwrap_or(0).saturating_add(*amount);
        if *amount == 0 {
            return total;
        }
        let windows = self.counters.entry(counter.clone()).or_default();
        if windows.insert(window.clone(), total).is_none() {
            forget_windows(windows, window);
        }
        total
    }

    /// A page of entries, ordered by name.
    pub fn list(&self, query: &EntryQuery) -> EntryPage {
        let is_meant = |key: &EntryKey| key.space == query.space && key.owner == query.owner;
        let begins = |key: &EntryKey| {
            let after = query.after.as_ref().is_none_or(|after| key.name > *after);
            after && key.name.as_str() >= query.prefix.as_str()
        };
        let meant = self.entries.iter().filter(|(key, _)| is_meant(key) && begins(key));
        let found = meant.map(|(key, entry)| Ok::<_, Infallible>((key.name.clone(), entry.clone())));
        let Ok(page) = EntryPage::collect(query, found);
        page
    }
}

/// Forgets the windows before `newest`, of its period, that are too many.
fn forget_windows(windows: &mut BTreeMap<Window, i64>, newest: &Window) {
    let earlier = windows.range((Bound::Unbounded, Bound::Included(newest))).rev();
    let same = earlier.map(|(window, _)| window).filter(|window| window.period() == newest.period());
    let Some(last_kept) = same.take(KEPT_WINDOWS).last().cloned() else { return };
    windows.retain(|window, _| window.period() != newest.period() || *window >= last_kept);
}
