//! Chat events: they are the log, numbered, kept and replayed.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use super::request::{PermissionRequest, Question, Resolution};
use crate::ids::{ChatId, Epoch, RequestId, TurnId};

#[cfg(feature = "schema")]
use {schemars::JsonSchema, ts_rs::TS};

/// An event of a chat's log: one body at one place of the numbering.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct ChatEvent {
    /// Where it stands.
    #[serde(flatten)]
    pub place: EventPosition,
    /// What happened.
    #[serde(flatten)]
    pub body: ChatBody,
}

/// The place of a chat event. An event covers `first_seq` (default: `seq`) to `seq`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct EventPosition {
    /// The chat.
    pub chat_id: ChatId,
    /// The numbering that `seq` belongs to.
    pub epoch: Epoch,
    /// The first number that this event covers, where that is not `seq`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(type = "number", optional))]
    pub first_seq: Option<u64>,
    /// The last number that this event covers.
    #[cfg_attr(feature = "schema", ts(type = "number"))]
    pub seq: u64,
    /// The turn that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub turn_id: Option<TurnId>,
}

impl EventPosition {
    /// The first number that this event covers.
    pub fn first(&self) -> u64 {
        self.first_seq.unwrap_or(self.seq)
    }
}

/// The kinds of chat events. They are numbered, kept and replayed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub enum ChatBody {
    /// A person's message, accepted and durable.
    UserMessage {
        /// What was written.
        text: String,
        /// Whether its turn starts at once; otherwise it waits in the queue.
        starts_turn: bool,
        /// The turn that runs now, where that is another one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        active_turn_id: Option<TurnId>,
        /// When it was accepted, in milliseconds of Unix time.
        #[cfg_attr(feature = "schema", ts(type = "number"))]
        created_at_ms: u64,
        /// What the sending client calls itself; never an authority.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        client_id: Option<String>,
    },
    /// The agent was given the message of this turn.
    TurnStarted {
        /// When, in milliseconds of Unix time.
        #[cfg_attr(feature = "schema", ts(type = "number"))]
        started_at_ms: u64,
    },
    /// A piece of the answer.
    Delta {
        /// The stream that it continues; streams may interleave.
        stream_id: String,
        /// The text to append. Never empty.
        text: String,
    },
    /// A stream of the answer is complete.
    StreamEnd {
        /// Which stream.
        stream_id: String,
        /// Its whole text, where that was not sent as deltas.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        text: Option<String>,
        /// The agent abandoned this stream: its text does not count.
        #[serde(default, skip_serializing_if = "is_false")]
        #[cfg_attr(feature = "schema", ts(as = "Option<bool>", optional))]
        void: bool,
    },
    /// A piece of the agent's thinking.
    ReasoningDelta {
        /// The stream that it continues.
        stream_id: String,
        /// The text to append. Never empty.
        text: String,
    },
    /// A stream of thinking is complete.
    ReasoningEnd {
        /// Which stream.
        stream_id: String,
        /// The agent abandoned this stream: its text does not count.
        #[serde(default, skip_serializing_if = "is_false")]
        #[cfg_attr(feature = "schema", ts(as = "Option<bool>", optional))]
        void: bool,
    },
    /// A whole message that was not streamed, or a hint for clients that know no `tool_event`.
    Message {
        /// The text; empty in a hint.
        text: String,
        /// Absent for an answer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        kind: Option<MessageKind>,
        /// With `kind: tool_hint`: the tool's phase in the older vocabulary.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[cfg_attr(feature = "schema", ts(as = "Option<Vec<ToolHint>>", optional))]
        tool_events: Vec<ToolHint>,
    },
    /// The agent uses a tool.
    ToolEvent {
        /// Whether it begins or has ended.
        phase: ToolPhase,
        /// The use that this is about.
        call_id: String,
        /// The tool, as the agent names it.
        name: String,
        /// At the start: what the agent passes to the tool.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(type = "unknown", optional))]
        arguments: Option<serde_json::Value>,
        /// At the end: what the tool gave back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        result: Option<String>,
        /// At the end, where the tool failed or was denied: what it said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        error: Option<String>,
        /// Whether arguments or output were cut to the limit.
        #[serde(default, skip_serializing_if = "is_false")]
        #[cfg_attr(feature = "schema", ts(as = "Option<bool>", optional))]
        truncated: bool,
    },
    /// The agent changed files.
    FileEdit {
        /// What changed.
        edits: Vec<FileEdit>,
    },
    /// Something that a person should know and that is part of no answer.
    Notice {
        /// How grave it is.
        level: NoticeLevel,
        /// Stable, for programs: see the table in `docs/protocol.md`.
        code: String,
        /// One or two sentences, for people.
        text: String,
    },
    /// The agent asks for leave to use a tool. Stays open until `request_resolved`.
    PermissionRequest(PermissionRequest),
    /// The agent asks the person something. Stays open until `request_resolved`.
    Question(Question),
    /// A permission request or question is closed.
    RequestResolved {
        /// Which one.
        request_id: RequestId,
        /// How.
        resolution: Resolution,
        /// The `client_id` whose answer it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        client_id: Option<String>,
    },
    /// The turn is over. Exactly one for each accepted message.
    TurnEnd {
        /// How it ended.
        outcome: Outcome,
        /// Milliseconds from acceptance to the end.
        #[cfg_attr(feature = "schema", ts(type = "number"))]
        latency_ms: u64,
        /// What the agent says it used.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        usage: Option<Usage>,
        /// What the agent says this turn cost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        cost: Option<Cost>,
        /// Why it failed or was interrupted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        error: Option<TurnError>,
        /// The chat's goal, if one is active.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        goal_state: Option<GoalState>,
    },
    /// The chat's goal changed.
    GoalState {
        /// The goal now.
        goal_state: GoalState,
    },
}

pub(super) fn is_false(flag: &bool) -> bool {
    !flag
}

/// What a `message` is, where it is not an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub enum MessageKind {
    /// Tool use, for clients that know no `tool_event`.
    ToolHint,
    /// Something the agent says about its progress, such as a retry.
    Progress,
}

/// Tool use in the older vocabulary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct ToolHint {
    /// Version of this shape: 1.
    pub version: u8,
    /// Whether it begins or has ended.
    pub phase: ToolPhase,
    /// The use that this is about.
    pub call_id: String,
    /// The tool.
    pub name: String,
}

/// A phase of a tool's use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub enum ToolPhase {
    /// It begins.
    Start,
    /// It ended well.
    End,
    /// It failed or was denied.
    Error,
}

/// One changed file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct FileEdit {
    /// The tool use that changed it.
    pub call_id: String,
    /// The tool.
    pub tool: String,
    /// The file, relative to the workspace; of a file outside it the name only.
    pub path: String,
    /// Lines added.
    #[cfg_attr(feature = "schema", ts(type = "number"))]
    pub added: u64,
    /// Lines deleted.
    #[cfg_attr(feature = "schema", ts(type = "number"))]
    pub deleted: u64,
    /// The change in unified form, where it is known and small.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub diff: Option<String>,
}

/// How grave a notice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub enum NoticeLevel {
    /// Good to know.
    Info,
    /// Something was refused or did not work as expected.
    Warning,
    /// Something is lost or broken.
    Error,
}

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub enum Outcome {
    /// The agent finished its answer.
    Completed,
    /// Somebody stopped it.
    Cancelled,
    /// The agent reported an error, or could not be started.
    Failed,
    /// The agent or the gateway went away before the answer was complete.
    Interrupted,
}

/// Why a turn failed or was interrupted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct TurnError {
    /// Stable, for programs: see the table in `docs/protocol.md`.
    pub code: String,
    /// One sentence, for people.
    pub detail: String,
}

/// What an agent says a turn used, in tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct Usage {
    /// Tokens read.
    #[cfg_attr(feature = "schema", ts(type = "number"))]
    pub input_tokens: u64,
    /// Tokens written.
    #[cfg_attr(feature = "schema", ts(type = "number"))]
    pub output_tokens: u64,
    /// Tokens read from a cache.
    #[cfg_attr(feature = "schema", ts(type = "number"))]
    pub cache_read_tokens: u64,
    /// Tokens written to a cache.
    #[cfg_attr(feature = "schema", ts(type = "number"))]
    pub cache_write_tokens: u64,
}

/// What an agent says a turn cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct Cost {
    /// US dollars.
    pub usd: f64,
}

/// A goal that outlives single turns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct GoalState {
    /// Whether it is being pursued.
    pub active: bool,
    /// A word for its state.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub status: Option<String>,
    /// A line to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub ui_summary: Option<String>,
    /// What is to be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub objective: Option<String>,
    /// What happened so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub recap: Option<String>,
}
