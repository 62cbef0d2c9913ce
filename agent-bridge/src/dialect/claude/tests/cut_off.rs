//! Recordings that end for good behind any entry, because the agent's process ends there: codec and hub together end all
//! that began, and end it once.

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
};

use serde_json::{Value, json};
use switchboard_core::{
    Hub, Input, Limits, Moment, Output, Peer,
    agent::{AgentCommand, AgentEvent, AgentExit, AgentInstanceId, AgentRecords},
    ids::{ChatId, ChatKey, ConnId, Principal, RequestId},
    journal::{Ask, AskId, ChatRecord, Found, Grant, JournalAnswer, MemoryJournal, Query},
    wire::TurnError,
};
use switchboard_test_support::unbalanced;

use super::{
    codec,
    recordings::{Entry, all, processes},
};
use crate::dialect::{
    Codec as _, Decoded, Delivered, ProcessExit,
    claude::{ClaudeCodec, state::Prompted},
};

const NOW: Moment = Moment { ticks_ms: 0, unix_ms: 1_700_000_000_000, boot_ms: 0 };
const CONN: ConnId = ConnId(1);

/// A codec whose events a hub gets, and a person who sends what the recorded client sent.
struct Chat {
    codec: ClaudeCodec,
    hub: Hub,
    journal: MemoryJournal,
    /// The agent that runs.
    instance: Option<AgentInstanceId>,
    /// Number of lines that were decoded.
    position: u64,
    /// The recorded ids of prompts that the agent was not given yet.
    prompts: VecDeque<String>,
    /// Number of messages that were sent.
    messages: usize,
    /// The codec's ids of requests, in their order.
    requests: Vec<RequestId>,
    /// Events of lines from before the first message.
    early: Vec<AgentEvent>,
    log: Vec<Value>,
}

impl Chat {
    fn new() -> Self {
        let mut chat = Self {
            codec: codec(),
            hub: Hub::new(Limits::default(), [7; 32], NOW),
            journal: MemoryJournal::default(),
            instance: None,
            position: 0,
            prompts: VecDeque::new(),
            messages: 0,
            requests: Vec::new(),
            early: Vec::new(),
            log: Vec::new(),
        };
        let peer = Peer { principal: Principal::owner(), client_id: None };
        chat.step(Input::Opened { conn: CONN, peer });
        chat
    }

    fn step(&mut self, input: Input) {
        self.hub.handle(NOW, input);
        while let Some(output) = self.hub.poll_output() {
            match output {
                Output::Claim { chat } => {
                    self.hub.handle(NOW, Input::Owned { chat, grant: Grant::default() });
                }
                Output::Append(append) => {
                    let frames = append.events.iter().map(|event| event.frame.as_str());
                    self.log.extend(frames.map(|frame| serde_json::from_str::<Value>(frame).unwrap()));
                    self.hub.handle(NOW, Input::Journal(self.journal.append(append)));
                }
                Output::Ask(ask) => self.hub.handle(NOW, Input::Journal(self.journal.ask(ask))),
                Output::WatchDrain { conn } => self.hub.handle(NOW, Input::OutboxDrained { conn }),
                Output::StartAgent { instance, .. } => self.instance = Some(instance),
                Output::Command { command, .. } => self.deliver(&command),
                Output::Deliver { .. }
                | Output::Offer { .. }
                | Output::HangUp { .. }
                | Output::AdoptAgent { .. }
                | Output::ForgetChat { .. }
                | Output::LeaveAgent { .. }
                | Output::PauseAgent { .. }
                | Output::Release { .. }
                | Output::StopAgent { .. }
                | Output::Finished => {}
            }
        }
    }

    fn deliver(&mut self, command: &AgentCommand) {
        match command {
            AgentCommand::Prompt { .. } => {
                self.codec.state.turn = self.prompts.pop_front().map(Prompted::new)
            }
            AgentCommand::Cancel { turn_id, .. } if turn_id.as_str().starts_with('~') => {
                self.codec.delivered(Delivered::CancelAgentTurn);
            }
            AgentCommand::Cancel { .. } => self.codec.delivered(Delivered::Cancel),
            AgentCommand::Answer { request_id, .. } => self.codec.delivered(Delivered::Answer(request_id)),
        }
    }

    fn sends(&mut self, mut frame: Value) {
        frame["chat_id"] = key().chat.as_str().into();
        self.step(Input::Envelope { conn: CONN, envelope: serde_json::from_value(frame).unwrap() });
    }

    fn entry(&mut self, entry: &Entry) {
        match entry {
            Entry::Prompt(uuid) => {
                self.prompts.push_back(uuid.clone());
                self.messages += 1;
                let turn_id = format!("t{}", self.messages);
                self.sends(json!({"type": "message", "content": "hello", "turn_id": turn_id}));
            }
            Entry::Resumed => self.codec = ClaudeCodec::resumed(Path::new("/workspace"), "1-", "session"),
            Entry::Cancel => self.sends(json!({"type": "cancel"})),
            Entry::Answer(agent_id) => {
                if let Some(request_id) = self.logged_request(agent_id) {
                    self.sends(json!({"type": "respond", "request_id": request_id, "decision": "deny"}));
                }
            }
            Entry::Line(line) => {
                let mut out = Decoded::default();
                self.codec.decode(self.position + 1, line.as_bytes(), &mut out);
                self.says(out);
            }
        }
    }

    /// The hub's id of the open request to which the agent gave this id.
    fn logged_request(&self, agent_id: &str) -> Option<Value> {
        let mut open = self.codec.state.pending.iter();
        let (id, _) = open.find(|(_, pending)| pending.agent_id == *agent_id)?;
        let place = self.requests.iter().position(|request| request.as_str() == id)?;
        let is_request =
            |event: &&Value| event["event"] == "permission_request" || event["event"] == "question";
        Some(self.log.iter().filter(is_request).nth(place)?["request_id"].clone())
    }

    fn says(&mut self, out: Decoded) {
        self.position += 1;
        self.requests.extend(out.events.iter().filter_map(request_id));
        self.early.extend(out.events);
        if let Some(instance) = self.instance {
            let events = std::mem::take(&mut self.early);
            let records = AgentRecords { position: self.position, events, checkpoint: None };
            self.step(Input::AgentRecords { chat: key(), instance, records });
        }
    }

    /// The process exits, and none can be started again.
    fn ends(&mut self) {
        let mut out = Decoded::default();
        let exit = ProcessExit {
            code: Some(1),
            cancelled: false,
            description: "exited with status 1",
            last_words: "",
        };
        self.codec.exited(&exit, &mut out);
        self.says(out);
        let error = TurnError { code: "agent_exited".into(), detail: "The agent exited.".into() };
        let mut exit = AgentExit::Gone(error.clone());
        while let Some(instance) = self.instance.take() {
            self.step(Input::AgentExited { chat: key(), instance, exit });
            exit = AgentExit::StartFailed(error.clone());
        }
    }

    /// What the journal has of the chat.
    fn record(&mut self) -> Option<ChatRecord> {
        let found = self.journal.ask(Ask { id: AskId(0), query: Query::Chat { chat: key(), term: None } });
        let JournalAnswer::Found(_, Found::Chat(record)) = found else { panic!("{found:?}") };
        record.map(|record| *record)
    }
}

fn key() -> ChatKey {
    ChatKey { principal: Principal::owner(), chat: ChatId::parse("c").unwrap() }
}

fn request_id(event: &AgentEvent) -> Option<RequestId> {
    if let AgentEvent::Subagent { event, .. } = event {
        return request_id(event);
    }
    if let AgentEvent::Permission(ask) = event {
        return Some(ask.request_id.clone());
    }
    if let AgentEvent::Question(question) = event { Some(question.request_id.clone()) } else { None }
}

/// The tasks that do not run first and end then, once.
fn odd_tasks(log: &[Value]) -> Vec<String> {
    let mut tasks = BTreeMap::<String, Vec<bool>>::new();
    for task in log.iter().filter(|event| event["event"] == "task") {
        let runs = task["status"] == "running";
        let said = tasks.entry(task["task_id"].to_string()).or_default();
        if !runs || said.last() != Some(&true) {
            said.push(runs);
        }
    }
    tasks
        .into_iter()
        .filter(|(_, said)| *said != [true, false])
        .map(|(id, said)| format!("task {id}: {said:?}"))
        .collect()
}

#[test]
fn all_that_began_ends_once_wherever_the_process_ends() {
    let mut open = 0;
    for (name, recording) in all() {
        for entries in processes(&recording) {
            for cut in 0..=entries.len() {
                let mut chat = Chat::new();
                entries[..cut].iter().for_each(|entry| chat.entry(entry));
                open += unbalanced(&chat.log).len();
                chat.ends();
                let wrong = [unbalanced(&chat.log), odd_tasks(&chat.log)].concat();
                assert!(wrong.is_empty(), "{name}, cut at entry {cut}: {wrong:#?}");
                let Some(record) = chat.record() else { continue };
                assert!(
                    record.turns.is_empty()
                        && record.agent_turn.is_none()
                        && record.requests.is_empty()
                        && record.tasks.is_empty()
                        && record.open_work.tools.is_empty()
                        && record.open_work.answers.is_empty()
                        && record.open_work.reasoning.is_empty(),
                    "{name}, cut at entry {cut}: {record:?}"
                );
            }
        }
    }
    assert!(open > 1_000, "the cuts leave much open: {open}");
}
