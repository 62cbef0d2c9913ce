//! A chat's state as far as the journal has it. Clients see this state only.

use alloc::{collections::VecDeque, vec::Vec};

use sha2::{Digest as _, Sha256};

use crate::{
    hub::chat::tasks::Tasks,
    ids::{Cursor, RequestId, TurnId},
    journal::{ChatRecord, TurnRecord},
    wire::{AgentTurn, ChatBody, ChatEvent, Frame, GoalState, RunningTurn, Task, TurnOrigin, TurnReason},
};

#[derive(Debug, Default)]
pub(in crate::hub::chat) struct DurableState {
    /// The running turn, and its `user_message` event.
    turn: Option<(RunningTurn, Frame)>,
    /// The running turn that the agent began by itself.
    agent_turn: Option<AgentTurn>,
    /// The running background tasks of the agent.
    tasks: Tasks,
    queue: VecDeque<(TurnId, Frame)>,
    requests: Vec<(RequestId, Frame)>,
    goal: GoalState,
}

/// What lists of chats say of a chat.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::hub::chat) struct Activity {
    /// A turn runs.
    running: bool,
    /// A request waits for a person.
    waiting: bool,
}

/// An open turn, as far as the journal has it.
#[derive(Debug)]
pub(in crate::hub::chat) struct DurableTurn<'a> {
    pub(in crate::hub::chat) turn_id: &'a TurnId,
    /// The turn's `user_message`.
    pub(in crate::hub::chat) message: &'a Frame,
    /// When the turn started, in milliseconds of Unix time; none for a queued turn.
    pub(in crate::hub::chat) started_at_ms: Option<u64>,
}

/// A copy of a chat's state as of one sequence number, for a snapshot.
#[derive(Debug, Default)]
pub(in crate::hub::chat) struct StateAt {
    pub(in crate::hub::chat) turn: Option<RunningTurn>,
    pub(in crate::hub::chat) agent_turn: Option<AgentTurn>,
    pub(in crate::hub::chat) tasks: Vec<Task>,
    pub(in crate::hub::chat) queue: VecDeque<Frame>,
    pub(in crate::hub::chat) requests: VecDeque<Frame>,
    pub(in crate::hub::chat) goal_state: Option<GoalState>,
}

impl DurableState {
    /// The state in the journal's record.
    pub(in crate::hub::chat) fn of(record: &ChatRecord) -> Self {
        let agent_turn = record.agent_turn.as_ref().map(|turn| AgentTurn {
            turn_id: turn.turn_id.clone(),
            started_at_ms: turn.started_at_ms,
            reason: turn.reason,
        });
        let (tasks, goal) = (Tasks::restore(record.tasks.clone()), record.goal_state.clone());
        let mut state = Self { agent_turn, tasks, goal, ..Self::default() };
        for open in &record.turns {
            let (turn_id, frame) = (open.turn_id.clone(), open.frame.clone());
            match open.started_at_ms {
                Some(started_at_ms) => state.turn = Some((RunningTurn { turn_id, started_at_ms }, frame)),
                None => state.queue.push_back((turn_id, frame)),
            }
        }
        let requests = record.requests.iter();
        state.requests = requests.map(|open| (open.request_id.clone(), open.frame.clone())).collect();
        state
    }

    /// Updates the state with an event that the journal has.
    pub(in crate::hub::chat) fn apply(&mut self, turn_id: Option<&TurnId>, body: &ChatBody, frame: &Frame) {
        match body {
            ChatBody::UserMessage { .. } => {
                if let Some(id) = turn_id {
                    self.queue.push_back((id.clone(), frame.clone()));
                }
            }
            ChatBody::TurnStarted { origin: TurnOrigin::Agent, reason, started_at_ms } => {
                self.agent_turn = turn_id.cloned().map(|turn_id| AgentTurn {
                    turn_id,
                    started_at_ms: *started_at_ms,
                    reason: reason.unwrap_or(TurnReason::Other),
                });
            }
            ChatBody::TurnEnd { origin: TurnOrigin::Agent, .. } => self.agent_turn = None,
            ChatBody::Task(task) => {
                self.tasks.note(task);
            }
            ChatBody::TurnStarted { origin: TurnOrigin::User, started_at_ms, .. } => {
                if let Some(place) = self.queue.iter().position(|(queued, _)| Some(queued) == turn_id)
                    && let Some((turn_id, message)) = self.queue.remove(place)
                {
                    self.turn = Some((RunningTurn { turn_id, started_at_ms: *started_at_ms }, message));
                }
            }
            ChatBody::TurnEnd { origin: TurnOrigin::User, .. } => {
                self.queue.retain(|(queued, _)| Some(queued) != turn_id);
                if self.turn().map(|turn| &turn.turn_id) == turn_id {
                    self.turn = None;
                }
            }
            ChatBody::PermissionRequest(request) => {
                self.requests.push((request.request_id.clone(), frame.clone()));
            }
            ChatBody::Question(question) => {
                self.requests.push((question.request_id.clone(), frame.clone()));
            }
            ChatBody::RequestResolved { request_id, .. } => {
                self.requests.retain(|(open, _)| open != request_id);
            }
            ChatBody::GoalState { goal_state } => self.goal = goal_state.clone(),
            ChatBody::Delta { .. }
            | ChatBody::StreamEnd { .. }
            | ChatBody::ReasoningDelta { .. }
            | ChatBody::ReasoningEnd { .. }
            | ChatBody::Message { .. }
            | ChatBody::Notice { .. }
            | ChatBody::ToolEvent { .. }
            | ChatBody::FileEdit { .. } => {}
        }
    }

    pub(in crate::hub::chat) fn agent_turn(&self) -> Option<&AgentTurn> {
        self.agent_turn.as_ref()
    }

    pub(in crate::hub::chat) fn tasks(&self) -> &[Task] {
        self.tasks.running()
    }

    pub(in crate::hub::chat) fn turn(&self) -> Option<&RunningTurn> {
        self.turn.as_ref().map(|(turn, _)| turn)
    }

    /// The open turns in the order of their messages.
    pub(in crate::hub::chat) fn open_turns(&self) -> impl Iterator<Item = DurableTurn<'_>> {
        let running = self.turn.iter().map(|(turn, message)| DurableTurn {
            turn_id: &turn.turn_id,
            message,
            started_at_ms: Some(turn.started_at_ms),
        });
        let queued = self.queue.iter();
        running.chain(queued.map(|(turn_id, message)| DurableTurn { turn_id, message, started_at_ms: None }))
    }

    /// Finds an open turn, with its message.
    pub(in crate::hub::chat) fn turn_record(&self, id: &TurnId) -> Option<TurnRecord> {
        let open = self.open_turns().find(|open| open.turn_id == id)?;
        let event: ChatEvent = serde_json::from_slice(open.message.bytes()).ok()?;
        let place = Cursor { epoch: event.place.epoch, seq: event.place.seq };
        let ChatBody::UserMessage { text, starts_turn, .. } = event.body else { return None };
        Some(TurnRecord { hash: Sha256::digest(text.as_bytes()).into(), place, starts_turn })
    }

    pub(in crate::hub::chat) fn activity(&self) -> Activity {
        let running = self.turn.is_some() || self.agent_turn.is_some();
        Activity { running, waiting: !self.requests.is_empty() }
    }

    pub(in crate::hub::chat) fn requests(&self) -> &[(RequestId, Frame)] {
        &self.requests
    }

    pub(in crate::hub::chat) fn goal(&self) -> &GoalState {
        &self.goal
    }

    pub(in crate::hub::chat) fn active_goal(&self) -> Option<&GoalState> {
        Some(&self.goal).filter(|goal| goal.active)
    }

    /// The state for a snapshot. The events share their bytes with this state and with other snapshots.
    pub(in crate::hub::chat) fn state(&self) -> StateAt {
        StateAt {
            turn: self.turn().cloned(),
            agent_turn: self.agent_turn.clone(),
            tasks: self.tasks().to_vec(),
            queue: self.queue.iter().map(|(_, frame)| frame.clone()).collect(),
            requests: self.requests.iter().map(|(_, frame)| frame.clone()).collect(),
            goal_state: self.active_goal().cloned(),
        }
    }
}
