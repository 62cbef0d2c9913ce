//! The gateway's end of an agent instance below a host, which ends with the gateway.
//!
//! It turns the hub's outputs into orders to a host, with the contract of `agent-bridge/src/hosted` and of `AgentContext`
//! in `runtime/src/agent.rs`: records are decoded from the newest checkpoint in the log, and their events are passed on
//! from the position in the log, unless they belong to a turn that the log has lost. Orders wait until all that the host
//! had spooled is decoded, and a prompt until an agent in a lost turn has ended it. Commands that the agent has already,
//! and answers to requests that are not open, are dropped. An exit comes after all of the agent's output.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use switchboard_core::{
    Input,
    agent::{AgentCommand, AgentEvent, AgentExit, AgentInstanceId, AgentRecords, CommandId, PermissionAsk},
    ids::{ChatKey, RequestId, TurnId},
    journal::RecordedAgent,
    wire::Question,
};

use super::{
    host::{Host, Record, host_lost},
    recorder::Recorder,
    rng::Rng,
};
use crate::support::{journal::Journal, world::World};

#[derive(Debug, Default)]
pub struct Feed {
    decoder: Decoder,
    /// Events of records up to here are in the log.
    shown: u64,
    /// The records that the host had when this instance was adopted.
    caught_up_at: u64,
    orders: VecDeque<AgentCommand>,
    /// The turn whose prompt was sent last.
    sent: Option<TurnId>,
    /// The turn for which an instance of an earlier gateway was adopted.
    resumed: Option<TurnId>,
    /// The turn whose events are awaited, as long as it has not ended.
    awaited: Option<TurnId>,
    exit: Option<AgentExit>,
}

/// A decoder with a state, so that it matters from where it goes on: it counts the texts.
#[derive(Debug, Default, Clone, PartialEq)]
struct Decoder {
    position: u64,
    texts: u64,
    prompted: Option<TurnId>,
    turn_open: bool,
    /// What the agent has asked in the turn, and has not been answered.
    requests: BTreeSet<RequestId>,
}

impl Decoder {
    fn checkpoint(&self) -> Bytes {
        let Self { position, texts, prompted, turn_open, requests } = self;
        let prompted = prompted.as_ref().map_or("", |turn| turn.as_str());
        let requests: Vec<&str> = requests.iter().map(RequestId::as_str).collect();
        format!("{position} {texts} {turn_open} {prompted} {}", requests.join(" ")).into()
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
            requests: fields[4..]
                .iter()
                .filter(|request| !request.is_empty())
                .map(|request| RequestId::parse(request).expect("a request id"))
                .collect(),
        }
    }

    /// Takes the next record. Gives what it comes to.
    fn decode(&mut self, record: &Record) -> Vec<AgentEvent> {
        self.position += 1;
        match record {
            Record::Command(AgentCommand::Prompt { turn_id, .. }) => {
                self.prompted = Some(turn_id.clone());
                self.turn_open = true;
                self.requests.clear();
                Vec::new()
            }
            Record::Command(AgentCommand::Answer { request_id, .. }) => {
                self.requests.remove(request_id);
                Vec::new()
            }
            Record::Command(AgentCommand::Cancel { .. }) | Record::Exited(_) => Vec::new(),
            Record::Observed(events) => events.iter().map(|event| self.event(event)).collect(),
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
        } else if let AgentEvent::TurnEnded { .. } = event {
            self.turn_open = false;
            self.requests.clear();
        }
        event.clone()
    }
}

/// The decoder's event for an instance's text with this number.
pub fn counted(number: u64, text: &str) -> String {
    format!("{text}#{number}")
}

impl Feed {
    /// Adopts an instance that an earlier gateway started.
    pub fn resume(
        place: &RecordedAgent,
        turn: Option<TurnId>,
        host: Option<&mut Host>,
        journal: &Journal,
        rng: &mut Rng,
    ) -> Self {
        let mut feed = Self { resumed: turn.clone(), awaited: turn, ..Self::default() };
        let Some(host) = host.filter(|host| host.alive || host.records() > 0) else {
            // The agent has no command, unless the log has records of it.
            feed.exit = (place.position > 0).then(|| AgentExit::Gone(host_lost()));
            return feed;
        };
        if let Some(checkpoint) = &place.checkpoint {
            feed.decoder = Decoder::restore(checkpoint);
        }
        assert!(feed.decoder.position <= place.position, "a checkpoint is of what the log has");
        feed.shown = place.position;
        if host.first > feed.decoder.position + 1 {
            assert!(journal.lossy, "nothing is trimmed before the log has the decoder's state behind it");
            host.is_lost();
            feed.exit = Some(host.exit());
            return feed;
        }
        host.connected();
        feed.caught_up_at = host.next() - 1;
        host.trim(feed.decoder.position, rng);
        feed
    }

    pub fn order(&mut self, orders: impl Iterator<Item = AgentCommand>) {
        self.orders.extend(orders);
    }

    /// Hands on some of what the host has.
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
            let is_lost = self.decoder.turn_open && self.decoder.prompted != self.awaited;
            let mut decoded = self.decoder.decode(record);
            if decoded.iter().any(|event| matches!(event, AgentEvent::TurnEnded { .. })) {
                ended = true;
                self.awaited.take_if(|awaited| self.decoder.prompted.as_ref() == Some(awaited));
            }
            if is_lost {
                decoded
                    .retain(|event| matches!(event, AgentEvent::Session { .. } | AgentEvent::Model { .. }));
            }
            if self.decoder.position > self.shown {
                events.append(&mut decoded);
            }
            if let Record::Exited(exit) = record {
                self.exit = Some(exit.clone());
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

    /// Carries out the orders that wait, once it can tell which of them are news. Gives a host that begins with them.
    pub fn obey(
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
            while let Some(order) = self.next_order() {
                self.tell(host, order, recorder, journal);
            }
            if let Some(cancel) = self.cancel_lost() {
                host.command(cancel, recorder, journal);
            }
            return None;
        }
        // An instance starts with its first prompt; commands before that concern an earlier instance.
        while let Some(order) = self.next_order() {
            if matches!(order, AgentCommand::Prompt { .. }) {
                let mut host = Host::new(chat.clone());
                self.tell(&mut host, order, recorder, journal);
                return Some(host);
            }
        }
        None
    }

    /// The next order, unless that is a prompt and the agent is in a turn that the log has lost.
    fn next_order(&mut self) -> Option<AgentCommand> {
        while let Some(AgentCommand::Prompt { turn_id, .. }) = self.orders.front() {
            if self.resumed.as_ref() == Some(turn_id) && self.awaited.as_ref() != Some(turn_id) {
                // Its end has been read.
                self.orders.pop_front();
                continue;
            }
            self.awaited = Some(turn_id.clone());
            if self.decoder.turn_open && self.decoder.prompted.as_ref() != Some(turn_id) {
                return None;
            }
            break;
        }
        self.orders.pop_front()
    }

    /// Ends the turn for which a command waits.
    fn cancel_lost(&self) -> Option<AgentCommand> {
        let turn_id = self.decoder.prompted.clone().filter(|_| !self.orders.is_empty())?;
        Some(AgentCommand::Cancel { id: CommandId(0), turn_id })
    }

    fn tell(&mut self, host: &mut Host, order: AgentCommand, recorder: &mut Recorder, journal: &Journal) {
        if self.is_news(&order) {
            host.command(order, recorder, journal);
        }
    }

    /// Whether the host is to get this command.
    fn is_news(&mut self, order: &AgentCommand) -> bool {
        let Decoder { prompted, turn_open, requests, .. } = &self.decoder;
        match order {
            AgentCommand::Prompt { turn_id, .. } => {
                let known = self.sent.as_ref() == Some(turn_id);
                self.sent = Some(turn_id.clone());
                !known
            }
            AgentCommand::Cancel { turn_id, .. } => {
                let is_open = *turn_open && prompted.as_ref() == Some(turn_id);
                let on_its_way = self.sent.as_ref() == Some(turn_id) && prompted.as_ref() != Some(turn_id);
                is_open || on_its_way
            }
            AgentCommand::Answer { request_id, .. } => requests.contains(request_id),
        }
    }

    /// The gateway dies: the commands that it had sent and the host has not received yet.
    pub fn on_its_way(mut self) -> Vec<AgentCommand> {
        if !self.is_caught_up() {
            return Vec::new();
        }
        let mut sent = Vec::new();
        while let Some(order) = self.next_order() {
            if self.is_news(&order) {
                sent.push(order);
            }
        }
        sent.extend(self.cancel_lost());
        sent
    }

    /// Whether it knows which commands the agent has, and the instance has not ended.
    fn is_caught_up(&mut self) -> bool {
        if self.decoder.position < self.caught_up_at || self.exit.is_some() {
            return false;
        }
        if self.sent.is_none() {
            self.sent.clone_from(&self.decoder.prompted);
        }
        true
    }

    /// How the instance has ended, if it has.
    pub fn exit(&self) -> Option<AgentExit> {
        self.exit.clone()
    }
}
