//! A life of an agent in the hands of a test.
#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod model;

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use switchboard_agent_bridge::{
    AgentInstance, BridgeLimits, ControlSource, Dialect, ProcessAgent, ProcessConfig, RecordSink,
};
use switchboard_core::{
    agent::{AgentCommand, AgentEvent, AgentExit, AgentInstanceId, AgentRecords, CommandId},
    ids::{ChatId, ChatKey, Principal, RequestId, TurnId},
    wire::{Answer, Outcome, TurnError},
};
use switchboard_runtime::{AgentControl, GatewayGone};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

static TURNS: AtomicU64 = AtomicU64::new(1);

/// Nothing here takes this long unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

struct ControlReceiver(mpsc::UnboundedReceiver<AgentControl>);

#[async_trait]
impl ControlSource for ControlReceiver {
    async fn next(&mut self) -> AgentControl {
        self.0.recv().await.unwrap_or(AgentControl::Stop)
    }
}

#[derive(Clone)]
struct Records(mpsc::Sender<AgentRecords>);

#[async_trait]
impl RecordSink for Records {
    async fn send(&self, records: AgentRecords) -> Result<(), GatewayGone> {
        self.0.send(records).await.map_err(|_| GatewayGone)
    }
}

pub(crate) fn config(command: Vec<String>, dialect: &'static dyn Dialect, workspace: &Path) -> ProcessConfig {
    ProcessConfig {
        name: "test".into(),
        command,
        dialect,
        workspace: workspace.into(),
        env: Vec::new(),
        sandbox: None,
        mark_prefix: format!("test-{}", std::process::id()),
        seed: [7; 16],
        limits: BridgeLimits::default(),
    }
}

pub(crate) struct Bench {
    control: Option<mpsc::UnboundedSender<AgentControl>>,
    records: mpsc::Receiver<AgentRecords>,
    events: std::collections::VecDeque<AgentEvent>,
    life: JoinHandle<AgentExit>,
    position: u64,
    pub(crate) batches: Vec<usize>,
    pub(crate) checkpoints: usize,
    commands: u64,
    turn: Option<TurnId>,
}

impl Bench {
    pub(crate) fn begin(agent: std::sync::Arc<ProcessAgent>, session: Option<&str>) -> Self {
        let (control, receiver) = mpsc::unbounded_channel();
        let (sender, records) = mpsc::channel(64);
        let life = AgentInstance {
            chat: ChatKey { principal: Principal::owner(), chat: ChatId::parse("c").unwrap() },
            instance: AgentInstanceId(1),
            session: session.map(Into::into),
            control: ControlReceiver(receiver),
            records: Records(sender),
        };
        let life = tokio::spawn(async move { agent.serve(life).await });
        let (batches, events) = (Vec::new(), Default::default());
        Self {
            control: Some(control),
            records,
            events,
            life,
            position: 0,
            batches,
            checkpoints: 0,
            commands: 0,
            turn: None,
        }
    }

    pub(crate) fn order(&self, order: AgentControl) {
        self.control.as_ref().unwrap().send(order).unwrap();
    }

    fn id(&mut self) -> CommandId {
        self.commands += 1;
        CommandId(self.commands)
    }

    pub(crate) fn prompt(&mut self, text: &str) {
        let id = self.id();
        // Agents recognise a turn that they were given before, also in a session that is taken up again.
        let turn_id = TurnId::parse(&format!("turn-{}", TURNS.fetch_add(1, Ordering::Relaxed))).unwrap();
        self.turn = Some(turn_id.clone());
        self.order(AgentControl::Command(AgentCommand::Prompt { id, turn_id, text: text.into() }));
    }

    pub(crate) fn cancel(&mut self) {
        let id = self.id();
        let turn_id = self.turn.clone().expect("a turn to cancel");
        self.order(AgentControl::Command(AgentCommand::Cancel { id, turn_id }));
    }

    pub(crate) fn answer(&mut self, request_id: RequestId, answer: Answer) {
        let id = self.id();
        self.order(AgentControl::Command(AgentCommand::Answer { id, request_id, answer }));
    }

    /// The gateway goes: nobody orders and nobody listens any more.
    pub(crate) fn hang_up(&mut self) {
        self.control = None;
        self.records.close();
    }

    /// Aborts the life's task, as a panic in the gateway would.
    pub(crate) fn abort(&self) {
        self.life.abort();
    }

    /// The next event; None when the life is over.
    pub(crate) async fn next(&mut self) -> Option<AgentEvent> {
        while self.events.is_empty() {
            let records = timeout(PATIENCE, self.records.recv()).await.expect("the agent says something")?;
            assert!(
                records.position > self.position,
                "positions grow: {} then {}",
                self.position,
                records.position
            );
            self.position = records.position;
            self.batches.push(records.events.len());
            let ends = records.events.iter().any(|event| matches!(event, AgentEvent::TurnEnded { .. }));
            assert!(ends || records.checkpoint.is_none(), "checkpoints come at the end of a turn");
            self.checkpoints += usize::from(records.checkpoint.is_some());
            self.events.extend(records.events);
        }
        self.events.pop_front()
    }

    /// Events up to and including the first that is wanted.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&AgentEvent) -> bool) -> Vec<AgentEvent> {
        let mut events = Vec::new();
        loop {
            let event = self.next().await.unwrap_or_else(|| panic!("the life ended; so far: {events:?}"));
            events.push(event);
            if wanted(events.last().unwrap()) {
                return events;
            }
        }
    }

    /// The rest of the turn.
    pub(crate) async fn turn(&mut self) -> Turn {
        Turn(self.until(|event| matches!(event, AgentEvent::TurnEnded { .. })).await)
    }

    pub(crate) async fn said(&mut self, prompt: &str) -> Turn {
        self.prompt(prompt);
        self.turn().await
    }

    /// The request that is asked next.
    pub(crate) async fn request(&mut self) -> RequestId {
        let events =
            self.until(|event| matches!(event, AgentEvent::Permission(_) | AgentEvent::Question(_))).await;
        match events.last().unwrap() {
            AgentEvent::Permission(request) => request.request_id.clone(),
            AgentEvent::Question(question) => question.request_id.clone(),
            _ => unreachable!(),
        }
    }

    /// How the life ended, and what was said before.
    pub(crate) async fn exit(mut self) -> (AgentExit, Vec<AgentEvent>) {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        (timeout(PATIENCE, self.life).await.expect("the life ends").expect("without a panic"), events)
    }

    pub(crate) async fn stop(self) -> Vec<AgentEvent> {
        self.order(AgentControl::Stop);
        let (exit, events) = self.exit().await;
        assert_eq!(exit, AgentExit::Stopped);
        events
    }
}

pub(crate) struct Turn(pub(crate) Vec<AgentEvent>);

impl Turn {
    /// The answer: streams that were not taken back, and whole messages.
    pub(crate) fn text(&self) -> String {
        let void: Vec<_> = self
            .0
            .iter()
            .filter_map(|event| match event {
                AgentEvent::TextEnd { stream, void: true, .. } => Some(stream.clone()),
                _ => None,
            })
            .collect();
        self.0
            .iter()
            .filter_map(|event| match event {
                AgentEvent::Text { stream, text } if !void.contains(stream) => Some(text.as_str()),
                AgentEvent::Message { text } | AgentEvent::TextEnd { text: Some(text), .. } => Some(text),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn thought(&self) -> String {
        let pieces = self.0.iter().filter_map(|event| match event {
            AgentEvent::Reasoning { text, .. } => Some(text.as_str()),
            _ => None,
        });
        pieces.collect()
    }

    pub(crate) fn end(&self) -> (Outcome, Option<&TurnError>) {
        match self.0.last() {
            Some(AgentEvent::TurnEnded { outcome, error, .. }) => (*outcome, error.as_ref()),
            other => panic!("not the end of a turn: {other:?}"),
        }
    }

    pub(crate) fn count(&self, wanted: impl Fn(&AgentEvent) -> bool) -> usize {
        self.0.iter().filter(|event| wanted(event)).count()
    }
}

/// Waits for something that is not announced.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Processes that bear this mark or are below this process; without zombies.
pub(crate) fn alive(marked: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        !environment.is_empty() && String::from_utf8_lossy(&environment).contains(marked)
    })
    .collect()
}
