//! What belongs to principals, in backups.

use std::future::Future;

use switchboard_core::{
    accounts::{CompareAndSet, EntryKey, EntryName, EntryValue, Outcome, Space},
    ids::Principal,
    journal::Durability,
};
use switchboard_runtime::{Accounts as _, Sqlite};

use crate::desk::open;

/// The answer of a store.
pub(crate) fn wait<T>(answer: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(answer)
}

pub(crate) fn key(name: &str) -> EntryKey {
    let name = EntryName::parse(name).expect("a name");
    EntryKey { space: Space::Tokens, owner: Principal::owner(), name }
}

/// Creates an entry with a value of this many bytes.
pub(crate) fn create(name: &str, bytes: usize) -> CompareAndSet {
    let value = EntryValue::new(vec![7; bytes]);
    CompareAndSet { key: key(name), expect: None, value, durability: Durability::Synced }
}

#[test]
fn a_backup_has_them_as_they_were() {
    let folder = tempfile::tempdir().expect("a folder");
    let (desk, _) = open(folder.path()).expect("it opens");
    let accounts = desk.journal.accounts();
    let stored = wait(accounts.compare_and_set(create("early", 10))).expect("it is stored");
    let copy = folder.path().join("copy");
    Sqlite::backup(&folder.path().join("journal.db"), &copy).expect("it is made");
    wait(accounts.compare_and_set(create("late", 10))).expect("it is stored");
    let elsewhere = tempfile::tempdir().expect("a folder");
    Sqlite::restore(&copy, &elsewhere.path().join("journal.db")).expect("it is restored");
    let (desk, _) = open(elsewhere.path()).expect("it opens");
    let accounts = desk.journal.accounts();
    let early = wait(accounts.get(key("early"))).expect("it reads").expect("an entry");
    assert_eq!((Outcome::Stored(early.version), early.value.bytes().len()), (stored, 10));
    assert_eq!(wait(accounts.get(key("late"))), Ok(None));
}
