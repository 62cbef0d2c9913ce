//! A journal under test, and what it must have of each chat.

use std::{collections::BTreeMap, fmt};

use switchboard_core::{
    ids::{ChatKey, Cursor, TurnId},
    journal::{
        Append, Ask, AskId, ChatRecord, ChatsPage, Conflict, Effects, Found, HistoryPage, JournalAnswer,
        LogEvent, PageStart, Query, Term, TurnRecord,
    },
};

use super::{author::Author, under_test::JournalUnderTest};
use crate::journal_model::Request;

/// A journal with the author of its appends.
pub(super) struct Bench<J> {
    pub(super) journal: J,
    pub(super) author: Author,
    next_ask: u64,
    /// The terms under which the bench appends.
    terms: BTreeMap<ChatKey, Term>,
}

/// What a part returns: `Err` says how the journal fails it.
pub(super) type Checked<T = ()> = Result<T, String>;

/// Fails with `what` and both values if they differ.
pub(super) fn same<T: PartialEq + fmt::Debug>(what: &str, found: &T, expected: &T) -> Checked {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}:\nfound    {found:?}\nexpected {expected:?}"))
}

/// What a journal must have of a chat.
pub(super) struct Expected {
    pub(super) key: ChatKey,
    pub(super) record: ChatRecord,
    /// The events of the present epoch.
    pub(super) events: Vec<LogEvent>,
    turns: Vec<(TurnId, TurnRecord)>,
}

impl Expected {
    /// Records what an append must change.
    pub(super) fn apply(&mut self, append: &Append) -> Effects {
        let effects = self.record.apply(append).expect("the suite makes appends that fit");
        if append.begins_epoch() {
            self.events.clear();
        }
        self.events.extend(append.events.iter().cloned());
        self.turns.extend(effects.accepted.iter().cloned());
        effects
    }
}

impl<J: JournalUnderTest> Bench<J> {
    pub(super) fn new(journal: J, author: Author) -> Self {
        Self { journal, author, next_ask: 0, terms: BTreeMap::new() }
    }

    /// Claims a chat again, as the next owner does.
    pub(super) fn claim(&mut self, chat: &ChatKey) -> Term {
        let term = self.journal.claim(chat);
        self.terms.insert(chat.clone(), term);
        term
    }

    /// The append as the chat's present owner makes it, who claims the chat first.
    pub(super) fn owned(&mut self, append: &Append) -> Append {
        let known = self.terms.get(&append.chat).copied();
        let term = known.unwrap_or_else(|| self.claim(&append.chat));
        Append { term, ..append.clone() }
    }

    /// Creates a chat.
    pub(super) fn create(&mut self, key: &ChatKey) -> Checked<Expected> {
        let append = self.author.create(key);
        let epoch = append.create.clone().expect("it creates the chat");
        let record = ChatRecord::new(key.chat.clone(), epoch);
        let mut expected = Expected { key: key.clone(), record, events: Vec::new(), turns: Vec::new() };
        self.commits(&append)?;
        expected.apply(&append);
        Ok(expected)
    }

    /// Makes an append to a chat and has it committed.
    pub(super) fn write(
        &mut self,
        chat: &mut Expected,
        make: impl FnOnce(&mut Author, &ChatKey, &ChatRecord) -> Append,
    ) -> Checked<Append> {
        let append = make(&mut self.author, &chat.key, &chat.record);
        self.commits(&append)?;
        chat.apply(&append);
        Ok(append)
    }

    /// Has random appends committed.
    pub(super) fn write_some(&mut self, chat: &mut Expected, appends: usize) -> Checked {
        for _ in 0..appends {
            self.write(chat, Author::append)?;
        }
        Ok(())
    }

    /// The journal commits the append.
    pub(super) fn commits(&mut self, append: &Append) -> Checked {
        let append = self.owned(append);
        match &self.journal.submit(vec![Request::Append(append.clone())])[..] {
            [JournalAnswer::Appended(id)] if *id == append.id => Ok(()),
            other => Err(format!("{:?} is answered with {other:?}", append.id)),
        }
    }

    /// The journal refuses the append for this conflict.
    pub(super) fn conflicts(&mut self, append: &Append, expected: Conflict) -> Checked {
        let append = self.owned(append);
        self.conflicts_as(&append, expected)
    }

    /// The journal refuses the append, which has the term of some owner, for this conflict.
    pub(super) fn conflicts_as(&mut self, append: &Append, expected: Conflict) -> Checked {
        match &self.journal.submit(vec![Request::Append(append.clone())])[..] {
            [JournalAnswer::Conflict(id, conflict)] if *id == append.id => {
                same("the conflict", conflict, &expected)
            }
            other => Err(format!("{expected:?} was expected, and not {other:?}")),
        }
    }

    /// The answer to a question.
    pub(super) fn ask(&mut self, query: Query) -> Checked<Found> {
        self.next_ask += 1;
        let id = AskId(self.next_ask);
        let mut answers = self.journal.submit(vec![Request::Ask(Ask { id, query: query.clone() })]);
        match (answers.pop(), answers.is_empty()) {
            (Some(JournalAnswer::Found(answered, found)), true) if answered == id => Ok(found),
            (answer, _) => Err(format!("{query:?} is answered with {answer:?}")),
        }
    }

    /// The journal has all of a chat and nothing else of it.
    pub(super) fn has(&mut self, chat: &Expected) -> Checked {
        let found = self.ask(Query::Chat { chat: chat.key.clone(), term: None })?;
        let Found::Chat(Some(record)) = found else { return Err(format!("there is no chat, but {found:?}")) };
        same("the state", &*record, &chat.record)?;
        let after = Cursor { seq: 0, ..chat.record.head.clone() };
        same("the log", &self.page_after(&chat.key, after, usize::MAX)?, &chat.events)?;
        for (turn_id, record) in &chat.turns {
            let found = self.ask(Query::Turn { chat: chat.key.clone(), turn_id: turn_id.clone() })?;
            let Found::Turn(Some(found)) = found else {
                return Err(format!("turn {turn_id} is not known: {found:?}"));
            };
            same("a turn", &found, record)?;
        }
        Ok(())
    }

    pub(super) fn page_after(
        &mut self,
        chat: &ChatKey,
        after: Cursor,
        bytes: usize,
    ) -> Checked<Vec<LogEvent>> {
        let found = self.ask(Query::After { chat: chat.clone(), after, bytes })?;
        if let Found::After(Some(events)) = found {
            Ok(events)
        } else {
            Err(format!("there is no log, but {found:?}"))
        }
    }

    pub(super) fn page_before(
        &mut self,
        chat: &ChatKey,
        before: PageStart,
        events: u32,
    ) -> Checked<HistoryPage> {
        let found = self.ask(Query::Before { chat: chat.clone(), before, events, bytes: 1 << 20 })?;
        if let Found::Before(Some(page)) = found {
            Ok(page)
        } else {
            Err(format!("there is no history, but {found:?}"))
        }
    }

    pub(super) fn chats(&mut self, of: &ChatKey, before: Option<String>, limit: u32) -> Checked<ChatsPage> {
        let found = self.ask(Query::Chats { principal: of.principal.clone(), before, limit })?;
        if let Found::Chats(Some(page)) = found {
            Ok(page)
        } else {
            Err(format!("there is no list, but {found:?}"))
        }
    }
}
