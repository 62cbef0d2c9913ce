//! The ends of the files, cut and overwritten: what is intact opens, what was lost is noticed, and what
//! cannot be opened says so.

use std::{fs, path::Path};

use switchboard_core::{ids::ChatKey, journal::Durability};
use switchboard_runtime::{OpenError, OpenErrorReason, OpenReport, SqliteOptions};
use switchboard_test_support::Rng;

use crate::{
    desk::{open, open_with},
    make::{Scribe, key},
};

const TAIL: usize = 4096;
const TURNS: u64 = 6;
/// One in so many places is damaged in a run, and every place with `--nightly`: opening takes milliseconds at each.
const SHARE: usize = 16;
const FILES: [&str; 3] = ["journal.db", "journal.db-wal", "journal.db.commits"];

/// A folder in memory where there is one: thousands of journals are opened.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}

fn chat() -> ChatKey {
    key("owner", "chat")
}

/// A journal as it is found after a crash, or as it is left in order; each append is three events.
fn journal(folder: &Path, crashed: bool) {
    let busy = crate::damage::folder();
    let (mut desk, _) = open(busy.path()).expect("it opens");
    let mut scribe = Scribe::new("owner", "chat");
    for n in 0..TURNS {
        let id = format!("t{n}");
        scribe.message(&id, &format!("message {n}")).start(&id).delta(&id, "s", &"text ".repeat(40));
        scribe.end(&id, switchboard_core::wire::Outcome::Completed);
        assert!(desk.append(scribe.append(n, Durability::Written, n)));
    }
    if crashed {
        copy(busy.path(), folder);
        drop(desk);
        // What ends the log is what was written, and not the room behind it.
        let log = folder.join(FILES[1]);
        let bytes = fs::read(&log).expect("a log");
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let pages = used.saturating_sub(32).div_ceil(24 + 4096);
        fs::write(log, &bytes[..32 + pages * (24 + 4096)]).expect("a shorter log");
    } else {
        drop(desk);
        copy(busy.path(), folder);
    }
}

fn copy(from: &Path, to: &Path) {
    for file in FILES {
        let bytes = fs::read(from.join(file)).unwrap_or_default();
        fs::write(to.join(file), bytes).expect("a copy");
    }
}

/// Opens a copy of which one file has these contents. Gives the number of events, if they can be read.
fn open_damaged(whole: &Path, file: &str, bytes: &[u8]) -> Result<(OpenReport, Option<u64>), OpenError> {
    let folder = folder();
    copy(whole, folder.path());
    fs::write(folder.path().join(file), bytes).expect("a copy");
    let (mut desk, report) = match open(folder.path()) {
        // What was written is missing: nothing is touched until that is accepted, and then it is kept aside.
        Err(error) if matches!(error.reason, OpenErrorReason::Lost { .. }) => {
            assert!(error.to_string().contains("--accept-loss"), "{error}");
            for name in FILES {
                let before =
                    if name == file { bytes.to_vec() } else { fs::read(whole.join(name)).expect("a file") };
                assert!(fs::read(folder.path().join(name)).expect("a file") == before, "{name} was touched");
            }
            let mut options = SqliteOptions::default();
            options.accept_loss = true;
            let (desk, report) = open_with(folder.path(), options)?;
            let aside =
                report.set_aside.clone().expect("a copy").into_os_string().into_string().expect("text");
            if file == FILES[1] {
                assert!(fs::read(aside + "-wal").expect("a copy") == bytes);
            }
            assert!(report.lost_commits);
            (desk, report)
        }
        opened => opened?,
    };
    let Some(history) = desk.try_history(&chat(), 1_000) else { return Ok((report, None)) };
    for (n, frame) in (1..).zip(&history) {
        assert!(frame.as_str().contains(&format!("\"seq\":{n}")), "{n}: {}", frame.as_str());
        assert!(serde_json::from_str::<serde_json::Value>(frame.as_str()).is_ok(), "{}", frame.as_str());
    }
    let events = history.len() as u64;
    assert_eq!(events % 4, 0, "an append is there whole or not at all");
    let record = desk.chat(&chat());
    if let Some(record) = record.filter(|_| report.lost_commits) {
        assert_ne!(record.head.epoch.as_str(), "e-chat", "its numbers may have been used before");
        let kept = record.earlier.map(|newest| (newest.epoch.as_str().to_owned(), newest.seq));
        assert_eq!((record.head.seq, kept), (0, (events > 0).then(|| ("e-chat".to_owned(), events))));
    }
    Ok((report, Some(events)))
}

/// The places among the last bytes of a file of this length where a run does damage. Each run draws its own.
fn places(length: usize) -> impl Iterator<Item = usize> {
    let share = if std::env::var_os("SWITCHBOARD_CRASH_KILLS").is_some() { 1 } else { SHARE };
    let first = Rng::for_test("the journal").below(share as u64) as usize;
    (length - TAIL + first..length).step_by(share)
}

/// Opens a crashed journal with every end of its log that `damage` makes of it, given where it begins.
fn damage_log(damage: impl Fn(&[u8], usize) -> Vec<u8>) {
    let whole = folder();
    journal(whole.path(), true);
    let bytes = fs::read(whole.path().join(FILES[1])).expect("a log");
    let (report, events) = open_damaged(whole.path(), FILES[1], &bytes).expect("it opens");
    assert_eq!((report.lost_commits, events), (false, Some(TURNS * 4)));
    for at in places(bytes.len()) {
        let damaged = damage(&bytes, at);
        if damaged == bytes {
            continue;
        }
        let (report, events) = open_damaged(whole.path(), FILES[1], &damaged).expect("it opens");
        // Only the last transaction ends there.
        assert_eq!((report.lost_commits, events), (true, Some((TURNS - 1) * 4)), "from {at}");
    }
}

#[test]
fn a_cut_log_opens_with_every_intact_transaction() {
    damage_log(|log, at| log[..at].to_vec());
}

#[test]
fn damage_in_the_middle_of_a_log_is_refused_and_what_comes_before_it_can_be_had() {
    let whole = folder();
    journal(whole.path(), true);
    let log = fs::read(whole.path().join(FILES[1])).expect("a log");
    let mut kept = std::collections::BTreeSet::new();
    for page in 0..log.len() / (24 + 4096) {
        let mut damaged = log.clone();
        damaged[32 + page * (24 + 4096) + 100] ^= 0x40;
        match open_damaged(whole.path(), FILES[1], &damaged) {
            Ok((report, events)) => {
                assert!(report.lost_commits && report.set_aside.is_some(), "page {page}: {report:?}");
                kept.insert(events.expect("what is before it is whole"));
            }
            Err(error) => panic!("page {page}: {error}"),
        }
    }
    assert!(kept.len() > 2, "{kept:?}");
}

#[test]
fn a_log_that_ends_in_garbage_opens_with_every_intact_transaction() {
    let Rng(seed) = Rng::for_test("the journal");
    damage_log(|log, at| {
        let mut rng = Rng(seed ^ at as u64);
        let mut log = log.to_vec();
        log[at..].fill_with(|| rng.next().to_le_bytes()[0]);
        log
    });
}

#[test]
fn the_room_behind_a_log_does_not_matter() {
    let whole = folder();
    journal(whole.path(), true);
    let log = fs::read(whole.path().join(FILES[1])).expect("a log");
    let mut rng = Rng::for_test("the journal");
    for room in [1, 24, 32, 4095, 4120, 1 << 20] {
        for garbage in [0, 1, 4, room] {
            let mut longer = log.clone();
            longer.resize(log.len() + room, 0);
            longer[log.len()..][room - garbage.min(room)..].fill_with(|| rng.next().to_le_bytes()[0]);
            let (report, events) = open_damaged(whole.path(), FILES[1], &longer).expect("it opens");
            assert_eq!((report.lost_commits, events), (false, Some(TURNS * 4)), "{room} {garbage}");
        }
    }
}

#[test]
fn a_cut_database_is_refused_with_instructions() {
    let whole = folder();
    journal(whole.path(), false);
    let bytes = fs::read(whole.path().join(FILES[0])).expect("a database");
    let (report, events) = open_damaged(whole.path(), FILES[0], &bytes).expect("it opens");
    assert_eq!((report.unclean, events), (false, Some(TURNS * 4)));
    for end in places(bytes.len()) {
        let error = open_damaged(whole.path(), FILES[0], &bytes[..end]).expect_err("cut");
        assert!(matches!(error.reason, OpenErrorReason::Damaged { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("journal.db is damaged") && text.contains("restore a backup"), "{text}");
    }
}

#[test]
fn garbage_in_a_database_is_refused_or_harmless() {
    let whole = folder();
    journal(whole.path(), false);
    let bytes = fs::read(whole.path().join(FILES[0])).expect("a database");
    let mut rng = Rng::for_test("the journal");
    let (mut refused, mut unread) = (0, 0);
    for at in places(bytes.len()) {
        let mut garbage = bytes.clone();
        garbage[at..].fill_with(|| rng.next().to_le_bytes()[0]);
        match open_damaged(whole.path(), FILES[0], &garbage) {
            Ok((_, Some(events))) => assert_eq!(events, TURNS * 4, "garbage from {at}"),
            Ok((_, None)) => unread += 1,
            Err(error) => {
                assert!(error.to_string().contains("restore a backup"), "{error}");
                refused += 1;
            }
        }
    }
    println!("{refused} refused, {unread} opened without the damaged part");
    assert!(refused > 0, "garbage in the database's structure is noticed");
}
