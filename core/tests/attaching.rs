//! The limit of chats per connection holds while the journal has not answered yet.

#![allow(clippy::wildcard_enum_match_arm, reason = "nobody listens to the other outputs")]

use std::collections::VecDeque;

use switchboard_core::{
    Hub, Input, Limits, Moment, Output, Peer,
    ids::{ConnId, Principal},
    journal::{Append, Ask, Found, Grant, JournalAnswer, MemoryJournal},
    wire::decode,
};

const NOW: Moment = Moment { ticks_ms: 0, boot_ms: 0, unix_ms: 1_700_000_000_000 };
const CONN: ConnId = ConnId(1);

/// A hub with one connection. The journal answers questions at once, appends only when the test says so.
struct World {
    hub: Hub,
    journal: MemoryJournal,
    unanswered: Vec<Append>,
    received: Vec<String>,
    /// The journal answers each question with an answer to another question.
    wrong_answers: bool,
}

impl World {
    fn new(chats_per_connection: usize) -> Self {
        let limits = Limits { chats_per_connection, ..Limits::default() };
        let hub = Hub::new(limits, [7; 32], NOW);
        let mut world = Self {
            hub,
            journal: MemoryJournal::default(),
            unanswered: Vec::new(),
            received: Vec::new(),
            wrong_answers: false,
        };
        let peer = Peer { principal: Principal::owner(), client_id: None };
        world.input(Input::Opened { conn: CONN, peer });
        world
    }

    fn input(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            self.hub.handle(NOW, input);
            while let Some(output) = self.hub.poll_output() {
                match output {
                    Output::Deliver { frame, .. } => self.received.push(frame.as_str().into()),
                    Output::Append(append) => self.unanswered.push(append),
                    Output::Claim { chat } => {
                        inputs.push_back(Input::Owned { chat, grant: Grant::default() })
                    }
                    Output::Ask(ask) => inputs.push_back(Input::Journal(self.answer_ask(ask))),
                    _ => {}
                }
            }
        }
    }

    fn answer_ask(&mut self, ask: Ask) -> JournalAnswer {
        match self.wrong_answers {
            true => JournalAnswer::Found(ask.id, Found::Turn(None)),
            false => self.journal.ask(ask),
        }
    }

    fn send(&mut self, frame: &str) {
        let limits = self.hub.limits().clone();
        let envelope = decode(frame, &limits, false).expect("a frame").expect("not empty");
        self.input(Input::Envelope { conn: CONN, envelope });
    }

    fn answer(&mut self, committed: bool) {
        for append in std::mem::take(&mut self.unanswered) {
            let answer =
                if committed { self.journal.append(append) } else { JournalAnswer::Refused(append.id) };
            self.input(Input::Journal(answer));
        }
    }

    fn count(&self, part: &str) -> usize {
        self.received.iter().filter(|frame| frame.contains(part)).count()
    }
}

#[test]
fn chats_that_are_being_created_count() {
    let mut world = World::new(2);
    for _ in 0..3 {
        world.send(r#"{"type":"new_chat"}"#);
    }
    assert_eq!((world.unanswered.len(), world.count("limit_reached")), (2, 1));
    world.answer(true);
    assert_eq!(world.count(r#""event":"attached""#), 2);
}

#[test]
fn messages_that_will_attach_count_once_per_chat() {
    let mut world = World::new(2);
    for frame in [
        r#"{"type":"message","chat_id":"a","content":"1","turn_id":"1"}"#,
        r#"{"type":"message","chat_id":"b","content":"1","turn_id":"1"}"#,
        r#"{"type":"message","chat_id":"b","content":"2","turn_id":"2"}"#,
        r#"{"type":"message","chat_id":"c","content":"1","turn_id":"1"}"#,
    ] {
        world.send(frame);
    }
    assert_eq!(world.count("limit_reached"), 1);
    world.answer(true);
    world.answer(true);
    assert_eq!((world.count(r#""event":"attached""#), world.count("limit_reached")), (2, 1));
}

#[test]
fn a_chat_that_was_not_created_does_not_count() {
    let mut world = World::new(1);
    world.send(r#"{"type":"new_chat"}"#);
    world.answer(false);
    // After a while the hub asks the journal for the state of the chat.
    let later = Moment { ticks_ms: 60_000, boot_ms: 60_000, unix_ms: NOW.unix_ms + 60_000 };
    world.hub.handle(later, Input::Tick);
    world.input(Input::Tick);
    assert_eq!(world.count("unavailable"), 1, "{:?}", world.received);
    world.send(r#"{"type":"new_chat"}"#);
    world.answer(true);
    assert_eq!((world.count("limit_reached"), world.count(r#""event":"attached""#)), (0, 1));
}

#[test]
fn an_answer_of_the_journal_to_another_question_counts_as_a_failure() {
    let mut world = World::new(8);
    world.wrong_answers = true;
    let chat = r#""chat_id":"c""#;
    for frame in [
        format!(r#"{{"type":"attach",{chat}}}"#),
        format!(r#"{{"type":"history",{chat}}}"#),
        format!(r#"{{"type":"message",{chat},"content":"hello","turn_id":"t"}}"#),
        r#"{"type":"list_chats"}"#.to_owned(),
    ] {
        let before = world.count(r#""code":"unavailable""#);
        world.send(&frame);
        world.input(Input::OutboxDrained { conn: CONN });
        assert_eq!(world.count(r#""code":"unavailable""#), before + 1, "{frame}: {:?}", world.received);
    }
    world.wrong_answers = false;
    world.send(&format!(r#"{{"type":"message",{chat},"content":"hello","turn_id":"t"}}"#));
    assert_eq!(world.unanswered.len(), 1, "the message is appended");
}
