//! Accounts on disks that fail or are slow, and beside chats.

use std::{future::Future, sync::atomic::Ordering};

use switchboard_core::{
    accounts::{
        Addition, CompareAndSet, CounterKey, EntryKey, EntryName, EntryValue, Outcome, Period, Space, Window,
    },
    ids::Principal,
    journal::Durability,
};
use tokio::sync::mpsc::unbounded_channel;

use super::{
    Scribe, SqliteOptions, appended, failing,
    support::desk::{Desk, open_with},
};
use crate::{Accounts as _, Answers, OpenJournal as _, Unavailable, journal::Request};

/// What a change becomes.
fn wait<T>(change: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(change)
}

fn key(name: &str) -> EntryKey {
    let name = EntryName::parse(name).expect("a name");
    EntryKey { space: Space::Pins, owner: Principal::owner(), name }
}

fn create(name: &str, durability: Durability) -> CompareAndSet {
    let value = EntryValue::new("value");
    CompareAndSet { key: key(name), expect: None, value, durability }
}

fn addition() -> Addition {
    let counter = CounterKey { owner: Principal::owner(), name: EntryName::parse("turns").expect("a name") };
    let window = Window::containing(Period::Day, 0);
    Addition { counter, window, amount: 1, durability: Durability::Written }
}

#[test]
fn a_change_waits_for_the_disk_if_it_is_to_and_no_chat_waits_for_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (journal, disk) = failing(folder.path(), SqliteOptions::default());
    let mut desk = Desk::new(journal);
    let accounts = desk.journal.accounts();
    assert!(matches!(
        wait(accounts.compare_and_set(create("a", Durability::Written))),
        Ok(Outcome::Stored(_))
    ));
    let held = disk.slow.lock().expect("a lock");
    let waits = std::thread::spawn({
        let accounts = accounts.clone();
        move || wait(accounts.compare_and_set(create("b", Durability::Synced)))
    });
    while wait(accounts.get(key("b"))).expect("it reads").is_none() {
        std::thread::yield_now();
    }
    let mut scribe = Scribe::new("owner", "a");
    desk.submit([Request::Append(scribe.delta("t", "s", "text").append(1, Durability::Written, 1))]);
    appended(1, &desk.answer());
    assert!(!waits.is_finished(), "it is not on the disk");
    drop(held);
    assert!(matches!(waits.join().expect("no panic"), Ok(Outcome::Stored(_))));
}

#[test]
fn after_a_failed_sync_a_change_is_refused_and_service_returns() {
    let folder = tempfile::tempdir().expect("a folder");
    let (journal, disk) = failing(folder.path(), SqliteOptions::default());
    let desk = Desk::new(journal);
    let accounts = desk.journal.accounts();
    disk.failing.store(3, Ordering::Release);
    let refused = wait(accounts.compare_and_set(create("a", Durability::Synced)));
    assert_eq!(refused, Err(Unavailable), "whether it is on the disk is not known");
    let truth = loop {
        match wait(accounts.compare_and_set(create("a", Durability::Synced))) {
            Ok(outcome) => break outcome,
            Err(Unavailable) => std::thread::yield_now(),
        }
    };
    let entry = wait(accounts.get(key("a"))).expect("it reads").expect("an entry");
    assert_eq!(truth, Outcome::Conflict(Some(entry.version)), "it had been written");
    assert_eq!(wait(accounts.add(addition())), Ok(1));
    drop(desk);
    let (_, report) = open_with(folder.path(), SqliteOptions::default()).expect("it opens");
    assert!(!report.unclean && !report.lost_commits, "{report:?}");
}

#[test]
fn each_change_counts_as_a_commit_so_that_a_loss_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (journal, _) = failing(folder.path(), SqliteOptions::default());
    let desk = Desk::new(journal);
    let accounts = desk.journal.accounts();
    let copy = tempfile::tempdir().expect("a folder");
    for file in ["journal.db", "journal.db-wal"] {
        std::fs::copy(folder.path().join(file), copy.path().join(file)).expect("a copy");
    }
    assert_eq!(wait(accounts.add(addition())), Ok(1));
    let commits = "journal.db.commits";
    std::fs::copy(folder.path().join(commits), copy.path().join(commits)).expect("a copy");
    let opened = super::Sqlite::open(copy.path().join("journal.db"), SqliteOptions::default());
    let error = opened.expect_err("the addition is missing");
    assert!(error.to_string().contains("lacks data that was committed"), "{error}");
}

#[test]
fn accounts_of_a_closed_journal_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (journal, _) = failing(folder.path(), SqliteOptions::default());
    let (to, _) = unbounded_channel();
    let journal = journal.open(Answers::new(to));
    let accounts = journal.accounts();
    drop(journal);
    assert_eq!(wait(accounts.get(key("a"))), Err(Unavailable));
    assert_eq!(wait(accounts.add(addition())), Err(Unavailable));
}

#[test]
fn changes_beyond_the_queue_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (journal, _) = failing(folder.path(), SqliteOptions::default());
    let desk = Desk::new(journal);
    let accounts = desk.journal.accounts();
    // The writer waits for this lock before each transaction.
    let held = desk.journal.shared.writing.lock().expect("a lock");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let mut changes = tokio::task::JoinSet::new();
        for _ in 0..2_000 {
            let accounts = accounts.clone();
            changes.spawn(async move { accounts.add(addition()).await });
        }
        // 1,024 wait, and the writer has taken at most 64.
        for _ in 1024 + 64..2_000 {
            let early = changes.join_next().await.expect("a task").expect("no panic");
            assert_eq!(early, Err(Unavailable), "the queue is full");
        }
        drop(held);
        let rest = changes.join_all().await;
        let made = rest.iter().filter(|total| total.is_ok()).count();
        assert!((1024..=1024 + 64).contains(&made), "{made}");
        assert_eq!(accounts.add(addition()).await, Ok(1 + i64::try_from(made).expect("a few")));
    });
}
