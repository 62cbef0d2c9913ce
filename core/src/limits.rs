//! Every limit of the core, with its unit.

/// The limits that the core enforces. `docs/transports.md`, "Limits", says what happens to a client at each limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Maximum size of an inbound frame, in bytes.
    pub frame_bytes: usize,
    /// Maximum size of a message's `content`, in bytes.
    pub text_bytes: usize,
    /// Maximum nesting depth of the JSON of an inbound frame, in levels.
    pub json_depth: usize,
    /// Maximum number of chats that one connection may be attached to.
    pub chats_per_connection: usize,
    /// Maximum number of connections of one principal; `None`: only `connections` applies.
    pub connections_per_principal: Option<usize>,
    /// Maximum number of connections of the process.
    pub connections: usize,
    /// Messages, goal states and new titles per minute and principal; `None`: no limit.
    pub messages_per_minute: Option<u32>,
    /// New chats per minute and principal; `None`: no limit.
    pub new_chats_per_minute: Option<u32>,
    /// Inbound frames per second on one connection, on average.
    pub frames_per_second: u32,
    /// Inbound frames on one connection in one burst.
    pub frames_burst: u32,
    /// Frames refused in a row for their rate before the connection is closed with code 1008.
    pub frames_refused: u32,
    /// Size of the ring of a chat's recent events in memory, from which readers resume, in bytes.
    pub ring_bytes: usize,
    /// Size of a connection's outbox, in bytes. An outbox that is at most half full accepts any one frame.
    pub outbox_bytes: usize,
    /// Maximum number of queued turns in one chat.
    pub queued_turns: usize,
    /// Maximum number of open permission requests and questions in one chat. An agent that exceeds it fails its turn.
    pub open_requests: usize,
    /// Maximum size of all open permission requests and questions of one chat together, in bytes: events, whole inputs
    /// and questions. The agent's request beyond it is denied.
    pub open_request_bytes: usize,
    /// Maximum size of a permission request's description in its event, in bytes of JSON. A longer one is truncated and
    /// marked.
    pub request_description_bytes: usize,
    /// Maximum number of open streams and tool uses of an agent. An agent that exceeds it fails its turn.
    pub open_work: usize,
    /// Maximum number of agents at once: the size of the agent pool.
    pub agents: usize,
    /// An agent without a turn is stopped after this long, in milliseconds.
    pub agent_idle_ms: u64,
    /// An agent with background tasks is stopped this long after a person last did something in its chat (the last message's
    /// turn ended, a request was answered, a turn was cancelled), in milliseconds. A turn of the agent's own is not cut off,
    /// and does not extend the time. A restart of the gateway begins the time again.
    pub background_ms: u64,
    /// A turn without progress is reported stalled after this long, in milliseconds.
    pub stalled_after_ms: u64,
    /// A turn without progress is cancelled after this long, in milliseconds.
    pub silent_turn_ms: u64,
    /// A turn without progress is cancelled after this long while a tool runs, in milliseconds.
    pub silent_tool_ms: u64,
    /// An agent has this long to end a cancelled turn before the agent is killed, in milliseconds.
    pub cancel_grace_ms: u64,
    /// A connection whose peer reads no byte for this long, while its outbox has bytes to send, is closed with code
    /// 4408, in milliseconds.
    pub reader_stall_ms: u64,
    /// A lagging reader counts as active if it was fed this recently, in milliseconds. Only active readers can pause
    /// the agent.
    pub reader_active_ms: u64,
    /// Adjacent deltas that arrive together are merged into events of at most this many bytes of text; 0: never.
    pub merge_bytes: usize,
    /// Maximum size of one tool result, tool input or message of the agent in an event, in bytes of JSON. A longer text
    /// is truncated and marked `truncated`, or split into several events.
    pub event_text_bytes: usize,
    /// The agent of a chat is paused while more than this many bytes of events wait for the journal's answer.
    pub pending_bytes: usize,
    /// Maximum number of events in one page of history.
    pub history_events: u32,
    /// Maximum size of one page of history or one part of a snapshot, in bytes.
    pub page_bytes: usize,
    /// Maximum number of chats in one page of `list_chats`.
    pub list_chats: u32,
    /// Maximum number of idle chats in memory: chats without readers, turns or an agent.
    pub idle_chats: usize,
    /// After a refused append or a failed read, the journal is asked again after this long, in milliseconds.
    pub journal_retry_ms: u64,
    /// A shutdown closes all connections after this long, in milliseconds, even if turns or agents have not ended.
    pub shutdown_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes: 1024 * 1024,
            // The event of such a message, with its other fields, has at most 256 KiB.
            text_bytes: 252 * 1024,
            json_depth: 32,
            chats_per_connection: 64,
            connections_per_principal: Some(20),
            connections: 10_240,
            messages_per_minute: Some(600),
            new_chats_per_minute: Some(120),
            frames_per_second: 20,
            frames_burst: 60,
            frames_refused: 600,
            ring_bytes: 1024 * 1024,
            outbox_bytes: 256 * 1024,
            queued_turns: 16,
            open_requests: 64,
            open_request_bytes: 4 * 1024 * 1024,
            request_description_bytes: 4 * 1024,
            open_work: 1024,
            agents: 32,
            agent_idle_ms: 10 * 60 * 1000,
            stalled_after_ms: 60 * 1000,
            silent_turn_ms: 10 * 60 * 1000,
            silent_tool_ms: 60 * 60 * 1000,
            background_ms: 24 * 60 * 60 * 1000,
            cancel_grace_ms: 10 * 1000,
            reader_stall_ms: 10 * 1000,
            reader_active_ms: 250,
            merge_bytes: 16 * 1024,
            event_text_bytes: 64 * 1024,
            pending_bytes: 1024 * 1024,
            history_events: 200,
            page_bytes: 192 * 1024,
            list_chats: 50,
            idle_chats: 1024,
            journal_retry_ms: 500,
            shutdown_ms: 30 * 1000,
        }
    }
}
