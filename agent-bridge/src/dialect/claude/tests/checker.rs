//! Checks that everything that begins ends, and ends once.

#![allow(clippy::wildcard_enum_match_arm, reason = "most events neither begin nor end anything")]

use std::collections::{BTreeMap, BTreeSet};

use switchboard_core::{
    agent::{AgentEvent, StreamId},
    wire::{Task, TaskStatus},
};

use super::recordings::Step;

/// What is open between two events.
#[derive(Debug, Default)]
struct Open {
    prompt: bool,
    agent_turn: bool,
    streams: BTreeSet<StreamId>,
    ended_streams: BTreeSet<StreamId>,
    /// Running tools, each with the tool use that runs its subagent.
    tools: BTreeMap<String, Option<String>>,
    requests: BTreeSet<String>,
    /// Running tasks, each with the tool use that began it.
    tasks: BTreeMap<String, Option<String>>,
}

/// Follows the events of a conversation, and asserts that nothing begins or ends twice, or outside of a turn. Returns
/// what is open at the end, without what the hub closes with the turn that it belongs to.
pub(super) fn open_at_end(steps: &[Step]) -> Vec<String> {
    let mut open = Open::default();
    for step in steps {
        match step {
            Step::Prompted => assert!(!std::mem::replace(&mut open.prompt, true), "one prompt at a time"),
            Step::Answered(request_id) => drop(open.requests.remove(request_id.as_str())),
            Step::Decoded(_, out) => out.events.iter().for_each(|event| open.event(None, event)),
        }
    }
    let Open { prompt, agent_turn, streams, tools, requests, tasks, .. } = open;
    let turns = [(prompt, "the prompt's turn"), (agent_turn, "the agent's turn")];
    let turns = turns.into_iter().filter(|(open, _)| *open).map(|(_, name)| name.to_owned());
    turns
        .chain(streams.iter().map(|stream| format!("stream {stream}")))
        .chain(tools.into_keys().map(|id| format!("tool {id}")))
        .chain(requests.into_iter().map(|id| format!("request {id}")))
        .chain(tasks.into_keys().map(|id| format!("task {id}")))
        .collect()
}

impl Open {
    fn event(&mut self, parent: Option<&str>, event: &AgentEvent) {
        match event {
            AgentEvent::AgentTurnStarted { .. } => {
                assert!(!std::mem::replace(&mut self.agent_turn, true), "one turn of the agent's at a time");
            }
            AgentEvent::AgentTurnEnded { .. } => {
                assert!(std::mem::take(&mut self.agent_turn), "no turn of the agent's is open");
                self.turn_ended();
            }
            AgentEvent::TurnEnded { .. } => {
                assert!(std::mem::take(&mut self.prompt), "no prompt's turn is open");
                if !self.agent_turn {
                    self.turn_ended();
                }
            }
            AgentEvent::Task(Task { task_id, status: TaskStatus::Running, parent_call_id, .. }) => {
                self.tasks.insert(task_id.clone(), parent_call_id.clone());
            }
            AgentEvent::Task(Task { task_id, .. }) => {
                let began_by = self.tasks.remove(task_id).unwrap_or_else(|| panic!("task {task_id}"));
                self.tools.retain(|_, parent| parent.is_none() || *parent != began_by);
            }
            AgentEvent::Withdrawn { request_id } => drop(self.requests.remove(request_id.as_str())),
            AgentEvent::Subagent { parent_call_id, event } => self.event(Some(parent_call_id), event),
            AgentEvent::Progress { .. }
            | AgentEvent::Alive
            | AgentEvent::Notice { .. }
            | AgentEvent::Model { .. }
            | AgentEvent::Session { .. } => {}
            of_turn => {
                assert!(self.prompt || self.agent_turn, "outside of a turn: {of_turn:?}");
                self.event_of_turn(parent, of_turn);
            }
        }
    }

    fn event_of_turn(&mut self, parent: Option<&str>, event: &AgentEvent) {
        match event {
            AgentEvent::Text { stream, .. } | AgentEvent::Reasoning { stream, .. } => {
                assert!(!self.ended_streams.contains(stream), "stream {stream} goes on after its end");
                self.streams.insert(stream.clone());
            }
            AgentEvent::TextEnd { stream, void, .. } | AgentEvent::ReasoningEnd { stream, void } => {
                self.streams.remove(stream);
                let first = self.ended_streams.insert(stream.clone());
                assert!(first || *void, "stream {stream} ends twice");
            }
            AgentEvent::ToolStarted { call_id, .. } => {
                let before = self.tools.insert(call_id.clone(), parent.map(Into::into));
                assert!(before.is_none(), "tool {call_id} begins twice");
            }
            AgentEvent::ToolUpdated { call_id, .. } => {
                let began_under = self.tools.get(call_id);
                assert_eq!(began_under.map(Option::as_deref), Some(parent), "tool {call_id}");
            }
            AgentEvent::ToolEnded { call_id, .. } => {
                let began_under = self.tools.remove(call_id);
                assert_eq!(began_under.as_ref().map(Option::as_deref), Some(parent), "tool {call_id}");
            }
            AgentEvent::Permission(ask) => drop(self.requests.insert(ask.request_id.as_str().into())),
            AgentEvent::Question(ask) => drop(self.requests.insert(ask.request_id.as_str().into())),
            _ => {}
        }
    }

    /// The hub closes what is open at a turn's end, except the tools of subagents that go on.
    fn turn_ended(&mut self) {
        assert_eq!(self.streams, BTreeSet::new(), "streams end before their turn");
        self.close_left();
        self.requests.clear();
    }

    /// Closes the tools that no running task has begun.
    fn close_left(&mut self) {
        let running: BTreeSet<String> = self.tasks.values().flatten().cloned().collect();
        self.tools.retain(|_, parent| parent.as_ref().is_some_and(|parent| running.contains(parent)));
    }
}

/// The text of each ended turn, without that of subagents; turns without any are left out.
pub(super) fn texts(steps: &[Step]) -> Vec<String> {
    let mut texts = by_turn(steps);
    texts.pop();
    texts.retain(|text| !text.is_empty());
    texts
}

/// The text of each turn, without that of subagents and what is void. The last one has not ended.
pub(super) fn by_turn(steps: &[Step]) -> Vec<String> {
    let (mut texts, mut turn) = (Vec::new(), Vec::<(Option<StreamId>, String)>::new());
    let decoded = steps.iter().filter_map(|step| match step {
        Step::Decoded(_, out) => Some(&out.events),
        Step::Prompted | Step::Answered(_) => None,
    });
    let mut end = |turn: &mut Vec<(Option<StreamId>, String)>| {
        texts.push(turn.drain(..).map(|(_, text)| text).collect::<String>());
    };
    for event in decoded.flatten() {
        match event {
            AgentEvent::Text { stream, text } => turn.push((Some(stream.clone()), text.clone())),
            AgentEvent::TextEnd { stream, void: true, .. } => {
                turn.retain(|(of, _)| of.as_ref() != Some(stream));
            }
            AgentEvent::TextEnd { text: Some(text), .. } | AgentEvent::Message { text } => {
                turn.push((None, text.clone()));
            }
            AgentEvent::TurnEnded { .. } | AgentEvent::AgentTurnEnded { .. } => end(&mut turn),
            _ => {}
        }
    }
    end(&mut turn);
    texts
}
