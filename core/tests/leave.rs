//! A gateway that ends and leaves its turns to the next gateway.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test says what it expects, and no more"
)]

use serde_json::{Value, json};
use switchboard_core::{
    Hub, Input, Limits, Moment, Output, Peer,
    agent::{AgentEvent, AgentExit, AgentInstanceId, AgentRecords, ToolInput},
    ids::{ChatId, ChatKey, ConnId, Principal},
    journal::{Ask, AskId, Found, Grant, JournalAnswer, MemoryJournal, PageStart, Query},
    wire::{ClientEnvelope, CloseCode, Message, TurnError},
};

const NOW: Moment = Moment { ticks_ms: 0, boot_ms: 0, unix_ms: 1_700_000_000_000 };
const CONN: ConnId = ConnId(1);

/// A hub and its journal, which answers at once.
struct World {
    hub: Hub,
    journal: MemoryJournal,
}

impl World {
    /// Returns the outputs other than appends and questions.
    fn step(&mut self, input: Input) -> Vec<Output> {
        self.hub.handle(NOW, input);
        let mut others = Vec::new();
        while let Some(output) = self.hub.poll_output() {
            match output {
                Output::Append(append) => self.hub.handle(NOW, Input::Journal(self.journal.append(append))),
                Output::Claim { chat } => {
                    self.hub.handle(NOW, Input::Owned { chat, grant: Grant::default() })
                }
                Output::Ask(ask) => self.hub.handle(NOW, Input::Journal(self.journal.ask(ask))),
                other => others.push(other),
            }
        }
        others
    }

    /// The newest page of the log.
    fn log(&mut self) -> Vec<Value> {
        let query =
            Query::Before { chat: key(), before: PageStart::At(u64::MAX), events: 100, bytes: 100_000 };
        let found = self.journal.ask(Ask { id: AskId(0), query });
        let JournalAnswer::Found(_, Found::Before(Some(page))) = found else { panic!("{found:?}") };
        page.events.iter().map(|frame| serde_json::from_str(frame.as_str()).unwrap()).collect()
    }

    fn records(&mut self, instance: AgentInstanceId, position: u64, text: &str) -> Vec<Output> {
        let events = vec![AgentEvent::Text { stream: "s".into(), text: text.into() }];
        let records = AgentRecords { position, events, checkpoint: None };
        self.step(Input::AgentRecords { chat: key(), instance, records })
    }
}

fn key() -> ChatKey {
    ChatKey { principal: Principal::owner(), chat: ChatId::parse("c").unwrap() }
}

fn shows(outputs: &[Output], text: &str) -> bool {
    outputs.iter().any(|output| match output {
        Output::Deliver { frame, .. } => frame.as_str().contains(text),
        Output::Offer { events, .. } => events.iter().any(|event| event.frame.as_str().contains(text)),
        _ => false,
    })
}

/// A hub with a running turn, and the agent that has the prompt.
fn in_a_turn() -> (World, AgentInstanceId) {
    let hub = Hub::new(Limits::default(), [7; 32], NOW);
    let mut world = World { hub, journal: MemoryJournal::default() };
    world.step(Input::Opened { conn: CONN, peer: Peer { principal: Principal::owner(), client_id: None } });
    let message = Message { chat_id: key().chat, content: "hi".into(), turn_id: None };
    let envelope = ClientEnvelope::Message(message);
    let started = world.step(Input::Envelope { conn: CONN, envelope });
    let instance = started.iter().find_map(|output| match output {
        Output::StartAgent { instance, .. } => Some(*instance),
        _ => None,
    });
    (world, instance.unwrap())
}

#[test]
fn streams_that_are_open_when_a_gateway_dies_are_ended_with_the_turn() {
    let (mut world, instance) = in_a_turn();
    world.records(instance, 1, "one");
    let think = |text: &str| AgentEvent::Reasoning { stream: "r".into(), text: text.into() };
    let tool = |id: &str| AgentEvent::ToolStarted {
        call_id: id.into(),
        name: "Bash".into(),
        input: ToolInput::whole(json!({})),
    };
    let ended = AgentEvent::TextEnd { stream: "other".into(), text: None, void: false, sources: Vec::new() };
    let other = AgentEvent::Text { stream: "other".into(), text: "said".into() };
    let events = vec![think("hm"), other, ended, tool("t")];
    let records = AgentRecords { position: 2, events, checkpoint: None };
    world.step(Input::AgentRecords { chat: key(), instance, records });

    // The gateway is killed. The next gateway learns that the agent is dead.
    let mut next = World { hub: Hub::new(Limits::default(), [8; 32], NOW), journal: world.journal };
    next.step(Input::Recover { chat: key() });
    let record = next.journal.ask(Ask { id: AskId(0), query: Query::Chat { chat: key(), term: None } });
    let JournalAnswer::Found(_, Found::Chat(Some(record))) = record else { panic!("{record:?}") };
    assert_eq!(record.open_work.tools.iter().map(|tool| tool.call_id.as_str()).collect::<Vec<_>>(), ["t"]);
    let error = TurnError { code: "agent_exited".into(), detail: "it died".into() };
    next.step(Input::AgentExited { chat: key(), instance, exit: AgentExit::Gone(error) });
    let kinds: Vec<String> = next
        .log()
        .iter()
        .map(|event| {
            format!("{} {}", event["event"].as_str().unwrap(), event["stream_id"].as_str().unwrap_or(""))
        })
        .collect();
    let ends = ["reasoning_end r", "stream_end s", "tool_event ", "message ", "turn_end "];
    assert_eq!(&kinds[kinds.len() - 5..], ends, "{kinds:?}");
    let record = next.journal.ask(Ask { id: AskId(0), query: Query::Chat { chat: key(), term: None } });
    let JournalAnswer::Found(_, Found::Chat(Some(record))) = record else { panic!("{record:?}") };
    assert!(record.open_work.is_empty(), "{record:?}");
}

#[test]
fn a_gateway_that_leaves_ends_no_turn_and_the_next_one_gets_later_records() {
    let (mut world, instance) = in_a_turn();
    assert!(shows(&world.records(instance, 1, "one"), "one"));

    let left = world.step(Input::Leave);
    assert!(left.iter().any(
        |output| matches!(output, Output::HangUp { close, .. } if close.code == CloseCode::ServiceRestart)
    ));
    assert!(!left.iter().any(|output| matches!(output, Output::StopAgent { .. })), "the agent goes on");
    assert!(!shows(&left, "turn_end"));
    // Nothing more is logged, so that the next gateway reads the records from the same position on.
    assert_eq!(world.records(instance, 2, "two").len(), 0);
    let exit = AgentExit::Stopped;
    assert_eq!(world.step(Input::AgentExited { chat: key(), instance, exit }).len(), 0);
    assert!(matches!(world.step(Input::Gone { conn: CONN })[..], [Output::Release { .. }, Output::Finished]));

    let hub = Hub::new(Limits::default(), [8; 32], NOW);
    let mut next = World { hub, journal: world.journal };
    let adopted = next.step(Input::Recover { chat: key() });
    assert!(
        matches!(&adopted[..], [Output::AdoptAgent { agent, .. }, Output::Command { instance: to, .. }]
            if (agent.instance, agent.position, *to) == (instance, 1, instance)),
        "{adopted:?}"
    );
    next.records(instance, 2, "two");
    let last = next.log().pop().unwrap();
    assert_eq!(last["text"], "onetwo", "the log goes on where it ended");
}
