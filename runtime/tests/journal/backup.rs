//! Copies of a journal, and their way back.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use switchboard_core::journal::Durability;
use switchboard_runtime::{OpenErrorReason, Sqlite};

use crate::{desk::open, make::Scribe, opening::folder};

#[test]
fn a_backup_is_made_while_the_journal_is_open() {
    let (live, backup) = (folder(), folder());
    let mut scribe = Scribe::new("owner", "chat");
    let (mut desk, _) = open(live.path()).expect("it opens");
    assert!(desk.append(scribe.message("t1", "hello").append(1, Durability::Synced, 1)));
    let to = backup.path().join("copy");
    let made = Sqlite::backup(&live.path().join("journal.db"), &to).expect("a backup");
    assert_eq!(made.chats, 1);
    assert_eq!(fs::metadata(&to).expect("a file").permissions().mode() & 0o777, 0o600);
    let again = Sqlite::backup(&live.path().join("journal.db"), &to).expect_err("it exists");
    assert!(matches!(again.reason, OpenErrorReason::Exists), "{again}");
    assert!(desk.append(scribe.message("t2", "later").append(2, Durability::Synced, 2)));
    let in_use = Sqlite::restore(&to, &live.path().join("journal.db")).expect_err("it is in use");
    assert!(matches!(in_use.reason, OpenErrorReason::InUse { .. }), "{in_use}");
    drop(desk);
    let there = Sqlite::restore(&to, &live.path().join("journal.db")).expect_err("there is one");
    assert!(matches!(there.reason, OpenErrorReason::Exists), "{there}");
    // One that nobody has open can be copied as well, and nothing is left beside it.
    let closed = backup.path().join("closed");
    assert_eq!(Sqlite::backup(&live.path().join("journal.db"), &closed).expect("a backup").chats, 1);

    let restored = Sqlite::restore(&to, &backup.path().join("journal.db")).expect("it is restored");
    assert_eq!(restored.chats, 1);
    assert_eq!(
        names(backup.path()),
        ["closed", "copy", "journal.db", "journal.db.commits", "journal.db.lock"]
    );
    let (mut copy, report) = open(backup.path()).expect("it opens");
    assert!(report.restored && !report.created && !report.unclean && !report.uncounted, "{report:?}");
    assert_eq!(copy.history(&scribe.key, 10).len(), 1);
    assert_ne!(copy.chat(&scribe.key).expect("a chat").head.epoch, scribe.epoch);
    assert!(copy.chat(&scribe.key).expect("a chat").earlier.is_some());
    let head = copy.chat(&scribe.key).expect("a chat").head;
    drop(copy);
    let (mut copy, report) = open(backup.path()).expect("it opens again");
    assert!(!report.restored && !report.lost_commits && !report.unclean, "{report:?}");
    assert_eq!(copy.chat(&scribe.key).expect("a chat").head, head, "its epoch is new once");
}

#[test]
fn what_a_restore_left_that_was_killed_is_in_nobodys_way() {
    let folder = folder();
    let place = folder.path().join("journal.db");
    drop(open(folder.path()).expect("it opens"));
    let copy = folder.path().join("copy");
    Sqlite::backup(&place, &copy).expect("a backup");
    let elsewhere = tempfile::tempdir().expect("a folder");
    let left = ["journal.db.4711.partial", "journal.db.4711.partial-wal", "journal.db.4711.partial-shm"];
    for file in left.iter().chain(&["journal.db.mine.partial", "other.4711.partial"]) {
        fs::write(elsewhere.path().join(file), "half of it").expect("a file");
    }
    Sqlite::restore(&copy, &elsewhere.path().join("journal.db")).expect("it is restored");
    let mine = [
        "journal.db",
        "journal.db.commits",
        "journal.db.lock",
        "journal.db.mine.partial",
        "other.4711.partial",
    ];
    assert_eq!(names(elsewhere.path()), mine);
}

#[test]
fn what_is_no_backup_is_not_restored() {
    let folder = folder();
    let (text, missing) = (folder.path().join("text"), folder.path().join("missing"));
    fs::write(&text, "not a journal, whatever its name says").expect("a file");
    let place = folder.path().join("journal.db");
    for (file, what) in [(&text, "not a Switchboard journal"), (&missing, "does not exist")] {
        let refused = Sqlite::restore(file, &place).expect_err("it is refused");
        assert!(refused.to_string().contains(what), "{refused}");
    }
    assert_eq!(names(folder.path()), ["text"], "nothing is left of it");
    // One whose middle is not what it was.
    let (mut desk, _) = open(folder.path()).expect("it opens");
    let mut scribe = Scribe::new("owner", "chat");
    for n in 0..200 {
        let id = format!("t{n}");
        assert!(desk.append(scribe.message(&id, &"word ".repeat(100)).append(n, Durability::Written, 1)));
    }
    let copy = folder.path().join("copy");
    Sqlite::backup(&place, &copy).expect("a backup");
    drop(desk);
    let mut bytes = fs::read(&copy).expect("a file");
    bytes[20_000..28_000].fill(0xaa);
    fs::write(&copy, bytes).expect("a file");
    // Another program's database, with a write-ahead log.
    let foreign = folder.path().join("foreign");
    let mut bytes = fs::read(&place).expect("a file");
    bytes[68..72].fill(1);
    fs::write(&foreign, bytes).expect("a file");
    let elsewhere = tempfile::tempdir().expect("a folder");
    let refused = Sqlite::restore(&copy, &elsewhere.path().join("journal.db")).expect_err("it is damaged");
    assert!(matches!(refused.reason, OpenErrorReason::DamagedCopy { .. }), "{refused}");
    let refused = Sqlite::restore(&foreign, &elsewhere.path().join("journal.db")).expect_err("it is foreign");
    assert!(matches!(refused.reason, OpenErrorReason::NotAJournal), "{refused}");
    assert!(names(elsewhere.path()).is_empty(), "{:?}", names(elsewhere.path()));
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a file").file_name());
    let mut names: Vec<_> = entries.filter_map(|name| name.into_string().ok()).collect();
    names.sort();
    names
}
