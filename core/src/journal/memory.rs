//! A journal in memory: for tests, for programs that need no history, and as the reference for other journals.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    format,
    vec::Vec,
};

use super::{
    Append, Ask, Change, ChatRecord, ChatsPage, Conflict, Found, HistoryPage, JournalAnswer, LogEvent,
    PageBuilder, PageStart, Query, Term, TurnRecord, Version,
};
use crate::{
    ids::{ChatId, ChatKey, Cursor, Epoch, Principal, TurnId},
    wire::ChatSummary,
};

/// A journal that stores all chats in memory only and answers at once.
#[derive(Debug, Default, Clone)]
pub struct MemoryJournal {
    chats: BTreeMap<ChatKey, Chat>,
    /// All chats by principal and time of the last activity, newest last.
    by_activity: BTreeSet<(Principal, u64, ChatId)>,
    /// The [`ChatKey::hash`] of each deleted chat.
    deleted: BTreeSet<[u8; 32]>,
    /// The newest term of each chat that was claimed.
    terms: BTreeMap<ChatKey, Term>,
}

#[derive(Debug, Clone)]
struct Chat {
    record: ChatRecord,
    /// The events of the present epoch.
    events: Vec<LogEvent>,
    /// The earlier epochs and their events, oldest first.
    earlier: Vec<(Epoch, Vec<LogEvent>)>,
    /// All accepted messages.
    turns: BTreeMap<TurnId, TurnRecord>,
}

impl MemoryJournal {
    /// Grants a chat to a new owner. From now on the journal accepts no append of an earlier owner.
    pub fn claim(&mut self, chat: &ChatKey) -> Term {
        let term = self.terms.entry(chat.clone()).or_default();
        term.0 += 1;
        *term
    }

    /// The newest term of a chat; the first one if the chat was never claimed. Programs with a single owner need no
    /// other.
    pub fn term(&self, chat: &ChatKey) -> Term {
        self.terms.get(chat).copied().unwrap_or_default()
    }

    /// Goes back to an earlier state, like a journal that has lost its last appends. Terms are never lost.
    pub fn lose_since(&mut self, earlier: Self) {
        let terms = core::mem::take(&mut self.terms);
        *self = Self { terms, ..earlier };
    }

    /// Commits one transaction, or refuses it if it contradicts what the journal has.
    pub fn append(&mut self, append: Append) -> JournalAnswer {
        let id = append.id;
        match self.commit(append) {
            Ok(()) => JournalAnswer::Appended(id),
            Err(conflict) => JournalAnswer::Conflict(id, conflict),
        }
    }

    fn commit(&mut self, append: Append) -> Result<(), Conflict> {
        append.check_term(self.term(&append.chat))?;
        let key = append.chat.clone();
        let mut created = None;
        let chat = match (self.chats.get_mut(&key), &append.create) {
            (Some(chat), _) => chat,
            (None, _) if self.deleted.contains(&key.hash()) => return Err(Conflict::Deleted),
            (None, Some(epoch)) => created.insert(Chat::new(key.chat.clone(), epoch.clone())),
            (None, None) => return Err(Conflict::Version { stored: Version::default() }),
        };
        // The version comes first: an append that was committed before has known turn ids, too.
        if append.expect == chat.record.version && chat.has_any_of(&append) {
            return Err(Conflict::TurnExists);
        }
        let before_ms = chat.record.updated_at_ms;
        let ended = chat.record.head.epoch.clone();
        let effects = chat.record.apply(&append)?;
        if append.begins_epoch() {
            chat.earlier.push((ended, core::mem::take(&mut chat.events)));
        }
        chat.events.extend(append.events);
        chat.turns.extend(effects.accepted);
        let after_ms = chat.record.updated_at_ms;
        self.by_activity.remove(&(key.principal.clone(), before_ms, key.chat.clone()));
        if effects.deletes {
            self.deleted.insert(key.hash());
            self.chats.remove(&key);
            return Ok(());
        }
        self.by_activity.insert((key.principal.clone(), after_ms, key.chat.clone()));
        if let Some(chat) = created {
            self.chats.insert(key, chat);
        }
        Ok(())
    }

    /// Begins a new epoch in a chat, as a journal does that may have lost events of the chat.
    ///
    /// # Panics
    /// If there is no such chat.
    pub fn reset_epoch(&mut self, chat: &ChatKey, epoch: Epoch) {
        let chat = self.chats.get_mut(chat).expect("what is renewed exists");
        let ended = chat.record.head.epoch.clone();
        chat.earlier.push((ended, core::mem::take(&mut chat.events)));
        chat.record.reset_epoch(epoch);
    }

    /// Answers one question.
    pub fn ask(&self, ask: Ask) -> JournalAnswer {
        let found = match ask.query {
            Query::Chat { chat, term: Some(term) } if term != self.term(&chat) => Found::Fenced,
            Query::Chat { chat, .. } if self.deleted.contains(&chat.hash()) => Found::Deleted,
            Query::Chat { chat, .. } => {
                Found::Chat(self.chats.get(&chat).map(|found| Box::new(found.record.clone())))
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
                self.chats.get(&key)
            });
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let chats: Vec<ChatSummary> =
            newest_first.by_ref().take(limit).map(|chat| chat.record.summary()).collect();
        let more = newest_first.next().is_some();
        let before =
            chats.last().filter(|_| more).map(|last| format!("{}~{}", last.updated_at_ms, last.chat_id));
        Some(ChatsPage { chats, before })
    }
}

impl Chat {
    fn new(chat: ChatId, epoch: Epoch) -> Self {
        let record = ChatRecord::new(chat, epoch);
        Self { record, events: Vec::new(), earlier: Vec::new(), turns: BTreeMap::new() }
    }

    /// Whether one of the messages that the append accepts was accepted before.
    fn has_any_of(&self, append: &Append) -> bool {
        append.changes.iter().any(|change| {
            matches!(change, Change::TurnAccepted { turn_id, .. } if self.turns.contains_key(turn_id))
        })
    }

    /// The index of the event that covers `seq`, or where such an event would be inserted.
    fn index(&self, seq: u64) -> usize {
        self.events.partition_point(|event| event.seq < seq)
    }

    fn after(&self, after: &Cursor, bytes: usize) -> Option<Vec<LogEvent>> {
        if after.epoch != self.record.head.epoch {
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
        earlier.chain([(&self.record.head.epoch, &self.events[..])]).collect()
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
    use std::{string::String, vec, vec::Vec};

    use bytes::Bytes;

    use super::*;
    use crate::{
        agent::{AgentCommand, AgentInstanceId, CommandId},
        journal::{AppendId, AskId, Durability},
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

    /// Appends to a chat, and creates it if it does not exist.
    fn append(
        journal: &mut MemoryJournal,
        chat: &str,
        at_ms: u64,
        events: Vec<LogEvent>,
        changes: Vec<Change>,
    ) {
        let (chat, id, durability) = (key(chat), AppendId(at_ms), Durability::Synced);
        let found = journal.ask(Ask { id: AskId(1), query: Query::Chat { chat: chat.clone(), term: None } });
        let JournalAnswer::Found(_, Found::Chat(record)) = found else { panic!("{found:?}") };
        let create = record.is_none().then(epoch);
        let expect = record.map(|record| record.version).unwrap_or_default();
        let term = journal.term(&chat);
        let append = Append { id, chat, term, expect, durability, create, events, changes, at_ms };
        let answer = journal.append(append);
        assert!(matches!(answer, JournalAnswer::Appended(_)), "{answer:?}");
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
            append(&mut journal, chat, at_ms, vec![], vec![]);
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
            append(&mut journal, "first", 30 + seq, vec![event("first", seq, &delta)], vec![change]);
            assert_eq!(order(&journal), before);
        }
        let notice =
            ChatBody::Notice { level: NoticeLevel::Info, code: "c".into(), text: "news".into(), data: None };
        append(&mut journal, "first", 40, vec![event("first", 4, &notice)], vec![]);
        assert_eq!(order(&journal), before);

        let started = ChatBody::TurnStarted { origin: TurnOrigin::User, reason: None, started_at_ms: 50 };
        append(&mut journal, "first", 50, vec![event("first", 5, &started)], vec![]);
        assert_eq!(order(&journal), [("first".into(), 50), ("second".into(), 20)]);
    }
}
