//! Makes random changes, and carries them out on a store and on the model.

use std::{collections::BTreeMap, fmt};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};
use switchboard_core::{
    accounts::{
        Addition, CompareAndSet, CounterKey, Entry, EntryKey, EntryName, EntryPage, EntryQuery, EntryValue,
        EntryVersion, MemoryAccounts, Outcome, Period, Space, Window,
    },
    ids::Principal,
    journal::Durability,
};
use switchboard_runtime::Accounts;

/// What a part returns: `Err` says how the store fails it.
pub(super) type Checked<T = ()> = Result<T, String>;

/// Fails with `what` and both values if they differ.
pub(super) fn same<T: PartialEq + fmt::Debug>(what: &str, found: &T, expected: &T) -> Checked {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}:\nfound    {found:?}\nexpected {expected:?}"))
}

/// Source of random changes, with the model of what they must lead to.
pub(super) struct Author {
    random: ChaCha8Rng,
    model: MemoryAccounts,
    /// The store's versions of the entries. The model has other ones.
    versions: BTreeMap<EntryKey, EntryVersion>,
    /// The largest version that the store has given.
    pub(super) newest: Option<EntryVersion>,
}

impl Author {
    pub(super) fn new(seed: u64) -> Self {
        let random = ChaCha8Rng::seed_from_u64(seed);
        Self { random, model: MemoryAccounts::default(), versions: BTreeMap::new(), newest: None }
    }

    /// A random number below `bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.random.next_u64() % bound.max(1)
    }

    pub(super) fn durability(&mut self) -> Durability {
        if self.below(2) == 0 { Durability::Written } else { Durability::Synced }
    }

    pub(super) fn value(&mut self) -> EntryValue {
        let length = if self.below(20) == 0 { self.below(64 * 1024 + 1) } else { self.below(50) };
        let first = self.random.next_u64();
        value((0..length).map(|n| (first ^ n).to_le_bytes()[0]).collect())
    }

    /// Changes an entry of the store and of the model, and compares the outcomes.
    pub(super) async fn set(
        &mut self,
        store: &impl Accounts,
        key: &EntryKey,
        expect: Option<EntryVersion>,
        new: Option<EntryValue>,
    ) -> Checked<Outcome> {
        let durability = self.durability();
        let change = CompareAndSet { key: key.clone(), expect, value: new.clone(), durability };
        let outcome = answered(store.compare_and_set(change).await)?;
        let stored = self.versions.get(key).copied();
        if expect != stored {
            same("the outcome", &outcome, &Outcome::Conflict(stored))?;
        } else if let Outcome::Stored(version) = outcome
            && new.is_some()
        {
            if self.newest.is_some_and(|newest| version <= newest) {
                return Err(format!("{version:?} comes after {:?}", self.newest));
            }
            self.newest = Some(version);
            self.versions.insert(key.clone(), version);
        } else {
            same("the outcome", &(outcome, new.is_none()), &(Outcome::Removed, true))?;
            self.versions.remove(key);
        }
        if expect == stored {
            let of_model = self.model.get(key).map(|entry| entry.version);
            let change = CompareAndSet { key: key.clone(), expect: of_model, value: new, durability };
            self.model.compare_and_set(change);
        }
        Ok(outcome)
    }

    /// Changes an entry, which is expected as it is.
    pub(super) async fn put(
        &mut self,
        store: &impl Accounts,
        key: &EntryKey,
        new: Option<EntryValue>,
    ) -> Checked<Outcome> {
        let expect = self.versions.get(key).copied();
        self.set(store, key, expect, new).await
    }

    /// What the store must have of an entry.
    fn expected(&self, key: &EntryKey) -> Option<Entry> {
        let value = self.model.get(key)?.value;
        Some(Entry { version: self.versions[key], value })
    }

    /// The store has the entry as it must be.
    pub(super) async fn has(&self, store: &impl Accounts, key: &EntryKey) -> Checked {
        let found = answered(store.get(key.clone()).await)?;
        same(&format!("the entry {key:?}"), &found, &self.expected(key))
    }

    /// The store has every entry as it must be.
    pub(super) async fn has_all(&self, store: &impl Accounts) -> Checked {
        for key in self.versions.keys() {
            self.has(store, key).await?;
        }
        Ok(())
    }

    /// Adds to a counter of the store and of the model, and compares the totals.
    pub(super) async fn add(
        &mut self,
        store: &impl Accounts,
        counter: &CounterKey,
        window: &Window,
        amount: i64,
    ) -> Checked {
        let (counter, window, durability) = (counter.clone(), window.clone(), self.durability());
        let addition = Addition { counter, window, amount, durability };
        let expected = self.model.add(&addition);
        let what = format!("the total after {addition:?}");
        same(&what, &answered(store.add(addition).await)?, &expected)
    }

    /// What the store must answer to a query.
    pub(super) fn page(&self, query: &EntryQuery) -> EntryPage {
        let mut page = self.model.list(query);
        for (name, entry) in &mut page.entries {
            let (space, owner) = (query.space, query.owner.clone());
            entry.version = self.versions[&EntryKey { space, owner, name: name.clone() }];
        }
        page
    }
}

/// The answer of a store, which must be able to answer.
pub(super) fn answered<T>(answer: Result<T, switchboard_runtime::Unavailable>) -> Checked<T> {
    answer.map_err(|error| format!("no answer: {error}"))
}

pub(super) fn owner(name: &str) -> Principal {
    Principal::parse(name).expect("a principal")
}

pub(super) fn name(text: &str) -> EntryName {
    EntryName::parse(text).expect("a name")
}

pub(super) fn value(bytes: Vec<u8>) -> EntryValue {
    EntryValue::new(bytes).expect("a value of at most 64 KiB")
}

pub(super) fn key(space: Space, of: &str, text: &str) -> EntryKey {
    EntryKey { space, owner: owner(of), name: name(text) }
}

pub(super) fn counter(of: &str, text: &str) -> CounterKey {
    CounterKey { owner: owner(of), name: name(text) }
}

/// The window of this period that begins so many hours, days or times 31 days after the year 2000.
pub(super) fn window(period: Period, number: u64) -> Window {
    let hours = match period {
        Period::Hour => 1,
        Period::Day => 24,
        Period::Month => 24 * 31,
    };
    Window::containing(period, 946_684_800_000 + number * hours * 3_600_000)
}
