//! A process that appends is killed at random moments; whatever it was told is kept must be there.

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use switchboard_core::{
    journal::{Change, Durability, Found, JournalAnswer, Query},
    wire::Outcome,
};
use switchboard_runtime::{Request, SqliteOptions};
use switchboard_test_support::Rng;

use crate::{
    desk::{open, open_with},
    make::{Scribe, key, turn},
};

const FOLDER: &str = "SWITCHBOARD_JOURNAL_CHILD";
const CHATS: u64 = 6;
/// Appends that are on the way at once.
const ON_THE_WAY: usize = 40;

/// Appends until it is killed, and says what it was told is kept: `chat head`, and with head 1 those that are deleted. Not a test of its own: without
/// a folder it does nothing.
#[test]
fn child() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let mut rng = Rng::for_test("the journal");
    let mut options = SqliteOptions::default();
    options.compact_after = [None, Some(Duration::ZERO)][rng.below(2) as usize];
    let (mut desk, _) = open_with(Path::new(&folder), options).expect("it opens");
    let mut scribes: Vec<Scribe> = (0..CHATS).map(|n| Scribe::new("owner", &format!("chat{n}"))).collect();
    for scribe in &mut scribes {
        if let Some(record) = desk.chat(&scribe.key) {
            scribe.resume(&record);
        }
    }
    let mut on_the_way = BTreeMap::new();
    let life = rng.next();
    for id in (0..).step_by(3) {
        if rng.below(10) == 0 {
            let mut brief = Scribe::new("owner", &format!("b{}-{id}", life % 100_000));
            whole_turn(&mut brief, &mut rng);
            let made = brief.append(id + 1, Durability::Written, 1);
            let removed = brief.change(Change::Deleted).append(id + 2, Durability::Synced, 1);
            on_the_way.insert(id + 1, String::new());
            on_the_way.insert(id + 2, format!("kept {} 1\n", brief.key.chat));
            desk.submit([Request::Append(made), Request::Append(removed)]);
        }
        let at = rng.below(CHATS) as usize;
        let scribe = &mut scribes[at];
        whole_turn(scribe, &mut rng);
        on_the_way.insert(id, format!("kept {} {}\n", scribe.key.chat, scribe.head));
        let durability = if rng.below(4) == 0 { Durability::Synced } else { Durability::Written };
        let append = scribe.append(id, durability, 1);
        desk.submit([Request::Append(append)]);
        while on_the_way.len() >= ON_THE_WAY {
            let JournalAnswer::Appended(id) = desk.answer() else { panic!("it is kept") };
            // One write, so that a line is there whole or not at all.
            let line = on_the_way.remove(&id.0).expect("it was asked");
            std::io::stdout().write_all(line.as_bytes()).expect("the parent listens");
            std::io::stdout().flush().expect("the parent listens");
        }
    }
}

/// Four events or more, and a turn that is accepted, started and ended: all of it is kept, or nothing.
fn whole_turn(scribe: &mut Scribe, rng: &mut Rng) {
    let id = format!("t{}", scribe.head + 1);
    scribe.message(&id, &"question ".repeat(1 + rng.below(20) as usize)).start(&id);
    for _ in 0..=rng.below(8) {
        let n = scribe.head + 1;
        scribe.delta(&id, "s", &format!("piece {n} "));
    }
    scribe.end(&id, Outcome::Completed);
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let seconds = env::var("SWITCHBOARD_CRASH_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut rng = Rng::for_test("the journal");
    let (mut kills, mut acknowledged) = (0, 0);
    while Instant::now() < until {
        let folder = tempfile::tempdir().expect("a folder");
        let mut heads = BTreeMap::new();
        for _ in 0..1 + rng.below(8) {
            // Now and then long enough for checkpoints.
            let most = if rng.below(8) == 0 { 3_000 } else { 200 };
            run_and_kill(folder.path(), rng.below(most), rng.next(), &mut heads);
            kills += 1;
            check(folder.path(), &heads);
        }
        acknowledged += heads.values().sum::<u64>();
    }
    println!("{kills} kills, {acknowledged} events acknowledged");
    assert!(acknowledged > 0, "something was acknowledged");
}

/// Kills the child once it was told that so many appends are kept.
fn run_and_kill(folder: &Path, after: u64, seed: u64, heads: &mut BTreeMap<String, u64>) {
    let mut child = Command::new(env::current_exe().expect("this test"))
        .args(["--exact", "crash::child", "--nocapture"])
        .env(FOLDER, folder)
        .env("SWITCHBOARD_SEED", seed.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut told = 0;
    let mut kept = |line: &str| {
        let mut words = line.strip_prefix("kept ")?.split(' ');
        let (chat, head): (&str, u64) = (words.next()?, words.next()?.parse().ok()?);
        let newest = heads.entry(chat.to_owned()).or_default();
        *newest = head.max(*newest);
        told += 1;
        Some(told)
    };
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut killed = false;
    while let Some(Ok(line)) = lines.next() {
        let told = kept(&line);
        if told.is_some_and(|told| told > after) && !killed {
            child.kill().expect("it is alive");
            killed = true;
            // What it said before is still in the pipe.
        }
    }
    let status = child.wait().expect("it was started");
    assert!(killed, "the child ended by itself: {status}");
}

fn check(folder: &Path, heads: &BTreeMap<String, u64>) {
    let (mut desk, report) = open(folder).expect("it opens after a crash");
    assert!(report.unclean && !report.rebooted && !report.lost_commits, "{report:?}");
    assert!(report.unfinished.is_empty(), "no turn is half written: {report:?}");
    for brief in heads.keys().filter(|name| name.starts_with("b")) {
        let found = desk.ask(Query::Chat { chat: key("owner", brief), term: None });
        assert!(matches!(found, Some(Found::Deleted)), "{brief} was deleted: {found:?}");
    }
    let db = rusqlite::Connection::open(folder.join("journal.db")).expect("it opens");
    let stray = "SELECT count(*) FROM events WHERE chat NOT IN (SELECT id FROM chats)";
    let stray: i64 = db.query_row(stray, [], |row| row.get(0)).expect("a number");
    assert_eq!(stray, 0, "a deletion is kept whole");
    drop(db);
    for n in 0..CHATS {
        let chat = key("owner", &format!("chat{n}"));
        let acknowledged = heads.get(chat.chat.as_str()).copied().unwrap_or(0);
        let log = desk.log(&chat);
        let mut next = 1;
        let mut open_turn: Option<u64> = None;
        for event in &log {
            assert_eq!(event.first_seq, next, "no hole in {chat:?}");
            next = event.seq + 1;
            let text = event.frame.as_str();
            if text.contains("\"user_message\"") {
                assert_eq!(open_turn.replace(event.seq), None, "turns do not overlap");
                let turn_id = turn(&format!("t{}", event.seq));
                let known = desk.ask(Query::Turn { chat: chat.clone(), turn_id });
                assert!(matches!(known, Some(Found::Turn(Some(_)))), "a message's turn is known");
            } else if text.contains("\"turn_end\"") {
                assert!(open_turn.take().is_some(), "a turn ends that began");
            } else if text.contains("\"delta\"") {
                assert!(text.contains(&format!("piece {} ", event.seq)), "{text}");
            }
        }
        assert_eq!(open_turn, None, "an append is kept whole");
        assert!(next > acknowledged, "{chat:?} has {next}, of which {acknowledged} was acknowledged");
    }
}
