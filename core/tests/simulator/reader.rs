//! The naive model of a client: which frames it may get, and in which order.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use switchboard_conformance::journal_model::Journal;
use switchboard_core::{
    ids::{ChatId, ChatKey, ConnId, Principal},
    journal::LogEvent,
    wire::{AgentState, Frame},
};

use super::recorder::{Recorder, text_of};

/// The gateway's description of its agents.
pub fn agent() -> AgentState {
    AgentState {
        agent: "claude".into(),
        dialect: Some("claude".into()),
        workspace: None,
        sandbox: Some("shield".into()),
    }
}

/// A client, with its cursors and unanswered messages, which outlive its connections.
#[derive(Debug)]
pub struct Reader {
    pub name: String,
    pub principal: Principal,
    pub conn: Option<ConnId>,
    /// The gateway that the client is, or was last, connected to.
    pub gateway: usize,
    pub chats: BTreeMap<String, Local>,
    /// The content of each message without an answer, by chat and turn, and whether the client waits
    /// for the answer.
    pub unanswered: BTreeMap<(String, String), (String, bool)>,
    /// The content of each message that was accepted, by chat and turn.
    pub accepted: BTreeMap<(String, String), String>,
    /// A request was refused because the connection is attached to too many chats.
    pub crowded: bool,
}

/// The lists in the state of a snapshot, gathered from its parts.
#[derive(Debug, Default)]
struct Waiting {
    queue: Vec<Value>,
    requests: Vec<Value>,
}

/// The state of a chat at one client.
#[derive(Debug, Default)]
pub struct Local {
    /// The queued messages and open requests in the parts of the snapshot so far.
    waiting: Waiting,
    /// The last event that the client has: its epoch and sequence number.
    pub cursor: Option<(String, u64)>,
    pub attached: bool,
    /// `attach` was sent and not answered yet.
    pub asked: bool,
    pub detached: bool,
    /// `replay_end` came.
    pub joined: bool,
    head_at_attach: u64,
    /// `attached` came, so `agent_state` must come next.
    agent_due: bool,
    place: Place,
    /// The cursors that this connection sent in `attach`.
    candidates: BTreeSet<(String, u64)>,
    /// The open requests that the client knows, by id, and whether each is a question.
    pub requests: BTreeMap<String, bool>,
    /// The texts that the client shows. They outlive its connections.
    screen: Screen,
}

/// The texts of turns as a client shows them.
#[derive(Debug, Default)]
struct Screen {
    /// The last event that is shown: its epoch and sequence number.
    until: Option<(String, u64)>,
    /// The text of each open turn that was received from its start on.
    turns: BTreeMap<String, String>,
}

/// Which event of the log must come next.
#[derive(Debug, Default, PartialEq)]
enum Place {
    #[default]
    Nothing,
    /// The event after one of the cursors that the connection sent.
    AfterSomeCursor,
    /// This part of a snapshot.
    Snapshot(u64),
    Event(u64),
}

impl Reader {
    pub fn new(name: &str, principal: Principal) -> Self {
        Self {
            name: name.to_owned(),
            principal,
            conn: None,
            gateway: 0,
            chats: BTreeMap::new(),
            unanswered: BTreeMap::new(),
            accepted: BTreeMap::new(),
            crowded: false,
        }
    }

    pub fn key(&self, chat: &str) -> ChatKey {
        ChatKey { principal: self.principal.clone(), chat: ChatId::parse(chat).expect("a chat id") }
    }

    pub fn disconnected(&mut self) {
        self.conn = None;
        for local in self.chats.values_mut() {
            let cursor = local.cursor.take();
            let screen = std::mem::take(&mut local.screen);
            *local = Local { cursor, screen, ..Local::default() };
        }
        for (_, awaited) in self.unanswered.values_mut() {
            *awaited = false;
        }
    }

    /// The client sends `attach` with this cursor.
    pub fn attaches(&mut self, chat: &str, after: Option<(String, u64)>) {
        let local = self.chats.entry(chat.to_owned()).or_default();
        local.asked = true;
        local.detached = false;
        local.candidates.extend(after);
    }

    /// Receives a frame and checks it.
    pub fn takes(&mut self, frame: &Frame, journal: &Journal, recorder: &Recorder) {
        let value: Value = serde_json::from_str(frame.as_str()).expect("frames are JSON");
        let event = value["event"].as_str().expect("frames name their event").to_owned();
        let Some(chat) = value["chat_id"].as_str().map(str::to_owned) else { return };
        let key = self.key(&chat);
        match event.as_str() {
            "ready" => {
                self.chats.entry(chat).or_default();
                return;
            }
            "error" => {
                self.refused(&chat, &value, journal);
                return;
            }
            "session_updated" if value["scope"] == "deleted" => {
                let removed = journal.graves.contains_key(&key);
                assert!(removed || journal.lossy, "what is gone was removed before");
                self.chats.remove(&chat);
                return;
            }
            "history" => {
                check_page(value["events"].as_array().expect("events"), &key, journal);
                return;
            }
            "message_accepted" if value["duplicate"] == true => {
                let place = journal.event(&key, &text(&value, "epoch"), number(&value, "seq"));
                let place = place.expect("a duplicate is in the journal");
                assert!(place.frame.as_str().contains("\"event\":\"user_message\""));
                self.answered(&chat, &value, journal);
                return;
            }
            _ => {}
        }
        let local = self.chats.entry(chat.clone()).or_default();
        let is_due = std::mem::take(&mut local.agent_due);
        assert_eq!(is_due, event == "agent_state", "what the agent is follows attached: {value}");
        match event.as_str() {
            "agent_state" => assert_eq!(serde_json::from_value(value).ok(), Some(agent())),
            "attached" => local.attached(&value),
            "snapshot" => local.snapshot(&value, &key, journal, recorder),
            "replay_end" => local.replay_end(&value),
            "message_accepted" => {
                let logged = local.event(&value, &value, &key, journal);
                assert_eq!(logged["event"], "user_message", "accepted in place of it");
                assert_eq!(logged["turn_id"], value["turn_id"]);
                local.screen.event(&logged, &key, recorder);
                self.answered(&chat, &value, journal);
            }
            _ if value.get("seq").is_some() => {
                let logged = local.event(&value, &value, &key, journal);
                assert_eq!(logged, value, "all readers get the same event");
                local.screen.event(&value, &key, recorder);
                if event == "user_message" {
                    self.answered(&chat, &value, journal);
                }
            }
            _ => {}
        }
    }

    fn answered(&mut self, chat: &str, value: &Value, journal: &Journal) {
        let turn = value["turn_id"].as_str().expect("a turn").to_owned();
        let lost = journal.lossy && !journal.has_turn(&self.key(chat), &turn);
        if let Some((content, _)) = self.unanswered.remove(&(chat.to_owned(), turn.clone()))
            && !lost
        {
            self.accepted.insert((chat.to_owned(), turn), content);
        }
    }

    fn refused(&mut self, chat: &str, value: &Value, journal: &Journal) {
        let detail = value["detail"].as_str().unwrap_or("");
        self.crowded |= value["code"] == "limit_reached";
        if let Some(turn) = value["turn_id"].as_str() {
            let message = (chat.to_owned(), turn.to_owned());
            if value["code"] == "turn_conflict" {
                return;
            }
            if value["code"] == "unknown_chat" && journal.graves.contains_key(&self.key(chat)) {
                self.unanswered.remove(&message);
                return;
            }
            if let Some((_, awaited)) = self.unanswered.get_mut(&message) {
                *awaited = false;
            }
            return;
        }
        let local = self.chats.entry(chat.to_owned()).or_default();
        // The error may be the answer to `attach`.
        local.attached &= !std::mem::take(&mut local.asked);
        // An unused default chat exists only for the connections that are attached to it.
        if value["code"] == "limit_reached" || value["code"] == "unknown_chat" {
            local.attached = false;
        }
        if detail.starts_with("the log cannot be read") {
            local.attached = false;
            local.place = Place::Nothing;
        }
    }
}

impl Local {
    fn attached(&mut self, value: &Value) {
        let (epoch, head) = (text(value, "epoch"), number(value, "head"));
        self.attached = true;
        self.agent_due = true;
        self.asked = false;
        self.joined = false;
        self.head_at_attach = head;
        self.place = match (value["recovered"] == true, head) {
            (false, _) => Place::Snapshot(0),
            (true, 0) => Place::Event(1),
            (true, _) => {
                let usable = self.candidates.iter().any(|(e, seq)| *e == epoch && *seq <= head);
                assert!(usable, "recovered from a cursor that was sent");
                Place::AfterSomeCursor
            }
        };
        self.cursor = self.cursor.take().filter(|(e, _)| *e == epoch);
    }

    fn snapshot(&mut self, value: &Value, key: &ChatKey, journal: &Journal, recorder: &Recorder) {
        let part = number(value, "part");
        assert_eq!(self.place, Place::Snapshot(part), "parts come in order, after attached");
        let (seq, events) = (number(value, "seq"), value["events"].as_array().expect("events"));
        assert!(seq >= self.head_at_attach);
        check_page(events, key, journal);
        if part == 0 {
            self.waiting = Waiting::default();
            self.screen = Screen::default();
        }
        events.iter().for_each(|event| self.screen.event(event, key, recorder));
        let list = |name: &str| value["state"][name].as_array().cloned().unwrap_or_default();
        self.waiting.queue.extend(list("queue"));
        self.waiting.requests.extend(list("requests"));
        if value["more"] == true {
            let early = value["state"].get("turn").or(value["state"].get("agent"));
            assert!(early.is_none(), "the running turn and its agent are in the last part");
            self.place = Place::Snapshot(part + 1);
            return;
        }
        check_state(value, &self.waiting, seq, key, journal);
        self.requests.clear();
        for request in std::mem::take(&mut self.waiting).requests {
            self.request(&request);
        }
        self.place = Place::Event(seq + 1);
        self.cursor = Some((text(value, "epoch"), seq));
    }

    fn replay_end(&mut self, value: &Value) {
        let seq = number(value, "seq");
        assert!(!self.joined, "the replay ends once");
        assert!(seq >= self.head_at_attach, "all that there was belongs to the replay");
        match self.place {
            Place::Event(next) => assert_eq!(seq + 1, next),
            Place::AfterSomeCursor => self.is_after_a_cursor(&text(value, "epoch"), seq + 1),
            Place::Nothing | Place::Snapshot(_) => panic!("a replay ends that did not begin"),
        }
        self.joined = true;
        self.place = Place::Event(seq + 1);
        self.cursor = Some((text(value, "epoch"), seq));
    }

    fn is_after_a_cursor(&self, epoch: &str, first: u64) {
        let known = self.candidates.iter().any(|(e, seq)| e == epoch && seq + 1 == first);
        assert!(known, "it goes on after a cursor that was sent, not at {first}");
    }

    /// Receives an event of the log, or `message_accepted` in its place. Returns the event that the journal has there.
    fn event(&mut self, value: &Value, place: &Value, key: &ChatKey, journal: &Journal) -> Value {
        let (epoch, seq) = (text(place, "epoch"), number(place, "seq"));
        let first = place["first_seq"].as_u64().unwrap_or(seq);
        match self.place {
            Place::Event(next) => assert_eq!(first, next, "neither hole nor overlap"),
            Place::AfterSomeCursor => self.is_after_a_cursor(&epoch, first),
            Place::Nothing | Place::Snapshot(_) => panic!("an event to a client that is not there"),
        }
        self.place = Place::Event(seq + 1);
        self.cursor = Some((epoch, seq));
        self.request(value);
        let logged =
            journal.event(key, &text(place, "epoch"), seq).expect("a published event is in the journal");
        assert_eq!(logged.seq, seq);
        serde_json::from_str(logged.frame.as_str()).expect("frames are JSON")
    }

    fn request(&mut self, value: &Value) {
        let Some(id) = value["request_id"].as_str() else { return };
        match value["event"].as_str() {
            Some("permission_request") => {
                self.requests.insert(id.to_owned(), false);
            }
            Some("question") => {
                self.requests.insert(id.to_owned(), true);
            }
            Some("request_resolved") => {
                self.requests.remove(id);
            }
            _ => {}
        }
    }

    /// Whether the client has all events up to this sequence number.
    pub fn has_all(&self, head: u64) -> bool {
        self.joined && self.place == Place::Event(head + 1)
    }
}

impl Screen {
    /// Shows an event, unless it was shown before. If events are missing before it, all texts are removed first.
    fn event(&mut self, event: &Value, key: &ChatKey, recorder: &Recorder) {
        let (epoch, seq) = (text(event, "epoch"), number(event, "seq"));
        let first = event["first_seq"].as_u64().unwrap_or(seq);
        match &self.until {
            Some((same, until)) if *same == epoch && seq <= *until => return,
            Some((same, until)) if *same == epoch && first == until + 1 => {}
            Some((other, _)) if *other != epoch && first == 1 => {}
            _ => self.turns.clear(),
        }
        self.until = Some((epoch, seq));
        let Some(turn) = event["turn_id"].as_str() else { return };
        if event["event"] == "turn_started" {
            self.turns.entry(turn.to_owned()).or_default();
        }
        let Some(shown) = self.turns.get_mut(turn) else { return };
        shown.push_str(&text_of(event));
        if event["event"] == "turn_end" {
            if event["origin"] != "agent" {
                recorder.check(key, event, shown);
            }
            self.turns.remove(turn);
        }
    }
}

/// Checks that a page has the events of the log, without a gap.
fn check_page(events: &[Value], key: &ChatKey, journal: &Journal) {
    let mut next: Option<(String, u64)> = None;
    for event in events {
        let (epoch, seq) = (text(event, "epoch"), number(event, "seq"));
        let first = event["first_seq"].as_u64().unwrap_or(seq);
        if let Some((before, next)) = &next {
            assert_eq!(first, if *before == epoch { *next } else { 1 }, "a page has no hole");
        }
        next = Some((epoch.clone(), seq + 1));
        let logged: Vec<Value> = (first..=seq)
            .map(|seq| journal.event(key, &epoch, seq).expect("a published event is in the journal"))
            .map(|logged| serde_json::from_str(logged.frame.as_str()).expect("frames are JSON"))
            .collect();
        if let [logged] = logged.as_slice() {
            assert_eq!(logged, event);
        } else {
            let joined: String = logged.iter().map(|logged| text(logged, "text")).collect();
            assert_eq!(joined, text(event, "text"), "merged deltas have the same text");
        }
    }
}

/// Checks that the state in a snapshot follows from the events up to `until`.
fn check_state(value: &Value, waiting: &Waiting, until: u64, key: &ChatKey, journal: &Journal) {
    let (mut queue, mut requests, mut running) = (Vec::new(), Vec::new(), None);
    let (mut agent_turn, mut tasks) = (None, Vec::new());
    assert_eq!(serde_json::from_value(value["state"]["agent"].clone()).ok(), Some(agent()));
    let epoch = text(value, "epoch");
    if !journal.is_present(key, &epoch) {
        return;
    }
    let mark = format!("\"epoch\":\"{epoch}\"");
    let earlier = |event: &&LogEvent| event.seq <= until || !event.frame.as_str().contains(&mark);
    for event in journal.whole_log(key).iter().filter(earlier) {
        let event: Value = serde_json::from_str(event.frame.as_str()).expect("frames are JSON");
        let turn = event["turn_id"].clone();
        match event["event"].as_str().expect("a name") {
            "user_message" => queue.push(turn),
            "turn_started" if event["origin"] == "agent" => {
                assert_eq!(agent_turn.replace(turn), None, "one turn of the agent's is open at a time");
            }
            "turn_end" if event["origin"] == "agent" => {
                assert_eq!(agent_turn.take(), Some(turn), "a turn of the agent's ends once");
            }
            "task" => {
                let known = tasks.iter().position(|task: &Value| task["task_id"] == event["task_id"]);
                match (known, event["status"] == "running") {
                    (Some(at), true) => tasks[at] = event,
                    (None, true) => tasks.push(event),
                    (Some(at), false) => drop(tasks.remove(at)),
                    (None, false) => panic!("a task that does not run ends: {event}"),
                }
            }
            "turn_started" => {
                queue.retain(|queued| *queued != turn);
                running = Some(turn);
            }
            "turn_end" => {
                queue.retain(|queued| *queued != turn);
                running = running.filter(|running| *running != turn);
            }
            "permission_request" | "question" => requests.push(event["request_id"].clone()),
            "request_resolved" => requests.retain(|open| *open != event["request_id"]),
            _ => {}
        }
    }
    let list = |items: &[Value], field: &str| -> Vec<Value> {
        items.iter().map(|item| item[field].clone()).collect()
    };
    assert_eq!(list(&waiting.queue, "turn_id"), queue);
    let mut shown = list(&waiting.requests, "request_id");
    shown.sort_by_key(ToString::to_string);
    requests.sort_by_key(ToString::to_string);
    assert_eq!(shown, requests);
    assert_eq!(value["state"].get("turn").map(|turn| turn["turn_id"].clone()), running);
    assert_eq!(value["state"].get("agent_turn").map(|turn| turn["turn_id"].clone()), agent_turn);
    let known = value["state"].get("tasks").and_then(Value::as_array).cloned().unwrap_or_default();
    assert_eq!(list(&known, "task_id"), list(&tasks, "task_id"));
    assert_eq!(list(&known, "title"), list(&tasks, "title"));
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("{name} in {value}"))
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("{name} in {value}")).to_owned()
}
