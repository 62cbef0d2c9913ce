//! The suite for accounts, over the stores that Switchboard brings, and over stores with a defect, each of which fails
//! the part that the defect concerns.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]
#![allow(clippy::print_stdout, reason = "the seed of a run is said")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a defect concerns one kind of request")]

use std::{
    fs,
    hash::{BuildHasher as _, RandomState},
    sync::Mutex,
};

use async_trait::async_trait;
use switchboard_conformance::accounts::{AccountsUnderTest, Part, check};
use switchboard_core::{
    accounts::{
        Addition, CompareAndSet, Entry, EntryKey, EntryName, EntryPage, EntryQuery, EntryValue, EntryVersion,
        MemoryAccounts, Outcome, Period, Space, Window,
    },
    ids::Principal,
};
use switchboard_runtime::{
    Accounts, Answers, OpenJournal as _, OpenSqlite, Sqlite, SqliteAccounts, SqliteOptions, Unavailable,
};
use tokio::{sync::mpsc::unbounded_channel, task::yield_now};

/// The seed in `SWITCHBOARD_SEED`, or a new one.
fn seed() -> u64 {
    let given = std::env::var("SWITCHBOARD_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("SWITCHBOARD_SEED={seed}");
    seed
}

/// The store in memory, which keeps what it has when it is opened again.
#[derive(Default)]
struct Memory(Mutex<MemoryAccounts>);

impl AccountsUnderTest for Memory {
    type Accounts = Mutex<MemoryAccounts>;

    fn accounts(&self) -> &Self::Accounts {
        &self.0
    }

    fn reopen(&mut self) {}
}

/// The store on SQLite.
struct OnDisk {
    accounts: SqliteAccounts,
    _journal: OpenSqlite,
    folder: tempfile::TempDir,
}

impl OnDisk {
    fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap())
    }

    fn open(folder: tempfile::TempDir) -> Self {
        let journal = Sqlite::open(folder.path().join("journal.db"), SqliteOptions::default()).unwrap();
        let (to, _) = unbounded_channel();
        let journal = journal.open(Answers::new(to));
        Self { accounts: journal.accounts(), _journal: journal, folder }
    }
}

impl AccountsUnderTest for OnDisk {
    type Accounts = SqliteAccounts;

    fn accounts(&self) -> &SqliteAccounts {
        &self.accounts
    }

    /// Opens a copy of the files, which are as a process that is killed now would leave them.
    fn reopen(&mut self) {
        let copy = tempfile::tempdir().unwrap();
        for name in ["journal.db", "journal.db-wal", "journal.db.commits"] {
            fs::copy(self.folder.path().join(name), copy.path().join(name)).unwrap();
        }
        *self = Self::open(copy);
    }
}

#[test]
fn the_accounts_in_memory_pass() {
    let failures = check(seed(), Memory::default);
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn the_accounts_on_sqlite_pass() {
    let failures = check(seed(), OnDisk::new);
    assert!(failures.is_empty(), "{failures:#?}");
}

/// What is wrong with a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    /// Says that it has stored a value, and has not.
    DropsAChange,
    /// Changes an entry whatever version it has.
    IgnoresVersions,
    /// Removes an entry whatever version it has.
    RemovesAnything,
    /// Gives an entry that was removed the versions of before again.
    RepeatsVersions,
    /// Has one space for all.
    IgnoresSpaces,
    /// Has one owner for all.
    IgnoresOwners,
    /// Stores all but the last byte of a large value.
    CutsValues,
    /// Adds nothing below 0.
    OnlyAdds,
    /// Has one window for all.
    IgnoresWindows,
    /// Forgets no window, since each has a counter of its own.
    KeepsWindows,
    /// Leaves out the last entry of a page.
    CutsPages,
    /// Begins a page with the last entry of the one before.
    RepeatsEntries,
    /// Lists entries whatever their names begin with.
    IgnoresPrefixes,
    /// Checks the version of an entry some time before it changes the entry.
    ChecksEarly,
    /// Reads a total some time before it stores the sum.
    AddsLate,
    /// Stores a value in two steps.
    StoresInSteps,
    /// Forgets the last change when it is opened again.
    ForgetsWhenReopened,
}

/// A store with a defect.
struct Broken {
    defect: Defect,
    accounts: Mutex<MemoryAccounts>,
    /// The store before the last change.
    before: Mutex<MemoryAccounts>,
    changes: Mutex<u64>,
}

impl Broken {
    fn new(defect: Defect) -> Self {
        let accounts = Mutex::default();
        Self { defect, accounts, before: Mutex::default(), changes: Mutex::default() }
    }

    fn keep(&self) {
        *self.before.lock().unwrap() = self.accounts.lock().unwrap().clone();
    }

    fn version(&self, key: &EntryKey) -> Option<EntryVersion> {
        self.accounts.lock().unwrap().get(key).map(|entry| entry.version)
    }

    fn altered_key(&self, mut key: EntryKey) -> EntryKey {
        if self.defect == Defect::IgnoresSpaces {
            key.space = Space::Tokens;
        }
        if self.defect == Defect::IgnoresOwners {
            key.owner = Principal::owner();
        }
        key
    }
}

#[async_trait]
impl Accounts for Broken {
    async fn get(&self, key: EntryKey) -> Result<Option<Entry>, Unavailable> {
        self.accounts.get(self.altered_key(key)).await
    }

    async fn compare_and_set(&self, mut change: CompareAndSet) -> Result<Outcome, Unavailable> {
        self.keep();
        let number = {
            let mut changes = self.changes.lock().unwrap();
            *changes += 1;
            *changes
        };
        change.key = self.altered_key(change.key);
        let stored = self.version(&change.key);
        match self.defect {
            Defect::DropsAChange if number % 40 == 0 && stored == change.expect && change.value.is_some() => {
                return Ok(Outcome::Stored(EntryVersion(u64::MAX / 2 + number)));
            }
            Defect::IgnoresVersions => change.expect = stored,
            Defect::RemovesAnything if change.value.is_none() => change.expect = stored,
            Defect::RepeatsVersions if change.value.is_none() && stored == change.expect => {
                // The versions of the model begin again with those of an empty store.
                *self.accounts.lock().unwrap() = MemoryAccounts::default();
                return Ok(Outcome::Removed);
            }
            Defect::CutsValues => {
                let cut = |value: EntryValue| {
                    let length = value.bytes().len().min(64 * 1024 - 1);
                    EntryValue::new(value.bytes().slice(..length)).unwrap()
                };
                change.value = change.value.map(cut);
            }
            Defect::ChecksEarly if stored == change.expect => {
                yield_now().await;
                change.expect = self.version(&change.key);
            }
            Defect::StoresInSteps if change.value.is_some() => {
                let half = CompareAndSet { value: EntryValue::new(vec![0]), ..change.clone() };
                let outcome = self.accounts.compare_and_set(half).await?;
                let Outcome::Stored(half) = outcome else { return Ok(outcome) };
                yield_now().await;
                change.expect = Some(half);
            }
            _ => {}
        }
        self.accounts.compare_and_set(change).await
    }

    async fn add(&self, mut addition: Addition) -> Result<i64, Unavailable> {
        self.keep();
        match self.defect {
            Defect::IgnoresOwners => addition.counter.owner = Principal::owner(),
            Defect::OnlyAdds => addition.amount = addition.amount.max(0),
            Defect::IgnoresWindows => addition.window = Window::containing(Period::Hour, 0),
            Defect::KeepsWindows => {
                let of_window = format!("{}{}", addition.counter.name.as_str(), addition.window.as_str());
                if let Ok(name) = EntryName::parse(&of_window) {
                    addition.counter.name = name;
                }
            }
            Defect::AddsLate => {
                let total = self.accounts.add(Addition { amount: 0, ..addition.clone() }).await?;
                yield_now().await;
                let now = self.accounts.add(Addition { amount: 0, ..addition.clone() }).await?;
                addition.amount += total - now;
            }
            _ => {}
        }
        self.accounts.add(addition).await
    }

    async fn list(&self, mut query: EntryQuery) -> Result<EntryPage, Unavailable> {
        let after = query.after.clone();
        match self.defect {
            Defect::IgnoresSpaces => query.space = Space::Tokens,
            Defect::IgnoresOwners => query.owner = Principal::owner(),
            Defect::IgnoresPrefixes => query.prefix.clear(),
            _ => {}
        }
        let mut page = self.accounts.list(query.clone()).await?;
        match self.defect {
            Defect::CutsPages => drop(page.entries.pop()),
            Defect::RepeatsEntries => {
                if let Some(name) = after {
                    let key = EntryKey { space: query.space, owner: query.owner, name: name.clone() };
                    page.entries.splice(0..0, self.accounts.get(key).await?.map(|entry| (name, entry)));
                }
            }
            _ => {}
        }
        Ok(page)
    }
}

impl AccountsUnderTest for Broken {
    type Accounts = Self;

    fn accounts(&self) -> &Self {
        self
    }

    fn reopen(&mut self) {
        if self.defect == Defect::ForgetsWhenReopened {
            self.accounts = Mutex::new(self.before.lock().unwrap().clone());
        }
    }
}

#[test]
fn a_store_with_a_defect_fails_the_part_that_the_defect_concerns() {
    let seed = seed();
    for (defect, part) in [
        (Defect::DropsAChange, Part::Entries),
        (Defect::IgnoresVersions, Part::Entries),
        (Defect::RemovesAnything, Part::Entries),
        (Defect::RepeatsVersions, Part::Versions),
        (Defect::IgnoresSpaces, Part::Apart),
        (Defect::IgnoresOwners, Part::Apart),
        (Defect::CutsValues, Part::Sizes),
        (Defect::OnlyAdds, Part::Counters),
        (Defect::IgnoresWindows, Part::Counters),
        (Defect::KeepsWindows, Part::Windows),
        (Defect::CutsPages, Part::Lists),
        (Defect::RepeatsEntries, Part::Lists),
        (Defect::IgnoresPrefixes, Part::Lists),
        (Defect::ChecksEarly, Part::Concurrent),
        (Defect::AddsLate, Part::Concurrent),
        (Defect::StoresInSteps, Part::LostAnswers),
        (Defect::ForgetsWhenReopened, Part::Reopening),
    ] {
        let failures = check(seed, || Broken::new(defect));
        let failed: Vec<Part> = failures.iter().map(|failure| failure.part).collect();
        assert!(failed.contains(&part), "{defect:?} passes {part:?}; it fails {failed:?}");
    }
    assert!(check(seed, Memory::default).is_empty(), "without a defect it passes with the same seed");
}
