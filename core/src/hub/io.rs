//! What goes into the hub and what comes out.

use alloc::{string::String, sync::Arc, vec::Vec};

use crate::{
    agent::{AgentCommand, AgentExit, AgentInstanceId, AgentRecords},
    ids::{ChatKey, ConnId, Principal, TurnId},
    journal::{Append, Ask, JournalAnswer, RecordedAgent},
    wire::{ClientEnvelope, DecodeError, Frame},
};

/// Who opened a connection, as its transport verified it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// From the credential, never from the client's word.
    pub principal: Principal,
    /// What the client calls itself; trimmed and cut here, never an authority.
    pub client_id: Option<String>,
}

/// Something that happened outside.
#[derive(Debug, Clone)]
pub enum Input {
    /// A connection is authenticated and ready for frames. Its id is new.
    Opened {
        /// Its id.
        conn: ConnId,
        /// Whose it is.
        peer: Peer,
    },
    /// A connection sent a frame that decodes.
    Envelope {
        /// Which one.
        conn: ConnId,
        /// The frame.
        envelope: ClientEnvelope,
    },
    /// A connection sent a frame that does not decode.
    Malformed {
        /// Which one.
        conn: ConnId,
        /// Why.
        error: DecodeError,
    },
    /// A connection's outbox refused an event of a chat, and refuses all further ones until
    /// [`Input::OutboxDrained`]. To be told before any other input follows.
    OutboxFull {
        /// Which one.
        conn: ConnId,
        /// The chat.
        chat: ChatRef,
        /// The first number that the refused event covers.
        first_seq: u64,
    },
    /// The outbox is at most half full. Answers [`Output::WatchDrain`].
    OutboxDrained {
        /// Which one.
        conn: ConnId,
    },
    /// The peer took no byte for [`Limits::reader_stall_ms`](crate::Limits::reader_stall_ms) while
    /// something waited for it.
    ReaderStalled {
        /// Which one.
        conn: ConnId,
    },
    /// A connection is gone. Nothing more comes from it.
    Gone {
        /// Which one.
        conn: ConnId,
    },
    /// An agent said something.
    AgentRecords {
        /// In which chat.
        chat: ChatKey,
        /// Which life of it.
        instance: AgentInstanceId,
        /// What it said.
        records: AgentRecords,
    },
    /// An agent's life ended. Nothing more comes from it.
    AgentExited {
        /// In which chat.
        chat: ChatKey,
        /// Which life of it.
        instance: AgentInstanceId,
        /// How.
        exit: AgentExit,
    },
    /// The journal has open turns in this chat, from an earlier life of the gateway: end them or go on with
    /// them, also if nobody asks for the chat. To be told at the start.
    Recover {
        /// Which chat.
        chat: ChatKey,
    },
    /// The journal answers.
    Journal(JournalAnswer),
    /// What is sent cannot be kept at the moment, and why, in a sentence that begins with a small letter; nothing: it can
    /// again. Everybody who is connected, or connects meanwhile, is sent a notice.
    Degraded {
        /// Why.
        why: Option<String>,
    },
    /// A deadline may have passed.
    Tick,
    /// End running turns and agents, refuse new messages, hang up.
    Shutdown,
    /// The same, but leave turns and agents as they are: the agents outlive this gateway, and the next one takes
    /// them up where the log ends.
    Leave,
}

/// Names a loaded chat between hub and shell; never used again after the chat is unloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChatRef(pub u64);

/// Something to be done outside, in this order.
#[derive(Debug, Clone)]
pub enum Output {
    /// Put a frame that is no event of a chat's log into a connection's outbox, which takes it.
    Deliver {
        /// Which one.
        conn: ConnId,
        /// The frame.
        frame: Frame,
    },
    /// Offer events of a chat's log to connections, in order; an outbox without room answers
    /// [`Input::OutboxFull`] with the first that it refused, and takes none of those behind it. One that is at
    /// most half full takes any one event: otherwise an event larger than half an outbox would be refused and
    /// offered again without end.
    Offer {
        /// The chat.
        chat: ChatRef,
        /// The events.
        events: Vec<Offered>,
        /// To whom.
        to: Recipients,
    },
    /// Answer [`Input::OutboxDrained`] as soon as the outbox, delivered frames and all, is at most half full;
    /// at once if it is.
    WatchDrain {
        /// Which one.
        conn: ConnId,
    },
    /// Send what the frame in flight needs to be whole, or all that waits if the close says so, then this
    /// reason, and close. Answer [`Input::Gone`].
    HangUp {
        /// Which one.
        conn: ConnId,
        /// Why.
        close: Close,
    },
    /// Keep this.
    Append(Append),
    /// Answer this.
    Ask(Ask),
    /// Give the chat an agent. Answer [`Input::AgentExited`] when its life ends, however.
    StartAgent {
        /// The chat.
        chat: ChatKey,
        /// Names this life.
        instance: AgentInstanceId,
        /// The agent's name for the conversation, from an earlier life.
        session: Option<String>,
    },
    /// Take up an agent that the chat had under an earlier gateway, as [`Output::StartAgent`] does a new one.
    /// If it does not live any more, answer with its exit.
    AdoptAgent {
        /// The chat.
        chat: ChatKey,
        /// How far the log has what it said.
        agent: RecordedAgent,
        /// The agent's name for the conversation.
        session: Option<String>,
        /// The turn that runs, or comes next. What the agent says in any other is of a turn that the log has lost.
        turn: Option<TurnId>,
    },
    /// Tell an agent something.
    Command {
        /// Which life.
        instance: AgentInstanceId,
        /// What.
        command: AgentCommand,
    },
    /// The chat was deleted: remove what its agents have left outside of the journal.
    ForgetChat {
        /// Which one.
        chat: ChatKey,
    },
    /// Read no further from an agent, or go on.
    PauseAgent {
        /// Which life.
        instance: AgentInstanceId,
        /// Whether to hold it.
        paused: bool,
    },
    /// End an agent in good order, or by force.
    StopAgent {
        /// Which life.
        instance: AgentInstanceId,
        /// Whether by force.
        kill: bool,
    },
    /// After [`Input::Shutdown`]: all turns are ended and kept, all agents gone, all connections hung up. After
    /// [`Input::Leave`]: what was appended is kept, all connections hung up.
    Finished,
}

/// An event of a chat's log that is offered to connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// The first number that it covers.
    pub first_seq: u64,
    /// Its bytes.
    pub frame: Frame,
}

/// The connections that events are offered to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipients {
    /// One.
    One(ConnId),
    /// Several; the list is shared between events.
    Many(Arc<Vec<ConnId>>),
}

impl Recipients {
    /// Whether these are the same connections, as far as that costs nothing to tell.
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
    /// The WebSocket close code.
    pub code: u16,
    /// The `error` frame with the same code, for transports that have no close codes.
    pub frame: Frame,
    /// The same for people, short enough for a WebSocket close frame.
    pub reason: String,
    /// Whether what waits in the outbox is sent first, as far as the peer takes it.
    pub drain: bool,
}

/// When to call [`Hub::handle`](super::Hub::handle) with [`Input::Tick`] at the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    /// On the clock of [`Moment::ticks_ms`](crate::Moment::ticks_ms).
    pub ticks_ms: u64,
}
