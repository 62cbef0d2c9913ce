//! A chat's state as far as the journal has it, which is as far as anybody may see it.

use alloc::{boxed::Box, collections::VecDeque, string::ToString, vec::Vec};

use serde_json::value::RawValue;

use crate::{
    ids::{RequestId, TurnId},
    wire::{ChatBody, ChatState, Frame, GoalState, RunningTurn},
};

#[derive(Debug, Default)]
pub(super) struct View {
    turn: Option<RunningTurn>,
    queue: VecDeque<(TurnId, Frame)>,
    requests: Vec<(RequestId, Frame)>,
    goal: GoalState,
}

impl View {
    pub(super) fn restored(
        turn: Option<RunningTurn>,
        queue: VecDeque<(TurnId, Frame)>,
        requests: Vec<(RequestId, Frame)>,
        goal: GoalState,
    ) -> Self {
        Self { turn, queue, requests, goal }
    }

    /// Takes in an event that the journal has.
    pub(super) fn apply(&mut self, turn_id: Option<&TurnId>, body: &ChatBody, frame: &Frame) {
        match body {
            ChatBody::UserMessage { .. } => {
                if let Some(id) = turn_id {
                    self.queue.push_back((id.clone(), frame.clone()));
                }
            }
            ChatBody::TurnStarted { started_at_ms } => {
                if let Some(id) = turn_id {
                    self.queue.retain(|(queued, _)| queued != id);
                    self.turn = Some(RunningTurn { turn_id: id.clone(), started_at_ms: *started_at_ms });
                }
            }
            ChatBody::TurnEnd { .. } => {
                self.queue.retain(|(queued, _)| Some(queued) != turn_id);
                if self.turn.as_ref().map(|turn| &turn.turn_id) == turn_id {
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
            | ChatBody::ToolEvent { .. }
            | ChatBody::FileEdit { .. } => {}
        }
    }

    pub(super) fn turn(&self) -> Option<&RunningTurn> {
        self.turn.as_ref()
    }

    pub(super) fn goal(&self) -> &GoalState {
        &self.goal
    }

    pub(super) fn active_goal(&self) -> Option<&GoalState> {
        Some(&self.goal).filter(|goal| goal.active)
    }

    /// The state for a snapshot.
    pub(super) fn state(&self) -> ChatState {
        ChatState {
            turn: self.turn.clone(),
            queue: self.queue.iter().map(|(_, frame)| raw(frame)).collect(),
            requests: self.requests.iter().map(|(_, frame)| raw(frame)).collect(),
            goal_state: self.active_goal().cloned(),
        }
    }
}

/// A frame inside another.
pub(super) fn raw(frame: &Frame) -> Box<RawValue> {
    RawValue::from_string(frame.as_str().to_string()).expect("a frame is JSON")
}
