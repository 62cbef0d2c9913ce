//! Runs one agent instance without a gateway: the test sends its control messages and receives its records.
#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod daemons;
pub(crate) mod dialect;

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use libtest_mimic::Trial;
use switchboard_agent_bridge::{
    BridgeLimits, ControlSource, Dialect, ProcessAgent, ProcessConfig, RecordSink, UnhostedInstance,
};
use switchboard_core::{
    agent::{AgentCommand, AgentEvent, AgentExit, AgentInstanceId, AgentRecords, CommandId},
    ids::{ChatId, ChatKey, Principal, RequestId, TurnId},
    wire::{Answer, Outcome, TurnError},
};
use switchboard_runtime::{AgentControl, GatewayGone};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

/// How long a test waits for any single thing before it fails.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) struct ControlReceiver(pub(crate) mpsc::UnboundedReceiver<AgentControl>);

#[async_trait]
impl ControlSource for ControlReceiver {
    async fn next(&mut self) -> AgentControl {
        self.0.recv().await.unwrap_or(AgentControl::Stop)
    }
}

#[derive(Clone)]
pub(crate) struct Records(pub(crate) mpsc::Sender<AgentRecords>);

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

/// The arguments of a shell for an agent that answers each prompt with `new`, unless it is to resume a session: then
/// it runs `failure`.
pub(crate) fn cannot_resume(failure: &str) -> [String; 3] {
    let said = r#"{"type":"assistant","message":{"id":"m","content":[{"type":"text","text":"new"}]}}"#;
    let result = r#"{"type":"result","subtype":"success","is_error":false,"num_turns":1}"#;
    let script = format!(
        "case $0 in --resume) {failure};; esac
         read -r line; echo '{READY}'
         while read -r line; do echo '{said}'; echo '{result}'; done"
    );
    ["sh".into(), "-c".into(), script]
}

/// The answer to the first request.
pub(crate) const READY: &str =
    r#"{"type":"control_response","response":{"subtype":"success","request_id":"initialize"}}"#;

/// Ways in which an agent cannot resume a session, and what the notice then ends with.
pub(crate) const RESUMES_THAT_FAIL: [(&str, &str); 3] = [
    ("echo 'no account' >&2; exit 1", "what was said before. Its last words: no account"),
    ("exit 0", "what was said before."),
    ("sleep 1000", "what was said before."),
];

/// The texts of the notices that the agent has lost its memory.
pub(crate) fn memory_lost(turn: &Turn) -> Vec<&str> {
    notices(turn, "memory_lost")
}

/// The texts of the notices with this code.
pub(crate) fn notices<'a>(turn: &'a Turn, wanted: &str) -> Vec<&'a str> {
    let notices = turn.0.iter().filter_map(|event| match event {
        AgentEvent::Notice { code, text, .. } if code == wanted => Some(text.as_str()),
        _ => None,
    });
    notices.collect()
}

/// The rest of a script for a prompt that is answered with `ok`, after `output` has run.
pub(crate) fn answers_after(output: &str) -> String {
    format!(
        r#"read -r line; {output}
        echo '{{"type":"result","is_error":false,"result":"ok"}}'; while read -r line; do :; done"#
    )
}

/// Output that costs a notice at most: what it does, and the notice.
pub(crate) const BAD_LINES: [(&str, Option<&str>); 4] = [
    (
        "head -c 17825792 /dev/zero | tr '\\0' x; echo",
        Some("The agent wrote a line of 17 MiB, which is too long and was left out."),
    ),
    // Between other lines, and with the start of the next one.
    (
        "{ echo x; head -c 17825792 /dev/zero | tr '\\0' x; echo; echo y; printf '{\"type\":'; } | cat; echo '\"x\"}'",
        Some("The agent wrote a line of 17 MiB, which is too long and was left out."),
    ),
    // More lines that mean nothing than a spool has room for.
    ("head -c 67108864 /dev/zero | tr '\\0' '\\n'", None),
    ("head -c 73400320 /dev/zero | tr '\\0' x | fold -w 700000; echo", None),
];

pub(crate) struct TestAgent {
    control: Option<mpsc::UnboundedSender<AgentControl>>,
    records: mpsc::Receiver<AgentRecords>,
    events: std::collections::VecDeque<AgentEvent>,
    instance: JoinHandle<AgentExit>,
    position: u64,
    pub(crate) batches: Vec<usize>,
    pub(crate) checkpoints: usize,
    commands: u64,
    turn: Option<TurnId>,
}

impl TestAgent {
    pub(crate) fn start(agent: std::sync::Arc<ProcessAgent>, session: Option<&str>) -> Self {
        let (control, receiver) = mpsc::unbounded_channel();
        let (sender, records) = mpsc::channel(64);
        let instance = UnhostedInstance {
            chat: ChatKey { principal: Principal::owner(), chat: ChatId::parse("c").unwrap() },
            instance: AgentInstanceId(1),
            session: session.map(Into::into),
            control: ControlReceiver(receiver),
            records: Records(sender),
        };
        let instance = tokio::spawn(async move { agent.serve(instance).await });
        let (batches, events) = (Vec::new(), Default::default());
        Self {
            control: Some(control),
            records,
            events,
            instance,
            position: 0,
            batches,
            checkpoints: 0,
            commands: 0,
            turn: None,
        }
    }

    pub(crate) fn control(&self, message: AgentControl) {
        self.control.as_ref().unwrap().send(message).unwrap();
    }

    fn id(&mut self) -> CommandId {
        self.commands += 1;
        CommandId(self.commands)
    }

    pub(crate) fn prompt(&mut self, text: &str) {
        let id = self.id();
        let turn_id = new_turn_id();
        self.turn = Some(turn_id.clone());
        self.control(AgentControl::Command(AgentCommand::Prompt { id, turn_id, text: text.into() }));
    }

    pub(crate) fn cancel(&mut self) {
        let id = self.id();
        let turn_id = self.turn.clone().expect("a turn to cancel");
        self.control(AgentControl::Command(AgentCommand::Cancel { id, turn_id }));
    }

    pub(crate) fn answer(&mut self, request_id: RequestId, answer: Answer) {
        let id = self.id();
        self.control(AgentControl::Command(AgentCommand::Answer { id, request_id, answer }));
    }

    /// Drops both channels, as a gateway that ends.
    pub(crate) fn disconnect(&mut self) {
        self.control = None;
        self.records.close();
    }

    /// Aborts the task of the instance, as a panic in the gateway would.
    pub(crate) fn abort(&self) {
        self.instance.abort();
    }

    /// The next event; `None` after the exit of the instance.
    pub(crate) async fn next(&mut self) -> Option<AgentEvent> {
        while self.events.is_empty() {
            let records = timeout(TIMEOUT, self.records.recv()).await.expect("the agent sends records")?;
            assert!(
                records.position > self.position,
                "positions must grow: {} then {}",
                self.position,
                records.position
            );
            self.position = records.position;
            self.batches.push(records.events.len());
            let ends = records.events.iter().any(|event| matches!(event, AgentEvent::TurnEnded { .. }));
            assert!(ends || records.checkpoint.is_none(), "a checkpoint comes with the end of a turn only");
            self.checkpoints += usize::from(records.checkpoint.is_some());
            self.events.extend(records.events);
        }
        self.events.pop_front()
    }

    /// The events up to and including the first that satisfies the condition.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&AgentEvent) -> bool) -> Vec<AgentEvent> {
        events_until(async || self.next().await, wanted).await
    }

    /// The remaining events of the turn.
    pub(crate) async fn turn(&mut self) -> Turn {
        Turn(self.until(|event| matches!(event, AgentEvent::TurnEnded { .. })).await)
    }

    pub(crate) async fn run_turn(&mut self, prompt: &str) -> Turn {
        self.prompt(prompt);
        self.turn().await
    }

    /// The id of the next permission request or question.
    pub(crate) async fn next_request(&mut self) -> RequestId {
        request_id(&self.until(is_request).await)
    }

    /// Waits for the exit of the instance, and returns the remaining events as well.
    pub(crate) async fn exit(mut self) -> (AgentExit, Vec<AgentEvent>) {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        (exit_of(self.instance).await, events)
    }

    pub(crate) async fn stop(self) -> Vec<AgentEvent> {
        self.control(AgentControl::Stop);
        let (exit, events) = self.exit().await;
        assert_eq!(exit, AgentExit::Stopped);
        events
    }
}

/// The id of a new turn. Agents recognise the id of an earlier turn, also in a resumed session.
pub(crate) fn new_turn_id() -> TurnId {
    static TURNS: AtomicU64 = AtomicU64::new(1);
    TurnId::parse(&format!("turn-{}", TURNS.fetch_add(1, Ordering::Relaxed))).unwrap()
}

/// The events up to and including the first that satisfies the condition.
pub(crate) async fn events_until(
    mut next: impl AsyncFnMut() -> Option<AgentEvent>,
    wanted: impl Fn(&AgentEvent) -> bool,
) -> Vec<AgentEvent> {
    let mut events = Vec::new();
    loop {
        let event = next().await.unwrap_or_else(|| panic!("the instance has exited; events: {events:?}"));
        events.push(event);
        if wanted(events.last().unwrap()) {
            return events;
        }
    }
}

/// Whether an event is a permission request or a question.
pub(crate) fn is_request(event: &AgentEvent) -> bool {
    matches!(event, AgentEvent::Permission(_) | AgentEvent::Question(_))
}

/// The id of the request that is the last of these events.
pub(crate) fn request_id(events: &[AgentEvent]) -> RequestId {
    match events.last() {
        Some(AgentEvent::Permission(request)) => request.request_id.clone(),
        Some(AgentEvent::Question(question)) => question.request_id.clone(),
        other => panic!("not a request: {other:?}"),
    }
}

/// The exit of an instance that is about to end.
pub(crate) async fn exit_of(instance: JoinHandle<AgentExit>) -> AgentExit {
    timeout(TIMEOUT, instance).await.expect("the instance exits").expect("no panic")
}

pub(crate) struct Turn(pub(crate) Vec<AgentEvent>);

impl Turn {
    /// The text of the answer: streams that were not voided, and whole messages.
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

/// An async test with a directory and a mark of its own, from which `fixture` makes what the test gets. All processes
/// with the mark must have exited at its end.
pub(crate) fn trial<T, F: Future<Output = ()>>(
    name: &'static str,
    fixture: impl FnOnce(&Path, String) -> T + Send + 'static,
    test: impl FnOnce(T) -> F + Send + 'static,
) -> Trial {
    Trial::test(name, move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let dir = tempfile::tempdir()?;
        let mark = format!("test-{}-{name}", std::process::id());
        let fixture = fixture(dir.path(), mark.clone());
        runtime.block_on(async {
            test(fixture).await;
            eventually("no process is left", || alive(&mark).is_empty()).await;
        });
        Ok(())
    })
}

/// Waits until a condition holds that nothing reports.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + TIMEOUT;
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "not true within {TIMEOUT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The processes with this mark in their environment, without zombies.
pub(crate) fn alive(marked: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        !environment.is_empty() && String::from_utf8_lossy(&environment).contains(marked)
    })
    .collect()
}
