//! The core's side of an agent: what it says once its dialect is decoded, and what it is told.

use alloc::{string::String, sync::Arc, vec::Vec};
use core::fmt;

use bytes::Bytes;

use crate::{
    ids::{RequestId, TurnId},
    wire::{Answer, Cost, FileEdit, NoticeLevel, Outcome, Question, TurnError, Usage},
};

/// One life of an agent. What an ended one still says is recognised by it and dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentInstanceId(pub u64);

/// A stream of text within a turn, as wire clients see it. Derived from a record's position.
pub type StreamId = Arc<str>;

/// What an agent says.
///
/// A decoder turns the agent's own records into these; it is a pure function of the records and
/// their positions, so that the same records decode to the same events again after a crash.
#[derive(Clone, PartialEq)]
pub enum AgentEvent {
    /// A piece of the answer. Adjacent ones of one stream may be joined.
    Text {
        /// The stream that it continues; it opens with its first piece.
        stream: StreamId,
        /// The text to append; an empty one makes no event.
        text: String,
    },
    /// A stream of the answer is complete.
    TextEnd {
        /// Which stream.
        stream: StreamId,
        /// Its text, where that did not come in pieces.
        text: Option<String>,
        /// The agent abandoned it.
        void: bool,
    },
    /// A piece of the agent's thinking.
    Reasoning {
        /// The stream that it continues.
        stream: StreamId,
        /// The text to append; an empty one makes no event.
        text: String,
    },
    /// A stream of thinking is complete.
    ReasoningEnd {
        /// Which stream.
        stream: StreamId,
        /// The agent abandoned it.
        void: bool,
    },
    /// A whole answer that was not streamed.
    Message {
        /// The text.
        text: String,
    },
    /// Something worth a line about how it goes, such as a retry.
    Progress {
        /// The line.
        text: String,
    },
    /// Still at work, with nothing to show: feeds the watchdog.
    Alive,
    /// A tool begins.
    ToolStarted {
        /// The agent's id of this use.
        call_id: String,
        /// The tool.
        name: String,
        /// What it is given.
        arguments: serde_json::Value,
    },
    /// A tool ended.
    ToolEnded {
        /// The agent's id of this use.
        call_id: String,
        /// The tool.
        name: String,
        /// What it gave, or why it failed.
        result: Result<String, String>,
        /// Whether the result was cut by the decoder.
        truncated: bool,
    },
    /// Files changed.
    FileEdit {
        /// Which and how.
        edits: Vec<FileEdit>,
    },
    /// Leave is asked to use a tool.
    Permission(PermissionAsk),
    /// The person is asked something. Its `request_id` is the driver's, as in [`PermissionAsk`].
    Question(Question),
    /// A request no longer stands.
    Withdrawn {
        /// The driver's id of the request.
        request_id: RequestId,
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
    /// The model that answers.
    Model {
        /// As the agent names it.
        name: String,
    },
    /// The agent's own name for this conversation, with which a later run can take it up again.
    Session {
        /// Opaque to everybody but the agent's driver.
        token: String,
    },
    /// The turn is over as far as the agent is concerned. It is ready for the next prompt.
    TurnEnded {
        /// How it ended.
        outcome: Outcome,
        /// Why, where it did not end well.
        error: Option<TurnError>,
        /// Tokens.
        usage: Option<Usage>,
        /// Money.
        cost: Option<Cost>,
    },
}

impl AgentEvent {
    /// Whether an agent says this only in a turn, in answer to a prompt.
    pub(crate) fn is_of_turn(&self) -> bool {
        match self {
            Self::Text { .. }
            | Self::TextEnd { .. }
            | Self::Reasoning { .. }
            | Self::ReasoningEnd { .. }
            | Self::Message { .. }
            | Self::ToolStarted { .. }
            | Self::ToolEnded { .. }
            | Self::FileEdit { .. }
            | Self::Permission(_)
            | Self::Question(_)
            | Self::TurnEnded { .. } => true,
            Self::Progress { .. }
            | Self::Alive
            | Self::Withdrawn { .. }
            | Self::Notice { .. }
            | Self::Model { .. }
            | Self::Session { .. } => false,
        }
    }
}

/// Shows the kind only: what an agent says does not belong in a log.
impl fmt::Debug for AgentEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text { .. } => "Text",
            Self::TextEnd { .. } => "TextEnd",
            Self::Reasoning { .. } => "Reasoning",
            Self::ReasoningEnd { .. } => "ReasoningEnd",
            Self::Message { .. } => "Message",
            Self::Progress { .. } => "Progress",
            Self::Alive => "Alive",
            Self::ToolStarted { .. } => "ToolStarted",
            Self::ToolEnded { .. } => "ToolEnded",
            Self::FileEdit { .. } => "FileEdit",
            Self::Permission(_) => "Permission",
            Self::Question(_) => "Question",
            Self::Withdrawn { .. } => "Withdrawn",
            Self::Notice { .. } => "Notice",
            Self::Model { .. } => "Model",
            Self::Session { .. } => "Session",
            Self::TurnEnded { .. } => "TurnEnded",
        })
    }
}

/// Leave that an agent asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PermissionAsk {
    /// The driver's id of it, which it gives to no other request, whatever the agent calls them. It never reaches a
    /// client: the hub gives each request an id of the chat.
    pub request_id: RequestId,
    /// The tool, as the agent names it.
    pub tool: String,
    /// What the agent wants to pass to the tool, as JSON text. An answer grants exactly this.
    pub input: String,
    /// What the agent says it is for.
    pub description: Option<String>,
    /// The tool use that waits for it.
    pub call_id: Option<String>,
}

/// What an agent said since its last records, decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentRecords {
    /// The position after the last record in here. Positions of one run only grow.
    pub position: u64,
    /// What the records decode to, in order. Those that arrived together come together.
    pub events: Vec<AgentEvent>,
    /// The decoder's state after the last record, where it is worth keeping.
    pub checkpoint: Option<Bytes>,
}

/// Names a command to an agent; a repeat is recognised by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// What an agent is told.
#[derive(Clone, PartialEq, Eq)]
pub enum AgentCommand {
    /// A person's message. Comes only when no turn is open.
    Prompt {
        /// Names this command.
        id: CommandId,
        /// The turn that it begins.
        turn_id: TurnId,
        /// The message.
        text: String,
    },
    /// Ends the turn early; the agent answers with [`AgentEvent::TurnEnded`].
    Cancel {
        /// Names this command.
        id: CommandId,
        /// The turn to end.
        turn_id: TurnId,
    },
    /// A person's answer to a request of the agent.
    Answer {
        /// Names this command.
        id: CommandId,
        /// The driver's id of the request.
        request_id: RequestId,
        /// The answer. One that allows has the hash of the input that it allows.
        answer: Answer,
    },
}

impl AgentCommand {
    /// The command's id.
    pub fn id(&self) -> CommandId {
        match self {
            Self::Prompt { id, .. } | Self::Cancel { id, .. } | Self::Answer { id, .. } => *id,
        }
    }

    pub(crate) fn set_id(&mut self, new: CommandId) {
        match self {
            Self::Prompt { id, .. } | Self::Cancel { id, .. } | Self::Answer { id, .. } => *id = new,
        }
    }
}

impl fmt::Debug for AgentCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Prompt { .. } => "Prompt",
            Self::Cancel { .. } => "Cancel",
            Self::Answer { .. } => "Answer",
        };
        f.debug_tuple(kind).field(&self.id().0).finish()
    }
}

/// How one life of an agent ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentExit {
    /// It could not be started: the turn failed, and its code and sentence say why.
    StartFailed(TurnError),
    /// It went away: a turn that was open is interrupted.
    Gone(TurnError),
    /// One that was taken up from an earlier gateway went away, or was dead all the while, and had not taken the prompt
    /// that this gateway sent: another life is given that. The runtime makes this of [`Gone`](Self::Gone).
    Unprompted(TurnError),
    /// It was told to stop and did.
    Stopped,
}

impl AgentExit {
    /// The same of an agent that has not taken the prompt that it was sent.
    pub fn unprompted(self) -> Self {
        match self {
            Self::Gone(error) => Self::Unprompted(error),
            exit @ (Self::StartFailed(_) | Self::Unprompted(_) | Self::Stopped) => exit,
        }
    }
}
