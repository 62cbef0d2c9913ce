//! One world: random clients, agents, journal and clock around a hub. At the end all faults stop, and the world must
//! come to rest.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use switchboard_conformance::journal_model::{How, Request};
use switchboard_core::{
    Input, Limits,
    agent::AgentInstanceId,
    ids::{ChatId, ChatKey, Principal},
    journal::{Append, AppendId, Change, JournalAnswer},
};

use super::{
    agents::Agents,
    owners::{Other, Owners},
    reader::{self, Reader},
    rng::Rng,
};
use crate::support::world::World;

/// Agent slots at a check.
#[derive(Debug, Default)]
struct Slots {
    in_use: usize,
    /// How many agents the gateway had adopted by then.
    adopted: usize,
}

/// An answer of the journal.
pub(super) struct Answer {
    answer: JournalAnswer,
    /// The append that it answers, and the chat of the append.
    append: Option<(AppendId, ChatKey)>,
    /// The agent instance and the position of the checkpoint in the append.
    checkpoint: Option<(AgentInstanceId, u64)>,
}

pub struct Sim {
    pub(super) rng: Rng,
    pub(super) world: World,
    pub(super) readers: Vec<Reader>,
    pub(super) agents: Agents,
    pub(super) side: Side,
    /// The gateway that does not act at the moment, in worlds in which two share the journal.
    pub(super) other: Option<Other>,
    pub(super) owners: Owners,
    pub(super) defect: Option<Defect>,
    pub(super) healthy: bool,
    pub(super) made: u64,
    restarts: usize,
    crashes: u32,
}

/// What the simulator has of one gateway.
#[derive(Default)]
pub struct Side {
    /// Answers of the journal that have not reached the hub yet.
    pub(super) answers: Vec<Answer>,
    /// The agent slots at the last check.
    slots: Slots,
}

/// What is wrong in a world, to see that the simulator finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// The hub goes on with a chat when its grant has ended.
    HubIgnoresEnds,
    /// The journal accepts appends and questions of earlier owners.
    JournalIgnoresTerms,
}

impl Sim {
    pub fn new(seed: u64, defect: Option<Defect>) -> Self {
        let mut rng = Rng::new(seed);
        let limits = limits(&mut rng);
        let mut world = World::new(limits.clone());
        world.describe(Some(reader::agent()));
        world.agents_survive = true;
        world.journal.ignores_terms = defect == Some(Defect::JournalIgnoresTerms);
        world.grants = rng.chance(40) || defect.is_some();
        let other = world.grants.then(|| Other { gateway: world.another(limits), side: Side::default() });
        world.journal.remembers = if rng.chance(40) { 1 + rng.below(12) } else { 0 };
        let haste = [100, 30, 5][rng.below(3)];
        let owner = Principal::owner();
        let stranger = Principal::parse("bob").expect("a principal");
        let readers = ["a", "b", "c", "d", "e"]
            .iter()
            .enumerate()
            .map(|(at, name)| Reader::new(name, if at < 3 { owner.clone() } else { stranger.clone() }))
            .collect();
        Self {
            rng,
            world,
            readers,
            agents: Agents::new(haste),
            side: Side::default(),
            other,
            owners: Owners::default(),
            defect,
            healthy: true,
            made: 0,
            restarts: 0,
            crashes: 0,
        }
    }

    pub fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
            self.world.observed.clear();
            self.check_bounds();
        }
        self.heal();
        self.check_logs();
        self.rest();
        self.shut_down();
    }

    fn step(&mut self) {
        if self.other.is_some() {
            if self.rng.chance(30) {
                self.switch();
            }
            if self.rng.chance(15) {
                self.own();
                return;
            }
        }
        let who = self.rng.below(self.readers.len());
        match self.rng.below(100) {
            0..=24 => self.client(who),
            25..=44 => {
                let frames = 1 + self.rng.below(10);
                self.read(who, frames);
            }
            45..=64 => self.agent(),
            65..=79 => (0..=self.rng.below(4)).for_each(|_| self.commit()),
            80..=92 => (0..=self.rng.below(4)).for_each(|_| self.deliver_answer()),
            93..=95 => {
                let ms = match self.rng.below(100) {
                    0..=74 => 300,
                    75..=91 => 20_000,
                    _ => 700_000,
                };
                let ms = u64::try_from(self.rng.below(ms)).expect("small");
                self.world.advance(ms, |_| {});
                if self.other.is_some() && self.rng.chance(20) {
                    // The machine sleeps, and the time of others goes on.
                    self.world.now.boot_ms += u64::try_from(self.rng.below(40_000)).expect("small");
                }
                self.agents.wait(self.world.now.ticks_ms);
            }
            96 => self.healthy = self.rng.chance(60),
            97 if self.rng.chance(30) => self.trim(),
            97 => self.stall(who),
            98 if self.restarts < 4 && self.rng.chance(40) => self.restart(),
            98 if self.crashes < 3 && self.world.journal.remembers > 0 => self.crash(),
            _ => {
                for who in 0..self.readers.len() {
                    self.read(who, 100);
                }
            }
        }
    }

    fn client(&mut self, who: usize) {
        let Some(conn) = self.readers[who].conn else {
            let (principal, name) = (self.readers[who].principal.clone(), self.readers[who].name.clone());
            self.readers[who].conn = Some(self.world.open(principal, &name));
            self.readers[who].gateway = self.gateway();
            return;
        };
        self.switch_to(self.readers[who].gateway);
        // A transport reads nothing from a client that does not read.
        let outbox = &self.world.outboxes[&conn];
        if outbox.bytes > outbox.limit || outbox.closing {
            return;
        }
        let mut chat = format!("c{}", self.rng.below(4));
        if self.rng.chance(10) {
            // A chat of `new_chat`, or the default chat of this or an earlier connection.
            let known: Vec<String> = self.readers[who].chats.keys().cloned().collect();
            chat = self.rng.pick(&known).cloned().unwrap_or(chat);
        }
        match self.rng.below(26) {
            0..=5 => self.attach(who, &chat),
            6 => {
                self.readers[who].chats.entry(chat.clone()).or_default().detached = true;
                self.send(who, &json!({"type": "detach", "chat_id": chat}));
            }
            7..=12 => self.message(who, &chat),
            13 => self.send(who, &json!({"type": "cancel", "chat_id": chat})),
            14 => {
                let open = self.readers[who].unanswered.keys().cloned().collect::<Vec<_>>();
                if let Some((chat, turn)) = self.rng.pick(&open).cloned() {
                    self.send(who, &json!({"type": "cancel", "chat_id": chat, "turn_id": turn}));
                }
            }
            15..=18 => self.respond(who, &chat),
            19 => {
                self.made += 1;
                let goal = json!({"active": self.rng.chance(70), "objective": format!("goal {}", self.made)});
                self.send(who, &json!({"type": "set_goal_state", "chat_id": chat, "goal_state": goal}));
            }
            20 => {
                let limit = 1 + self.rng.below(9);
                self.send(who, &json!({"type": "history", "chat_id": chat, "limit": limit}));
            }
            21 => self.send(who, &json!({"type": "list_chats"})),
            22 if self.rng.chance(40) => {
                self.made += 1;
                let text = format!("legacy {}", self.made);
                self.world.frame(conn, &text);
            }
            22 if self.rng.chance(30) => self.send(who, &json!({"type": "new_chat"})),
            23 => {
                self.made += 1;
                let title = format!("title {}", self.made);
                self.send(who, &json!({"type": "rename_chat", "chat_id": chat, "title": title}));
            }
            // Some chats are never deleted, so that there is always something to do.
            24 if !["c0", "c1", "c2"].contains(&&*chat) && self.rng.chance(40) => {
                self.send(who, &json!({"type": "delete_chat", "chat_id": chat}));
            }
            _ if self.rng.chance(30) => self.disconnect(who),
            _ => self.send(who, &json!({"type": "ping"})),
        }
    }

    pub(super) fn attach(&mut self, who: usize, chat: &str) {
        let local = self.readers[who].chats.entry(chat.to_owned()).or_default();
        if local.asked {
            return;
        }
        let after = match self.rng.below(8) {
            0 => None,
            1 => Some(("elsewhere".to_owned(), 3)),
            2 => local.cursor.clone().map(|(epoch, seq)| (epoch, seq + 1000)),
            3 => local.cursor.clone().map(|(epoch, seq)| (epoch, seq / 2)),
            _ => local.cursor.clone(),
        };
        self.readers[who].attaches(chat, after.clone());
        let mut frame = json!({"type": "attach", "chat_id": chat});
        if let Some((epoch, seq)) = after {
            frame["after"] = json!({"epoch": epoch, "seq": seq});
        }
        self.send(who, &frame);
    }

    fn message(&mut self, who: usize, chat: &str) {
        let reader = &self.readers[who];
        let again: Vec<_> =
            reader.unanswered.iter().map(|(key, (text, _))| (key.clone(), text.clone())).collect();
        let accepted: Vec<_> =
            reader.accepted.iter().map(|(key, text)| (key.clone(), text.clone())).collect();
        let ((chat, turn), content) = match self.rng.below(10) {
            0 | 1 if !again.is_empty() => self.rng.pick(&again).expect("one").clone(),
            2 if !accepted.is_empty() => {
                let ((chat, turn), text) = self.rng.pick(&accepted).expect("one").clone();
                // Sometimes another message with the same `turn_id`. It is refused and stays without an answer.
                if self.rng.chance(30) {
                    let frame =
                        json!({"type": "message", "chat_id": chat, "turn_id": turn, "content": "other"});
                    self.send(who, &frame);
                    return;
                }
                ((chat, turn), text)
            }
            _ => {
                self.made += 1;
                let long = if self.rng.chance(5) { 1500 } else { 30 };
                let text = format!("message {} {}", self.made, "y".repeat(self.rng.below(long)));
                ((chat.to_owned(), format!("t{}", self.made)), text)
            }
        };
        self.send_message(who, chat, turn, content);
    }

    pub(super) fn send_message(&mut self, who: usize, chat: String, turn: String, content: String) {
        let frame = json!({"type": "message", "chat_id": chat, "turn_id": turn, "content": content});
        self.readers[who].unanswered.insert((chat, turn), (content, true));
        self.send(who, &frame);
    }

    fn respond(&mut self, who: usize, chat: &str) {
        let waits = self.readers[who].chats.iter().find(|(_, local)| !local.requests.is_empty());
        let chat = waits.map_or(chat, |(chat, _)| chat.as_str());
        let Some(local) = self.readers[who].chats.get(chat) else { return };
        let open: Vec<(String, bool)> = local.requests.iter().map(|(id, q)| (id.clone(), *q)).collect();
        let Some((id, question)) = self.rng.pick(&open).cloned() else { return };
        let mut frame = json!({"type": "respond", "chat_id": chat, "request_id": id});
        if self.rng.chance(50) {
            frame["decision"] = json!("deny");
        } else if question {
            frame["decision"] = json!("answer");
            frame["answers"] = json!({"q": "a"});
        } else {
            frame["decision"] = json!("allow");
        }
        self.send(who, &frame);
    }

    pub(super) fn send(&mut self, who: usize, frame: &Value) {
        if let Some(conn) = self.readers[who].conn {
            self.switch_to(self.readers[who].gateway);
            self.world.frame(conn, &frame.to_string());
        }
    }

    pub(super) fn disconnect(&mut self, who: usize) {
        if let Some(conn) = self.readers[who].conn {
            self.switch_to(self.readers[who].gateway);
            self.readers[who].disconnected();
            self.world.gone(conn);
        }
    }

    fn stall(&mut self, who: usize) {
        self.switch_to(self.readers[who].gateway);
        if let Some(conn) = self.readers[who].conn.filter(|conn| !self.world.outboxes[conn].queue.is_empty())
        {
            self.world.step(Input::ReaderStalled { conn });
        }
    }

    /// The journal removes old events.
    fn trim(&mut self) {
        let keys: Vec<ChatKey> = self.keys().into_iter().collect();
        let chat = self.rng.pick(&keys).expect("one").clone();
        if let Some(record) = self.world.journal.chat(&chat) {
            let until = record.head.seq / 2;
            self.world.journal.trimmed.insert(chat, until);
        }
    }

    /// The client reads some frames. Then a drain is reported if one is due. Returns whether anything was done.
    pub(super) fn read(&mut self, who: usize, frames: usize) -> bool {
        let Some(conn) = self.readers[who].conn else { return false };
        self.switch_to(self.readers[who].gateway);
        let mut any = false;
        for _ in 0..frames {
            let Some(frame) = self.world.outboxes.get_mut(&conn).and_then(|outbox| outbox.read()) else {
                break;
            };
            if self.world.loud {
                eprintln!("   {} ({conn}) reads {}", self.readers[who].name, frame.as_str());
            }
            self.readers[who].takes(&frame, &self.world.journal, &self.agents.recorder);
            any = true;
        }
        if self.world.outboxes[&conn].closing {
            self.disconnect(who);
            return true;
        }
        any | self.world.report_drain(conn)
    }

    fn agent(&mut self) {
        self.agents.act(&mut self.world, &mut self.rng);
    }

    /// The journal carries out a random request.
    pub(super) fn commit(&mut self) {
        let waiting = self.world.journal.waiting.len();
        if waiting == 0 {
            return;
        }
        let at = self.rng.below(waiting);
        if !self.world.journal.may_be_next(at) {
            return;
        }
        let how = match self.rng.below(10) {
            0..=2 if !self.healthy => How::Refuse,
            3..=6 if !self.healthy => How::Lose,
            _ => How::Keep,
        };
        self.carry_out(at, how);
    }

    pub(super) fn carry_out(&mut self, at: usize, how: How) {
        if self.world.loud {
            eprintln!("   the journal: {how:?} {:?}", self.world.journal.waiting[at]);
        }
        let (append, checkpoint) = match &self.world.journal.waiting[at] {
            Request::Append(append) => (Some((append.id, append.chat.clone())), checkpoint(append)),
            Request::Ask(_) => (None, None),
        };
        let answer = self.world.journal.carry_out(at, how);
        self.side.answers.push(Answer { answer, append, checkpoint });
    }

    /// A random answer of the journal arrives.
    pub(super) fn deliver_answer(&mut self) {
        if self.side.answers.is_empty() {
            return;
        }
        let at = self.rng.below(self.side.answers.len());
        let chat = |answer: &Answer| answer.append.as_ref().map(|append| append.1.clone());
        let mine = chat(&self.side.answers[at]);
        if mine.is_some() && self.side.answers[..at].iter().any(|other| chat(other) == mine) {
            return;
        }
        let answer = self.side.answers.remove(at);
        self.deliver(answer);
    }

    pub(super) fn deliver(&mut self, answer: Answer) {
        if let (JournalAnswer::Appended(_), Some((instance, position))) = (&answer.answer, answer.checkpoint)
        {
            self.agents.committed(instance, position, &mut self.rng);
        }
        self.world.deliver_answer(answer.answer);
        self.agents.connect_feeds(&mut self.world, &mut self.rng);
    }

    /// The gateway ends by a shutdown or by `kill -9`. The disk may fail or the machine lose power at the same time. Hosts
    /// with their agents go on. The next gateway begins on the same journal.
    fn restart(&mut self) {
        self.restarts += 1;
        if self.rng.chance(25) {
            self.world.step(Input::Leave);
            for _ in 0..self.rng.below(20) {
                self.commit();
                self.deliver_answer();
            }
        }
        let me = self.gateway();
        for reader in self.readers.iter_mut().filter(|reader| reader.gateway == me) {
            reader.disconnected();
        }
        self.owner_ended();
        self.agents.gateway_gone(self.world.now.ticks_ms, &mut self.rng);
        self.lose();
        self.side.answers.clear();
        for _ in 0..self.rng.below(12) {
            self.agents.act_alone(&self.world.journal, &mut self.rng);
            if self.rng.chance(10) {
                self.world.now.ticks_ms += u64::try_from(self.rng.below(1_200_000)).expect("small");
                self.agents.wait(self.world.now.ticks_ms);
            }
        }
        // The next gateway may be configured for more or fewer agents.
        let agents = 1 + (self.world.hub.limits().agents + self.restarts) % 4;
        self.world.restart(Limits { agents, ..self.world.hub.limits().clone() });
        self.side.slots = Slots::default();
        let unfinished = self.world.journal.unfinished();
        self.agents.gateway_begins(&unfinished.iter().filter_map(|(_, instance)| *instance).collect());
        // Where another gateway may have the chats, the journal names them one by one, when nobody has them.
        for (chat, _) in unfinished.into_iter().filter(|_| self.other.is_none()) {
            self.world.step(Input::Recover { chat });
        }
    }

    /// The journal may lose its last appends with the gateway: those that were not synced, by a failing disk or a loss of
    /// power, or even synced ones, by a damaged file.
    fn lose(&mut self) {
        if self.other.is_some() {
            // The gateway that goes on has shown what was not synced.
            if self.rng.chance(20) && self.world.journal.remembers > 0 {
                self.crash();
            }
            return;
        }
        let me = self.gateway();
        let undelivered =
            self.side.answers.iter().filter_map(|answer| Some((me, answer.append.as_ref()?.0))).collect();
        let unsynced = self.world.journal.unsynced(&undelivered);
        let appends = if self.rng.chance(50) { unsynced } else { self.rng.below(unsynced + 1) };
        match self.rng.below(10) {
            0..=2 if self.world.journal.remembers > 0 => {
                self.world.journal.lose(appends);
            }
            3 if self.world.journal.remembers > 0 => {
                self.world.journal.lose(appends);
                self.agents.power_lost(&mut self.rng);
            }
            4 if self.world.journal.remembers > 0 => {
                self.agents.power_lost(&mut self.rng);
                self.crash();
            }
            _ => {}
        }
    }

    /// The journal's disk fails: its last appends are lost, even synced ones, and so are their answers.
    fn crash(&mut self) {
        self.crashes += 1;
        let appends = self.rng.below(self.world.journal.remembers + 1);
        if self.world.loud {
            eprintln!("   the journal crashes: the last {appends} appends are lost");
        }
        self.world.journal.crash(appends);
        let journal = &self.world.journal;
        for reader in &mut self.readers {
            let principal = reader.principal.clone();
            let key = |chat: &str| ChatKey {
                principal: principal.clone(),
                chat: ChatId::parse(chat).expect("a chat id"),
            };
            reader.accepted.retain(|(chat, turn), _| journal.has_turn(&key(chat), turn));
        }
        self.agents.recorder.lost(journal);
    }

    pub(super) fn keys(&self) -> BTreeSet<ChatKey> {
        let chats = (0..4).map(|at| format!("c{at}"));
        let named = chats.flat_map(|chat| self.readers.iter().map(move |reader| reader.key(&chat)));
        let made = self.readers.iter().flat_map(|reader| reader.chats.keys().map(|chat| reader.key(chat)));
        named.chain(made).collect()
    }

    fn check_bounds(&mut self) {
        let (counts, limits) = (self.world.hub.counts(), self.world.hub.limits());
        assert_eq!(counts.connections, self.world.outboxes.len());
        // Agents of an earlier gateway are adopted even if no slot is free. Then no other agent starts.
        let most = limits.agents.max(self.side.slots.in_use) + self.world.adopted - self.side.slots.adopted;
        assert!(counts.agents <= most, "more agents than slots");
        self.side.slots = Slots { in_use: counts.agents, adopted: self.world.adopted };
        assert!(self.world.agents.len() <= counts.agents, "every agent has a slot");
        for outbox in self.world.outboxes.values() {
            let most = 2 * outbox.limit + limits.page_bytes + 16_000;
            assert!(outbox.bytes <= most, "{} bytes wait in an outbox of {}", outbox.bytes, outbox.limit);
        }
    }
}

/// The agent instance and the position of the checkpoint in an append.
fn checkpoint(append: &Append) -> Option<(AgentInstanceId, u64)> {
    append.changes.iter().rev().find_map(|change| {
        let Change::AgentPosition { instance, position, checkpoint: Some(_) } = change else { return None };
        Some((*instance, *position))
    })
}

fn limits(rng: &mut Rng) -> Limits {
    Limits {
        ring_bytes: 200 + rng.below(4000),
        outbox_bytes: 600 + rng.below(6000),
        queued_turns: 1 + rng.below(4),
        agents: 1 + rng.below(4),
        idle_chats: rng.below(3),
        merge_bytes: [0, 64, 16_384][rng.below(3)],
        event_text_bytes: 100 + rng.below(3000),
        pending_bytes: 500 + rng.below(5000),
        history_events: 1 + u32::try_from(rng.below(20)).expect("small"),
        page_bytes: 500 + rng.below(3000),
        chats_per_connection: 4 + rng.below(4),
        open_requests: 1 + rng.below(8),
        open_work: 2 + rng.below(60),
        messages_per_minute: None,
        new_chats_per_minute: None,
        connections_per_principal: None,
        frames_per_second: 1_000_000,
        frames_burst: 1_000_000,
        ..Limits::default()
    }
}
