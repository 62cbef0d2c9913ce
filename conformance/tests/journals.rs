//! The suite for journals, over the journals that Switchboard brings, and over journals with a defect, each of which
//! fails the part that the defect concerns.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]
#![allow(clippy::print_stdout, reason = "the seed of a run is said")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a defect concerns one kind of request")]

use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, RandomState},
};

use switchboard_conformance::{
    journal::{JournalUnderTest, Part, check},
    journal_model::Request,
};
use switchboard_core::{
    ids::{ChatKey, Principal},
    journal::{
        Append, Ask, AskId, Change, Found, JournalAnswer, MemoryJournal, PageStart, Query, Term, Version,
    },
};
use switchboard_runtime::{Answers, Journal as _, OpenJournal as _, OpenSqlite, Sqlite, SqliteOptions};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// The seed in `SWITCHBOARD_SEED`, or a new one.
fn seed() -> u64 {
    let given = std::env::var("SWITCHBOARD_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("SWITCHBOARD_SEED={seed}");
    seed
}

fn carry_out(journal: &mut MemoryJournal, request: Request) -> JournalAnswer {
    match request {
        Request::Append(append) => journal.append(append),
        Request::Ask(ask) => journal.ask(ask),
    }
}

/// The journal in memory, which keeps what it has when it is opened again.
#[derive(Default)]
struct Memory(MemoryJournal);

impl JournalUnderTest for Memory {
    fn submit(&mut self, requests: Vec<Request>) -> Vec<JournalAnswer> {
        requests.into_iter().map(|request| carry_out(&mut self.0, request)).collect()
    }

    fn claim(&mut self, chat: &ChatKey) -> Term {
        self.0.claim(chat)
    }

    fn reopen(&mut self) {}
}

/// The journal on SQLite.
struct OnDisk {
    folder: tempfile::TempDir,
    /// `None` only while the journal is opened again.
    open: Option<(OpenSqlite, UnboundedReceiver<JournalAnswer>)>,
}

impl OnDisk {
    fn new() -> Self {
        let mut new = Self { folder: tempfile::tempdir().unwrap(), open: None };
        new.reopen();
        new
    }
}

impl JournalUnderTest for OnDisk {
    fn submit(&mut self, requests: Vec<Request>) -> Vec<JournalAnswer> {
        let (journal, answers) = self.open.as_mut().unwrap();
        let count = requests.len();
        let port = |request| match request {
            Request::Append(append) => switchboard_runtime::Request::Append(append),
            Request::Ask(ask) => switchboard_runtime::Request::Ask(ask),
        };
        journal.submit(&mut requests.into_iter().map(port).collect());
        (0..count).map(|_| answers.blocking_recv().unwrap()).collect()
    }

    fn claim(&mut self, chat: &ChatKey) -> Term {
        let (journal, _) = self.open.as_mut().unwrap();
        journal.claim(chat).unwrap().term
    }

    fn reopen(&mut self) {
        self.open = None;
        let mut options = SqliteOptions::default();
        options.compact_after = None;
        let journal = Sqlite::open(self.folder.path().join("journal.db"), options).unwrap();
        let (to, answers) = unbounded_channel();
        self.open = Some((journal.open(Answers::new(to)), answers));
    }
}

#[test]
fn the_journal_in_memory_passes() {
    let failures = check(seed(), Memory::default);
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn the_journal_on_sqlite_passes() {
    let failures = check(seed(), OnDisk::new);
    assert!(failures.is_empty(), "{failures:#?}");
}

/// What is wrong with a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    /// Says that it has committed an append, and has not.
    DropsAnAppend,
    /// Leaves out a change.
    DropsAChange,
    /// Commits whatever version an append expects.
    IgnoresVersions,
    /// Commits whatever term an append has.
    IgnoresTerms,
    /// Answers the questions of an earlier owner.
    AnswersEarlierOwners,
    /// Says that it could not write, where an append is a conflict.
    HidesConflicts,
    /// Commits events wherever they begin.
    IgnoresNumbers,
    /// Accepts a turn id again once its turn has ended.
    ForgetsTurnIds,
    /// Creates a deleted chat again.
    ForgetsDeletions,
    /// Answers the appends of a batch in the opposite order.
    AnswersBackwards,
    /// Ends each page of the log one event early.
    CutsPages,
    /// Begins each next page of history one event late.
    SkipsHistory,
    /// Lists the oldest chat first.
    ListsBackwards,
    /// Gives all chats of a name to one principal.
    IgnoresPrincipals,
    /// Forgets the last append when it is opened again.
    ForgetsWhenReopened,
}

/// A journal with a defect.
struct Broken {
    defect: Defect,
    journal: MemoryJournal,
    /// The journal before the last append.
    before: MemoryJournal,
    appends: u64,
    /// The names under which chats are stored that were created again after their deletion.
    renamed: BTreeMap<ChatKey, ChatKey>,
}

impl Broken {
    fn new(defect: Defect) -> Self {
        let journal = MemoryJournal::default();
        Self { defect, before: journal.clone(), journal, appends: 0, renamed: BTreeMap::new() }
    }

    fn answer(&mut self, mut request: Request) -> JournalAnswer {
        let defect = self.defect;
        match &mut request {
            Request::Append(append) => {
                self.appends += 1;
                self.before = self.journal.clone();
                if defect == Defect::DropsAnAppend && self.appends == 40 {
                    return JournalAnswer::Appended(append.id);
                }
                if defect == Defect::DropsAChange && self.appends == 40 {
                    append.changes.retain(|change| !matches!(change, Change::Command { .. }));
                    append.changes.push(Change::Title { title: "another".into() });
                }
                if defect == Defect::IgnoresPrincipals {
                    append.chat.principal = Principal::owner();
                }
                if defect == Defect::IgnoresVersions {
                    append.expect = self.version(&append.chat);
                }
                if defect == Defect::IgnoresTerms {
                    append.term = self.journal.term(&append.chat);
                }
                if defect == Defect::IgnoresNumbers {
                    self.renumber(append);
                }
                if defect == Defect::ForgetsTurnIds {
                    append.changes.retain(|change| !self.is_known(&append.chat, change));
                }
                if defect == Defect::ForgetsDeletions {
                    self.rename(append);
                }
            }
            Request::Ask(ask) => match &mut ask.query {
                Query::Chat { term, .. } if defect == Defect::AnswersEarlierOwners => *term = None,
                Query::Chats { principal, .. } if defect == Defect::IgnoresPrincipals => {
                    *principal = Principal::owner();
                }
                Query::Chat { chat, .. } | Query::After { chat, .. } | Query::Turn { chat, .. }
                    if defect == Defect::IgnoresPrincipals =>
                {
                    chat.principal = Principal::owner();
                }
                Query::Before { before: PageStart::Opaque(place), .. } if defect == Defect::SkipsHistory => {
                    let (epoch, seq) = place.split_once('~').unwrap();
                    *place = format!("{epoch}~{}", seq.parse::<u64>().unwrap().saturating_sub(1));
                }
                _ => {}
            },
        }
        let mut answer = carry_out(&mut self.journal, request);
        match &mut answer {
            JournalAnswer::Conflict(id, _) if defect == Defect::HidesConflicts => JournalAnswer::Refused(*id),
            JournalAnswer::Found(_, Found::After(Some(events))) if defect == Defect::CutsPages => {
                events.pop();
                answer
            }
            JournalAnswer::Found(_, Found::Chats(Some(page))) if defect == Defect::ListsBackwards => {
                page.chats.reverse();
                answer
            }
            _ => answer,
        }
    }

    fn version(&self, chat: &ChatKey) -> Version {
        let ask = Ask { id: AskId(0), query: Query::Chat { chat: chat.clone(), term: None } };
        match self.journal.ask(ask) {
            JournalAnswer::Found(_, Found::Chat(Some(record))) => record.version,
            _ => Version(0),
        }
    }

    /// Numbers the events of an append as the chat's next ones.
    fn renumber(&self, append: &mut Append) {
        let ask = Ask { id: AskId(0), query: Query::Chat { chat: append.chat.clone(), term: None } };
        let JournalAnswer::Found(_, Found::Chat(Some(record))) = self.journal.ask(ask) else { return };
        for (event, seq) in append.events.iter_mut().zip(record.head.seq + 1..) {
            (event.first_seq, event.seq) = (seq, seq);
        }
    }

    /// Whether the change accepts a turn whose id was accepted before.
    fn is_known(&self, chat: &ChatKey, change: &Change) -> bool {
        let Change::TurnAccepted { turn_id, .. } = change else { return false };
        let query = Query::Turn { chat: chat.clone(), turn_id: turn_id.clone() };
        matches!(self.journal.ask(Ask { id: AskId(0), query }), JournalAnswer::Found(_, Found::Turn(Some(_))))
    }

    /// Stores a chat that is created again after its deletion under another name.
    fn rename(&mut self, append: &mut Append) {
        let ask = Ask { id: AskId(0), query: Query::Chat { chat: append.chat.clone(), term: None } };
        let is_deleted = matches!(self.journal.ask(ask), JournalAnswer::Found(_, Found::Deleted));
        if is_deleted && append.create.is_some() {
            let principal = Principal::parse("elsewhere").unwrap();
            self.renamed.insert(append.chat.clone(), ChatKey { principal, ..append.chat.clone() });
        }
        if let Some(name) = self.renamed.get(&append.chat) {
            append.chat = name.clone();
        }
    }
}

impl JournalUnderTest for Broken {
    fn submit(&mut self, requests: Vec<Request>) -> Vec<JournalAnswer> {
        let mut answers: Vec<JournalAnswer> =
            requests.into_iter().map(|request| self.answer(request)).collect();
        if self.defect == Defect::AnswersBackwards {
            answers.reverse();
        }
        answers
    }

    fn claim(&mut self, chat: &ChatKey) -> Term {
        let mut chat = chat.clone();
        if self.defect == Defect::IgnoresPrincipals {
            chat.principal = Principal::owner();
        }
        self.journal.claim(&chat)
    }

    fn reopen(&mut self) {
        if self.defect == Defect::ForgetsWhenReopened {
            self.journal = self.before.clone();
        }
    }
}

#[test]
fn a_journal_with_a_defect_fails_the_part_that_the_defect_concerns() {
    let seed = seed();
    for (defect, part) in [
        (Defect::DropsAnAppend, Part::Fold),
        (Defect::DropsAChange, Part::Fold),
        (Defect::IgnoresVersions, Part::Versions),
        (Defect::IgnoresTerms, Part::Fences),
        (Defect::AnswersEarlierOwners, Part::Fences),
        (Defect::HidesConflicts, Part::Versions),
        (Defect::IgnoresNumbers, Part::Contradictions),
        (Defect::ForgetsTurnIds, Part::TurnIds),
        (Defect::ForgetsDeletions, Part::Deletion),
        (Defect::AnswersBackwards, Part::Order),
        (Defect::CutsPages, Part::Pages),
        (Defect::SkipsHistory, Part::Pages),
        (Defect::ListsBackwards, Part::Lists),
        (Defect::IgnoresPrincipals, Part::Principals),
        (Defect::ForgetsWhenReopened, Part::Reopening),
    ] {
        let failures = check(seed, || Broken::new(defect));
        let failed: Vec<Part> = failures.iter().map(|failure| failure.part).collect();
        assert!(failed.contains(&part), "{defect:?} passes {part:?}; it fails {failed:?}");
    }
    assert!(check(seed, Memory::default).is_empty(), "without a defect it passes with the same seed");
}
