//! The naive model of an agent host: a process beside the gateway, with a spool and an agent below it.
//!
//! As in `agent-bridge/src/host`: the agent's output, and the commands to it, become records with positions before
//! anything else sees them; a command whose id is known is ignored; records that the gateway no longer needs may be
//! trimmed; without a gateway the agent is stopped after a while; a host that dies takes its agent with it and leaves
//! its spool, as far as that can be read.

use std::collections::{BTreeSet, VecDeque};

use switchboard_core::{
    agent::{AgentCommand, AgentEvent, AgentExit, CommandId},
    ids::ChatKey,
    wire::TurnError,
};

use super::{agents::Process, recorder::Recorder, rng::Rng};
use crate::support::journal::Journal;

/// How long an agent waits for a gateway: without a turn, and in one.
const GRACE_MS: [u64; 2] = [10 * 60 * 1000, 60 * 60 * 1000];

#[derive(Debug, Clone)]
pub enum Record {
    Command(AgentCommand),
    Observed(Vec<AgentEvent>),
    /// The agent ended, and nothing follows.
    Exited(AgentExit),
}

#[derive(Debug)]
pub struct Host {
    pub chat: ChatKey,
    /// The position of the first record that is left.
    pub first: u64,
    spool: VecDeque<Record>,
    pub alive: bool,
    /// The end of its spool cannot be read.
    torn: bool,
    known: BTreeSet<(CommandId, String)>,
    /// Commands of a gateway that has gone, which arrive late.
    pub late: VecDeque<AgentCommand>,
    process: Option<Process>,
    /// Since when it has had no gateway.
    alone_since: Option<u64>,
}

impl Host {
    /// With an agent that has received no command yet.
    pub fn new(chat: ChatKey) -> Self {
        Self {
            chat,
            first: 1,
            spool: VecDeque::new(),
            alive: true,
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

    /// Lets go of records up to this position, or of fewer: it does so in whole files, and the last one stays.
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
            self.obey(late, recorder, journal);
        }
        self.obey(command, recorder, journal);
    }

    /// A command of an earlier gateway arrives.
    pub fn hear_late(&mut self, recorder: &mut Recorder, journal: &Journal) {
        if let Some(late) = self.late.pop_front() {
            self.obey(late, recorder, journal);
        }
    }

    fn obey(&mut self, command: AgentCommand, recorder: &mut Recorder, journal: &Journal) {
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

    /// The agent below it, unless that has ended.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut().filter(|_| self.alive)
    }

    /// The agent writes events.
    pub fn write(&mut self, events: Vec<AgentEvent>) {
        self.spool.push_back(Record::Observed(events));
    }

    /// The agent ends by itself.
    pub fn agent_exits(&mut self, exit: AgentExit) {
        if self.process.take().is_some() {
            self.spool.push_back(Record::Exited(exit));
        }
    }

    /// The host stops its agent and exits: it was asked to, or has waited for too long.
    pub fn stop(&mut self) {
        self.agent_exits(AgentExit::Gone(agent_exited()));
        self.alive = false;
    }

    /// It is killed, because what it has does not follow on what is known.
    pub fn is_lost(&mut self) {
        self.die(0);
        self.torn = true;
    }

    /// It is killed. So many of its last records cannot be read any more.
    pub fn die(&mut self, unread: usize) {
        self.alive = false;
        self.process = None;
        self.torn |= unread > 0;
        self.spool.truncate(self.spool.len().saturating_sub(unread));
    }

    /// How many records are left.
    pub fn records(&self) -> usize {
        self.spool.len()
    }

    /// How the agent instance of a dead host ended, once its spool is decoded to the end without an exit.
    pub fn exit(&self) -> AgentExit {
        AgentExit::Gone(if self.torn { host_lost() } else { agent_exited() })
    }

    pub fn connected(&mut self) {
        self.alone_since = None;
    }

    pub fn deserted(&mut self, now_ms: u64) {
        self.alone_since.get_or_insert(now_ms);
    }

    /// Stops the agent if no gateway has come for too long.
    pub fn wait(&mut self, now_ms: u64) {
        let in_turn = self.process.as_ref().is_some_and(Process::is_in_turn);
        let grace = GRACE_MS[usize::from(in_turn)];
        if self.alive && self.alone_since.is_some_and(|since| since + grace <= now_ms) {
            self.stop();
        }
    }
}

/// All of the agent's output has been read.
pub fn agent_exited() -> TurnError {
    TurnError { code: "agent_exited".into(), detail: "it went away".into() }
}

/// Some of the agent's output cannot be read.
pub fn host_lost() -> TurnError {
    TurnError { code: "agent_host_lost".into(), detail: "what it said is lost".into() }
}
