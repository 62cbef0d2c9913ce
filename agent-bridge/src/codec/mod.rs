//! Sans-IO codecs: positioned records of an agent to [`AgentEvent`]s, commands to bytes for its input.
//!
//! A codec is a pure function of what it is given, in order. It reads no clock and draws no random
//! number; the ids that it makes derive from positions. The same records give the same events again.

mod claude;
mod shared;
mod text;

use switchboard_core::agent::AgentEvent;

pub use claude::{CheckpointError, ClaudeCodec};
pub use text::TextCodec;

/// What records decoded to.
#[derive(Debug, Default)]
pub struct Decoded {
    /// What the agent said, in order.
    pub events: Vec<AgentEvent>,
    /// Lines that are due to the agent without a person being asked, without their newline. To be dropped
    /// when old records are decoded again.
    pub replies: Vec<Vec<u8>>,
    /// The agent answered its first request: it has started.
    pub ready: bool,
    /// The agent does not know the session that it was to take up again.
    pub unknown_session: bool,
    /// A turn ended: a good place for a checkpoint.
    pub turn_ended: bool,
}

impl Decoded {
    /// Notes a sign of life, where nothing better has been noted yet.
    fn alive(&mut self) {
        if self.events.is_empty() {
            self.events.push(AgentEvent::Alive);
        }
    }
}
