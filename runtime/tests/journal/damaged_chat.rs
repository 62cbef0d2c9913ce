//! Damage of one chat in a database that is too large to be checked whole at a start: that chat's questions are answered
//! with that, its appends refused, and all others are served.

use std::{
    fs::{self, File},
    ops::Range,
    os::unix::fs::FileExt as _,
    path::Path,
};

use switchboard_core::{
    ids::ChatKey,
    journal::{Durability, PageStart, Query},
};
use switchboard_runtime::SqliteOptions;

use crate::{
    desk::{open, open_with},
    make::{Scribe, turn},
};

const PAGE: u64 = 4096;
/// So many events of a chat have pages of their own in every index.
const EVENTS: u64 = 2_000;

fn unjoined() -> SqliteOptions {
    let mut options = SqliteOptions::default();
    options.compact_after = None;
    options
}

/// A chat, and another one at the other end of a database of more than 32 MiB that was closed in order.
fn large(folder: &Path) -> (Scribe, Scribe) {
    let (mut harmed, mut whole) = (Scribe::new("owner", "harmed"), Scribe::new("owner", "whole"));
    let (mut desk, _) = open_with(folder, unjoined()).expect("it opens");
    harmed.message("t1", "hello").start("t1");
    let mut between = Scribe::new("owner", "between");
    for scribe in [&mut harmed, &mut between, &mut whole] {
        for _ in 0..EVENTS {
            scribe.delta("t1", "s", "text");
        }
        assert!(desk.append(scribe.append(1, Durability::Synced, 1)));
    }
    let text = "text ".repeat(100_000);
    for id in 2..80 {
        assert!(desk.append(whole.delta("t", "s", &text).append(id, Durability::Written, id)));
    }
    drop(desk);
    assert!(fs::metadata(folder.join("journal.db")).expect("a file").len() > 32 << 20);
    (harmed, whole)
}

/// Overwrites some leaves of a table or index, which are given as a part of all.
fn damage(folder: &Path, name: &str, leaves: impl Fn(usize) -> Range<usize>) {
    let file = folder.join("journal.db");
    let db = rusqlite::Connection::open(&file).expect("it opens");
    let sql = "SELECT pageno FROM dbstat WHERE name = ?1 AND pagetype = 'leaf' ORDER BY path";
    let mut find = db.prepare(sql).expect("SQL");
    let pages: Vec<i64> =
        find.query_map([name], |row| row.get(0)).expect("rows").map(|page| page.expect("a number")).collect();
    let file = File::options().write(true).open(file).expect("a file");
    for page in &pages[leaves(pages.len())] {
        file.write_all_at(&[0xaa; PAGE as usize], (page.unsigned_abs() - 1) * PAGE).expect("it is written");
    }
}

fn history(chat: &ChatKey) -> Query {
    Query::Before { chat: chat.clone(), before: PageStart::At(u64::MAX), events: 10_000, bytes: 1 << 20 }
}

#[test]
fn damaged_events_are_said_to_be_and_everything_else_is_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harmed, mut whole) = large(folder.path());
    damage(folder.path(), "events", |_| 1..2);
    let (mut desk, _) = open_with(folder.path(), unjoined()).expect("it opens");
    let after = Query::After { chat: harmed.key.clone(), after: harmed.cursor(0), bytes: usize::MAX };
    for query in [history(&harmed.key), after] {
        assert!(desk.is_damaged(query.clone()), "{query:?}");
    }
    assert_eq!(desk.log(&whole.key).len() as u64, EVENTS + 78);
    let known = Query::Turn { chat: harmed.key.clone(), turn_id: turn("t1") };
    assert!(desk.ask(known).is_some(), "what is not damaged is read");
    assert!(desk.append(harmed.delta("t1", "s", "more").append(1, Durability::Synced, 1)));
    assert!(desk.append(whole.delta("t", "s", "more").append(2, Durability::Synced, 2)));
}

#[test]
fn what_cannot_be_added_to_a_damaged_chat_holds_nobody_else_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut harmed, mut whole) = large(folder.path());
    // Up to the middle of what is between them.
    damage(folder.path(), "events_by_place", |leaves| 0..leaves / 2);
    let (mut desk, report) = open_with(folder.path(), unjoined()).expect("it opens");
    assert!(!report.lost_commits);
    for id in 1..4 {
        assert!(!desk.append(harmed.delta("t1", "s", "more").append(id, Durability::Synced, id)));
        assert!(desk.is_damaged(Query::Chat { chat: harmed.key.clone(), term: None }));
        assert!(desk.append(whole.delta("t", "s", "more").append(id + 10, Durability::Synced, id)));
    }
    assert_eq!(desk.log(&whole.key).len() as u64, EVENTS + 81);
    assert!(desk.is_damaged(history(&harmed.key)));
}

#[test]
fn a_hole_in_a_chat_is_damage() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut desk, _) = open_with(folder.path(), unjoined()).expect("it opens");
    let mut scribe = Scribe::new("owner", "chat");
    scribe.message("t1", "hello").start("t1").delta("t1", "s", "one").delta("t1", "s", "two");
    assert!(desk.append(scribe.append(1, Durability::Synced, 1)));
    drop(desk);
    let after = |seq| Query::After { chat: scribe.key.clone(), after: scribe.cursor(seq), bytes: usize::MAX };
    for (lost, damaged) in [(3, &[0, 1, 2][..]), (4, &[2, 3])] {
        let db = rusqlite::Connection::open(folder.path().join("journal.db")).expect("it opens");
        db.execute("DELETE FROM events WHERE seq = ?1", [lost]).expect("SQL");
        drop(db);
        let (mut desk, _) = open(folder.path()).expect("it opens");
        for seq in 0..5 {
            assert_eq!(desk.is_damaged(after(seq)), damaged.contains(&seq), "{lost} is lost, after {seq}");
        }
    }
}
