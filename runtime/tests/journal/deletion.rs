//! Deleting large chats: in steps whose room is used again, finished by the next start.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use switchboard_core::{
    agent::AgentInstanceId,
    ids::Principal,
    journal::{Change, Durability, Found, Query},
    wire::Outcome,
};
use switchboard_runtime::Sqlite;

use crate::{
    desk::{Desk, open},
    make::Scribe,
};

const PATIENCE: Duration = Duration::from_secs(60);
const SECRET: &str = "between-us-only";

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}

/// A chat of 19 MB with an agent, an open turn and a title, in a journal that was closed and so has no log.
fn large(folder: &Path) -> Scribe {
    let (mut desk, _) = open(folder).expect("it opens");
    let mut scribe = Scribe::new("owner", "large");
    let text = format!("{SECRET} ").repeat(4_000);
    for n in 0..600 {
        let id = format!("t{n}");
        scribe.message(&id, SECRET).start(&id).delta(&id, "s", &text);
        if n < 599 {
            scribe.end(&id, Outcome::Completed);
        }
        assert!(desk.append(scribe.append(n, Durability::Written, n)));
    }
    scribe
        .change(Change::AgentStarted { instance: AgentInstanceId(7) })
        .change(Change::Title { title: SECRET.into() });
    assert!(desk.append(scribe.append(600, Durability::Synced, 600)));
    scribe
}

fn count(folder: &Path, table: &str) -> i64 {
    let db = Connection::open(folder.join("journal.db")).expect("it opens");
    db.busy_timeout(PATIENCE).expect("a limit");
    db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("a number")
}

fn length(folder: &Path, file: &str) -> u64 {
    fs::metadata(folder.join(file)).map_or(0, |file| file.len())
}

/// Nobody finds it, by whatever way.
fn is_gone<J: switchboard_runtime::Journal>(desk: &mut Desk<J>, scribe: &Scribe) {
    assert!(matches!(desk.ask(Query::Chat { chat: scribe.key.clone(), term: None }), Some(Found::Deleted)));
    assert!(desk.history(&scribe.key, 1_000).is_empty());
    assert!(Principal::parse("").is_err(), "which is whose it is now");
    let chats = desk.ask(Query::Chats { principal: Principal::owner(), before: None, limit: 10 });
    let Some(Found::Chats(Some(page))) = chats else { panic!("{chats:?}") };
    assert!(page.chats.iter().all(|chat| chat.chat_id != scribe.key.chat), "{page:?}");
}

#[test]
fn deleting_a_large_chat_takes_little_room_and_holds_nobody_up() {
    let folder = folder();
    let mut scribe = large(folder.path());
    let (mut desk, _) = open(folder.path()).expect("it opens");
    let mut other = Scribe::new("owner", "other");
    let before = length(folder.path(), "journal.db");
    assert!(before > 32 << 20, "{before}");
    assert!(desk.append(scribe.change(Change::Deleted).append(1_000, Durability::Synced, 1_000)));
    is_gone(&mut desk, &scribe);
    let (mut longest, mut meanwhile) = (0, 0);
    let until = Instant::now() + PATIENCE;
    for id in 0.. {
        assert!(desk.append(other.delta("t", "s", "more").append(id, Durability::Written, id)));
        longest = longest.max(length(folder.path(), "journal.db-wal"));
        if count(folder.path(), "chats") == 1 {
            break;
        }
        meanwhile += 1;
        assert!(Instant::now() < until, "{} events are left", count(folder.path(), "events"));
    }
    assert!(meanwhile > 1, "others were served meanwhile");
    // Up to 16 MiB of it may be room that was made ahead of the writer.
    assert!(longest < 28 << 20, "the log took {longest} bytes");
    assert_eq!(count(folder.path(), "turns") + count(folder.path(), "epochs"), 1);
    // Its room is used again.
    let text = "text ".repeat(20_000);
    for id in 0..150 {
        assert!(desk.append(other.delta("t", "s", &text).append(10_000 + id, Durability::Written, 2)));
    }
    drop(desk);
    let after = length(folder.path(), "journal.db");
    assert!(after <= before, "{before} bytes, then {after}");
    let bytes = fs::read(folder.path().join("journal.db")).expect("a file");
    assert!(!bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()), "it is overwritten");
}

#[test]
fn a_deletion_that_was_not_finished_is_finished_by_the_next_start_and_seen_by_nobody() {
    let folder = folder();
    let mut scribe = large(folder.path());
    let (mut desk, report) = open(folder.path()).expect("it opens");
    assert_eq!(report.unfinished, [scribe.key.clone()]);
    assert!(desk.append(scribe.change(Change::Deleted).append(1_000, Durability::Synced, 1_000)));
    drop(desk);
    let left = count(folder.path(), "events");
    assert!(left > 0, "it is not finished");

    // Neither a check nor a backup knows of it.
    let file = folder.path().join("journal.db");
    let checked = Sqlite::check(&file, |_, _| {}).expect("it can be checked");
    assert!(checked.is_sound() && checked.chats == 0, "{checked:?}");
    let copy = folder.path().join("copy");
    assert_eq!(Sqlite::backup(&file, &copy).expect("a backup").chats, 0);
    let bytes = fs::read(&copy).expect("a file");
    assert!(
        !bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()),
        "nothing of it is in the copy"
    );

    let (mut desk, report) = open(folder.path()).expect("it opens");
    assert!(report.unfinished.is_empty() && report.agents.is_empty() && !report.lost_commits, "{report:?}");
    is_gone(&mut desk, &scribe);
    let again = Scribe::new("owner", "large").message("t", "again").append(1, Durability::Synced, 3);
    assert!(!desk.append(again), "its id is not used again");
    let until = Instant::now() + PATIENCE;
    while count(folder.path(), "chats") > 0 {
        is_gone(&mut desk, &scribe);
        assert!(Instant::now() < until, "{} events are left", count(folder.path(), "events"));
    }
    for table in ["events", "turns", "epochs", "requests", "commands", "checkpoints"] {
        assert_eq!(count(folder.path(), table), 0, "{table}");
    }
    drop(desk);
    let (_, report) = open(folder.path()).expect("it opens");
    assert!(!report.lost_commits, "{report:?}");
}

#[test]
fn what_was_deleted_is_nowhere_in_the_files() {
    let folder = folder();
    let (mut desk, _) = open(folder.path()).expect("it opens");
    let (mut gone, mut stays) = (Scribe::new("owner", "gone"), Scribe::new("owner", "stays"));
    let secret = "between-us-only";
    for n in 0..50 {
        let id = format!("{secret}-{n}");
        let text = format!("{secret} ").repeat(40 * n);
        let instance = AgentInstanceId(7);
        gone.message(&id, &text).start(&id).delta(&id, "s", &text);
        gone.change(Change::Title { title: secret.into() });
        gone.change(Change::Session { token: secret.into() });
        gone.change(Change::AgentStarted { instance });
        let checkpoint = Some(text.clone().into_bytes().into());
        gone.change(Change::AgentPosition { instance, position: 1, checkpoint });
        gone.end(&id, Outcome::Completed);
        assert!(desk.append(gone.append(n as u64, Durability::Written, 1)));
        stays.message(&format!("t{n}"), "this stays").start(&format!("t{n}"));
        stays.end(&format!("t{n}"), Outcome::Completed);
        assert!(desk.append(stays.append(n as u64, Durability::Written, 1)));
    }
    let found = |name: &str| {
        let bytes = fs::read(folder.path().join(name)).expect("a file");
        bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
    };
    assert!(found("journal.db") || found("journal.db-wal"), "it was there");
    assert!(desk.append(gone.change(Change::Deleted).append(100, Durability::Synced, 2)));
    assert!(matches!(desk.ask(Query::Chat { chat: gone.key.clone(), term: None }), Some(Found::Deleted)));
    // It is erased in steps, and the log is cut by a thread of its own.
    let until = Instant::now() + PATIENCE;
    while let Some(name) =
        ["journal.db", "journal.db-wal", "journal.db-shm"].into_iter().find(|name| found(name))
    {
        assert!(Instant::now() < until, "{name} still has it");
        std::thread::yield_now();
    }
    assert_eq!(desk.log(&stays.key).len(), 150);
    drop(desk);
    let (mut desk, _) = open(folder.path()).expect("it opens");
    assert!(
        matches!(desk.ask(Query::Chat { chat: gone.key.clone(), term: None }), Some(Found::Deleted)),
        "for ever"
    );
    let again = Scribe::new("owner", "gone").message("t", "again").append(1, Durability::Synced, 3);
    assert!(!desk.append(again), "its id is not used again");
}
