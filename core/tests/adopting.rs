//! What a gateway stores so that the next gateway can adopt its agents, and how the next gateway adopts them.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test says what it expects, and no more"
)]

use std::collections::VecDeque;

use switchboard_core::{
    Hub, Input, Limits, Moment, Output, Peer,
    agent::{AgentCommand, AgentEvent, AgentExit, AgentInstanceId, AgentRecords},
    ids::{ChatId, ChatKey, ConnId, Epoch, Principal},
    journal::{
        Append, Ask, AskId, ChatRecord, Durability, Found, Grant, JournalAnswer, MemoryJournal, PageStart,
        Query,
    },
    wire::{ClientEnvelope, Message, Outcome, Task, TaskKind, TaskStatus, TurnError, TurnReason},
};

const CONN: ConnId = ConnId(1);

/// A hub and its journal, which commits an append only when the test says so.
struct World {
    hub: Hub,
    now: Moment,
    journal: MemoryJournal,
    appends: VecDeque<Append>,
    /// The questions that wait for an answer. If none, each question is answered at once.
    asks: Option<Vec<Ask>>,
}

impl World {
    fn new(journal: MemoryJournal, seed: u8) -> Self {
        Self::with_slots(journal, seed, Limits::default().agents)
    }

    fn with_slots(journal: MemoryJournal, seed: u8, agents: usize) -> Self {
        let now = Moment { ticks_ms: 0, boot_ms: 0, unix_ms: 1_700_000_000_000 };
        let hub = Hub::new(Limits { agents, ..Limits::default() }, [seed; 32], now);
        let mut world = Self { hub, now, journal, appends: VecDeque::new(), asks: None };
        world.step(Input::Opened {
            conn: CONN,
            peer: Peer { principal: Principal::owner(), client_id: None },
        });
        world
    }

    /// Returns the outputs other than appends and questions.
    fn step(&mut self, input: Input) -> Vec<Output> {
        self.hub.handle(self.now, input);
        let mut others = Vec::new();
        while let Some(output) = self.hub.poll_output() {
            match output {
                Output::Append(append) => self.appends.push_back(append),
                Output::Claim { chat } => {
                    self.hub.handle(self.now, Input::Owned { chat, grant: Grant::default() })
                }
                Output::Ask(ask) => match &mut self.asks {
                    Some(asks) => asks.push(ask),
                    None => self.hub.handle(self.now, Input::Journal(self.journal.ask(ask))),
                },
                other => others.push(other),
            }
        }
        others
    }

    /// The journal commits the next append.
    fn commit(&mut self) -> Vec<Output> {
        let append = self.appends.pop_front().expect("an append waits");
        let answer = self.journal.append(append);
        self.step(Input::Journal(answer))
    }

    fn commit_all(&mut self) -> Vec<Output> {
        let mut outputs = Vec::new();
        while !self.appends.is_empty() {
            outputs.extend(self.commit());
        }
        outputs
    }

    fn sends(&mut self, content: &str) -> Vec<Output> {
        self.sends_to("c", content)
    }

    fn cancels(&mut self) -> Vec<Output> {
        let cancel = ClientEnvelope::Cancel { chat_id: key().chat, turn_id: None };
        self.step(Input::Envelope { conn: CONN, envelope: cancel })
    }

    fn sends_to(&mut self, chat: &str, content: &str) -> Vec<Output> {
        let message = Message { chat_id: key_of(chat).chat, content: content.into(), turn_id: None };
        self.step(Input::Envelope { conn: CONN, envelope: ClientEnvelope::Message(message) })
    }

    fn records(&mut self, instance: AgentInstanceId, records: AgentRecords) -> Vec<Output> {
        self.step(Input::AgentRecords { chat: key(), instance, records })
    }

    /// The agent of a chat ends its turn. Returns the instances that are stopped because of it.
    fn ends(&mut self, chat: &str, instance: AgentInstanceId) -> Vec<AgentInstanceId> {
        let mut outputs = self.step(Input::AgentRecords { chat: key_of(chat), instance, records: ended(1) });
        outputs.extend(self.commit_all());
        stopped(&outputs)
    }

    /// The agent of a chat exits. Returns the instance that is started because of it.
    fn exits(&mut self, chat: &str, instance: AgentInstanceId) -> Option<AgentInstanceId> {
        let mut outputs =
            self.step(Input::AgentExited { chat: key_of(chat), instance, exit: AgentExit::Stopped });
        outputs.extend(self.commit_all());
        started(&outputs)
    }

    /// Starts a turn in a chat. Returns the instance that is started for it.
    fn begins(&mut self, chat: &str) -> AgentInstanceId {
        self.sends_to(chat, "hi");
        started(&self.commit_all()).expect("an agent is started")
    }

    /// The journal answers the questions that wait.
    fn answers(&mut self) -> Vec<Output> {
        let asks = self.asks.take().unwrap_or_default();
        let answers: Vec<_> = asks.into_iter().map(|ask| self.journal.ask(ask)).collect();
        answers.into_iter().flat_map(|answer| self.step(Input::Journal(answer))).collect()
    }

    fn waits(&mut self, ms: u64) -> Vec<Output> {
        self.now.ticks_ms += ms;
        self.step(Input::Tick)
    }

    fn record(&self) -> ChatRecord {
        let found = self.journal.ask(Ask { id: AskId(0), query: Query::Chat { chat: key(), term: None } });
        let JournalAnswer::Found(_, Found::Chat(Some(record))) = found else { panic!("{found:?}") };
        *record
    }
}

fn key() -> ChatKey {
    key_of("c")
}

fn key_of(chat: &str) -> ChatKey {
    ChatKey { principal: Principal::owner(), chat: ChatId::parse(chat).unwrap() }
}

fn stopped(outputs: &[Output]) -> Vec<AgentInstanceId> {
    let stopped = outputs.iter().filter_map(|output| match output {
        Output::StopAgent { instance, kill } => {
            assert!(!kill, "in good order");
            Some(*instance)
        }
        _ => None,
    });
    stopped.collect()
}

fn adopted(outputs: &[Output]) -> Vec<AgentInstanceId> {
    let adopted = outputs.iter().filter_map(|output| match output {
        Output::AdoptAgent { agent, .. } => Some(agent.instance),
        _ => None,
    });
    adopted.collect()
}

fn ended(position: u64) -> AgentRecords {
    let end = AgentEvent::TurnEnded { outcome: Outcome::Completed, error: None, usage: None, cost: None };
    AgentRecords { position, events: vec![end], checkpoint: None }
}

fn started(outputs: &[Output]) -> Option<AgentInstanceId> {
    outputs.iter().find_map(|output| match output {
        Output::StartAgent { instance, .. } => Some(*instance),
        _ => None,
    })
}

/// A hub with a running turn, and the agent that has the prompt.
fn in_a_turn() -> (World, AgentInstanceId) {
    let mut world = World::new(MemoryJournal::default(), 7);
    let instance = world.begins("c");
    (world, instance)
}

/// The gateway is killed. Appends that the journal has not committed are lost.
fn next(world: World) -> (World, Vec<Output>) {
    let mut next = World::new(world.journal, 8);
    let outputs = next.step(Input::Recover { chat: key() });
    (next, outputs)
}

/// The latency in the `turn_end` among the appends that are not committed.
fn latency_ms(world: &World) -> Option<u64> {
    let frames = world.appends.iter().flat_map(|append| &append.events).map(|event| event.frame.as_str());
    frames
        .map(|frame| serde_json::from_str::<serde_json::Value>(frame).unwrap())
        .find_map(|event| (event["event"] == "turn_end").then(|| event["latency_ms"].as_u64().unwrap()))
}

#[test]
fn a_prompt_goes_to_another_agent_only_if_the_dead_one_certainly_did_not_get_it() {
    let exit =
        || AgentExit::Unprompted(TurnError { code: "agent_exited".into(), detail: "it is dead".into() });
    // No turn runs. A message comes before the gateway learns that the agent is dead.
    let (mut world, instance) = in_a_turn();
    world.records(instance, ended(1));
    world.commit_all();
    let (mut next, _) = next(world);
    next.sends("more");
    let outputs = next.commit_all();
    let prompt = |outputs: &[Output]| {
        outputs.iter().find_map(|output| match output {
            Output::Command { instance, command: command @ AgentCommand::Prompt { .. } } => {
                Some((*instance, command.clone()))
            }
            _ => None,
        })
    };
    let (instance_again, first) = prompt(&outputs).expect("the agent counts as alive");
    assert_eq!(instance_again, instance);
    let outputs = next.step(Input::AgentExited { chat: key(), instance, exit: exit() });
    assert!(started(&outputs).is_none(), "the journal must have its `AgentStarted` first");
    let outputs = next.commit_all();
    let another = started(&outputs).expect("another instance starts");
    assert_eq!(prompt(&outputs), Some((another, first)), "under its id: the prompt is sent once");
    let record = next.record();
    assert_eq!(record.agent.as_ref().map(|agent| agent.instance), Some(another));
    assert_eq!(record.commands.len(), 1);
    // The gateway that adopts this instance does not know whether the instance got the prompt.
    let (mut last, _) = self::next(next);
    last.step(Input::AgentExited { chat: key(), instance: another, exit: exit() });
    let frames: Vec<_> = last.appends.iter().flat_map(|append| &append.events).collect();
    assert!(frames.iter().any(|event| event.frame.as_str().contains("interrupted")), "{frames:?}");
}

#[test]
fn the_latency_of_a_turn_counts_from_its_acceptance_over_restarts() {
    // The turn has run for 100 ms under the first gateway, and for 1,000 ms under the second.
    for (clock_went_ms, expected) in [(60_000, 61_000), (100, 1_100), (0, 1_000), (-3_600_000, 1_000)] {
        let (mut world, instance) = in_a_turn();
        world.waits(100);
        world.commit_all();
        let mut next = World::new(world.journal, 8);
        next.now.unix_ms = next.now.unix_ms.checked_add_signed(clock_went_ms).unwrap();
        next.step(Input::Recover { chat: key() });
        next.waits(1_000);
        next.records(instance, ended(1));
        assert_eq!(latency_ms(&next), Some(expected), "the clock went {clock_went_ms} ms");
    }
    let (mut world, instance) = in_a_turn();
    world.waits(100);
    world.now.unix_ms = 0;
    world.records(instance, ended(1));
    assert_eq!(latency_ms(&world), Some(100), "within one process the clock for people does not count");
}

#[test]
fn an_adopted_agent_without_a_turn_is_stopped_when_it_has_been_idle() {
    let (mut world, instance) = in_a_turn();
    world.records(instance, ended(1));
    world.commit_all();
    let (mut next, outputs) = next(world);
    assert!(
        matches!(&outputs[..], [Output::AdoptAgent { agent, .. }] if agent.instance == instance),
        "{outputs:?}"
    );
    let idle_ms = next.hub.limits().agent_idle_ms;
    assert_eq!(next.hub.next_deadline().map(|due| due.at_ms), Some(idle_ms));
    assert!(matches!(next.waits(idle_ms)[..], [Output::StopAgent { kill: false, .. }]));
}

#[test]
fn an_agent_gets_no_command_before_the_journal_has_its_start() {
    let (mut world, instance) = in_a_turn();
    world.records(instance, ended(1));
    world.commit_all();
    world.sends("again");
    let error = TurnError { code: "agent_exited".into(), detail: "it died".into() };
    world.step(Input::AgentExited { chat: key(), instance, exit: AgentExit::Gone(error) });
    assert_eq!(
        started(&world.commit()),
        None,
        "the turn has started, and the journal still names the other agent"
    );
    let outputs = world.commit_all();
    let other = started(&outputs).expect("another agent is started");
    let is_sent = |output: &Output| {
        matches!(output, Output::Command { instance, command: AgentCommand::Prompt { text, .. } }
            if *instance == other && text == "again")
    };
    assert!(outputs.iter().any(is_sent), "{outputs:?}");
    assert_eq!(world.record().agent.map(|agent| agent.instance), Some(other));
}

#[test]
fn an_agent_that_was_asked_to_stop_is_not_adopted() {
    let (mut world, _) = in_a_turn();
    world.sends("next");
    world.commit_all();
    world.cancels();
    world.commit_all();
    let grace_ms = world.hub.limits().cancel_grace_ms;
    let outputs = world.waits(grace_ms);
    assert!(
        outputs.iter().any(|output| matches!(output, Output::StopAgent { kill: true, .. })),
        "{outputs:?}"
    );
    world.commit_all();
    assert_eq!(world.record().agent, None, "the journal has no agent, whether or not the process has exited");
    // If the agent were adopted, its records of the ended turn would count as an answer to the next turn.
    let (mut next, outputs) = next(world);
    assert_eq!(adopted(&outputs), []);
    assert!(started(&next.commit_all()).is_some());
}

#[test]
fn a_checkpoint_is_synced() {
    let (mut world, instance) = in_a_turn();
    let text = |text: &str| vec![AgentEvent::Text { stream: "s".into(), text: text.into() }];
    world.records(instance, AgentRecords { position: 1, events: text("one"), checkpoint: None });
    world.commit_all();
    let mut durability = |position, checkpoint| {
        world.records(instance, AgentRecords { position, events: text("more"), checkpoint });
        let durability = world.appends[0].durability;
        world.commit_all();
        durability
    };
    assert_eq!(durability(2, None), Durability::Written);
    assert_eq!(durability(3, Some("state".into())), Durability::Synced);
}

#[test]
fn the_next_gateway_knows_the_reason_of_a_cancellation() {
    let (mut world, instance) = in_a_turn();
    let silent_ms = world.hub.limits().silent_turn_ms;
    world.waits(silent_ms);
    world.commit_all();
    let (mut next, _) = next(world);
    let end = AgentEvent::TurnEnded { outcome: Outcome::Cancelled, error: None, usage: None, cost: None };
    next.records(instance, AgentRecords { position: 1, events: vec![end], checkpoint: None });
    let logged: String =
        next.appends.iter().flat_map(|append| &append.events).map(|event| event.frame.as_str()).collect();
    assert!(logged.contains("\"outcome\":\"cancelled\"") && logged.contains("agent_silent"), "{logged}");
    next.commit_all();
}

#[test]
fn idle_agents_are_stopped_if_more_are_adopted_than_there_are_slots() {
    let mut world = World::with_slots(MemoryJournal::default(), 7, 4);
    let instances = ["a", "b", "c", "d"].map(|chat| world.begins(chat));
    world.ends("a", instances[0]);
    world.ends("d", instances[3]);
    let mut next = World::with_slots(world.journal, 8, 1);
    let outputs: Vec<_> = ["a", "b", "c", "d"]
        .map(|chat| next.step(Input::Recover { chat: key_of(chat) }))
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(adopted(&outputs), instances, "each is adopted, even if it is stopped at once");
    assert_eq!(stopped(&outputs), [instances[0], instances[3]]);
    next.commit_all();
    next.sends_to("e", "a new one");
    assert_eq!(started(&next.commit_all()), None);
    assert_eq!(next.exits("a", instances[0]), None);
    assert_eq!(next.exits("d", instances[3]), None, "still more agents than slots");
    assert_eq!(next.ends("b", instances[1]), [instances[1]], "it has no turn any more");
    assert_eq!(next.exits("b", instances[1]), None, "the last agent has the only slot");
    assert_eq!(next.ends("c", instances[2]), [instances[2]], "it is stopped once it has no turn");
    assert!(next.exits("c", instances[2]).is_some());
    assert_eq!(next.hub.counts().agents, 1);
}

#[test]
fn no_agent_starts_before_it_is_known_which_ones_are_adopted() {
    let mut world = World::with_slots(MemoryJournal::default(), 7, 1);
    let instance = world.begins("b");
    world.sends_to("a", "it waits for a slot");
    world.commit_all();
    let mut next = World::with_slots(world.journal, 8, 1);
    next.asks = Some(Vec::new());
    next.step(Input::Recover { chat: key_of("a") });
    next.step(Input::Recover { chat: key_of("b") });
    let mut outputs = next.answers();
    assert_eq!(adopted(&outputs), [instance]);
    outputs.extend(next.commit_all());
    assert_eq!(started(&outputs), None);
    assert_eq!(next.ends("b", instance), [instance]);
    assert!(next.exits("b", instance).is_some(), "the waiting chat gets the slot");
}

#[test]
fn a_chat_that_cannot_be_read_reserves_no_slot() {
    let mut world = World::with_slots(MemoryJournal::default(), 7, 1);
    world.begins("b");
    let mut next = World::with_slots(world.journal, 8, 1);
    next.asks = Some(Vec::new());
    next.step(Input::Recover { chat: key_of("b") });
    let asks = next.asks.take().unwrap();
    next.sends_to("a", "it waits until that is known");
    assert_eq!(started(&next.commit_all()), None);
    let mut outputs = next.step(Input::Journal(JournalAnswer::Failed(asks[0].id)));
    outputs.extend(next.commit_all());
    assert!(started(&outputs).is_some());
}

/// A hub whose disk has lost all appends that are not in this journal, just after the hub has noticed.
fn loses(mut world: World, mut journal: MemoryJournal) -> World {
    journal.reset_epoch(&key(), Epoch::parse("renewed").unwrap());
    world.journal = journal;
    world.sends("what shows it");
    let refused = world.appends.pop_front().unwrap();
    world.step(Input::Journal(JournalAnswer::Refused(refused.id)));
    let retry_ms = world.hub.limits().journal_retry_ms;
    world.waits(retry_ms);
    world
}

#[test]
fn the_end_of_a_turn_is_logged_again_with_the_end_of_its_agent() {
    let (mut world, _) = in_a_turn();
    world.sends("next");
    world.commit_all();
    let journal = world.journal.clone();
    world.cancels();
    world.commit_all();
    let grace_ms = world.hub.limits().cancel_grace_ms;
    world.waits(grace_ms);
    world.commit_all();
    let mut world = loses(world, journal);
    world.commit();
    let record = world.record();
    assert_eq!((record.turns.len(), record.agent), (1, None), "only the next one waits");
    let (mut next, outputs) = next(world);
    assert_eq!(adopted(&outputs), []);
    assert!(started(&next.commit_all()).is_some());
}

#[test]
fn the_cancellation_of_a_turn_is_appended_again() {
    let (mut world, _) = in_a_turn();
    let journal = world.journal.clone();
    world.cancels();
    world.commit_all();
    let mut world = loses(world, journal);
    world.commit_all();
    assert!(world.record().turns[0].cancel_requested, "only the prompt was committed");
}

#[test]
fn the_end_of_a_turn_is_logged_again_with_the_position_of_its_agent() {
    let (mut world, instance) = in_a_turn();
    let journal = world.journal.clone();
    world.records(instance, ended(1));
    world.commit_all();
    let mut world = loses(world, journal);
    world.commit();
    let record = world.record();
    assert_eq!((record.turns.len(), record.agent.map(|agent| agent.position)), (0, Some(1)));
}

#[test]
fn an_agent_is_adopted_for_the_running_turn_or_the_next_one() {
    let (mut world, instance) = in_a_turn();
    world.sends("next");
    world.commit_all();
    let turns: Vec<_> = world.record().turns.into_iter().map(|open| open.turn_id).collect();
    let taken_up_for = |outputs: &[Output]| {
        outputs.iter().find_map(|output| match output {
            Output::AdoptAgent { turn, .. } => Some(turn.clone()),
            _ => None,
        })
    };
    let (_, outputs) = next(World::new(world.journal.clone(), 9));
    assert_eq!(taken_up_for(&outputs), Some(Some(turns[0].clone())));
    world.records(instance, ended(1));
    world.commit();
    let (_, outputs) = next(World::new(world.journal.clone(), 9));
    assert_eq!(taken_up_for(&outputs), Some(Some(turns[1].clone())));
}

#[test]
fn a_prompt_that_is_appended_again_outlasts_the_end_of_the_turn_before() {
    let (mut world, instance) = in_a_turn();
    world.sends("next");
    world.commit_all();
    let journal = world.journal.clone();
    world.records(instance, ended(1));
    world.commit_all();
    let mut world = loses(world, journal);
    world.commit_all();
    let (running, commands) = (world.record().turns[0].turn_id.clone(), world.record().commands);
    let is_it = |command: &AgentCommand| matches!(command, AgentCommand::Prompt { turn_id, .. } if *turn_id == running);
    assert!(matches!(&commands[..], [prompt] if is_it(prompt)), "{commands:?}");
}

#[test]
fn an_agent_start_that_is_appended_again_does_not_prove_that_earlier_appends_are_committed() {
    let (mut world, instance) = in_a_turn();
    world.sends("one");
    world.cancels();
    let grace_ms = world.hub.limits().cancel_grace_ms;
    world.waits(grace_ms);
    world.commit_all();
    // `AgentStarted` of the next agent is appended with the turn that the agent is started for, and again with the
    // turn after it.
    world.step(Input::AgentExited { chat: key(), instance, exit: AgentExit::Stopped });
    world.sends("two");
    world.cancels();
    let refuse_all = |world: &mut World| {
        let refused: Vec<Append> = world.appends.drain(..).collect();
        for append in refused {
            world.step(Input::Journal(JournalAnswer::Refused(append.id)));
        }
        world.waits(world.hub.limits().journal_retry_ms)
    };
    let first = world.appends[0].clone();
    world.journal.append(first);
    refuse_all(&mut world);
    assert_eq!(world.appends.len(), 2, "the end of the first turn, and `AgentStarted`: {:?}", world.appends);
    refuse_all(&mut world);
    assert_eq!(world.appends.len(), 2, "neither was committed: {:?}", world.appends);
    world.commit_all();
    assert!(world.record().turns.is_empty());
}

#[test]
fn an_agent_ends_the_turn_of_its_prompt_though_the_journal_lost_the_start() {
    let (mut world, instance) = in_a_turn();
    world.sends("next");
    world.commit_all();
    world.records(instance, ended(1));
    world.commit();
    // The next turn starts and its agent is prompted. Then the journal loses the start.
    let lost = world.journal.clone();
    world.commit_all();
    let (mut world, outputs) = next(World::new(lost, 9));
    assert_eq!(adopted(&outputs), [instance]);
    assert_eq!(world.record().turns.first().and_then(|open| open.started_at_ms), None);
    world.records(instance, ended(2));
    world.commit_all();
    assert_eq!(world.record().turns.len(), 0, "the records of the agent ended the turn");
}

#[test]
fn a_turn_that_the_agent_began_goes_on_under_the_next_gateway_and_ends_once() {
    let (mut world, instance) = in_a_turn();
    let mut position = 0;
    let mut says = |world: &mut World, events: Vec<AgentEvent>| {
        position += 1;
        let records = AgentRecords { position, events, checkpoint: None };
        world.step(Input::AgentRecords { chat: key(), instance, records })
    };
    let task = |status| {
        AgentEvent::Task(Task {
            task_id: "b1".into(),
            kind: TaskKind::Shell,
            title: "make".into(),
            status,
            parent_call_id: None,
        })
    };
    let text = |text: &str| AgentEvent::Text { stream: "s".into(), text: text.into() };
    says(
        &mut world,
        vec![
            task(TaskStatus::Running),
            AgentEvent::TurnEnded { outcome: Outcome::Completed, error: None, usage: None, cost: None },
        ],
    );
    says(&mut world, vec![AgentEvent::AgentTurnStarted { reason: TurnReason::Background }, text("one")]);
    world.commit_all();
    let open = world.record().agent_turn.expect("an open turn of the agent's");
    let (mut next, outputs) = next(world);
    assert_eq!(adopted(&outputs), [instance]);
    says(&mut next, vec![text(" two")]);
    // The reason of a cancellation by the gateway survives one more restart.
    let silent_ms = next.hub.limits().silent_turn_ms;
    next.waits(silent_ms + 1);
    next.commit_all();
    let cancelled = next.record().agent_turn.expect("it is still open");
    assert_eq!((&cancelled.turn_id, cancelled.cancel_requested), (&open.turn_id, true));
    assert_eq!(cancelled.cancel_reason.as_ref().map(|reason| reason.code.as_str()), Some("agent_silent"));
    let (mut last, _) = self::next(next);
    let end = AgentEvent::AgentTurnEnded { outcome: Outcome::Failed, error: None, usage: None, cost: None };
    says(&mut last, vec![end, task(TaskStatus::Failed)]);
    last.commit_all();
    let record = last.record();
    assert_eq!((record.agent_turn, record.tasks), (None, Vec::new()));
    let query = Query::Before { chat: key(), before: PageStart::At(100), events: 100, bytes: 1 << 20 };
    let JournalAnswer::Found(_, Found::Before(Some(page))) = last.journal.ask(Ask { id: AskId(0), query })
    else {
        panic!("a page");
    };
    let log: Vec<serde_json::Value> =
        page.events.iter().map(|frame| serde_json::from_str(frame.as_str()).expect("JSON")).collect();
    let of_turn: Vec<&serde_json::Value> =
        log.iter().filter(|event| event["turn_id"] == open.turn_id.as_str()).collect();
    let kinds: Vec<&str> = of_turn.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!(kinds, ["turn_started", "delta", "stream_end", "turn_end"]);
    assert_eq!(of_turn[1]["text"], "one two");
    let end = of_turn.last().expect("an end");
    assert_eq!(
        (end["outcome"].as_str(), end["error"]["code"].as_str()),
        (Some("cancelled"), Some("agent_silent"))
    );
}
