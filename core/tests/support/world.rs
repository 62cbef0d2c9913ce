//! The world around a bare hub: clock, outboxes, agents, journal. It carries out the outputs; what happens is decided by
//! the test.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use switchboard_conformance::journal_model::{How, Journal, Request};
use switchboard_core::{
    Hub, Input, Limits, Moment, Offered, Output, Peer, Recipients,
    agent::{AgentCommand, AgentExit, AgentInstanceId},
    ids::{ChatId, ChatKey, ConnId, Principal, TurnId},
    journal::{Grant, JournalAnswer, RecordedAgent, Term},
    wire::{AgentState, ClientEnvelope, DecodeError, Frame, TurnError, decode, decode_binary},
};

/// A connection's outbox, which behaves as the hub's contract says.
#[derive(Debug)]
pub struct Outbox {
    pub queue: VecDeque<Frame>,
    pub bytes: usize,
    pub limit: usize,
    pub refusing: bool,
    pub watched: bool,
    /// Accepts nothing until the test says so.
    pub stuck: bool,
    /// Accepts this many more events before it is stuck.
    pub full_after: Option<usize>,
    pub closing: bool,
    pub principal: Principal,
}

impl Outbox {
    fn push(&mut self, frame: Frame) {
        self.bytes += frame.len();
        self.queue.push_back(frame);
    }

    fn offer(&mut self, frame: &Frame) -> bool {
        match &mut self.full_after {
            Some(0) => self.stuck = true,
            Some(left) => *left -= 1,
            None => {}
        }
        let fits = self.bytes <= self.limit / 2 || self.bytes + frame.len() <= self.limit;
        self.refusing |= self.stuck || !fits;
        if !self.refusing {
            self.push(frame.clone());
        }
        !self.refusing
    }

    pub fn has_room(&self) -> bool {
        !self.stuck && self.bytes <= self.limit / 2
    }

    pub fn read(&mut self) -> Option<Frame> {
        let frame = self.queue.pop_front()?;
        self.bytes -= frame.len();
        Some(frame)
    }
}

/// An agent as the hub's outputs describe it.
#[derive(Debug)]
pub struct AgentLink {
    pub chat: ChatKey,
    pub paused: bool,
    /// Set once the agent was asked to stop; `true` if it was killed.
    pub stopping: Option<bool>,
    pub commands: VecDeque<AgentCommand>,
    /// The position after the last record.
    pub position: u64,
    /// Set if the agent was adopted: what the journal recorded of the agent then, and the turn that it was adopted for.
    pub adopted: Option<(RecordedAgent, Option<TurnId>)>,
}

/// What belongs to one of several gateways that share a journal.
pub struct Gateway {
    hub: Hub,
    outboxes: BTreeMap<ConnId, Outbox>,
    agents: BTreeMap<AgentInstanceId, AgentLink>,
    adopted: usize,
    over: BTreeSet<AgentInstanceId>,
    finished: bool,
    claims: VecDeque<ChatKey>,
    releases: Vec<(ChatKey, Term)>,
    ends: BTreeMap<ChatKey, (Term, Option<u64>)>,
    left: Vec<AgentInstanceId>,
    waiting: VecDeque<Request>,
}

/// An output of the hub that tests look at.
#[derive(Debug)]
pub enum Observed {
    Frame { conn: ConnId, frame: Frame },
    Closed { conn: ConnId, code: u16, frame: Frame },
    Start { instance: AgentInstanceId, chat: ChatKey, session: Option<String> },
    Command { chat: ChatKey, command: AgentCommand },
    Pause { chat: ChatKey, paused: bool },
    Forget { chat: ChatKey },
    Leave { chat: ChatKey },
    Claim { chat: ChatKey },
    Release { chat: ChatKey },
    Stop { chat: ChatKey, kill: bool },
    Finished,
}

pub struct World {
    pub hub: Hub,
    /// The gateway's description of its agents.
    agent: Option<AgentState>,
    pub now: Moment,
    pub journal: Journal,
    pub outboxes: BTreeMap<ConnId, Outbox>,
    pub agents: BTreeMap<AgentInstanceId, AgentLink>,
    /// Whether agents outlive their gateway.
    pub agents_survive: bool,
    /// How many agents the present gateway has adopted.
    pub adopted: usize,
    /// Instances of an earlier gateway that have exited.
    over: BTreeSet<AgentInstanceId>,
    pub observed: Vec<Observed>,
    pub finished: bool,
    /// Whether the test grants chats. Otherwise every claim is granted at once, for ever.
    pub grants: bool,
    /// Grants that the hub has not received.
    granted: VecDeque<Input>,
    /// Claims that the test has not granted.
    pub claims: VecDeque<ChatKey>,
    /// The chats that the hub has released.
    pub releases: Vec<(ChatKey, Term)>,
    /// The term of each chat, and the end of its grant, as the hub was told. Past the end, it may do nothing for the chat.
    pub ends: BTreeMap<ChatKey, (Term, Option<u64>)>,
    /// The agents that the hub has left.
    pub left: Vec<AgentInstanceId>,
    /// Print all inputs and outputs, to debug a run (`SWITCHBOARD_SIM_LOUD`).
    pub loud: bool,
    generation: u8,
    last_conn: u64,
}

impl World {
    pub fn new(limits: Limits) -> Self {
        let now = Moment { ticks_ms: 0, boot_ms: 0, unix_ms: 1_790_000_000_000 };
        Self {
            hub: Hub::new(limits, [1; 32], now),
            agent: None,
            now,
            journal: Journal::default(),
            outboxes: BTreeMap::new(),
            agents: BTreeMap::new(),
            agents_survive: false,
            adopted: 0,
            over: BTreeSet::new(),
            observed: Vec::new(),
            finished: false,
            grants: false,
            granted: VecDeque::new(),
            claims: VecDeque::new(),
            releases: Vec::new(),
            ends: BTreeMap::new(),
            left: Vec::new(),
            loud: std::env::var_os("SWITCHBOARD_SIM_LOUD").is_some(),
            generation: 1,
            last_conn: 0,
        }
    }

    /// Sets the description of the agents, for this gateway and later ones. To be called before the first input.
    pub fn describe(&mut self, agent: Option<AgentState>) {
        let limits = self.hub.limits().clone();
        self.hub = Hub::new(limits, [self.generation; 32], self.now).with_agent(agent.clone());
        self.agent = agent;
    }

    /// Replaces the hub by a new one on the same journal. Connections, agents and unanswered requests are lost with the
    /// old hub.
    pub fn restart(&mut self, limits: Limits) {
        self.generation += 1;
        self.hub = Hub::new(limits, [self.generation; 32], self.now).with_agent(self.agent.clone());
        self.journal.restart();
        self.outboxes.clear();
        self.agents.clear();
        self.adopted = 0;
        self.finished = false;
        self.granted.clear();
        self.claims.clear();
        self.releases.clear();
        self.ends.clear();
        self.left.clear();
    }

    /// Another gateway for the same journal.
    pub fn another(&mut self, limits: Limits) -> Gateway {
        self.generation += 1;
        Gateway {
            hub: Hub::new(limits, [self.generation; 32], self.now).with_agent(self.agent.clone()),
            outboxes: BTreeMap::new(),
            agents: BTreeMap::new(),
            adopted: 0,
            over: BTreeSet::new(),
            finished: false,
            claims: VecDeque::new(),
            releases: Vec::new(),
            ends: BTreeMap::new(),
            left: Vec::new(),
            waiting: VecDeque::new(),
        }
    }

    /// Exchanges the gateway of this world.
    pub fn swap(&mut self, other: &mut Gateway) {
        std::mem::swap(&mut self.hub, &mut other.hub);
        std::mem::swap(&mut self.outboxes, &mut other.outboxes);
        std::mem::swap(&mut self.agents, &mut other.agents);
        std::mem::swap(&mut self.adopted, &mut other.adopted);
        std::mem::swap(&mut self.over, &mut other.over);
        std::mem::swap(&mut self.finished, &mut other.finished);
        std::mem::swap(&mut self.claims, &mut other.claims);
        std::mem::swap(&mut self.releases, &mut other.releases);
        std::mem::swap(&mut self.ends, &mut other.ends);
        std::mem::swap(&mut self.left, &mut other.left);
        std::mem::swap(&mut self.journal.waiting, &mut other.waiting);
    }

    pub fn open(&mut self, principal: Principal, client_id: &str) -> ConnId {
        self.last_conn += 1;
        let conn = ConnId(self.last_conn);
        let limit = self.hub.limits().outbox_bytes;
        let outbox = Outbox {
            queue: VecDeque::new(),
            bytes: 0,
            limit,
            refusing: false,
            watched: false,
            stuck: false,
            full_after: None,
            closing: false,
            principal: principal.clone(),
        };
        self.outboxes.insert(conn, outbox);
        self.step(Input::Opened { conn, peer: Peer { principal, client_id: Some(client_id.into()) } });
        conn
    }

    pub fn gone(&mut self, conn: ConnId) {
        self.outboxes.remove(&conn);
        self.step(Input::Gone { conn });
    }

    /// Passes a client's text frame to the hub like a transport that also accepts legacy frames.
    pub fn frame(&mut self, conn: ConnId, text: &str) {
        if self.loud {
            eprintln!("{conn}> {text}");
        }
        self.decoded(conn, decode(text, self.hub.limits(), true));
    }

    /// Passes a client's bytes to the hub like a transport that accepts no legacy frames.
    pub fn bytes(&mut self, conn: ConnId, bytes: &[u8]) {
        self.decoded(conn, decode_binary(bytes, self.hub.limits(), false));
    }

    fn decoded(&mut self, conn: ConnId, decoded: Result<Option<ClientEnvelope>, DecodeError>) {
        match decoded {
            Ok(Some(envelope)) => self.step(Input::Envelope { conn, envelope }),
            Ok(None) => {}
            Err(error) => self.step(Input::Malformed { conn, error }),
        }
    }

    /// Gives the hub one input, carries out all outputs, and reports the refusals of outboxes.
    pub fn step(&mut self, input: Input) {
        if self.loud {
            eprintln!("-> {input:?}");
        }
        self.hub.handle(self.now, input);
        loop {
            let mut refusals = Vec::new();
            while let Some(output) = self.hub.poll_output() {
                self.carry_out(output, &mut refusals);
            }
            if refusals.is_empty() {
                let Some(granted) = self.granted.pop_front() else { return };
                self.hub.handle(self.now, granted);
            }
            for refusal in refusals {
                self.hub.handle(self.now, refusal);
            }
        }
    }

    pub fn answer(&mut self, at: usize, how: How) {
        let answer = self.journal.carry_out(at, how);
        self.step(Input::Journal(answer));
    }

    pub fn deliver_answer(&mut self, answer: JournalAnswer) {
        self.step(Input::Journal(answer));
    }

    /// Reports that the outbox has drained, if that is watched and true.
    pub fn report_drain(&mut self, conn: ConnId) -> bool {
        let Some(outbox) = self.outboxes.get_mut(&conn) else { return false };
        if !outbox.watched || !outbox.has_room() {
            return false;
        }
        outbox.watched = false;
        outbox.refusing = false;
        self.step(Input::OutboxDrained { conn });
        true
    }

    /// Lets time pass. The hub gets a tick at each of its deadlines on the way.
    pub fn advance(&mut self, ms: u64, mut after_each: impl FnMut(&mut Self)) {
        let until = self.now.ticks_ms + ms;
        let mut rounds = 0;
        while let Some(deadline) = self.hub.next_deadline().filter(|due| due.at_ms <= until) {
            rounds += 1;
            assert!(rounds < 100_000, "the deadlines do not end");
            let ahead = deadline.at_ms.saturating_sub(self.now.ticks_ms);
            self.now.ticks_ms += ahead;
            self.now.boot_ms += ahead;
            self.now.unix_ms += ahead;
            self.step(Input::Tick);
            after_each(self);
        }
        self.now.boot_ms += until - self.now.ticks_ms;
        self.now.unix_ms += until - self.now.ticks_ms;
        self.now.ticks_ms = until;
        self.step(Input::Tick);
        after_each(self);
    }

    /// Asserts that the gateway owns the chats of its outputs, as far as it was told.
    fn check_owned(&self, output: &Output) {
        let of_agent = |instance: &AgentInstanceId| self.agents.get(instance).map(|agent| &agent.chat);
        match output {
            Output::Append(append) => self.check_chat(Some(&append.chat), output),
            Output::StartAgent { chat, .. } | Output::AdoptAgent { chat, .. } => {
                self.check_chat(Some(chat), output);
            }
            Output::Command { instance, .. }
            | Output::PauseAgent { instance, .. }
            | Output::StopAgent { instance, .. } => self.check_chat(of_agent(instance), output),
            Output::Deliver { conn, frame } => self.check_frame(*conn, frame, output),
            Output::Offer { events, to, .. } => {
                let conn = match to {
                    Recipients::One(conn) => Some(conn),
                    Recipients::Many(conns) => conns.first(),
                };
                if let (Some(conn), Some(event)) = (conn, events.first()) {
                    self.check_frame(*conn, &event.frame, output);
                }
            }
            Output::WatchDrain { .. }
            | Output::HangUp { .. }
            | Output::Claim { .. }
            | Output::Release { .. }
            | Output::Ask(_)
            | Output::ForgetChat { .. }
            | Output::LeaveAgent { .. }
            | Output::Finished => {}
        }
    }

    fn check_chat(&self, chat: Option<&ChatKey>, output: &Output) {
        let end = chat.and_then(|chat| self.ends.get(chat)).and_then(|(_, until_ms)| *until_ms);
        assert!(end.is_none_or(|until_ms| self.now.boot_ms < until_ms), "the grant has ended: {output:?}");
    }

    /// Refusals, and history, which the journal gives to everybody, may be sent at any time.
    fn check_frame(&self, conn: ConnId, frame: &Frame, output: &Output) {
        let Some(outbox) = self.outboxes.get(&conn).filter(|_| !self.ends.is_empty()) else { return };
        let value: serde_json::Value = serde_json::from_str(frame.as_str()).expect("frames are JSON");
        if let (Some(chat), Some(event)) = (value["chat_id"].as_str(), value["event"].as_str())
            && !["error", "history", "ready"].contains(&event)
        {
            let chat = ChatId::parse(chat).expect("a chat id");
            self.check_chat(Some(&ChatKey { principal: outbox.principal.clone(), chat }), output);
        }
    }

    #[allow(clippy::too_many_lines, reason = "a case for each kind")]
    fn carry_out(&mut self, output: Output, refusals: &mut Vec<Input>) {
        assert!(!self.finished, "Finished is the last output, before {output:?}");
        if self.loud {
            eprintln!("   {output:?}");
            if let Output::Deliver { frame, .. } = &output {
                eprintln!("      {}", frame.as_str());
            }
            if let Output::Offer { events, .. } = &output {
                events.iter().for_each(|event| eprintln!("      {}", event.frame.as_str()));
            }
        }
        self.check_owned(&output);
        match output {
            Output::Deliver { conn, frame } => {
                if let Some(outbox) = self.outboxes.get_mut(&conn).filter(|outbox| !outbox.closing) {
                    outbox.push(frame.clone());
                    self.observed.push(Observed::Frame { conn, frame });
                }
            }
            Output::Offer { chat, events, to } => {
                let conns = match to {
                    Recipients::One(conn) => vec![conn],
                    Recipients::Many(conns) => conns.to_vec(),
                };
                for Offered { first_seq, frame } in events {
                    for &conn in &conns {
                        let Some(outbox) = self.outboxes.get_mut(&conn).filter(|o| !o.closing) else {
                            continue;
                        };
                        if outbox.offer(&frame) {
                            self.observed.push(Observed::Frame { conn, frame: frame.clone() });
                        } else {
                            refusals.push(Input::OutboxFull { conn, chat, first_seq });
                        }
                    }
                }
            }
            Output::WatchDrain { conn } => {
                if let Some(outbox) = self.outboxes.get_mut(&conn) {
                    assert!(!outbox.watched, "a drain is watched once");
                    outbox.watched = true;
                }
            }
            Output::HangUp { conn, close } => {
                if let Some(outbox) = self.outboxes.get_mut(&conn) {
                    outbox.closing = true;
                    outbox.queue.clear();
                    outbox.bytes = 0;
                }
                self.observed.push(Observed::Closed { conn, code: close.code.number(), frame: close.frame });
            }
            Output::Claim { chat } if self.grants => {
                self.claims.push_back(chat.clone());
                self.observed.push(Observed::Claim { chat });
            }
            Output::Claim { chat } => {
                let grant = Grant::for_ever(self.journal.memory.claim(&chat));
                self.granted.push_back(Input::Owned { chat, grant });
            }
            Output::Release { chat, term } if self.grants => {
                self.releases.push((chat.clone(), term));
                self.observed.push(Observed::Release { chat });
            }
            Output::Release { .. } => {}
            Output::LeaveAgent { instance } => {
                let left = self.agents.remove(&instance);
                self.left.push(instance);
                self.observed.extend(left.map(|left| Observed::Leave { chat: left.chat }));
            }
            Output::Append(append) => self.journal.waiting.push_back(Request::Append(append)),
            Output::Ask(ask) => self.journal.waiting.push_back(Request::Ask(ask)),
            Output::StartAgent { chat, instance, session } => {
                assert!(self.agents.values().all(|agent| agent.chat != chat), "one agent per chat");
                let link = AgentLink {
                    chat: chat.clone(),
                    paused: false,
                    stopping: None,
                    commands: VecDeque::new(),
                    position: 0,
                    adopted: None,
                };
                assert!(self.agents.insert(instance, link).is_none(), "an instance starts once");
                self.observed.push(Observed::Start { instance, chat, session });
            }
            Output::AdoptAgent { chat, agent, turn, .. } if self.agents_survive => {
                assert!(self.agents.values().all(|other| other.chat != chat), "one agent per chat");
                let link = AgentLink {
                    chat,
                    paused: false,
                    stopping: None,
                    commands: VecDeque::new(),
                    position: agent.position,
                    adopted: Some((agent.clone(), turn)),
                };
                self.adopted += 1;
                assert!(self.agents.insert(agent.instance, link).is_none(), "an instance is adopted once");
            }
            Output::AdoptAgent { chat, agent, .. } => {
                let detail = "the gateway was restarted before the answer was complete";
                let error = TurnError { code: "gateway_restarted".into(), detail: detail.into() };
                self.over.insert(agent.instance);
                refusals.push(Input::AgentExited {
                    chat,
                    instance: agent.instance,
                    exit: AgentExit::Gone(error),
                });
            }
            Output::Command { instance, .. }
            | Output::PauseAgent { instance, .. }
            | Output::StopAgent { instance, .. }
                if self.over.contains(&instance) => {}
            Output::Command { instance, command } => {
                let agent = self.agents.get_mut(&instance).expect("a command is for a live agent");
                assert!(agent.stopping.is_none(), "a stopping agent gets no command");
                agent.commands.push_back(command.clone());
                self.observed.push(Observed::Command { chat: agent.chat.clone(), command });
            }
            Output::ForgetChat { chat } => self.observed.push(Observed::Forget { chat }),
            Output::PauseAgent { instance, paused } => {
                let agent = self.agents.get_mut(&instance).expect("a live agent is paused");
                assert_ne!(agent.paused, paused, "only changes are reported");
                agent.paused = paused;
                self.observed.push(Observed::Pause { chat: agent.chat.clone(), paused });
            }
            Output::StopAgent { instance, kill } => {
                let agent = self.agents.get_mut(&instance).expect("a live agent is stopped");
                assert!(agent.stopping.is_none_or(|killed| kill && !killed), "only changes are reported");
                agent.stopping = Some(kill);
                self.observed.push(Observed::Stop { chat: agent.chat.clone(), kill });
            }
            Output::Finished => {
                self.finished = true;
                self.observed.push(Observed::Finished);
            }
        }
    }
}
