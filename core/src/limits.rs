//! Every limit of the core, with its unit.

/// The limits that the core keeps. `docs/protocol.md`, "Limits", says what a client meets at each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Longest inbound frame, in bytes.
    pub frame_bytes: usize,
    /// Longest `content` of a message, in bytes.
    pub text_bytes: usize,
    /// Deepest nesting of an inbound frame.
    pub json_depth: usize,
    /// Chats that one connection may be attached to.
    pub chats_per_connection: usize,
    /// Connections of one principal; `None`: as many as the process takes.
    pub connections_per_principal: Option<usize>,
    /// Connections of the process.
    pub connections: usize,
    /// Messages, goal states and new titles per minute and principal; `None`: not limited.
    pub messages_per_minute: Option<u32>,
    /// New chats per minute and principal; `None`: not limited.
    pub new_chats_per_minute: Option<u32>,
    /// Frames per second on one connection, in the long run.
    pub frames_per_second: u32,
    /// Frames on one connection at once.
    pub frames_burst: u32,
    /// Frames refused in a row for their rate before the connection is closed (1008).
    pub frames_refused: u32,
    /// Recent events of a chat kept in memory for resuming, in bytes.
    pub ring_bytes: usize,
    /// Room in a connection's outbox, in bytes. One that is at most half full takes any one frame.
    pub outbox_bytes: usize,
    /// Turns that wait in one chat.
    pub queued_turns: usize,
    /// Open permission requests and questions in one chat; beyond it the turn fails.
    pub open_requests: usize,
    /// What the open permission requests and questions of one chat take together, in bytes: events, whole inputs and
    /// questions. A request beyond it is refused to the agent.
    pub open_request_bytes: usize,
    /// Longest description of a permission request in its event, in bytes of JSON. Longer ones are cut and marked.
    pub request_description_bytes: usize,
    /// Streams and uses of tools that an agent has open at once; beyond it the turn fails.
    pub open_work: usize,
    /// Agents alive at once.
    pub agents: usize,
    /// An agent without a turn is stopped after this long, in milliseconds.
    pub agent_idle_ms: u64,
    /// A turn without progress is reported stalled after this long, in milliseconds.
    pub stalled_after_ms: u64,
    /// A turn without progress is cancelled after this long, in milliseconds.
    pub silent_turn_ms: u64,
    /// The same while a tool runs, in milliseconds.
    pub silent_tool_ms: u64,
    /// An agent that was told to cancel has this long to end its turn before it is ended, in milliseconds.
    pub cancel_grace_ms: u64,
    /// A reader that takes no byte for this long while something waits for it is closed (4408), in
    /// milliseconds.
    pub reader_stall_ms: u64,
    /// A reader counts as taking part when it took a byte this recently, in milliseconds.
    pub reader_active_ms: u64,
    /// Adjacent deltas that arrive together become one event up to this many bytes of text; 0: never.
    pub merge_bytes: usize,
    /// Longest text of one tool result, tool input or message of the agent in an event, in bytes of JSON.
    /// Longer ones are cut and marked `truncated`, or split.
    pub event_text_bytes: usize,
    /// Events written ahead of the journal's answers in one chat before its agent is held, in bytes.
    pub pending_bytes: usize,
    /// Events of one page of history.
    pub history_events: u32,
    /// Bytes of one page of history or one part of a snapshot or replay.
    pub page_bytes: usize,
    /// Chats of one page of `list_chats`.
    pub list_chats: u32,
    /// Chats kept in memory that nobody watches and that have nothing to do.
    pub idle_chats: usize,
    /// A refused append is tried again after this long, in milliseconds.
    pub journal_retry_ms: u64,
    /// A shutdown hangs up after this long, in milliseconds, whatever the journal and the agents do.
    pub shutdown_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes: 1024 * 1024,
            // With the names and numbers around it, its event has at most 256 KiB.
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
