//! An open journal whose answers are waited for.

use std::{path::Path, time::Duration};

use switchboard_core::{
    ids::{ChatKey, Cursor},
    journal::{
        Append, Ask, AskId, ChatRecord, Found, HistoryPage, JournalAnswer, LogEvent, PageStart, Query,
    },
    wire::Frame,
};
use tokio::sync::{
    mpsc::{UnboundedReceiver, unbounded_channel},
    watch,
};

use crate::{
    Answers, Journal, OpenError, OpenJournal, OpenReport, OpenSqlite, Request, Sqlite, SqliteOptions,
};

/// No answer takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Desk<J> {
    pub journal: J,
    answers: UnboundedReceiver<JournalAnswer>,
    pub health: watch::Receiver<Option<String>>,
    clock: tokio::runtime::Runtime,
    next_ask: u64,
}

/// Opens the journal in a folder.
pub fn open(folder: &Path) -> Result<(Desk<OpenSqlite>, OpenReport), OpenError> {
    open_with(folder, SqliteOptions::default())
}

pub fn open_with(folder: &Path, options: SqliteOptions) -> Result<(Desk<OpenSqlite>, OpenReport), OpenError> {
    let journal = Sqlite::open(folder.join("journal.db"), options)?;
    let report = journal.report().clone();
    Ok((Desk::new(journal), report))
}

impl<J: Journal> Desk<J> {
    pub fn new(journal: impl OpenJournal<Journal = J>) -> Self {
        let (to, answers) = unbounded_channel();
        let clock = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let to = Answers::new(to);
        let health = to.health();
        Self { journal: journal.open(to), answers, health, clock, next_ask: 1 << 40 }
    }

    pub fn submit(&mut self, requests: impl IntoIterator<Item = Request>) {
        let mut batch: Vec<Request> = requests.into_iter().collect();
        for request in &mut batch {
            if let Request::Append(append) = request {
                append.term = self.journal.claim(&append.chat).expect("there is one owner").term;
            }
        }
        self.journal.submit(&mut batch);
    }

    /// Waits for the next answer.
    pub fn answer(&mut self) -> JournalAnswer {
        let answers = &mut self.answers;
        let answer = self.clock.block_on(async { tokio::time::timeout(PATIENCE, answers.recv()).await });
        answer.expect("every request is answered").expect("the journal lives")
    }

    /// Waits until the journal says that it can be written, without asking it for anything.
    pub fn until_well(&mut self) {
        let health = &mut self.health;
        let well = async { tokio::time::timeout(PATIENCE, health.wait_for(Option::is_none)).await.is_ok() };
        assert!(self.clock.block_on(well), "it is tried again by itself");
    }

    /// Whether it was kept.
    pub fn append(&mut self, append: Append) -> bool {
        let id = append.id;
        self.submit([Request::Append(append)]);
        let answer = self.answer();
        let kept = matches!(answer, JournalAnswer::Appended(_));
        let (JournalAnswer::Appended(answered)
        | JournalAnswer::Refused(answered)
        | JournalAnswer::Conflict(answered, _)) = answer
        else {
            panic!("{answer:?} for {id:?}")
        };
        assert_eq!(answered, id);
        kept
    }

    /// Nothing: it could not be answered at the moment.
    pub fn ask(&mut self, query: Query) -> Option<Found> {
        let id = AskId(self.next_ask);
        self.next_ask += 1;
        self.submit([Request::Ask(Ask { id, query })]);
        let (answered, found) = match self.answer() {
            JournalAnswer::Found(answered, found) => (answered, Some(found)),
            JournalAnswer::Failed(answered) | JournalAnswer::Damaged(answered) => (answered, None),
            other
            @ (JournalAnswer::Appended(_) | JournalAnswer::Refused(_) | JournalAnswer::Conflict(..)) => {
                panic!("{other:?} for {id:?}")
            }
        };
        assert_eq!(answered, id);
        found
    }

    /// Whether what it is about is damaged.
    pub fn is_damaged(&mut self, query: Query) -> bool {
        let id = AskId(self.next_ask);
        self.next_ask += 1;
        self.submit([Request::Ask(Ask { id, query })]);
        matches!(self.answer(), JournalAnswer::Damaged(_))
    }

    pub fn chat(&mut self, chat: &ChatKey) -> Option<ChatRecord> {
        match self.ask(Query::Chat { chat: chat.clone(), term: None }) {
            Some(Found::Chat(record)) => record.map(|record| *record),
            Some(Found::Deleted) => None,
            other => panic!("{other:?}"),
        }
    }

    /// The present epoch's log.
    pub fn log(&mut self, chat: &ChatKey) -> Vec<LogEvent> {
        let Some(record) = self.chat(chat) else { return Vec::new() };
        let after = Cursor { epoch: record.head.epoch, seq: 0 };
        match self.ask(Query::After { chat: chat.clone(), after, bytes: usize::MAX }) {
            Some(Found::After(Some(events))) => events,
            other => panic!("{other:?}"),
        }
    }

    /// The whole history, oldest first, one page after the other.
    pub fn history(&mut self, chat: &ChatKey, events: u32) -> Vec<Frame> {
        self.try_history(chat, events).expect("it can be read")
    }

    /// Nothing: it could not be read.
    pub fn try_history(&mut self, chat: &ChatKey, events: u32) -> Option<Vec<Frame>> {
        let mut pages = Vec::new();
        let mut before = PageStart::At(u64::MAX);
        loop {
            let query = Query::Before { chat: chat.clone(), before, events, bytes: 1 << 20 };
            let Found::Before(Some(HistoryPage { events, before: next })) = self.ask(query)? else {
                panic!("no page")
            };
            pages.push(events);
            let Some(next) = next else { break };
            before = PageStart::Opaque(next);
        }
        Some(pages.into_iter().rev().flatten().collect())
    }
}
