//! A journal that answers wrongly in one chat: the hub does not panic, and other chats go on.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test says what it expects, and no more"
)]

use std::collections::VecDeque;

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};
use switchboard_core::{
    Hub, Input, Limits, Moment, Output, Peer,
    agent::{AgentCommand, AgentEvent, AgentExit, AgentInstanceId, AgentRecords},
    ids::{ChatKey, ConnId, Principal},
    journal::{
        Append, AppendId, AskId, Conflict, Found, Grant, HistoryPage, JournalAnswer, MemoryJournal, Term,
        Version,
    },
    wire::{Outcome, decode},
};

const WORLDS: u64 = 150;
const STEPS: usize = 120;

/// A hub with a journal that lies about the chat `odd`.
struct World {
    hub: Hub,
    random: ChaCha8Rng,
    now: Moment,
    journal: MemoryJournal,
    waiting: VecDeque<Input>,
    agents: Vec<(AgentInstanceId, ChatKey, u64)>,
    /// Outcomes of turns in the chat `even`, whose journal does not lie.
    ended: usize,
    /// The last append of a chat about which the journal lies.
    last: AppendId,
    next: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Moment { ticks_ms: 0, boot_ms: 0, unix_ms: 1_700_000_000_000 };
        let limits = Limits {
            idle_chats: 0,
            outbox_bytes: 2_000,
            ring_bytes: 500,
            connections_per_principal: None,
            messages_per_minute: None,
            new_chats_per_minute: None,
            ..Limits::default()
        };
        let mut world = Self {
            hub: Hub::new(limits, [7; 32], now),
            random: ChaCha8Rng::seed_from_u64(seed),
            now,
            journal: MemoryJournal::default(),
            waiting: VecDeque::new(),
            agents: Vec::new(),
            ended: 0,
            last: AppendId(0),
            next: 0,
        };
        world.opens();
        world
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.random.next_u64() % u64::try_from(end).unwrap()).unwrap()
    }

    fn opens(&mut self) -> ConnId {
        self.next += 1;
        let (conn, peer) = (ConnId(self.next), Peer { principal: Principal::owner(), client_id: None });
        self.step(Input::Opened { conn, peer });
        conn
    }

    /// Gives the hub one input, and all that waits for it.
    fn step(&mut self, input: Input) {
        self.waiting.push_back(input);
        let mut steps = 0;
        while let Some(input) = self.waiting.pop_front() {
            steps += 1;
            assert!(steps < 5_000, "one input, and no end of outputs");
            self.hub.handle(self.now, input);
            while let Some(output) = self.hub.poll_output() {
                self.carry_out(output);
            }
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Claim { chat } => {
                self.waiting.push_back(Input::Owned { chat, grant: Grant::default() });
            }
            Output::Append(append) => {
                let even = append.chat.chat.as_str() == "even";
                let id = append.id;
                self.ended += usize::from(even && ends_turn(&append));
                let answer = self.journal.append(append);
                let answers = if even { vec![answer] } else { self.wrong_append(id, answer) };
                self.waiting.extend(answers.into_iter().map(Input::Journal));
            }
            Output::Ask(ask) => {
                let even = ask.query.chat().is_none_or(|chat| chat.chat.as_str() == "even");
                let (id, answer) = (ask.id, self.journal.ask(ask));
                let answers = if even { vec![answer] } else { self.wrong_answer(id, answer) };
                self.waiting.extend(answers.into_iter().map(Input::Journal));
            }
            Output::WatchDrain { conn } => self.waiting.push_back(Input::OutboxDrained { conn }),
            Output::HangUp { conn, .. } => self.waiting.push_back(Input::Gone { conn }),
            Output::StartAgent { chat, instance, .. } => self.agents.push((instance, chat, 0)),
            Output::Command { instance, command: AgentCommand::Prompt { .. } } => self.answers(instance),
            Output::AdoptAgent { chat, agent, .. } => self.exits(chat, agent.instance),
            Output::StopAgent { instance, .. } => {
                let found = self.agents.iter().position(|(other, ..)| *other == instance);
                if let Some((instance, chat, _)) = found.map(|at| self.agents.remove(at)) {
                    self.exits(chat, instance);
                }
            }
            _ => {}
        }
    }

    fn exits(&mut self, chat: ChatKey, instance: AgentInstanceId) {
        self.waiting.push_back(Input::AgentExited { chat, instance, exit: AgentExit::Stopped });
    }

    /// The agent answers a prompt.
    fn answers(&mut self, instance: AgentInstanceId) {
        let Some((_, chat, position)) = self.agents.iter_mut().find(|(other, ..)| *other == instance) else {
            return;
        };
        *position += 1;
        let text = |text: &str| AgentEvent::Text { stream: "s".into(), text: text.into() };
        let end = AgentEvent::TurnEnded { outcome: Outcome::Completed, error: None, usage: None, cost: None };
        let events = vec![text("one"), text(&"x".repeat(400)), end];
        let records = AgentRecords { position: *position, events, checkpoint: None };
        self.waiting.push_back(Input::AgentRecords { chat: chat.clone(), instance, records });
    }

    /// What comes in place of the answer to an append: nothing, something else, or more than one answer.
    fn wrong_append(&mut self, id: AppendId, right: JournalAnswer) -> Vec<JournalAnswer> {
        let other = std::mem::replace(&mut self.last, id);
        match self.below(12) {
            0 => vec![JournalAnswer::Refused(id)],
            1 => vec![JournalAnswer::Appended(id), right],
            2 => vec![JournalAnswer::Appended(other), right],
            3 => vec![right, JournalAnswer::Refused(id)],
            4 => vec![JournalAnswer::Conflict(id, Conflict::Version { stored: Version(1_000) })],
            5 => vec![JournalAnswer::Conflict(id, Conflict::Fenced { newest: Term(9) })],
            6 => vec![JournalAnswer::Conflict(id, Conflict::TurnExists)],
            7 => vec![JournalAnswer::Appended(AppendId(u64::MAX)), right],
            8 => vec![JournalAnswer::Found(AskId(u64::MAX), Found::Chat(None)), right],
            _ => vec![right],
        }
    }

    fn wrong_answer(&mut self, id: AskId, right: JournalAnswer) -> Vec<JournalAnswer> {
        let found = |found| vec![JournalAnswer::Found(id, found)];
        match self.below(20) {
            0 => vec![JournalAnswer::Failed(id)],
            1 => vec![JournalAnswer::Damaged(id)],
            2 => found(Found::Deleted),
            3 => found(Found::Chat(None)),
            4 => found(Found::Turn(None)),
            5 => found(Found::After(None)),
            6 => found(Found::After(Some(Vec::new()))),
            7 => found(Found::Before(Some(HistoryPage::default()))),
            8 => found(Found::Chats(None)),
            9 => found(Found::Fenced),
            10 => vec![right.clone(), right],
            11..=14 => vec![self.altered(right)],
            _ => vec![right],
        }
    }

    /// The answer to the question, but not the right one.
    fn altered(&mut self, right: JournalAnswer) -> JournalAnswer {
        let JournalAnswer::Found(id, mut found) = right else { return right };
        match &mut found {
            Found::Chat(Some(record)) => match self.below(6) {
                0 => record.head.seq += 5,
                1 => record.head.seq = 0,
                2 => record.version = Version(record.version.0 + 3),
                3 => record.version = Version(0),
                4 => record.turns.clear(),
                _ => {
                    let again = record.turns.clone();
                    record.turns.extend(again);
                }
            },
            Found::After(Some(events)) => match self.below(4) {
                0 => events.reverse(),
                1 => events.iter_mut().for_each(|event| event.first_seq += 2),
                2 => events.iter_mut().for_each(|event| (event.first_seq, event.seq) = (0, 0)),
                _ => drop(events.pop()),
            },
            Found::Before(Some(page)) => page.events.reverse(),
            _ => {}
        }
        JournalAnswer::Found(id, found)
    }

    fn frame(&mut self, conn: ConnId, frame: &str) {
        let envelope = decode(frame, self.hub.limits(), false).unwrap().unwrap();
        self.step(Input::Envelope { conn, envelope });
    }

    /// A client does something in the chat `odd`.
    fn acts(&mut self) {
        let conn = self.opens();
        self.next += 1;
        let n = self.next;
        let frame = match self.below(9) {
            0 => r#"{"type":"attach","chat_id":"odd"}"#.into(),
            1 => r#"{"type":"history","chat_id":"odd","limit":3}"#.into(),
            2 => r#"{"type":"cancel","chat_id":"odd"}"#.into(),
            3 => format!(r#"{{"type":"rename_chat","chat_id":"odd","title":"title {n}"}}"#),
            4 => r#"{"type":"message","chat_id":"odd","content":"again","turn_id":"again"}"#.into(),
            5 => r#"{"type":"new_chat"}"#.into(),
            _ => format!(r#"{{"type":"message","chat_id":"odd","content":"hi","turn_id":"t{n}"}}"#),
        };
        self.frame(conn, &frame);
        self.now.ticks_ms += 300;
        self.step(Input::Tick);
        if self.below(2) == 0 {
            self.step(Input::Gone { conn });
        }
    }
}

fn ends_turn(append: &Append) -> bool {
    append.events.iter().any(|event| event.frame.as_str().contains(r#""event":"turn_end""#))
}

#[test]
fn wrong_answers_are_failures_of_their_chat() {
    for seed in 0..WORLDS {
        let mut world = World::new(seed);
        for step in 0..STEPS {
            world.acts();
            if step % 10 == 0 {
                let (conn, ended) = (world.opens(), world.ended);
                let frame =
                    format!(r#"{{"type":"message","chat_id":"even","content":"hi","turn_id":"even{step}"}}"#);
                world.frame(conn, &frame);
                assert_eq!(world.ended, ended + 1, "seed {seed}: the other chat goes on");
            }
        }
    }
}
