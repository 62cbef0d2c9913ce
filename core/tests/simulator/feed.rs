//! The naive model of the bridge: the gateway's part of an agent instance, which ends with the gateway.
//!
//! A feed passes the hub's commands to the host of the agent, and the agent's events to the hub, by the contract of
//! `agent-bridge/src/client` and of `AgentContext` in `runtime/src/agent.rs`. It decodes records from the newest
//! checkpoint in the journal on. It passes on the events after the position in the journal, except those of a turn that
//! the journal has lost, and a late result that could be taken for that of the next prompt. Commands wait until all records that the host had spooled are decoded; a prompt waits until
//! the agent has ended a lost turn. Commands that the agent already has, and answers to requests that are not open, are
//! dropped. An exit is reported after all output of the agent.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use switchboard_conformance::journal_model::Journal;
use switchboard_core::{
    Input,
    agent::{AgentCommand, AgentEvent, AgentExit, AgentInstanceId, AgentRecords, CommandId, PermissionAsk},
    ids::{ChatKey, RequestId, TurnId},
    journal::RecordedAgent,
    wire::Question,
};

use super::{
    host::{Host, Record, host_lost, taken_over},
    recorder::Recorder,
    rng::Rng,
};
use crate::support::world::World;

#[derive(Debug, Default)]
pub struct Feed {
    /// The number of the feed's connection to the host.
    pub connection: u64,
    decoder: Decoder,
    /// The journal has the events of the records up to this position.
    logged: u64,
    /// The position of the last record that the host had when the instance was adopted.
    caught_up_at: u64,
    commands: VecDeque<AgentCommand>,
    /// The turn of the last prompt that was sent.
    sent: Option<TurnId>,
    /// The turn for which an instance of an earlier gateway was adopted.
    resumed: Option<TurnId>,
    /// The turn whose events are passed on, until it has ended.
    awaited: Option<TurnId>,
    exit: Option<AgentExit>,
}

/// A decoder that counts the texts. The numbers are wrong if it continues from a wrong checkpoint.
#[derive(Debug, Default, Clone, PartialEq)]
struct Decoder {
    position: u64,
    texts: u64,
    prompted: Option<TurnId>,
    turn_open: bool,
    in_own_turn: bool,
    /// The requests of the agent in the turn that are not answered.
    requests: BTreeSet<RequestId>,
}

impl Decoder {
    fn checkpoint(&self) -> Bytes {
        let Self { position, texts, prompted, turn_open, in_own_turn, requests } = self;
        let prompted = prompted.as_ref().map_or("", |turn| turn.as_str());
        let requests: Vec<&str> = requests.iter().map(RequestId::as_str).collect();
        format!("{position} {texts} {turn_open} {prompted} {in_own_turn} {}", requests.join(" ")).into()
    }

    fn restore(checkpoint: &[u8]) -> Self {
        let text = std::str::from_utf8(checkpoint).expect("a checkpoint of this decoder");
        let fields: Vec<&str> = text.split(' ').collect();
        let number = |at: usize| fields[at].parse().expect("a number");
        let prompted = Some(fields[3]).filter(|turn| !turn.is_empty());
        Self {
            position: number(0),
            texts: number(1),
            prompted: prompted.map(|turn| TurnId::parse(turn).expect("a turn id")),
            turn_open: fields[2] == "true",
            in_own_turn: fields[4] == "true",
            requests: fields[5..]
                .iter()
                .filter(|request| !request.is_empty())
                .map(|request| RequestId::parse(request).expect("a request id"))
                .collect(),
        }
    }

    /// Decodes a command that the host has spooled.
    fn command(&mut self, command: &AgentCommand) {
        match command {
            AgentCommand::Prompt { turn_id, .. } => {
                self.prompted = Some(turn_id.clone());
                self.turn_open = true;
                if !self.in_own_turn {
                    self.requests.clear();
                }
            }
            AgentCommand::Answer { request_id, .. } => {
                self.requests.remove(request_id);
            }
            AgentCommand::Cancel { .. } => {}
        }
    }

    fn event(&mut self, event: &AgentEvent) -> AgentEvent {
        if let AgentEvent::Text { stream, text } = event {
            self.texts += 1;
            return AgentEvent::Text { stream: stream.clone(), text: counted(self.texts, text) };
        }
        if let AgentEvent::Permission(PermissionAsk { request_id, .. })
        | AgentEvent::Question(Question { request_id, .. }) = event
        {
            self.requests.insert(request_id.clone());
        } else if let AgentEvent::AgentTurnStarted { .. } | AgentEvent::AgentTurnEnded { .. } = event {
            self.in_own_turn = matches!(event, AgentEvent::AgentTurnStarted { .. });
            self.requests.clear();
        } else if let AgentEvent::TurnEnded { .. } = event {
            self.turn_open = false;
            self.requests.clear();
        }
        event.clone()
    }
}

/// The text with its number, as the decoder gives it.
pub fn counted(number: u64, text: &str) -> String {
    format!("{text}#{number}")
}

impl Feed {
    /// Starts an instance.
    pub fn new(connection: u64) -> Self {
        Self { connection, ..Self::default() }
    }

    /// Adopts an instance that an earlier gateway started.
    pub fn resume(
        connection: u64,
        place: &RecordedAgent,
        turn: Option<TurnId>,
        host: Option<&mut Host>,
        journal: &Journal,
        rng: &mut Rng,
    ) -> Self {
        let mut feed = Self { connection, resumed: turn.clone(), awaited: turn, ..Self::default() };
        let Some(host) = host.filter(|host| host.alive || host.records() > 0) else {
            // Without a host, the agent had received no command, unless the journal has records of it.
            feed.exit = (place.position > 0).then(|| AgentExit::Gone(host_lost()));
            return feed;
        };
        if let Some(checkpoint) = &place.checkpoint {
            feed.decoder = Decoder::restore(checkpoint);
        }
        assert!(
            feed.decoder.position <= place.position,
            "a checkpoint is not after the position in the journal"
        );
        feed.logged = place.position;
        if host.first > feed.decoder.position + 1 {
            assert!(journal.lossy, "records are trimmed only once the journal has a later checkpoint");
            host.is_lost();
            feed.exit = Some(host.exit());
            return feed;
        }
        feed.connect(host);
        host.trim(feed.decoder.position, rng);
        feed
    }

    fn connect(&mut self, host: &mut Host) {
        host.connected(self.connection);
        self.caught_up_at = host.next() - 1;
    }

    /// Takes over a host that an earlier owner of the chat has started meanwhile. If a later owner has taken over the
    /// host, the feed is cut off: it reads nothing more, sends nothing more, and says that the agent is gone.
    pub fn check_connection(&mut self, host: Option<&mut Host>) {
        let Some(host) = host else { return };
        if host.connection > self.connection {
            self.exit.get_or_insert_with(|| AgentExit::Gone(taken_over()));
        } else if host.connection < self.connection && host.alive {
            self.connect(host);
        }
    }

    pub fn queue(&mut self, commands: impl Iterator<Item = AgentCommand>) {
        self.commands.extend(commands);
    }

    /// Passes the events of at most `most` further records to the hub. Returns whether there were any records.
    pub fn read(
        &mut self,
        world: &mut World,
        instance: AgentInstanceId,
        host: &Host,
        rng: &mut Rng,
        most: usize,
    ) -> bool {
        let mut events = Vec::new();
        let (before, mut ended) = (self.decoder.position, false);
        while self.exit.is_none()
            && self.decoder.position - before < u64::try_from(most).expect("small")
            && let Some(record) = host.record(self.decoder.position + 1)
        {
            self.decoder.position += 1;
            let is_new = self.decoder.position > self.logged;
            match record {
                Record::Command(command) => self.decoder.command(command),
                Record::Observed(observed) => {
                    for event in observed {
                        ended |= matches!(event, AgentEvent::TurnEnded { .. });
                        events.extend(self.passed(event).filter(|_| is_new));
                    }
                }
                Record::Exited(exit) => self.exit = Some(exit.clone()),
            }
        }
        let checkpoint = (ended || rng.chance(30)).then(|| self.decoder.checkpoint());
        let position = self.decoder.position;
        if !events.is_empty() {
            let records = AgentRecords { position, events, checkpoint };
            world.step(Input::AgentRecords { chat: host.chat.clone(), instance, records });
        }
        if !host.alive && host.record(position + 1).is_none() {
            self.exit.get_or_insert_with(|| host.exit());
        }
        position > before
    }

    /// Decodes an event. `None` if it belongs to a lost turn, or ends a turn that is over and could be taken for the end of
    /// the next one.
    fn passed(&mut self, event: &AgentEvent) -> Option<AgentEvent> {
        let Decoder { turn_open, in_own_turn, .. } = self.decoder;
        let is_lost = turn_open && self.decoder.prompted != self.awaited;
        let event = self.decoder.event(event);
        if let AgentEvent::TurnEnded { .. } = event {
            if turn_open {
                self.awaited.take_if(|awaited| self.decoder.prompted.as_ref() == Some(awaited));
            }
            return Some(event).filter(|_| if turn_open { !is_lost } else { !self.may_be_prompted() });
        }
        let concerns_agent = matches!(
            event,
            AgentEvent::AgentTurnStarted { .. }
                | AgentEvent::AgentTurnEnded { .. }
                | AgentEvent::Session { .. }
                | AgentEvent::Model { .. }
                | AgentEvent::Task(_)
        );
        (concerns_agent || in_own_turn || !is_lost).then_some(event)
    }

    /// Whether the hub may have sent a prompt, or believe that an earlier gateway did, that has not become a record.
    fn may_be_prompted(&self) -> bool {
        let waits = self.commands.iter().any(|command| matches!(command, AgentCommand::Prompt { .. }));
        waits || self.sent != self.decoder.prompted || self.resumed.is_some()
    }

    /// Sends the waiting commands, once it is known which of them the agent already has. Returns the host that a first
    /// prompt starts.
    pub fn send_commands(
        &mut self,
        chat: &ChatKey,
        host: Option<&mut Host>,
        recorder: &mut Recorder,
        journal: &Journal,
    ) -> Option<Host> {
        if !self.is_caught_up() {
            return None;
        }
        if let Some(host) = host {
            while let Some(command) = self.next_command() {
                self.send(host, command, recorder, journal);
            }
            if let Some(cancel) = self.cancel_lost() {
                host.command(cancel, recorder, journal);
            }
            return None;
        }
        // An instance starts with its first prompt. Commands before it concern an earlier instance.
        while let Some(command) = self.next_command() {
            if matches!(command, AgentCommand::Prompt { .. }) {
                let mut host = Host::new(chat.clone(), self.connection);
                self.send(&mut host, command, recorder, journal);
                return Some(host);
            }
        }
        None
    }

    /// The next command, unless it is a prompt and the agent is in a turn that the journal has lost.
    fn next_command(&mut self) -> Option<AgentCommand> {
        while let Some(AgentCommand::Prompt { turn_id, .. }) = self.commands.front() {
            if self.resumed.as_ref() == Some(turn_id) && self.awaited.as_ref() != Some(turn_id) {
                // The turn was ended by a record of the host.
                self.commands.pop_front();
                continue;
            }
            self.awaited = Some(turn_id.clone());
            if self.decoder.turn_open && self.decoder.prompted.as_ref() != Some(turn_id) {
                return None;
            }
            break;
        }
        self.commands.pop_front()
    }

    /// Cancels the lost turn that a waiting command has to wait for.
    fn cancel_lost(&self) -> Option<AgentCommand> {
        let turn_id = self.decoder.prompted.clone().filter(|_| !self.commands.is_empty())?;
        Some(AgentCommand::Cancel { id: CommandId(0), turn_id })
    }

    fn send(&mut self, host: &mut Host, command: AgentCommand, recorder: &mut Recorder, journal: &Journal) {
        if self.is_new(&command) {
            host.command(command, recorder, journal);
        }
    }

    /// Whether the agent does not have this command yet and can take it.
    fn is_new(&mut self, command: &AgentCommand) -> bool {
        let Decoder { prompted, turn_open, requests, .. } = &self.decoder;
        match command {
            AgentCommand::Prompt { turn_id, .. } => {
                let known = self.sent.as_ref() == Some(turn_id);
                self.sent = Some(turn_id.clone());
                !known
            }
            AgentCommand::Cancel { turn_id, .. } => {
                let is_open = *turn_open && prompted.as_ref() == Some(turn_id);
                let in_transit = self.sent.as_ref() == Some(turn_id) && prompted.as_ref() != Some(turn_id);
                is_open || in_transit
            }
            AgentCommand::Answer { request_id, .. } => requests.contains(request_id),
        }
    }

    /// The gateway dies. Returns the commands that it had sent and the host has not received yet.
    pub fn in_transit(mut self) -> Vec<AgentCommand> {
        if !self.is_caught_up() {
            return Vec::new();
        }
        let mut sent = Vec::new();
        while let Some(command) = self.next_command() {
            if self.is_new(&command) {
                sent.push(command);
            }
        }
        sent.extend(self.cancel_lost());
        sent
    }

    /// Whether it is known which commands the agent has, and the instance has not exited.
    fn is_caught_up(&mut self) -> bool {
        if self.decoder.position < self.caught_up_at || self.exit.is_some() {
            return false;
        }
        if self.sent.is_none() {
            self.sent.clone_from(&self.decoder.prompted);
        }
        true
    }

    /// How the instance exited, if it has.
    pub fn exit(&self) -> Option<AgentExit> {
        self.exit.clone()
    }
}
