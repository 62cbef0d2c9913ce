//! The naive model of an agent: what it may be told, and what it says at random.

use std::collections::{BTreeMap, BTreeSet};

use switchboard_core::{
    Input,
    agent::{AgentCommand, AgentEvent, AgentExit, AgentRecords, AgentRun},
    ids::{ChatKey, RequestId, TurnId},
    wire::{Outcome, PermissionRequest, Question, TurnError},
};

use super::rng::Rng;
use crate::support::{journal::Journal, world::World};

#[derive(Debug, Default)]
pub struct Agents {
    lives: BTreeMap<AgentRun, Life>,
    /// Every prompt that was ever sent.
    prompted: BTreeSet<(ChatKey, TurnId)>,
    made: u64,
}

#[derive(Debug, Default)]
struct Life {
    turn: Option<TurnId>,
    cancelled: bool,
    /// Does nothing any more until it is killed.
    hangs: bool,
    open: BTreeMap<RequestId, bool>,
    streams: u64,
    tools: u64,
}

impl Agents {
    pub fn restart(&mut self) {
        self.lives.clear();
    }

    /// The journal has lost something. What it does not know may come once more.
    pub fn crash(&mut self, journal: &Journal) {
        self.prompted.retain(|(chat, turn)| is_started(journal, chat, turn));
    }

    /// Takes what it was told, and checks that it might be.
    pub fn listen(&mut self, world: &mut World, run: AgentRun) {
        let Some(link) = world.agents.get_mut(&run) else { return };
        let life = self.lives.entry(run).or_default();
        while let Some(command) = link.commands.pop_front() {
            match command {
                AgentCommand::Prompt { turn_id, text, .. } => {
                    assert!(life.turn.is_none(), "a prompt while a turn is open");
                    let message = (link.chat.clone(), turn_id.clone());
                    assert!(!self.prompted.contains(&message), "a prompt is sent once");
                    // What was lost may come again.
                    if !world.journal.lossy || is_started(&world.journal, &link.chat, &turn_id) {
                        self.prompted.insert(message);
                    }
                    let record = world.journal.chat(&link.chat);
                    let kept = record.is_some_and(|record| {
                        record.turns.iter().any(|turn| {
                            turn.turn_id == turn_id && turn.text == text && turn.started_at_ms.is_some()
                        })
                    });
                    // It may have ended meanwhile, and the chat been deleted: commands travel.
                    let log = world.journal.log(&link.chat);
                    let ended = log.iter().any(|event| {
                        event.frame.as_str().contains("\"event\":\"turn_end\"")
                            && event.frame.as_str().contains(&format!("\"turn_id\":\"{turn_id}\""))
                    });
                    assert!(kept || ended || world.journal.lossy, "a prompt is durable before it is sent");
                    life.turn = Some(turn_id);
                    life.cancelled = false;
                }
                AgentCommand::Cancel { turn_id, .. } => {
                    life.cancelled |= life.turn.as_ref() == Some(&turn_id);
                }
                AgentCommand::Answer { request_id, .. } => {
                    assert!(life.open.remove(&request_id).is_some(), "an answer to what was asked, once");
                }
            }
        }
    }

    /// Does something at random.
    pub fn act(&mut self, world: &mut World, run: AgentRun, rng: &mut Rng) {
        self.listen(world, run);
        let Some(link) = world.agents.get_mut(&run) else { return };
        let life = self.lives.entry(run).or_default();
        if link.stopping == Some(true) || (link.stopping.is_some() && !life.hangs && rng.chance(60)) {
            self.exit(world, run, AgentExit::Stopped);
            return;
        }
        if life.hangs || (link.held && rng.chance(90)) {
            return;
        }
        if rng.chance(2) {
            life.hangs = true;
            return;
        }
        if rng.chance(2) {
            let error = TurnError { code: "agent_exited".into(), detail: "it went away".into() };
            let exit = if rng.chance(50) { AgentExit::Gone(error) } else { AgentExit::StartFailed(error) };
            self.exit(world, run, exit);
            return;
        }
        let mut events = Vec::new();
        for _ in 0..=rng.below(3) {
            events.extend(Self::event(&mut self.made, life, rng));
        }
        self.say(world, run, events);
    }

    fn event(made: &mut u64, life: &mut Life, rng: &mut Rng) -> Option<AgentEvent> {
        *made += 1;
        let stream = |n: u64| format!("s{n}").into();
        let request = |made: u64| RequestId::parse(&format!("r{made}")).expect("a request id");
        Some(match rng.below(if life.turn.is_some() { 24 } else { 4 }) {
            0 => AgentEvent::Alive,
            1 => AgentEvent::Session { token: format!("session-{}", *made % 3) },
            2 => AgentEvent::Model { name: format!("model-{}", *made % 2) },
            3 if rng.chance(20) => AgentEvent::Progress { text: "out of turn, perhaps".into() },
            3..=10 => {
                let text = format!("{}{}", *made, "é".repeat(rng.below(40)));
                AgentEvent::Text { stream: stream(life.streams + made.wrapping_rem(2)), text }
            }
            11 => AgentEvent::Text { stream: stream(life.streams), text: "x".repeat(rng.below(3000)) },
            12 => {
                life.streams += 1;
                let text = rng.chance(30).then(|| "whole".to_owned());
                AgentEvent::TextEnd { stream: stream(life.streams - 1), text, void: rng.chance(20) }
            }
            13 => AgentEvent::Reasoning { stream: "think".into(), text: format!("hm {made}") },
            14 => {
                life.tools += 1;
                let arguments = serde_json::json!({"n": *made});
                AgentEvent::ToolStarted {
                    call_id: format!("k{}", life.tools),
                    name: "Bash".into(),
                    arguments,
                }
            }
            15 => AgentEvent::ToolEnded {
                call_id: format!("k{}", life.tools),
                name: "Bash".into(),
                result: Ok("out".repeat(rng.below(100))),
                truncated: false,
            },
            16 => AgentEvent::Message { text: format!("message {made}") },
            17 => {
                life.open.insert(request(*made), false);
                AgentEvent::Permission(PermissionRequest {
                    request_id: request(*made),
                    tool: "Bash".into(),
                    input: serde_json::json!({}),
                    description: None,
                    call_id: None,
                    truncated: false,
                })
            }
            18 => {
                life.open.insert(request(*made), true);
                AgentEvent::Question(Question { request_id: request(*made), questions: Vec::new() })
            }
            19 => {
                // An answer may be on its way: it stays open here until the turn is over.
                let request_id = life.open.keys().next()?.clone();
                AgentEvent::Withdrawn { request_id }
            }
            _ => return Some(Self::end(life, rng)),
        })
    }

    fn end(life: &mut Life, rng: &mut Rng) -> AgentEvent {
        life.turn = None;
        let outcome = match (life.cancelled, rng.below(3)) {
            (true, 0 | 1) => Outcome::Cancelled,
            (_, 0) => Outcome::Failed,
            _ => Outcome::Completed,
        };
        AgentEvent::TurnEnded { outcome, error: None, usage: None, cost: None }
    }

    fn say(&mut self, world: &mut World, run: AgentRun, events: Vec<AgentEvent>) {
        let Some(link) = world.agents.get_mut(&run) else { return };
        link.position += 1;
        let (chat, position) = (link.chat.clone(), link.position);
        let records = AgentRecords { position, events, checkpoint: None };
        world.step(Input::AgentRecords { chat, run, records });
    }

    fn exit(&mut self, world: &mut World, run: AgentRun, exit: AgentExit) {
        self.lives.remove(&run);
        if let Some(link) = world.agents.remove(&run) {
            world.step(Input::AgentExited { chat: link.chat, run, exit });
        }
    }

    /// Behaves: ends its turn, goes if it was told to. True if it had anything to do.
    pub fn behave(&mut self, world: &mut World, run: AgentRun, rng: &mut Rng) -> bool {
        self.listen(world, run);
        let Some(link) = world.agents.get(&run) else { return false };
        let life = self.lives.entry(run).or_default();
        if link.stopping.is_some() {
            self.exit(world, run, AgentExit::Stopped);
            return true;
        }
        life.hangs = false;
        if life.turn.is_none() || link.held {
            return false;
        }
        let end = Self::end(life, rng);
        self.say(world, run, vec![end]);
        true
    }
}

/// Whether the journal knows of a turn and its start. A message may be left whose start is lost: the next gateway takes
/// it for one that waits.
fn is_started(journal: &Journal, chat: &ChatKey, turn: &TurnId) -> bool {
    let open = journal.chat(chat).map_or_else(Vec::new, |record| record.turns);
    let waits = open.iter().any(|open| open.turn_id == *turn && open.started_at_ms.is_none());
    journal.knows(chat, turn.as_str()) && !waits
}
