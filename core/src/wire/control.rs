//! Control events: they concern one connection or the present moment, and are not replayed.

use alloc::{boxed::Box, string::String, vec::Vec};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

#[cfg(feature = "schema")]
use super::event::ChatEvent;
use super::{
    absent::is_false,
    event::{GoalState, NoticeLevel},
    state::{AgentState, ChatState, raw_events},
};
use crate::ids::{ChatId, Cursor, Epoch, RequestId, TurnId};

#[cfg(feature = "schema")]
use {schemars::JsonSchema, ts_rs::TS};

/// The kinds of control events. They concern one connection or the present moment and are not replayed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub enum ControlEvent {
    /// The first event of every connection, after authentication.
    Ready {
        /// The default chat, for frames of the older vocabulary, which name no chat. It exists from its first message on.
        chat_id: ChatId,
        /// The name that the client gave itself, or that the gateway gave to the client.
        client_id: String,
        /// The version of the protocol: `switchboard.v1`.
        protocol: String,
        /// The limits that the client must keep to.
        limits: WireLimits,
        /// The agent of chats that have no `agent_state` of their own, where the gateway's operator lets it be shown.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        agent: Option<AgentState>,
        /// Over SSE: the stream's secret name, which each POST sends back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        stream: Option<String>,
    },
    /// A subscription begins.
    Attached {
        /// The id of the chat that the connection is attached to.
        chat_id: ChatId,
        /// The present epoch of the chat.
        epoch: Epoch,
        /// The last number in the chat's log; 0 if it has no events.
        #[cfg_attr(feature = "schema", ts(type = "number"))]
        head: u64,
        /// Whether the log continues from the client's cursor. If false, a `snapshot` follows and replaces all events
        /// that the client has of the chat.
        recovered: bool,
        /// The chat's title, if it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        title: Option<String>,
    },
    /// The agent of the chat, for people. Follows each `attached`, where the gateway's operator lets it be shown.
    AgentState {
        /// The id of the chat whose agent this is.
        chat_id: ChatId,
        /// What is known of the agent. More fields may be added.
        #[serde(flatten)]
        agent: AgentState,
    },
    /// A part of the newest page of the chat's log and of its present state, for a client without a usable cursor.
    Snapshot {
        /// The id of the chat that the snapshot shows.
        chat_id: ChatId,
        /// The epoch of `seq`.
        epoch: Epoch,
        /// The client's cursor after the last part.
        #[cfg_attr(feature = "schema", ts(type = "number"))]
        seq: u64,
        /// The number of the part, from 0. Part 0 replaces the client's events of the chat; later parts add to it.
        part: u32,
        /// Whether more parts follow.
        more: bool,
        /// Chat events, oldest first. Adjacent deltas may be merged.
        #[cfg_attr(feature = "schema", schemars(with = "Vec<ChatEvent>"), ts(as = "Vec<ChatEvent>"))]
        #[serde(deserialize_with = "raw_events")]
        events: Vec<Box<RawValue>>,
        /// In part 0: the `before` of a `history` request for earlier events; absent if there are none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        before: Option<String>,
        /// The present state. Its queue and requests may be spread over the last parts; the rest is in the last part.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        state: Option<Box<ChatState>>,
    },
    /// The client has received all events that it missed; live events follow.
    ReplayEnd {
        /// The id of the chat whose replay ends.
        chat_id: ChatId,
        /// The epoch of `seq`.
        epoch: Epoch,
        /// The last number that was sent.
        #[cfg_attr(feature = "schema", ts(type = "number"))]
        seq: u64,
    },
    /// The sender's message is stored. Sent to the connection that sent it, in place of `user_message`.
    MessageAccepted(MessageAccepted),
    /// The agent has made no progress for long; the turn is still open.
    TurnStalled {
        /// The id of the stalled turn's chat.
        chat_id: ChatId,
        /// The stalled turn.
        turn_id: TurnId,
        /// Milliseconds without progress.
        #[cfg_attr(feature = "schema", ts(type = "number"))]
        idle_ms: u64,
    },
    /// Whether a turn runs. Follows each start and end of a turn, and a subscription while a turn runs.
    GoalStatus {
        /// The id of the turn's chat.
        chat_id: ChatId,
        /// Whether a turn runs.
        status: RunStatus,
        /// While a turn runs: when it started, in seconds of Unix time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        started_at: Option<f64>,
        /// The turn that runs, or that has just ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        turn_id: Option<TurnId>,
    },
    /// The chat's active goal, after a subscription. It has no `epoch` and no `seq`.
    GoalState {
        /// The id of the chat whose goal this is.
        chat_id: ChatId,
        /// The goal.
        goal_state: GoalState,
    },
    /// Something that every connected client should know. It has no `chat_id`, `epoch` and `seq`. Codes: `degraded`
    /// (with level `error`: the gateway can store nothing at the moment and refuses messages; with `info`: it can
    /// again).
    Notice {
        /// How serious the notice is.
        level: NoticeLevel,
        /// A stable code for programs; new codes may be added.
        code: String,
        /// One or two sentences, for people.
        text: String,
    },
    /// Something changed that lists of chats show. Scope `thread` goes to attached connections; the other scopes also
    /// to connections of the principal that sent `list_chats`, and to the connection that made the change.
    SessionUpdated {
        /// The id of the chat that changed.
        chat_id: ChatId,
        /// What changed.
        scope: UpdateScope,
        /// The chat's title, if the chat has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        title: Option<String>,
    },
    /// The model that answers: after a subscription, and when it changes.
    RuntimeModelUpdated {
        /// The id of the chat whose agent uses the model.
        chat_id: ChatId,
        /// The model, as the agent names it.
        model_name: String,
    },
    /// The answer to `list_chats`: newest activity first.
    Chats {
        /// The chats of one page.
        chats: Vec<ChatSummary>,
        /// The `before` of the next `list_chats` request; absent on the last page.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        before: Option<String>,
    },
    /// A chat began or ceased to run, or to wait for a person, so that the last `chats` is out of date. Goes to
    /// connections of the principal that sent `list_chats`, once until they send it again, and not for chats that they are
    /// attached to, whose events tell the same.
    ChatsChanged {},
    /// The answer to `history`.
    History {
        /// The id of the chat whose history this is.
        chat_id: ChatId,
        /// One page of chat events, oldest first. Adjacent deltas may be merged.
        #[cfg_attr(feature = "schema", schemars(with = "Vec<ChatEvent>"), ts(as = "Vec<ChatEvent>"))]
        #[serde(deserialize_with = "raw_events")]
        events: Vec<Box<RawValue>>,
        /// The `before` of the next `history` request; absent if there are no earlier events.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        before: Option<String>,
    },
    /// The answer to `request_input`: a page of the whole input of an open permission request.
    RequestInput {
        /// The id of the request's chat.
        chat_id: ChatId,
        /// The open request.
        request_id: RequestId,
        /// Where this page begins, in bytes of the input's text.
        #[cfg_attr(feature = "schema", ts(type = "number"))]
        offset: u64,
        /// This page of the input's text.
        text: String,
        /// Where the next page begins; absent on the last page.
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
        /// The value that the ping carried.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        nonce: Option<String>,
    },
    /// A frame was refused. The connection stays open unless the event has `close`.
    Error(ErrorEvent),
}

/// The acknowledgement of a message, with the position of its `user_message`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct MessageAccepted {
    /// The id of the message's chat.
    pub chat_id: ChatId,
    /// The id of the message's turn: the sender's, or one made by the gateway if the sender gave none.
    pub turn_id: TurnId,
    /// Whether the turn starts at once; otherwise it waits in the queue.
    pub starts_turn: bool,
    /// The id of the turn that was first in the queue when the message was accepted, unless it is the message's own; for
    /// a `/stop`, the id of the stopped turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub active_turn_id: Option<TurnId>,
    /// When the turn started, in seconds of Unix time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub started_at: Option<f64>,
    /// Whether this event moves no cursor: the message was accepted before, was a `/stop`, or its sender had detached.
    #[serde(default, skip_serializing_if = "is_false")]
    #[cfg_attr(feature = "schema", ts(as = "Option<bool>", optional))]
    pub duplicate: bool,
    /// The epoch of `seq`.
    pub epoch: Epoch,
    /// The number of the message's `user_message`; for a `/stop`, the chat's last number.
    #[cfg_attr(feature = "schema", ts(type = "number"))]
    pub seq: u64,
}

/// The limits that a client must keep to on this connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct WireLimits {
    /// Longest frame in bytes. A longer one closes the connection; over SSE it gets 413.
    #[cfg_attr(feature = "schema", ts(type = "number"))]
    pub frame_bytes: u64,
    /// Longest `content` in bytes, as JSON; an escaped character counts as what it stands for.
    #[cfg_attr(feature = "schema", ts(type = "number"))]
    pub text_bytes: u64,
    /// Chats that one connection may be attached to.
    #[cfg_attr(feature = "schema", ts(type = "number"))]
    pub chats_per_connection: u64,
    /// Messages that may wait in a chat's queue.
    #[cfg_attr(feature = "schema", ts(type = "number"))]
    pub queued_turns: u64,
}

/// Whether a turn runs in a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub enum RunStatus {
    /// A turn runs.
    Running,
    /// No turn runs.
    Idle,
}

/// What changed about a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub enum UpdateScope {
    /// The chat was created, or its title changed.
    Metadata,
    /// The chat's messages: sent after each turn.
    Thread,
    /// The chat was deleted with everything in it.
    Deleted,
}

/// A chat in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct ChatSummary {
    /// The id of the listed chat.
    pub chat_id: ChatId,
    /// The title, given by a person or made from the first message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub title: Option<String>,
    /// The last activity (a message, a turn's end, a request), in milliseconds of Unix time.
    #[cfg_attr(feature = "schema", ts(type = "number"))]
    pub updated_at_ms: u64,
    /// Whether a turn runs.
    pub running: bool,
    /// Whether an open permission request or question waits for a person.
    #[serde(default, skip_serializing_if = "is_false")]
    #[cfg_attr(feature = "schema", ts(as = "Option<bool>", optional))]
    pub waiting: bool,
    /// The position of the newest event.
    pub head: Cursor,
}

/// A refusal of a frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct ErrorEvent {
    /// The error code, stable, for programs.
    pub code: ErrorCode,
    /// One short sentence, for people; its words may change.
    pub detail: String,
    /// Whether the same frame may succeed later.
    pub retryable: bool,
    /// The chat that the error is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub chat_id: Option<ChatId>,
    /// The message that the error is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub turn_id: Option<TurnId>,
    /// The permission request or question that the error is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub request_id: Option<RequestId>,
    /// With `rate_limited`: milliseconds until another try makes sense.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(type = "number", optional))]
    pub retry_after_ms: Option<u64>,
    /// On a Unix socket and over SSE: the connection ends with this close code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub close: Option<u16>,
}

/// The codes of `error` events. They are stable; new ones may be added, and an unknown one is treated by its
/// `retryable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub enum ErrorCode {
    /// Not a JSON object, or not UTF-8.
    Malformed,
    /// The frame's `type` does not exist.
    UnknownType,
    /// A `type` or field of the vocabulary that this gateway does not serve.
    Unsupported,
    /// A field is missing. A missing `chat_id` is an `invalid_field`.
    MissingField,
    /// A field has the wrong type or a value out of range.
    InvalidField,
    /// A frame, text or nesting is over its limit.
    TooLarge,
    /// There is no such chat, it belongs to another principal, or it was deleted.
    UnknownChat,
    /// The chat has no open turn with this id.
    UnknownTurn,
    /// The chat has no permission request or question with this id.
    UnknownRequest,
    /// Another answer came first, or the request was withdrawn. The gateway remembers the last 64 requests of a chat;
    /// earlier ones are `unknown_request`.
    AlreadyResolved,
    /// The request's event shows its input cut or not exactly, and the answer lacks the hash of the whole input.
    InputUnseen,
    /// This `turn_id` was used for another message.
    TurnConflict,
    /// Too many messages wait in this chat.
    QueueFull,
    /// This connection sent too many frames, or this principal sent too many messages, goals or titles or created too
    /// many chats. The detail names the limit.
    RateLimited,
    /// Too many chats on one connection, or too many connections.
    LimitReached,
    /// The credentials are missing, wrong or ended. Reserved: over the present transports this shows as status 401 or
    /// close code 4401.
    Unauthorized,
    /// The gateway's journal cannot be read or written at the moment.
    Unavailable,
    /// The chat's stored events are damaged on disk. Attached connections are detached; other chats are not affected.
    Damaged,
    /// The connection is closed because the client did not read.
    TooSlow,
    /// The gateway is stopping.
    ShuttingDown,
    /// Something failed that is not the client's fault. Reserved: nothing sends it at present.
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
