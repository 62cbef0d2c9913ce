//! The durable state of a chat, as a journal answers with it.

use alloc::{string::String, vec::Vec};
use core::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Version;
use crate::{
    agent::{AgentCommand, AgentInstanceId},
    ids::{ChatId, Cursor, RequestId, TurnId},
    wire::{Frame, GoalState, Task, TurnError, TurnReason},
};

/// The durable state of a chat: what is open, and the rest that is bounded.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRecord {
    /// The chat's id.
    pub chat: ChatId,
    /// The number of appends that the journal has committed for the chat.
    pub version: Version,
    /// The cursor of the newest event.
    pub head: Cursor,
    /// The time of the last activity ([`Append::is_activity`](super::Append::is_activity)), in milliseconds of Unix
    /// time.
    pub updated_at_ms: u64,
    /// The chat's title, if it has one.
    pub title: Option<String>,
    /// The chat's goal.
    pub goal_state: GoalState,
    /// The agent's own id for the conversation, if the agent gave one.
    pub session: Option<String>,
    /// The open turns in the order of their messages. Only the first one may have started.
    pub turns: Vec<OpenTurn>,
    /// The turn that the agent began by itself, if one is open.
    pub agent_turn: Option<OpenAgentTurn>,
    /// The running background tasks of the agent, oldest first.
    pub tasks: Vec<Task>,
    /// The open permission requests and questions.
    pub requests: Vec<OpenRequest>,
    /// The open streams and tool uses of the agent.
    pub open_work: OpenWork,
    /// The id of the last command.
    pub last_command: u64,
    /// The number of requests that the chat has had, which goes into the next request's id.
    pub last_request: u64,
    /// The chat's agent, if the log has its start and not its end.
    pub agent: Option<RecordedAgent>,
    /// The commands of the open turns, in order. An adopted agent gets them again. The end of a turn drops its own, and
    /// all if no other turn runs.
    pub commands: Vec<AgentCommand>,
    /// The cursor of the newest stored event of earlier epochs, if there is one. With it the chat is not empty even if
    /// `head.seq` is 0, and a hub that appended under that epoch knows how many of its events were committed.
    pub earlier: Option<Cursor>,
}

/// The streams and tool uses that an agent has begun and not ended. They are ended with the turn, apart from the tool
/// uses of subagents in the background, which are ended with their task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenWork {
    /// The open streams of the answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<OpenStream>,
    /// The open streams of thinking.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasoning: Vec<OpenStream>,
    /// The open tool uses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<OpenTool>,
}

/// An open stream of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredStream")]
pub struct OpenStream {
    /// The id of the stream.
    pub stream_id: String,
    /// The tool use of the subagent whose stream it is, if it is one's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_call_id: Option<String>,
    /// Pieces of the stream may have been shown that the journal does not have: those that come next in the agent's
    /// spool.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub spooled: bool,
}

/// An open stream as it is stored. Earlier versions stored the id only.
#[derive(Deserialize)]
#[serde(untagged)]
enum StoredStream {
    Id(String),
    Stream {
        stream_id: String,
        #[serde(default)]
        parent_call_id: Option<String>,
        #[serde(default)]
        spooled: bool,
    },
}

impl From<StoredStream> for OpenStream {
    fn from(stored: StoredStream) -> Self {
        match stored {
            StoredStream::Id(stream_id) => Self { stream_id, parent_call_id: None, spooled: false },
            StoredStream::Stream { stream_id, parent_call_id, spooled } => {
                Self { stream_id, parent_call_id, spooled }
            }
        }
    }
}

/// An open tool use of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredTool")]
pub struct OpenTool {
    /// The agent's id of the tool use.
    pub call_id: String,
    /// The tool, as the agent names it. Empty if an earlier version stored the use.
    pub name: String,
    /// The tool use of the subagent that uses the tool, if a subagent does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_call_id: Option<String>,
}

/// An open tool use as it is stored. Earlier versions stored the id only.
#[derive(Deserialize)]
#[serde(untagged)]
enum StoredTool {
    Id(String),
    Tool {
        call_id: String,
        name: String,
        #[serde(default)]
        parent_call_id: Option<String>,
    },
}

impl From<StoredTool> for OpenTool {
    fn from(stored: StoredTool) -> Self {
        match stored {
            StoredTool::Id(call_id) => Self { call_id, name: String::new(), parent_call_id: None },
            StoredTool::Tool { call_id, name, parent_call_id } => Self { call_id, name, parent_call_id },
        }
    }
}

/// The open turn that an agent began by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenAgentTurn {
    /// The turn's id, which the hub chose.
    pub turn_id: TurnId,
    /// Why the agent began the turn.
    pub reason: TurnReason,
    /// When the turn started, in milliseconds of Unix time.
    pub started_at_ms: u64,
    /// Whether the agent did not say that it begins the turn, so that it will not say that the turn ends.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub is_implied: bool,
    /// Whether the turn is being cancelled.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub cancel_requested: bool,
    /// The error for the turn's end, if the gateway cancels the turn. None if a client does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_reason: Option<TurnError>,
}

impl OpenAgentTurn {
    /// A turn that has just started, as the agent said.
    pub fn new(turn_id: TurnId, reason: TurnReason, started_at_ms: u64) -> Self {
        let (is_implied, cancel_requested, cancel_reason) = (false, false, None);
        Self { turn_id, reason, started_at_ms, is_implied, cancel_requested, cancel_reason }
    }
}

/// An agent of a chat, and how many of its records the log has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedAgent {
    /// The agent instance.
    pub instance: AgentInstanceId,
    /// The position after the last record in the log; 0 if there is none.
    pub position: u64,
    /// The newest stored state of the agent's decoder, at or before `position`.
    pub checkpoint: Option<Bytes>,
}

/// A queued or started turn.
#[derive(Clone, PartialEq)]
pub struct OpenTurn {
    /// The turn's id.
    pub turn_id: TurnId,
    /// The content of the turn's message.
    pub text: String,
    /// SHA-256 of the content.
    pub hash: [u8; 32],
    /// The sequence number of its `user_message` in the current epoch; 0 if that event is in an earlier epoch.
    pub seq: u64,
    /// The `user_message` event.
    pub frame: Frame,
    /// When the message was accepted, in milliseconds of Unix time.
    pub accepted_at_ms: u64,
    /// When the turn started, in milliseconds of Unix time; none while it is queued.
    pub started_at_ms: Option<u64>,
    /// Whether the turn is being cancelled.
    pub cancel_requested: bool,
    /// The error for the turn's end, if the gateway cancels the turn. None if a client does.
    pub cancel_reason: Option<TurnError>,
}

impl OpenTurn {
    /// Whether the turn has started.
    pub fn has_started(&self) -> bool {
        self.started_at_ms.is_some()
    }
}

/// Prints the id only: a message's text does not belong in the gateway's own log.
impl fmt::Debug for OpenTurn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenTurn").field("turn_id", &self.turn_id).finish_non_exhaustive()
    }
}

/// An open permission request or question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRequest {
    /// The request's id in the chat.
    pub request_id: RequestId,
    /// The request's id at the agent's driver.
    pub agent_request_id: RequestId,
    /// Whether the request is a question.
    pub question: bool,
    /// The whole input of a permission request, as JSON text. None for a request that an earlier version stored.
    pub input: Option<String>,
    /// The request's event.
    pub frame: Frame,
}

/// The data of a turn that the journal stores as long as the chat exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnRecord {
    /// SHA-256 of the message's content.
    pub hash: [u8; 32],
    /// The cursor of its `user_message`.
    pub place: Cursor,
    /// Whether the turn started at once and was not queued.
    pub starts_turn: bool,
}

impl OpenWork {
    /// Whether no stream and no tool use is open.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty() && self.reasoning.is_empty() && self.tools.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    #[test]
    fn open_work_of_earlier_versions_can_be_read() {
        let stored = r#"{"answers":["s1"],"reasoning":["s2"],"tools":["k1",{"call_id":"k2","name":"Bash"}]}"#;
        let stream = |stream_id: &str| OpenStream {
            stream_id: stream_id.into(),
            parent_call_id: None,
            spooled: false,
        };
        let tool = |call_id: &str, name: &str| OpenTool {
            call_id: call_id.into(),
            name: name.into(),
            parent_call_id: None,
        };
        let work = OpenWork {
            answers: vec![stream("s1")],
            reasoning: vec![stream("s2")],
            tools: vec![tool("k1", ""), tool("k2", "Bash")],
        };
        assert_eq!(serde_json::from_str::<OpenWork>(stored).expect("open work"), work);
        let again = serde_json::to_string(&work).expect("open work");
        assert_eq!(serde_json::from_str::<OpenWork>(&again).expect("open work"), work);
    }
}
