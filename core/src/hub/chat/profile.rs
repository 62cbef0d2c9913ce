//! What a chat says of itself besides its log: title, goal and model.

use alloc::string::String;

use crate::{
    ids::ChatId,
    wire::{ControlEvent, GoalState, UpdateScope},
};

/// The title, the goal and the model of a chat, which the journal may not have yet.
#[derive(Debug, Default)]
pub(super) struct Profile {
    title: Option<String>,
    goal: GoalState,
    /// The name of the model that the agent uses, as the agent reported it.
    model: Option<String>,
}

impl Profile {
    pub(super) fn new(title: Option<String>, goal: GoalState) -> Self {
        Self { title, goal, model: None }
    }

    pub(super) fn title(&self) -> Option<&String> {
        self.title.as_ref()
    }

    pub(super) fn set_title(&mut self, title: Option<String>) {
        self.title = title;
    }

    pub(super) fn set_goal(&mut self, goal: GoalState) {
        self.goal = goal;
    }

    pub(super) fn active_goal(&self) -> Option<GoalState> {
        Some(&self.goal).filter(|goal| goal.active).cloned()
    }

    pub(super) fn model(&self) -> Option<&String> {
        self.model.as_ref()
    }

    /// The agent reported its model. Returns whether that is another one.
    pub(super) fn set_model(&mut self, name: &String) -> bool {
        let changed = self.model.as_ref() != Some(name);
        if changed {
            self.model = Some(name.clone());
        }
        changed
    }

    /// A `session_updated` with the title.
    pub(super) fn updated(&self, chat_id: &ChatId, scope: UpdateScope) -> ControlEvent {
        ControlEvent::SessionUpdated { chat_id: chat_id.clone(), scope, title: self.title.clone() }
    }
}
