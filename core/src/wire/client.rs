//! What a client sends.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::fmt;

use serde::{Deserialize, Serialize};

use super::event::GoalState;
use crate::ids::{ChatId, Cursor, RequestId, TurnId};

#[cfg(feature = "schema")]
use {schemars::JsonSchema, ts_rs::TS};

/// A frame that a client sends.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub enum ClientEnvelope {
    /// Presents the token in the first frame, where the handshake carried none. Accepted and ignored later.
    Authenticate {
        /// The token.
        token: String,
    },
    /// Creates a chat and attaches the connection to it. The first event of the answer, `attached`, names the chat.
    ///
    /// Errors: `rate_limited`, `limit_reached`, `unsupported`, `unavailable`, `shutting_down`.
    NewChat {},
    /// Attaches the connection to a chat: the gateway sends what the client missed, then the live events. Attaching
    /// again restarts the subscription at the given cursor.
    ///
    /// Errors: `unknown_chat`, `limit_reached`, `unsupported`, `unavailable`. A default chat that a `ready` event of
    /// this principal named can always be attached to, also before its first message.
    Attach {
        /// The chat to attach to.
        chat_id: ChatId,
        /// The client's cursor: the last event that it has. Without a cursor, a chat that has events is sent as a
        /// `snapshot`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        after: Option<Cursor>,
    },
    /// Ends the connection's subscription to a chat. There is no answer, and events that are already on their way may
    /// still arrive.
    Detach {
        /// The chat to detach from.
        chat_id: ChatId,
    },
    /// Sends a person's message, which starts a turn now or waits in the chat's queue. Attaches the connection to the
    /// chat if it is not attached. The answer is `message_accepted`.
    ///
    /// Errors: `missing_field` (also for blank content), `too_large`, `turn_conflict`, `queue_full`, `rate_limited`,
    /// `limit_reached`, `unsupported`, `unavailable`, `shutting_down`. A refused message changes nothing.
    Message(Message),
    /// Stops a turn, or background work. The only acknowledgement is the turn's `turn_end`, or for background work a
    /// `notice` with the code `agent_stopped`.
    ///
    /// Errors: `unknown_chat`, `unknown_turn` (the turn has ended, or never existed; without a `turn_id`, nothing is left to
    /// stop).
    Cancel {
        /// The chat of the turn.
        chat_id: ChatId,
        /// The turn to stop, running or queued. Without it: the running turn, or the first queued one if none runs. If
        /// no turn is open and the agent works in the background: the agent, with its tasks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        turn_id: Option<TurnId>,
    },
    /// Answers a permission request or question. The first valid answer counts.
    ///
    /// Errors: `unknown_chat`, `unknown_request`, `already_resolved`, `input_unseen`, `unsupported`, `unavailable`,
    /// and `invalid_field` for `allow` to a question, for `answer` to a permission request, and for answers that do
    /// not fit the questions.
    Respond {
        /// The chat of the request.
        chat_id: ChatId,
        /// The open request.
        request_id: RequestId,
        /// The person's decision.
        #[serde(flatten)]
        answer: Answer,
    },
    /// Asks for a page of the whole input of an open permission request. The answer is the control event
    /// `request_input`.
    ///
    /// Errors: `unknown_chat`, `unknown_request`, `already_resolved`, and `invalid_field` for a question or for an
    /// offset that is beyond the text or within a character.
    RequestInput {
        /// The chat of the request.
        chat_id: ChatId,
        /// The open permission request.
        request_id: RequestId,
        /// Where the page begins, in bytes of the input's text: 0 (the default), or `next` of the previous page.
        #[serde(default)]
        #[cfg_attr(feature = "schema", schemars(with = "Option<u64>"), ts(as = "Option<u32>", optional))]
        offset: u64,
    },
    /// Replaces the chat's goal. The answer is a `goal_state` event to every attached connection. The gateway stores
    /// and shows a goal; it does not act on it.
    ///
    /// Errors: `unknown_chat`, `too_large`, `rate_limited`, `unavailable`.
    SetGoalState {
        /// The chat whose goal is set.
        chat_id: ChatId,
        /// The new goal, at most 48 KiB as JSON.
        goal_state: GoalState,
    },
    /// Asks for a page of the principal's chats, newest activity first. The answer is `chats`. From then on, the
    /// connection also gets `session_updated` for chats that it is not attached to, and `chats_changed` once after each
    /// `list_chats`.
    ///
    /// Errors: `invalid_field`, `unavailable`.
    ListChats {
        /// `before` of the previous page; absent for the newest page.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(length(max = 256)), ts(optional))]
        before: Option<String>,
        /// The maximum number of chats, at most 50.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(range(min = 1)), ts(optional))]
        limit: Option<u32>,
    },
    /// Asks for a page of a chat's events, newest page first. The answer is the control event `history`. Needs no
    /// subscription and moves no cursor.
    ///
    /// Errors: `unknown_chat`, `invalid_field`, `unavailable`.
    History {
        /// The chat to read.
        chat_id: ChatId,
        /// `before` of a snapshot or of the previous page; absent for the newest page.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(length(max = 256)), ts(optional))]
        before: Option<String>,
        /// The maximum number of events, at most 200. A page also ends at about 192 KiB.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(range(min = 1)), ts(optional))]
        limit: Option<u32>,
    },
    /// Gives a chat a title, which replaces the title made from the first message. The answer is `session_updated`
    /// with scope `metadata`.
    ///
    /// Errors: `unknown_chat`, `missing_field` (also for a blank title), `invalid_field`, `too_large`,
    /// `rate_limited`, `unavailable`, `shutting_down`.
    RenameChat {
        /// The chat to rename.
        chat_id: ChatId,
        /// The new title: at most 256 bytes, not blank, no control characters. White space around it is removed.
        #[cfg_attr(
            feature = "schema",
            schemars(
                length(max = 256),
                regex(pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$")
            )
        )]
        title: String,
    },
    /// Deletes a chat and everything in it, for everybody and for ever. Its turns end `cancelled` and its agent is
    /// killed. The answer is `session_updated` with scope `deleted`, after which every frame that names the chat gets
    /// `unknown_chat`, and no message creates a chat with this id again.
    ///
    /// Errors: `unknown_chat`, `unavailable` (the chat remains, its turns have ended), `shutting_down`.
    DeleteChat {
        /// The chat to delete.
        chat_id: ChatId,
    },
    /// Asks for a sign of life from the gateway itself, whatever proxies are in between. The answer is `pong`.
    Ping {
        /// A value that the `pong` repeats; at most 128 bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(length(max = 128)), ts(optional))]
        nonce: Option<String>,
    },
    /// A frame of the older vocabulary that names no chat: a message for the default one.
    #[serde(skip)]
    Legacy {
        /// The message, trimmed and not empty.
        content: String,
    },
}

impl ClientEnvelope {
    /// The wire name of this kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Authenticate { .. } => "authenticate",
            Self::NewChat {} => "new_chat",
            Self::Attach { .. } => "attach",
            Self::Detach { .. } => "detach",
            Self::Message(_) => "message",
            Self::Cancel { .. } => "cancel",
            Self::Respond { .. } => "respond",
            Self::RequestInput { .. } => "request_input",
            Self::SetGoalState { .. } => "set_goal_state",
            Self::ListChats { .. } => "list_chats",
            Self::History { .. } => "history",
            Self::RenameChat { .. } => "rename_chat",
            Self::DeleteChat { .. } => "delete_chat",
            Self::Ping { .. } => "ping",
            Self::Legacy { .. } => "legacy",
        }
    }
}

/// Shows the kind only: envelopes contain secrets and people's texts, and neither belongs in a log.
impl fmt::Debug for ClientEnvelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientEnvelope").field(&self.kind()).finish()
    }
}

/// A person's message.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct Message {
    /// The id of the chat. A valid id of no chat creates a chat with this id.
    pub chat_id: ChatId,
    /// The text, not blank, at most 252 KiB, stored unchanged. A text of `/stop` alone is a `cancel` without a
    /// `turn_id`.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = r"\S")))]
    pub content: String,
    /// The client's id for this message and its turn. By this id the gateway recognises a message that is sent again.
    /// Without an id the gateway makes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub turn_id: Option<TurnId>,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("chat_id", &self.chat_id).finish_non_exhaustive()
    }
}

/// A person's answer to a permission request or question.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub enum Answer {
    /// Allows the tool, this once, with exactly the input that the request has.
    Allow {
        /// The request's `input_sha256`; required where the request is `truncated` or `raw`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(regex(pattern = r"^[0-9a-f]{64}$")), ts(optional))]
        input_sha256: Option<String>,
    },
    /// Denies the permission, or declines the question.
    Deny {
        /// A reason for the agent, at most 252 KiB.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        message: Option<String>,
    },
    /// Answers each question.
    Answer {
        /// The answers by their questions' texts. An answer is a text or an array of texts. At most 252 KiB.
        #[cfg_attr(
            feature = "schema",
            schemars(with = "BTreeMap<String, Chosen>"),
            ts(type = "Record<string, string | string[]>")
        )]
        answers: BTreeMap<String, Vec<String>>,
    },
}

/// An answer as it may be sent: one text stands for an array of one.
#[cfg(feature = "schema")]
#[derive(JsonSchema)]
#[schemars(untagged, inline)]
#[expect(dead_code, reason = "only its schema is asked for")]
enum Chosen {
    One(String),
    Several(Vec<String>),
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow { .. } => "Allow",
            Self::Deny { .. } => "Deny",
            Self::Answer { .. } => "Answer",
        })
    }
}
