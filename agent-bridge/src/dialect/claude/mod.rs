//! The dialect `claude`: Claude Code's stream-json, one JSON object per line in both directions.
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
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use switchboard_core::agent::AgentCommand;

use self::{
    blocks::{OpenMessage, Streamed},
    edits::Edit,
    requests::Pending,
};
use super::{
    CheckpointError, Codec, Conversation, Decoded, Delivered, Dialect, Encoded, Framing, ProcessExit,
    ProcessLifetime, ProcessStart,
};

/// Version of the checkpoint's format. Checkpoints of other versions are refused.
const CHECKPOINT_VERSION: u32 = 1;

/// The tool with which the agent asks a person questions. Every other tool asks for permission at most.
const QUESTION_TOOL: &str = "AskUserQuestion";

/// The dialect `claude`.
#[derive(Debug)]
pub(super) struct Claude;

impl Dialect for Claude {
    fn name(&self) -> &'static str {
        "claude"
    }

    fn framing(&self) -> Framing {
        Framing::Lines { turn_end: Some(r#""type":"result""#.into()) }
    }

    fn lifetime(&self) -> ProcessLifetime {
        ProcessLifetime::Instance
    }

    fn start(&self, session: Option<&str>) -> ProcessStart {
        let arguments = session.iter().flat_map(|session| ["--resume".into(), (*session).into()]).collect();
        let mut input = encode::initialize();
        input.push(b'\n');
        ProcessStart { arguments, input }
    }

    fn codec(&self, conversation: &Conversation<'_>) -> Box<dyn Codec> {
        let Conversation { workspace, prefix, session, .. } = conversation;
        Box::new(match session {
            Some(session) => ClaudeCodec::resumed(workspace, prefix, session),
            None => ClaudeCodec::new(workspace, prefix),
        })
    }

    fn restore(&self, workspace: &Path, checkpoint: &str) -> Result<Box<dyn Codec>, CheckpointError> {
        Ok(Box::new(ClaudeCodec::restore(workspace, checkpoint)?))
    }
}

/// The codec of one conversation with Claude Code.
#[derive(Debug)]
struct ClaudeCodec {
    workspace: PathBuf,
    state: State,
    /// The position up to which an earlier gateway has published events, see [`Codec::set_published`].
    published: u64,
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

impl ClaudeCodec {
    /// Makes a codec for a new conversation. `workspace` is an absolute path; every id that the codec makes begins with
    /// `prefix`.
    fn new(workspace: &Path, prefix: &str) -> Self {
        let state = State {
            version: CHECKPOINT_VERSION,
            prefix: prefix.into(),
            total_usd: Some(0.0),
            ..State::default()
        };
        Self { workspace: workspace.into(), state, published: 0 }
    }

    /// Makes a codec for a conversation that resumes the agent's session `session`.
    fn resumed(workspace: &Path, prefix: &str, session: &str) -> Self {
        let mut codec = Self::new(workspace, prefix);
        codec.state.session = Some(session.into());
        codec.state.total_usd = None;
        codec
    }

    /// Makes a codec with the state of a checkpoint.
    fn restore(workspace: &Path, checkpoint: &str) -> Result<Self, CheckpointError> {
        let state: State = serde_json::from_str(checkpoint)?;
        if state.version != CHECKPOINT_VERSION {
            return Err(CheckpointError::new(format!("version {}", state.version)));
        }
        Ok(Self { workspace: workspace.into(), state, published: 0 })
    }
}

impl Codec for ClaudeCodec {
    fn decode(&mut self, position: u64, line: &[u8], out: &mut Decoded) {
        self.decode_line(position, line, out);
    }

    fn encode(&self, command: &AgentCommand) -> Encoded {
        Encoded::lines(self.line_for(command))
    }

    fn delivered(&mut self, command: Delivered<'_>) {
        match command {
            Delivered::Prompt(turn_id) => self.prompted(turn_id),
            Delivered::Cancel => self.state.cancel = Cancel::Sent,
            Delivered::Answer(request_id) => self.answered(request_id),
        }
    }

    fn exited(&mut self, _: &ProcessExit<'_>, _: &mut Decoded) {}

    /// Earlier versions of the gateway named requests by the agent's own ids, so answers to requests from records that
    /// an earlier gateway has published may use those ids.
    fn set_published(&mut self, position: u64) {
        self.published = position;
    }

    fn checkpoint(&self) -> String {
        serde_json::to_string(&self.state).unwrap_or_default()
    }
}
