//! What must be true once all faults have stopped.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use switchboard_conformance::journal_model::How;
use switchboard_core::{
    Input,
    agent::AgentInstanceId,
    ids::{ChatKey, ConnId},
};

use super::{agents::LATE, recorder::text_of, sim::Sim};

/// Maximum number of rounds until a world without faults is at rest. They take less time than until a silent turn is
/// cancelled, so that the world rests only if the hub has taken every end of a turn.
const ROUNDS: usize = 1000;

impl Sim {
    /// All faults stop: every accepted turn must end, and every client must get all events.
    pub(super) fn heal(&mut self) {
        self.healthy = true;
        self.gather();
        // After these requests it is certain which client is attached to which chat.
        for who in 0..self.readers.len() {
            let chats: Vec<String> = self.readers[who].chats.keys().cloned().collect();
            chats.iter().for_each(|chat| self.attach(who, chat));
        }
        for round in 0.. {
            assert!(round < ROUNDS, "the world does not come to rest: {}", self.unrest());
            let mut busy = self.grant_all();
            while !self.world.journal.waiting.is_empty() {
                self.carry_out(0, How::Keep);
            }
            for answer in std::mem::take(&mut self.side.answers) {
                self.deliver(answer);
                busy = true;
            }
            for who in 0..self.readers.len() {
                while self.read(who, 100) {
                    busy = true;
                }
            }
            let instances: Vec<AgentInstanceId> = self.world.agents.keys().copied().collect();
            for instance in instances {
                busy |= self.agents.behave(&mut self.world, instance, &mut self.rng);
            }
            busy |= !self.world.journal.waiting.is_empty();
            if busy {
                continue;
            }
            if self.unrest().is_empty() {
                return;
            }
            for who in 0..self.readers.len() {
                self.resend(who);
            }
            self.world.advance(250, |_| {});
            self.world.observed.clear();
        }
    }

    /// Attaches the client to its chats again, and sends one of its messages without an answer.
    fn resend(&mut self, who: usize) {
        if self.readers[who].conn.is_none() {
            let (principal, name) = (self.readers[who].principal.clone(), self.readers[who].name.clone());
            self.readers[who].conn = Some(self.world.open(principal, &name));
            self.readers[who].gateway = self.gateway();
            return;
        }
        let idle: Vec<String> = self.readers[who]
            .chats
            .iter()
            .filter(|(chat, local)| {
                let exists = self.world.journal.chat(&self.readers[who].key(chat)).is_some();
                exists && !local.attached && !local.detached && !local.asked
            })
            .map(|(chat, _)| chat.clone())
            .collect();
        for chat in &idle {
            self.attach(who, chat);
        }
        let waiting: Vec<_> = self.readers[who]
            .unanswered
            .iter()
            .filter(|(_, (_, awaited))| !awaited)
            .map(|((chat, turn), (content, _))| (chat.clone(), turn.clone(), content.clone()))
            .collect();
        let principal = &self.readers[who].principal;
        let stale = |key: &ChatKey| key.principal == *principal && self.world.journal.is_stale(key);
        if let Some(ChatKey { chat, .. }) = self.keys().into_iter().find(stale) {
            // The gateway notices the loss with the next append. The clients may not have the chat, if the journal has
            // lost its deletion.
            self.send(who, &json!({"type": "rename_chat", "chat_id": chat.as_str(), "title": "another"}));
        }
        let Some((chat, turn, content)) = waiting.into_iter().next() else { return };
        if std::mem::take(&mut self.readers[who].crowded) {
            // The connection may be attached to chats that the client does not know of.
            let others: Vec<String> =
                self.readers[who].chats.keys().filter(|other| **other != chat).cloned().collect();
            for other in others {
                self.send(who, &json!({"type": "detach", "chat_id": other}));
                self.readers[who].chats.entry(other).or_default().detached = true;
            }
        }
        self.send_message(who, chat, turn, content);
    }

    /// Why the world is not at rest; empty if it is.
    fn unrest(&self) -> String {
        let mut why = Vec::new();
        for key in self.keys() {
            let Some(record) = self.world.journal.chat(&key) else { continue };
            if self.world.journal.is_stale(&key) {
                why.push(format!("{} has no new epoch", key.chat));
                continue;
            }
            if !record.turns.is_empty() {
                why.push(format!("{} turns open in {}", record.turns.len(), key.chat));
            }
            if record.agent_turn.is_some() || !record.tasks.is_empty() {
                why.push(format!("{:?} {:?} open in {}", record.agent_turn, record.tasks, key.chat));
            }
            for reader in self.readers.iter().filter(|reader| reader.principal == key.principal) {
                let Some(local) = reader.chats.get(key.chat.as_str()).filter(|l| l.attached && !l.detached)
                else {
                    continue;
                };
                if !local.has_all(record.head.seq) {
                    why.push(format!("{} stands at {:?} of {}", reader.name, local.cursor, record.head.seq));
                }
            }
        }
        for reader in &self.readers {
            for (message, (_, awaited)) in &reader.unanswered {
                why.push(format!("{}: {message:?} has no answer (awaited: {awaited})", reader.name));
            }
        }
        why.join("; ")
    }

    /// Checks the whole log of each chat: sequence numbers, turns, requests and the output of agents.
    #[allow(clippy::too_many_lines, reason = "one check after the other")]
    pub(super) fn check_logs(&self) {
        for key in self.keys() {
            let log: Vec<Value> = self
                .world
                .journal
                .whole_log(&key)
                .iter()
                .map(|event| serde_json::from_str(event.frame.as_str()).expect("frames are JSON"))
                .collect();
            let mut turns: BTreeMap<String, &str> = BTreeMap::new();
            let mut requests: BTreeMap<String, bool> = BTreeMap::new();
            let mut tools: BTreeSet<(String, String)> = BTreeSet::new();
            let mut cut_short: BTreeSet<String> = BTreeSet::new();
            let mut before: Option<&Value> = None;
            let mut texts: BTreeMap<String, String> = BTreeMap::new();
            for event in &log {
                let next = match before {
                    Some(before) if before["epoch"] == event["epoch"] => {
                        before["seq"].as_u64().expect("a number") + 1
                    }
                    _ => 1,
                };
                assert_eq!(event["seq"], json!(next), "contiguous from 1 in each epoch");
                let turn = event["turn_id"].as_str().unwrap_or("").to_owned();
                texts.entry(turn.clone()).or_default().push_str(&text_of(event));
                match event["event"].as_str().expect("a name") {
                    "user_message" => assert!(turns.insert(turn, "accepted").is_none(), "accepted once"),
                    "turn_started" if event["origin"] == "agent" => {
                        let open = turns.iter().any(|(id, state)| id.starts_with('~') && *state == "started");
                        assert!(!open, "one turn of the agent's at a time");
                        assert!(turns.insert(turn, "started").is_none(), "an agent's turn begins once");
                    }
                    "turn_started" => {
                        let open =
                            turns.iter().any(|(id, state)| !id.starts_with('~') && *state == "started");
                        assert!(!open, "one turn of a person's at a time");
                        assert_eq!(turns.insert(turn, "started"), Some("accepted"));
                    }
                    "turn_end" => {
                        // If an agent is gone, its requests are withdrawn before its turn ends. They are never closed
                        // with `turn_ended`.
                        let why = event["error"]["code"].as_str().unwrap_or("agent_silent");
                        let by_agent = why == "agent_silent" || !cut_short.contains(&turn);
                        assert!(by_agent, "a request is withdrawn where the agent is gone: {event}");
                        let before = turns.insert(turn, "ended");
                        assert!(before.is_some_and(|state| state != "ended"), "a turn ends once");
                        let turn = event["turn_id"].as_str().expect("a turn");
                        let left: Vec<&(String, String)> =
                            tools.iter().filter(|(of, _)| of == turn).collect();
                        // Output that the journal loses stays lost.
                        let lossy = self.world.journal.lossy;
                        assert!(lossy || left.is_empty(), "every tool use ends: {left:?}");
                        if event["origin"] != "agent" {
                            self.agents.recorder.check(&key, event, &texts[turn]);
                        }
                    }
                    "permission_request" | "question" => {
                        let id = event["request_id"].as_str().expect("an id").to_owned();
                        assert!(requests.insert(id, true).is_none(), "asked once");
                    }
                    "request_resolved" => {
                        let id = event["request_id"].as_str().expect("an id").to_owned();
                        assert_eq!(requests.insert(id, false), Some(true), "resolved once");
                        if event["resolution"] == "turn_ended" {
                            cut_short.insert(turn);
                        }
                    }
                    "tool_event" => {
                        let begins =
                            |before: &Value| before["event"] == "turn_started" && before["origin"] == "agent";
                        // What came between may be lost.
                        let is_first = !self.world.journal.lossy && before.is_some_and(begins);
                        assert!(event["call_id"] != LATE || !is_first, "a late result begins no turn");
                        assert_eq!(turns.get(&turn), Some(&"started"), "a tool use within its turn");
                        let call_id = event["call_id"].as_str().expect("an id").to_owned();
                        if event["phase"] == "start" {
                            tools.insert((turn, call_id));
                        } else {
                            tools.remove(&(turn, call_id));
                        }
                    }
                    "delta" | "reasoning_delta" => {
                        assert_eq!(turns.get(&turn), Some(&"started"), "an answer within its turn");
                    }
                    _ => {}
                }
                before = Some(event);
            }
            assert!(turns.values().all(|state| *state == "ended"), "every turn ends: {turns:?}");
            assert!(requests.values().all(|open| !open), "every request is resolved: {requests:?}");
            for reader in self.readers.iter().filter(|reader| reader.principal == key.principal) {
                let mine = reader.accepted.keys().filter(|(chat, _)| chat == key.chat.as_str());
                mine.for_each(|(_, turn)| {
                    assert!(turns.contains_key(turn), "acknowledged, so stored: {turn}")
                });
            }
        }
    }

    /// Without clients' requests, all agents are stopped, no deadline remains, and idle chats are unloaded.
    pub(super) fn rest(&mut self) {
        // A chat that is loaded late may adopt an agent without a turn.
        for round in 0.. {
            self.world.advance(700_000, |_| {});
            self.heal();
            if round >= 2 && (round >= 6 || self.world.hub.next_deadline().is_none()) {
                break;
            }
        }
        assert_eq!(self.world.hub.next_deadline(), None, "no deadline remains");
        assert_eq!(self.world.hub.counts().agents, 0);
        for who in 0..self.readers.len() {
            self.disconnect(who);
        }
        let counts = self.world.hub.counts();
        assert!(counts.chats <= self.world.hub.limits().idle_chats, "{} chats in memory", counts.chats);
    }

    pub(super) fn shut_down(&mut self) {
        for who in 0..self.readers.len() {
            self.resend(who);
        }
        for at in 0..3 {
            self.made += 1;
            let turn = format!("t{}", self.made);
            self.send_message(at, format!("c{at}"), turn, "late".into());
        }
        for _ in 0..self.rng.below(20) {
            self.commit();
            self.deliver_answer();
        }
        self.world.step(Input::Shutdown);
        for _ in 0..1000 {
            self.grant_all();
            while !self.world.journal.waiting.is_empty() {
                self.carry_out(0, How::Keep);
            }
            for answer in std::mem::take(&mut self.side.answers) {
                self.deliver(answer);
            }
            let instances: Vec<AgentInstanceId> = self.world.agents.keys().copied().collect();
            for instance in instances {
                self.agents.behave(&mut self.world, instance, &mut self.rng);
            }
            let closing: Vec<ConnId> =
                self.world.outboxes.iter().filter(|(_, o)| o.closing).map(|(conn, _)| *conn).collect();
            closing.into_iter().for_each(|conn| self.world.gone(conn));
        }
        assert!(self.world.finished, "a shutdown ends by itself");
        for key in self.keys() {
            let Some(record) = self.world.journal.chat(&key) else { continue };
            assert_eq!(record.turns.len(), 0, "every turn ended before the gateway did");
            assert_eq!((record.agent_turn, record.tasks), (None, Vec::new()), "so did what the agent began");
        }
    }
}
