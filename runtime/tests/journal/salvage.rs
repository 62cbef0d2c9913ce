//! Damaged databases: refused untouched until that is accepted, then what can be read is served; and what a check says.

use std::{collections::BTreeMap, fs, path::Path};

use switchboard_core::{
    ids::ChatKey,
    journal::{Durability, Found, Query},
    wire::Outcome,
};
use switchboard_runtime::{OpenErrorReason, Sqlite, SqliteOptions};
use switchboard_test_support::Rng;

use crate::{
    desk::{open, open_with},
    make::Scribe,
};

const PAGE: usize = 4096;
const FILES: [&str; 3] = ["journal.db", "journal.db-wal", "journal.db.commits"];
/// One in so many pages is damaged in a run.
const SHARE: u64 = 4;
/// Rows that one page holds at most.
const PAGE_ROWS: usize = 80;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}

fn accepting() -> SqliteOptions {
    let mut options = SqliteOptions::default();
    options.accept_loss = true;
    options
}

/// A journal of several chats that was closed in order, and what each of them has.
fn journal(folder: &Path) -> BTreeMap<ChatKey, Vec<String>> {
    let mut options = SqliteOptions::default();
    options.compact_after = None;
    let (mut desk, _) = open_with(folder, options).expect("it opens");
    let mut scribes: Vec<Scribe> = (0..4).map(|n| Scribe::new("owner", &format!("chat{n}"))).collect();
    for n in 0..60 {
        for scribe in &mut scribes {
            let id = format!("t{n}");
            scribe.message(&id, &format!("message {n}")).start(&id).delta(&id, "s", &"text ".repeat(30 + n));
            if n < 59 {
                scribe.end(&id, Outcome::Completed);
            }
            assert!(desk.append(scribe.append(n as u64, Durability::Written, n as u64)));
        }
    }
    // One event of more than a page.
    assert!(desk.append(scribes[0].delta("t59", "long", &"text ".repeat(4_000)).append(
        1,
        Durability::Synced,
        1
    )));
    let history = |scribe: &Scribe| {
        let frames = desk.history(&scribe.key, 1_000);
        (scribe.key.clone(), frames.iter().map(|frame| frame.as_str().to_owned()).collect())
    };
    scribes.iter().map(history).collect()
}

/// A copy of a journal whose database is this.
fn damaged(whole: &Path, db: &[u8]) -> tempfile::TempDir {
    let copy = folder();
    for file in FILES {
        if let Ok(bytes) = fs::read(whole.join(file)) {
            fs::write(copy.path().join(file), bytes).expect("a copy");
        }
    }
    fs::write(copy.path().join(FILES[0]), db).expect("a copy");
    copy
}

/// Opens it once that is accepted. Gives how many events are served; nothing: it was not refused.
fn salvaged(whole: &BTreeMap<ChatKey, Vec<String>>, folder: &Path) -> Option<usize> {
    let files = || FILES.map(|file| fs::read(folder.join(file)).ok());
    let before = files();
    let error = open(folder).err()?;
    assert!(matches!(error.reason, OpenErrorReason::Damaged { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("--accept-loss") && text.contains("every file was left as it is"), "{text}");
    assert!(files() == before, "a file was touched: {error}");

    let (mut desk, report) = open_with(folder, accepting()).expect("what is left opens");
    let salvaged = report.salvaged.expect("it says what could be read");
    let aside = report.set_aside.expect("a copy").into_os_string().into_string().expect("text");
    assert_eq!(fs::read(&aside).ok(), before[0], "what could be read is kept");
    assert_eq!(fs::read(aside + ".commits").ok(), before[2]);
    assert!(report.lost_commits);
    let mut served = 0;
    for (key, frames) in whole {
        let Some(record) = desk.chat(key) else { continue };
        assert!(
            record.head.seq == 0 && record.head.epoch.as_str() != format!("e-{}", key.chat),
            "{record:?}"
        );
        let mut left = frames.iter();
        for frame in desk.history(key, 1_000) {
            assert!(
                left.any(|one| one == frame.as_str()),
                "it was said, and in this order: {}",
                frame.as_str()
            );
            served += 1;
        }
        // It goes on.
        let mut scribe = Scribe::new("owner", key.chat.as_str());
        scribe.resume(&record);
        assert!(desk.append(scribe.message("new", "hello").append(1, Durability::Synced, 1)));
    }
    assert_eq!(served as u64, salvaged.events);
    let Some(Found::Chats(Some(page))) = desk.ask(Query::Chats {
        principal: switchboard_core::ids::Principal::owner(),
        before: None,
        limit: 10,
    }) else {
        panic!("the chats are listed")
    };
    assert_eq!(page.chats.len() as u64, salvaged.chats);
    drop(desk);
    let checked = Sqlite::check(&folder.join(FILES[0]), |_, _| {}).expect("it can be checked");
    assert!(checked.is_sound(), "{checked:?}");
    let (_, report) = open(folder).expect("once is enough");
    assert!(!report.lost_commits && report.set_aside.is_none() && report.salvaged.is_none(), "{report:?}");
    Some(served)
}

#[test]
fn of_a_database_with_a_damaged_page_all_other_pages_are_served() {
    let place = folder();
    let whole = journal(place.path());
    let events: usize = whole.values().map(Vec::len).sum();
    let bytes = fs::read(place.path().join(FILES[0])).expect("a database");
    let pages = bytes.len() / PAGE;
    let db = rusqlite::Connection::open(place.path().join(FILES[0])).expect("it opens");
    let name = |page: usize| -> String {
        db.query_row("SELECT name FROM dbstat WHERE pageno = ?1", [page as i64], |row| row.get(0))
            .expect("a page")
    };
    // Each run has its own share of the pages; together they have all.
    for page in (Rng::for_test("the journal").below(SHARE) as usize..pages).step_by(SHARE as usize) {
        let mut harmed = bytes.clone();
        harmed[page * PAGE..(page + 1) * PAGE].fill(0xaa);
        let copy = damaged(place.path(), &harmed);
        let Some(served) = salvaged(&whole, copy.path()) else { continue };
        // Where the schema, or the root of this table, is gone, nothing leads to the rest.
        let leads = matches!(name(page + 1).as_str(), "sqlite_schema" | "events");
        assert!(served + PAGE_ROWS >= events || (leads && served == 0), "{served} without page {}", page + 1);
    }
}

/// The page that each table and index begins with, and that of the schema.
fn roots(file: &Path) -> Vec<(String, usize)> {
    let db = rusqlite::Connection::open(file).expect("it opens");
    let mut find = db.prepare("SELECT name, rootpage FROM sqlite_schema WHERE rootpage > 0").expect("SQL");
    let roots = find.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as usize))).expect("rows");
    let schema = Ok(("sqlite_schema".to_owned(), 1));
    [schema].into_iter().chain(roots).collect::<Result<_, _>>().expect("names")
}

#[test]
fn of_a_database_without_the_root_of_a_table_the_other_tables_are_served_and_all_of_it_is_kept() {
    let place = folder();
    let whole = journal(place.path());
    let events: usize = whole.values().map(Vec::len).sum();
    let bytes = fs::read(place.path().join(FILES[0])).expect("a database");
    let roots = roots(&place.path().join(FILES[0]));
    assert!(roots.iter().any(|(name, _)| name == "chats") && roots.iter().any(|(name, _)| name == "events"));
    for (name, page) in roots {
        let mut harmed = bytes.clone();
        harmed[(page - 1) * PAGE..page * PAGE].fill(0xaa);
        let copy = damaged(place.path(), &harmed);
        let served = salvaged(&whole, copy.path()).expect("it is refused");
        // Nothing else has the events, and nothing the tables.
        let lost = matches!(&*name, "sqlite_schema" | "events");
        assert_eq!(served, if lost { 0 } else { events }, "without the root of {name}");
    }
}

#[test]
fn of_a_database_that_was_cut_or_overwritten_what_is_left_is_served() {
    let place = folder();
    let whole = journal(place.path());
    let events: usize = whole.values().map(Vec::len).sum();
    let bytes = fs::read(place.path().join(FILES[0])).expect("a database");
    let mut rng = Rng::for_test("the journal");
    for _ in 0..6 {
        let at = bytes.len() - 1 - rng.below(PAGE as u64) as usize;
        let copy = damaged(place.path(), &bytes[..at]);
        let served = salvaged(&whole, copy.path()).expect("what is cut is refused");
        assert!(served + 2 * PAGE_ROWS >= events, "{served} of {events}");
        let mut harmed = bytes.clone();
        harmed[at..].fill_with(|| rng.next().to_le_bytes()[0]);
        let copy = damaged(place.path(), &harmed);
        salvaged(&whole, copy.path());
        // Anywhere, and as long as a page.
        let at = rng.below((bytes.len() - PAGE) as u64) as usize;
        let mut harmed = bytes.clone();
        harmed[at..at + PAGE].fill_with(|| rng.next().to_le_bytes()[0]);
        let copy = damaged(place.path(), &harmed);
        salvaged(&whole, copy.path());
    }
}

#[test]
fn of_a_file_that_is_no_database_any_more_nothing_is_served_and_it_is_kept() {
    let place = folder();
    let whole = journal(place.path());
    let length = fs::metadata(place.path().join(FILES[0])).expect("a file").len() as usize;
    for bytes in [b"My diary. Dear diary, ...".to_vec(), vec![0; length], b"SQLite format 3\0".repeat(100)] {
        let copy = damaged(place.path(), &bytes);
        assert_eq!(salvaged(&whole, copy.path()), Some(0));
    }
}

#[test]
fn a_check_names_the_chats_that_are_damaged() {
    let place = folder();
    let whole = journal(place.path());
    let file = place.path().join(FILES[0]);
    let mut seen = Vec::new();
    let report = Sqlite::check(&file, |done, of| seen.push((done, of))).expect("it can be checked");
    assert!(report.is_sound() && report.chats == 4, "{report:?}");
    assert_eq!(seen, [(1, 4), (2, 4), (3, 4), (4, 4)]);

    // Text that changed, which SQLite does not notice.
    let bytes = fs::read(&file).expect("a file");
    let said = whole.values().nth(2).expect("a chat")[5].as_bytes();
    let at = bytes.windows(said.len()).position(|window| window == said).expect("it is there");
    let mut harmed = bytes.clone();
    harmed[at + said.len() / 2] ^= 1;
    let copy = damaged(place.path(), &harmed);
    let report = Sqlite::check(&copy.path().join(FILES[0]), |_, _| {}).expect("it can be checked");
    assert!(report.structure.is_empty(), "{report:?}");
    let named: Vec<_> =
        report.damaged.iter().map(|one| (one.principal.as_str(), one.chat.as_str())).collect();
    assert_eq!(named, [("owner", "chat2")]);
    assert!(report.damaged[0].what.contains("event 6"), "{report:?}");

    // Each page: what the check finds is what a start refuses.
    for page in 1..bytes.len() / PAGE {
        let mut harmed = bytes.clone();
        harmed[page * PAGE..(page + 1) * PAGE].fill(0xaa);
        let copy = damaged(place.path(), &harmed);
        let found = Sqlite::check(&copy.path().join(FILES[0]), |_, _| {});
        let sound = found.as_ref().is_ok_and(switchboard_runtime::CheckReport::is_sound);
        let starts = open(copy.path()).is_ok();
        assert!(starts || !sound, "page {}: {found:?}", page + 1);
    }

    // A hole, and what a start refuses.
    let db = rusqlite::Connection::open(&file).expect("it opens");
    db.execute("DELETE FROM events WHERE seq = 7 AND chat = 2", []).expect("SQL");
    drop(db);
    let report = Sqlite::check(&file, |_, _| {}).expect("it can be checked");
    assert_eq!(report.damaged.len(), 1, "{report:?}");
    assert!(report.damaged[0].what.contains("events 7 to 7 are missing"), "{report:?}");

    // Once every chat gets a new epoch, that is history: before it is opened, and after.
    let side = place.path().join("journal.db.commits");
    fs::remove_file(&side).expect("it is there");
    let (mut desk, report) = open(place.path()).expect("it opens");
    assert!(report.lost_commits, "{report:?}");
    for opened in [false, true] {
        if opened {
            let chats: Vec<_> = whole.keys().filter_map(|key| desk.chat(key)).collect();
            assert_eq!(chats.len(), 4);
        }
        let report = Sqlite::check(&file, |_, _| {}).expect("it can be checked");
        assert!(report.is_sound() && report.chats == 4, "{report:?}");
        assert_eq!(report.incomplete.len(), 1, "{report:?}");
        assert!(report.incomplete[0].what.contains("events 7 to 7 are missing"), "{report:?}");
    }
    drop(desk);
    fs::remove_file(&file).expect("it is there");
    let error = Sqlite::check(&file, |_, _| {}).expect_err("it is missing");
    assert!(matches!(error.reason, OpenErrorReason::Lost { .. }), "{error}");
}

#[test]
fn a_journal_that_is_in_use_can_be_checked() {
    let place = folder();
    let (mut desk, _) = open(place.path()).expect("it opens");
    let mut scribe = Scribe::new("owner", "chat");
    for id in 0..20 {
        let append = scribe.message(&format!("t{id}"), "hello").append(id, Durability::Written, 1);
        assert!(desk.append(append));
        let report = Sqlite::check(&place.path().join(FILES[0]), |_, _| {}).expect("it can be checked");
        assert!(report.is_sound() && report.chats == 1, "{report:?}");
    }
}
