//! The codec for Claude Code's stream-json: one JSON object per line, in both directions.
//!
//! Follows the behaviour of version 2.1.329, recorded in the fixtures. Only a `result` line ends a turn. Text that
//! begins with `/` and names one of the agent's commands (`/clear`, `/context`) is executed by the agent; the codec
//! passes it on unchanged.

mod blocks;
mod decode;
mod edits;
mod elicitation;
mod encode;
mod piece;
mod questions;
mod records;
mod requests;
mod result;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use self::{
    blocks::{OpenMessage, Streamed},
    edits::Edit,
    requests::Pending,
};

/// Version of the checkpoint's format. Checkpoints of other versions are refused.
const CHECKPOINT_VERSION: u32 = 1;

/// The codec of one conversation with Claude Code.
///
/// ```
/// use std::path::Path;
/// use switchboard_agent_bridge::codec::{ClaudeCodec, Decoded};
///
/// let mut codec = ClaudeCodec::new(Path::new("/workspace"), "1-");
/// let mut out = Decoded::default();
/// codec.decode(1, br#"{"type":"result","is_error":false,"result":"Hello."}"#, &mut out);
/// assert!(out.turn_ended && out.events.len() == 2, "the text that was not streamed, and the end");
/// ```
#[derive(Debug)]
pub struct ClaudeCodec {
    workspace: PathBuf,
    state: State,
    /// The position up to which an earlier gateway has published events, see [`Self::set_known`].
    known: u64,
}

/// The state that the codec carries from one record to the next.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct State {
    version: u32,
    /// First part of every id that this codec makes, so that ids of two agent instances differ.
    prefix: String,
    session: Option<String>,
    model: Option<String>,
    /// `total_cost_usd` of the last result; unknown at first if a session is resumed.
    total_usd: Option<f64>,
    message: Option<OpenMessage>,
    /// Texts of this turn that were streamed to their end and have not been repeated as a whole by an `assistant` line.
    unconfirmed: Vec<Streamed>,
    /// Running tool uses by their id.
    tools: BTreeMap<String, Tool>,
    /// Open requests by their request id, see [`Self::request_id`].
    pending: BTreeMap<String, Pending>,
    /// Text by the agent program rather than the model; sent only if the turn ends without other text.
    synthetic: Option<String>,
    /// Whether this turn had any text.
    spoke: bool,
    turn: Option<Prompted>,
    cancel: Cancel,
    /// Ids of tool uses whose end has been sent as an event.
    ended: BTreeSet<String>,
}

/// A running tool use.
#[derive(Debug, Serialize, Deserialize)]
struct Tool {
    name: String,
    edit: Option<Edit>,
}

/// The prompt that was sent last.
#[derive(Debug, Serialize, Deserialize)]
struct Prompted {
    uuid: String,
    /// Whether the agent reported that the prompt waits behind a turn that the agent began by itself.
    queued: bool,
}

/// Progress of a cancellation.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Cancel {
    #[default]
    None,
    /// The interrupt was sent, and the agent has not answered.
    Sent,
    /// The agent answered the interrupt before it began with the prompt, so the interrupt stopped nothing.
    Missed,
}

/// The error for a checkpoint that cannot be read or has another version.
#[derive(Debug)]
pub struct CheckpointError(String);

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unreadable codec checkpoint: {}", self.0)
    }
}

impl std::error::Error for CheckpointError {}

impl ClaudeCodec {
    /// Makes a codec for a new conversation. `workspace` is an absolute path; every id that the codec makes begins with
    /// `prefix`.
    pub fn new(workspace: &Path, prefix: &str) -> Self {
        let state = State {
            version: CHECKPOINT_VERSION,
            prefix: prefix.into(),
            total_usd: Some(0.0),
            ..State::default()
        };
        Self { workspace: workspace.into(), state, known: 0 }
    }

    /// Makes a codec for a conversation that resumes the agent's session `session`.
    pub fn resumed(workspace: &Path, prefix: &str, session: &str) -> Self {
        let mut codec = Self::new(workspace, prefix);
        codec.state.session = Some(session.into());
        codec.state.total_usd = None;
        codec
    }

    /// Makes a codec with the state of a [`Self::checkpoint`].
    ///
    /// # Errors
    /// If the checkpoint cannot be read or has another version.
    pub fn restore(workspace: &Path, checkpoint: &[u8]) -> Result<Self, CheckpointError> {
        let state: State =
            serde_json::from_slice(checkpoint).map_err(|error| CheckpointError(error.to_string()))?;
        if state.version != CHECKPOINT_VERSION {
            return Err(CheckpointError(format!("version {}", state.version)));
        }
        Ok(Self { workspace: workspace.into(), state, known: 0 })
    }

    /// Declares that an earlier gateway has published the events of records up to this position. Earlier versions of
    /// the gateway named requests by the agent's own ids, so answers to requests from these records may use those ids.
    pub(crate) fn set_known(&mut self, position: u64) {
        self.known = position;
    }

    /// Whether `lines` may end a turn. A fast guess for callers that do not decode the lines.
    pub(crate) fn may_end_turn(lines: &[u8]) -> bool {
        memchr::memmem::find(lines, br#""type":"result""#).is_some()
    }

    /// The state after the last decoded record, as JSON. Small between turns.
    pub fn checkpoint(&self) -> Bytes {
        serde_json::to_vec(&self.state).unwrap_or_default().into()
    }
}
