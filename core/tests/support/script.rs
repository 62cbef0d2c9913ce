//! Runs a trace against a bare hub with a journal in memory.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::Value;
use switchboard_conformance::{
    journal_model::{How, Request},
    trace::{Line, Names, Step},
    translate::{agent_event, agent_exit, described, expand, set_limit, show_command},
};
use switchboard_core::{
    Input, Limits,
    agent::{AgentInstanceId, AgentRecords},
    ids::{ChatId, ChatKey, ConnId, Principal},
    journal::Grant,
};

use super::world::{Observed, Outbox, World};

/// Runs the inputs among these lines. Returns the lines with the actual outputs after each input.
pub fn run(lines: &[Line]) -> Result<String, String> {
    let steps =
        || lines.iter().filter_map(|line| if let Line::Input(_, step) = line { Some(step) } else { None });
    let mut limits = Limits::default();
    for step in steps() {
        if let Step::Limit { name, value } = step {
            set_limit(&mut limits, name, *value)?;
        }
    }
    let mut script = Script::new(limits);
    let mut text = String::new();
    for line in lines {
        match line {
            Line::Remark(remark) => writeln!(text, "{remark}").expect("a String takes any text"),
            Line::Input(input, step) => {
                writeln!(text, "{input}").expect("a String takes any text");
                script.step(step).map_err(|why| format!("{why}: {input}"))?;
                for observed in std::mem::take(&mut script.world.observed) {
                    writeln!(text, "{}", script.show(observed)).expect("a String takes any text");
                }
            }
            Line::Output(_) => {}
        }
    }
    Ok(text)
}

pub struct Script {
    pub world: World,
    names: Names,
    clients: BTreeMap<String, ConnId>,
    principals: BTreeMap<ConnId, Principal>,
    paused: bool,
    /// How the next appends or questions are answered.
    faults: Vec<(How, u32)>,
    fail_asks: u32,
}

impl Script {
    pub fn new(limits: Limits) -> Self {
        let mut world = World::new(limits);
        world.journal.remembers = 16;
        Self {
            world,
            names: Names::default(),
            clients: BTreeMap::new(),
            principals: BTreeMap::new(),
            paused: false,
            faults: Vec::new(),
            fail_asks: 0,
        }
    }

    #[allow(clippy::too_many_lines, reason = "a case for each kind")]
    pub fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Limit { .. } => {}
            Step::Described { agent } => self.world.describe(Some(described(agent)?)),
            Step::Open { client, principal } => {
                let principal = match principal {
                    Some(name) => Principal::parse(name).map_err(|e| e.to_string())?,
                    None => Principal::owner(),
                };
                let conn = self.world.open(principal.clone(), client);
                self.clients.insert(client.clone(), conn);
                self.principals.insert(conn, principal);
            }
            Step::Send { client, frame } => {
                let conn = self.conn(client)?;
                let frame = self.names.reveal(&expand(frame)?);
                self.world.frame(conn, &frame);
            }
            Step::SendBytes { client, bytes } => {
                let conn = self.conn(client)?;
                self.world.bytes(conn, bytes);
            }
            Step::Gone { client } => {
                let conn = self.conn(client)?;
                self.world.gone(conn);
            }
            Step::Full { client } | Step::StopReading { client } => self.outbox(client)?.stuck = true,
            Step::Drain { client } | Step::ReadAgain { client } => {
                let outbox = self.outbox(client)?;
                (outbox.stuck, outbox.full_after) = (false, None);
            }
            Step::Stalled { client } => {
                let conn = self.conn(client)?;
                self.world.step(Input::ReaderStalled { conn });
            }
            Step::Agent { chat, events } => {
                let events = events.iter().map(agent_event).collect::<Result<_, _>>()?;
                let instance = self.run_of(chat)?;
                let link = self.world.agents.get_mut(&instance).ok_or("the chat has no agent")?;
                link.position += 1;
                let (chat, position) = (link.chat.clone(), link.position);
                let records = AgentRecords { position, events, checkpoint: None };
                self.world.step(Input::AgentRecords { chat, instance, records });
            }
            Step::Exit { chat, how } => {
                let instance = self.run_of(chat)?;
                let link = self.world.agents.remove(&instance).ok_or("the chat has no agent")?;
                let exit = agent_exit(how)?;
                self.world.step(Input::AgentExited { chat: link.chat, instance, exit });
            }
            Step::Tick { ms } => {
                let mut world = std::mem::replace(&mut self.world, World::new(Limits::default()));
                world.advance(*ms, |world| self.settle(world));
                self.world = world;
            }
            Step::JournalHold => self.paused = true,
            Step::JournalRelease => self.paused = false,
            Step::JournalRefuse { appends } => self.faults.push((How::Refuse, *appends)),
            Step::JournalLose { appends } => self.faults.push((How::Lose, *appends)),
            Step::JournalCrash { appends } => self.world.journal.crash(*appends as usize),
            Step::JournalFail { asks } => self.fail_asks += asks,
            Step::JournalTrim { chat, until } => {
                let chat = self.find(chat)?;
                self.world.journal.trimmed.insert(chat, *until);
            }
            Step::JournalDamage { chat } => {
                let chat = self.find(chat)?;
                self.world.journal.damaged.insert(chat);
            }
            Step::JournalGrants => (self.world.grants, self.world.agents_survive) = (true, true),
            Step::JournalGrant { chat, ms } => {
                let chat = self.find(chat)?;
                let term = self.world.journal.memory.claim(&chat);
                let until_ms = ms.map(|ms| self.world.now.boot_ms + ms);
                self.world.step(Input::Owned { chat, grant: Grant { term, until_ms } });
            }
            Step::JournalRenew { chat, ms } => {
                let chat = self.find(chat)?;
                let term = self.world.journal.memory.term(&chat);
                let until_ms = Some(self.world.now.boot_ms + ms);
                self.world.step(Input::Owned { chat, grant: Grant { term, until_ms } });
            }
            Step::JournalFence { chat } => {
                let chat = self.find(chat)?;
                self.world.journal.memory.claim(&chat);
            }
            Step::JournalRevoke { chat } => {
                let chat = self.find(chat)?;
                self.world.step(Input::Lost { chat });
            }
            Step::Degraded { why } => self.world.step(Input::Degraded { why: why.clone() }),
            Step::Recover { chat } => {
                let chat = self.find(chat)?;
                self.world.step(Input::Recover { chat });
            }
            Step::Restart => self.world.restart(self.world.hub.limits().clone()),
            Step::Shutdown => self.world.step(Input::Shutdown),
        }
        let mut world = std::mem::replace(&mut self.world, World::new(Limits::default()));
        self.settle(&mut world);
        self.world = world;
        Ok(())
    }

    /// The frames that were sent since the last call: the client, and its frame.
    pub fn take_frames(&mut self) -> Vec<(String, Value)> {
        let observed = std::mem::take(&mut self.world.observed);
        let frames = observed.into_iter().filter_map(|observed| {
            if let Observed::Frame { conn, frame } = observed { Some((conn, frame)) } else { None }
        });
        frames
            .map(|(conn, frame)| {
                (self.client(conn), serde_json::from_str(frame.as_str()).expect("frames are JSON"))
            })
            .collect()
    }

    /// The client's outbox accepts `events` more events, then none until it is drained.
    pub fn full_after(&mut self, client: &str, events: usize) {
        self.outbox(client).expect("it is open").full_after = Some(events);
    }

    /// The journal commits `place` appends, then answers the next `appends` ones like this.
    pub fn fault_at(&mut self, place: u64, how: How, appends: u32) {
        if let Some(before) = u32::try_from(place).ok().filter(|before| *before > 0) {
            self.faults.push((How::Keep, before));
        }
        self.faults.push((how, appends));
    }

    /// Whether the chat has an agent.
    pub fn has_agent(&self, chat: &str) -> bool {
        self.run_of(chat).is_ok()
    }

    /// The key of one of the owner's chats.
    pub fn key(&self, chat: &str) -> ChatKey {
        self.find(chat).expect("a chat id")
    }

    /// Lets the journal answer and the outboxes drain until the hub has no further outputs.
    fn settle(&mut self, world: &mut World) {
        for round in 0.. {
            assert!(round < 10_000, "the hub does not come to rest");
            // A client reads at once what its outbox has accepted.
            for outbox in world.outboxes.values_mut() {
                while outbox.read().is_some() {}
            }
            if !self.paused && !world.journal.waiting.is_empty() {
                let how = self.how(&world.journal.waiting[0]);
                world.answer(0, how);
                continue;
            }
            let conns: Vec<ConnId> = world.outboxes.keys().copied().collect();
            if !conns.into_iter().any(|conn| world.report_drain(conn)) {
                return;
            }
        }
    }

    fn how(&mut self, request: &Request) -> How {
        match request {
            Request::Ask(_) if self.fail_asks > 0 => {
                self.fail_asks -= 1;
                How::Refuse
            }
            Request::Ask(_) => How::Keep,
            Request::Append(_) => {
                let Some((how, left)) = self.faults.first_mut() else { return How::Keep };
                let how = *how;
                *left -= 1;
                if *left == 0 {
                    self.faults.remove(0);
                }
                how
            }
        }
    }

    fn show(&mut self, observed: Observed) -> String {
        match observed {
            Observed::Frame { conn, frame } => {
                format!("{}< {}", self.client(conn), self.names.hide(frame.as_str()))
            }
            Observed::Closed { conn, code, frame } => {
                format!("{} closed {code} {}", self.client(conn), self.names.hide(frame.as_str()))
            }
            Observed::Start { chat, session, .. } => {
                let session = session.map(|token| format!(" {token:?}")).unwrap_or_default();
                format!("agent {}< start{session}", self.names.chat(chat.chat.as_str()))
            }
            Observed::Command { chat, command } => {
                let chat = self.names.chat(chat.chat.as_str());
                let command = show_command(&mut self.names, &command);
                format!("agent {chat}< {command}")
            }
            Observed::Pause { chat, paused } => {
                let what = if paused { "hold" } else { "go on" };
                format!("agent {}< {what}", self.names.chat(chat.chat.as_str()))
            }
            Observed::Leave { chat } => format!("agent {}< leave", self.names.chat(chat.chat.as_str())),
            Observed::Claim { chat } => format!("journal< claim {}", self.names.chat(chat.chat.as_str())),
            Observed::Release { chat } => format!("journal< release {}", self.names.chat(chat.chat.as_str())),
            Observed::Forget { chat } => format!("agent {}< forget", self.names.chat(chat.chat.as_str())),
            Observed::Stop { chat, kill } => {
                let what = if kill { "kill" } else { "stop" };
                format!("agent {}< {what}", self.names.chat(chat.chat.as_str()))
            }
            Observed::Finished => "finished".to_owned(),
        }
    }

    fn client(&self, conn: ConnId) -> String {
        let found = self.clients.iter().find(|(_, c)| **c == conn);
        found.map_or_else(|| format!("{conn}"), |(name, _)| name.clone())
    }

    fn conn(&self, client: &str) -> Result<ConnId, String> {
        self.clients.get(client).copied().ok_or_else(|| format!("{client} is not open"))
    }

    fn outbox(&mut self, client: &str) -> Result<&mut Outbox, String> {
        let conn = self.conn(client)?;
        self.world.outboxes.get_mut(&conn).ok_or_else(|| format!("{client} is gone"))
    }

    fn run_of(&self, chat: &str) -> Result<AgentInstanceId, String> {
        let id = self.names.id(chat);
        let found = self.world.agents.iter().find(|(_, agent)| agent.chat.chat.as_str() == id);
        found.map(|(instance, _)| *instance).ok_or_else(|| "the chat has no agent".to_owned())
    }

    fn find(&self, chat: &str) -> Result<ChatKey, String> {
        let chat = ChatId::parse(&self.names.id(chat)).map_err(|e| e.to_string())?;
        Ok(ChatKey { principal: Principal::owner(), chat })
    }
}
