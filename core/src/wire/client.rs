//! What a client sends.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::fmt;

use serde::{Deserialize, Serialize};

use super::event::GoalState;
use crate::ids::{ChatId, Cursor, RequestId, TurnId};

#[cfg(feature = "schema")]
use {schemars::JsonSchema, ts_rs::TS};

/// The kinds of frames a client sends.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub enum ClientEnvelope {
    /// Credentials in the first frame, where the handshake carried none.
    Authenticate {
        /// The token.
        token: String,
    },
    /// Makes a chat and attaches to it.
    NewChat {},
    /// Subscribes to a chat.
    Attach {
        /// Which one.
        chat_id: ChatId,
        /// What the client has already.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        after: Option<Cursor>,
    },
    /// Ends a subscription.
    Detach {
        /// Which one.
        chat_id: ChatId,
    },
    /// A person's message. Attaches where the connection is not attached yet.
    Message(Message),
    /// Stops a turn.
    Cancel {
        /// In which chat.
        chat_id: ChatId,
        /// Which one: the running one, or one that waits. Absent: the running one, or the first that waits.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        turn_id: Option<TurnId>,
    },
    /// Answers a permission request or question.
    Respond {
        /// In which chat.
        chat_id: ChatId,
        /// Which one.
        request_id: RequestId,
        /// The answer.
        #[serde(flatten)]
        answer: Answer,
    },
    /// Asks for a page of the whole input of an open permission request.
    RequestInput {
        /// In which chat.
        chat_id: ChatId,
        /// The open request.
        request_id: RequestId,
        /// Where the page begins, in bytes of the input's text: 0, or `next` of the page before.
        #[serde(default)]
        #[cfg_attr(feature = "schema", schemars(with = "Option<u64>"), ts(as = "Option<u32>", optional))]
        offset: u64,
    },
    /// Sets the chat's goal.
    SetGoalState {
        /// In which chat.
        chat_id: ChatId,
        /// The goal from now on.
        goal_state: GoalState,
    },
    /// Asks for a page of the chats, newest first.
    ListChats {
        /// Where to go on: `before` of the page before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(length(max = 256)), ts(optional))]
        before: Option<String>,
        /// The most chats to send.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(range(min = 1)), ts(optional))]
        limit: Option<u32>,
    },
    /// Asks for a page of a chat's events, newest page first.
    History {
        /// Which chat.
        chat_id: ChatId,
        /// Where to go on: `before` of a snapshot or of the page before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(length(max = 256)), ts(optional))]
        before: Option<String>,
        /// The most events to send.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(range(min = 1)), ts(optional))]
        limit: Option<u32>,
    },
    /// Gives a chat a title of the person's own.
    RenameChat {
        /// Which chat.
        chat_id: ChatId,
        /// The title from now on, trimmed and not empty.
        #[cfg_attr(
            feature = "schema",
            schemars(
                length(max = 256),
                regex(pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$")
            )
        )]
        title: String,
    },
    /// Ends what runs in a chat and removes all of it, for ever.
    DeleteChat {
        /// Which chat.
        chat_id: ChatId,
    },
    /// Asks for a sign of life.
    Ping {
        /// Comes back in `pong`.
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

/// Shows the kind only: envelopes hold secrets and what people write, and neither belongs in a log.
impl fmt::Debug for ClientEnvelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientEnvelope").field(&self.kind()).finish()
    }
}

/// A person's message.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct Message {
    /// For which chat. A well-formed id that is unknown makes that chat.
    pub chat_id: ChatId,
    /// The text. `/stop` cancels the running turn.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = r"\S")))]
    pub content: String,
    /// The client's name for it: sent again, it is recognised. Absent, the gateway makes one.
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
        /// The request's `input_sha256`: needed where its event shows the input cut or not exactly.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(regex(pattern = r"^[0-9a-f]{64}$")), ts(optional))]
        input_sha256: Option<String>,
    },
    /// Denies it; a question is declined.
    Deny {
        /// What the agent is told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", ts(optional))]
        message: Option<String>,
    },
    /// Answers the questions.
    Answer {
        /// From each question's text to what was chosen or written.
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
