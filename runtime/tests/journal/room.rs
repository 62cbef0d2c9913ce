//! The write-ahead log: how long it gets, the room in it, and what is cut.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use switchboard_core::journal::{Change, Durability};
use switchboard_runtime::{Sqlite, SqliteOptions};

use crate::{
    desk::{open, open_with},
    make::Scribe,
    opening::{copy, folder},
};

#[test]
fn the_log_stays_bounded() {
    let folder = folder();
    let mut options = SqliteOptions::default();
    options.wal_bytes = 1 << 20;
    let (mut desk, _) = open_with(folder.path(), options).expect("it opens");
    let mut scribe = Scribe::new("owner", "chat");
    let text = "text ".repeat(40_000);
    let mut longest = 0;
    for id in 0..600 {
        assert!(desk.append(scribe.delta("t", "s", &text).append(id, Durability::Synced, id)));
        longest = longest.max(fs::metadata(folder.path().join("journal.db-wal")).expect("a log").len());
    }
    assert!(longest < 64 << 20, "{longest} bytes, while 120 MB were written");
}

#[test]
fn there_is_room_in_the_log_before_it_is_needed() {
    let folder = folder();
    let (mut desk, _) = open(folder.path()).expect("it opens");
    let mut scribe = Scribe::new("owner", "chat");
    let text = "text ".repeat(20_000);
    let room = || {
        let log = fs::read(folder.path().join("journal.db-wal")).expect("a log");
        log.len() - log.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
    };
    for id in 0..50 {
        let until = Instant::now() + Duration::from_secs(30);
        while room() < 1 << 18 {
            assert!(Instant::now() < until, "only {} bytes after {id} appends", room());
            std::thread::yield_now();
        }
        assert!(desk.append(scribe.delta("t", "s", &text).append(id, Durability::Written, id)));
    }
}

#[test]
fn a_log_that_was_cut_begins_with_as_much_room_as_any() {
    let folder = folder();
    let (mut desk, _) = open(folder.path()).expect("it opens");
    let (mut gone, mut stays) = (Scribe::new("owner", "gone"), Scribe::new("owner", "stays"));
    let text = "text ".repeat(20_000);
    for id in 0..80 {
        assert!(desk.append(gone.delta("t", "s", &text).append(id, Durability::Written, id)));
    }
    let length = || fs::metadata(folder.path().join("journal.db-wal")).expect("a log").len();
    assert!(length() > 8 << 20);
    assert!(desk.append(gone.change(Change::Deleted).append(100, Durability::Synced, 2)));
    let until = Instant::now() + Duration::from_secs(30);
    for id in 0.. {
        assert!(desk.append(stays.delta("t", "s", "more").append(id, Durability::Written, id)));
        if (1 << 20..4 << 20).contains(&length()) {
            break;
        }
        assert!(Instant::now() < until, "{} bytes", length());
    }
}

#[test]
fn others_may_read_and_write_while_the_log_is_cut_and_made_longer() {
    let folder = folder();
    let (mut desk, _) = open(folder.path()).expect("it opens");
    let file = folder.path().join("journal.db");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let other = rusqlite::Connection::open(&file).expect("it opens");
            other.busy_timeout(Duration::from_secs(30)).expect("a limit");
            other.execute_batch("CREATE TABLE notes (note TEXT)").expect("a table");
            while !done.load(Ordering::Acquire) {
                other.execute("INSERT INTO notes VALUES (?1)", ["note ".repeat(20)]).expect("a row");
                // SQLite's lock is not a fair one.
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        scope.spawn(|| {
            let copy = folder.path().join("copy.db");
            while !done.load(Ordering::Acquire) {
                Sqlite::backup(&file, &copy).expect("a copy");
                fs::remove_file(&copy).expect("it was made");
            }
        });
        let text = "text ".repeat(20_000);
        for n in 0..200 {
            let mut chat = Scribe::new("owner", &format!("chat{n}"));
            for id in 0..3 {
                assert!(desk.append(chat.delta("t", "s", &text).append(id, Durability::Written, id)));
            }
            assert!(desk.append(chat.change(Change::Deleted).append(3, Durability::Written, 3)));
        }
        done.store(true, Ordering::Release);
    });
    drop(desk);
    let db = rusqlite::Connection::open(&file).expect("it opens");
    let verdict: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a verdict");
    assert_eq!(verdict, "ok");
}

#[test]
fn what_an_unclean_end_left_in_the_log_is_cut() {
    const TEXT: &str = "what was said";
    let (before, after) = (folder(), folder());
    let (mut desk, _) = open(before.path()).expect("it opens");
    let mut scribe = Scribe::new("owner", "chat");
    assert!(desk.append(scribe.message("t", TEXT).append(1, Durability::Synced, 1)));
    copy(before.path(), after.path());
    let said = || {
        let log = fs::read(after.path().join("journal.db-wal")).expect("a log");
        log.windows(TEXT.len()).any(|window| window == TEXT.as_bytes())
    };
    assert!(said());
    let (mut desk, report) = open(after.path()).expect("it opens");
    assert!(report.unclean, "{report:?}");
    let until = Instant::now() + Duration::from_secs(30);
    while said() {
        assert!(Instant::now() < until, "the log is cut by a thread of its own");
        std::thread::yield_now();
    }
    assert_eq!(desk.log(&scribe.key).len(), 1);
}
