//! The hub's interface to the shell around it: [`Input`] goes in, [`Output`] comes out.

use alloc::{string::String, sync::Arc, vec::Vec};

use crate::{
    agent::{AgentCommand, AgentExit, AgentInstanceId, AgentRecords},
    ids::{ChatKey, ConnId, Principal, TurnId},
    journal::{Append, Ask, Grant, JournalAnswer, RecordedAgent, Term},
    wire::{ClientEnvelope, CloseCode, DecodeError, Frame},
};

/// Who opened a connection, as its transport verified it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The account that the credential proved. Never taken from what the client says of itself.
    pub principal: Principal,
    /// The name that the client gives itself. The hub trims and shortens it; it grants no rights.
    pub client_id: Option<String>,
}

/// An event outside the hub: from a transport, an agent, the journal, the clock or the process.
#[derive(Debug, Clone)]
pub enum Input {
    /// A connection is authenticated and ready for frames.
    Opened {
        /// The connection's id, chosen by the shell and never used before.
        conn: ConnId,
        /// The account and client behind the connection, as its transport verified them.
        peer: Peer,
    },
    /// A connection sent a frame that decodes.
    Envelope {
        /// The connection that sent the frame.
        conn: ConnId,
        /// The decoded frame.
        envelope: ClientEnvelope,
    },
    /// A connection sent a frame that does not decode.
    Malformed {
        /// The connection that sent the frame.
        conn: ConnId,
        /// Why the frame does not decode.
        error: DecodeError,
    },
    /// A connection's outbox refused an event of a chat, and refuses all further ones until
    /// [`Input::OutboxDrained`]. Comes after the outputs of the input before, and before any other input.
    OutboxFull {
        /// The connection whose outbox is full.
        conn: ConnId,
        /// The chat of the refused event, as [`Output::Offer`] named it.
        chat: ChatRef,
        /// The first sequence number that the refused event covers.
        first_seq: u64,
    },
    /// A connection's outbox is at most half full. Answers [`Output::WatchDrain`].
    OutboxDrained {
        /// The connection of the outbox.
        conn: ConnId,
    },
    /// The peer took no byte for [`Limits::reader_stall_ms`](crate::Limits::reader_stall_ms) while
    /// its outbox had bytes to send.
    ReaderStalled {
        /// The connection of that peer.
        conn: ConnId,
    },
    /// A connection is closed. No input names it any more.
    Gone {
        /// The closed connection.
        conn: ConnId,
    },
    /// An agent wrote records to its output.
    AgentRecords {
        /// The agent's chat.
        chat: ChatKey,
        /// The agent instance that wrote the records.
        instance: AgentInstanceId,
        /// The decoded records.
        records: AgentRecords,
    },
    /// An agent wrote pieces of an answer: records that have no events but [`AgentEvent::Text`] and
    /// [`AgentEvent::Reasoning`], also of subagents. Each has its own sequence numbers, also if several came together,
    /// and readers may get it before the journal has it.
    ///
    /// Only for a shell that reads these records again after a kill, from the position that the journal has, and gives
    /// them to the hub in the same order and before any other input of the chat. A stop of the gateway needs nothing of
    /// the kind: it appends them first.
    ///
    /// [`AgentEvent::Text`]: crate::agent::AgentEvent::Text
    /// [`AgentEvent::Reasoning`]: crate::agent::AgentEvent::Reasoning
    AgentPieces {
        /// The agent's chat.
        chat: ChatKey,
        /// The agent instance that wrote the records.
        instance: AgentInstanceId,
        /// The decoded records.
        records: AgentRecords,
    },
    /// All that an agent had said when it was taken over ([`Output::AdoptAgent`]) was given to the hub. Comes once for an
    /// instance whose pieces came with [`AgentPieces`](Self::AgentPieces): its chat waits for it.
    CaughtUp {
        /// The agent's chat.
        chat: ChatKey,
        /// The agent instance that was taken over.
        instance: AgentInstanceId,
        /// Whether all of it could be read. If not, the chat goes on in a new epoch.
        complete: bool,
    },
    /// An agent instance ended. No input names it any more.
    AgentExited {
        /// The agent's chat.
        chat: ChatKey,
        /// The agent instance that ended.
        instance: AgentInstanceId,
        /// How the agent instance ended.
        exit: AgentExit,
    },
    /// The journal has open turns or an agent in this chat, and no gateway owns the chat: an earlier gateway process has
    /// ended, or another gateway's time has. The hub ends or resumes the turns, even if no client attaches to the chat.
    /// May come at any time.
    Recover {
        /// The chat that has the open turns or the agent.
        chat: ChatKey,
    },
    /// The journal has granted a chat. Answers [`Output::Claim`], and may come again with the same term and a later
    /// end, which renews the grant.
    Owned {
        /// The chat.
        chat: ChatKey,
        /// The term, and how long the grant lasts.
        grant: Grant,
    },
    /// The journal has granted the chat to another gateway, or will not grant it to this one: the other answer to
    /// [`Output::Claim`].
    Lost {
        /// The chat.
        chat: ChatKey,
    },
    /// The journal answers an [`Output::Append`] or an [`Output::Ask`].
    Journal(JournalAnswer),
    /// The gateway cannot store messages at the moment, or can again. All present connections, and those opened while
    /// it lasts, get a notice.
    Degraded {
        /// Why messages cannot be stored, as a sentence that begins with a small letter. `None`: they can be again.
        why: Option<String>,
    },
    /// The [`Deadline`] of [`Hub::next_deadline`](super::Hub::next_deadline) may have passed.
    Tick,
    /// End all turns and agents, refuse new messages and close all connections.
    Shutdown,
    /// Like [`Input::Shutdown`], but leave turns and agents as they are: the agents outlive this gateway process, and
    /// the next process adopts them where the log ends.
    Leave,
}

/// The hub's handle for a chat that it has in memory. The hub never reuses a handle after it unloads the chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChatRef(pub u64);

/// A side effect for the shell to carry out. The shell keeps the order in which the hub gives them.
#[derive(Debug, Clone)]
pub enum Output {
    /// Put a frame that is no event of a chat's log into a connection's outbox. The outbox must accept such a frame,
    /// however full it is.
    Deliver {
        /// The connection to deliver to.
        conn: ConnId,
        /// The encoded frame.
        frame: Frame,
    },
    /// Offer events of a chat's log to connections, in order. For an outbox without room the shell reports
    /// [`Input::OutboxFull`] with the first refused event, and offers that outbox none of the later events. An outbox
    /// that is at most half full accepts any one event: otherwise an event larger than half an outbox would be
    /// refused and offered again without end.
    Offer {
        /// The chat of the events.
        chat: ChatRef,
        /// The events, in the order of the log.
        events: Vec<Offered>,
        /// The connections to offer the events to.
        to: Recipients,
    },
    /// Answer [`Input::OutboxDrained`] as soon as a connection's outbox, delivered frames included, is at most half
    /// full; at once if it already is.
    WatchDrain {
        /// The connection whose outbox to watch.
        conn: ConnId,
    },
    /// Finish the frame that is partly written, or write the whole outbox if [`Close::drain`] is set, then send the
    /// reason and close the connection. Answer [`Input::Gone`].
    HangUp {
        /// The connection to close.
        conn: ConnId,
        /// The close code and the reason.
        close: Close,
    },
    /// Claim this chat from the journal: the hub asks for nothing of the chat and appends nothing to it before.
    /// Answer [`Input::Owned`] or [`Input::Lost`]. A shell with a journal of its own grants every chat for ever.
    Claim {
        /// The chat to claim.
        chat: ChatKey,
    },
    /// The hub does not need the chat any more: another gateway may have it. There is no answer.
    Release {
        /// The chat to release.
        chat: ChatKey,
        /// The term that ends.
        term: Term,
    },
    /// Append this transaction to the journal. The answer is [`JournalAnswer::Appended`] or [`JournalAnswer::Refused`].
    Append(Append),
    /// Ask the journal this question. The answer is one of the other kinds of [`JournalAnswer`].
    Ask(Ask),
    /// Start an agent for the chat. Answer [`Input::AgentExited`] when it ends, also if it could not be started.
    StartAgent {
        /// The agent's chat.
        chat: ChatKey,
        /// The id of the new agent instance.
        instance: AgentInstanceId,
        /// The agent's own id for the conversation, from an earlier instance, with which to resume the conversation.
        session: Option<String>,
    },
    /// Connect to the agent that an earlier gateway process started for the chat. Answer [`Input::AgentExited`] when
    /// the agent ends; at once if it has ended already.
    AdoptAgent {
        /// The agent's chat.
        chat: ChatKey,
        /// The agent instance, and how many of its records the log has.
        agent: RecordedAgent,
        /// The agent's own id for the conversation.
        session: Option<String>,
        /// The turn that runs, or comes next. Records of any other turn belong to a turn that the log has lost.
        turn: Option<TurnId>,
    },
    /// Send a command to an agent.
    Command {
        /// The agent instance to send to.
        instance: AgentInstanceId,
        /// The command, which the journal already has.
        command: AgentCommand,
    },
    /// The chat was deleted: remove what its agents have left outside of the journal.
    ForgetChat {
        /// The deleted chat.
        chat: ChatKey,
    },
    /// Stop reading an agent's output, or read it again (backpressure).
    PauseAgent {
        /// The agent instance to pause or resume.
        instance: AgentInstanceId,
        /// `true` to pause, `false` to resume.
        paused: bool,
    },
    /// Ask an agent to exit, or kill it.
    StopAgent {
        /// The agent instance to stop.
        instance: AgentInstanceId,
        /// `true` to kill the agent, `false` to ask it to exit.
        kill: bool,
    },
    /// Forget this agent and leave it running, as when the gateway process ends: the chat's next owner adopts it. No
    /// input names the agent instance any more, unless the chat comes back and the instance is adopted again.
    LeaveAgent {
        /// The agent instance to leave.
        instance: AgentInstanceId,
    },
    /// The last output. After [`Input::Shutdown`]: the journal has the end of every turn, and all agents and
    /// connections are gone. After [`Input::Leave`]: the journal has answered every append, and all connections are
    /// gone. Both come earlier if the time for a shutdown is over.
    Finished,
}

/// An event of a chat's log that is offered to connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// The first sequence number that the event covers.
    pub first_seq: u64,
    /// The encoded event.
    pub frame: Frame,
}

/// The connections that events are offered to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipients {
    /// A single connection.
    One(ConnId),
    /// Several connections, in a list that the outputs of several events share.
    Many(Arc<Vec<ConnId>>),
}

impl Recipients {
    /// Whether both are certainly the same connections. Lists are compared by pointer only, which is cheap.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::One(one), Self::One(two)) => one == two,
            (Self::Many(some), Self::Many(others)) => Arc::ptr_eq(some, others),
            (Self::One(_), Self::Many(_)) | (Self::Many(_), Self::One(_)) => false,
        }
    }
}

/// Why and how a connection is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// Why the connection is closed.
    pub code: CloseCode,
    /// The `error` frame for transports that have no close codes.
    pub frame: Frame,
    /// The reason for people, short enough for a WebSocket close frame.
    pub reason: String,
    /// Whether the frames in the outbox are sent first, as far as the peer reads them.
    pub drain: bool,
}

/// When to call [`Hub::handle`](super::Hub::handle) with [`Input::Tick`] at the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    /// The time, on the clock of [`Moment::ticks_ms`](crate::Moment::ticks_ms).
    pub at_ms: u64,
    /// For what the deadline was set. By then this may have been settled without it.
    pub why: DeadlineReason,
}

/// For what a [`Deadline`] is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeadlineReason {
    /// The journal is asked for a chat again, after it refused an append.
    Resync,
    /// The journal is asked for a chat again, after it could not read the chat.
    Reload,
    /// Pieces that were shown are appended.
    Flush,
    /// What an agent has said cannot be waited for any longer.
    CatchingUp,
    /// A cancelled turn must have ended.
    CancelGrace,
    /// The agent of a turn is silent: this is reported, or the turn is cancelled.
    SilentTurn,
    /// An agent that was asked to stop is killed.
    StoppingAgent,
    /// An agent without a turn is stopped.
    IdleAgent,
    /// An agent that has background tasks and no turn is stopped.
    BackgroundWork,
    /// A paused agent is resumed, if its readers have caught up or are gone.
    PausedAgent,
    /// A chat is deleted, even if its agent has not exited.
    Deletion,
    /// The chat is given up, unless the journal renews its grant before.
    Grant,
    /// All connections are closed, whatever is unfinished.
    Shutdown,
}
