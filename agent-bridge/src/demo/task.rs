//! The background tasks of the demo agent, and the lines that tell of them.

use std::{
    io::{self, Write},
    time::Instant,
};

use serde_json::{Value, json};

use super::output::Output;

/// Tasks that may run at once.
pub(super) const TASKS: usize = 16;
pub(super) const TITLE: &str = "make release";

/// A background task that runs.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) id: String,
    pub(super) use_id: String,
    pub(super) due: Instant,
    /// Whether the agent asks for leave when it goes on.
    pub(super) asks: bool,
}

impl Task {
    /// Writes that the task has ended. `others` still run.
    pub(super) fn end<W: Write>(&self, out: &mut Output<W>, others: &[Self]) -> io::Result<()> {
        let patch = json!({"status": "completed"});
        out.system("task_updated", json!({"task_id": self.id, "patch": patch}))?;
        let summary = format!("Background command \"{TITLE}\" completed (exit code 0)");
        out.system(
            "task_notification",
            json!({"task_id": self.id, "tool_use_id": self.use_id, "status": "completed", "summary": summary}),
        )?;
        listed(out, others)
    }
}

/// Writes which tasks run.
pub(super) fn listed<W: Write>(out: &mut Output<W>, tasks: &[Task]) -> io::Result<()> {
    let tasks: Vec<Value> = tasks
        .iter()
        .map(|task| json!({"task_id": task.id, "task_type": "local_bash", "description": TITLE}))
        .collect();
    out.system("background_tasks_changed", json!({"tasks": tasks}))
}
