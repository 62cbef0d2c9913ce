//! Control events: they concern one connection or the present moment, and are not replayed.

use alloc::{
    boxed::Box,
    string::{String, ToString as _},
    vec::Vec,
};

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::value::RawValue;

#[cfg(feature = "schema")]
use super::event::ChatEvent;
use super::event::{GoalState, NoticeLevel, is_false};
use crate::ids::{ChatId, Cursor, Epoch, RequestId, TurnId};

#[cfg(feature = "schema")]
use {schemars::JsonSchema, ts_rs::TS};

/// The kinds of control events. They concern one connection or the present moment and are not replayed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub enum ControlEvent {
    /// The first frame after authentication.
    Ready {
        /// The default chat, for frames that name none. It exists from its first message on.
        chat_id: ChatId,
        /// What this client calls itself, or what it was called.
        client_id: String,
        /// The version of this protocol: `switchboard.v1`.
        protocol: String,
        /// What the client must keep to.
        limits: WireLimits,
        /// What the agents of chats are that have not said so of their own, where whoever runs the gateway says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        agent: Option<AgentState>,
        /// Over SSE: the stream's secret name, which each POST quotes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        stream: Option<String>,
    },
    /// The subscription begins.
    Attached {
        /// The chat.
        chat_id: ChatId,
        /// The numbering now.
        epoch: Epoch,
        /// The last number there is.
        #[cfg_attr(feature = "schema", ts(type = "number"))]
        head: u64,
        /// Whether the client's cursor could be used. Otherwise a `snapshot` replaces what it has.
        recovered: bool,
        /// The chat's title.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        title: Option<String>,
    },
    /// What the chat's agent is: follows `attached` where whoever runs the gateway says so.
    AgentState {
        /// The chat.
        chat_id: ChatId,
        /// What is known of it. More may be added.
        #[serde(flatten)]
        agent: AgentState,
    },
    /// A part of the chat as it is, for a client without a usable cursor.
    Snapshot {
        /// The chat.
        chat_id: ChatId,
        /// The numbering of `seq`.
        epoch: Epoch,
        /// The client's cursor after the last part.
        #[cfg_attr(feature = "schema", ts(type = "number"))]
        seq: u64,
        /// Which part, from 0. Part 0 replaces what the client has, later parts add to it.
        part: u32,
        /// Whether more parts follow.
        more: bool,
        /// Chat events of the newest page, oldest first, as everywhere. Adjacent deltas may be joined.
        #[cfg_attr(feature = "schema", schemars(with = "Vec<ChatEvent>"), ts(as = "Vec<ChatEvent>"))]
        #[serde(deserialize_with = "raw_events")]
        events: Vec<Box<RawValue>>,
        /// For `history`: what comes before; absent at the chat's beginning.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        before: Option<String>,
        /// In the last parts: the present state. Their queues and requests add up; the rest is in the last one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        state: Option<ChatState>,
    },
    /// What was missed is complete; what follows is live.
    ReplayEnd {
        /// The chat.
        chat_id: ChatId,
        /// The numbering of `seq`.
        epoch: Epoch,
        /// The last number that was sent.
        #[cfg_attr(feature = "schema", ts(type = "number"))]
        seq: u64,
    },
    /// The sender's message is durable. Stands in place of the live `user_message`.
    MessageAccepted(MessageAccepted),
    /// The agent has been silent for long; the turn is still open.
    TurnStalled {
        /// The chat.
        chat_id: ChatId,
        /// The turn.
        turn_id: TurnId,
        /// Milliseconds without progress.
        #[cfg_attr(feature = "schema", ts(type = "number"))]
        idle_ms: u64,
    },
    /// Whether a turn runs.
    GoalStatus {
        /// The chat.
        chat_id: ChatId,
        /// Running or idle.
        status: RunStatus,
        /// When the turn started, in seconds of Unix time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        started_at: Option<f64>,
        /// The turn.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        turn_id: Option<TurnId>,
    },
    /// The chat's goal at the moment of attaching; not numbered.
    GoalState {
        /// The chat.
        chat_id: ChatId,
        /// The goal.
        goal_state: GoalState,
    },
    /// Something that everybody who is connected should know; not numbered.
    Notice {
        /// How grave it is.
        level: NoticeLevel,
        /// Stable, for programs: see the table in `docs/protocol.md`.
        code: String,
        /// One or two sentences, for people.
        text: String,
    },
    /// Something about the chat changed that lists show.
    SessionUpdated {
        /// The chat.
        chat_id: ChatId,
        /// What changed.
        scope: UpdateScope,
        /// The title, where there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        title: Option<String>,
    },
    /// The model that answers.
    RuntimeModelUpdated {
        /// The chat.
        chat_id: ChatId,
        /// The model, as the agent names it.
        model_name: String,
    },
    /// The answer to `list_chats`, newest first.
    Chats {
        /// One page.
        chats: Vec<ChatSummary>,
        /// For `list_chats`: what comes after; absent on the last page.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        before: Option<String>,
    },
    /// The answer to `history`.
    History {
        /// The chat.
        chat_id: ChatId,
        /// One page, oldest first. Adjacent deltas may be joined.
        #[cfg_attr(feature = "schema", schemars(with = "Vec<ChatEvent>"), ts(as = "Vec<ChatEvent>"))]
        #[serde(deserialize_with = "raw_events")]
        events: Vec<Box<RawValue>>,
        /// For the next `history`: what comes before; absent at the chat's beginning.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        before: Option<String>,
    },
    /// A page of the whole input of an open permission request: the answer to `request_input`.
    RequestInput {
        /// The chat.
        chat_id: ChatId,
        /// The open request.
        request_id: RequestId,
        /// Where this page begins, in bytes of the input's text.
        #[cfg_attr(feature = "schema", ts(type = "number"))]
        offset: u64,
        /// This page of the input's text.
        text: String,
        /// Where the next page begins; absent on the last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(type = "number", optional))]
        next: Option<u64>,
        /// Length of the whole text in bytes.
        #[cfg_attr(feature = "schema", ts(type = "number"))]
        input_bytes: u64,
        /// SHA-256 of the whole text, in hexadecimal digits: what `respond` needs to allow it.
        input_sha256: String,
    },
    /// The answer to `ping`.
    Pong {
        /// What the ping carried.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        nonce: Option<String>,
    },
    /// Something was refused. The connection stays open unless `close` says otherwise.
    Error(ErrorEvent),
}

/// The acknowledgement of a message, with the place of its `user_message`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct MessageAccepted {
    /// The chat.
    pub chat_id: ChatId,
    /// The turn, as the sender named it, or as the gateway did where the sender named none.
    pub turn_id: TurnId,
    /// Whether its turn starts at once; otherwise it waits in the queue.
    pub starts_turn: bool,
    /// The turn that runs now, where that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub active_turn_id: Option<TurnId>,
    /// When the turn started, in seconds of Unix time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub started_at: Option<f64>,
    /// The message was accepted before; this is the first answer again and moves no cursor.
    #[serde(default, skip_serializing_if = "is_false")]
    #[cfg_attr(feature = "schema", ts(as = "Option<bool>", optional))]
    pub duplicate: bool,
    /// The numbering of `seq`.
    pub epoch: Epoch,
    /// The number of the message's `user_message`.
    #[cfg_attr(feature = "schema", ts(type = "number"))]
    pub seq: u64,
}

/// What a client must keep to, as `ready` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct WireLimits {
    /// Longest frame in bytes; beyond it the connection is closed.
    #[cfg_attr(feature = "schema", ts(type = "number"))]
    pub frame_bytes: u64,
    /// Longest `content` in bytes.
    #[cfg_attr(feature = "schema", ts(type = "number"))]
    pub text_bytes: u64,
    /// Chats that one connection may be attached to.
    #[cfg_attr(feature = "schema", ts(type = "number"))]
    pub chats_per_connection: u64,
    /// Messages that may wait in a chat's queue.
    #[cfg_attr(feature = "schema", ts(type = "number"))]
    pub queued_turns: u64,
}

/// The present state of a chat.
#[derive(Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct ChatState {
    /// The turn that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub turn: Option<RunningTurn>,
    /// The `user_message` events of the turns that wait, first come first.
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
    /// What the chat's agent is, as in `agent_state`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub agent: Option<AgentState>,
}

/// The running turn in a [`ChatState`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct RunningTurn {
    /// Its id.
    pub turn_id: TurnId,
    /// When it started, in milliseconds of Unix time.
    #[cfg_attr(feature = "schema", ts(type = "number"))]
    pub started_at_ms: u64,
}

/// Whether a chat's agent is at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub enum RunStatus {
    /// A turn runs.
    Running,
    /// None does.
    Idle,
}

/// What changed about a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub enum UpdateScope {
    /// Its title or other properties.
    Metadata,
    /// Its messages.
    Thread,
    /// It is gone, with everything in it.
    Deleted,
}

/// A chat in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct ChatSummary {
    /// The chat.
    pub chat_id: ChatId,
    /// As a person named it, or made from the first message; absent before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub title: Option<String>,
    /// The last activity, in milliseconds of Unix time.
    #[cfg_attr(feature = "schema", ts(type = "number"))]
    pub updated_at_ms: u64,
    /// Whether a turn runs.
    pub running: bool,
    /// Whether a permission request or question is open in it, which waits for a person.
    #[serde(default, skip_serializing_if = "is_false")]
    #[cfg_attr(feature = "schema", ts(as = "Option<bool>", optional))]
    pub waiting: bool,
    /// Its newest place.
    pub head: Cursor,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct ErrorEvent {
    /// Stable, for programs.
    pub code: ErrorCode,
    /// One short sentence, for people.
    pub detail: String,
    /// Whether the same frame may succeed later.
    pub retryable: bool,
    /// The chat that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub chat_id: Option<ChatId>,
    /// The message that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub turn_id: Option<TurnId>,
    /// The permission request or question that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub request_id: Option<RequestId>,
    /// With `rate_limited`: milliseconds until it is worth another try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(type = "number", optional))]
    pub retry_after_ms: Option<u64>,
    /// On transports without close codes: the connection ends with this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub close: Option<u16>,
}

/// The codes of `error` events. Stable; new ones may be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub enum ErrorCode {
    /// Not a JSON object, or not UTF-8.
    Malformed,
    /// No such `type`.
    UnknownType,
    /// A `type` of the vocabulary that this gateway does not serve.
    Unsupported,
    /// A field is missing.
    MissingField,
    /// A field has the wrong type or a value out of range.
    InvalidField,
    /// A frame, text or nesting is over its limit.
    TooLarge,
    /// No such chat, or it is not yours.
    UnknownChat,
    /// No such turn in this chat.
    UnknownTurn,
    /// No such permission request or question in this chat.
    UnknownRequest,
    /// Somebody's answer came first.
    AlreadyResolved,
    /// The request shows its input cut or not exactly, and the answer does not have the hash of the whole.
    InputUnseen,
    /// This `turn_id` was used for another message.
    TurnConflict,
    /// Too many messages wait in this chat.
    QueueFull,
    /// Too many frames, messages or new chats in a short time.
    RateLimited,
    /// Too many chats on one connection, or too many connections.
    LimitReached,
    /// Missing, wrong or ended credentials.
    Unauthorized,
    /// The gateway cannot keep what was sent at the moment.
    Unavailable,
    /// What the gateway has of this chat is damaged on its disk.
    Damaged,
    /// The connection is closed because it did not read.
    TooSlow,
    /// The gateway stops.
    ShuttingDown,
    /// Something failed here that is not the client's fault.
    Internal,
}

impl ErrorCode {
    /// Whether the same frame may succeed later.
    pub fn is_retryable(self) -> bool {
        match self {
            Self::QueueFull
            | Self::RateLimited
            | Self::LimitReached
            | Self::Unavailable
            | Self::TooSlow
            | Self::ShuttingDown => true,
            Self::Malformed
            | Self::UnknownType
            | Self::Unsupported
            | Self::MissingField
            | Self::InvalidField
            | Self::TooLarge
            | Self::UnknownChat
            | Self::UnknownTurn
            | Self::UnknownRequest
            | Self::AlreadyResolved
            | Self::InputUnseen
            | Self::TurnConflict
            | Self::Unauthorized
            | Self::Damaged
            | Self::Internal => false,
        }
    }
}

/// A tagged enum is buffered while it is read, and out of that buffer no raw text can be had.
fn raw_events<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Box<RawValue>>, D::Error> {
    let events = Vec::<serde_json::Value>::deserialize(deserializer)?;
    events
        .into_iter()
        .map(|event| RawValue::from_string(event.to_string()).map_err(de::Error::custom))
        .collect()
}

/// What an agent is, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct AgentState {
    /// Its name; `demo` is the demo.
    pub agent: String,
    /// What it speaks, such as `claude`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub dialect: Option<String>,
    /// Where it works, as people call it: `~/src/x`, or the folder's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub workspace: Option<String>,
    /// What it is kept from: `shield`, `workspace` or `off`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub sandbox: Option<String>,
}
