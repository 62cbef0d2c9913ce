//! What every codec does, and the results of decoding and encoding.

use std::fmt;

use serde_json::Value;
use switchboard_core::{
    agent::{AgentCommand, AgentEvent},
    ids::{RequestId, TurnId},
    wire::{Cost, NoticeLevel, Outcome, TurnError, TurnReason, Usage},
};

use super::sanitize::length;

/// Translates between the output and input of one agent process and Switchboard's events and commands.
///
/// A codec is deterministic: it reads no clock, draws no random numbers, and derives ids from record positions. The
/// same calls in the same order always give the same events, whether or not the codec was restored from a
/// [checkpoint](Self::checkpoint) between them.
pub trait Codec: fmt::Debug + Send {
    /// Decodes one record: a line without its newline, or the bytes of one read, as [`Framing`](super::Framing) says.
    /// `position` is the record's number, which grows from call to call.
    ///
    /// Never fails: a record without a meaning gives no event, or [`AgentEvent::Alive`].
    fn decode(&mut self, position: u64, record: &[u8], out: &mut Decoded);

    /// Notes that a line was skipped because it is longer than the limit: it has `bytes` bytes, of which `prefix` are the
    /// first 4 KiB. `position` is the record's number, as in [`Self::decode`].
    ///
    /// Tells people, unless a codec finds out from the prefix what the line was.
    fn skipped(&mut self, position: u64, prefix: &[u8], bytes: u64, out: &mut Decoded) {
        let _ = (position, prefix);
        out.skipped(bytes);
    }

    /// What is to be done at the process for a command. Changes no state: the command may be lost or repeated before
    /// the process gets it. [`Self::delivered`] follows once it is certain that the process gets it.
    fn encode(&self, command: &AgentCommand) -> Encoded;

    /// Notes that a command was delivered: its bytes are in front of everything that the process writes in answer.
    fn delivered(&mut self, command: Delivered<'_>);

    /// Decodes the exit of the process; all its output has been decoded. A dialect with one process per prompt ends
    /// the turn here.
    fn exited(&mut self, exit: &ProcessExit<'_>, out: &mut Decoded);

    /// Whether the process works on in the background after the end of its input, so that only a signal stops it.
    fn works_in_background(&self) -> bool {
        false
    }

    /// Declares that an earlier gateway has published the events of all records up to this position.
    fn set_published(&mut self, position: u64);

    /// The state after the last decoded record, as JSON. Small between turns.
    fn checkpoint(&self) -> String;
}

/// The results of decoding one or more records.
#[derive(Debug, Default)]
pub struct Decoded {
    /// The agent's events, in order.
    pub events: Vec<AgentEvent>,
    /// Lines, without their newline, that are to be sent to the agent in reply and need no person's decision. The
    /// caller must discard them when it decodes old records again.
    pub replies: Vec<Vec<u8>>,
    /// Whether the process is ready for prompts: it has done its part of the handshake.
    pub ready: bool,
    /// Whether the agent reported that it does not know the session that it was to resume.
    pub unknown_session: bool,
    /// Whether the prompt's turn ended in these records. The codec's state is small then, so it is a good time for a
    /// checkpoint.
    pub turn_ended: bool,
    /// Whether a turn that the agent began by itself is open, if that changed in these records.
    pub agent_turn: Option<bool>,
}

impl Decoded {
    /// Adds [`AgentEvent::Alive`], unless there are events already.
    pub fn alive(&mut self) {
        if self.events.is_empty() {
            self.events.push(AgentEvent::Alive);
        }
    }

    /// Adds a notice. `text` is for people; the caller has removed control characters from what the agent wrote of it,
    /// and bounded its length.
    pub fn notice(&mut self, level: NoticeLevel, code: &str, text: impl Into<String>, data: Option<Value>) {
        self.events.push(AgentEvent::Notice { level, code: code.into(), text: text.into(), data });
    }

    /// Adds a notice that a line of this many bytes was skipped.
    pub fn skipped(&mut self, bytes: u64) {
        let text =
            format!("The agent wrote a line of {}, which is too long and was left out.", length(bytes));
        self.notice(NoticeLevel::Warning, "other", text, None);
    }

    /// Ends the prompt's turn, without a usage and a cost.
    pub fn end_turn(&mut self, outcome: Outcome, error: Option<TurnError>) {
        self.events.push(AgentEvent::TurnEnded { outcome, error, usage: None, cost: None });
        self.turn_ended = true;
    }

    /// Begins a turn of the agent's own. Call it before the turn's first event, and only while no such turn is open.
    pub fn begin_agent_turn(&mut self, reason: TurnReason) {
        self.events.push(AgentEvent::AgentTurnStarted { reason });
        self.agent_turn = Some(true);
    }

    /// Ends the turn that the agent began by itself.
    pub fn end_agent_turn(&mut self, ending: TurnEnding) {
        let TurnEnding { outcome, error, usage, cost } = ending;
        self.events.push(AgentEvent::AgentTurnEnded { outcome, error, usage, cost });
        self.agent_turn = Some(false);
    }
}

/// How a turn ended.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnEnding {
    /// Whether the turn completed, failed or was cut off.
    pub outcome: Outcome,
    /// Why the turn failed, if it did.
    pub error: Option<TurnError>,
    /// The tokens that the turn used, if the agent reports them.
    pub usage: Option<Usage>,
    /// The price of the turn, if the agent reports it.
    pub cost: Option<Cost>,
}

impl From<Outcome> for TurnEnding {
    /// An end with nothing but an outcome.
    fn from(outcome: Outcome) -> Self {
        Self { outcome, error: None, usage: None, cost: None }
    }
}

/// What is to be done at a process for a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encoded {
    /// Nothing, for example because the command answers a request that is no longer open.
    Nothing,
    /// Write these bytes to the process's standard input.
    Write(Vec<u8>),
    /// Ask the process to exit, with SIGTERM.
    Terminate,
}

impl Encoded {
    /// Writes these lines, which are given without their newlines.
    pub fn lines<L: AsRef<[u8]>>(lines: impl IntoIterator<Item = L>) -> Self {
        let mut bytes = Vec::new();
        for line in lines {
            bytes.extend_from_slice(line.as_ref());
            bytes.push(b'\n');
        }
        if bytes.is_empty() { Self::Nothing } else { Self::Write(bytes) }
    }
}

/// A command that was delivered to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered<'a> {
    /// The prompt of this turn.
    Prompt(&'a TurnId),
    /// The cancellation of the prompt's turn.
    Cancel,
    /// The cancellation of the turn that the agent began by itself. A prompt that was sent meanwhile goes on.
    CancelAgentTurn,
    /// A person's answer to this request.
    Answer(&'a RequestId),
}

/// How a process exited.
#[derive(Debug, Clone, Copy)]
pub struct ProcessExit<'a> {
    /// The exit status; `None` if a signal ended the process.
    pub code: Option<i32>,
    /// Whether the process's turn was cancelled.
    pub cancelled: bool,
    /// How the process ended, as the end of a sentence: "exited with status 3".
    pub description: &'a str,
    /// The last lines of standard error, as a sentence with a space in front; empty if there are none.
    pub last_words: &'a str,
}

/// The error for a checkpoint that cannot be read or has another version.
#[derive(Debug)]
pub struct CheckpointError(String);

impl CheckpointError {
    /// `why` is the reason, as part of a sentence.
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unreadable codec checkpoint: {}", self.0)
    }
}

impl std::error::Error for CheckpointError {}

impl From<serde_json::Error> for CheckpointError {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}
