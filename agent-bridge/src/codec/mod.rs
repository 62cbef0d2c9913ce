//! Codecs without I/O: they decode an agent's records to [`AgentEvent`]s, and encode commands to bytes for its input.
//!
//! A codec is deterministic: it reads no clock, draws no random numbers, and derives ids from record positions. The
//! same
//! records in the same order always give the same events.

mod claude;
mod shared;
mod text;

use switchboard_core::agent::AgentEvent;

pub use claude::{CheckpointError, ClaudeCodec};
pub use text::TextCodec;

/// The results of decoding one or more records.
#[derive(Debug, Default)]
pub struct Decoded {
    /// The agent's events, in order.
    pub events: Vec<AgentEvent>,
    /// Lines, without their newline, that are to be sent to the agent in reply and need no person's decision. The
    /// caller
    /// must discard them when it decodes old records again.
    pub replies: Vec<Vec<u8>>,
    /// Whether the agent answered the initialize request, and so has started.
    pub ready: bool,
    /// Whether the agent reported that it does not know the session that it was to resume.
    pub unknown_session: bool,
    /// Whether a turn ended in these records. The codec's state is small then, so it is a good time for a checkpoint.
    pub turn_ended: bool,
}

impl Decoded {
    /// Adds [`AgentEvent::Alive`], unless there are events already.
    fn alive(&mut self) {
        if self.events.is_empty() {
            self.events.push(AgentEvent::Alive);
        }
    }
}
