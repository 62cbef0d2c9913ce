//! The core's interface to an agent: its decoded output ([`AgentEvent`]) and its input ([`AgentCommand`]).

use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};
use core::fmt;

use bytes::Bytes;

use crate::{
    ids::{RequestId, TurnId},
    wire::{
        Answer, Cost, FileEdit, NoticeLevel, Outcome, Question, Source, Task, ToolLocation, ToolMedia,
        TurnError, TurnReason, Usage,
    },
};

/// Identifies one run of an agent, from its start to its exit. The hub counts the ids up from a random number, and
/// drops records of an instance that is not the chat's present one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentInstanceId(pub u64);

/// The id of a stream of text within a turn, as clients get it. Derived from the position of the agent's record.
pub type StreamId = Arc<str>;

/// An event of an agent.
///
/// A decoder turns the agent's own records into events. The decoder is a pure function of the records and their
/// positions, so that the same records decode to the same events again after a crash.
///
/// What an agent says belongs to a turn. A prompt begins a person's turn. An agent that works without a prompt first
/// gives [`AgentTurnStarted`](Self::AgentTurnStarted): all that follows belongs to that turn, up to
/// [`AgentTurnEnded`](Self::AgentTurnEnded), even if a prompt is sent meanwhile.
#[derive(Clone, PartialEq)]
pub enum AgentEvent {
    /// The agent begins a turn by itself. While such a turn is open, this only says that the open turn has an end of its
    /// own, should the hub have begun the turn because the agent worked without a turn.
    AgentTurnStarted {
        /// Why the agent works.
        reason: TurnReason,
    },
    /// The turn that the agent began by itself is over. Ignored if none is open.
    AgentTurnEnded {
        /// How the turn ended.
        outcome: Outcome,
        /// Why the turn failed, if it did.
        error: Option<TurnError>,
        /// The tokens that the turn used, if the agent reports them.
        usage: Option<Usage>,
        /// The price of the turn, if the agent reports it.
        cost: Option<Cost>,
    },
    /// An event of a subagent.
    Subagent {
        /// The agent's id of the tool use that runs the subagent.
        parent_call_id: String,
        /// Text, reasoning, a message, a tool use, a file edit, a permission request or a question.
        event: Box<Self>,
    },
    /// A piece of the answer. Adjacent pieces of one stream may be merged.
    Text {
        /// The stream that the piece continues. A stream opens with its first piece.
        stream: StreamId,
        /// The text to append; an empty one makes no event.
        text: String,
    },
    /// A stream of the answer is complete.
    TextEnd {
        /// The stream that is complete.
        stream: StreamId,
        /// The whole text, if it did not come in pieces.
        text: Option<String>,
        /// Whether the agent abandoned the stream, so that its text does not count.
        void: bool,
        /// The sources that the agent cites in the text.
        sources: Vec<Source>,
    },
    /// A piece of the agent's thinking.
    Reasoning {
        /// The stream that the piece continues.
        stream: StreamId,
        /// The text to append; an empty one makes no event.
        text: String,
    },
    /// A stream of thinking is complete.
    ReasoningEnd {
        /// The stream that is complete.
        stream: StreamId,
        /// Whether the agent abandoned the stream, so that its text does not count.
        void: bool,
    },
    /// A whole answer that was not streamed.
    Message {
        /// The whole text of the answer.
        text: String,
    },
    /// A line about the turn's progress, such as a retry.
    Progress {
        /// The line, for people.
        text: String,
    },
    /// The agent is at work without other output: restarts the watchdog for silent turns.
    Alive,
    /// A use of a tool begins.
    ToolStarted {
        /// The agent's id of this use of the tool.
        call_id: String,
        /// The tool's name, as the agent has it.
        name: String,
        /// The tool's input, as far as the agent has written it.
        input: ToolInput,
    },
    /// A use of a tool goes on.
    ToolUpdated {
        /// The agent's id of this use of the tool.
        call_id: String,
        /// The tool's name, as the agent has it.
        name: String,
        /// All of the input so far, if there is more of it.
        input: Option<ToolInput>,
        /// A piece of the tool's output.
        output: Option<String>,
    },
    /// A use of a tool ended.
    ToolEnded {
        /// The agent's id of this use of the tool.
        call_id: String,
        /// The tool's name, as the agent has it.
        name: String,
        /// The tool's output, or why the tool failed.
        result: Result<String, String>,
        /// Whether the decoder truncated the result.
        truncated: bool,
        /// The pictures and other media in the result.
        media: Vec<ToolMedia>,
        /// The sources that the tool found.
        sources: Vec<Source>,
    },
    /// Background work began, changed or ended. An agent with running tasks is not idle.
    Task(Task),
    /// Files changed.
    FileEdit {
        /// The changed files, and how each one changed.
        edits: Vec<FileEdit>,
    },
    /// The agent asks for permission to use a tool.
    Permission(PermissionAsk),
    /// The agent asks a person questions. `request_id` is the driver's id, as in [`PermissionAsk`].
    Question(Question),
    /// The agent withdraws a permission request or question.
    Withdrawn {
        /// The driver's id of the request.
        request_id: RequestId,
    },
    /// A message for people that is not part of an answer.
    Notice {
        /// The severity.
        level: NoticeLevel,
        /// A stable code for programs; see the table in `docs/reference.md`.
        code: String,
        /// One or two sentences, for people.
        text: String,
        /// Details for programs; the fields depend on the code.
        data: Option<serde_json::Value>,
    },
    /// The model that the agent uses from now on.
    Model {
        /// The model's name, as the agent has it.
        name: String,
    },
    /// The agent's own id for this conversation, with which a later instance can resume the conversation.
    Session {
        /// The id. Opaque to all but the agent's driver.
        token: String,
    },
    /// The agent has ended the turn and is ready for the next prompt.
    TurnEnded {
        /// How the turn ended.
        outcome: Outcome,
        /// Why the turn failed, if it did.
        error: Option<TurnError>,
        /// The tokens that the turn used, if the agent reports them.
        usage: Option<Usage>,
        /// The price of the turn, if the agent reports it.
        cost: Option<Cost>,
    },
}

impl AgentEvent {
    /// What this event is where no turn is open.
    pub(crate) fn without_turn(&self) -> WithoutTurn<'_> {
        match self {
            Self::Text { text, .. } | Self::Reasoning { text, .. } | Self::Message { text }
                if text.is_empty() =>
            {
                WithoutTurn::OfAgent
            }
            Self::Text { .. }
            | Self::Reasoning { .. }
            | Self::Message { .. }
            | Self::TextEnd { text: Some(_), .. }
            | Self::ToolStarted { .. }
            | Self::FileEdit { .. }
            | Self::Permission(_)
            | Self::Question(_) => WithoutTurn::BeginsTurn,
            Self::TextEnd { text: None, .. } | Self::ReasoningEnd { .. } => WithoutTurn::IsLate(None),
            Self::ToolUpdated { call_id, .. } | Self::ToolEnded { call_id, .. } => {
                WithoutTurn::IsLate(Some(call_id))
            }
            Self::Subagent { event, .. } => event.without_turn(),
            Self::AgentTurnStarted { .. }
            | Self::AgentTurnEnded { .. }
            | Self::TurnEnded { .. }
            | Self::Progress { .. }
            | Self::Alive
            | Self::Task(_)
            | Self::Withdrawn { .. }
            | Self::Notice { .. }
            | Self::Model { .. }
            | Self::Session { .. } => WithoutTurn::OfAgent,
        }
    }
}

/// What an agent's event is where no turn is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WithoutTurn<'a> {
    /// It belongs to a turn, so it begins one of the agent's.
    BeginsTurn,
    /// It says only that something went on or ended that began in an earlier turn: this tool use, or a stream.
    IsLate(Option<&'a str>),
    /// It belongs to no turn.
    OfAgent,
}

/// Prints the kind only: an agent's output does not belong in the gateway's own log.
impl fmt::Debug for AgentEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AgentTurnStarted { .. } => "AgentTurnStarted",
            Self::AgentTurnEnded { .. } => "AgentTurnEnded",
            Self::Subagent { .. } => "Subagent",
            Self::Text { .. } => "Text",
            Self::TextEnd { .. } => "TextEnd",
            Self::Reasoning { .. } => "Reasoning",
            Self::ReasoningEnd { .. } => "ReasoningEnd",
            Self::Message { .. } => "Message",
            Self::Progress { .. } => "Progress",
            Self::Alive => "Alive",
            Self::ToolStarted { .. } => "ToolStarted",
            Self::ToolUpdated { .. } => "ToolUpdated",
            Self::ToolEnded { .. } => "ToolEnded",
            Self::Task(_) => "Task",
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

/// The input of a tool use.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolInput {
    /// The input, or the beginning of it.
    pub arguments: serde_json::Value,
    /// Whether `arguments` is only the beginning of the input, because the agent still writes it. An
    /// [update](AgentEvent::ToolUpdated) has the whole input, unless the use ends before.
    pub partial: bool,
    /// One line for people that says what the use does.
    pub title: Option<String>,
    /// The files that the use concerns.
    pub locations: Vec<ToolLocation>,
}

impl ToolInput {
    /// A whole input, of which nothing else is known.
    pub fn whole(arguments: serde_json::Value) -> Self {
        Self { arguments, partial: false, title: None, locations: Vec::new() }
    }
}

/// An agent's request for permission to use a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PermissionAsk {
    /// The driver's id of the request, which is unique even if the agent's own ids are not. It never reaches a client:
    /// the hub gives each request an id of the chat.
    pub request_id: RequestId,
    /// The tool's name, as the agent has it.
    pub tool: String,
    /// The tool's input, as JSON text. An answer allows exactly this input.
    pub input: String,
    /// The agent's description of the tool use.
    pub description: Option<String>,
    /// The agent's id of the tool use that waits for the permission.
    pub call_id: Option<String>,
}

/// A batch of an agent's records, decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentRecords {
    /// The position after the last record of the batch. The positions of one instance only grow.
    pub position: u64,
    /// The events that the records decode to, in order. Records that arrived together come in one batch.
    pub events: Vec<AgentEvent>,
    /// The decoder's state after the last record, if it should be stored.
    pub checkpoint: Option<Bytes>,
}

/// Identifies a command to a chat's agent. The ids of a chat only grow; an agent's host recognises a repeat by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// A command to an agent.
#[derive(Clone, PartialEq, Eq)]
pub enum AgentCommand {
    /// A person's message. Comes only when no person's turn is open; a turn that the agent began by itself may be.
    Prompt {
        /// The command's id.
        id: CommandId,
        /// The turn that the prompt begins.
        turn_id: TurnId,
        /// The message's text.
        text: String,
    },
    /// Cancels the turn. The agent answers with [`AgentEvent::TurnEnded`], or with [`AgentEvent::AgentTurnEnded`] if it
    /// began the turn by itself.
    Cancel {
        /// The command's id.
        id: CommandId,
        /// The turn to cancel.
        turn_id: TurnId,
    },
    /// A person's answer to a request of the agent.
    Answer {
        /// The command's id.
        id: CommandId,
        /// The driver's id of the request.
        request_id: RequestId,
        /// The answer. If it allows a tool use, it has the hash of the allowed input.
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

    /// The turn that the command begins or cancels. None for an answer.
    pub fn turn_id(&self) -> Option<&TurnId> {
        match self {
            Self::Prompt { turn_id, .. } | Self::Cancel { turn_id, .. } => Some(turn_id),
            Self::Answer { .. } => None,
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

/// How an agent instance ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentExit {
    /// The agent could not be started. The turn fails with this error.
    StartFailed(TurnError),
    /// The agent exited or was lost. An open turn is interrupted with this error.
    Gone(TurnError),
    /// An adopted agent exited, or had exited before it was adopted, without taking the prompt that this gateway
    /// process sent. A new instance gets the prompt. The runtime makes this from [`Gone`](Self::Gone).
    Unprompted(TurnError),
    /// The agent was asked to stop and did.
    Stopped,
}

impl AgentExit {
    /// Turns [`Gone`](Self::Gone) into [`Unprompted`](Self::Unprompted), for an agent that has not taken its prompt.
    pub fn unprompted(self) -> Self {
        match self {
            Self::Gone(error) => Self::Unprompted(error),
            exit @ (Self::StartFailed(_) | Self::Unprompted(_) | Self::Stopped) => exit,
        }
    }
}
