//! The naive model of an agent host: a process beside the gateway, with a spool and an agent below it.
//!
//! It behaves like `agent-bridge/src/host`. The agent's output and the commands to the agent are spooled as records with
//! positions before they are passed on. A command whose id is known is ignored. Records that the gateway no longer needs
//! may be trimmed. An agent without a gateway is stopped after a while. If a host dies, its agent dies too, and the
//! readable part of its spool remains.

use std::collections::{BTreeSet, VecDeque};

use switchboard_conformance::journal_model::Journal;
use switchboard_core::{
    agent::{AgentCommand, AgentEvent, AgentExit, CommandId},
    ids::ChatKey,
    wire::TurnError,
};

use super::{agents::Process, recorder::Recorder, rng::Rng};

/// How long an agent without a gateway runs, in milliseconds: first outside of a turn, then in one.
const GRACE_MS: [u64; 2] = [10 * 60 * 1000, 60 * 60 * 1000];

#[derive(Debug, Clone)]
pub enum Record {
    Command(AgentCommand),
    Observed(Vec<AgentEvent>),
    /// The agent exited. This is the last record.
    Exited(AgentExit),
}

#[derive(Debug)]
pub struct Host {
    pub chat: ChatKey,
    /// The position of the first record that is not trimmed.
    pub first: u64,
    spool: VecDeque<Record>,
    pub alive: bool,
    /// The number of the feed that is connected: the newest one.
    pub connection: u64,
    /// The end of the spool cannot be read.
    torn: bool,
    known: BTreeSet<(CommandId, String)>,
    /// Commands of an earlier gateway that have not arrived yet.
    pub late: VecDeque<AgentCommand>,
    process: Option<Process>,
    /// Since when the host has had no gateway, in milliseconds.
    alone_since: Option<u64>,
}

impl Host {
    /// A host whose agent has received no command yet.
    pub fn new(chat: ChatKey, connection: u64) -> Self {
        Self {
            chat,
            first: 1,
            spool: VecDeque::new(),
            alive: true,
            connection,
            torn: false,
            known: BTreeSet::new(),
            late: VecDeque::new(),
            process: Some(Process::default()),
            alone_since: None,
        }
    }

    /// The position of the next record.
    pub fn next(&self) -> u64 {
        self.first + u64::try_from(self.spool.len()).expect("small")
    }

    /// The record at a position.
    pub fn record(&self, position: u64) -> Option<&Record> {
        self.spool.get(usize::try_from(position.checked_sub(self.first)?).expect("small"))
    }

    /// Trims records up to this position or fewer: a host removes whole files only, and never the last one.
    pub fn trim(&mut self, position: u64, rng: &mut Rng) {
        let paused = (position + 1).saturating_sub(self.first);
        let most = usize::try_from(paused).expect("small").min(self.spool.len().saturating_sub(1));
        let count = if rng.chance(50) { most } else { rng.below(most + 1) };
        self.spool.drain(..count);
        self.first += u64::try_from(count).expect("small");
    }

    /// Spools a command and carries it out, unless it is known.
    pub fn command(&mut self, command: AgentCommand, recorder: &mut Recorder, journal: &Journal) {
        while let Some(late) = self.late.pop_front() {
            self.receive(late, recorder, journal);
        }
        self.receive(command, recorder, journal);
    }

    /// A command of an earlier gateway arrives.
    pub fn receive_late(&mut self, recorder: &mut Recorder, journal: &Journal) {
        if let Some(late) = self.late.pop_front() {
            self.receive(late, recorder, journal);
        }
    }

    fn receive(&mut self, command: AgentCommand, recorder: &mut Recorder, journal: &Journal) {
        let subject = match &command {
            AgentCommand::Prompt { turn_id, .. } | AgentCommand::Cancel { turn_id, .. } => turn_id.as_str(),
            AgentCommand::Answer { request_id, .. } => request_id.as_str(),
        };
        if !self.alive || !self.known.insert((command.id(), subject.to_owned())) {
            return;
        }
        if let AgentCommand::Prompt { turn_id, text, .. } = &command {
            recorder.prompted(&self.chat, turn_id, text, journal);
        }
        self.spool.push_back(Record::Command(command.clone()));
        if let Some(process) = &mut self.process {
            process.receive(command);
        }
    }

    /// The agent of this host, unless it has exited.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut().filter(|_| self.alive)
    }

    /// The agent writes events.
    pub fn write(&mut self, events: Vec<AgentEvent>) {
        self.spool.push_back(Record::Observed(events));
    }

    /// The agent exits.
    pub fn agent_exits(&mut self, exit: AgentExit) {
        if self.process.take().is_some() {
            self.spool.push_back(Record::Exited(exit));
        }
    }

    /// The host stops its agent and exits: it was asked to, or has had no gateway for too long.
    pub fn stop(&mut self) {
        self.agent_exits(AgentExit::Gone(agent_exited()));
        self.alive = false;
    }

    /// The host is killed, because records between its spool and the last checkpoint are missing.
    pub fn is_lost(&mut self) {
        self.die(0);
        self.torn = true;
    }

    /// The host is killed. The last `unread` records cannot be read any more.
    pub fn die(&mut self, unread: usize) {
        self.alive = false;
        self.process = None;
        self.torn |= unread > 0;
        self.spool.truncate(self.spool.len().saturating_sub(unread));
    }

    /// The number of records in the spool.
    pub fn records(&self) -> usize {
        self.spool.len()
    }

    /// How the agent instance of a dead host ended, once its spool is decoded to the end without an exit.
    pub fn exit(&self) -> AgentExit {
        AgentExit::Gone(if self.torn { host_lost() } else { agent_exited() })
    }

    /// A feed connects. An earlier one is cut off.
    pub fn connected(&mut self, connection: u64) {
        self.connection = connection;
        self.alone_since = None;
    }

    pub fn deserted(&mut self, now_ms: u64) {
        self.alone_since.get_or_insert(now_ms);
    }

    /// Time has passed: stops the agent if no gateway has connected for too long.
    pub fn wait(&mut self, now_ms: u64) {
        let in_turn = self.process.as_ref().is_some_and(Process::is_in_turn);
        let grace = GRACE_MS[usize::from(in_turn)];
        if self.alive && self.alone_since.is_some_and(|since| since + grace <= now_ms) {
            self.stop();
        }
    }
}

/// The error of an agent that exited and whose output was read to the end.
pub fn agent_exited() -> TurnError {
    TurnError { code: "agent_exited".into(), detail: "it went away".into() }
}

/// The error of an agent of whose output some cannot be read.
pub fn host_lost() -> TurnError {
    TurnError { code: "agent_host_lost".into(), detail: "what it said is lost".into() }
}

/// The error of an agent that another gateway has taken over.
pub fn taken_over() -> TurnError {
    TurnError { code: "agent_taken_over".into(), detail: "another gateway has it".into() }
}
