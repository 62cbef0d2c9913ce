//! How background tasks are logged and end, and with them the tool uses of subagents in the background.

use alloc::collections::BTreeSet;

use crate::{
    hub::{
        chat::{
            Chat,
            log::Draft,
            turns::{Ending, ToolKey},
        },
        context::Context,
    },
    wire::{ChatBody, Outcome, Task, TaskStatus},
};

impl Chat {
    /// The open tool uses of subagents that run in the background. They go on when their turn ends.
    pub(in crate::hub::chat) fn background_tools(&self) -> BTreeSet<ToolKey> {
        let parents = self.tasks.parents();
        if parents.is_empty() { BTreeSet::new() } else { self.turns.tools_below(parents) }
    }

    /// Logs what the agent tells of a background task. With the task's end, the tool uses of its subagent end.
    pub(in crate::hub::chat) fn log_task(&mut self, cx: &mut Context, draft: &mut Draft, task: Task) {
        let before = self.background_tools();
        if !self.tasks.note(&task) {
            return;
        }
        let over = &before - &self.background_tools();
        let is_turn_implied = !over.is_empty() && self.imply_turn_of_tools(cx, draft);
        if !over.is_empty() {
            let left = self.turns.leave_tools(&over);
            let stopped = task.status == TaskStatus::Stopped;
            self.close_work(draft, self.turns.current(), left, stopped);
        }
        draft.changes.push(self.tasks.change());
        draft.push(self.turns.current(), ChatBody::Task(task));
        if is_turn_implied {
            self.end_agent_turn_into(cx, draft, Ending::new(Outcome::Completed, None));
        }
    }

    /// Ends all tasks within a draft, because their agent is stopping or gone.
    pub(in crate::hub::chat) fn end_tasks(&mut self, draft: &mut Draft) {
        if self.tasks.is_empty() {
            return;
        }
        for mut task in self.tasks.take() {
            task.status = TaskStatus::Stopped;
            draft.push(self.turns.current(), ChatBody::Task(task));
        }
        draft.changes.push(self.tasks.change());
    }
}
