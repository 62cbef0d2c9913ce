//! Background work of an agent, as events show it.

use alloc::string::String;

use serde::{Deserialize, Serialize};

#[cfg(feature = "schema")]
use {schemars::JsonSchema, ts_rs::TS};

/// A piece of background work of the agent, which goes on when the turn that began it has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct Task {
    /// The id of the task, unique among the running tasks of the chat.
    pub task_id: String,
    /// What kind of work it is.
    pub kind: TaskKind,
    /// One line for people, such as the command or the subagent's assignment.
    pub title: String,
    /// Whether the task runs, or how it ended.
    pub status: TaskStatus,
    /// The tool use that began the task, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub parent_call_id: Option<String>,
}

/// The kinds of background work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub enum TaskKind {
    /// A command of a shell.
    Shell,
    /// A subagent.
    Agent,
    /// Something that the agent watches.
    Monitor,
    /// Something that the agent does at a certain time.
    Schedule,
    /// Anything else.
    Other,
}

/// Whether a task runs, or how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub enum TaskStatus {
    /// The task runs.
    Running,
    /// The task did what it was to do.
    Completed,
    /// The task failed.
    Failed,
    /// The task was stopped, or its agent ended.
    Stopped,
}
