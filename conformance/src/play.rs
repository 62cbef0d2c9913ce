//! Plays one trace over a transport.

use std::collections::BTreeMap;

use switchboard_core::{
    Limits,
    ids::{ChatId, ChatKey, Principal},
};
use tokio::time::timeout;

use crate::{
    agent::ReceivedCommand,
    gateway::TestGateway,
    journal_model::How,
    trace::{Line, Names, Step},
    translate::{agent_event, agent_exit, described, expand, set_limit, show_command},
    transport::{Client, Endpoint, Received, Transport, WAIT},
};

/// Plays the lines of a trace.
///
/// # Errors
///
/// An output differs from the stated one, is missing, or is not stated; the text says which.
pub(crate) async fn play(transport: &dyn Transport, lines: &[Line]) -> Result<(), String> {
    let (mut limits, mut agent) = (Limits::default(), None);
    for line in lines {
        if let Line::Input(_, Step::Limit { name, value }) = line {
            set_limit(&mut limits, name, *value)?;
        } else if let Line::Input(_, Step::Described { agent: text }) = line {
            agent = Some(described(text)?);
        }
    }
    let mut player = Player::new(transport, TestGateway::described(limits, agent)).await;
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        at += 1;
        let Line::Input(input, step) = line else { continue };
        let stated: Vec<&str> = lines[at..]
            .iter()
            .take_while(|line| !matches!(line, Line::Input(..)))
            .filter_map(|line| if let Line::Output(stated) = line { Some(stated.as_str()) } else { None })
            .collect();
        player.step(step, &stated).await.map_err(|why| format!("{input}\n  {why}"))?;
    }
    player.nothing_is_left().await
}

/// Whether a real output agrees with the stated one. A close without an `error` frame agrees with a close with one.
fn is_stated(real: &str, stated: &str) -> bool {
    real == stated || (!real.contains('{') && stated.starts_with(&format!("{real} ")))
}

struct Player<'a> {
    transport: &'a dyn Transport,
    gateway: TestGateway,
    endpoint: Box<dyn Endpoint>,
    /// Open clients by their name in the trace; `None` for a client that has closed its connection.
    clients: BTreeMap<String, Option<Box<dyn Client>>>,
    /// The names in the trace by the `client_id` that the gateway gave to clients on transports that carry none.
    aliases: BTreeMap<String, String>,
    names: Names,
    barriers: u32,
}

impl<'a> Player<'a> {
    async fn new(transport: &'a dyn Transport, gateway: TestGateway) -> Self {
        let endpoint = transport.serve(gateway.handle().clone()).await;
        let (clients, aliases) = (BTreeMap::new(), BTreeMap::new());
        Self { transport, gateway, endpoint, clients, aliases, names: Names::default(), barriers: 0 }
    }

    async fn step(&mut self, step: &Step, stated: &[&str]) -> Result<(), String> {
        self.act(step).await?;
        let mut closed = Vec::new();
        for line in stated {
            let client = line.split([' ', '<']).next().unwrap_or_default();
            if closed.contains(&client) {
                continue;
            }
            let real = self.next_of(line).await?;
            let why = format!("{client} closed ");
            let close = stated.iter().find(|line| line.starts_with(&why)).filter(|_| real.starts_with(&why));
            // The close may have dropped frames that are stated before it.
            if !is_stated(&real, close.unwrap_or(line)) {
                return Err(format!("stated: {line}\n  real:   {real}"));
            }
            closed.extend(close.map(|_| client));
        }
        if let Step::Send { client, .. } | Step::SendBytes { client, .. } = step
            && !stated.iter().any(|line| line.starts_with(client))
        {
            self.barrier(client).await?;
        }
        self.gateway.settle().await;
        Ok(())
    }

    fn key(&self, chat: &str) -> Result<ChatKey, String> {
        let chat = ChatId::parse(&self.names.id(chat)).map_err(|e| e.to_string())?;
        Ok(ChatKey { principal: Principal::owner(), chat })
    }

    async fn act(&mut self, step: &Step) -> Result<(), String> {
        let journal = self.gateway.journal.clone();
        match step {
            // A client reads only what is stated: one that stops reading has no stated output.
            Step::Limit { .. }
            | Step::Described { .. }
            | Step::StopReading { .. }
            | Step::ReadAgain { .. } => {}
            Step::Open { client, principal } => {
                let principal = match principal {
                    Some(name) => Principal::parse(name).map_err(|e| e.to_string())?,
                    None => Principal::owner(),
                };
                let opened = self.endpoint.open(&principal, client).await;
                self.clients.insert(client.clone(), Some(opened));
            }
            Step::Send { client, frame } => {
                let frame = self.names.reveal(&expand(frame)?);
                self.client(client)?.send(&frame).await;
            }
            Step::SendBytes { client, bytes } => self.client(client)?.send_bytes(bytes).await,
            Step::Gone { client } => self.close(client).await?,
            Step::Agent { chat, events } => {
                let events = events.iter().map(agent_event).collect::<Result<_, _>>()?;
                let taken = self.gateway.agents().send(&self.names.id(chat), events)?;
                // The events are either received by the gateway, or dropped together with an agent instance that has
                // ended.
                let _ = timeout(WAIT, taken).await.map_err(|_| "the gateway does not take it")?;
            }
            Step::Exit { chat, how } => {
                self.gateway.agents().exit(&self.names.id(chat), agent_exit(how)?)?;
            }
            Step::JournalHold => journal.pause(),
            Step::JournalRelease => journal.release(),
            Step::JournalRefuse { appends } => journal.fault(How::Refuse, *appends),
            Step::JournalLose { appends } => journal.fault(How::Lose, *appends),
            Step::JournalFail { asks } => journal.fail_asks(*asks),
            Step::JournalTrim { chat, until } => {
                journal.trim(self.key(chat)?, *until);
            }
            Step::Degraded { why } => journal.degraded(why.clone()),
            Step::JournalDamage { chat } => journal.damage(self.key(chat)?),
            Step::Restart => {
                self.clients.clear();
                self.gateway.restart();
                self.endpoint = self.transport.serve(self.gateway.handle().clone()).await;
            }
            Step::Shutdown => self.gateway.handle().shut_down(),
            Step::Recover { chat } => journal.leave_unfinished(self.key(chat)?),
            // Due timers fire by themselves.
            Step::Tick { ms: 0 } => {}
            // After a journal crash, refused appends are tried again only when the trace's clock advances.
            Step::JournalCrash { .. }
            | Step::JournalGrants
            | Step::JournalGrant { .. }
            | Step::JournalRenew { .. }
            | Step::JournalFence { .. }
            | Step::JournalRevoke { .. }
            | Step::Tick { .. }
            | Step::Full { .. }
            | Step::Drain { .. }
            | Step::Stalled { .. } => {
                return Err("a transport cannot do this".to_owned());
            }
        }
        Ok(())
    }

    async fn close(&mut self, client: &str) -> Result<(), String> {
        let open = self.clients.get_mut(client).ok_or("it is not open")?;
        open.take().ok_or("it is gone")?.close().await;
        // A connection that was refused may still be counted for a moment.
        let left = self.clients.values().flatten().count();
        self.gateway.until(|counts| counts.connections <= left).await
    }

    fn client(&mut self, name: &str) -> Result<&mut Box<dyn Client>, String> {
        let open = self.clients.get_mut(name).ok_or_else(|| format!("{name} is not open"))?;
        open.as_mut().ok_or_else(|| format!("{name} is gone"))
    }

    /// The real next output of the client, agent or gateway that the stated line is about.
    async fn next_of(&mut self, stated: &str) -> Result<String, String> {
        if stated == "finished" {
            return self.gateway.finished().await.map(|()| stated.to_owned());
        }
        let mut words = stated.split([' ', '<']);
        let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if first == "agent" {
            let chat = self.names.id(second);
            let received = self.gateway.agents().received(&chat).await;
            let received =
                received.ok_or_else(|| format!("the agent receives nothing\n  stated: {stated}"))?;
            return Ok(self.describe_command(&chat, received));
        }
        let received = timeout(WAIT, self.client(first)?.next()).await;
        let received = received.map_err(|_| format!("nothing comes\n  stated: {stated}"))?;
        Ok(self.describe_received(first, received))
    }

    fn describe_command(&mut self, chat: &str, received: ReceivedCommand) -> String {
        let what = match received {
            ReceivedCommand::Start(None) => "start".to_owned(),
            ReceivedCommand::Start(Some(session)) => format!("start {session:?}"),
            ReceivedCommand::Command(command) => show_command(&mut self.names, &command),
            ReceivedCommand::Stop => "stop".to_owned(),
            ReceivedCommand::Kill => "kill".to_owned(),
            ReceivedCommand::Forget => "forget".to_owned(),
            ReceivedCommand::Paused(true) => "hold".to_owned(),
            ReceivedCommand::Paused(false) => "go on".to_owned(),
        };
        format!("agent {}< {what}", self.names.chat(chat))
    }

    fn describe_received(&mut self, name: &str, received: Received) -> String {
        match received {
            Received::Frame(frame) => {
                let frame = self.with_client_ids(name, frame);
                format!("{name}< {}", self.names.hide(&frame))
            }
            Received::Closed { code, frame: Some(frame) } => {
                format!("{name} closed {code} {}", self.names.hide(&frame))
            }
            Received::Closed { code, frame: None } => format!("{name} closed {code}"),
            Received::Gone => format!("{name} is gone"),
        }
    }

    /// Replaces the `client_id`s that the gateway has generated, as `ready` reports them, by the names in the trace.
    /// For transports that carry no `client_id`.
    fn with_client_ids(&mut self, name: &str, mut frame: String) -> String {
        if frame.starts_with(r#"{"event":"ready""#)
            && let Ok(ready) = serde_json::from_str::<serde_json::Value>(&frame)
        {
            let id = ready["client_id"].as_str().unwrap_or_default();
            self.aliases.insert(id.to_owned(), name.to_owned());
        }
        for (id, name) in self.aliases.iter().filter(|(id, name)| id != name) {
            frame = frame.replace(&format!(r#""client_id":"{id}""#), &format!(r#""client_id":"{name}""#));
        }
        frame
    }

    /// Checks with a ping that the gateway has processed all frames of this client without any unstated output.
    async fn barrier(&mut self, name: &str) -> Result<(), String> {
        self.barriers += 1;
        let nonce = format!("barrier {}", self.barriers);
        let client = self.client(name)?;
        client.send(&format!(r#"{{"type":"ping","nonce":"{nonce}"}}"#)).await;
        let received = timeout(WAIT, client.next()).await.map_err(|_| format!("{name} gets no pong"))?;
        if received == Received::Frame(format!(r#"{{"event":"pong","nonce":"{nonce}"}}"#)) {
            return Ok(());
        }
        Err(format!("not stated: {}", self.describe_received(name, received)))
    }

    async fn nothing_is_left(&mut self) -> Result<(), String> {
        let names: Vec<String> =
            self.clients.iter().filter(|(_, open)| open.is_some()).map(|(name, _)| name.clone()).collect();
        for name in names {
            if let Ok(Received::Closed { .. } | Received::Gone) =
                timeout(std::time::Duration::ZERO, self.client(&name)?.next()).await
            {
                continue;
            }
            self.barrier(&name).await.map_err(|why| format!("at the end\n  {why}"))?;
        }
        match self.gateway.agents().take_unread().into_iter().next() {
            None => Ok(()),
            Some((chat, received)) => {
                Err(format!("at the end\n  not stated: {}", self.describe_command(&chat, received)))
            }
        }
    }
}
