//! The background tasks of a chat's agent.

use alloc::{collections::BTreeSet, string::String, vec::Vec};

use super::{Chat, log::Draft};
use crate::{
    hub::context::Context,
    journal::Change,
    wire::{ChatBody, Task, TaskStatus},
};

/// Running tasks of one agent. An agent that exceeds it fails its turn. A snapshot contains all of them in one frame.
pub(super) const RUNNING_TASKS: usize = 64;

/// The running tasks of a chat.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    /// Oldest first.
    running: Vec<Task>,
}

impl Tasks {
    pub(super) fn restore(running: Vec<Task>) -> Self {
        Self { running }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.running.len()
    }

    /// The change that brings the journal up to date.
    pub(super) fn change(&self) -> Change {
        Change::Tasks { tasks: self.running.clone() }
    }

    /// Notes what the agent tells of a task. Returns whether that is news: an end counts once, and only of a task that
    /// runs.
    fn note(&mut self, task: &Task) -> bool {
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

    /// The tool uses that began the running tasks.
    fn parents(&self) -> BTreeSet<String> {
        self.running.iter().filter_map(|task| task.parent_call_id.clone()).collect()
    }
}

impl Chat {
    /// The open tool uses of subagents that run in the background. They go on when their turn ends.
    pub(super) fn background_tools(&self) -> BTreeSet<String> {
        let parents = self.tasks.parents();
        if parents.is_empty() { BTreeSet::new() } else { self.turns.tools_below(parents) }
    }

    /// Logs what the agent tells of a background task. With the task's end, the tool uses of its subagent end.
    pub(super) fn log_task(&mut self, draft: &mut Draft, task: Task) {
        if !self.tasks.note(&task) {
            return;
        }
        if task.status != TaskStatus::Running
            && let Some(parent) = &task.parent_call_id
        {
            let below = self.turns.tools_below(BTreeSet::from([parent.clone()]));
            let left = self.turns.leave_tools(&below);
            let turn_id = self.turns.current().cloned();
            self.close_work(draft, turn_id.as_ref(), left);
        }
        draft.changes.push(self.tasks.change());
        draft.push(self.turns.current(), ChatBody::Task(task));
    }

    /// Ends all tasks, because their agent is stopped or gone.
    pub(super) fn stop_tasks(&mut self, cx: &mut Context) {
        let mut draft = Draft::new();
        for mut task in core::mem::take(&mut self.tasks.running) {
            task.status = TaskStatus::Stopped;
            draft.push(self.turns.current(), ChatBody::Task(task));
        }
        if !draft.events.is_empty() {
            draft.changes.push(self.tasks.change());
        }
        let left = self.turns.leave_work(&BTreeSet::new());
        let turn_id = self.turns.current().cloned();
        self.close_work(&mut draft, turn_id.as_ref(), left);
        draft.changes.extend(self.turns.changed_work().map(|work| Change::OpenWork { work }));
        self.stage(cx, draft);
    }
}
