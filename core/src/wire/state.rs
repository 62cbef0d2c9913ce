//! The present state of a chat, as snapshots contain it.

use alloc::{
    boxed::Box,
    string::{String, ToString as _},
    vec::Vec,
};

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::value::RawValue;

#[cfg(feature = "schema")]
use super::event::ChatEvent;
use super::{
    event::{GoalState, TurnReason},
    task::Task,
};
use crate::ids::TurnId;

#[cfg(feature = "schema")]
use {schemars::JsonSchema, ts_rs::TS};

/// The present state of a chat.
#[derive(Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct ChatState {
    /// The running turn, if a turn runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub turn: Option<RunningTurn>,
    /// The turn that the agent has begun by itself, if one runs. It may run beside `turn`, whose prompt then waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub agent_turn: Option<AgentTurn>,
    /// The running background tasks of the agent, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", ts(as = "Option<Vec<Task>>", optional))]
    pub tasks: Vec<Task>,
    /// The `user_message` events of the queued turns, first one first.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<ChatEvent>"), ts(as = "Vec<ChatEvent>"))]
    #[serde(deserialize_with = "raw_events")]
    pub queue: Vec<Box<RawValue>>,
    /// The open `permission_request` and `question` events.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<ChatEvent>"), ts(as = "Vec<ChatEvent>"))]
    #[serde(deserialize_with = "raw_events")]
    pub requests: Vec<Box<RawValue>>,
    /// The goal, if one is active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub goal_state: Option<GoalState>,
    /// The agent of the chat, as in `agent_state`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub agent: Option<AgentState>,
}

/// The running turn in a [`ChatState`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct RunningTurn {
    /// The id of the running turn.
    pub turn_id: TurnId,
    /// When the turn started, in milliseconds of Unix time.
    #[cfg_attr(feature = "schema", ts(type = "number"))]
    pub started_at_ms: u64,
}

/// A running turn that the agent began, in a [`ChatState`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct AgentTurn {
    /// The id of the turn, which the gateway chose.
    pub turn_id: TurnId,
    /// When the turn started, in milliseconds of Unix time.
    #[cfg_attr(feature = "schema", ts(type = "number"))]
    pub started_at_ms: u64,
    /// Why the agent began the turn.
    pub reason: TurnReason,
}

/// The agent of a chat, for people. A field that is not known is absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct AgentState {
    /// The agent's name; `demo` is the built-in demo agent.
    pub agent: String,
    /// The dialect that the agent speaks, such as `claude`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub dialect: Option<String>,
    /// Where the agent works: `~/src/x`, or outside the home directory the folder's name; never an absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub workspace: Option<String>,
    /// The agent's sandbox level: `shield`, `workspace` or `off`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub sandbox: Option<String>,
}

/// A tagged enum is buffered while it is read, and out of that buffer no raw text can be had.
pub(super) fn raw_events<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Box<RawValue>>, D::Error> {
    let events = Vec::<serde_json::Value>::deserialize(deserializer)?;
    events
        .into_iter()
        .map(|event| RawValue::from_string(event.to_string()).map_err(de::Error::custom))
        .collect()
}
