//! A gateway that shares its journal: what a loss does to its connections and its agents, and what comes after.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
    time::Duration,
};

use async_trait::async_trait;
use switchboard_core::{
    Limits, Peer,
    agent::{AgentEvent, AgentExit, AgentRecords},
    ids::{ChatId, ChatKey, Principal},
    journal::{Grant, MemoryJournal, Term},
    wire::Outcome,
};
use switchboard_runtime::{
    Agent, AgentContext, AgentControl, Answers, Connection, Gateway, Journal, OpenJournal, OwnerChange,
    Records, Request, WriterStep,
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::timeout,
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the gateway does with its journal and its agent.
#[derive(Debug)]
enum Seen {
    Claimed(ChatKey),
    Released(ChatKey, Term),
    /// An instance runs, which has its log up to this position, if it was adopted.
    Runs(Option<u64>, Records),
    Prompted,
    /// The future of an instance was dropped.
    Dropped,
}

/// A journal that grants chats when the test says so.
#[derive(Clone)]
struct Shared {
    state: Arc<Mutex<State>>,
    seen: UnboundedSender<Seen>,
}

#[derive(Default)]
struct State {
    journal: MemoryJournal,
    changes: VecDeque<OwnerChange>,
    unfinished: VecDeque<ChatKey>,
    waker: Option<Waker>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn tell(&self, change: OwnerChange) {
        let mut state = self.state();
        state.changes.push_back(change);
        state.waker.take().unwrap().wake();
    }

    fn grant(&self, chat: &ChatKey) {
        let term = self.state().journal.claim(chat);
        self.tell(OwnerChange::Owned(chat.clone(), Grant::for_ever(term)));
    }
}

struct Open(Shared, Answers);

impl OpenJournal for Shared {
    type Journal = Open;

    fn open(self, answers: Answers) -> Open {
        Open(self, answers)
    }
}

impl Journal for Open {
    fn submit(&mut self, batch: &mut Vec<Request>) {
        let mut state = self.0.state();
        for request in batch.drain(..) {
            self.1.send(match request {
                Request::Append(append) => state.journal.append(append),
                Request::Ask(ask) => state.journal.ask(ask),
            });
        }
    }

    fn claim(&mut self, chat: &ChatKey) -> Option<Grant> {
        self.0.seen.send(Seen::Claimed(chat.clone())).unwrap();
        None
    }

    fn release(&mut self, chat: &ChatKey, term: Term) {
        // At its end, the test listens no more.
        let _ = self.0.seen.send(Seen::Released(chat.clone(), term));
    }

    fn poll_owner(&mut self, cx: &mut Context<'_>) -> Poll<OwnerChange> {
        let mut state = self.0.state();
        state.waker = Some(cx.waker().clone());
        state.changes.pop_front().map_or(Poll::Pending, Poll::Ready)
    }

    fn poll_unfinished(&mut self, _: &mut Context<'_>) -> Poll<ChatKey> {
        self.0.state().unfinished.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// An agent that says nothing by itself: the test sends the records.
struct Mute {
    survives: bool,
    seen: UnboundedSender<Seen>,
}

/// Reports that it was dropped.
struct Guard(UnboundedSender<Seen>);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.send(Seen::Dropped);
    }
}

#[async_trait]
impl Agent for Mute {
    fn name(&self) -> &str {
        "mute"
    }

    fn survives(&self) -> bool {
        self.survives
    }

    async fn run(&self, mut context: AgentContext) -> AgentExit {
        let _guard = Guard(self.seen.clone());
        let position = context.resume.as_ref().map(|resume| resume.position);
        self.seen.send(Seen::Runs(position, context.records.clone())).unwrap();
        while let AgentControl::Command(_) = context.control.next().await {
            self.seen.send(Seen::Prompted).unwrap();
        }
        AgentExit::Stopped
    }
}

struct World {
    gateway: Gateway,
    journal: Shared,
    seen: UnboundedReceiver<Seen>,
}

impl World {
    fn new(survives: bool) -> Self {
        let (to, seen) = unbounded_channel();
        let journal = Shared { state: Arc::default(), seen: to.clone() };
        let agent = Arc::new(Mute { survives, seen: to });
        let (gateway, _) = Gateway::start(Limits::default(), [7; 32], journal.clone(), agent);
        Self { gateway, journal, seen }
    }

    async fn next(&mut self) -> Seen {
        timeout(PATIENCE, self.seen.recv()).await.expect("something happens").unwrap()
    }

    /// A turn runs, of which the log has "one".
    async fn in_a_turn(&mut self) -> (Connection, Records) {
        let peer = Peer { principal: Principal::owner(), client_id: None };
        let mut connection = self.gateway.connect(peer, false).unwrap();
        let message = r#"{"type":"message","chat_id":"c","content":"hi","turn_id":"t"}"#;
        connection.inbox.text(message).await.unwrap();
        assert!(matches!(self.next().await, Seen::Claimed(chat) if chat == key()));
        self.journal.grant(&key());
        let Seen::Runs(None, records) = self.next().await else { panic!("a new instance runs") };
        assert!(matches!(self.next().await, Seen::Prompted));
        records.send(said(1, "one", false)).await.unwrap();
        assert_eq!(until(&mut connection, "\"one\"").await, None);
        (connection, records)
    }
}

fn key() -> ChatKey {
    ChatKey { principal: Principal::owner(), chat: ChatId::parse("c").unwrap() }
}

fn said(position: u64, text: &str, ends: bool) -> AgentRecords {
    let end = AgentEvent::TurnEnded { outcome: Outcome::Completed, error: None, usage: None, cost: None };
    let text = AgentEvent::Text { stream: "s".into(), text: text.into() };
    AgentRecords {
        position,
        events: [text].into_iter().chain(ends.then_some(end)).collect(),
        checkpoint: None,
    }
}

/// Reads until a frame has this text. Returns the close code if the connection is closed before.
async fn until(connection: &mut Connection, text: &str) -> Option<u16> {
    loop {
        let mut batch = Vec::new();
        match timeout(PATIENCE, connection.outbox.next(&mut batch)).await.expect("something comes") {
            WriterStep::Frames => connection.outbox.written(),
            WriterStep::Close(close) => return Some(close.code.number()),
        }
        assert!(!batch.iter().any(|frame| frame.as_str().contains("stale")), "{batch:?}");
        if batch.iter().any(|frame| frame.as_str().contains(text)) {
            return None;
        }
    }
}

#[tokio::test]
async fn an_agent_that_survives_is_left_and_adopted_again_when_the_chat_is_recovered() {
    let mut world = World::new(true);
    let (mut connection, stale) = world.in_a_turn().await;
    world.journal.tell(OwnerChange::Lost(key()));
    assert_eq!(until(&mut connection, "nothing more").await, Some(1012));
    assert!(matches!(world.next().await, Seen::Dropped), "the agent's future, without a stop");

    // Nobody owns the chat any more, and its turn is open.
    world.journal.state().unfinished.push_back(key());
    let peer = Peer { principal: Principal::owner(), client_id: None };
    let mut connection = world.gateway.connect(peer, false).unwrap();
    assert!(matches!(world.next().await, Seen::Claimed(chat) if chat == key()));
    // What the link before has sent late is not taken for what the instance says now.
    stale.send(said(2, "stale", true)).await.unwrap();
    world.journal.grant(&key());
    let Seen::Runs(Some(1), records) = world.next().await else { panic!("it is adopted where its log ends") };
    assert!(matches!(world.next().await, Seen::Prompted), "again");
    stale.send(said(2, "stale", true)).await.unwrap();
    connection.inbox.text(r#"{"type":"attach","chat_id":"c"}"#).await.unwrap();
    records.send(said(2, "two", true)).await.unwrap();
    assert_eq!(until(&mut connection, "\"turn_end\"").await, None);
}

#[tokio::test]
async fn an_agent_that_cannot_be_taken_over_is_killed_when_its_chat_is_lost() {
    let mut world = World::new(false);
    let (mut connection, _) = world.in_a_turn().await;
    world.journal.tell(OwnerChange::Lost(key()));
    assert_eq!(until(&mut connection, "nothing more").await, Some(1012));
    assert!(matches!(world.next().await, Seen::Dropped), "it has returned");
}

#[tokio::test]
async fn a_gateway_that_stops_releases_its_chats() {
    let mut world = World::new(true);
    let (mut connection, _) = world.in_a_turn().await;
    world.gateway.leave();
    assert_eq!(until(&mut connection, "nothing more").await, Some(1012));
    drop(connection);
    assert!(matches!(world.next().await, Seen::Released(chat, Term(1)) if chat == key()));
}
