//! The gateway of one hosted agent instance, as far as the host sees it: it can crash at any moment, and its log
//! survives.

use std::sync::Arc;

use bytes::Bytes;
use switchboard_agent_bridge::{HostAgent, HostConfig, HostedInstance};
use switchboard_core::{
    agent::{AgentCommand, AgentEvent, AgentExit, AgentInstanceId, AgentRecords, CommandId},
    ids::{ChatId, ChatKey, Principal, RequestId, TurnId},
    wire::{Answer, Outcome, TurnError},
};
use switchboard_runtime::{AgentControl, Resume};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    agent,
    support::{
        ControlReceiver, Records, TIMEOUT, Turn, events_until, exit_of, is_request, new_turn_id, request_id,
    },
};

/// What a gateway has logged of its agent; survives a crash of the gateway.
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

/// A gateway with its log.
pub(crate) struct TestGateway {
    pub(crate) config: HostConfig,
    pub(crate) agent: Arc<HostAgent>,
    control: mpsc::UnboundedSender<AgentControl>,
    records: mpsc::Receiver<AgentRecords>,
    committed: watch::Sender<u64>,
    instance: JoinHandle<AgentExit>,
    pub(crate) log: Log,
    read: usize,
}

impl TestGateway {
    pub(crate) fn start(config: HostConfig) -> Self {
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
        let (committed, committed_receiver) = watch::channel(0);
        let instance = HostedInstance {
            chat: ChatKey { principal: Principal::owner(), chat: ChatId::parse("c").unwrap() },
            instance: AgentInstanceId(1),
            session,
            resume,
            control: ControlReceiver(receiver),
            records: Records(sender),
            committed: committed_receiver,
        };
        let agent = agent(&config);
        let serving = Arc::clone(&agent);
        let instance = tokio::spawn(async move { serving.serve(instance).await });
        Self { config, agent, control, records, committed, instance, log, read }
    }

    /// Ends the gateway at once. Returns what survives: the configuration, the log, and the number of events read.
    pub(crate) async fn crash(self) -> (HostConfig, Log, usize) {
        self.instance.abort();
        let _ = self.instance.await;
        (self.config, self.log, self.read)
    }

    /// Starts the next gateway, which adopts the host and repeats the commands of the open turn.
    pub(crate) fn adopt((config, log, read): (HostConfig, Log, usize)) -> Self {
        let resume =
            Resume { position: log.position, checkpoint: log.checkpoint.clone(), turn: log.open_turn() };
        let commands = log.commands.clone();
        let gateway = Self::live(config, log, Some(resume), None, read);
        for command in commands {
            gateway.control(AgentControl::Command(command));
        }
        gateway
    }

    pub(crate) async fn crash_and_adopt(self) -> Self {
        Self::adopt(self.crash().await)
    }

    pub(crate) fn control(&self, message: AgentControl) {
        // An instance that has exited receives nothing.
        let _ = self.control.send(message);
    }

    /// Drops both channels, as when the gateway's loop has ended; the task of the instance still runs.
    pub(crate) fn drop_channels(&mut self) {
        self.control = mpsc::unbounded_channel().0;
        self.records.close();
    }

    fn id(&mut self) -> CommandId {
        self.log.last_command += 1;
        CommandId(self.log.last_command)
    }

    fn command(&mut self, command: AgentCommand) {
        self.log.commands.push(command.clone());
        self.control(AgentControl::Command(command));
    }

    pub(crate) fn prompt(&mut self, text: &str) {
        let id = self.id();
        let turn_id = new_turn_id();
        self.log.turn = Some(turn_id.clone());
        self.command(AgentCommand::Prompt { id, turn_id, text: text.into() });
    }

    pub(crate) fn cancel(&mut self) {
        let (id, turn_id) = (self.id(), self.log.turn.clone().expect("a turn to cancel"));
        self.command(AgentCommand::Cancel { id, turn_id });
    }

    /// Cancels the turn that the agent has begun by itself, under an id that only the gateway knows.
    pub(crate) fn cancel_agent_turn(&mut self) {
        let (id, turn_id) = (self.id(), new_turn_id());
        self.command(AgentCommand::Cancel { id, turn_id });
    }

    pub(crate) fn answer(&mut self, request_id: RequestId, answer: Answer) {
        let id = self.id();
        self.command(AgentCommand::Answer { id, request_id, answer });
    }

    /// Receives the next records into the log. Returns `false` after the exit of the instance.
    pub(crate) async fn receive(&mut self) -> bool {
        let next = timeout(TIMEOUT, self.records.recv()).await;
        let Some(records) = next.unwrap_or_else(|_| {
            panic!("no records; commands: {:?}, last event: {:?}", self.log.commands, self.log.events.last())
        }) else {
            return false;
        };
        self.record(records);
        true
    }

    fn record(&mut self, records: AgentRecords) {
        let position = records.checkpoint.is_some().then_some(records.position);
        self.log.add(records);
        if let Some(position) = position {
            self.committed.send_replace(position);
        }
    }

    /// Receives records that are not logged, up to and including this many checkpoints.
    pub(crate) async fn discard(&mut self, checkpoints: usize) {
        let mut lost = 0;
        while lost < checkpoints {
            let records = timeout(TIMEOUT, self.records.recv())
                .await
                .expect("there are records")
                .expect("the instance runs");
            lost += usize::from(records.checkpoint.is_some());
        }
    }

    /// Receives all available records into the log, without waiting.
    pub(crate) fn receive_available(&mut self) {
        while let Ok(records) = self.records.try_recv() {
            self.record(records);
        }
    }

    /// The next event that was not read; `None` after the exit of the instance.
    pub(crate) async fn next(&mut self) -> Option<AgentEvent> {
        while self.read == self.log.events.len() {
            if !self.receive().await {
                return None;
            }
        }
        self.read += 1;
        self.log.events.get(self.read - 1).cloned()
    }

    pub(crate) async fn until(&mut self, wanted: impl Fn(&AgentEvent) -> bool) -> Vec<AgentEvent> {
        events_until(async || self.next().await, wanted).await
    }

    /// The events up to the end of the turn that were not read.
    pub(crate) async fn turn(&mut self) -> Turn {
        Turn(self.until(|event| matches!(event, AgentEvent::TurnEnded { .. })).await)
    }

    pub(crate) async fn run_turn(&mut self, prompt: &str) -> Turn {
        self.prompt(prompt);
        self.turn().await
    }

    /// Reads up to and including the first text.
    pub(crate) async fn until_text(&mut self) {
        self.until(|event| matches!(event, AgentEvent::Text { .. })).await;
    }

    /// Continues to read with the event at this index of the log.
    pub(crate) fn read_again_from(&mut self, from: usize) {
        self.read = from;
    }

    pub(crate) async fn next_request(&mut self) -> RequestId {
        request_id(&self.until(is_request).await)
    }

    pub(crate) async fn exit(mut self) -> (AgentExit, Vec<AgentEvent>) {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        (exit_of(self.instance).await, events)
    }

    /// Waits for the exit of the instance, and returns the whole log as well.
    pub(crate) async fn exit_and_log(mut self) -> (AgentExit, Log) {
        while self.receive().await {}
        (exit_of(self.instance).await, self.log)
    }

    pub(crate) async fn stop(self) {
        self.control(AgentControl::Stop);
        assert_eq!(self.exit().await.0, AgentExit::Stopped);
    }
}

impl Log {
    /// The log of an instance whose first turn was cancelled before it had an agent.
    pub(crate) fn after_a_cancel() -> Self {
        let ended =
            AgentEvent::TurnEnded { outcome: Outcome::Cancelled, error: None, usage: None, cost: None };
        Self { events: vec![ended], position: 1, ..Self::default() }
    }

    /// The log of an instance that was sent a first prompt and has said nothing yet.
    pub(crate) fn of_a_turn(text: &str) -> Self {
        let (id, turn_id) = (CommandId(1), new_turn_id());
        let prompt = AgentCommand::Prompt { id, turn_id: turn_id.clone(), text: text.into() };
        Self { commands: vec![prompt], turn: Some(turn_id), last_command: 1, ..Self::default() }
    }

    /// The id of the open turn.
    pub(crate) fn turn(&self) -> &str {
        self.turn.as_ref().expect("a turn").as_str()
    }

    /// Forgets everything but the cancelled first turn, and sets the commands of the open turn.
    pub(crate) fn forget_all_but_the_cancel(&mut self, commands: Vec<AgentCommand>) {
        *self = Self { commands, last_command: self.last_command, ..Self::after_a_cancel() };
    }

    /// A log with the open turn and without any event.
    pub(crate) fn of_the_same_turn(&self) -> Self {
        let (commands, turn) = (self.commands.clone(), self.turn.clone());
        Self { commands, turn, last_command: self.last_command, ..Self::default() }
    }

    /// Removes the newest prompt, as when the disk lost it.
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

    fn add(&mut self, records: AgentRecords) {
        assert!(
            records.position > self.position || records.events == [AgentEvent::Alive],
            "positions must grow: {} then {}",
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

/// One line per event, with adjacent texts joined, and without what differs from run to run.
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

pub(crate) fn exit_error(exit: &AgentExit) -> (&str, &str) {
    match exit {
        AgentExit::Gone(TurnError { code, detail }) => (code, detail),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn completed(turn: &Turn) -> bool {
    turn.end() == (Outcome::Completed, None)
}
