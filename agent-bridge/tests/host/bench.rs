//! A gateway in the hands of a test: its log outlives it, and it can die at any moment.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use switchboard_agent_bridge::{ControlSource, HostAgent, HostConfig, HostedInstance, RecordSink};
use switchboard_core::{
    agent::{AgentCommand, AgentEvent, AgentExit, AgentInstanceId, AgentRecords, CommandId},
    ids::{ChatId, ChatKey, Principal, RequestId, TurnId},
    wire::{Answer, Outcome, TurnError},
};
use switchboard_runtime::{AgentControl, GatewayGone, Resume};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    agent,
    support::{PATIENCE, Turn},
};

static TURNS: AtomicU64 = AtomicU64::new(1);

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

/// What outlives a gateway.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) events: Vec<AgentEvent>,
    position: u64,
    pub(crate) checkpoint: Option<Bytes>,
    pub(crate) checkpoints: usize,
    /// The commands of the open turn.
    pub(crate) commands: Vec<AgentCommand>,
    turn: Option<TurnId>,
    last_command: u64,
}

/// A gateway and its log.
pub(crate) struct Bench {
    pub(crate) config: HostConfig,
    pub(crate) agent: Arc<HostAgent>,
    control: mpsc::UnboundedSender<AgentControl>,
    records: mpsc::Receiver<AgentRecords>,
    kept: watch::Sender<u64>,
    life: JoinHandle<AgentExit>,
    pub(crate) log: Log,
    read: usize,
}

impl Bench {
    pub(crate) fn begin(config: HostConfig) -> Self {
        Self::with_session(config, None)
    }

    pub(crate) fn with_session(config: HostConfig, session: Option<&str>) -> Self {
        Self::live(config, Log::default(), None, session.map(Into::into), 0)
    }

    fn live(
        config: HostConfig,
        log: Log,
        resume: Option<Resume>,
        session: Option<String>,
        read: usize,
    ) -> Self {
        let (control, receiver) = mpsc::unbounded_channel();
        let (sender, records) = mpsc::channel(2);
        let (kept, kept_end) = watch::channel(0);
        let life = HostedInstance {
            chat: ChatKey { principal: Principal::owner(), chat: ChatId::parse("c").unwrap() },
            instance: AgentInstanceId(1),
            session,
            resume,
            control: ControlReceiver(receiver),
            records: Records(sender),
            committed: kept_end,
        };
        let agent = agent(&config);
        let serving = Arc::clone(&agent);
        let life = tokio::spawn(async move { serving.serve(life).await });
        Self { config, agent, control, records, kept, life, log, read }
    }

    /// The gateway is gone from one moment to the next; its log remains.
    pub(crate) async fn crash(self) -> (HostConfig, Log, usize) {
        self.life.abort();
        let _ = self.life.await;
        (self.config, self.log, self.read)
    }

    /// The next gateway takes up what a crash has left, and tells again what the open turn was told.
    pub(crate) fn adopt((config, log, read): (HostConfig, Log, usize)) -> Self {
        let resume =
            Resume { position: log.position, checkpoint: log.checkpoint.clone(), turn: log.open_turn() };
        let commands = log.commands.clone();
        let bench = Self::live(config, log, Some(resume), None, read);
        for command in commands {
            bench.order(AgentControl::Command(command));
        }
        bench
    }

    pub(crate) async fn crash_and_adopt(self) -> Self {
        Self::adopt(self.crash().await)
    }

    pub(crate) fn order(&self, order: AgentControl) {
        // A life that has ended takes none.
        let _ = self.control.send(order);
    }

    /// The loop that orders has gone, and nobody keeps records; the process still runs.
    pub(crate) fn desert(&mut self) {
        self.control = mpsc::unbounded_channel().0;
        self.records.close();
    }

    fn id(&mut self) -> CommandId {
        self.log.last_command += 1;
        CommandId(self.log.last_command)
    }

    fn command(&mut self, command: AgentCommand) {
        self.log.commands.push(command.clone());
        self.order(AgentControl::Command(command));
    }

    pub(crate) fn prompt(&mut self, text: &str) {
        let id = self.id();
        let turn_id = TurnId::parse(&format!("turn-{}", TURNS.fetch_add(1, Ordering::Relaxed))).unwrap();
        self.log.turn = Some(turn_id.clone());
        self.command(AgentCommand::Prompt { id, turn_id, text: text.into() });
    }

    pub(crate) fn cancel(&mut self) {
        let (id, turn_id) = (self.id(), self.log.turn.clone().expect("a turn to cancel"));
        self.command(AgentCommand::Cancel { id, turn_id });
    }

    pub(crate) fn answer(&mut self, request_id: RequestId, answer: Answer) {
        let id = self.id();
        self.command(AgentCommand::Answer { id, request_id, answer });
    }

    /// Keeps the next records in the log. False: the life is over.
    pub(crate) async fn keep(&mut self) -> bool {
        let next = timeout(PATIENCE, self.records.recv()).await;
        let Some(records) = next.unwrap_or_else(|_| {
            panic!(
                "the agent says nothing; told: {:?}, last: {:?}",
                self.log.commands,
                self.log.events.last()
            )
        }) else {
            return false;
        };
        self.take(records);
        true
    }

    fn take(&mut self, records: AgentRecords) {
        let position = records.checkpoint.is_some().then_some(records.position);
        self.log.keep(records);
        if let Some(position) = position {
            self.kept.send_replace(position);
        }
    }

    /// Takes records that no log comes to have, until they hold so much of the checkpoints.
    pub(crate) async fn lose(&mut self, checkpoints: usize) {
        let mut lost = 0;
        while lost < checkpoints {
            let records = timeout(PATIENCE, self.records.recv()).await.expect("it speaks").expect("it lives");
            lost += usize::from(records.checkpoint.is_some());
        }
    }

    /// Keeps what has come already.
    pub(crate) fn keep_what_came(&mut self) {
        while let Ok(records) = self.records.try_recv() {
            self.take(records);
        }
    }

    /// The next event; None when the life is over.
    pub(crate) async fn next(&mut self) -> Option<AgentEvent> {
        while self.read == self.log.events.len() {
            if !self.keep().await {
                return None;
            }
        }
        self.read += 1;
        self.log.events.get(self.read - 1).cloned()
    }

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

    /// Everything up to the turn's end that was not read before.
    pub(crate) async fn turn(&mut self) -> Turn {
        Turn(self.until(|event| matches!(event, AgentEvent::TurnEnded { .. })).await)
    }

    pub(crate) async fn said(&mut self, prompt: &str) -> Turn {
        self.prompt(prompt);
        self.turn().await
    }

    /// Until it speaks.
    pub(crate) async fn speaks(&mut self) {
        self.until(|event| matches!(event, AgentEvent::Text { .. })).await;
    }

    /// Everything of the turn again, from its first event on.
    pub(crate) fn reread(&mut self, from: usize) {
        self.read = from;
    }

    pub(crate) async fn request(&mut self) -> RequestId {
        let events =
            self.until(|event| matches!(event, AgentEvent::Permission(_) | AgentEvent::Question(_))).await;
        match events.last().unwrap() {
            AgentEvent::Permission(request) => request.request_id.clone(),
            AgentEvent::Question(question) => question.request_id.clone(),
            _ => unreachable!(),
        }
    }

    pub(crate) async fn exit(mut self) -> (AgentExit, Vec<AgentEvent>) {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        (timeout(PATIENCE, self.life).await.expect("the life ends").expect("without a panic"), events)
    }

    /// How the life ends, and the log of all of it.
    pub(crate) async fn end(mut self) -> (AgentExit, Log) {
        while self.keep().await {}
        let exit = timeout(PATIENCE, self.life).await.expect("the life ends").expect("without a panic");
        (exit, self.log)
    }

    pub(crate) async fn stop(self) {
        self.order(AgentControl::Stop);
        assert_eq!(self.exit().await.0, AgentExit::Stopped);
    }
}

impl Log {
    /// One of a life that had nobody to tell, and whose first turn was cancelled.
    pub(crate) fn after_a_cancel() -> Self {
        let ended =
            AgentEvent::TurnEnded { outcome: Outcome::Cancelled, error: None, usage: None, cost: None };
        Self { events: vec![ended], position: 1, ..Self::default() }
    }

    /// As if what came later, in a turn that was told this, had not been heard.
    pub(crate) fn forget_all_but_the_cancel(&mut self, commands: Vec<AgentCommand>) {
        *self = Self { commands, last_command: self.last_command, ..Self::after_a_cancel() };
    }

    /// One that knows of the open turn, and of nothing that was said.
    pub(crate) fn of_the_same_turn(&self) -> Self {
        let (commands, turn) = (self.commands.clone(), self.turn.clone());
        Self { commands, turn, last_command: self.last_command, ..Self::default() }
    }

    /// The disk loses the prompt that came last.
    pub(crate) fn lose_prompt(&mut self) {
        let lost = self.commands.pop();
        assert!(matches!(lost, Some(AgentCommand::Prompt { .. })), "{lost:?}");
        self.last_command -= 1;
        self.turn = self.open_turn();
    }

    fn open_turn(&self) -> Option<TurnId> {
        self.commands.iter().find_map(|command| match command {
            AgentCommand::Prompt { turn_id, .. } => Some(turn_id.clone()),
            AgentCommand::Cancel { .. } | AgentCommand::Answer { .. } => None,
        })
    }

    fn keep(&mut self, records: AgentRecords) {
        assert!(
            records.position > self.position || records.events == [AgentEvent::Alive],
            "positions grow: {} then {}",
            self.position,
            records.position
        );
        self.position = records.position;
        self.checkpoints += usize::from(records.checkpoint.is_some());
        self.checkpoint = records.checkpoint.or(self.checkpoint.take());
        for event in records.events {
            if matches!(event, AgentEvent::TurnEnded { .. }) {
                self.commands.clear();
            }
            if event != AgentEvent::Alive {
                self.events.push(event);
            }
        }
    }
}

/// What was said, without how it was cut into pieces and what differs from run to run.
pub(crate) fn shape(events: &[AgentEvent]) -> Vec<String> {
    let mut shape: Vec<String> = Vec::new();
    let mut last = None;
    for event in events {
        match event {
            AgentEvent::Text { stream, text } => {
                if last.as_ref() == Some(stream) {
                    shape.last_mut().unwrap().push_str(text);
                } else {
                    shape.push(format!("{stream}: {text}"));
                }
                last = Some(stream.clone());
                continue;
            }
            AgentEvent::TextEnd { stream, void, .. } => shape.push(format!("{stream} ends, void {void}")),
            AgentEvent::TurnEnded { outcome, .. } => shape.push(format!("{outcome:?}")),
            other => shape.push(format!("{other:?}")),
        }
        last = None;
    }
    shape
}

pub(crate) fn gone(exit: &AgentExit) -> (&str, &str) {
    match exit {
        AgentExit::Gone(TurnError { code, detail }) => (code, detail),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn completed(turn: &Turn) -> bool {
    turn.end() == (Outcome::Completed, None)
}
