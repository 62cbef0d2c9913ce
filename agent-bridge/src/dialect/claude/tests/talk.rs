//! A conversation of a test with the codec.

use switchboard_core::ids::TurnId;

use super::{codec, render::render};
use crate::dialect::{Codec as _, Decoded, Delivered, claude::ClaudeCodec};

/// A conversation: the codec, and all that it gave.
pub(super) struct Talk {
    pub(super) codec: ClaudeCodec,
    /// Number of lines that the agent has said.
    pub(super) position: usize,
    /// The events since the last call of [`Self::gave`], without `Alive`.
    pub(super) shown: Vec<String>,
}

impl Talk {
    pub(super) fn new() -> Self {
        Self { codec: codec(), position: 0, shown: Vec::new() }
    }

    /// A conversation whose process resumes a session.
    pub(super) fn resumed() -> Self {
        Self { codec: ClaudeCodec::resumed("/workspace".as_ref(), "1-", "session"), ..Self::new() }
    }

    /// Delivers a prompt. Returns its id at the agent.
    pub(super) fn prompt(&mut self, turn_id: &str) -> String {
        self.codec.delivered(Delivered::Prompt(&TurnId::parse(turn_id).unwrap()));
        self.codec.state.turn.as_ref().unwrap().uuid.clone()
    }

    pub(super) fn says(&mut self, line: impl ToString) {
        self.position += 1;
        let mut out = Decoded::default();
        self.codec.decode(self.position as u64, line.to_string().as_bytes(), &mut out);
        let shown = render(self.position, &out);
        let shown = shown.lines().map(|line| line[4..].to_owned()).filter(|line| line != ".");
        self.shown.extend(shown);
    }

    /// Checks what came since the last call.
    #[track_caller]
    pub(super) fn gave(&mut self, expected: &[&str]) {
        assert_eq!(std::mem::take(&mut self.shown), expected);
    }
}
