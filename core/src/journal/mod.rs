//! The core's side of the journal, the log of record: what is appended, asked and answered.
//!
//! Everything that may one day live on a disk is asked for and answered, never assumed to be in memory.
//! A journal answers each append and each question exactly once, in any order between chats; the appends
//! of one chat are answered in the order in which they were made.

mod compaction;
mod memory;
mod page;

pub use compaction::{CompactedDelta, DeltaRun};
pub use memory::MemoryJournal;
pub use page::PageBuilder;

use alloc::{boxed::Box, string::String, vec::Vec};
use core::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    agent::{AgentCommand, AgentInstanceId},
    ids::{ChatId, ChatKey, Cursor, Epoch, Principal, RequestId, TurnId},
    wire::{ChatSummary, Frame, GoalState, Outcome, TurnError},
};

/// Names an append in its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppendId(pub u64);

/// Names a question in its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub u64);

/// What must be true before an append is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// It survives the end of this process.
    Written,
    /// It survives a loss of power.
    Synced,
}

/// One transaction for one chat: all of it is kept, or nothing.
#[derive(Debug, Clone)]
pub struct Append {
    /// Names it in the answer.
    pub id: AppendId,
    /// Which chat.
    pub chat: ChatKey,
    /// When to answer.
    pub durability: Durability,
    /// The chat begins here, under this epoch.
    pub create: Option<Epoch>,
    /// Events, in order; the first follows the chat's last.
    pub events: Vec<LogEvent>,
    /// What changes beside the log.
    pub changes: Vec<Change>,
    /// When this happened, in milliseconds of Unix time.
    pub at_ms: u64,
}

impl Append {
    /// Whether it counts as the chat's last activity, which orders lists: what a turn hangs on does. Each word of an
    /// answer does not, or two that are being written would change places all the time; nor do its agent's coming
    /// and going, and its title.
    pub fn is_activity(&self) -> bool {
        self.create.is_some() || (self.durability == Durability::Synced && !self.events.is_empty())
    }
}

/// An event as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEvent {
    /// The first number that it covers.
    pub first_seq: u64,
    /// The last number that it covers.
    pub seq: u64,
    /// Its bytes on the wire.
    pub frame: Frame,
}

/// A change of a chat's state, kept in the same transaction as the events that tell of it.
#[derive(Clone, PartialEq)]
pub enum Change {
    /// A message was accepted. Its id and hash outlive everything.
    TurnAccepted {
        /// The turn.
        turn_id: TurnId,
        /// SHA-256 of the content.
        hash: [u8; 32],
        /// The place of its `user_message`.
        seq: u64,
        /// The content, kept until the turn ends.
        text: String,
        /// Whether it started at once.
        starts_turn: bool,
    },
    /// Its prompt may go to the agent from now on.
    TurnStarted {
        /// The turn.
        turn_id: TurnId,
    },
    /// Somebody wants it to stop, or the gateway does.
    CancelRequested {
        /// The turn.
        turn_id: TurnId,
        /// What its end is to say, where nobody asked for it.
        reason: Option<TurnError>,
    },
    /// It is over.
    TurnEnded {
        /// The turn.
        turn_id: TurnId,
        /// How it ended.
        outcome: Outcome,
    },
    /// A permission request or question is open.
    RequestOpened {
        /// Its id in the chat.
        request_id: RequestId,
        /// The agent's own id of it.
        agent_request_id: RequestId,
        /// The chat's count of requests, which makes their ids.
        last_request: u64,
        /// Whether it is a question.
        question: bool,
        /// Of a permission: the whole input, as JSON text.
        input: Option<String>,
        /// Its event.
        frame: Frame,
    },
    /// It is closed.
    RequestClosed {
        /// Which one.
        request_id: RequestId,
    },
    /// A command for the agent: durable before it is sent.
    Command {
        /// The command.
        command: AgentCommand,
    },
    /// The chat has an agent from now on, though it may not live yet.
    AgentStarted {
        /// Which life of it.
        instance: AgentInstanceId,
    },
    /// It has none any more, or one that was told to stop: nobody is to take it up again.
    AgentEnded {
        /// Which life of it.
        instance: AgentInstanceId,
    },
    /// How far the agent's records are in the log.
    AgentPosition {
        /// Which life of the agent.
        instance: AgentInstanceId,
        /// The position after the last record.
        position: u64,
        /// The decoder's state there.
        checkpoint: Option<Bytes>,
    },
    /// What of the running turn is begun and not ended, from now on; nothing once the turn ends.
    OpenWork {
        /// All of it.
        work: OpenWork,
    },
    /// The agent's own name for the conversation.
    Session {
        /// Opaque.
        token: String,
    },
    /// The title.
    Title {
        /// From now on.
        title: String,
    },
    /// The goal.
    Goal {
        /// From now on.
        goal_state: GoalState,
    },
    /// The chat is deleted with everything that was ever kept of it. Only a hash of its id stays, so that the
    /// id is never used again. The last change of a chat.
    Deleted,
}

/// Shows the kind only.
impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TurnAccepted { .. } => "TurnAccepted",
            Self::TurnStarted { .. } => "TurnStarted",
            Self::CancelRequested { .. } => "CancelRequested",
            Self::TurnEnded { .. } => "TurnEnded",
            Self::RequestOpened { .. } => "RequestOpened",
            Self::RequestClosed { .. } => "RequestClosed",
            Self::Command { .. } => "Command",
            Self::AgentStarted { .. } => "AgentStarted",
            Self::AgentEnded { .. } => "AgentEnded",
            Self::AgentPosition { .. } => "AgentPosition",
            Self::OpenWork { .. } => "OpenWork",
            Self::Session { .. } => "Session",
            Self::Title { .. } => "Title",
            Self::Goal { .. } => "Goal",
            Self::Deleted => "Deleted",
        })
    }
}

/// A question to the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Names it in the answer.
    pub id: AskId,
    /// The question.
    pub query: Query,
}

/// The questions there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// The durable state of a chat. After a refused append, also the leave to append again.
    Chat {
        /// Which chat.
        chat: ChatKey,
    },
    /// What became of a `turn_id`.
    Turn {
        /// In which chat.
        chat: ChatKey,
        /// Which one.
        turn_id: TurnId,
    },
    /// Events after a place, oldest first.
    After {
        /// Which chat.
        chat: ChatKey,
        /// The place; its epoch is the chat's present one.
        after: Cursor,
        /// Stop once this many bytes are reached; at least one event comes if there is one.
        bytes: usize,
    },
    /// The newest events before a place, across epochs.
    Before {
        /// Which chat.
        chat: ChatKey,
        /// A cursor that an earlier page gave, or the place after which nothing is wanted.
        before: PageStart,
        /// The most events, after adjacent deltas of one stream are joined.
        events: u32,
        /// The most bytes; at least one event comes if there is one.
        bytes: usize,
    },
    /// A page of a principal's chats, newest activity first.
    Chats {
        /// Whose.
        principal: Principal,
        /// The cursor that an earlier page gave.
        before: Option<String>,
        /// The most chats.
        limit: u32,
    },
}

impl Query {
    /// The chat that it is about.
    pub fn chat(&self) -> Option<&ChatKey> {
        match self {
            Self::Chat { chat }
            | Self::Turn { chat, .. }
            | Self::After { chat, .. }
            | Self::Before { chat, .. } => Some(chat),
            Self::Chats { .. } => None,
        }
    }
}

/// Where a page of history begins, going backwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageStart {
    /// With this event of the present epoch.
    At(u64),
    /// Where an earlier page ended.
    Opaque(String),
}

/// What the journal says.
#[derive(Debug, Clone)]
pub enum JournalAnswer {
    /// It is as durable as was asked.
    Appended(AppendId),
    /// It is not, or not for certain. Later appends for this chat are refused until [`Query::Chat`] was
    /// answered.
    Refused(AppendId),
    /// An answer to a question.
    Found(AskId, Found),
    /// The question could not be answered at the moment.
    Failed(AskId),
    /// What the question is about is damaged: it will not be answered until somebody repairs the journal.
    Damaged(AskId),
}

/// The answers there are.
#[derive(Debug, Clone)]
pub enum Found {
    /// To [`Query::Chat`]; `None`: no such chat.
    Chat(Option<Box<ChatRecord>>),
    /// To [`Query::Chat`]: there was one, and it was deleted.
    Deleted,
    /// To [`Query::Turn`]; `None`: never seen.
    Turn(Option<TurnRecord>),
    /// To [`Query::After`]. `None`: what comes after that place is no longer kept.
    After(Option<Vec<LogEvent>>),
    /// To [`Query::Before`]: oldest first. `None`: no such place.
    Before(Option<HistoryPage>),
    /// To [`Query::Chats`]. `None`: no such place.
    Chats(Option<ChatsPage>),
}

/// A page of history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryPage {
    /// Oldest first.
    pub events: Vec<Frame>,
    /// Where the next page begins; `None` at the chat's beginning.
    pub before: Option<String>,
}

/// A page of chats.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChatsPage {
    /// Newest activity first.
    pub chats: Vec<ChatSummary>,
    /// Where the next page begins; `None` on the last.
    pub before: Option<String>,
}

/// The durable state of a chat.
#[derive(Debug, Clone)]
pub struct ChatRecord {
    /// Its id.
    pub chat: ChatId,
    /// Its newest place.
    pub head: Cursor,
    /// Its title.
    pub title: Option<String>,
    /// Its goal.
    pub goal_state: GoalState,
    /// The agent's name for the conversation.
    pub session: Option<String>,
    /// Its open turns, first come first. The first may have started.
    pub turns: Vec<OpenTurn>,
    /// Its open requests.
    pub requests: Vec<OpenRequest>,
    /// What of the running turn is begun and not ended.
    pub open_work: OpenWork,
    /// The last command's number.
    pub last_command: u64,
    /// How many requests there have been, which makes the next one's id.
    pub last_request: u64,
    /// Its agent, if it had one when last heard of that was not told to stop.
    pub agent: Option<RecordedAgent>,
    /// The commands of its open turns, in order: an agent that outlived its gateway gets them again.
    pub commands: Vec<AgentCommand>,
    /// The newest event of earlier epochs, if any is kept: the chat is not empty though its head may be 0, and whoever
    /// wrote under that epoch knows how much of it is left.
    pub earlier: Option<Cursor>,
}

/// What an agent has begun in its turn and not ended: whoever takes the turn up ends it with the turn.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenWork {
    /// The streams of its answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<String>,
    /// The streams of its thinking.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasoning: Vec<String>,
    /// The uses of tools.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
}

impl OpenWork {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty() && self.reasoning.is_empty() && self.tools.is_empty()
    }
}

/// How far the log has what an agent said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedAgent {
    /// Which life of it.
    pub instance: AgentInstanceId,
    /// The position after the last record in the log; 0 if there is none.
    pub position: u64,
    /// The newest state of its decoder, at or before that position.
    pub checkpoint: Option<Bytes>,
}

/// A turn that has not ended.
#[derive(Clone)]
pub struct OpenTurn {
    /// Its id.
    pub turn_id: TurnId,
    /// Its message.
    pub text: String,
    /// SHA-256 of it.
    pub hash: [u8; 32],
    /// The place of its `user_message` in the present epoch; 0 if that is in an earlier one.
    pub seq: u64,
    /// The event of its message.
    pub frame: Frame,
    /// When it was accepted, in milliseconds of Unix time.
    pub accepted_at_ms: u64,
    /// When it started, in milliseconds of Unix time.
    pub started_at_ms: Option<u64>,
    /// Whether it is to stop.
    pub cancel_requested: bool,
    /// What its end is to say then, where nobody asked for it.
    pub cancel_reason: Option<TurnError>,
}

/// Leaves out what was written.
impl fmt::Debug for OpenTurn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenTurn").field("turn_id", &self.turn_id).finish_non_exhaustive()
    }
}

/// An open permission request or question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRequest {
    /// Its id in the chat.
    pub request_id: RequestId,
    /// The agent's own id of it.
    pub agent_request_id: RequestId,
    /// Whether it is a question.
    pub question: bool,
    /// Of a permission: the whole input, as JSON text. Earlier versions kept none.
    pub input: Option<String>,
    /// Its event.
    pub frame: Frame,
}

/// What the journal keeps of every turn for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnRecord {
    /// SHA-256 of the content.
    pub hash: [u8; 32],
    /// The place of its `user_message`.
    pub place: Cursor,
    /// Whether it started at once.
    pub starts_turn: bool,
}
