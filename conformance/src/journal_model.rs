//! The model of a journal: a test decides when and how each request is answered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;
use switchboard_core::{
    agent::AgentInstanceId,
    ids::{ChatKey, Cursor, Epoch, RequestId, TurnId},
    journal::{
        Append, AppendId, Ask, AskId, Change, ChatRecord, Durability, Found, HistoryPage, JournalAnswer,
        LogEvent, MemoryJournal, PageStart, Query,
    },
};

/// A request that waits for its answer.
#[derive(Debug, Clone)]
pub enum Request {
    /// Writes events and changes of a chat.
    Append(Append),
    /// Reads.
    Ask(Ask),
}

/// How to answer a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// An append is written, and a question is answered.
    Keep,
    /// An append is refused, and a question fails.
    Refuse,
    /// An append is committed and yet refused: its outcome was unknown. A question fails.
    Lose,
}

/// The state before an append.
#[derive(Debug)]
struct Before {
    memory: MemoryJournal,
    earlier: BTreeMap<ChatKey, Vec<LogEvent>>,
    /// The append and its gateway, as long as the gateway waits for the answer.
    id: Option<(usize, AppendId)>,
    durability: Durability,
}

/// A journal in memory with faults. Asserts what must hold of the appends of every gateway.
#[derive(Debug, Default)]
pub struct Journal {
    /// The content.
    pub memory: MemoryJournal,
    /// The requests that wait for their answers, oldest first.
    pub waiting: VecDeque<Request>,
    /// The events of a chat up to this number are removed.
    pub trimmed: BTreeMap<ChatKey, u64>,
    /// Chats that can be neither read nor written any more.
    pub damaged: BTreeSet<ChatKey>,
    /// The number of answered appends.
    pub appends: u64,
    /// The logs of deleted chats, to compare with the events that clients received.
    pub graves: BTreeMap<ChatKey, Vec<LogEvent>>,
    /// The number of appends before which the state is remembered, for [`Journal::lose`]; 0 for none.
    pub remembers: usize,
    history: VecDeque<Before>,
    /// Chats that get a new epoch when their state is next read.
    stale: BTreeSet<ChatKey>,
    /// Whole logs of ended epochs, including lost events, by epoch.
    archive: BTreeMap<(ChatKey, String), Vec<LogEvent>>,
    /// The events of earlier epochs.
    earlier: BTreeMap<ChatKey, Vec<LogEvent>>,
    keys: BTreeSet<ChatKey>,
    epoch_resets: u64,
    /// The content of every request by its id, even if lost: a late answer must not answer another request.
    asked: BTreeMap<(ChatKey, RequestId), (Value, Value)>,
    /// A committed append was lost.
    pub lossy: bool,
    /// The number of the gateway whose requests these are, where several share the journal.
    pub gateway: usize,
    /// A defect: appends and questions of earlier owners are accepted.
    pub ignores_terms: bool,
}

impl Journal {
    /// Forgets the waiting requests: the gateway that sent them has ended.
    pub fn restart(&mut self) {
        self.waiting.clear();
        for before in &mut self.history {
            before.id.take_if(|(gateway, _)| *gateway == self.gateway);
        }
    }

    /// Answers the waiting request at this index.
    pub fn carry_out(&mut self, at: usize, how: How) -> JournalAnswer {
        let mut request = self.waiting.remove(at).expect("there is a request at this index");
        if self.ignores_terms {
            self.forge_term(&mut request);
        }
        match request {
            Request::Append(append) => self.append(append, how),
            Request::Ask(ask) if self.is_damaged(&ask.query) => JournalAnswer::Damaged(ask.id),
            Request::Ask(ask) if how != How::Keep => JournalAnswer::Failed(ask.id),
            Request::Ask(ask) => {
                if self.is_trimmed(&ask.query) {
                    return JournalAnswer::Found(ask.id, Found::After(None));
                }
                if let Query::Chat { chat, term } = &ask.query
                    && term.is_none_or(|term| term == self.memory.term(chat))
                {
                    self.reset_epoch(chat);
                }
                self.memory.ask(ask)
            }
        }
    }

    fn forge_term(&self, request: &mut Request) {
        match request {
            Request::Append(append) => append.term = self.memory.term(&append.chat),
            Request::Ask(Ask { query: Query::Chat { term, .. }, .. }) => *term = None,
            Request::Ask(_) => {}
        }
    }

    fn is_damaged(&self, query: &Query) -> bool {
        query.chat().is_some_and(|chat| self.damaged.contains(chat))
    }

    fn is_trimmed(&self, query: &Query) -> bool {
        let Query::After { chat, after, .. } = query else { return false };
        self.trimmed.get(chat).is_some_and(|until| after.seq < *until)
    }

    /// Whether the request at this index may be answered next: appends of one chat are answered in order, questions at
    /// any time.
    pub fn may_be_next(&self, at: usize) -> bool {
        let Request::Append(append) = &self.waiting[at] else { return true };
        let same = |request: &Request| matches!(request, Request::Append(a) if a.chat == append.chat);
        !self.waiting.iter().take(at).any(same)
    }

    fn append(&mut self, append: Append, how: How) -> JournalAnswer {
        self.appends += 1;
        let id = append.id;
        if how == How::Refuse || self.damaged.contains(&append.chat) || self.stale.contains(&append.chat) {
            return JournalAnswer::Refused(id);
        }
        let answer = self.commit(append);
        let is_lost = how == How::Lose && matches!(answer, JournalAnswer::Appended(_));
        if is_lost { JournalAnswer::Refused(id) } else { answer }
    }

    fn commit(&mut self, append: Append) -> JournalAnswer {
        let before = (self.remembers > 0).then(|| Before {
            memory: self.memory.clone(),
            earlier: self.earlier.clone(),
            id: Some((self.gateway, append.id)),
            durability: append.durability,
        });
        let record = self.chat(&append.chat);
        let deleted = append.changes.contains(&Change::Deleted).then(|| self.log(&append.chat));
        let answer = self.memory.append(append.clone());
        if !matches!(answer, JournalAnswer::Appended(_)) {
            return answer;
        }
        self.keys.insert(append.chat.clone());
        self.history.extend(before);
        if self.history.len() > self.remembers {
            self.history.pop_front();
        }
        if let Some(epoch) = &append.create {
            // The chat was created before, in a commit that was lost before anybody saw it.
            self.archive.remove(&(append.chat.clone(), epoch.to_string()));
            // The deletion of the earlier chat was lost, together with its creation.
            self.graves.remove(&append.chat);
        }
        check_why_cancelled(record.as_ref(), &append);
        self.check_asked(&append);
        if let (Some(record), Some(log)) = (record, deleted) {
            let epoch = (append.chat.clone(), record.head.epoch.to_string());
            self.archive.entry(epoch).or_insert_with(|| log.clone());
            self.graves.insert(append.chat, log);
        }
        answer
    }

    /// Asserts that an id belongs to one request for ever, whatever is lost, and whichever gateway opens it.
    fn check_asked(&mut self, append: &Append) {
        for change in &append.changes {
            let Change::RequestOpened { request_id, frame, .. } = change else { continue };
            let event: Value = serde_json::from_str(frame.as_str()).expect("frames are JSON");
            let what = (event["input"].clone(), event["questions"].clone());
            let first = self.asked.entry((append.chat.clone(), request_id.clone())).or_insert(what.clone());
            assert_eq!(*first, what, "{request_id} belongs to another request");
        }
    }

    /// How many of the last appends a loss of power may undo: those that are not to be synced, and those whose
    /// answers, which are on their way, have not been delivered.
    pub fn unsynced(&self, undelivered: &BTreeSet<(usize, AppendId)>) -> usize {
        let may_go = |before: &&Before| {
            before.durability == Durability::Written || before.id.is_some_and(|id| undelivered.contains(&id))
        };
        self.history.iter().rev().take_while(may_go).count()
    }

    /// The last appends are lost, although they were answered.
    pub fn crash(&mut self, appends: usize) {
        self.lossy = true;
        self.lose(appends);
    }

    /// Loses the last appends; every chat gets a new epoch.
    pub fn lose(&mut self, appends: usize) {
        let keys = self.keys.clone();
        keys.iter().for_each(|chat| self.put_away(chat));
        let place = self.history.len().saturating_sub(appends);
        if let Some(before) = self.history.drain(place..).next() {
            self.memory.lose_since(before.memory);
            self.earlier = before.earlier;
        }
        self.history.clear();
        self.stale = keys.iter().filter(|chat| self.chat(chat).is_some()).cloned().collect();
        self.graves.retain(|chat, _| !self.stale.contains(chat));
    }

    fn reset_epoch(&mut self, chat: &ChatKey) {
        if !self.stale.remove(chat) {
            return;
        }
        let log = self.log(chat);
        self.put_away(chat);
        self.earlier.entry(chat.clone()).or_default().extend(log);
        self.epoch_resets += 1;
        let epoch = Epoch::parse(&format!("r{}", self.epoch_resets)).expect("an epoch");
        self.memory.reset_epoch(chat, epoch);
        // The remembered states belong to another epoch.
        self.history.clear();
    }

    fn put_away(&mut self, chat: &ChatKey) {
        if let Some(record) = self.chat(chat) {
            let log = self.log(chat);
            self.archive.entry((chat.clone(), record.head.epoch.to_string())).or_insert(log);
        }
    }

    /// Whether a message was ever accepted, as far as that was not lost.
    pub fn has_turn(&self, chat: &ChatKey, turn: &str) -> bool {
        let turn_id = TurnId::parse(turn).expect("a turn id");
        matches!(self.query(Query::Turn { chat: chat.clone(), turn_id }), Found::Turn(Some(_)))
    }

    /// Whether the chat is about to get a new epoch.
    pub fn is_stale(&self, chat: &ChatKey) -> bool {
        self.stale.contains(chat)
    }

    /// Whether this is the current epoch of a chat, and none of its events was lost.
    pub fn is_present(&self, chat: &ChatKey, epoch: &str) -> bool {
        !self.archive.contains_key(&(chat.clone(), epoch.to_owned()))
    }

    /// The stored events of a chat, of all its epochs.
    pub fn whole_log(&self, chat: &ChatKey) -> Vec<LogEvent> {
        let earlier = self.earlier.get(chat).cloned().unwrap_or_default();
        earlier.into_iter().chain(self.log(chat)).collect()
    }

    /// The record of a chat; `None` if it does not exist.
    pub fn chat(&self, chat: &ChatKey) -> Option<ChatRecord> {
        match self.query(Query::Chat { chat: chat.clone(), term: None }) {
            Found::Chat(record) => record.map(|record| *record),
            Found::Deleted => None,
            Found::Fenced | Found::Turn(_) | Found::After(_) | Found::Before(_) | Found::Chats(_) => {
                panic!("another answer")
            }
        }
    }

    /// The log of the current epoch of a chat, or of a deleted chat.
    pub fn log(&self, chat: &ChatKey) -> Vec<LogEvent> {
        if let Some(log) = self.graves.get(chat) {
            return log.clone();
        }
        let Some(record) = self.chat(chat) else { return Vec::new() };
        let after = Cursor { epoch: record.head.epoch, seq: 0 };
        let Found::After(events) = self.query(Query::After { chat: chat.clone(), after, bytes: usize::MAX })
        else {
            panic!("another answer")
        };
        events.unwrap_or_default()
    }

    /// The chats that a gateway recovers at its start, which have open turns, background tasks or agents.
    pub fn unfinished(&self) -> Vec<(ChatKey, Option<AgentInstanceId>)> {
        let records = self.keys.iter().filter_map(|key| Some((key.clone(), self.chat(key)?)));
        let unfinished = records.filter(|(_, record)| {
            let has_work = record.agent_turn.is_some() || !record.tasks.is_empty();
            !record.turns.is_empty() || record.agent.is_some() || has_work
        });
        unfinished.map(|(key, record)| (key, record.agent.map(|agent| agent.instance))).collect()
    }

    /// The event at this position, even if it was lost or deleted.
    pub fn event(&self, chat: &ChatKey, epoch: &str, seq: u64) -> Option<LogEvent> {
        if let Some(log) = self.archive.get(&(chat.clone(), epoch.to_owned())) {
            return log.iter().find(|event| event.seq == seq).cloned();
        }
        let record = self.chat(chat)?;
        assert_eq!(record.head.epoch.as_str(), epoch, "the epoch has existed");
        let after = Cursor { epoch: record.head.epoch, seq: seq - 1 };
        let Found::After(events) = self.query(Query::After { chat: chat.clone(), after, bytes: 1 }) else {
            panic!("another answer")
        };
        events.and_then(|events| events.into_iter().next())
    }

    /// The newest page of history.
    pub fn newest(&self, chat: &ChatKey, events: u32) -> HistoryPage {
        let query =
            Query::Before { chat: chat.clone(), before: PageStart::At(u64::MAX), events, bytes: usize::MAX };
        let Found::Before(page) = self.query(query) else { panic!("another answer") };
        page.unwrap_or_default()
    }

    fn query(&self, query: Query) -> Found {
        let JournalAnswer::Found(_, found) = self.memory.ask(Ask { id: AskId(0), query }) else {
            panic!("the journal in memory cannot fail");
        };
        found
    }
}

/// Asserts that a turn that is being cancelled ends with the stored reason, whichever gateway ends it. `record`: the
/// chat's state before the append.
fn check_why_cancelled(record: Option<&ChatRecord>, append: &Append) {
    let open = record.into_iter().flat_map(|record| &record.turns);
    for turn in open.filter(|turn| turn.cancel_requested) {
        let id = format!("\"turn_id\":\"{}\"", turn.turn_id);
        let mut frames = append.events.iter().map(|event| event.frame.as_str());
        let end = frames.find(|frame| {
            frame.starts_with("{\"event\":\"turn_end\",\"outcome\":\"cancelled\"") && frame.contains(&id)
        });
        let Some(end) = end else { continue };
        match &turn.cancel_reason {
            Some(reason) => {
                assert!(end.contains(&reason.code), "the reason of the cancellation is lost: {end}")
            }
            None => assert!(!end.contains("\"error\""), "there is no recorded reason: {end}"),
        }
    }
}
