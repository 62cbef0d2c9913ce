//! Tests that need the journal's internals: disks that fail or are slow, and the cost of questions.

mod accounts;
mod reads;
// With the types of this crate, which are others than those that the tests outside link.
#[allow(unreachable_pub, dead_code, reason = "shared with the tests outside")]
#[path = "../../../tests/journal/support/mod.rs"]
mod support;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use rusqlite::Connection;
use switchboard_core::{
    Limits, Peer,
    agent::AgentExit,
    ids::{ChatKey, Principal},
    journal::{
        AppendId, Change, Conflict, Durability, Found, JournalAnswer, PageStart, Query, Term, Version,
    },
    wire::{Frame, Outcome},
};

use self::support::{
    desk::{Desk, open_with},
    make::{self, Scribe, turn},
};
use super::{
    OpenSqlite, Sqlite, SqliteOptions,
    apply::{self, ChatRows, NotApplied},
    disk::{Disk, SystemDisk},
    files,
    meta::{self, JournalState},
    query, schema, sql,
};
use crate::{Agent, AgentContext, Gateway, journal::Request};

/// A disk that fails as a test demands.
#[derive(Debug, Default)]
struct FailingDisk {
    /// How many syncs are to fail.
    failing: AtomicU32,
    /// How many reads about chats are to fail.
    unreadable: Mutex<BTreeMap<ChatKey, u32>>,
    /// Whether all reads fail.
    gone: AtomicBool,
    /// Syncs wait while a test has this locked.
    slow: Mutex<()>,
    /// Whether the next append, or sync, panics.
    writing_panics: AtomicBool,
    syncing_panics: AtomicBool,
}

impl FailingDisk {
    /// Fails if the rows of this chat, or anything at all, cannot be read.
    fn read(&self, chat: Option<&ChatKey>) -> rusqlite::Result<()> {
        let of_chat = |left: &mut u32| std::mem::replace(left, left.saturating_sub(1)) > 0;
        let fails = chat
            .is_some_and(|chat| super::mutex::locked(&self.unreadable).get_mut(chat).is_some_and(of_chat));
        if fails || self.gone.load(Ordering::Acquire) {
            let error = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
            return Err(rusqlite::Error::SqliteFailure(error, None));
        }
        Ok(())
    }
}

impl Disk for FailingDisk {
    fn probe(&self, files: &files::Files) -> io::Result<()> {
        self.read(None).map_err(io::Error::other)?;
        SystemDisk.probe(files)
    }

    fn sync(&self, wal: &File) -> io::Result<()> {
        assert!(!self.syncing_panics.load(Ordering::Acquire), "this is the defect");
        drop(super::mutex::locked(&self.slow));
        let one_less = |left: u32| left.checked_sub(1);
        if self.failing.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less).is_ok() {
            return Err(io::Error::other("a sync that a test lets fail"));
        }
        SystemDisk.sync(wal)
    }

    fn before_read(&self, chat: Option<&ChatKey>) -> rusqlite::Result<()> {
        self.read(chat)
    }

    fn before_append(&self, chat: &ChatKey) -> rusqlite::Result<()> {
        assert!(!self.writing_panics.load(Ordering::Acquire), "this is the defect");
        self.read(Some(chat))
    }
}

fn open_on(folder: &Path, strict: bool) -> (Desk<OpenSqlite>, Arc<FailingDisk>) {
    let (journal, disk) = failing(folder, SqliteOptions { strict, ..SqliteOptions::default() });
    (Desk::new(journal), disk)
}

/// A journal on a disk that fails as the test demands.
fn failing(folder: &Path, options: SqliteOptions) -> (Sqlite, Arc<FailingDisk>) {
    let disk = Arc::new(FailingDisk::default());
    let on: Arc<dyn Disk> = Arc::<FailingDisk>::clone(&disk);
    (Sqlite::open_on(folder.join("journal.db"), options, on).expect("it opens"), disk)
}

fn appended(id: u64, answer: &JournalAnswer) {
    assert!(matches!(answer, JournalAnswer::Appended(AppendId(got)) if *got == id), "{answer:?}, not {id}");
}

#[test]
fn chats_do_not_wait_for_each_other_and_within_a_chat_nothing_overtakes() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut desk, disk) = open_on(folder.path(), false);
    let (mut a, mut b) = (Scribe::new("owner", "a"), Scribe::new("owner", "b"));
    let held = disk.slow.lock().expect("a lock");
    desk.submit([
        Request::Append(a.message("t", "hello").append(1, Durability::Synced, 1)),
        Request::Append(a.delta("t", "s", "text").append(2, Durability::Written, 1)),
        Request::Append(b.delta("t", "s", "text").append(3, Durability::Written, 1)),
    ]);
    appended(3, &desk.answer());
    desk.submit([
        Request::Append(a.delta("t", "s", "text").append(4, Durability::Written, 1)),
        Request::Append(b.delta("t", "s", "text").append(5, Durability::Written, 1)),
    ]);
    appended(5, &desk.answer());
    drop(held);
    for id in [1, 2, 4] {
        appended(id, &desk.answer());
    }
}

#[test]
fn everything_waits_for_the_disk_if_it_is_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut desk, disk) = open_on(folder.path(), true);
    let mut a = Scribe::new("owner", "a");
    disk.failing.store(1, Ordering::Release);
    assert!(!desk.append(a.delta("t", "s", "text").append(1, Durability::Written, 1)));
}

#[test]
fn after_a_failed_sync_the_truth_is_read_and_service_returns() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut desk, disk) = open_on(folder.path(), false);
    let (mut a, mut b) = (Scribe::new("owner", "a"), Scribe::new("owner", "b"));
    assert!(desk.append(a.message("t", "hello").append(1, Durability::Synced, 1)));
    // Reopening fails a few times as well.
    disk.failing.store(4, Ordering::Release);
    let end = a.end("t", Outcome::Completed).append(2, Durability::Synced, 2);
    assert!(!desk.append(end), "whether it is on the disk is not known");
    assert!(!desk.append(a.delta("t", "s", "text").append(3, Durability::Written, 3)));
    let why = desk.health.borrow().clone();
    assert!(why.is_some_and(|why| why.contains("the journal cannot be written")), "it says so");
    // The journal can be read all the while; the state of a refused chat is answered only once it is certain.
    assert_eq!(desk.history(&a.key, 10).len(), 2);
    let truth = loop {
        match desk.ask(Query::Chat { chat: a.key.clone(), term: None }) {
            Some(Found::Chat(Some(record))) => break record,
            None => std::thread::yield_now(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(disk.failing.load(Ordering::Acquire), 0, "the disk is well again");
    desk.until_well();
    assert_eq!((truth.head.seq, truth.turns.len()), (2, 0), "it had been written");
    a.resume(&truth);
    assert!(desk.append(a.message("t2", "again").append(4, Durability::Synced, 4)));
    assert!(desk.append(b.message("t", "hello").append(5, Durability::Synced, 5)));
    drop(desk);
    let (_, report) = open_with(folder.path(), SqliteOptions::default()).expect("it opens");
    assert!(!report.unclean && !report.lost_commits, "{report:?}");
}

#[test]
fn commits_that_an_open_journal_lost_begin_a_new_era() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(open_on(folder.path(), false));
    let mut db = Connection::open(folder.path().join("journal.db")).expect("a database");
    let (known, lost) =
        meta::reconcile_again(&mut db, JournalState { commits: 0, generation: 0, term: Term::default() })
            .expect("it reads");
    assert!(!lost);
    let more = JournalState { commits: known.commits + 1, ..known };
    let (after, lost) = meta::reconcile_again(&mut db, more).expect("it reads");
    assert!(lost);
    assert_eq!((after.commits, after.generation), (known.commits + 2, known.generation + 1));
    assert_eq!(meta::reconcile_again(&mut db, after).expect("it reads"), (after, false));
}

#[test]
fn what_does_not_fit_the_queue_is_refused_in_its_turn() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = SqliteOptions { queue_bytes: 2_000, ..SqliteOptions::default() };
    let (mut desk, _) = open_with(folder.path(), options).expect("it opens");
    let mut a = Scribe::new("owner", "a");
    let text = "text".repeat(300);
    let appends: Vec<Request> = (1..=9)
        .map(|id| Request::Append(a.delta("t", "s", &text).append(id, Durability::Written, 1)))
        .collect();
    desk.submit(appends);
    appended(1, &desk.answer());
    for id in 2..=9 {
        let answer = desk.answer();
        assert!(matches!(answer, JournalAnswer::Refused(AppendId(got)) if got == id), "{answer:?}");
    }
    assert_eq!(desk.chat(&a.key).expect("a chat").head.seq, 1);
}

#[test]
fn a_copy_whose_name_does_not_reach_the_disk_was_not_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut desk, _) = open_on(folder.path(), false);
    let mut scribe = Scribe::new("owner", "a");
    assert!(desk.append(scribe.message("t", "hello").append(1, Durability::Synced, 1)));
    drop(desk);
    let (journal, copy) = (folder.path().join("journal.db"), folder.path().join("copy"));
    let elsewhere = tempfile::tempdir().expect("a folder");
    let restored = elsewhere.path().join("journal.db");
    let begin_with = |folder: &Path, begin: &str| {
        let names =
            std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a file").file_name());
        names.filter(|name| name.to_string_lossy().starts_with(begin)).count()
    };
    files::SYNC_FOLDER_FAILS.set(true);
    Sqlite::backup(&journal, &copy).expect_err("it is not on the disk");
    assert_eq!(begin_with(folder.path(), "copy"), 0);
    files::SYNC_FOLDER_FAILS.set(false);
    Sqlite::backup(&journal, &copy).expect("it is made");
    files::SYNC_FOLDER_FAILS.set(true);
    Sqlite::restore(&copy, &restored).expect_err("it is not on the disk");
    assert_eq!(begin_with(elsewhere.path(), ""), 0, "nothing is left of it");
    files::SYNC_FOLDER_FAILS.set(false);
    Sqlite::restore(&copy, &restored).expect("it is restored");
    let (mut desk, report) = open_with(elsewhere.path(), SqliteOptions::default()).expect("it opens");
    assert!(report.restored, "{report:?}");
    assert_eq!(desk.history(&scribe.key, 10).len(), 1);
}

struct Nobody;

#[async_trait::async_trait]
impl Agent for Nobody {
    fn name(&self) -> &'static str {
        "nobody"
    }

    async fn run(&self, _: AgentContext) -> AgentExit {
        AgentExit::Stopped
    }
}

#[test]
fn a_gateway_whose_journal_has_a_defect_stops_and_loses_nothing() {
    for writer in [true, false] {
        let folder = tempfile::tempdir().expect("a folder");
        let (journal, disk) = failing(folder.path(), SqliteOptions::default());
        let defect = if writer { &disk.writing_panics } else { &disk.syncing_panics };
        tokio::runtime::Runtime::new().expect("threads").block_on(run_into(defect, journal));
        let (mut desk, report) = open_with(folder.path(), SqliteOptions::default()).expect("it opens");
        assert!(report.unclean && !report.lost_commits, "{report:?}");
        let log = desk.log(&make::key("owner", "c"));
        assert!(log.iter().any(|event| event.frame.as_str().contains("kept")), "{log:?}");
    }
}

async fn run_into(defect: &AtomicBool, journal: Sqlite) {
    let (gateway, running) = Gateway::start(Limits::default(), [0; 32], journal, Arc::new(Nobody));
    let peer = Peer { principal: Principal::owner(), client_id: None };
    let mut connection = gateway.connect(peer, false).expect("it runs");
    let mut said = Vec::new();
    connection.inbox.text(r#"{"type":"message","chat_id":"c","content":"kept"}"#).await.expect("it runs");
    while !said.iter().any(|frame: &Frame| frame.as_str().contains("message_accepted")) {
        connection.outbox.next(&mut said).await;
        connection.outbox.written();
    }
    defect.store(true, Ordering::Release);
    connection.inbox.text(r#"{"type":"message","chat_id":"c","content":"lost"}"#).await.expect("it runs");
    let over = tokio::time::timeout(Duration::from_secs(30), running.finished()).await;
    assert_eq!(over, Ok(()), "it says that it is over, and nobody waits for ever");
}

/// A database in memory with chats of this many turns, ten of them per second.
fn filled(chats: u64, turns: u64) -> Connection {
    let mut db = Connection::open_in_memory().expect("memory");
    db.set_prepared_statement_cache_capacity(64);
    schema::migrate(&mut db, 0).expect("a schema");
    let (mut known, mut state) =
        (ChatRows::default(), JournalState { commits: 0, generation: 0, term: Term::default() });
    db.execute_batch("BEGIN").expect("SQL");
    for chat in 0..chats {
        let mut scribe = Scribe::new("owner", &format!("chat{chat}"));
        for n in 0..turns {
            let id = format!("t{n}");
            scribe.message(&id, "hello").start(&id);
            for _ in 0..6 {
                scribe.delta(&id, &id, "text");
            }
            if n + 1 < turns {
                scribe.end(&id, Outcome::Completed);
            }
            let append = scribe.append(n, Durability::Written, chat * 100);
            apply::append(&db, &mut known, &mut state, &append).expect("it is kept");
        }
    }
    db.execute_batch("COMMIT").expect("SQL");
    db
}

/// How many steps of SQLite's virtual machine an answer takes.
fn cost(db: &mut Connection, query: &Query) -> u64 {
    let steps = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&steps);
    let counter = move || {
        count.fetch_add(1, Ordering::Relaxed);
        false
    };
    // Statements are prepared once.
    query::read(db, 0, query).expect("an answer");
    db.progress_handler(1, Some(counter)).expect("a hook");
    query::read(db, 0, query).expect("an answer");
    db.progress_handler(0, None::<fn() -> bool>).expect("a hook");
    steps.load(Ordering::Relaxed)
}

#[test]
fn an_answer_costs_the_same_in_a_long_history() {
    let (mut short, mut long) = (filled(5, 5), filled(5, 5_000));
    let chat = Scribe::new("owner", "chat3").key;
    let queries = [
        Query::Chat { chat: chat.clone(), term: None },
        Query::Turn { chat: chat.clone(), turn_id: turn("t3") },
        Query::After { chat: chat.clone(), after: Scribe::new("owner", "chat3").cursor(7), bytes: 1_000 },
        Query::Before { chat: chat.clone(), before: PageStart::At(u64::MAX), events: 9, bytes: 10_000 },
        Query::Before { chat, before: PageStart::Opaque("e-chat3~30".into()), events: 9, bytes: 10_000 },
        Query::Chats { principal: Principal::owner(), before: None, limit: 3 },
    ];
    for query in queries {
        let (few, many) = (cost(&mut short, &query), cost(&mut long, &query));
        assert!(few > 0 && many <= few + few / 10, "{few} steps, then {many}: {query:?}");
    }
}

#[test]
fn a_page_of_chats_costs_the_same_among_many() {
    let (mut few, mut many) = (filled(10, 1), filled(2_000, 1));
    let query = Query::Chats { principal: Principal::owner(), before: None, limit: 5 };
    let (few, many) = (cost(&mut few, &query), cost(&mut many, &query));
    assert!(many <= few + few / 10, "{few} steps, then {many}");
}

#[test]
fn a_page_of_chats_that_were_active_at_one_time_costs_the_same_among_many() {
    let at_one_time = |chats| {
        let db = filled(chats, 1);
        db.execute("UPDATE chats SET updated_at = 7", []).expect("SQL");
        db
    };
    let (mut few, mut many) = (at_one_time(50), at_one_time(2_000));
    let mut costs = BTreeSet::new();
    for before in [None, Some("7~chat3".to_owned())] {
        let query = Query::Chats { principal: Principal::owner(), before, limit: 5 };
        let (few, many) = (cost(&mut few, &query), cost(&mut many, &query));
        assert!(many <= few + few / 10, "{few} steps, then {many}");
        costs.insert(many);
    }
    assert!(
        costs.last() <= costs.first().map(|first| first * 2).as_ref(),
        "a later page costs as little: {costs:?}"
    );
}

#[test]
fn chats_that_were_active_at_one_time_are_listed_once_each() {
    let mut db = filled(23, 1);
    db.execute("UPDATE chats SET updated_at = 7 WHERE chat_id <> 'chat5'", []).expect("SQL");
    let (mut listed, mut before) = (Vec::new(), None);
    loop {
        let query = Query::Chats { principal: Principal::owner(), before, limit: 5 };
        let query::Read::Found(Found::Chats(Some(page))) = query::read(&mut db, 0, &query).expect("a page")
        else {
            panic!("a page of chats");
        };
        listed.extend(page.chats.into_iter().map(|chat| chat.chat_id.as_str().to_owned()));
        before = page.before;
        if before.is_none() {
            break;
        }
    }
    let mut expected: Vec<String> = (0..23).map(|chat| format!("chat{chat}")).collect();
    expected.sort_by_key(|chat| Reverse((chat == "chat5", chat.clone())));
    assert_eq!(listed, expected);
}

#[test]
fn a_deleted_chat_leaves_no_row_anywhere() {
    let db = filled(3, 3);
    let (mut known, mut state) =
        (ChatRows::default(), JournalState { commits: 1_000, generation: 0, term: Term::default() });
    let mut scribe = Scribe::new("owner", "chat1");
    scribe.version = Version(3);
    let append = scribe.change(Change::Deleted).append(1, Durability::Synced, 1);
    let id: i64 =
        db.query_row("SELECT id FROM chats WHERE chat_id = 'chat1'", [], |row| row.get(0)).expect("a chat");
    apply::append(&db, &mut known, &mut state, &append).expect("it is kept");
    let count = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a number");
    let mut tables = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").expect("SQL");
    let tables: Vec<String> =
        tables.query_map([], |row| row.get(0)).expect("rows").map(|row| row.expect("a name")).collect();
    for table in &tables {
        let names_chats =
            count(&format!("SELECT count(*) FROM pragma_table_info('{table}') WHERE name = 'chat'")) > 0;
        if names_chats {
            let left = count(&format!("SELECT count(*) FROM {table} WHERE chat = {id}"));
            assert_eq!(left, 0, "{table}");
        }
    }
    assert_eq!(count("SELECT count(*) FROM chats"), 2);
    assert_eq!(count("SELECT count(DISTINCT chat) FROM events"), 2, "no other chat is touched");
    let again = Scribe::new("owner", "chat1").append(2, Durability::Synced, 2);
    let refused = apply::append(&db, &mut known, &mut state, &again);
    assert!(
        matches!(refused, Err(NotApplied::Conflict(Conflict::Deleted))),
        "its id is not used again: {refused:?}"
    );
}

#[test]
fn every_statement_uses_an_index() {
    let db = filled(1, 1);
    for statement in sql::write::ALL
        .iter()
        .chain(sql::erase::ALL)
        .chain(sql::erase::HIDE)
        .chain(sql::erase::REST)
        .chain(sql::compact::ALL)
        .chain(sql::read::ALL)
        .chain(sql::account::ALL)
    {
        let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).expect("SQL");
        let empty = rusqlite::params_from_iter(vec![0; plan.parameter_count()]);
        let steps: Vec<String> = plan
            .query_map(empty, |row| row.get(3))
            .expect("a plan")
            .map(|step| step.expect("text"))
            .collect();
        let slow = |step: &&String| {
            step.starts_with("SCAN") && !step.contains("CONSTANT ROW") || step.contains("TEMP B-TREE")
        };
        assert_eq!(steps.iter().find(slow), None, "{statement}: {steps:?}");
    }
}
