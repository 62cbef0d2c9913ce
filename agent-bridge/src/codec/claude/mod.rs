//! Claude Code's stream-json: one JSON object a line, both ways.
//!
//! Read off version 2.1.329; see the fixtures. A turn ends only at a `result`. Text that begins with `/`
//! is executed by the agent where it is one of its commands (`/clear`, `/context`): that is passed on as it is.

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

/// Version of the checkpoint's shape. Another one is refused.
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
    /// See [`Self::set_known`].
    known: u64,
}

/// What outlives a record.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct State {
    version: u32,
    /// Precedes the ids made here, so that those of two lives differ.
    prefix: String,
    session: Option<String>,
    model: Option<String>,
    /// `total_cost_usd` of the last result; unknown at first where a session is resumed.
    total_usd: Option<f64>,
    message: Option<OpenMessage>,
    /// Texts of this turn that were streamed to their end and that no `assistant` line has repeated whole yet.
    unconfirmed: Vec<Streamed>,
    /// Uses of tools that have begun and not ended, by their id.
    tools: BTreeMap<String, Tool>,
    /// Open requests by their identity, see [`Self::request_id`].
    pending: BTreeMap<String, Pending>,
    /// Text of the agent itself rather than of the model; said only if the turn ends without other text.
    synthetic: Option<String>,
    /// Whether this turn gave any text.
    spoke: bool,
    turn: Option<Prompted>,
    cancel: Cancel,
    /// Tool uses whose end was told already.
    ended: BTreeSet<String>,
}

/// A use of a tool that has begun.
#[derive(Debug, Serialize, Deserialize)]
struct Tool {
    name: String,
    edit: Option<Edit>,
}

/// The prompt that was given last.
#[derive(Debug, Serialize, Deserialize)]
struct Prompted {
    uuid: String,
    /// The agent says that it waits behind a turn of the agent's own.
    queued: bool,
}

/// How far a cancel has come.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Cancel {
    #[default]
    None,
    /// The interrupt is on its way.
    Sent,
    /// It was answered, but the prompt had not begun, so it stopped nothing.
    Missed,
}

/// A checkpoint that cannot be read.
#[derive(Debug)]
pub struct CheckpointError(String);

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unreadable codec checkpoint: {}", self.0)
    }
}

impl std::error::Error for CheckpointError {}

impl ClaudeCodec {
    /// A codec for a new conversation in `workspace`, an absolute path. `prefix` precedes every id it makes.
    pub fn new(workspace: &Path, prefix: &str) -> Self {
        let state = State {
            version: CHECKPOINT_VERSION,
            prefix: prefix.into(),
            total_usd: Some(0.0),
            ..State::default()
        };
        Self { workspace: workspace.into(), state, known: 0 }
    }

    /// A codec for a conversation that is taken up again under `session`.
    pub fn resumed(workspace: &Path, prefix: &str, session: &str) -> Self {
        let mut codec = Self::new(workspace, prefix);
        codec.state.session = Some(session.into());
        codec.state.total_usd = None;
        codec
    }

    /// The codec as [`Self::checkpoint`] kept it.
    pub fn restore(workspace: &Path, checkpoint: &[u8]) -> Result<Self, CheckpointError> {
        let state: State =
            serde_json::from_slice(checkpoint).map_err(|error| CheckpointError(error.to_string()))?;
        if state.version != CHECKPOINT_VERSION {
            return Err(CheckpointError(format!("version {}", state.version)));
        }
        Ok(Self { workspace: workspace.into(), state, known: 0 })
    }

    /// An earlier gateway has published the events of records up to this position. One of an earlier version named
    /// requests by the agent's own ids, so that answers to those requests may come under them.
    pub(crate) fn set_known(&mut self, position: u64) {
        self.known = position;
    }

    /// Whether lines may end a turn, at a glance: for whoever does not decode them.
    pub(crate) fn may_end_turn(lines: &[u8]) -> bool {
        memchr::memmem::find(lines, br#""type":"result""#).is_some()
    }

    /// The state after the last record. Small between turns.
    pub fn checkpoint(&self) -> Bytes {
        serde_json::to_vec(&self.state).unwrap_or_default().into()
    }
}
