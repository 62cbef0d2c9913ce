//! Large frames for a reader wait until its outbox has drained, so that small requests cannot pile them up.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test says what it expects, and no more"
)]

use serde_json::Value;
use switchboard_core::{
    Hub, Input, Limits, Moment, Output, Peer, Recipients,
    ids::{ChatId, ConnId, Cursor, Principal, TurnId},
    journal::{Grant, JournalAnswer, MemoryJournal},
    wire::{ClientEnvelope, Message},
};

const WRITER: ConnId = ConnId(1);
const READER: ConnId = ConnId(2);
const CHATS: usize = 3;

/// A hub whose journal answers at once, and a reader whose outbox drains only when the test says so.
struct World {
    hub: Hub,
    journal: MemoryJournal,
    now: Moment,
    /// The frames that the reader was sent since its outbox last drained.
    sent: Vec<Value>,
    sent_bytes: usize,
    asks_drain: bool,
    /// The reader's outbox refuses all offered events.
    refuses: bool,
}

impl World {
    fn new() -> Self {
        let now = Moment { ticks_ms: 0, boot_ms: 0, unix_ms: 1_700_000_000_000 };
        let hub = Hub::new(Limits::default(), [7; 32], now);
        let journal = MemoryJournal::default();
        let mut world =
            Self { hub, journal, now, sent: Vec::new(), sent_bytes: 0, asks_drain: false, refuses: false };
        for conn in [WRITER, READER] {
            let peer = Peer { principal: Principal::owner(), client_id: None };
            world.step(Input::Opened { conn, peer });
        }
        world
    }

    /// Chats with as many queued messages as allowed, of large size: a control character takes six bytes in JSON.
    fn full() -> Self {
        let mut world = Self::new();
        for chat in 0..CHATS {
            for number in 0..=Limits::default().queued_turns {
                world.now.ticks_ms += 1_000;
                let message = Message {
                    chat_id: chat_id(chat),
                    content: format!("{number}{}", "\u{1}".repeat(42 * 1024)),
                    turn_id: Some(TurnId::parse(&format!("t{number}")).unwrap()),
                };
                world.step(Input::Envelope { conn: WRITER, envelope: ClientEnvelope::Message(message) });
            }
        }
        world.drain();
        world
    }

    fn step(&mut self, input: Input) {
        self.hub.handle(self.now, input);
        while let Some(output) = self.hub.poll_output() {
            match output {
                Output::Append(append) => {
                    let id = append.id;
                    self.journal.append(append);
                    self.hub.handle(self.now, Input::Journal(JournalAnswer::Appended(id)));
                }
                Output::Claim { chat } => {
                    self.hub.handle(self.now, Input::Owned { chat, grant: Grant::default() })
                }
                Output::Ask(ask) => self.hub.handle(self.now, Input::Journal(self.journal.ask(ask))),
                Output::Deliver { conn: READER, frame } => {
                    self.sent_bytes += frame.len();
                    self.sent.push(serde_json::from_str(frame.as_str()).unwrap());
                }
                Output::Offer { chat, events, to: Recipients::One(READER) } => {
                    for event in events {
                        if self.refuses {
                            let (conn, first_seq) = (READER, event.first_seq);
                            self.hub.handle(self.now, Input::OutboxFull { conn, chat, first_seq });
                        } else {
                            self.sent.push(serde_json::from_str(event.frame.as_str()).unwrap());
                        }
                    }
                }
                Output::WatchDrain { conn: READER } => self.asks_drain = true,
                Output::WatchDrain { conn } => self.hub.handle(self.now, Input::OutboxDrained { conn }),
                _ => {}
            }
        }
    }

    fn asks(&mut self, envelope: ClientEnvelope) {
        self.now.ticks_ms += 1_000;
        self.step(Input::Envelope { conn: READER, envelope });
    }

    /// The outbox drains. Returns the frames that the reader was sent.
    fn drain(&mut self) -> Vec<Value> {
        self.sent_bytes = 0;
        if std::mem::take(&mut self.asks_drain) {
            self.step(Input::OutboxDrained { conn: READER });
        }
        std::mem::take(&mut self.sent)
    }

    /// Checks that no more was sent since the last drain than about the largest single event.
    fn little_waits(&self) {
        assert!(self.sent_bytes < 2 << 20, "{} bytes at once", self.sent_bytes);
    }
}

fn chat_id(number: usize) -> ChatId {
    ChatId::parse(&format!("c{number}")).unwrap()
}

#[test]
fn a_large_snapshot_is_sent_completely_and_one_part_at_a_time() {
    let mut world = World::full();
    for chat in 0..CHATS {
        world.asks(ClientEnvelope::Attach { chat_id: chat_id(chat), after: None });
        world.little_waits();
    }
    let mut all = Vec::new();
    for _ in 0..200 {
        all.extend(world.drain());
        world.little_waits();
    }
    for chat in (0..CHATS).map(|chat| format!("c{chat}")) {
        let parts: Vec<&Value> =
            all.iter().filter(|event| event["event"] == "snapshot" && event["chat_id"] == *chat).collect();
        let numbers: Vec<u64> = parts.iter().map(|part| part["part"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
        assert!(parts.len() > 10, "{} parts", parts.len());
        let more = parts.iter().filter(|part| part["more"] == true).count();
        assert_eq!(more, parts.len() - 1);
        let waiting: usize =
            parts.iter().filter_map(|part| part["state"]["queue"].as_array()).map(Vec::len).sum();
        assert_eq!(waiting, Limits::default().queued_turns);
        let joined = all.iter().filter(|event| event["event"] == "replay_end" && event["chat_id"] == *chat);
        assert_eq!(joined.count(), 1);
    }
}

#[test]
fn an_abandoned_snapshot_does_not_delay_later_pages() {
    let mut world = World::full();
    world.asks(ClientEnvelope::Attach { chat_id: chat_id(0), after: None });
    world.drain();
    world.asks(ClientEnvelope::Attach { chat_id: chat_id(1), after: None });
    world.asks(ClientEnvelope::Detach { chat_id: chat_id(0) });
    let mut all = Vec::new();
    for _ in 0..100 {
        all.extend(world.drain());
    }
    assert!(all.iter().any(|event| event["event"] == "replay_end" && event["chat_id"] == "c1"));
}

#[test]
fn pages_are_sent_one_at_a_time_and_a_limited_number_waits() {
    let mut world = World::full();
    for number in 0..70 {
        if number % 2 == 0 {
            world.asks(ClientEnvelope::History { chat_id: chat_id(0), before: None, limit: None });
        } else {
            world.asks(ClientEnvelope::ListChats { before: None, limit: None });
        }
        world.little_waits();
    }
    let mut all = Vec::new();
    for _ in 0..100 {
        all.extend(world.drain());
        world.little_waits();
    }
    let of = |kind: &str| all.iter().filter(|event| event["event"] == kind).count();
    assert_eq!((of("history"), of("chats"), of("error")), (32, 32, 6));
    let refused = all.iter().find(|event| event["event"] == "error").unwrap();
    assert_eq!((&refused["code"], &refused["retryable"]), (&"unavailable".into(), &true.into()));
}

#[test]
fn a_replay_does_not_end_before_the_outbox_has_accepted_its_events() {
    let mut world = World::new();
    let message = Message { chat_id: chat_id(0), content: "hello".into(), turn_id: None };
    world.step(Input::Envelope { conn: WRITER, envelope: ClientEnvelope::Message(message) });
    // The epoch for the cursor of a client without events.
    world.asks(ClientEnvelope::Attach { chat_id: chat_id(0), after: None });
    let attached = world.drain().into_iter().find(|event| event["event"] == "attached").unwrap();
    let epoch = serde_json::from_value(attached["epoch"].clone()).unwrap();
    // Events of another chat have filled the outbox before the replay is offered.
    world.refuses = true;
    world.asks(ClientEnvelope::Attach { chat_id: chat_id(0), after: Some(Cursor { epoch, seq: 0 }) });
    let refused = world.drain();
    world.refuses = false;
    let taken: Vec<Value> = (0..5).flat_map(|_| world.drain()).collect();
    let names = |events: &[Value]| -> Vec<String> {
        events.iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect()
    };
    assert!(!names(&refused).contains(&"replay_end".into()), "{:?}", names(&refused));
    let of_the_log: Vec<String> =
        names(&taken).into_iter().filter(|name| name != "goal_status" && name != "attached").collect();
    assert_eq!(of_the_log, ["user_message", "turn_started", "replay_end"]);
}
