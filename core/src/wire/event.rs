//! Chat events: they are the log, numbered, kept and replayed.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use super::{
    absent::is_false,
    request::{PermissionRequest, Question, Resolution},
};
use crate::ids::{ChatId, Epoch, RequestId, TurnId};

#[cfg(feature = "schema")]
use {schemars::JsonSchema, ts_rs::TS};

/// An event of a chat's log: a body and its position in the numbering.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct ChatEvent {
    /// The position in the log.
    #[serde(flatten)]
    pub place: EventPosition,
    /// What happened.
    #[serde(flatten)]
    pub body: ChatBody,
}

/// The position of a chat event in its chat's log. An event covers the numbers `first_seq` to `seq`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct EventPosition {
    /// The chat.
    pub chat_id: ChatId,
    /// The epoch, which is the numbering that `seq` belongs to.
    pub epoch: Epoch,
    /// The first number that this event covers, where that is not `seq`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(type = "number", optional))]
    pub first_seq: Option<u64>,
    /// The last number that this event covers.
    #[cfg_attr(feature = "schema", ts(type = "number"))]
    pub seq: u64,
    /// The turn that the event belongs to, if any.
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

/// The kinds of chat events. They are numbered, stored and replayed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub enum ChatBody {
    /// A person's message was accepted and stored. The connection that sent it gets `message_accepted` instead.
    UserMessage {
        /// What the person wrote.
        text: String,
        /// Whether the message's turn starts at once; otherwise it waits in the queue.
        starts_turn: bool,
        /// The turn that was first in line when the message was accepted, where that is another one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        active_turn_id: Option<TurnId>,
        /// When the message was accepted, in milliseconds of Unix time.
        #[cfg_attr(feature = "schema", ts(type = "number"))]
        created_at_ms: u64,
        /// What the sending client calls itself; never an authority.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        client_id: Option<String>,
    },
    /// The agent was given the message of this turn.
    TurnStarted {
        /// When the turn started, in milliseconds of Unix time.
        #[cfg_attr(feature = "schema", ts(type = "number"))]
        started_at_ms: u64,
    },
    /// A piece of the answer. A stream opens with its first `delta` and ends with `stream_end`.
    Delta {
        /// The stream that the text continues; streams may interleave.
        stream_id: String,
        /// The text to append. Never empty.
        text: String,
    },
    /// A stream of the answer is complete.
    StreamEnd {
        /// The stream that ended.
        stream_id: String,
        /// The stream's whole text, where it was not sent as deltas.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        text: Option<String>,
        /// The agent abandoned this stream: its text does not count.
        #[serde(default, skip_serializing_if = "is_false")]
        #[cfg_attr(feature = "schema", ts(as = "Option<bool>", optional))]
        void: bool,
    },
    /// A piece of the agent's reasoning.
    ReasoningDelta {
        /// The stream that the text continues.
        stream_id: String,
        /// The text to append. Never empty.
        text: String,
    },
    /// A stream of reasoning is complete.
    ReasoningEnd {
        /// The stream that ended.
        stream_id: String,
        /// The agent abandoned this stream: its text does not count.
        #[serde(default, skip_serializing_if = "is_false")]
        #[cfg_attr(feature = "schema", ts(as = "Option<bool>", optional))]
        void: bool,
    },
    /// Without `kind`: an answer that was not streamed. With `kind`: something beside the answer.
    Message {
        /// The text; empty in a tool hint.
        text: String,
        /// What the message is; absent for an answer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        kind: Option<MessageKind>,
        /// With `kind: tool_hint`: the same as the preceding `tool_event`, in the older vocabulary.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[cfg_attr(feature = "schema", ts(as = "Option<Vec<ToolHint>>", optional))]
        tool_events: Vec<ToolHint>,
    },
    /// The agent uses a tool.
    ToolEvent {
        /// Whether the use begins, ended well or failed.
        phase: ToolPhase,
        /// The tool use; the same in its events.
        call_id: String,
        /// The tool, as the agent names it.
        name: String,
        /// At the start: what the agent passes to the tool.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(type = "unknown", optional))]
        arguments: Option<serde_json::Value>,
        /// At the end: what the tool returned.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        result: Option<String>,
        /// At the end, where the tool failed or was denied: the tool's message.
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
        /// One item for each changed file.
        edits: Vec<FileEdit>,
    },
    /// Something that a person should know and that is part of no answer. Codes: `request_refused` (the gateway
    /// refused a request of the agent's without asking a person).
    Notice {
        /// How grave the notice is.
        level: NoticeLevel,
        /// A stable code for programs; new codes may be added.
        code: String,
        /// One or two sentences, for people.
        text: String,
    },
    /// The agent asks for permission to use a tool. Open until `request_resolved`.
    PermissionRequest(PermissionRequest),
    /// The agent asks the person one or more questions. A form of a tool server (an MCP elicitation) is a question
    /// too, one item for each field. Open until `request_resolved`.
    Question(Question),
    /// A permission request or question is closed.
    RequestResolved {
        /// The request that is closed.
        request_id: RequestId,
        /// How it was closed.
        resolution: Resolution,
        /// The `client_id` whose answer it was, where a person answered.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        client_id: Option<String>,
    },
    /// The turn is over. There is exactly one for each accepted message.
    TurnEnd {
        /// How the turn ended.
        outcome: Outcome,
        /// Milliseconds from acceptance to the end, over restarts of the gateway too.
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
        /// Why the turn failed, was interrupted or was cancelled by the gateway.
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
        /// The new goal.
        goal_state: GoalState,
    },
}

/// What a `message` is, where it is not an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub enum MessageKind {
    /// A tool use, for clients that do not know `tool_event`; others ignore it.
    ToolHint,
    /// A line about the agent's progress, such as a retry.
    Progress,
}

/// A tool use in the older vocabulary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct ToolHint {
    /// Version of this shape: 1.
    pub version: u8,
    /// Whether the use begins, ended well or failed.
    pub phase: ToolPhase,
    /// The tool use.
    pub call_id: String,
    /// The tool, as the agent names it.
    pub name: String,
}

/// A phase of a tool use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub enum ToolPhase {
    /// The use begins.
    Start,
    /// The use ended well.
    End,
    /// The use failed or was denied.
    Error,
}

/// A changed file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct FileEdit {
    /// The tool use that changed the file.
    pub call_id: String,
    /// The tool, as the agent names it.
    pub tool: String,
    /// The file, relative to the workspace; of a file outside the workspace the name only.
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
    /// A client stopped the turn, or the gateway did after a long silence (then `error.code` is `agent_silent`).
    Cancelled,
    /// The agent reported an error, or could not be started.
    Failed,
    /// The agent or the gateway went away before the answer was complete.
    Interrupted,
}

/// Why a turn did not complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct TurnError {
    /// A turn error code, stable, for programs.
    pub code: String,
    /// One sentence for people. Where the agent's process failed, it ends with the last lines of its standard error.
    pub detail: String,
}

/// What an agent says a turn used, in tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct Usage {
    /// Tokens of the input.
    #[cfg_attr(feature = "schema", ts(type = "number"))]
    pub input_tokens: u64,
    /// Tokens of the output.
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
    /// A word for the goal's state, at most 256 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub status: Option<String>,
    /// One line to show, at most 1 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub ui_summary: Option<String>,
    /// What is to be reached, at most 16 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub objective: Option<String>,
    /// What happened so far, at most 16 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub recap: Option<String>,
}
