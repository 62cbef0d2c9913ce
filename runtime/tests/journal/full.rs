//! A full disk: what cannot be kept is refused, what is kept can be read, and service returns by itself.

use std::{fs, path::Path, process::Command};

use switchboard_core::{accounts::Outcome, journal::Durability};
use switchboard_runtime::{Accounts as _, Unavailable};
use switchboard_test_support::report_skipped;

use crate::{
    accounts::{create, key, wait},
    desk::open,
    make::Scribe,
};

/// A small file system in memory, unmounted at the end.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
            .arg(folder.path())
            .status()
            .is_ok_and(|status| status.success());
        mounted.then_some(Self(folder))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // It goes with the machine otherwise.
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// Leaves no room. What fitted of a write that failed stays.
fn fill(folder: &Path) {
    let written = fs::write(folder.join("filler"), vec![1; 8 << 20]);
    assert!(written.is_err(), "it is larger than the file system");
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let Some(small) = Small::mount() else {
        report_skipped("a journal on a full disk: no file system can be mounted (this needs root)");
        return;
    };
    let (mut desk, _) = open(small.0.path()).expect("it opens");
    let mut scribe = Scribe::new("owner", "chat");
    assert!(desk.append(scribe.message("t1", "hello").start("t1").append(0, Durability::Synced, 0)));
    fill(small.0.path());
    let mut kept = scribe.head;
    let refused = (1..10_000).find(|id| {
        let append = scribe.delta("t1", "s", &"text ".repeat(200)).append(*id, Durability::Written, *id);
        let is_kept = desk.append(append);
        if is_kept {
            kept = scribe.head;
        }
        !is_kept
    });
    let refused = refused.expect("the disk is full");
    let record = desk.chat(&scribe.key).expect("it can be read");
    assert_eq!(record.head.seq, kept, "what was acknowledged, and no more");
    assert_eq!(desk.history(&scribe.key, 1_000).len(), if kept > 2 { 3 } else { 2 });
    scribe.resume(&record);
    let again = scribe.delta("t1", "s", &"text ".repeat(2_000)).append(refused + 1, Durability::Synced, 1);
    assert!(!desk.append(again), "the disk is still full");
    let accounts = desk.journal.accounts();
    assert_eq!(wait(accounts.compare_and_set(create("token", 60_000))), Err(Unavailable));
    assert_eq!(wait(accounts.get(key("token"))), Ok(None), "it can be read");
    let why = desk.health.borrow_and_update().clone();
    assert!(why.is_some_and(|why| why.contains("the disk is full") && why.contains("make room")));
    fs::remove_file(small.0.path().join("filler")).expect("room");
    desk.until_well();
    assert!(matches!(wait(accounts.compare_and_set(create("token", 60_000))), Ok(Outcome::Stored(_))));
    let record = desk.chat(&scribe.key).expect("it can be read");
    scribe.resume(&record);
    assert!(desk.append(scribe.delta("t1", "s", "more").append(refused + 2, Durability::Synced, 2)));
    drop(desk);
    let (mut desk, report) = open(small.0.path()).expect("it opens again");
    assert!(!report.lost_commits, "{report:?}");
    assert_eq!(desk.chat(&scribe.key).expect("a chat").head.seq, scribe.head);
}
