//! P9, the same everywhere: one conversation is the same over every transport, goes on over another one after a cut,
//! and is shared by clients of different ones.

use switchboard_conformance::{
    Client, Endpoint, Received, ReceivedCommand, TestGateway, Transcript, Transport, WAIT,
};
use switchboard_core::{
    Limits,
    agent::{AgentCommand, AgentEvent, PermissionAsk, StreamId, ToolInput},
    ids::{Principal, RequestId},
    wire::Outcome,
};
use tokio::time::timeout;

use crate::{memory::Memory, sse::Sse, unix::Unix, websocket::WebSocket};

const TRANSPORTS: [&dyn Transport; 4] = [&Memory, &WebSocket, &Sse, &Unix];
const CHAT: &str = "c1";
/// Pieces of the answer.
const PIECES: usize = 40;

/// A client and what it has of the chat.
struct Watcher {
    client: Box<dyn Client>,
    transcript: Transcript,
}

impl Watcher {
    async fn open(endpoint: &dyn Endpoint, name: &str) -> Self {
        let client = endpoint.open(&Principal::owner(), name).await;
        Self { client, transcript: Transcript::default() }
    }

    /// Goes on where another one was cut off.
    async fn resume(endpoint: &dyn Endpoint, transcript: Transcript) -> Self {
        let client = endpoint.open(&Principal::owner(), "again").await;
        let mut watcher = Self { client, transcript };
        let attach =
            serde_json::json!({ "type": "attach", "chat_id": CHAT, "after": watcher.transcript.cursor() });
        watcher.send(&attach.to_string()).await;
        watcher
    }

    async fn send(&mut self, frame: &str) {
        self.client.send(frame).await;
    }

    async fn message(&mut self, turn: &str) {
        let message = format!(r#"{{"type":"message","chat_id":"{CHAT}","content":"go","turn_id":"{turn}"}}"#);
        self.send(&message).await;
    }

    /// Answers the newest request.
    async fn answer(&mut self, decision: &str) {
        let request = self.transcript.asked().expect("something was asked");
        let respond = format!(
            r#"{{"type":"respond","chat_id":"{CHAT}","request_id":"{request}","decision":"{decision}"}}"#
        );
        self.send(&respond).await;
    }

    /// Reads until what it has is as wanted.
    async fn until(&mut self, what: &str, wanted: impl Fn(&Transcript) -> bool) {
        let reading = async {
            while !wanted(&self.transcript) {
                match self.client.next().await {
                    Received::Frame(frame) => self.transcript.take(&frame).unwrap(),
                    end @ (Received::Closed { .. } | Received::Gone) => panic!("{end:?} before {what}"),
                }
            }
        };
        let read = timeout(WAIT, reading).await;
        read.unwrap_or_else(|_| panic!("no {what}; there is {:#?}", self.transcript.lines()));
    }

    async fn until_event(&mut self, event: &str) {
        self.until(event, |transcript| transcript.has(event)).await;
    }
}

async fn prompted(gateway: &TestGateway) {
    loop {
        let received = gateway.agents().received(CHAT).await.expect("the agent is prompted");
        if matches!(received, ReceivedCommand::Command(AgentCommand::Prompt { .. })) {
            return;
        }
    }
}

async fn say(gateway: &TestGateway, events: Vec<AgentEvent>) {
    let taken = gateway.agents().send(CHAT, events).unwrap();
    timeout(WAIT, taken).await.expect("the gateway takes it").unwrap();
}

fn stream() -> StreamId {
    "s1".into()
}

fn piece(at: usize) -> AgentEvent {
    AgentEvent::Text { stream: stream(), text: format!("piece {at}, \"quoted\"\n") }
}

fn whole() -> String {
    (0..PIECES).map(|at| format!("piece {at}, \"quoted\"\n")).collect()
}

fn permission() -> AgentEvent {
    AgentEvent::Permission(PermissionAsk {
        request_id: RequestId::parse("r1").unwrap(),
        tool: "Bash".to_owned(),
        input: r#"{"command":"ls"}"#.to_owned(),
        description: Some("Look around".to_owned()),
        call_id: None,
    })
}

fn end() -> Vec<AgentEvent> {
    vec![
        AgentEvent::TextEnd { stream: stream(), text: None, void: false, sources: Vec::new() },
        AgentEvent::TurnEnded { outcome: Outcome::Completed, error: None, usage: None, cost: None },
    ]
}

/// Thinking, a tool that needs leave, an answer in pieces.
async fn conversation(transport: &dyn Transport) -> Vec<String> {
    let gateway = TestGateway::new(Limits::default());
    let endpoint = transport.serve(gateway.handle().clone()).await;
    let mut client = Watcher::open(&*endpoint, "client").await;
    client.message("t1").await;
    prompted(&gateway).await;
    let thought = AgentEvent::Reasoning { stream: "s0".into(), text: "Let me see.".to_owned() };
    let tool = AgentEvent::ToolStarted {
        call_id: "k1".to_owned(),
        name: "Bash".to_owned(),
        input: ToolInput::whole(serde_json::json!({ "command": "ls" })),
    };
    say(&gateway, vec![thought, AgentEvent::ReasoningEnd { stream: "s0".into(), void: false }]).await;
    say(&gateway, vec![tool, permission()]).await;
    client.until_event("permission_request").await;
    client.answer("allow").await;
    client.until_event("request_resolved").await;
    let received = gateway.agents().received(CHAT).await;
    assert!(matches!(received, Some(ReceivedCommand::Command(AgentCommand::Answer { .. }))), "{received:?}");
    let result = Ok("README.md".to_owned());
    let ended = AgentEvent::ToolEnded {
        call_id: "k1".to_owned(),
        name: "Bash".to_owned(),
        result,
        truncated: false,
        media: Vec::new(),
        sources: Vec::new(),
    };
    say(&gateway, vec![ended]).await;
    for at in 0..PIECES {
        say(&gateway, vec![piece(at)]).await;
    }
    say(&gateway, end()).await;
    client.until_event("turn_end").await;
    assert_eq!(client.transcript.text(), whole());
    client.transcript.lines()
}

#[tokio::test]
async fn a_conversation_is_the_same_over_every_transport() {
    let over_memory = conversation(&Memory).await;
    assert!(over_memory.len() > 10, "{over_memory:#?}");
    for transport in TRANSPORTS {
        assert_eq!(conversation(transport).await, over_memory, "{}", transport.name());
    }
}

/// Every pair of transports, cut at several places; what was missed while nobody watched included.
#[tokio::test]
async fn a_cut_conversation_goes_on_over_another_transport() {
    for first in TRANSPORTS {
        for second in TRANSPORTS {
            for cut in [0, 1, 17, PIECES - 1] {
                cut_and_resume(first, second, cut).await;
            }
        }
    }
}

async fn cut_and_resume(first: &dyn Transport, second: &dyn Transport, cut: usize) {
    let gateway = TestGateway::new(Limits { merge_bytes: 64, ..Limits::default() });
    let endpoints =
        (first.serve(gateway.handle().clone()).await, second.serve(gateway.handle().clone()).await);
    let mut before = Watcher::open(&*endpoints.0, "before").await;
    before.message("t1").await;
    prompted(&gateway).await;
    before.until_event("turn_started").await;
    for at in 0..cut {
        say(&gateway, vec![piece(at)]).await;
    }
    let so_far: String = whole().split_inclusive('\n').take(cut).collect();
    before.until("what was said", |transcript| transcript.text() == so_far).await;
    let Watcher { client, transcript } = before;
    client.abort().await;
    for at in cut..PIECES - 1 {
        say(&gateway, vec![piece(at)]).await;
    }
    let mut after = Watcher::resume(&*endpoints.1, transcript).await;
    say(&gateway, vec![piece(PIECES - 1)]).await;
    say(&gateway, end()).await;
    after.until_event("turn_end").await;
    let way = format!("{} to {}, cut after {cut}", first.name(), second.name());
    assert_eq!(after.transcript.text(), whole(), "{way}");
    gateway.until(|counts| counts.connections == 1).await.expect(&way);
}

/// An answer with a tool and a prompt, lost in the middle of streams again and again, each time resumed over the next
/// transport. What the client has in the end is what somebody has who was never cut off, byte for byte.
#[tokio::test]
async fn a_conversation_goes_through_all_transports_and_is_the_same() {
    let control: [[&dyn Transport; 4]; 4] = [
        [&WebSocket, &Sse, &Unix, &Memory],
        [&Sse, &Unix, &WebSocket, &Sse],
        [&Unix, &WebSocket, &Sse, &Unix],
        [&Sse, &Sse, &Memory, &WebSocket],
    ];
    let whole = lost_and_resumed(&[&Memory], 1).await;
    assert!(whole.len() > 10, "{whole:#?}");
    for transports in &control {
        // Cut at other places each time; deltas are merged as it comes.
        for every in [2, 3, 7] {
            let names: Vec<_> = transports.iter().map(|transport| transport.name()).collect();
            assert_eq!(
                lost_and_resumed(transports, every).await,
                whole,
                "{names:?}, cut after every {every}"
            );
        }
    }
}

/// The conversation as one client has it that changes its transport after every few of the agent's words.
async fn lost_and_resumed(transports: &[&dyn Transport], every: usize) -> Vec<String> {
    let gateway = TestGateway::new(Limits { merge_bytes: 64, ..Limits::default() });
    let mut endpoints = Vec::new();
    for transport in transports {
        endpoints.push(transport.serve(gateway.handle().clone()).await);
    }
    let mut client = Watcher::open(&*endpoints[0], "client").await;
    client.message("t1").await;
    prompted(&gateway).await;
    client.until_event("turn_started").await;
    let started = AgentEvent::ToolStarted {
        call_id: "k1".to_owned(),
        name: "Bash".to_owned(),
        input: ToolInput::whole(serde_json::json!({ "command": "ls" })),
    };
    let ended = AgentEvent::ToolEnded {
        call_id: "k1".to_owned(),
        name: "Bash".to_owned(),
        result: Ok("README.md".to_owned()),
        truncated: false,
        media: Vec::new(),
        sources: Vec::new(),
    };
    let mut words: Vec<AgentEvent> = (0..12)
        .map(|at| AgentEvent::Reasoning { stream: "s0".into(), text: format!("thought {at}, ") })
        .collect();
    words.push(AgentEvent::ReasoningEnd { stream: "s0".into(), void: false });
    words.extend([started, permission(), ended]);
    words.extend((0..PIECES).map(piece));
    for (at, word) in words.into_iter().enumerate() {
        let asks = matches!(word, AgentEvent::Permission(_));
        say(&gateway, vec![word]).await;
        if endpoints.len() > 1 && at % every == every - 1 {
            let Watcher { client: lost, transcript } = client;
            lost.abort().await;
            client = Watcher::resume(&*endpoints[(at / every + 1) % endpoints.len()], transcript).await;
        }
        if asks {
            client.until_event("permission_request").await;
            client.answer("allow").await;
            client.until_event("request_resolved").await;
        }
    }
    say(&gateway, end()).await;
    client.until_event("turn_end").await;
    assert_eq!(client.transcript.text(), whole());
    client.transcript.lines()
}

#[tokio::test]
async fn clients_of_two_transports_share_a_chat() {
    for first in TRANSPORTS {
        for second in TRANSPORTS {
            share(first, second).await;
        }
    }
}

async fn share(first: &dyn Transport, second: &dyn Transport) {
    let gateway = TestGateway::new(Limits::default());
    let endpoints =
        (first.serve(gateway.handle().clone()).await, second.serve(gateway.handle().clone()).await);
    let mut writer = Watcher::open(&*endpoints.0, "writer").await;
    writer.message("t1").await;
    prompted(&gateway).await;
    writer.until_event("turn_started").await;
    let mut reader = Watcher::resume(&*endpoints.1, writer.transcript.clone()).await;
    say(&gateway, vec![piece(0), permission()]).await;
    writer.until_event("permission_request").await;
    reader.until_event("permission_request").await;
    reader.answer("deny").await;
    writer.until_event("request_resolved").await;
    reader.until_event("request_resolved").await;
    say(&gateway, end()).await;
    writer.until_event("turn_end").await;
    reader.until_event("turn_end").await;
    reader.message("t2").await;
    let head = writer.transcript.head() + 2;
    writer.until("the other's turn", |transcript| transcript.head() >= head).await;
    reader.until("its own turn", |transcript| transcript.head() >= head).await;
    assert_eq!(
        writer.transcript.lines(),
        reader.transcript.lines(),
        "{} and {}",
        first.name(),
        second.name()
    );
}
