//! What the codec carries from one record to the next.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use switchboard_core::wire::{TaskKind, TurnReason};

use super::{
    blocks::OpenMessage, citing::CitingMessage, edits::Edit, sent_notices::SentNotices, texts::KnownTexts,
};
use crate::dialect::CheckpointError;

/// Version of the checkpoint's format. Checkpoints of other versions are refused.
const CHECKPOINT_VERSION: u32 = 1;

/// The codec of one conversation with Claude Code.
#[derive(Debug)]
pub(super) struct ClaudeCodec {
    pub(super) workspace: PathBuf,
    pub(super) state: State,
    /// The position up to which an earlier gateway has published events, see [`Codec::set_published`].
    pub(super) published: u64,
}

/// The state that the codec carries from one record to the next.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    pub(super) version: u32,
    /// First part of every id that this codec makes, so that ids of two agent instances differ.
    pub(super) prefix: String,
    pub(super) session: Option<String>,
    pub(super) model: Option<String>,
    /// `total_cost_usd` of the last result; unknown at first if a session is resumed.
    pub(super) total_usd: Option<f64>,
    /// What the agent itself says. While a line of a subagent is handled, what that subagent says.
    #[serde(flatten)]
    pub(super) output: Output,
    /// Running tool uses, see [`UsedIn::key`](super::tools::UsedIn).
    pub(super) tools: BTreeMap<String, Tool>,
    /// What subagents say, by the tool uses that run them.
    #[serde(alias = "voices")]
    pub(super) subagents: BTreeMap<String, Output>,
    /// Open requests by their request id, see [`Self::request_id`].
    pub(super) pending: BTreeMap<String, Pending>,
    pub(super) turn: Option<Prompted>,
    /// The progress of the cancellation of the prompt's turn.
    pub(super) cancel: Cancel,
    #[serde(alias = "told")]
    pub(super) sent_notices: SentNotices,
    /// Tool uses of this turn whose end has been sent as an event, with the id of the message that began each.
    pub(super) ended_uses: BTreeMap<String, String>,
    /// The turn that the agent began by itself, while it is open.
    pub(super) agent_turn: Option<OwnTurn>,
    /// What the agent's next own turn will have been begun for, as far as it was reported.
    pub(super) cause: Option<TurnReason>,
    /// Whether the process resumed a session and no turn has begun in it.
    pub(super) resumed: bool,
    pub(super) reports: Reports,
    /// Background work, and subagents that a tool use waits for, by their task id.
    pub(super) tasks: BTreeMap<String, Work>,
    /// Ids of background work whose end was reported.
    pub(super) ended_tasks: BTreeSet<String>,
}

/// What the agent or a subagent says in a turn.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Output {
    /// The message that is being streamed.
    pub(super) message: Option<OpenMessage>,
    /// The texts that were sent. They are remembered beyond the end of the turn, because an agent may repeat them late.
    #[serde(alias = "unconfirmed")]
    pub(super) texts: KnownTexts,
    /// The message that cites and whose blocks come as a whole.
    pub(super) citing: Option<CitingMessage>,
    /// Text by the agent program rather than the model; sent only if the turn ends without other text.
    pub(super) synthetic: Option<String>,
    /// Whether there was any text.
    pub(super) spoke: bool,
    /// Whether a tool was used.
    pub(super) worked: bool,
}

impl Output {
    /// Whether no text is open.
    pub(super) fn is_idle(&self) -> bool {
        self.message.is_none() && self.citing.is_none()
    }
}

/// A running tool use.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Tool {
    pub(super) name: String,
    pub(super) edit: Option<Edit>,
    /// The id of the message that began the use. Empty if it is not known.
    #[serde(default)]
    pub(super) message: String,
    /// Whether only the beginning of the input was sent.
    #[serde(default)]
    pub(super) partial: bool,
}

/// The prompt that was sent last, while its turn is open.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Prompted {
    pub(super) uuid: String,
    #[serde(default)]
    pub(super) phase: PromptPhase,
    /// Whether the agent reported that it is done with the prompt, before the result.
    #[serde(default)]
    pub(super) done: bool,
}

/// How far the agent is with a prompt.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum PromptPhase {
    /// Written to the agent, which has not reported it.
    Written,
    /// The agent reported that the prompt waits.
    Queued,
    /// The agent works on the prompt. Checkpoints of earlier versions do not have the phase.
    #[default]
    Begun,
    /// The agent took the prompt into the turn that it had begun by itself.
    Folded,
}

/// A turn that the agent began by itself.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct OwnTurn {
    /// Whether an interrupt was sent to stop the turn.
    pub(super) cancelled: bool,
    /// Whether the agent itself works. If not, the turn is that of subagents in the background, and has no result.
    pub(super) main: bool,
}

/// What the agent reports about the beginnings of turns; versions differ.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Reports {
    /// A record has said that a turn begins. The first prompt of an agent that never says so begins with any record.
    pub(super) beginnings: bool,
    /// A record has said that a prompt is queued, started or completed.
    pub(super) lifecycle: bool,
    /// A record at the beginning of a turn has named the turn's prompts.
    pub(super) prompts: bool,
}

impl Prompted {
    pub(super) fn new(uuid: String) -> Self {
        Self { uuid, phase: PromptPhase::Written, done: false }
    }

    /// Whether the agent has not begun with the prompt.
    pub(super) fn waits(&self) -> bool {
        matches!(self.phase, PromptPhase::Written | PromptPhase::Queued)
    }
}

/// Work that the agent reported and that has not ended.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Work {
    pub(super) kind: TaskKind,
    pub(super) title: String,
    /// The tool use that began the work, if it is known.
    pub(super) call_id: Option<String>,
    pub(super) stage: Stage,
    /// Whether a list of background work has named it.
    pub(super) listed: bool,
}

/// How the work is run, and what was said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stage {
    /// A tool use waits for the work, so the work is no background task.
    Foreground,
    /// A list has named the work. The event is sent with the next record, which often says more.
    Listed,
    /// The beginning was sent as an event.
    Begun,
}

/// Progress of a cancellation.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Cancel {
    #[default]
    None,
    /// The interrupt was sent, and the agent has not answered.
    Sent,
    /// The agent was asked to take back the prompt, and has not answered. Its own turn is to go on.
    TakingBack,
    /// The agent answered the interrupt before it began with the prompt, so the interrupt stopped nothing; or it could
    /// not take the prompt back.
    Missed,
}

impl ClaudeCodec {
    /// Makes a codec for a new conversation. `workspace` is an absolute path; every id that the codec makes begins with
    /// `prefix`.
    pub(super) fn new(workspace: &Path, prefix: &str) -> Self {
        let state = State {
            version: CHECKPOINT_VERSION,
            prefix: prefix.into(),
            total_usd: Some(0.0),
            ..State::default()
        };
        Self { workspace: workspace.into(), state, published: 0 }
    }

    /// Makes a codec for a conversation that resumes the agent's session `session`.
    pub(super) fn resumed(workspace: &Path, prefix: &str, session: &str) -> Self {
        let mut codec = Self::new(workspace, prefix);
        codec.state.session = Some(session.into());
        codec.state.total_usd = None;
        codec.state.resumed = true;
        codec
    }

    /// Makes a codec with the state of a checkpoint.
    pub(super) fn restore(workspace: &Path, checkpoint: &str) -> Result<Self, CheckpointError> {
        let state: State = serde_json::from_str(checkpoint)?;
        if state.version != CHECKPOINT_VERSION {
            return Err(CheckpointError::new(format!("version {}", state.version)));
        }
        Ok(Self { workspace: workspace.into(), state, published: 0 })
    }
}

impl Cancel {
    /// Whether the agent has not answered.
    pub(super) fn is_pending(self) -> bool {
        matches!(self, Self::Sent | Self::TakingBack)
    }

    /// Whether an interrupt was sent, which stops whatever turn the agent works on.
    pub(super) fn interrupts(self) -> bool {
        matches!(self, Self::Sent | Self::Missed)
    }
}

/// A request that has not been answered yet.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Pending {
    /// The id that the agent gave to the request.
    pub(super) agent_id: String,
    /// Position of the record that contains the request. Zero in checkpoints of earlier versions, which used the
    /// agent's id as the request id.
    #[serde(default)]
    pub(super) position: u64,
    /// The tool's input, or the whole request of a form, exactly as the agent wrote it. Consent is valid only for these
    /// bytes.
    pub(super) input: String,
    pub(super) question: bool,
    #[serde(default)]
    pub(super) form: bool,
    /// Whether the agent says that a subagent asks.
    #[serde(default)]
    pub(super) of_subagent: bool,
    /// The tool use that runs the subagent which asks, if one does.
    #[serde(default)]
    pub(super) parent: Option<String>,
    /// The tool use that waits for permission, if the agent names it.
    #[serde(default)]
    pub(super) call_id: Option<String>,
}

/// Notes a new value, and sends it if it is another than the one before.
pub(super) fn changed(known: &mut Option<String>, now: Option<&str>, send: impl FnOnce(String)) {
    if let Some(now) = now.filter(|now| !now.is_empty() && known.as_deref() != Some(now)) {
        *known = Some(now.into());
        send(now.into());
    }
}
