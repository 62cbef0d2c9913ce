//! No event is larger than 256 KiB, whatever agents and people write.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test says what it expects, and no more"
)]

use serde_json::{Value, json};
use switchboard_core::{
    Hub, Input, Limits, Moment, Output, Peer,
    agent::{AgentEvent, AgentInstanceId, AgentRecords, PermissionAsk, ToolInput},
    ids::{ChatId, ChatKey, ConnId, Principal, RequestId, TurnId},
    journal::{Grant, JournalAnswer, MemoryJournal},
    wire::{
        ClientEnvelope, FileEdit, Frame, Message, NoticeLevel, Outcome, Question, QuestionItem, Source, Task,
        TaskKind, TaskStatus, ToolLocation, ToolMedia, TurnError, decode,
    },
};

const CONN: ConnId = ConnId(1);
const EVENT_BYTES: usize = 256 * 1024;

struct World {
    hub: Hub,
    journal: MemoryJournal,
    now: Moment,
    instance: Option<AgentInstanceId>,
    position: u64,
    logged: Vec<Value>,
    delivered: Vec<Frame>,
}

impl World {
    /// A chat with a running turn and an agent.
    fn new() -> Self {
        let now = Moment { ticks_ms: 0, boot_ms: 0, unix_ms: 1_700_000_000_000 };
        let hub = Hub::new(Limits::default(), [7; 32], now);
        let (journal, logged) = (MemoryJournal::default(), Vec::new());
        let delivered = Vec::new();
        let mut world = Self { hub, journal, now, instance: None, position: 0, logged, delivered };
        let peer = Peer { principal: Principal::owner(), client_id: Some("\u{1f600}".repeat(128)) };
        world.step(Input::Opened { conn: CONN, peer });
        world.writes("hello");
        world
    }

    fn writes(&mut self, content: &str) {
        self.position += 1;
        let message = Message {
            chat_id: chat(),
            content: content.into(),
            turn_id: Some(TurnId::parse(&format!("{:\"<128}", self.position)).unwrap()),
        };
        self.asks(ClientEnvelope::Message(message));
    }

    fn asks(&mut self, envelope: ClientEnvelope) {
        self.step(Input::Envelope { conn: CONN, envelope });
    }

    /// Gives the hub an event of the agent. Returns the kinds of the events that are logged.
    fn event(&mut self, event: AgentEvent) -> Vec<String> {
        self.position += 1;
        let before = self.logged.len();
        let records = AgentRecords { position: self.position, events: vec![event], checkpoint: None };
        let chat = ChatKey { principal: Principal::owner(), chat: chat() };
        self.step(Input::AgentRecords { chat, instance: self.instance.unwrap(), records });
        self.logged[before..].iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect()
    }

    fn step(&mut self, input: Input) {
        self.hub.handle(self.now, input);
        while let Some(output) = self.hub.poll_output() {
            match output {
                Output::Append(append) => {
                    for event in &append.events {
                        assert!(event.frame.len() <= EVENT_BYTES, "{} bytes", event.frame.len());
                        self.logged.push(serde_json::from_str(event.frame.as_str()).unwrap());
                    }
                    let id = append.id;
                    self.journal.append(append);
                    self.hub.handle(self.now, Input::Journal(JournalAnswer::Appended(id)));
                }
                Output::Claim { chat } => {
                    self.hub.handle(self.now, Input::Owned { chat, grant: Grant::default() })
                }
                Output::Ask(ask) => self.hub.handle(self.now, Input::Journal(self.journal.ask(ask))),
                Output::WatchDrain { conn } => self.hub.handle(self.now, Input::OutboxDrained { conn }),
                Output::StartAgent { instance, .. } => self.instance = Some(instance),
                Output::Deliver { frame, .. } => {
                    assert!(frame.len() <= EVENT_BYTES, "{} bytes: {:.80}", frame.len(), frame.as_str());
                    self.delivered.push(frame);
                }
                _ => {}
            }
        }
    }
}

/// An id of the maximum length.
fn chat() -> ChatId {
    ChatId::parse(&"c".repeat(64)).unwrap()
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table of cases")]
fn whatever_an_agent_says_comes_in_events_of_bounded_size() {
    for letter in ["x", "\u{1}", "\"", "é"] {
        let huge = || letter.repeat(300 * 1024);
        let mut world = World::new();
        let edit = |path: &str, diff: &str| FileEdit {
            call_id: "u".into(),
            tool: "Edit".into(),
            path: path.into(),
            added: 1,
            deleted: 1,
            diff: Some(diff.into()),
            diff_truncated: true,
        };
        let many = (0..20_000).map(|_| edit("a", "")).collect();
        let middling = (0..40).map(|_| edit("a", &letter.repeat(10_000))).collect();
        let input = |text: String| ToolInput {
            arguments: json!({ "a": text }),
            partial: true,
            title: Some(huge()),
            locations: vec![ToolLocation { path: huge(), line: Some(1) }; 100],
        };
        let address = || letter.repeat(2 * 1024 / 6);
        let sources = || vec![Source { url: address(), title: Some(huge()) }; 100];
        let request = |id: &str| RequestId::parse(id).unwrap();
        let ask = |id: &str, tool: String, input: String| {
            AgentEvent::Permission(PermissionAsk {
                request_id: request(id),
                tool,
                input,
                description: Some(huge()),
                call_id: Some(huge()),
            })
        };
        let question = Question {
            request_id: request("q"),
            questions: vec![QuestionItem {
                question: huge(),
                header: None,
                multi_select: false,
                options: Vec::new(),
                optional: false,
                format: None,
                min: None,
                max: None,
            }],
        };
        let cases = [
            ("delta", AgentEvent::Text { stream: "s".into(), text: huge() }),
            ("delta", AgentEvent::Text { stream: huge().into(), text: "x".into() }),
            (
                "stream_end",
                AgentEvent::TextEnd {
                    stream: huge().into(),
                    text: Some(huge()),
                    void: false,
                    sources: sources(),
                },
            ),
            ("reasoning_delta", AgentEvent::Reasoning { stream: huge().into(), text: huge() }),
            ("reasoning_end", AgentEvent::ReasoningEnd { stream: huge().into(), void: false }),
            ("delta", AgentEvent::Message { text: huge() }),
            ("message", AgentEvent::Progress { text: huge() }),
            ("tool_event", AgentEvent::ToolStarted { call_id: huge(), name: huge(), input: input(huge()) }),
            (
                "tool_event",
                AgentEvent::ToolUpdated {
                    call_id: huge(),
                    name: huge(),
                    input: Some(input(letter.repeat(100 * 1024))),
                    output: None,
                },
            ),
            (
                "tool_event",
                AgentEvent::ToolUpdated { call_id: huge(), name: huge(), input: None, output: Some(huge()) },
            ),
            (
                "task",
                AgentEvent::Task(Task {
                    task_id: huge(),
                    kind: TaskKind::Shell,
                    title: huge(),
                    status: TaskStatus::Running,
                    parent_call_id: Some(huge()),
                }),
            ),
            (
                "delta",
                AgentEvent::Subagent {
                    parent_call_id: huge(),
                    event: Box::new(AgentEvent::Text { stream: "sub".into(), text: "y".into() }),
                },
            ),
            (
                "tool_event",
                AgentEvent::ToolEnded {
                    call_id: huge(),
                    name: huge(),
                    result: Ok(huge()),
                    truncated: false,
                    media: vec![ToolMedia { media_type: huge(), bytes: 1 }; 100],
                    sources: sources(),
                },
            ),
            ("file_edit", AgentEvent::FileEdit { edits: many }),
            ("file_edit", AgentEvent::FileEdit { edits: middling }),
            ("file_edit", AgentEvent::FileEdit { edits: vec![edit(&huge(), &huge())] }),
            (
                "permission_request",
                ask("p1", "Bash".into(), json!({ "command": letter.repeat(100 * 1024) }).to_string()),
            ),
            ("notice", ask("p2", huge(), "{}".into())),
            ("notice", AgentEvent::Question(question)),
            (
                "notice",
                AgentEvent::Notice {
                    level: NoticeLevel::Info,
                    code: huge(),
                    text: huge(),
                    data: Some(json!(huge())),
                },
            ),
            (
                "turn_end",
                AgentEvent::TurnEnded {
                    outcome: Outcome::Failed,
                    error: Some(TurnError { code: huge(), detail: huge() }),
                    usage: None,
                    cost: None,
                },
            ),
        ];
        for (kind, event) in cases {
            let logged = world.event(event);
            assert!(logged.iter().any(|logged| logged == kind), "{kind} with {letter:?}: {logged:?}");
        }
        world.event(AgentEvent::Model { name: huge() });
        // The whole text is logged, in pieces.
        let said = |kind: &str| {
            let texts = world.logged.iter().filter(|event| event["event"] == kind);
            texts.map(|event| event["text"].as_str().unwrap().len()).sum::<usize>()
        };
        assert_eq!(said("delta"), 3 * huge().len() + 2, "{letter:?}");
        assert_eq!(said("reasoning_delta"), huge().len(), "{letter:?}");
        let edits = world.logged.iter().filter(|event| event["event"] == "file_edit");
        assert_eq!(edits.map(|event| event["edits"].as_array().unwrap().len()).sum::<usize>(), 20_041);
    }
}

#[test]
fn pages_of_long_deltas_are_bounded_as_well() {
    for letter in ["x", "\u{1b}"] {
        let mut world = World::new();
        for _ in 0..60 {
            world.event(AgentEvent::Text { stream: "s".into(), text: letter.repeat(10 * 1024) });
        }
        world.asks(ClientEnvelope::Attach { chat_id: chat(), after: None });
        world.asks(ClientEnvelope::History { chat_id: chat(), before: None, limit: None });
        let page = world.delivered.iter().rfind(|frame| frame.as_str().starts_with(r#"{"event":"history""#));
        assert!(page.is_some_and(|page| page.len() > 150 * 1024), "a page that is not full");
    }
}

#[test]
fn a_use_of_a_tool_with_a_long_id_is_one_use() {
    let mut world = World::new();
    let id = || "u".repeat(1000);
    world.event(AgentEvent::ToolStarted {
        call_id: id(),
        name: "Bash".into(),
        input: ToolInput::whole(json!({})),
    });
    world.event(AgentEvent::ToolEnded {
        call_id: id(),
        name: "Bash".into(),
        result: Ok("done".into()),
        truncated: false,
        media: Vec::new(),
        sources: Vec::new(),
    });
    let events = world.logged.iter().filter(|event| event["event"] == "tool_event");
    let ids: Vec<&str> = events.map(|event| event["call_id"].as_str().unwrap()).collect();
    assert!(ids.len() == 2 && ids[0] == ids[1] && ids[0].starts_with("sha256-"), "{ids:?}");
}

#[test]
fn what_a_person_writes_is_counted_as_it_is_sent() {
    let most = Limits::default().text_bytes;
    let frame = |content: String| {
        json!({ "type": "message", "chat_id": "c", "content": content, "turn_id": "t" }).to_string()
    };
    for (letter, bytes) in [("x", 1), ("\u{1}", 6), ("\n", 2), ("é", 2)] {
        let fits = format!("x{}", letter.repeat((most - 1) / bytes));
        assert!(decode(&frame(fits.clone()), &Limits::default(), false).is_ok(), "{letter:?}");
        let error = decode(&frame(format!("{fits}{letter}")), &Limits::default(), false).unwrap_err();
        assert_eq!(error.detail, "content is over the limit of 258048 bytes", "{letter:?}");
        // The message is queued behind another turn, and clients that attach later get it in other events.
        let mut world = World::new();
        world.writes(&fits);
        world.delivered.clear();
        world.asks(ClientEnvelope::Attach { chat_id: chat(), after: None });
        world.asks(ClientEnvelope::History { chat_id: chat(), before: None, limit: None });
        let has_it = |kind: &str| {
            let kind = format!(r#"{{"event":"{kind}""#);
            let large = world.delivered.iter().filter(|frame| frame.len() > most - bytes);
            large.filter(|frame| frame.as_str().starts_with(&kind)).count()
        };
        assert_eq!((has_it("snapshot"), has_it("history")), (2, 1), "in the events, and in what waits");
    }
}
