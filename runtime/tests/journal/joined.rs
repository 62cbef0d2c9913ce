//! Deltas of streams that have ended are joined: nothing that anybody can read changes.

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

use switchboard_core::{
    ids::Cursor,
    journal::{Durability, Found, PageStart, Query},
    wire::{ChatBody, ChatEvent, Frame, Outcome},
};
use switchboard_runtime::{Journal, Memory, OpenSqlite, Request, SqliteOptions};
use switchboard_test_support::Rng;

use crate::{
    desk::{Desk, open_with},
    make::{Scribe, key},
};

fn joining(after: Option<Duration>) -> SqliteOptions {
    let mut options = SqliteOptions::default();
    options.compact_after = after;
    options
}

fn eager() -> SqliteOptions {
    joining(Some(Duration::ZERO))
}

fn opened(folder: &Path, options: SqliteOptions) -> Desk<OpenSqlite> {
    open_with(folder, options).expect("it opens").0
}

fn number(folder: &Path, sql: &str) -> i64 {
    let db = rusqlite::Connection::open(folder.join("journal.db")).expect("it opens");
    db.query_row(sql, [], |row| row.get(0)).expect("a number")
}

/// Waits until everything is joined that there is.
fn joined(folder: &Path) {
    let until = Instant::now() + Duration::from_secs(30);
    while number(folder, "SELECT count(*) FROM chats WHERE joined_to < head_seq") > 0 {
        assert!(Instant::now() < until, "it is not joined");
        std::thread::yield_now();
    }
}

/// A turn with interleaved streams.
fn turn(scribe: &mut Scribe, rng: &mut Rng, id: &str) {
    scribe.message(id, "go").start(id);
    let mut stream = 0;
    for n in 0..20 + rng.below(120) {
        if rng.below(6) == 0 {
            stream = rng.below(3);
        }
        let text = format!("{n}ü\n").repeat(1 + rng.below(6) as usize);
        match stream {
            2 => scribe.event(Some(id), 1, &ChatBody::ReasoningDelta { stream_id: "r".into(), text }),
            other => scribe.delta(id, &format!("s{other}"), &text),
        };
        if rng.below(30) == 0 {
            let text = "between".to_owned();
            scribe.event(Some(id), 1, &ChatBody::Message { text, kind: None, tool_events: Vec::new() });
        }
    }
    scribe.event(
        Some(id),
        1,
        &ChatBody::StreamEnd { stream_id: "s0".into(), text: None, void: false, sources: Vec::new() },
    );
}

/// What events say, however deltas are joined: each covers its numbers without hole, and runs become one.
fn meaning(frames: &[Frame], mut next: Option<u64>) -> Vec<String> {
    let mut said: Vec<(String, String)> = Vec::new();
    for frame in frames {
        let event: ChatEvent = serde_json::from_str(frame.as_str()).expect("an event");
        assert!(next.is_none_or(|next| next == event.place.first()), "no hole: {}", frame.as_str());
        next = Some(event.place.seq + 1);
        let (stream, text) = if let ChatBody::Delta { stream_id, text } = &event.body {
            (format!("delta {stream_id}"), text.clone())
        } else if let ChatBody::ReasoningDelta { stream_id, text } = &event.body {
            (format!("reasoning {stream_id}"), text.clone())
        } else {
            (String::new(), frame.as_str().to_owned())
        };
        match said.last_mut().filter(|(last, _)| !stream.is_empty() && *last == stream) {
            Some((_, all)) => all.push_str(&text),
            None => said.push((stream, text)),
        }
    }
    said.into_iter().map(|(stream, text)| format!("{stream}: {text}")).collect()
}

fn after<J: Journal>(desk: &mut Desk<J>, scribe: &Scribe, seq: u64, bytes: usize) -> (u64, Vec<String>) {
    let mut frames = Vec::new();
    let mut at = seq;
    while at < scribe.head {
        let after: Cursor = scribe.cursor(at);
        let Some(Found::After(Some(events))) =
            desk.ask(Query::After { chat: scribe.key.clone(), after, bytes })
        else {
            panic!("no page")
        };
        assert_eq!(events.first().map(|event| event.first_seq), Some(at + 1), "it goes on where it was");
        at = events.last().expect("an event").seq;
        frames.extend(events.into_iter().map(|event| event.frame));
    }
    (at, meaning(&frames, Some(seq + 1)))
}

fn before<J: Journal>(desk: &mut Desk<J>, scribe: &Scribe, seq: u64, events: u32) -> Vec<String> {
    let mut pages = Vec::new();
    let mut place = PageStart::At(seq);
    loop {
        let query = Query::Before { chat: scribe.key.clone(), before: place, events, bytes: 2_000 };
        let Some(Found::Before(Some(page))) = desk.ask(query) else { panic!("no page") };
        pages.push(page.events);
        let Some(next) = page.before else { break };
        place = PageStart::Opaque(next);
    }
    let frames: Vec<Frame> = pages.into_iter().rev().flatten().collect();
    meaning(&frames, Some(1))
}

#[test]
fn every_cursor_gets_the_same_as_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let Rng(seed) = Rng::for_test("the journal");
    let mut rng = Rng(seed);
    let (mut model, mut tried) = (Desk::new(Memory::new()), opened(folder.path(), eager()));
    let mut scribe = Scribe::new("owner", "chat");
    for n in 0..4 {
        let id = format!("t{n}");
        turn(&mut scribe, &mut rng, &id);
        if n < 3 {
            scribe.end(&id, Outcome::Completed);
        }
        let append = scribe.append(n, Durability::Written, n);
        assert!(model.append(append.clone()) && tried.append(append));
        joined(folder.path());
    }
    // The last turn goes on, in streams whose beginning is joined already.
    scribe.delta("t3", "s1", "and more").end("t3", Outcome::Completed);
    let append = scribe.append(9, Durability::Written, 9);
    assert!(model.append(append.clone()) && tried.append(append));
    joined(folder.path());
    let rows = number(folder.path(), "SELECT count(*) FROM events");
    let records = number(folder.path(), "SELECT count(*) FROM events WHERE lengths IS NOT NULL");
    assert!(
        records > 10 && rows < i64::try_from(scribe.head).expect("small") * 2 / 3,
        "{rows} of {}",
        scribe.head
    );
    assert_eq!(number(folder.path(), "SELECT count(*) FROM events WHERE length(frame) > 65536"), 0);
    for seq in 0..=scribe.head {
        let bytes = [1, 500, 1 << 20][rng.below(3) as usize];
        let expected = after(&mut model, &scribe, seq, bytes);
        assert_eq!(after(&mut tried, &scribe, seq, bytes), expected, "seed {seed}: after {seq}");
        let events = 1 + rng.below(9) as u32;
        let expected = before(&mut model, &scribe, seq, events);
        assert_eq!(before(&mut tried, &scribe, seq, events), expected, "seed {seed}: before {seq}");
    }
    assert_eq!(tried.history(&key("owner", "nobody"), 9).len(), 0);
}

#[test]
fn deltas_that_are_large_already_are_not_joined() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut desk = opened(folder.path(), eager());
    let mut scribe = Scribe::new("owner", "chat");
    scribe.message("t", "go").start("t");
    for text in ["a", "b", &"large ".repeat(1_000), &"large ".repeat(1_000), "c", "d", "e"] {
        scribe.delta("t", "s", text);
    }
    scribe.end("t", Outcome::Completed);
    assert!(desk.append(scribe.append(1, Durability::Written, 1)));
    joined(folder.path());
    let places = "SELECT group_concat(first_seq || '-' || seq, ' ' ORDER BY seq) FROM events";
    let db = rusqlite::Connection::open(folder.path().join("journal.db")).expect("it opens");
    let places: String = db.query_row(places, [], |row| row.get(0)).expect("a text");
    assert_eq!(places, "1-1 2-2 3-4 5-5 6-6 7-9 10-10");
    assert_eq!(desk.log(&scribe.key).last().map(|event| event.seq), Some(10));
}

#[test]
fn deltas_of_an_earlier_process_are_joined() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut desk = opened(folder.path(), joining(None));
    let mut rng = Rng::for_test("the journal");
    for n in 0..5 {
        let mut scribe = Scribe::new("owner", &format!("chat{n}"));
        turn(&mut scribe, &mut rng, "t");
        assert!(desk.append(scribe.end("t", Outcome::Completed).append(n, Durability::Written, 1)));
    }
    drop(desk);
    assert_eq!(number(folder.path(), "SELECT count(*) FROM events WHERE lengths IS NOT NULL"), 0);
    let desk = opened(folder.path(), eager());
    joined(folder.path());
    assert!(number(folder.path(), "SELECT count(DISTINCT chat) FROM events WHERE lengths IS NOT NULL") == 5);
    drop(desk);
}

#[test]
fn a_long_answer_is_joined_in_short_passes_while_others_write() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut desk = opened(folder.path(), eager());
    let mut long = Scribe::new("owner", "long");
    long.message("t", "go").start("t");
    for n in 0..20_000 {
        long.delta("t", "s", &format!("word {n} "));
    }
    long.end("t", Outcome::Completed);
    assert!(desk.append(long.append(1, Durability::Written, 1)));
    let mut other = Scribe::new("owner", "other");
    let mut passes = BTreeSet::new();
    for id in 2.. {
        desk.submit([Request::Append(other.delta("t", "s", "x").append(id, Durability::Written, 1))]);
        desk.answer();
        let joined_to = number(folder.path(), "SELECT joined_to FROM chats WHERE chat_id = 'long'");
        passes.insert(joined_to);
        let left = number(
            folder.path(),
            "SELECT count(*) FROM chats WHERE chat_id = 'long' AND joined_to < head_seq",
        );
        if left == 0 {
            break;
        }
    }
    assert!(passes.len() > 10, "appends are answered between passes: {passes:?}");
    let rows = number(
        folder.path(),
        "SELECT count(*) FROM events e JOIN chats c ON c.id = e.chat WHERE c.chat_id = 'long'",
    );
    assert!(rows < 100, "{rows} rows");
}
