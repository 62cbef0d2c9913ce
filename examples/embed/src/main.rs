//! A program with a gateway in it. Its agent is a value in this process: it counts, asks before it counts far, and
//! stops when it is told to.
#![allow(clippy::print_stdout, reason = "it says where it listens")]

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use switchboard_core::{
    Limits,
    agent::{AgentCommand, AgentEvent, AgentExit, AgentRecords, PermissionAsk, StreamId},
    ids::{RequestId, TurnId},
    wire::{Answer, Outcome},
};
use switchboard_runtime::{
    Agent, AgentContext, AgentControl, ControlReceiver, Gateway, GatewayGone, Memory, Records, entropy,
};
use switchboard_transport_unix::{Listener, Options, serve};
use tokio::time::sleep;

/// Beyond this it asks.
const FAR: u32 = 20;

/// Counts as far as a message says.
struct Counter;

#[async_trait]
impl Agent for Counter {
    fn name(&self) -> &str {
        "counter"
    }

    /// An agent instance works for one chat. It gets one prompt at a time, and must end each with a `TurnEnded`.
    async fn run(&self, context: AgentContext) -> AgentExit {
        let mut instance = Instance { control: context.control, records: context.records, position: 0 };
        loop {
            match instance.control.next().await {
                AgentControl::Command(AgentCommand::Prompt { text, turn_id, .. }) => {
                    if let Err(Over) = instance.turn(&turn_id, &text).await {
                        return AgentExit::Stopped;
                    }
                }
                // A cancel or an answer that came after its turn had ended.
                AgentControl::Command(AgentCommand::Cancel { .. } | AgentCommand::Answer { .. }) => {}
                AgentControl::Stop | AgentControl::Kill => return AgentExit::Stopped,
            }
        }
    }
}

struct Instance {
    control: ControlReceiver,
    records: Records,
    position: u64,
}

/// The agent was told to stop, or there is nobody any more to hear it.
struct Over;

impl From<GatewayGone> for Over {
    fn from(_: GatewayGone) -> Self {
        Self
    }
}

impl Instance {
    async fn turn(&mut self, turn_id: &TurnId, text: &str) -> Result<(), Over> {
        let far = text.split(' ').find_map(|word| word.parse().ok()).unwrap_or(3);
        if far > FAR && !self.may(turn_id, far).await? {
            self.say(AgentEvent::Message { text: "Then I do not count.".to_owned() }).await?;
            return self.end(Outcome::Completed).await;
        }
        let stream: StreamId = "count".into();
        for number in 1..=far {
            tokio::select! {
                biased;
                order = self.control.next() => match order {
                    AgentControl::Command(AgentCommand::Cancel { .. }) => return self.end(Outcome::Cancelled).await,
                    AgentControl::Command(AgentCommand::Prompt { .. } | AgentCommand::Answer { .. }) => {}
                    AgentControl::Stop | AgentControl::Kill => return Err(Over),
                },
                // Stands for the work.
                () = sleep(Duration::from_millis(10)) => {}
            }
            self.say(AgentEvent::Text { stream: stream.clone(), text: format!("{number} ") }).await?;
        }
        self.say(AgentEvent::TextEnd { stream, text: None, void: false, sources: Vec::new() }).await?;
        self.end(Outcome::Completed).await
    }

    /// Asks the people who watch this chat. The request stays open, also over lost connections, until one answers.
    async fn may(&mut self, turn_id: &TurnId, far: u32) -> Result<bool, Over> {
        // This program's own name for it; clients see an id that the gateway makes.
        let request_id = RequestId::parse(&format!("far-{}", self.position)).map_err(|_| Over)?;
        let request = PermissionAsk {
            request_id: request_id.clone(),
            tool: "Count".to_owned(),
            input: far.to_string(),
            description: Some(format!("Count to {far}")),
            call_id: None,
        };
        self.say(AgentEvent::Permission(request)).await?;
        loop {
            match self.control.next().await {
                AgentControl::Command(AgentCommand::Answer { request_id: answered, answer, .. }) => {
                    if answered == request_id {
                        return Ok(matches!(answer, Answer::Allow { .. }));
                    }
                }
                AgentControl::Command(AgentCommand::Cancel { turn_id: cancelled, .. }) => {
                    if cancelled == *turn_id {
                        return Ok(false);
                    }
                }
                AgentControl::Command(AgentCommand::Prompt { .. }) => {}
                AgentControl::Stop | AgentControl::Kill => return Err(Over),
            }
        }
    }

    async fn end(&mut self, outcome: Outcome) -> Result<(), Over> {
        self.say(AgentEvent::TurnEnded { outcome, error: None, usage: None, cost: None }).await
    }

    /// Waits while the clients of this chat cannot follow: the agent is slowed down, not the memory filled.
    async fn say(&mut self, event: AgentEvent) -> Result<(), Over> {
        self.position += 1;
        let records = AgentRecords { position: self.position, events: vec![event], checkpoint: None };
        Ok(self.records.send(records).await?)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: switchboard-example-embed PATH")?;
    // `Memory` forgets with the process; the feature `sqlite` of the runtime has a journal that does not.
    let (gateway, running) = Gateway::start(Limits::default(), entropy()?, Memory::new(), Arc::new(Counter));
    let listener = Listener::bind(path)?;
    println!("listening at {}", listener.path().display());
    tokio::select! {
        served = serve(&listener, gateway.clone(), Options::default()) => served?,
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    gateway.shut_down();
    running.finished().await;
    listener.remove();
    Ok(())
}
