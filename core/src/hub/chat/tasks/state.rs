//! The running background tasks of a chat's agent.

use alloc::{collections::BTreeSet, string::String, vec::Vec};

use crate::{
    journal::Change,
    wire::{Task, TaskStatus},
};

/// Running tasks of one agent. An agent that exceeds it fails its turn. A snapshot contains all of them in one frame.
pub(in crate::hub::chat) const RUNNING_TASKS: usize = 64;

/// The running tasks of a chat.
#[derive(Debug, Default)]
pub(in crate::hub::chat) struct Tasks {
    /// Oldest first.
    running: Vec<Task>,
}

impl Tasks {
    pub(in crate::hub::chat) fn restore(running: Vec<Task>) -> Self {
        Self { running }
    }

    pub(in crate::hub::chat) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    pub(in crate::hub::chat) fn len(&self) -> usize {
        self.running.len()
    }

    /// The running tasks, oldest first.
    pub(in crate::hub::chat) fn running(&self) -> &[Task] {
        &self.running
    }

    /// The change that brings the journal up to date.
    pub(in crate::hub::chat) fn change(&self) -> Change {
        Change::Tasks { tasks: self.running.clone() }
    }

    /// Notes what the agent tells of a task. Returns whether that is news: an end counts once, and only of a task that
    /// runs.
    pub(in crate::hub::chat) fn note(&mut self, task: &Task) -> bool {
        let known = self.running.iter().position(|running| running.task_id == task.task_id);
        match (known, task.status) {
            (Some(place), TaskStatus::Running) => {
                let is_news = self.running[place] != *task;
                self.running[place] = task.clone();
                is_news
            }
            (None, TaskStatus::Running) => {
                self.running.push(task.clone());
                true
            }
            (Some(place), TaskStatus::Completed | TaskStatus::Failed | TaskStatus::Stopped) => {
                self.running.remove(place);
                true
            }
            (None, TaskStatus::Completed | TaskStatus::Failed | TaskStatus::Stopped) => false,
        }
    }

    /// Takes out all running tasks.
    pub(super) fn take(&mut self) -> Vec<Task> {
        core::mem::take(&mut self.running)
    }

    /// The tool uses that began the running tasks.
    pub(super) fn parents(&self) -> BTreeSet<String> {
        self.running.iter().filter_map(|task| task.parent_call_id.clone()).collect()
    }
}
