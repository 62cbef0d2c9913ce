//! A journal in memory: for tests, for programs that need no history, and as the reference for other journals.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};

use super::{
    Append, AppendId, Ask, Change, ChatRecord, ChatsPage, Found, HistoryPage, JournalAnswer, LogEvent,
    OpenAgentTurn, OpenRequest, OpenTurn, OpenWork, PageBuilder, PageStart, Query, RecordedAgent, TurnRecord,
};
use crate::{
    agent::AgentCommand,
    ids::{ChatId, ChatKey, Cursor, Epoch, Principal, TurnId},
    wire::{ChatSummary, GoalState, Task},
};

/// A journal that stores all chats in memory only and answers at once.
#[derive(Debug, Default, Clone)]
pub struct MemoryJournal {
    chats: BTreeMap<ChatKey, Chat>,
    /// All chats by principal and time of the last activity, newest last.
    by_activity: BTreeSet<(Principal, u64, ChatId)>,
    /// The [`ChatKey::hash`] of each deleted chat.
    deleted: BTreeSet<[u8; 32]>,
}

#[derive(Debug, Clone)]
struct Chat {
    epoch: Epoch,
    events: Vec<LogEvent>,
    /// The earlier epochs and their events, oldest first.
    earlier: Vec<(Epoch, Vec<LogEvent>)>,
    title: Option<String>,
    goal_state: GoalState,
    session: Option<String>,
    open: Vec<OpenTurn>,
    turns: BTreeMap<TurnId, TurnRecord>,
    agent_turn: Option<OpenAgentTurn>,
    tasks: Vec<Task>,
    requests: Vec<OpenRequest>,
    open_work: OpenWork,
    last_command: u64,
    last_request: u64,
    agent: Option<RecordedAgent>,
    commands: Vec<AgentCommand>,
    updated_at_ms: u64,
}

impl MemoryJournal {
    /// Commits one transaction.
    ///
    /// # Panics
    /// If the append does not follow the chat's last event, which is a defect of the caller.
    pub fn append(&mut self, append: Append) -> JournalAnswer {
        if append.changes.contains(&Change::Deleted) {
            return self.delete(append.id, &append.chat);
        }
        let deleted = &self.deleted;
        let chat = self.chats.entry(append.chat.clone()).or_insert_with(|| {
            assert!(!deleted.contains(&append.chat.hash()), "the id of a deleted chat is not used again");
            let epoch = append.create.clone().expect("a chat's first append creates it");
            Chat::new(epoch)
        });
        self.by_activity.remove(&(
            append.chat.principal.clone(),
            chat.updated_at_ms,
            append.chat.chat.clone(),
        ));
        if append.is_activity() {
            chat.updated_at_ms = chat.updated_at_ms.max(append.at_ms);
        }
        self.by_activity.insert((
            append.chat.principal.clone(),
            chat.updated_at_ms,
            append.chat.chat.clone(),
        ));
        for event in append.events {
            assert_eq!(event.first_seq, chat.head() + 1, "an append follows the chat's last event");
            chat.events.push(event);
        }
        for change in append.changes {
            chat.apply(change, append.at_ms);
        }
        JournalAnswer::Appended(append.id)
    }

    fn delete(&mut self, id: AppendId, key: &ChatKey) -> JournalAnswer {
        let chat = self.chats.remove(key).expect("what is deleted exists");
        self.by_activity.remove(&(key.principal.clone(), chat.updated_at_ms, key.chat.clone()));
        self.deleted.insert(key.hash());
        JournalAnswer::Appended(id)
    }

    /// Begins a new epoch in a chat, as a journal does that may have lost events of the chat.
    ///
    /// # Panics
    /// If there is no such chat.
    pub fn reset_epoch(&mut self, chat: &ChatKey, epoch: Epoch) {
        let chat = self.chats.get_mut(chat).expect("what is renewed exists");
        let events = core::mem::take(&mut chat.events);
        chat.earlier.push((core::mem::replace(&mut chat.epoch, epoch), events));
        chat.open.iter_mut().for_each(|turn| turn.seq = 0);
    }

    /// Answers one question.
    pub fn ask(&self, ask: Ask) -> JournalAnswer {
        let found = match ask.query {
            Query::Chat { chat } if self.deleted.contains(&chat.hash()) => Found::Deleted,
            Query::Chat { chat } => {
                Found::Chat(self.chats.get(&chat).map(|found| Box::new(found.record(chat.chat))))
            }
            Query::Turn { chat, turn_id } => {
                Found::Turn(self.chats.get(&chat).and_then(|found| found.turns.get(&turn_id)).cloned())
            }
            Query::After { chat, after, bytes } => {
                Found::After(self.chats.get(&chat).and_then(|found| found.after(&after, bytes)))
            }
            Query::Before { chat, before, events, bytes } => {
                let page = match self.chats.get(&chat) {
                    Some(found) => found.before(&before, events, bytes),
                    None => Some(HistoryPage::default()),
                };
                Found::Before(page)
            }
            Query::Chats { principal, before, limit } => {
                Found::Chats(self.page(&principal, before.as_deref(), limit))
            }
        };
        JournalAnswer::Found(ask.id, found)
    }

    fn page(&self, principal: &Principal, before: Option<&str>, limit: u32) -> Option<ChatsPage> {
        let bound = match before {
            None => None,
            Some(cursor) => {
                let (at, chat) = cursor.split_once('~')?;
                Some((at.parse::<u64>().ok()?, ChatId::parse(chat).ok()?))
            }
        };
        let mut newest_first = self
            .by_activity
            .iter()
            .rev()
            .filter(|(owner, at, chat)| {
                owner == principal && bound.as_ref().is_none_or(|bound| (*at, chat) < (bound.0, &bound.1))
            })
            .filter_map(|(owner, _, chat)| {
                let key = ChatKey { principal: owner.clone(), chat: chat.clone() };
                Some((chat, self.chats.get(&key)?))
            });
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let chats: Vec<ChatSummary> =
            newest_first.by_ref().take(limit).map(|(id, chat)| chat.summary(id)).collect();
        let more = newest_first.next().is_some();
        let before =
            chats.last().filter(|_| more).map(|last| format!("{}~{}", last.updated_at_ms, last.chat_id));
        Some(ChatsPage { chats, before })
    }
}

impl Chat {
    fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            events: Vec::new(),
            earlier: Vec::new(),
            title: None,
            goal_state: GoalState::default(),
            session: None,
            open: Vec::new(),
            turns: BTreeMap::new(),
            agent_turn: None,
            tasks: Vec::new(),
            requests: Vec::new(),
            open_work: OpenWork::default(),
            last_command: 0,
            last_request: 0,
            agent: None,
            commands: Vec::new(),
            updated_at_ms: 0,
        }
    }

    fn head(&self) -> u64 {
        self.events.last().map_or(0, |event| event.seq)
    }

    fn cursor(&self) -> Cursor {
        Cursor { epoch: self.epoch.clone(), seq: self.head() }
    }

    fn apply(&mut self, change: Change, at_ms: u64) {
        match change {
            Change::TurnAccepted { turn_id, hash, seq, text, starts_turn } => {
                let place = Cursor { epoch: self.epoch.clone(), seq };
                let earlier = self.turns.insert(turn_id.clone(), TurnRecord { hash, place, starts_turn });
                assert!(earlier.is_none(), "a turn id is accepted once");
                self.queue_turn(turn_id, text, hash, seq, at_ms);
            }
            Change::TurnStarted { turn_id } => {
                self.open_turn(&turn_id, |turn| turn.started_at_ms = Some(at_ms));
            }
            Change::CancelRequested { turn_id, reason } => {
                self.open_turn(&turn_id, |turn| {
                    turn.cancel_requested = true;
                    turn.cancel_reason = reason;
                });
            }
            Change::TurnEnded { turn_id, .. } => {
                let place = self.open.iter().position(|turn| turn.turn_id == turn_id);
                let ended = self.open.remove(place.expect("a turn ends once"));
                if ended.started_at_ms.is_some() {
                    self.drop_commands(&turn_id);
                }
            }
            Change::AgentTurn { turn } => {
                let earlier = core::mem::replace(&mut self.agent_turn, turn);
                if let (Some(ended), None) = (earlier, &self.agent_turn) {
                    self.drop_commands(&ended.turn_id);
                }
            }
            Change::Tasks { tasks } => self.tasks = tasks,
            Change::RequestOpened { request_id, agent_request_id, last_request, question, input, frame } => {
                self.last_request = self.last_request.max(last_request);
                self.requests.push(OpenRequest { request_id, agent_request_id, question, input, frame });
            }
            Change::RequestClosed { request_id } => {
                self.requests.retain(|request| request.request_id != request_id);
            }
            Change::Command { command } => {
                self.last_command = self.last_command.max(command.id().0);
                self.commands.push(command);
            }
            Change::AgentStarted { instance } => {
                self.agent = Some(RecordedAgent { instance, position: 0, checkpoint: None });
            }
            Change::AgentEnded { instance } => {
                self.agent = self.agent.take().filter(|agent| agent.instance != instance)
            }
            Change::AgentPosition { instance, position, checkpoint } => {
                if let Some(agent) = self.agent.as_mut().filter(|agent| agent.instance == instance) {
                    agent.position = position;
                    agent.checkpoint = checkpoint.or(agent.checkpoint.take());
                }
            }
            Change::OpenWork { work } => self.open_work = work,
            Change::Session { token } => self.session = Some(token),
            Change::Title { title } => self.title = Some(title),
            Change::Goal { goal_state } => self.goal_state = goal_state,
            // Of the journal's doing: nothing of the chat is left to be changed.
            Change::Deleted => {}
        }
    }

    fn queue_turn(&mut self, turn_id: TurnId, text: String, hash: [u8; 32], seq: u64, accepted_at_ms: u64) {
        let frame = self.events[self.index(seq)].frame.clone();
        self.open.push(OpenTurn {
            turn_id,
            text,
            hash,
            seq,
            frame,
            accepted_at_ms,
            started_at_ms: None,
            cancel_requested: false,
            cancel_reason: None,
        });
    }

    /// Drops the commands of a turn that has ended. Answers belong to no turn and go with the last one that runs.
    fn drop_commands(&mut self, turn_id: &TurnId) {
        self.commands.retain(|command| command.turn_id() != Some(turn_id));
        if self.agent_turn.is_none() && self.open.iter().all(|turn| turn.started_at_ms.is_none()) {
            self.commands.clear();
        }
    }

    fn open_turn(&mut self, turn_id: &TurnId, change: impl FnOnce(&mut OpenTurn)) {
        if let Some(turn) = self.open.iter_mut().find(|turn| turn.turn_id == *turn_id) {
            change(turn);
        }
    }

    fn record(&self, chat: ChatId) -> ChatRecord {
        ChatRecord {
            chat,
            head: self.cursor(),
            title: self.title.clone(),
            goal_state: self.goal_state.clone(),
            session: self.session.clone(),
            turns: self.open.clone(),
            agent_turn: self.agent_turn.clone(),
            tasks: self.tasks.clone(),
            requests: self.requests.clone(),
            open_work: self.open_work.clone(),
            last_command: self.last_command,
            last_request: self.last_request,
            agent: self.agent.clone(),
            commands: self.commands.clone(),
            earlier: self.earlier.iter().rev().find_map(|(epoch, events)| {
                events.last().map(|last| Cursor { epoch: epoch.clone(), seq: last.seq })
            }),
        }
    }

    fn summary(&self, chat: &ChatId) -> ChatSummary {
        ChatSummary {
            chat_id: chat.clone(),
            title: self.title.clone(),
            updated_at_ms: self.updated_at_ms,
            running: self.agent_turn.is_some() || self.open.iter().any(|turn| turn.started_at_ms.is_some()),
            waiting: !self.requests.is_empty(),
            head: self.cursor(),
        }
    }

    /// The index of the event that covers `seq`, or where such an event would be inserted.
    fn index(&self, seq: u64) -> usize {
        self.events.partition_point(|event| event.seq < seq)
    }

    fn after(&self, after: &Cursor, bytes: usize) -> Option<Vec<LogEvent>> {
        if after.epoch != self.epoch {
            return None;
        }
        let mut page = Vec::new();
        let mut size = 0;
        for event in &self.events[self.index(after.seq + 1)..] {
            if size >= bytes {
                break;
            }
            size += event.frame.len();
            page.push(event.clone());
        }
        Some(page)
    }

    /// Every epoch and its events, oldest first.
    fn epochs(&self) -> Vec<(&Epoch, &[LogEvent])> {
        let earlier = self.earlier.iter().map(|(epoch, events)| (epoch, &events[..]));
        earlier.chain([(&self.epoch, &self.events[..])]).collect()
    }

    fn before(&self, before: &PageStart, events: u32, bytes: usize) -> Option<HistoryPage> {
        let epochs = self.epochs();
        let (mut no, last) = match before {
            PageStart::At(seq) => (epochs.len() - 1, *seq),
            PageStart::Opaque(cursor) => {
                let (name, seq) = cursor.split_once('~')?;
                (epochs.iter().position(|(epoch, _)| epoch.as_str() == name)?, seq.parse().ok()?)
            }
        };
        let mut page = PageBuilder::new(events, bytes);
        let mut at = epochs[no].1.partition_point(|event| event.seq <= last);
        let before = loop {
            let (epoch, events) = epochs[no];
            match at.checked_sub(1).map(|place| &events[place]) {
                Some(event) if page.takes(&event.frame) => at -= 1,
                Some(event) => break Some(format!("{epoch}~{}", event.seq)),
                None if no == 0 => break None,
                None => {
                    no -= 1;
                    at = epochs[no].1.len();
                }
            }
        };
        Some(HistoryPage { events: page.finish(), before })
    }
}

#[cfg(test)]
mod tests {
    use std::{vec, vec::Vec};

    use bytes::Bytes;

    use super::*;
    use crate::{
        agent::{AgentInstanceId, CommandId},
        journal::{AskId, Durability},
        wire::{ChatBody, EventPosition, NoticeLevel, TurnOrigin, encode_chat},
    };

    fn key(chat: &str) -> ChatKey {
        ChatKey { principal: Principal::owner(), chat: ChatId::parse(chat).expect("a chat id") }
    }

    fn epoch() -> Epoch {
        Epoch::parse("e").expect("an epoch")
    }

    fn event(chat: &str, seq: u64, body: &ChatBody) -> LogEvent {
        let chat_id = key(chat).chat;
        let place = EventPosition {
            chat_id,
            epoch: epoch(),
            first_seq: None,
            seq,
            turn_id: None,
            parent_call_id: None,
        };
        LogEvent { first_seq: seq, seq, frame: encode_chat(&place, body) }
    }

    fn append(chat: &str, at_ms: u64, events: Vec<LogEvent>, changes: Vec<Change>) -> Append {
        let (id, durability) = (AppendId(at_ms), Durability::Synced);
        Append { id, chat: key(chat), durability, create: None, events, changes, at_ms }
    }

    fn order(journal: &MemoryJournal) -> Vec<(String, u64)> {
        let query = Query::Chats { principal: Principal::owner(), before: None, limit: 10 };
        let JournalAnswer::Found(_, Found::Chats(Some(page))) = journal.ask(Ask { id: AskId(1), query })
        else {
            panic!("a page of chats");
        };
        page.chats.into_iter().map(|chat| (chat.chat_id.as_str().into(), chat.updated_at_ms)).collect()
    }

    #[test]
    fn an_agents_output_leaves_the_order_of_chats_whatever_comes_with_it() {
        let mut journal = MemoryJournal::default();
        for (chat, at_ms) in [("first", 10), ("second", 20)] {
            journal.append(Append { create: Some(epoch()), ..append(chat, at_ms, vec![], vec![]) });
        }
        let before = vec![("second".into(), 20), ("first".into(), 10)];
        assert_eq!(order(&journal), before);

        let instance = AgentInstanceId(1);
        let checkpoint = Some(Bytes::from_static(b"state"));
        let command = AgentCommand::Prompt {
            id: CommandId(1),
            turn_id: TurnId::parse("t").expect("a turn id"),
            text: "hello".into(),
        };
        let alongside = [
            Change::AgentPosition { instance, position: 1, checkpoint },
            Change::Session { token: "of the agent".into() },
            Change::Command { command },
        ];
        for (seq, change) in (1..).zip(alongside) {
            let delta = ChatBody::Delta { stream_id: "s".into(), text: "some".into() };
            journal.append(append("first", 30 + seq, vec![event("first", seq, &delta)], vec![change]));
            assert_eq!(order(&journal), before);
        }
        let notice =
            ChatBody::Notice { level: NoticeLevel::Info, code: "c".into(), text: "news".into(), data: None };
        journal.append(append("first", 40, vec![event("first", 4, &notice)], vec![]));
        assert_eq!(order(&journal), before);

        let started = ChatBody::TurnStarted { origin: TurnOrigin::User, reason: None, started_at_ms: 50 };
        journal.append(append("first", 50, vec![event("first", 5, &started)], vec![]));
        assert_eq!(order(&journal), [("first".into(), 50), ("second".into(), 20)]);
    }
}
