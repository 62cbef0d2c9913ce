//! The loop with real tasks: what one of them does must not reach the others.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::{Value, json};
use switchboard_core::{
    Limits, Peer,
    agent::{AgentCommand, AgentEvent, AgentExit, AgentRecords, PermissionAsk, StreamId},
    ids::{Principal, RequestId},
    wire::{Frame, Outcome},
};
use switchboard_runtime::{
    Agent, AgentContext, AgentControl, Connection, Gateway, Memory, Running, WriterStep,
};
use tokio::time::timeout;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Does what the prompt says: `panic`, `hang`, `flood N`, or else says it back.
struct Obedient;

#[async_trait]
impl Agent for Obedient {
    fn name(&self) -> &str {
        "obedient"
    }

    async fn run(&self, mut context: AgentContext) -> AgentExit {
        let mut position = 0;
        loop {
            let (text, cancelled) = match context.control.next().await {
                AgentControl::Command(AgentCommand::Prompt { text, .. }) => (text, false),
                AgentControl::Command(AgentCommand::Cancel { .. }) => (String::new(), true),
                AgentControl::Command(AgentCommand::Answer { .. }) => continue,
                AgentControl::Stop | AgentControl::Kill => return AgentExit::Stopped,
            };
            assert_ne!(text, "panic", "as it was told");
            if text == "hang" {
                continue;
            }
            let stream: StreamId = format!("s{position}").into();
            let flood = text.strip_prefix("flood ").and_then(|count| count.parse().ok()).unwrap_or(0_u32);
            for number in 0..flood {
                position += 1;
                let piece = AgentEvent::Text { stream: stream.clone(), text: format!("{number:1000} ") };
                if say(&context, position, vec![piece]).await.is_err() {
                    return AgentExit::Stopped;
                }
            }
            let outcome = if cancelled { Outcome::Cancelled } else { Outcome::Completed };
            position += 1;
            let last = vec![
                AgentEvent::Text { stream: stream.clone(), text },
                AgentEvent::TextEnd { stream, text: None, void: false, sources: Vec::new() },
                AgentEvent::TurnEnded { outcome, error: None, usage: None, cost: None },
            ];
            if say(&context, position, last).await.is_err() {
                return AgentExit::Stopped;
            }
        }
    }
}

async fn say(context: &AgentContext, position: u64, events: Vec<AgentEvent>) -> Result<(), ()> {
    context.records.send(AgentRecords { position, events, checkpoint: None }).await.map_err(|_| ())
}

fn start(limits: Limits) -> (Gateway, Running) {
    Gateway::start(limits, [7; 32], Memory::new(), Arc::new(Obedient))
}

struct Client {
    connection: Connection,
    read: Vec<Frame>,
}

impl Client {
    fn new(gateway: &Gateway) -> Self {
        let peer = Peer { principal: Principal::owner(), client_id: None };
        Self { connection: gateway.connect(peer, false).unwrap(), read: Vec::new() }
    }

    async fn send(&self, frame: Value) {
        self.connection.inbox.text(&frame.to_string()).await.unwrap();
    }

    async fn say(&self, chat: &str, text: &str) {
        self.send(json!({"type": "message", "chat_id": chat, "content": text})).await;
    }

    /// The next frame, or the code with which the connection is closed.
    async fn next(&mut self) -> Result<Value, u16> {
        while self.read.is_empty() {
            let mut batch = Vec::new();
            match timeout(PATIENCE, self.connection.outbox.next(&mut batch)).await.expect("something comes") {
                WriterStep::Frames => self.connection.outbox.written(),
                WriterStep::Close(close) => return Err(close.code.number()),
            }
            self.read = batch;
        }
        Ok(serde_json::from_str(self.read.remove(0).as_str()).unwrap())
    }

    async fn until(&mut self, event: &str) -> Value {
        loop {
            let frame = self.next().await.expect("the connection lives");
            if frame["event"] == event {
                return frame;
            }
        }
    }
}

/// Says one thing with a checkpoint and one without, then what it was told is kept.
struct Careful;

#[async_trait]
impl Agent for Careful {
    fn name(&self) -> &str {
        "careful"
    }

    async fn run(&self, mut context: AgentContext) -> AgentExit {
        let AgentControl::Command(AgentCommand::Prompt { .. }) = context.control.next().await else {
            return AgentExit::Stopped;
        };
        assert_eq!(*context.committed.borrow(), 0, "nothing was said");
        let text = |text: &str| AgentEvent::Text { stream: "s".into(), text: text.into() };
        let checkpoint = Some(vec![1].into());
        let first = AgentRecords { position: 5, events: vec![text("one ")], checkpoint };
        context.records.send(first).await.unwrap();
        say(&context, 7, vec![text("two ")]).await.unwrap();
        context.committed.changed().await.unwrap();
        let kept = *context.committed.borrow();
        let ended =
            AgentEvent::TurnEnded { outcome: Outcome::Completed, error: None, usage: None, cost: None };
        say(&context, 9, vec![text(&format!("kept {kept}")), ended]).await.unwrap();
        while matches!(context.control.next().await, AgentControl::Command(_)) {}
        AgentExit::Stopped
    }
}

#[tokio::test]
async fn an_agent_is_told_how_far_its_records_are_kept() {
    let (gateway, running) = Gateway::start(limits(), [7; 32], Memory::new(), Arc::new(Careful));
    let mut client = Client::new(&gateway);
    client.say("c", "go").await;
    let mut said = String::new();
    while !said.contains("kept") {
        said += client.until("delta").await["text"].as_str().unwrap();
    }
    assert!(said.ends_with("kept 5"), "up to the checkpoint: {said}");
    gateway.shut_down();
    drop(client);
    timeout(PATIENCE, running.finished()).await.unwrap();
}

fn limits() -> Limits {
    Limits { messages_per_minute: None, new_chats_per_minute: None, ..Limits::default() }
}

#[tokio::test]
async fn a_panicking_agent_ends_its_turn_and_nothing_else() {
    let (gateway, _running) = start(limits());
    let mut client = Client::new(&gateway);
    client.say("other", "hang").await;
    client.until("turn_started").await;
    client.say("chat", "panic").await;
    let end = client.until("turn_end").await;
    assert_eq!((&end["chat_id"], &end["outcome"]), (&json!("chat"), &json!("interrupted")));
    assert_eq!(end["error"]["code"], "agent_crashed");
    client.say("chat", "again").await;
    assert_eq!(client.until("turn_end").await["outcome"], "completed");
    client.send(json!({"type": "cancel", "chat_id": "other"})).await;
    let end = client.until("turn_end").await;
    assert_eq!((&end["chat_id"], &end["outcome"]), (&json!("other"), &json!("cancelled")));
}

#[tokio::test]
async fn a_client_that_does_not_read_delays_nobody_and_is_closed() {
    let (gateway, _running) = start(Limits { reader_stall_ms: 300, ..limits() });
    let mut sleeper = Client::new(&gateway);
    sleeper.say("chat", "hello").await;
    sleeper.until("turn_end").await;
    let mut reader = Client::new(&gateway);
    reader.send(json!({"type": "attach", "chat_id": "chat"})).await;
    reader.until("replay_end").await;
    // Much more than an outbox and a ring hold.
    reader.say("chat", "flood 3000").await;
    let mut expected = reader.until("message_accepted").await["seq"].as_u64().unwrap();
    loop {
        let frame = reader.next().await.expect("who reads is served");
        if let Some(seq) = frame["seq"].as_u64() {
            assert_eq!(frame["first_seq"].as_u64().unwrap_or(seq), expected + 1);
            expected = seq;
        }
        if frame["event"] == "turn_end" {
            break;
        }
    }
    // What waits for the sleeper is bounded, and it is told why it is closed.
    let mut taken = 0;
    let code = loop {
        match sleeper.next().await {
            Ok(_) => taken += 1,
            Err(code) => break code,
        }
        if taken == 1 {
            // It begins to read only once it was given up.
            timeout(PATIENCE, sleeper.connection.outbox.closed()).await.unwrap();
        }
    };
    assert_eq!(code, 4408);
}

#[tokio::test]
async fn a_shutdown_ends_turns_says_so_and_comes_to_an_end() {
    let (gateway, running) = start(limits());
    let mut client = Client::new(&gateway);
    client.say("chat", "hang").await;
    client.until("turn_started").await;
    gateway.shut_down();
    let end = client.until("turn_end").await;
    assert_eq!((&end["outcome"], &end["error"]["code"]), (&json!("interrupted"), &json!("gateway_stopped")));
    let code = loop {
        if let Err(code) = client.next().await {
            break code;
        }
    };
    assert_eq!(code, 1012);
    drop(client);
    timeout(PATIENCE, running.finished()).await.expect("it ends");
    let peer = Peer { principal: Principal::owner(), client_id: None };
    assert!(gateway.connect(peer, false).is_err());
}

#[tokio::test]
async fn a_connection_that_is_dropped_frees_its_place() {
    let (gateway, _running) = start(Limits { connections_per_principal: Some(2), ..limits() });
    for _ in 0..10 {
        let (mut one, mut two) = (Client::new(&gateway), Client::new(&gateway));
        one.until("ready").await;
        two.until("ready").await;
        let mut three = Client::new(&gateway);
        assert_eq!(three.next().await, Err(1013));
    }
}

/// Hears no order in the chat `deaf`, after it has asked as many permissions as it is to; obeys in the others.
struct Deaf {
    asks: u64,
}

#[async_trait]
impl Agent for Deaf {
    fn name(&self) -> &str {
        "deaf"
    }

    async fn run(&self, context: AgentContext) -> AgentExit {
        if context.chat.chat.as_str() != "deaf" {
            return Obedient.run(context).await;
        }
        for number in 1..=self.asks {
            let ask = AgentEvent::Permission(asked(number));
            say(&context, number, vec![ask]).await.unwrap();
        }
        std::future::pending().await
    }
}

fn asked(number: u64) -> PermissionAsk {
    PermissionAsk {
        request_id: RequestId::parse(&format!("r{number}")).unwrap(),
        tool: "Bash".to_owned(),
        input: "{}".to_owned(),
        description: None,
        call_id: None,
    }
}

fn with_one_place() -> Limits {
    Limits { agents: 1, cancel_grace_ms: 20, frames_per_second: 10_000, frames_burst: 10_000, ..limits() }
}

#[tokio::test]
async fn an_agent_that_ignores_its_orders_is_aborted_and_frees_its_place() {
    let deaf = Arc::new(Deaf { asks: 0 });
    let (gateway, running) = Gateway::start(with_one_place(), [7; 32], Memory::new(), deaf.clone());
    let mut client = Client::new(&gateway);
    client.say("deaf", "hello").await;
    client.until("turn_started").await;
    client.say("other", "waits for the only place").await;
    client.send(json!({"type": "cancel", "chat_id": "deaf"})).await;
    let end = client.until("turn_end").await;
    assert_eq!((&end["chat_id"], &end["outcome"]), (&json!("deaf"), &json!("cancelled")));
    let end = client.until("turn_end").await;
    assert_eq!((&end["chat_id"], &end["outcome"]), (&json!("other"), &json!("completed")));
    gateway.shut_down();
    drop(client);
    timeout(PATIENCE, running.finished()).await.unwrap();
}

#[tokio::test]
async fn an_agent_that_takes_none_of_its_commands_is_ended_when_no_more_of_them_can_wait() {
    let deaf = Arc::new(Deaf { asks: 200 });
    let limits = Limits { open_requests: 1_000, ..with_one_place() };
    let (gateway, _running) = Gateway::start(limits, [7; 32], Memory::new(), deaf);
    let mut client = Client::new(&gateway);
    client.say("deaf", "hello").await;
    let mut requests = Vec::new();
    for _ in 0..200 {
        requests.push(client.until("permission_request").await["request_id"].clone());
    }
    for request in requests {
        client
            .send(json!({"type": "respond", "chat_id": "deaf", "request_id": request, "decision": "allow"}))
            .await;
    }
    let end = client.until("turn_end").await;
    assert_eq!((&end["outcome"], &end["error"]["code"]), (&json!("interrupted"), &json!("agent_stopped")));
    client.say("other", "now there is a place").await;
    assert_eq!(client.until("turn_end").await["outcome"], "completed");
}
