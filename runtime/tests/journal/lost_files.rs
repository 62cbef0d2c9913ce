//! Every state that the files of a journal can be in after a kill: none is begun anew without a word, what is refused is
//! left as it was, and a check says the same as a start.

use std::{collections::BTreeMap, fs, path::Path};

use switchboard_core::{journal::Durability, wire::Outcome};
use switchboard_runtime::{OpenError, OpenErrorReason, OpenReport, Sqlite, SqliteOptions};

use crate::{
    desk::{open, open_with},
    make::Scribe,
};

const FILES: [&str; 4] = ["journal.db", "journal.db-wal", "journal.db.commits", "journal.db.lock"];

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    Missing,
    Empty,
    /// The beginning of a database or log is overwritten, and the middle of a count.
    Damaged,
}

use State::{Damaged, Empty, Good, Missing};

/// What is to become of a start.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Served,
    /// Nobody knows whether it is whole, which is said.
    Uncounted,
    /// It begins anew, and says that a gateway was here before.
    Removed,
    Lost,
    Damaged,
    NotAJournal,
}

fn expected(db: State, log: State, commits: State) -> Verdict {
    match (db, log, commits) {
        (Good, Good, Good) => Verdict::Served,
        (Good, _, Missing) => Verdict::Uncounted,
        (Missing, Missing, Missing) => Verdict::Removed,
        (Damaged, Missing, Missing) => Verdict::NotAJournal,
        (Damaged, ..) => Verdict::Damaged,
        _ => Verdict::Lost,
    }
}

fn verdict(opened: &Result<OpenReport, OpenError>) -> Verdict {
    match opened {
        Ok(report) if report.removed => Verdict::Removed,
        Ok(report) if report.uncounted => Verdict::Uncounted,
        Ok(report) => {
            assert!(!report.created && !report.lost_commits, "{report:?}");
            Verdict::Served
        }
        Err(OpenError { reason: OpenErrorReason::Lost { .. }, .. }) => Verdict::Lost,
        Err(OpenError { reason: OpenErrorReason::Damaged { .. }, .. }) => Verdict::Damaged,
        Err(OpenError { reason: OpenErrorReason::NotAJournal, .. }) => Verdict::NotAJournal,
        Err(error) => panic!("{error}"),
    }
}

/// The same, as a check sees it.
fn check(folder: &Path) -> Verdict {
    match Sqlite::check(&folder.join(FILES[0]), |_, _| {}) {
        // A start says more of these.
        Ok(report) if report.is_sound() => Verdict::Served,
        Ok(_) => Verdict::Damaged,
        Err(OpenError { reason: OpenErrorReason::Missing, .. }) => Verdict::Removed,
        Err(error) => verdict(&Err(error)),
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a file"));
    let read = |entry: fs::DirEntry| {
        (entry.file_name().into_string().expect("text"), fs::read(entry.path()).expect("a file"))
    };
    entries.map(read).collect()
}

fn harm(path: &Path, state: State) {
    match state {
        Good => {}
        Missing => fs::remove_file(path).expect("it is there"),
        Empty => fs::write(path, "").expect("it is written"),
        Damaged => {
            let mut bytes = fs::read(path).expect("a file");
            let at = if path.ends_with(FILES[2]) { bytes.len() / 2..bytes.len() } else { 0..40 };
            bytes[at].iter_mut().for_each(|byte| *byte ^= 0xff);
            fs::write(path, bytes).expect("it is written");
        }
    }
}

/// The files of a journal with two chats whose gateway was killed, and which may have had a checkpoint between them.
fn killed(checkpointed: bool) -> tempfile::TempDir {
    let (live, after) = (folder(), folder());
    let (mut desk, _) = open(live.path()).expect("it opens");
    for (n, chat) in (0..).zip(["first", "second"]) {
        let mut scribe = Scribe::new("owner", chat);
        let whole = scribe.message("t1", "hello").start("t1").end("t1", Outcome::Completed);
        assert!(desk.append(whole.append(n, Durability::Synced, n)));
        if checkpointed && chat == "first" {
            let db = rusqlite::Connection::open(live.path().join(FILES[0])).expect("it opens");
            let left: i64 = db
                .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
                    Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?)
                })
                .expect("a checkpoint");
            assert_eq!(left, 0);
        }
    }
    for file in FILES {
        fs::copy(live.path().join(file), after.path().join(file)).expect("a copy");
    }
    after
}

#[test]
fn no_state_of_the_files_is_begun_anew_without_a_word() {
    let left = [killed(false), killed(true)];
    for (checkpointed, db, log, commits) in [false, true].into_iter().flat_map(|checkpointed| {
        let all = [Good, Missing, Empty, Damaged];
        all.into_iter().flat_map(move |db| {
            all.into_iter().flat_map(move |log| all.map(move |commits| (checkpointed, db, log, commits)))
        })
    }) {
        let case = format!("checkpointed: {checkpointed}, {db:?}, log {log:?}, commits {commits:?}");
        let place = folder();
        for file in FILES {
            fs::copy(left[usize::from(checkpointed)].path().join(file), place.path().join(file))
                .expect("a copy");
        }
        for (file, state) in FILES.iter().zip([db, log, commits]) {
            harm(&place.path().join(file), state);
        }
        let wanted = expected(db, log, commits);
        let before = files(place.path());
        let checked = check(place.path());
        assert!(files(place.path()) == before, "a check changed {case}");
        let known = if wanted == Verdict::Uncounted { &Verdict::Served } else { &wanted };
        assert_eq!(checked, *known, "{case}");

        let opened = open(place.path()).map(|(_, report)| report);
        assert_eq!(verdict(&opened), wanted, "{case}");
        let Err(error) = opened else { continue };
        assert!(files(place.path()) == before, "a start that was refused changed {case}: {error}");
        let mut accepting = SqliteOptions::default();
        accepting.accept_loss = true;
        let accepted = open_with(place.path(), accepting).map(|(_, report)| report);
        if wanted == Verdict::NotAJournal {
            assert_eq!(verdict(&accepted), wanted, "{case}");
            continue;
        }
        let report = accepted.unwrap_or_else(|error| panic!("{case}: {error}"));
        assert!(report.lost_commits && report.set_aside.is_some() && !report.rebooted, "{case}: {report:?}");
        assert_eq!(report.salvaged.is_some(), wanted == Verdict::Damaged, "{case}");
        let aside = report.set_aside.expect("a copy").into_os_string().into_string().expect("text");
        for (file, end) in FILES.iter().zip(["", "-wal", ".commits"]) {
            assert!(fs::read(format!("{aside}{end}")).ok() == before.get(*file).cloned(), "{case}: {file}");
        }
        let (_, report) = open(place.path()).expect("once is enough");
        assert!(!report.lost_commits && !report.created, "{case}: {report:?}");
    }
}

#[test]
fn another_programs_database_and_its_log_are_left_alone() {
    let (live, place) = (folder(), folder());
    let db = rusqlite::Connection::open(live.path().join(FILES[0])).expect("a database");
    db.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE recipes (name TEXT)").expect("SQL");
    for file in &FILES[..2] {
        fs::copy(live.path().join(file), place.path().join(file)).expect("a copy");
    }
    let before = files(place.path());
    let mut accepting = SqliteOptions::default();
    accepting.accept_loss = true;
    for options in [SqliteOptions::default(), accepting] {
        let error = open_with(place.path(), options).map(|_| ()).expect_err("it does not open");
        assert!(matches!(error.reason, OpenErrorReason::NotAJournal), "{error}");
        assert!(files(place.path()) == before);
    }
}

#[test]
fn a_start_that_was_killed_while_it_made_the_journal_leaves_nothing_that_matters() {
    let place = folder();
    fs::write(place.path().join("journal.db.7.partial"), "half").expect("it is written");
    fs::write(place.path().join("journal.db.7.partial-journal"), "half").expect("it is written");
    let (desk, report) = open(place.path()).expect("it opens");
    assert!(report.created && !report.lost_commits && !report.removed, "{report:?}");
    drop(desk);
    let names: Vec<String> = files(place.path()).into_keys().collect();
    assert_eq!(names, ["journal.db", "journal.db.commits", "journal.db.lock"]);
}
