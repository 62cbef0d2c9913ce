//! The core's interface to the journal, which stores the chats: appends, questions and their answers.
//!
//! The hub never assumes that stored data is in memory: it asks the journal, and gets the answer as a later input.
//! A journal answers each append and each question exactly once. It answers the appends of one chat in their order;
//! there is no order between chats.

mod class;
mod compaction;
mod fold;
mod memory;
mod page;
mod record;

pub use class::{Durability, EventClass};
pub use compaction::{CompactedDelta, DeltaRun};
pub use fold::{Conflict, Effects};
pub use memory::MemoryJournal;
pub use page::PageBuilder;
pub use record::{
    ChatRecord, OpenAgentTurn, OpenRequest, OpenStream, OpenTool, OpenTurn, OpenWork, RecordedAgent,
    TurnRecord,
};

use alloc::{boxed::Box, string::String, vec::Vec};
use core::fmt;

use bytes::Bytes;

use crate::{
    agent::{AgentCommand, AgentInstanceId},
    ids::{ChatKey, Cursor, Epoch, Principal, RequestId, TurnId},
    wire::{ChatSummary, Frame, GoalState, Outcome, Task, TurnError},
};

/// Identifies an append in its answer. Made by the hub, unique within a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppendId(pub u64);

/// Identifies a question in its answer. Made by the hub, unique within a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub u64);

/// The number of appends that a journal has committed for a chat, in all its epochs. 0: there is no such chat.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl Version {
    /// The version after one more append.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// One transaction for one chat: the journal commits all of it or nothing.
#[derive(Debug, Clone)]
pub struct Append {
    /// The append's id, for the answer.
    pub id: AppendId,
    /// The chat to append to.
    pub chat: ChatKey,
    /// The chat's version before the append. If the chat has another one, the append is a conflict.
    pub expect: Version,
    /// How durable the append must be before the answer.
    pub durability: Durability,
    /// With an epoch, the append creates the chat, under this epoch.
    pub create: Option<Epoch>,
    /// The events in order. The first one's sequence number follows the chat's last.
    pub events: Vec<LogEvent>,
    /// Changes of the chat's state that belong to the events.
    pub changes: Vec<Change>,
    /// The time of the events and changes, in milliseconds of Unix time.
    pub at_ms: u64,
}

impl Append {
    /// Whether the append counts as the chat's last activity, which orders lists of chats. The chat's creation does,
    /// and events of some kinds, such as messages and turn ends. Changes without events, such as an agent's start or a
    /// title, do not.
    pub fn is_activity(&self) -> bool {
        self.create.is_some() || self.events.iter().any(LogEvent::is_activity)
    }
}

/// An event as the log stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEvent {
    /// The first sequence number that the event covers.
    pub first_seq: u64,
    /// The last sequence number that the event covers; larger than `first_seq` for compacted deltas.
    pub seq: u64,
    /// The encoded event, as clients get it.
    pub frame: Frame,
}

impl LogEvent {
    /// The class of the event's kind; none for kinds of a later version.
    pub fn class(&self) -> Option<EventClass> {
        self.frame.kind().class()
    }

    fn is_activity(&self) -> bool {
        self.class().is_some_and(|class| class.is_activity)
    }

    /// Whether the event ends one or more streams, so that their deltas can be compacted.
    pub fn ends_stream(&self) -> bool {
        self.class().is_some_and(|class| class.ends_streams)
    }
}

/// A change of a chat's state, committed in the same transaction as the events that it belongs to.
#[derive(Clone, PartialEq)]
pub enum Change {
    /// A message was accepted. The journal remembers its id and hash as long as the chat exists.
    TurnAccepted {
        /// The turn that the message makes.
        turn_id: TurnId,
        /// SHA-256 of the message's content.
        hash: [u8; 32],
        /// The sequence number of its `user_message`.
        seq: u64,
        /// The message's content, stored until the turn ends.
        text: String,
        /// Whether the turn starts at once and is not queued.
        starts_turn: bool,
    },
    /// A turn started: its prompt may be sent to the agent from now on.
    TurnStarted {
        /// The started turn.
        turn_id: TurnId,
    },
    /// A client or the gateway cancels a turn, which has not ended yet.
    CancelRequested {
        /// The turn to cancel.
        turn_id: TurnId,
        /// The error for the turn's end, if the gateway cancels the turn. None if a client does.
        reason: Option<TurnError>,
    },
    /// A turn ended.
    TurnEnded {
        /// The ended turn.
        turn_id: TurnId,
        /// How the turn ended.
        outcome: Outcome,
    },
    /// A permission request or question is open.
    RequestOpened {
        /// The request's id in the chat.
        request_id: RequestId,
        /// The request's id at the agent's driver.
        agent_request_id: RequestId,
        /// The number of requests that the chat has had, which goes into the ids of requests.
        last_request: u64,
        /// Whether the request is a question.
        question: bool,
        /// The whole input of a permission request, as JSON text.
        input: Option<String>,
        /// The request's event.
        frame: Frame,
    },
    /// A permission request or question is closed.
    RequestClosed {
        /// The request's id in the chat.
        request_id: RequestId,
    },
    /// A command for the agent, committed before it is sent.
    Command {
        /// The command.
        command: AgentCommand,
    },
    /// The chat has an agent from now on, though its process may not have started yet.
    AgentStarted {
        /// The agent instance.
        instance: AgentInstanceId,
    },
    /// The chat's agent has exited or was asked to stop: no later gateway process may adopt it.
    AgentEnded {
        /// The agent instance.
        instance: AgentInstanceId,
    },
    /// How many of the agent's records are in the log.
    AgentPosition {
        /// The agent instance.
        instance: AgentInstanceId,
        /// The position after the last record in the log.
        position: u64,
        /// The decoder's state at this position, if it should be stored.
        checkpoint: Option<Bytes>,
    },
    /// The turn that the agent began by itself, from now on. None: it has ended. A person's turn may be open beside it.
    AgentTurn {
        /// The agent's open turn.
        turn: Option<OpenAgentTurn>,
    },
    /// The running background tasks of the agent from now on.
    Tasks {
        /// All running tasks, oldest first.
        tasks: Vec<Task>,
    },
    /// The streams and tool uses that are open from now on.
    OpenWork {
        /// All open streams and tool uses.
        work: OpenWork,
    },
    /// The agent's own id for the conversation.
    Session {
        /// The id. Opaque to all but the agent's driver.
        token: String,
    },
    /// The chat has another title.
    Title {
        /// The title from now on.
        title: String,
    },
    /// The chat has another goal.
    Goal {
        /// The goal from now on.
        goal_state: GoalState,
    },
    /// The chat and all its data are deleted. Only a hash of its key stays, so that its id is never used again. This is
    /// the last change of a chat.
    Deleted,
}

/// Prints the kind only: messages and agents' output do not belong in the gateway's own log.
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
            Self::AgentTurn { .. } => "AgentTurn",
            Self::Tasks { .. } => "Tasks",
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
    /// The question's id, for the answer.
    pub id: AskId,
    /// The question.
    pub query: Query,
}

/// The kinds of questions. [`Found`] has the answer to each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// The durable state of a chat.
    Chat {
        /// The chat to read.
        chat: ChatKey,
    },
    /// Whether a message with this `turn_id` was ever accepted, and which.
    Turn {
        /// The chat of the turn.
        chat: ChatKey,
        /// The turn's id.
        turn_id: TurnId,
    },
    /// The events after a cursor, oldest first.
    After {
        /// The chat to read.
        chat: ChatKey,
        /// The cursor, in the chat's current epoch.
        after: Cursor,
        /// The size of the page: it ends with the event that reaches this many bytes.
        bytes: usize,
    },
    /// A page of history: the newest events up to a place in the log, across epochs.
    Before {
        /// The chat to read.
        chat: ChatKey,
        /// Where the page begins, going backwards.
        before: PageStart,
        /// The maximum number of events, after adjacent deltas of one stream are merged.
        events: u32,
        /// The maximum size in bytes, except that a page has at least one event if there is one.
        bytes: usize,
    },
    /// A page of a principal's chats, newest activity first.
    Chats {
        /// The owner of the chats.
        principal: Principal,
        /// The `before` of the previous page; none for the first page.
        before: Option<String>,
        /// The maximum number of chats.
        limit: u32,
    },
}

impl Query {
    /// The chat that the question concerns; none for a list of chats.
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
    /// With the event of this sequence number in the current epoch.
    At(u64),
    /// Where the previous page ended: its [`HistoryPage::before`].
    Opaque(String),
}

/// An answer of the journal.
#[derive(Debug, Clone)]
pub enum JournalAnswer {
    /// The append is committed, as durable as was asked.
    Appended(AppendId),
    /// The append is not committed, or not certainly. The chat's version, in the answer to [`Query::Chat`], says
    /// which. Later appends that expect it to be committed are conflicts if it is not.
    Refused(AppendId),
    /// The append contradicts what the journal has of the chat. Nothing of it is committed.
    Conflict(AppendId, Conflict),
    /// The answer to a question.
    Found(AskId, Found),
    /// The question could not be answered at the moment.
    Failed(AskId),
    /// The data that the question concerns is damaged. The question fails until a person repairs the journal.
    Damaged(AskId),
}

/// The answers to the kinds of [`Query`].
#[derive(Debug, Clone)]
pub enum Found {
    /// Answers [`Query::Chat`]. `None`: there is no such chat.
    Chat(Option<Box<ChatRecord>>),
    /// Answers [`Query::Chat`]: the chat was deleted.
    Deleted,
    /// Answers [`Query::Turn`]. `None`: no message with this id was accepted.
    Turn(Option<TurnRecord>),
    /// Answers [`Query::After`]. `None`: the journal no longer has the events after the cursor.
    After(Option<Vec<LogEvent>>),
    /// Answers [`Query::Before`]. `None`: the page's start is not in the chat's log.
    Before(Option<HistoryPage>),
    /// Answers [`Query::Chats`]. `None`: `before` is not from an earlier page.
    Chats(Option<ChatsPage>),
}

/// A page of history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryPage {
    /// The encoded events, oldest first.
    pub events: Vec<Frame>,
    /// Where the next page begins; `None` at the chat's beginning.
    pub before: Option<String>,
}

/// A page of chats.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChatsPage {
    /// The chats, newest activity first.
    pub chats: Vec<ChatSummary>,
    /// Where the next page begins; `None` on the last.
    pub before: Option<String>,
}
