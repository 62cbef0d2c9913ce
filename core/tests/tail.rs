//! Pieces of an answer that are shown before the journal has them, because they can be read again from a spool.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test says what it expects, and no more"
)]

use std::collections::VecDeque;

use serde_json::Value;
use switchboard_core::{
    Hub, Input, Limits, Moment, Output, Peer, Recipients,
    agent::{AgentEvent, AgentExit, AgentInstanceId, AgentRecords},
    ids::{ChatId, ChatKey, ConnId, Cursor, Epoch, Principal},
    journal::{
        Append, Ask, AskId, Change, ChatRecord, Durability, Found, Grant, JournalAnswer, MemoryJournal, Query,
    },
    wire::{ClientEnvelope, Message, TurnError},
};

const READER: ConnId = ConnId(1);
const LATER: ConnId = ConnId(2);

/// A hub and its journal, which answers appends only when the test says so.
struct World {
    hub: Hub,
    ticks_ms: u64,
    journal: MemoryJournal,
    appends: VecDeque<Append>,
    /// The connections whose outboxes are empty.
    drained: Vec<ConnId>,
    instance: AgentInstanceId,
}

impl World {
    fn new(journal: MemoryJournal, limits: Limits) -> Self {
        let now = Moment { ticks_ms: 0, boot_ms: 0, unix_ms: 1_700_000_000_000 };
        let (hub, instance) = (Hub::new(limits, [7; 32], now), AgentInstanceId(0));
        let (appends, drained) = (VecDeque::new(), Vec::new());
        let mut world = Self { hub, ticks_ms: 0, journal, appends, drained, instance };
        for conn in [READER, LATER] {
            let peer = Peer { principal: Principal::owner(), client_id: None };
            world.step(Input::Opened { conn, peer });
        }
        world
    }

    /// A hub with a reader and a running turn, whose stream the journal has.
    fn streaming(limits: Limits) -> Self {
        let mut world = Self::new(MemoryJournal::default(), limits);
        let message = Message { chat_id: key().chat, content: "hi".into(), turn_id: None };
        world.step(Input::Envelope { conn: READER, envelope: ClientEnvelope::Message(message) });
        world.commit_all();
        world.say(1, &["a"]);
        world.commit_all();
        world
    }

    /// Returns the events that the first reader is offered, as number and text.
    fn step(&mut self, input: Input) -> Vec<(u64, String)> {
        self.step_for(READER, input)
    }

    fn step_for(&mut self, reader: ConnId, input: Input) -> Vec<(u64, String)> {
        let now = Moment { ticks_ms: self.ticks_ms, boot_ms: 0, unix_ms: 1_700_000_000_000 };
        self.hub.handle(now, input);
        let mut seen = Vec::new();
        loop {
            while let Some(output) = self.hub.poll_output() {
                match output {
                    Output::Append(append) => self.appends.push_back(append),
                    Output::Claim { chat } => {
                        self.hub.handle(now, Input::Owned { chat, grant: Grant::default() });
                    }
                    Output::Ask(ask) => self.hub.handle(now, Input::Journal(self.journal.ask(ask))),
                    Output::StartAgent { instance, .. } => self.instance = instance,
                    Output::AdoptAgent { agent, .. } => self.instance = agent.instance,
                    Output::WatchDrain { conn } => self.drained.push(conn),
                    Output::Offer { events, to, .. } if is_for(&to, reader) => {
                        seen.extend(events.iter().filter_map(|event| piece(event.frame.bytes())));
                    }
                    Output::Deliver { conn, frame } if conn == reader => {
                        seen.extend(in_snapshot(frame.bytes()))
                    }
                    _ => {}
                }
            }
            let Some(conn) = self.drained.pop() else { return seen };
            self.hub.handle(now, Input::OutboxDrained { conn });
        }
    }

    /// The agent says these pieces, in one batch.
    fn say(&mut self, position: u64, texts: &[&str]) -> Vec<(u64, String)> {
        let text = |text: &&str| AgentEvent::Text { stream: "s".into(), text: (*text).into() };
        let events = texts.iter().map(text).collect();
        let records = AgentRecords { position, events, checkpoint: None };
        self.step(Input::AgentPieces { chat: key(), instance: self.instance, records })
    }

    /// The journal commits the next append.
    fn commit(&mut self) -> Vec<(u64, String)> {
        let append = self.appends.pop_front().expect("an append waits");
        let answer = self.journal.append(append);
        assert!(matches!(answer, JournalAnswer::Appended(_)), "{answer:?}");
        self.step(Input::Journal(answer))
    }

    fn commit_all(&mut self) -> Vec<(u64, String)> {
        let mut seen = Vec::new();
        while !self.appends.is_empty() {
            seen.extend(self.commit());
        }
        seen
    }

    /// The journal refuses the next append.
    fn refuse(&mut self) -> Vec<(u64, String)> {
        let append = self.appends.pop_front().expect("an append waits");
        self.step(Input::Journal(JournalAnswer::Refused(append.id)))
    }

    fn wait(&mut self, ms: u64) -> Vec<(u64, String)> {
        self.ticks_ms += ms;
        self.step(Input::Tick)
    }

    fn rename(&mut self) {
        let envelope = ClientEnvelope::RenameChat { chat_id: key().chat, title: "t".into() };
        self.step(Input::Envelope { conn: READER, envelope });
    }

    fn goes(&mut self) {
        let goal_state = serde_json::from_str(r#"{"active":true,"ui_summary":"g"}"#).unwrap();
        let envelope = ClientEnvelope::SetGoalState { chat_id: key().chat, goal_state };
        self.step(Input::Envelope { conn: READER, envelope });
    }
}

fn key() -> ChatKey {
    ChatKey { principal: Principal::owner(), chat: ChatId::parse("c").unwrap() }
}

fn is_for(to: &Recipients, reader: ConnId) -> bool {
    match to {
        Recipients::One(conn) => *conn == reader,
        Recipients::Many(conns) => conns.contains(&reader),
    }
}

fn piece(frame: &[u8]) -> Option<(u64, String)> {
    let event: Value = serde_json::from_slice(frame).unwrap();
    of(&event)
}

fn of(event: &Value) -> Option<(u64, String)> {
    (event["event"] == "delta").then(|| {
        let (first, last) = (event["first_seq"].as_u64(), event["seq"].as_u64().unwrap());
        (first.unwrap_or(last), event["text"].as_str().unwrap().into())
    })
}

fn in_snapshot(frame: &[u8]) -> Vec<(u64, String)> {
    let event: Value = serde_json::from_slice(frame).unwrap();
    event["events"].as_array().into_iter().flatten().filter_map(of).collect()
}

fn numbers(append: &Append) -> Vec<u64> {
    append.events.iter().map(|event| event.seq).collect()
}

fn position(append: &Append) -> Option<u64> {
    append.changes.iter().find_map(|change| match change {
        Change::AgentPosition { position, .. } => Some(*position),
        _ => None,
    })
}

fn seen(pieces: &[(u64, &str)]) -> Vec<(u64, String)> {
    pieces.iter().map(|(seq, text)| (*seq, String::from(*text))).collect()
}

#[test]
fn a_piece_is_shown_at_once_and_appended_with_those_that_follow() {
    let mut world = World::streaming(Limits::default());
    assert_eq!(world.say(2, &["b"]), seen(&[(4, "b")]));
    assert_eq!(world.say(3, &["c", "d"]), seen(&[(5, "c"), (6, "d")]), "pieces are not merged");
    assert!(world.appends.is_empty());
    assert_eq!(world.hub.next_deadline().unwrap().at_ms, 250);
    assert_eq!(world.wait(250), []);
    let append = &world.appends[0];
    assert_eq!((numbers(append), position(append)), (vec![4, 5, 6], Some(3)));
    assert_eq!(append.durability, Durability::Written);
    // It is shown once, also while the journal has not answered.
    assert_eq!(world.say(4, &["e"]), seen(&[(7, "e")]));
    assert_eq!(world.commit(), []);
    assert!(world.appends.is_empty());
}

#[test]
fn much_is_appended_before_the_time_has_come() {
    let mut world = World::streaming(Limits::default());
    let long = "x".repeat(60 * 1024);
    world.say(2, &[&long]);
    assert!(world.appends.is_empty());
    world.say(3, &[&long]);
    assert_eq!(numbers(&world.appends[0]), (4..20).collect::<Vec<_>>(), "pieces of 8 KiB");
}

#[test]
fn the_first_piece_of_a_stream_waits_for_the_journal() {
    let mut world = World::streaming(Limits::default());
    let other = AgentEvent::Text { stream: "other".into(), text: "o".into() };
    let records = AgentRecords { position: 2, events: vec![other], checkpoint: None };
    let input = Input::AgentPieces { chat: key(), instance: world.instance, records };
    assert_eq!(world.step(input), []);
    assert_eq!(world.say(3, &["b"]), [], "nothing is shown while another append is unanswered");
    assert_eq!(world.commit(), seen(&[(4, "o")]));
    assert_eq!(world.say(4, &["c"]), [], "it waits behind the piece before it");
    assert_eq!(world.commit_all(), seen(&[(5, "b"), (6, "c")]));
    assert_eq!(world.say(5, &["d"]), seen(&[(7, "d")]));
}

#[test]
fn records_that_are_no_pieces_wait_for_the_journal() {
    let mut world = World::streaming(Limits::default());
    let piece = AgentEvent::Text { stream: "s".into(), text: "b".into() };
    let events = vec![piece, AgentEvent::Message { text: "m".into() }];
    let records = AgentRecords { position: 2, events, checkpoint: None };
    let input = Input::AgentPieces { chat: key(), instance: world.instance, records };
    assert_eq!(world.step(input), []);
    assert_eq!(numbers(&world.appends[0]), [4, 5]);
}

#[test]
fn what_was_shown_is_appended_in_front_of_everything_else() {
    let mut world = World::streaming(Limits::default());
    world.say(2, &["b"]);
    world.goes();
    assert_eq!(world.appends.iter().map(numbers).collect::<Vec<_>>(), [vec![4], vec![5]]);
    assert_eq!(world.say(3, &["c"]), [], "a person acts, and the pieces wait");
    world.commit_all();
    world.say(4, &["d"]);
    // A change without an event, too.
    world.rename();
    assert_eq!(world.appends.iter().map(numbers).collect::<Vec<_>>(), [vec![7], vec![]]);
}

#[test]
fn a_refusal_takes_back_nothing_that_was_shown() {
    let mut world = World::streaming(Limits::default());
    world.say(2, &["b"]);
    world.wait(250);
    assert_eq!(world.say(3, &["c"]), seen(&[(5, "c")]));
    assert_eq!(world.refuse(), []);
    assert_eq!(world.say(4, &["d"]), [], "nothing is shown before the chat has recovered");
    assert!(world.appends.is_empty());
    world.wait(Limits::default().journal_retry_ms);
    assert_eq!(world.appends.iter().map(numbers).collect::<Vec<_>>(), [vec![4], vec![5], vec![6]]);
    assert_eq!(world.commit_all(), seen(&[(6, "d")]));
    assert_eq!(world.say(5, &["e"]), seen(&[(7, "e")]));
}

#[test]
fn a_refused_request_leaves_what_was_shown_in_front_of_it() {
    let mut world = World::streaming(Limits::default());
    world.say(2, &["b"]);
    world.goes();
    assert_eq!(world.commit(), []);
    world.refuse();
    world.wait(Limits::default().journal_retry_ms);
    assert_eq!(world.say(3, &["c"]), seen(&[(5, "c")]), "the number of the refused event is free");
}

#[test]
fn a_reader_that_attaches_gets_a_snapshot_of_the_journal_and_then_what_was_shown() {
    let mut world = World::streaming(Limits::default());
    world.say(2, &["b"]);
    let attach = ClientEnvelope::Attach { chat_id: key().chat, after: None };
    let got = world.step_for(LATER, Input::Envelope { conn: LATER, envelope: attach });
    assert_eq!(got, seen(&[(3, "a"), (4, "b")]));
    assert!(world.appends.is_empty());
}

#[test]
fn history_has_what_was_shown() {
    let mut world = World::streaming(Limits::default());
    world.say(2, &["b"]);
    let envelope = ClientEnvelope::History { chat_id: key().chat, before: None, limit: None };
    world.step(Input::Envelope { conn: READER, envelope });
    assert_eq!(numbers(&world.appends[0]), [4]);
}

#[test]
fn no_more_is_shown_than_the_ring_keeps_for_readers_behind() {
    let ring_bytes = 64 * 1024;
    let mut world = World::streaming(Limits { ring_bytes, ..Limits::default() });
    let long = "x".repeat(8 * 1024);
    let mut shown = Vec::new();
    for position in 2..20 {
        shown.extend(world.say(position, &[&long]));
    }
    assert_eq!(shown.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [4, 5, 6]);
    // A reader gets all of them though the journal has none.
    let attach = ClientEnvelope::Attach { chat_id: key().chat, after: None };
    let got = world.step_for(LATER, Input::Envelope { conn: LATER, envelope: attach });
    assert_eq!(got.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [3, 4, 5, 6]);
    let rest = world.commit_all();
    assert_eq!(rest.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), (7..22).collect::<Vec<_>>());
}

#[test]
fn pieces_that_are_read_again_after_a_kill_have_the_same_numbers() {
    let mut world = World::streaming(Limits::default());
    let long = "y\n".repeat(50 * 1024);
    let mut shown = world.say(2, &["b"]);
    world.wait(250);
    world.commit_all();
    shown.extend(world.say(3, &["c"]));
    shown.extend(world.say(4, &[&long, "d"]));

    // The gateway is killed. The next one has other limits, and reads more at once.
    let limits = Limits { event_text_bytes: 1024, merge_bytes: 0, ..Limits::default() };
    let mut next = World::new(world.journal, limits);
    next.step(Input::Recover { chat: key() });
    next.say(4, &["c", &long, "d"]);
    next.commit_all();
    caught_up(&mut next, true);
    let got = attach(&mut next, 3);
    // Without the texts, which are long.
    assert!(got == shown, "{:?}", got.iter().map(|(seq, _)| seq).collect::<Vec<_>>());
}

#[test]
fn a_gateway_that_leaves_first_appends_what_was_shown() {
    let mut world = World::streaming(Limits::default());
    world.say(2, &["b"]);
    world.step(Input::Leave);
    assert_eq!((numbers(&world.appends[0]), position(&world.appends[0])), (vec![4], Some(2)));
}

#[test]
fn in_a_new_epoch_of_the_journal_what_was_shown_comes_again() {
    let mut world = World::streaming(Limits::default());
    world.say(2, &["b"]);
    world.wait(250);
    world.say(3, &["c"]);
    world.journal.reset_epoch(&key(), Epoch::parse("later").unwrap());
    world.refuse();
    let mut got = world.wait(Limits::default().journal_retry_ms);
    got.extend(world.commit_all());
    let texts: Vec<&str> = got.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, ["a", "b", "c"]);
    let again: Vec<u64> = got[1..].iter().map(|(seq, _)| *seq).collect();
    assert!(again.is_sorted() && again[0] < again[1], "{again:?}");
    assert_eq!(world.say(4, &["d"]).len(), 1);
}

/// A gateway that takes up the chat after the earlier one was killed, with `shown` pieces that the journal does not have.
fn after_a_kill(shown: &[&str]) -> World {
    let mut world = World::streaming(Limits::default());
    world.say(2, shown);
    assert!(world.appends.is_empty());
    let mut next = World::new(world.journal, Limits::default());
    next.step(Input::Recover { chat: key() });
    next
}

fn attach(world: &mut World, seq: u64) -> Vec<(u64, String)> {
    let after = Some(Cursor { epoch: record(world).head.epoch, seq });
    world.step(Input::Envelope {
        conn: READER,
        envelope: ClientEnvelope::Attach { chat_id: key().chat, after },
    })
}

fn record(world: &World) -> ChatRecord {
    let query = Query::Chat { chat: key(), term: None };
    match world.journal.ask(Ask { id: AskId(0), query }) {
        JournalAnswer::Found(_, Found::Chat(Some(record))) => *record,
        other => panic!("{other:?}"),
    }
}

fn caught_up(world: &mut World, complete: bool) -> Vec<(u64, String)> {
    world.step(Input::CaughtUp { chat: key(), instance: world.instance, complete })
}

#[test]
fn requests_and_deadlines_wait_until_what_was_shown_is_read_again() {
    let mut next = after_a_kill(&["b", "c"]);
    assert_eq!(attach(&mut next, 5), []);
    next.goes();
    next.wait(9_000);
    assert!(next.appends.is_empty(), "nothing is numbered");
    next.say(2, &["b", "c"]);
    next.wait(250);
    assert_eq!(caught_up(&mut next, true), [], "the reader has them");
    assert_eq!(next.appends.iter().map(numbers).collect::<Vec<_>>(), [vec![4, 5], vec![6]]);
    next.commit_all();
    assert_eq!(next.say(3, &["d"]), seen(&[(7, "d")]));
}

#[test]
fn a_chat_goes_on_in_a_new_epoch_if_what_was_shown_cannot_be_read() {
    let old = record(&after_a_kill(&["b", "c"])).head.epoch;
    let gives_up: [fn(&mut World); 3] = [
        |world| drop(caught_up(world, false)),
        |world| drop(world.wait(10_000)),
        |world| {
            let error = TurnError { code: "gone".into(), detail: "it is gone".into() };
            let exit = AgentExit::Gone(error);
            world.step(Input::AgentExited { chat: key(), instance: world.instance, exit });
        },
    ];
    for give_up in gives_up {
        let mut next = after_a_kill(&["b", "c"]);
        assert_eq!(attach(&mut next, 5), []);
        // A part of it can be read.
        next.say(2, &["b"]);
        give_up(&mut next);
        let got = next.commit_all();
        let now = record(&next);
        assert_ne!(now.head.epoch, old);
        assert_eq!(now.earlier.map(|ended| ended.epoch), Some(old.clone()));
        assert_eq!(got, seen(&[(3, "ab")]), "the reader gets a snapshot");
    }
}

#[test]
fn a_new_epoch_that_the_journal_refuses_is_appended_again() {
    let mut next = after_a_kill(&["b"]);
    let old = record(&next).head.epoch;
    caught_up(&mut next, false);
    assert!(next.appends[0].begins_epoch());
    let begun = next.appends[0].create.clone().unwrap();
    next.goes();
    next.refuse();
    assert_eq!(record(&next).head.epoch, old);
    next.wait(Limits::default().journal_retry_ms);
    assert_eq!(next.appends[0].create.as_ref(), Some(&begun));
    assert_eq!(next.appends.len(), 1, "requests wait until the journal has it");
    next.commit();
    assert_eq!(record(&next).head.epoch, begun);
    assert_eq!(numbers(&next.appends[0]), [1]);
    next.commit();
}

#[test]
fn a_chat_whose_streams_were_not_shown_is_taken_up_at_once() {
    let mut world = World::new(MemoryJournal::default(), Limits::default());
    let message = Message { chat_id: key().chat, content: "hi".into(), turn_id: None };
    world.step(Input::Envelope { conn: READER, envelope: ClientEnvelope::Message(message) });
    world.commit_all();
    let events = vec![AgentEvent::Text { stream: "s".into(), text: "a".into() }];
    let records = AgentRecords { position: 1, events, checkpoint: None };
    world.step(Input::AgentRecords { chat: key(), instance: world.instance, records });
    world.commit_all();
    // The first piece that may be read again is marked in the journal before it is shown.
    let mut next = World::new(world.journal.clone(), Limits::default());
    next.step(Input::Recover { chat: key() });
    next.goes();
    assert_eq!(numbers(&next.appends[0]), [4]);
    assert_eq!(world.say(2, &["b"]), []);
    world.commit_all();
    assert!(record(&world).open_work.answers[0].spooled);
    assert_eq!(world.say(3, &["c"]), seen(&[(5, "c")]));
}
