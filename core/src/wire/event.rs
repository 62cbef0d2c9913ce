//! Chat events: they are the log, numbered, kept and replayed.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use super::{
    absent::is_false,
    request::{PermissionRequest, Question, Resolution},
    task::Task,
    tool::{FileEdit, Source, ToolHint, ToolLocation, ToolMedia, ToolPhase},
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
    /// The content of the event.
    #[serde(flatten)]
    pub body: ChatBody,
}

/// The position of a chat event in its chat's log. An event covers the numbers `first_seq` to `seq`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct EventPosition {
    /// The id of the event's chat.
    pub chat_id: ChatId,
    /// The epoch, which is the numbering that `seq` belongs to.
    pub epoch: Epoch,
    /// The first number that this event covers, if it is not `seq`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(type = "number", optional))]
    pub first_seq: Option<u64>,
    /// The last number that this event covers.
    #[cfg_attr(feature = "schema", ts(type = "number"))]
    pub seq: u64,
    /// The id of the turn that the event belongs to, if it belongs to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub turn_id: Option<TurnId>,
    /// The tool use that the event belongs to: a subagent, whose text, tool uses and requests name the use that began
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub parent_call_id: Option<String>,
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
        /// The person's text.
        text: String,
        /// Whether the message's turn starts at once; otherwise it waits in the queue.
        starts_turn: bool,
        /// The id of the turn that was first in the queue when the message was accepted, unless it is the message's
        /// own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        active_turn_id: Option<TurnId>,
        /// When the message was accepted, in milliseconds of Unix time.
        #[cfg_attr(feature = "schema", ts(type = "number"))]
        created_at_ms: u64,
        /// The name that the sending client gave itself. It proves nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        client_id: Option<String>,
    },
    /// The turn has started. The message of a person's turn goes to the agent next; a turn of the agent's has no message.
    TurnStarted {
        /// Who began the turn.
        #[serde(default, skip_serializing_if = "TurnOrigin::is_user")]
        #[cfg_attr(feature = "schema", ts(as = "Option<TurnOrigin>", optional))]
        origin: TurnOrigin,
        /// Why the agent began the turn, if it did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        reason: Option<TurnReason>,
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
        /// The stream's whole text, if it was not sent as deltas.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        text: Option<String>,
        /// The agent abandoned this stream: its text does not count.
        #[serde(default, skip_serializing_if = "is_false")]
        #[cfg_attr(feature = "schema", ts(as = "Option<bool>", optional))]
        void: bool,
        /// The sources that the agent cites in the text.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[cfg_attr(feature = "schema", ts(as = "Option<Vec<Source>>", optional))]
        sources: Vec<Source>,
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
    /// Without `kind`: an answer that was not streamed. With `kind`: a text that is not part of the answer.
    Message {
        /// The text; empty in a tool hint.
        text: String,
        /// The kind of the message; absent for an answer.
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
        /// Whether the tool use begins, goes on, has succeeded or has failed.
        phase: ToolPhase,
        /// The id of the tool use, the same in all its events. A later use may have the id of an ended one.
        call_id: String,
        /// The tool, as the agent names it.
        name: String,
        /// One line for people that says what the tool use does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        title: Option<String>,
        /// The files that the tool use concerns.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[cfg_attr(feature = "schema", ts(as = "Option<Vec<ToolLocation>>", optional))]
        locations: Vec<ToolLocation>,
        /// At the start and in updates: the arguments that the agent passes to the tool, as far as it has written them.
        /// Each replaces the one before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(type = "unknown", optional))]
        arguments: Option<serde_json::Value>,
        /// In an update: a piece of the tool's output.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        output: Option<String>,
        /// At the end: the tool's result.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        result: Option<String>,
        /// At the end of a use that failed or was denied: the tool's message.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        error: Option<String>,
        /// With `error`: the use did not fail by itself, but was stopped together with its turn, its task or its agent.
        #[serde(default, skip_serializing_if = "is_false")]
        #[cfg_attr(feature = "schema", ts(as = "Option<bool>", optional))]
        stopped: bool,
        /// Whether arguments or output are not whole: they were cut to the limit, or the agent still writes the
        /// arguments.
        #[serde(default, skip_serializing_if = "is_false")]
        #[cfg_attr(feature = "schema", ts(as = "Option<bool>", optional))]
        truncated: bool,
        /// At the end: the pictures and other media in the tool's result, which the event itself does not contain.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[cfg_attr(feature = "schema", ts(as = "Option<Vec<ToolMedia>>", optional))]
        media: Vec<ToolMedia>,
        /// At the end: the sources that the tool found.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[cfg_attr(feature = "schema", ts(as = "Option<Vec<Source>>", optional))]
        sources: Vec<Source>,
    },
    /// Background work of the agent began, changed or ended. A chat's running tasks are in the snapshot's state.
    Task(Task),
    /// The agent changed files.
    FileEdit {
        /// One item for each changed file.
        edits: Vec<FileEdit>,
    },
    /// Information for people that is part of no answer. Codes: `usage_limit` (the agent's account reached a limit, or
    /// nearly), `compacting`, `compacted` and `compaction_failed` (the agent summarises the conversation to have room),
    /// `context_cleared` (the agent has forgotten the conversation because it was told to), `memory_lost` (the agent
    /// could not continue the conversation and begins a new one), `sign_in` (a person must sign in where the agent
    /// runs), `hook` (a hook of the agent said this), `command_output` (the output of a command of the agent itself),
    /// `last_words` (what the agent said after its turn), `permission_denied` (the agent's own rules denied a tool use),
    /// `request_refused` (a request of the agent was refused by the gateway itself, or denied at the end of its turn because
    /// nobody had answered), `budget` (the agent has used up its own budget), `agent_stopped` (the gateway stopped the agent,
    /// or the agent ended by itself while it had background tasks and no turn), `degraded` (the gateway cannot store
    /// messages), and `other`.
    Notice {
        /// How serious the notice is.
        level: NoticeLevel,
        /// A stable code for programs; new codes may be added.
        code: String,
        /// One or two sentences, for people.
        text: String,
        /// Details for programs; the fields depend on the code.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(type = "unknown", optional))]
        data: Option<serde_json::Value>,
    },
    /// The agent asks for permission to use a tool. Open until `request_resolved`.
    PermissionRequest(PermissionRequest),
    /// The agent asks the person one or more questions. A form of a tool server (an MCP elicitation) is a question
    /// too, one item for each field. Open until `request_resolved`.
    Question(Question),
    /// A permission request or question is closed.
    RequestResolved {
        /// The id of the closed request.
        request_id: RequestId,
        /// How it was closed.
        resolution: Resolution,
        /// The `client_id` of the client that answered, if a person answered.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        client_id: Option<String>,
    },
    /// The turn is over. There is exactly one for each accepted message and each turn that the agent began.
    TurnEnd {
        /// Who began the turn.
        #[serde(default, skip_serializing_if = "TurnOrigin::is_user")]
        #[cfg_attr(feature = "schema", ts(as = "Option<TurnOrigin>", optional))]
        origin: TurnOrigin,
        /// How the turn ended.
        outcome: Outcome,
        /// Milliseconds from the acceptance of the message, or from the start of an agent's turn, to the end, over
        /// restarts of the gateway too.
        #[cfg_attr(feature = "schema", ts(type = "number"))]
        latency_ms: u64,
        /// The agent's report of the tokens that the turn used.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        usage: Option<Usage>,
        /// The agent's report of the turn's cost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        cost: Option<Cost>,
        /// The model that the agent used last, as the agent reported it. Absent if that is not known, and in a turn that
        /// never started.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        model: Option<String>,
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

/// The kind of a `message` that is not an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub enum MessageKind {
    /// A tool use, for clients that do not know `tool_event`; others ignore it.
    ToolHint,
    /// A line about the agent's progress, such as a retry.
    Progress,
}

/// Who began a turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub enum TurnOrigin {
    /// A person, with a message.
    #[default]
    User,
    /// The agent.
    Agent,
}

impl TurnOrigin {
    /// Whether a person began the turn.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    pub(super) fn is_user(&self) -> bool {
        matches!(self, Self::User)
    }
}

/// Why an agent began a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub enum TurnReason {
    /// Background work ended or has news.
    Background,
    /// The time came for something that the agent had scheduled.
    Schedule,
    /// A hook of the agent ran before it.
    Hook,
    /// The agent's session was resumed, and the agent goes on with what its last process had left.
    Resume,
    /// Any other reason, or one that the agent does not tell.
    Other,
}

/// How serious a notice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub enum NoticeLevel {
    /// Good to know.
    Info,
    /// A request was refused, or something did not work as expected.
    Warning,
    /// Something was lost or is broken.
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

/// An agent's report of the tokens that a turn used.
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

/// An agent's report of a turn's cost.
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
    /// Whether the goal is being pursued.
    pub active: bool,
    /// A word for the goal's state, at most 256 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub status: Option<String>,
    /// A summary in one line, at most 1 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub ui_summary: Option<String>,
    /// The objective, at most 16 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub objective: Option<String>,
    /// A report of the progress so far, at most 16 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub recap: Option<String>,
}
