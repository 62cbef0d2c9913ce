//! The naive model of agents with random output, each with a host that outlives the gateway.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use switchboard_conformance::journal_model::Journal;
use switchboard_core::{
    Input,
    agent::{AgentCommand, AgentEvent, AgentExit, AgentInstanceId, PermissionAsk, ToolInput},
    ids::{ChatKey, RequestId, TurnId},
    wire::{Outcome, Question, QuestionItem, Task, TaskKind, TaskStatus, TurnReason},
};

use super::{
    feed::Feed,
    host::{Host, agent_exited},
    recorder::Recorder,
    rng::Rng,
};
use crate::support::world::World;

/// The stream of the text that agents write outside of turns. It may be logged within the next turn.
pub const ASIDE: &str = "aside";

/// The tool use whose result comes after its turn. It may be logged within the next turn, but begins none.
pub const LATE: &str = "late";

#[derive(Debug, Default)]
pub struct Agents {
    hosts: BTreeMap<AgentInstanceId, Host>,
    /// The present gateway's part of each agent instance.
    feeds: BTreeMap<AgentInstanceId, Feed>,
    /// The other gateway's part, where there is one.
    other_feeds: BTreeMap<AgentInstanceId, Feed>,
    /// The number of the newest connection to a host.
    connections: u64,
    pub recorder: Recorder,
    /// The probability in percent that an agent ends its turn when it could.
    haste: usize,
    made: u64,
}

/// A running agent.
#[derive(Debug, Default)]
pub struct Process {
    turn: Option<TurnId>,
    /// The agent is in a turn that it has begun by itself. A prompt waits until this turn is over, or is folded.
    in_own_turn: bool,
    /// The agent has taken the prompt into its own turn: both end together.
    folded: bool,
    /// The agent has written text outside of turns, and not ended it.
    has_aside: bool,
    /// The running background tasks.
    tasks: BTreeSet<String>,
    cancelled: bool,
    /// The agent does nothing until it is killed.
    hangs: bool,
    open: BTreeMap<RequestId, bool>,
    /// What the agent has asked in turns of its own and got no answer to. The gateway may send a prompt, and then an
    /// answer, before it has read that such a turn is over.
    asked_in_own_turns: BTreeSet<RequestId>,
    streams: u64,
    tools: u64,
    /// The number of texts that the agent has written.
    texts: u64,
}

impl Process {
    /// Takes a command, and checks that the agent may get it.
    pub fn receive(&mut self, command: AgentCommand) {
        match command {
            AgentCommand::Prompt { turn_id, .. } => {
                assert!(self.turn.is_none(), "a prompt while a turn is open");
                self.turn = Some(turn_id);
                self.cancelled = false;
                if !self.in_own_turn {
                    self.open.clear();
                }
            }
            AgentCommand::Cancel { turn_id, .. } => self.cancelled |= self.turn.as_ref() == Some(&turn_id),
            AgentCommand::Answer { request_id, .. } => {
                let is_open = self.open.remove(&request_id).is_some();
                let may_be_late = self.asked_in_own_turns.remove(&request_id);
                assert!(is_open || may_be_late, "an answer to what was asked, once");
            }
        }
    }

    pub fn is_in_turn(&self) -> bool {
        self.turn.is_some()
    }

    /// The end of a folded prompt, if the agent's own turn is over.
    fn folded_end(&mut self, rng: &mut Rng) -> Option<AgentEvent> {
        (!self.in_own_turn && std::mem::take(&mut self.folded)).then(|| Agents::end(self, rng))
    }
}

impl Agents {
    pub fn new(haste: usize) -> Self {
        Self { haste, ..Self::default() }
    }

    /// The gateway ends, and its part of all agent instances with it. Some of its commands to hosts arrive late.
    pub fn gateway_gone(&mut self, now_ms: u64, rng: &mut Rng) {
        for (instance, feed) in std::mem::take(&mut self.feeds) {
            self.leave(instance, feed, now_ms, rng);
        }
    }

    /// The gateway leaves an agent instance.
    fn leave(&mut self, instance: AgentInstanceId, feed: Feed, now_ms: u64, rng: &mut Rng) {
        let Some(host) = self.hosts.get_mut(&instance) else { return };
        if host.connection <= feed.connection {
            host.deserted(now_ms);
        }
        if rng.chance(50) {
            host.late.extend(feed.in_transit());
        }
    }

    /// Another gateway acts.
    pub fn swap(&mut self) {
        std::mem::swap(&mut self.feeds, &mut self.other_feeds);
    }

    /// A gateway begins: it ends the hosts of instances that are not among those to adopt.
    pub fn gateway_begins(&mut self, instances: &BTreeSet<AgentInstanceId>) {
        let Self { hosts, other_feeds, .. } = self;
        hosts.retain(|instance, _| instances.contains(instance) || other_feeds.contains_key(instance));
    }

    /// The machine loses power: every host dies, and the end of its spool may not be on the disk.
    pub fn power_lost(&mut self, rng: &mut Rng) {
        for host in self.hosts.values_mut() {
            let unread = if rng.chance(50) { 0 } else { rng.below(host.records()) };
            host.die(unread);
        }
    }

    /// Makes a feed for each agent that the hub has started or adopted, and passes on its commands. To be called after
    /// every input that may cause this.
    pub fn connect_feeds(&mut self, world: &mut World, rng: &mut Rng) {
        for instance in std::mem::take(&mut world.left) {
            if let Some(feed) = self.feeds.remove(&instance) {
                self.leave(instance, feed, world.now.ticks_ms, rng);
            }
        }
        for (instance, link) in &mut world.agents {
            let Self { hosts, feeds, connections, .. } = self;
            *connections += u64::from(!feeds.contains_key(instance));
            let feed = feeds.entry(*instance).or_insert_with(|| match &link.adopted {
                None => Feed::new(*connections),
                Some((place, turn)) => {
                    check_sent_again(&world.journal, &link.chat, &link.commands);
                    Feed::resume(
                        *connections,
                        place,
                        turn.clone(),
                        hosts.get_mut(instance),
                        &world.journal,
                        rng,
                    )
                }
            });
            feed.queue(link.commands.drain(..));
        }
    }

    /// Something random happens to an agent: at its host, and at its feed if there is one.
    pub fn act(&mut self, world: &mut World, rng: &mut Rng) {
        let living = self.hosts.iter().filter(|(_, host)| host.alive).map(|(instance, _)| *instance);
        let instances: BTreeSet<AgentInstanceId> = world.agents.keys().copied().chain(living).collect();
        let instances: Vec<AgentInstanceId> = instances.into_iter().collect();
        let Some(instance) = rng.pick(&instances).copied() else { return };
        self.act_at_host(&world.journal, instance, 1, rng);
        self.act_at_gateway(world, instance, rng);
    }

    /// Something random happens at a host while no gateway instances.
    pub fn act_alone(&mut self, journal: &Journal, rng: &mut Rng) {
        let instances: Vec<AgentInstanceId> = self.hosts.keys().copied().collect();
        if let Some(instance) = rng.pick(&instances) {
            self.act_at_host(journal, *instance, 2, rng);
        }
    }

    /// Time has passed: hosts that have had no gateway for too long exit.
    pub fn wait(&mut self, now_ms: u64) {
        self.hosts.values_mut().for_each(|host| host.wait(now_ms));
    }

    fn act_at_host(&mut self, journal: &Journal, instance: AgentInstanceId, dies: usize, rng: &mut Rng) {
        let Self { hosts, recorder, made, haste, .. } = self;
        let Some(host) = hosts.get_mut(&instance) else { return };
        if rng.chance(50) {
            host.receive_late(recorder, journal);
        }
        if host.alive && rng.chance(dies) {
            let unread = if rng.chance(70) { 0 } else { rng.below(host.records()) };
            host.die(unread);
        }
        let chat = host.chat.clone();
        let Some(process) = host.process().filter(|process| !process.hangs) else { return };
        if rng.chance(2) {
            process.hangs = true;
            return;
        }
        if rng.chance(2) {
            let exit = AgentExit::StartFailed(agent_exited());
            host.agent_exits(if rng.chance(50) { AgentExit::Gone(agent_exited()) } else { exit });
            return;
        }
        let mut events = Vec::new();
        for _ in 0..=rng.below(3) {
            let (turn, in_own_turn, texts) = (process.turn.clone(), process.in_own_turn, process.texts);
            let Some(event) = Self::event(made, *haste, process, rng) else { continue };
            process.texts += u64::from(matches!(event, AgentEvent::Text { .. }));
            let folded_end = process.folded_end(rng);
            if let Some(turn) = turn {
                let of_turn = Some(&event).filter(|_| !in_own_turn).into_iter().chain(&folded_end);
                recorder.wrote(&chat, &turn, of_turn, texts);
            }
            events.push(event);
            events.extend(folded_end);
        }
        host.write(events);
    }

    fn act_at_gateway(&mut self, world: &mut World, instance: AgentInstanceId, rng: &mut Rng) {
        self.connect_feeds(world, rng);
        let Some(link) = world.agents.get(&instance) else { return };
        if let Some(killed) = link.stopping {
            let hangs =
                self.hosts.get_mut(&instance).and_then(Host::process).is_some_and(|process| process.hangs);
            if rng.chance(60) && (killed || !hangs) {
                self.stop(world, instance, rng.chance(70));
            }
            return;
        }
        let (paused, chat) = (link.paused, link.chat.clone());
        let Self { hosts, feeds, recorder, .. } = self;
        let Some(feed) = feeds.get_mut(&instance) else { return };
        feed.check_connection(hosts.get_mut(&instance));
        if let Some(host) = hosts.get(&instance)
            && !(paused && rng.chance(90))
            && rng.chance(85)
        {
            let most = 1 + rng.below(4);
            feed.read(world, instance, host, rng, most);
        }
        // The hub may have stopped the agent because of these records.
        if world.agents.get(&instance).is_none_or(|link| link.stopping.is_some()) {
            return;
        }
        let begun = feed.send_commands(&chat, hosts.get_mut(&instance), recorder, &world.journal);
        hosts.extend(begun.map(|host| (instance, host)));
        if let Some(exit) = feed.exit() {
            self.exit(world, instance, exit);
        }
    }

    /// The host stops its agent and exits. `reported`: the gateway learns of it.
    fn stop(&mut self, world: &mut World, instance: AgentInstanceId, reported: bool) {
        self.stop_host(instance);
        if reported {
            self.exit(world, instance, AgentExit::Stopped);
        }
    }

    /// Stops the host of an instance, unless another gateway has taken it over.
    fn stop_host(&mut self, instance: AgentInstanceId) {
        let connection = self.feeds.get(&instance).map_or(u64::MAX, |feed| feed.connection);
        if let Some(host) = self.hosts.get_mut(&instance).filter(|host| host.connection <= connection) {
            host.stop();
        }
    }

    fn exit(&mut self, world: &mut World, instance: AgentInstanceId, exit: AgentExit) {
        self.stop_host(instance);
        self.feeds.remove(&instance);
        if let Some(link) = world.agents.remove(&instance) {
            world.step(Input::AgentExited { chat: link.chat, instance, exit });
        }
    }

    /// The journal has a checkpoint of the decoder: the host may trim the records up to there.
    pub fn committed(&mut self, instance: AgentInstanceId, position: u64, rng: &mut Rng) {
        let (Some(host), Some(feed)) = (self.hosts.get_mut(&instance), self.feeds.get(&instance)) else {
            return;
        };
        if host.connection == feed.connection {
            host.trim(position, rng);
        }
    }

    /// Lets an agent end its turn, and exit if it was asked to. Returns whether anything was to do.
    pub fn behave(&mut self, world: &mut World, instance: AgentInstanceId, rng: &mut Rng) -> bool {
        self.connect_feeds(world, rng);
        let Some(link) = world.agents.get(&instance) else { return false };
        if link.stopping.is_some() {
            self.stop(world, instance, true);
            return true;
        }
        if link.paused {
            return false;
        }
        let chat = link.chat.clone();
        let Self { hosts, feeds, recorder, .. } = self;
        let Some(feed) = feeds.get_mut(&instance) else { return false };
        let mut busy = false;
        feed.check_connection(hosts.get_mut(&instance));
        if let Some(host) = hosts.get_mut(&instance) {
            host.receive_late(recorder, &world.journal);
            busy |= feed.read(world, instance, host, rng, 100);
        }
        if world.agents.get(&instance).is_none_or(|link| link.stopping.is_some() || link.paused) {
            return true;
        }
        let begun = feed.send_commands(&chat, hosts.get_mut(&instance), recorder, &world.journal);
        busy |= begun.is_some();
        hosts.extend(begun.map(|host| (instance, host)));
        if let Some(exit) = feed.exit() {
            self.exit(world, instance, exit);
            return true;
        }
        let Some(host) = hosts.get_mut(&instance) else { return busy };
        let Some(process) = host.process() else { return busy };
        process.hangs = false;
        if let Some(task_id) = process.tasks.pop_first() {
            host.write(vec![AgentEvent::Task(task(task_id, TaskStatus::Completed))]);
            return true;
        }
        if std::mem::take(&mut process.has_aside) {
            let (stream, sources) = (ASIDE.into(), Vec::new());
            host.write(vec![AgentEvent::TextEnd { stream, text: None, void: false, sources }]);
            return true;
        }
        if process.in_own_turn {
            let turn = process.turn.clone();
            let mut ends = vec![Self::end_own(process, rng)];
            ends.extend(process.folded_end(rng));
            if let Some(turn) = turn {
                recorder.wrote(&chat, &turn, &ends[1..], 0);
            }
            host.write(ends);
            return true;
        }
        if let Some(turn) = process.turn.clone() {
            let ends = vec![Self::end(process, rng)];
            recorder.wrote(&chat, &turn, &ends, 0);
            host.write(ends);
            busy = true;
        }
        busy
    }

    #[allow(clippy::too_many_lines, reason = "a case for each kind")]
    fn event(made: &mut u64, haste: usize, process: &mut Process, rng: &mut Rng) -> Option<AgentEvent> {
        *made += 1;
        let stream = |n: u64| format!("s{n}").into();
        let request = |made: u64| RequestId::parse(&format!("r{made}")).expect("a request id");
        if let Some(event) = Self::background(*made, process, rng) {
            return Some(event);
        }
        if process.in_own_turn {
            return Some(Self::own_event(*made, process, rng));
        }
        Some(match rng.below(if process.turn.is_some() { 24 } else { 6 }) {
            0 => AgentEvent::Alive,
            1 => AgentEvent::Session { token: format!("session-{}", *made % 3) },
            2 => AgentEvent::Model { name: format!("model-{}", *made % 2) },
            3 if rng.chance(20) => AgentEvent::Progress { text: "out of turn, perhaps".into() },
            3 if process.turn.is_none() => {
                process.has_aside = true;
                AgentEvent::Text { stream: ASIDE.into(), text: format!("[{made}] aside") }
            }
            4 if process.turn.is_none() => tool_ended(LATE.into(), String::new()),
            5 if process.turn.is_none() && rng.chance(30) => Self::end_own(process, rng),
            5 if process.turn.is_none() => Self::end(process, rng),
            3..=10 => {
                let text = format!("[{}]{}", *made, "é".repeat(rng.below(40)));
                AgentEvent::Text { stream: stream(process.streams + made.wrapping_rem(2)), text }
            }
            11 => {
                let text = format!("[{}]{}", *made, "x".repeat(rng.below(3000)));
                AgentEvent::Text { stream: stream(process.streams), text }
            }
            12 => {
                process.streams += 1;
                let text = rng.chance(30).then(|| format!("[{made}] whole"));
                AgentEvent::TextEnd {
                    stream: stream(process.streams - 1),
                    text,
                    void: rng.chance(20),
                    sources: Vec::new(),
                }
            }
            13 => AgentEvent::Reasoning { stream: "think".into(), text: format!("[{made}] hm") },
            14 => {
                process.tools += 1;
                AgentEvent::ToolStarted {
                    call_id: format!("k{}", process.tools),
                    name: "Bash".into(),
                    input: ToolInput::whole(serde_json::json!({"n": *made})),
                }
            }
            15 => tool_ended(format!("k{}", process.tools), "out".repeat(rng.below(100))),
            16 => AgentEvent::Message { text: format!("[{made}] message") },
            17 => {
                process.open.insert(request(*made), false);
                AgentEvent::Permission(PermissionAsk {
                    request_id: request(*made),
                    tool: "Bash".into(),
                    input: format!("{{\"n\":{made}}}"),
                    description: None,
                    call_id: None,
                })
            }
            18 => {
                process.open.insert(request(*made), true);
                let item = QuestionItem {
                    question: "q".into(),
                    header: Some(made.to_string()),
                    multi_select: false,
                    options: Vec::new(),
                    optional: false,
                    format: None,
                    min: None,
                    max: None,
                };
                AgentEvent::Question(Question { request_id: request(*made), questions: vec![item] })
            }
            19 => {
                // An answer may arrive late, so the request stays open here until the turn ends.
                let request_id = process.open.keys().next()?.clone();
                AgentEvent::Withdrawn { request_id }
            }
            // An agent with an open request mostly waits for the answer.
            _ if rng.chance(haste) && (process.open.is_empty() || rng.chance(20)) => Self::end(process, rng),
            _ => AgentEvent::Alive,
        })
    }

    /// Background work begins or ends, or the agent begins a turn by itself.
    fn background(made: u64, process: &mut Process, rng: &mut Rng) -> Option<AgentEvent> {
        if process.turn.is_none() && !process.in_own_turn && rng.chance(8) {
            process.in_own_turn = true;
            return Some(AgentEvent::AgentTurnStarted { reason: TurnReason::Background });
        }
        if !rng.chance(4) {
            return None;
        }
        if process.tasks.is_empty() || rng.chance(40) {
            process.tasks.insert(format!("b{made}"));
            return Some(AgentEvent::Task(task(format!("b{made}"), TaskStatus::Running)));
        }
        if rng.chance(30) {
            let title = format!("make {made}");
            let changed = task(process.tasks.first()?.clone(), TaskStatus::Running);
            return Some(AgentEvent::Task(Task { title, ..changed }));
        }
        let statuses = [TaskStatus::Completed, TaskStatus::Failed, TaskStatus::Stopped];
        Some(AgentEvent::Task(task(process.tasks.pop_first()?, *rng.pick(&statuses)?)))
    }

    /// Something that the agent says in its own turn.
    fn own_event(made: u64, process: &mut Process, rng: &mut Rng) -> AgentEvent {
        process.folded |= process.turn.is_some() && rng.chance(20);
        match rng.below(10) {
            0..=3 => AgentEvent::Text { stream: ASIDE.into(), text: format!("[{made}] by itself") },
            4 => AgentEvent::TextEnd { stream: ASIDE.into(), text: None, void: false, sources: Vec::new() },
            5 => {
                let request_id = RequestId::parse(&format!("r{made}")).expect("a request id");
                process.open.insert(request_id.clone(), false);
                process.asked_in_own_turns.insert(request_id.clone());
                AgentEvent::Permission(PermissionAsk {
                    request_id,
                    tool: "Bash".into(),
                    input: format!("{{\"n\":{made}}}"),
                    description: None,
                    call_id: None,
                })
            }
            6 | 7 if process.open.is_empty() || rng.chance(20) => Self::end_own(process, rng),
            _ => AgentEvent::Alive,
        }
    }

    fn end_own(process: &mut Process, rng: &mut Rng) -> AgentEvent {
        // As after a prompt's turn, an answer may still be on its way.
        process.in_own_turn = false;
        let outcomes = [Outcome::Completed, Outcome::Cancelled, Outcome::Failed];
        let outcome = rng.pick(&outcomes).copied().unwrap_or(Outcome::Completed);
        AgentEvent::AgentTurnEnded { outcome, error: None, usage: None, cost: None }
    }

    fn end(process: &mut Process, rng: &mut Rng) -> AgentEvent {
        process.turn = None;
        let outcome = match (process.cancelled, rng.below(3)) {
            (true, 0 | 1) => Outcome::Cancelled,
            (_, 0) => Outcome::Failed,
            _ => Outcome::Completed,
        };
        AgentEvent::TurnEnded { outcome, error: None, usage: None, cost: None }
    }
}

fn tool_ended(call_id: String, result: String) -> AgentEvent {
    AgentEvent::ToolEnded {
        call_id,
        name: "Bash".into(),
        result: Ok(result),
        truncated: false,
        media: Vec::new(),
        sources: Vec::new(),
    }
}

fn task(task_id: String, status: TaskStatus) -> Task {
    Task { task_id, kind: TaskKind::Shell, title: "make".into(), status, parent_call_id: None }
}

/// Checks that a gateway sends the commands of the open turn again: it cannot know which of them the host has.
fn check_sent_again(journal: &Journal, chat: &ChatKey, sent: &VecDeque<AgentCommand>) {
    let open = journal.chat(chat).and_then(|record| record.turns.into_iter().next());
    let Some(open) = open.filter(|open| open.started_at_ms.is_some() && !journal.lossy) else { return };
    let prompt = |command: &AgentCommand| matches!(command, AgentCommand::Prompt { turn_id, .. } if *turn_id == open.turn_id);
    assert!(sent.iter().any(prompt), "the prompt of a running turn is sent again");
    let cancel = |command: &AgentCommand| matches!(command, AgentCommand::Cancel { turn_id, .. } if *turn_id == open.turn_id);
    assert!(!open.cancel_requested || sent.iter().any(cancel), "so is the turn's cancellation");
}
