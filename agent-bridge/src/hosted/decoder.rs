//! Decodes a host's records to events, and derives the state of the agent instance from them.
//!
//! The decoder is deterministic: the same records give the same events and the same state, from the beginning or from a
//! checkpoint.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use switchboard_core::{
    agent::{AgentCommand, AgentEvent},
    ids::{RequestId, TurnId},
    wire::Outcome,
};

use crate::{
    dialect::{
        Codec, Conversation, Decoded, Delivered, Dialect, Encoded, Framing, ProcessExit, ProcessLifetime,
    },
    driver::{process::describe_end, stderr_tail::LastWords},
    host::protocol::{CommandHead, CommandMeaning, Exited, Frame, Kind, SpawnFailure},
};

/// Version of the checkpoint's format. Checkpoints of other versions are refused.
const CHECKPOINT_VERSION: u32 = 1;

/// Most events for which space is reserved at once, according to the number of lines in a frame.
const MOST_EXPECTED: usize = 1024;

/// Decodes the records of one agent instance.
#[derive(Debug)]
pub(super) struct InstanceDecoder {
    dialect: &'static dyn Dialect,
    workspace: PathBuf,
    prefix: String,
    codec: Box<dyn Codec>,
    state: InstanceState,
    /// Events of records up to this position have been published and are dropped.
    shown: u64,
    wanted: TurnFilter,
    last_words: LastWords,
}

/// The turns whose events are passed on.
#[derive(Debug)]
enum TurnFilter {
    All,
    /// Only this turn, until it ends.
    Only(Option<TurnId>),
}

/// State of an agent instance that follows from its records, besides the codec's state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct InstanceState {
    version: u32,
    /// Position of the last decoded record.
    pub(super) position: u64,
    /// Number of process starts that were commanded.
    pub(super) starts: u64,
    /// Whether the last process has not ended.
    pub(super) running: bool,
    /// Whether the process has answered the initialize request.
    pub(super) ready: bool,
    /// Whether the process was to resume a session.
    pub(super) resumed: bool,
    /// Whether the agent does not know the session that it was to resume.
    pub(super) unknown_session: bool,
    /// Whether the process has closed its output.
    pub(super) closed: bool,
    /// Whether the process has written a line longer than the limit.
    pub(super) too_long: bool,
    /// The turn whose prompt was sent last.
    pub(super) prompted: Option<TurnId>,
    /// Whether the turn in `prompted` is open.
    pub(super) turn_open: bool,
    /// Whether the turn in `prompted` was cancelled.
    cancelled: bool,
    /// How the last process ended.
    pub(super) exited: Option<Exited>,
    /// Why the last process could not be started.
    pub(super) spawn_failed: Option<SpawnFailure>,
}

#[derive(Serialize, Deserialize)]
struct Checkpoint {
    state: InstanceState,
    codec: Box<RawValue>,
}

/// The results of decoding a batch of records.
#[derive(Debug, Default)]
pub(super) struct DecodedBatch {
    pub(super) events: Vec<AgentEvent>,
    /// Lines to send to the agent, each with a command id that derives from the position of its record.
    pub(super) replies: Vec<(String, Vec<u8>)>,
    /// Whether a turn ended in this batch.
    pub(super) turn_ended: bool,
    /// The split point before the record that ended the first turn, if there are events before it.
    pub(super) before_end: Option<SplitPoint>,
    /// Whether the instance should review the state.
    pub(super) notable: bool,
}

/// A split point between two records of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SplitPoint {
    /// Position of the last record before the split point.
    pub(super) position: u64,
    /// Number of events before the split point.
    pub(super) events: usize,
}

impl InstanceDecoder {
    /// Makes a decoder for a new instance. `session` is the agent's session to resume.
    pub(super) fn new(
        dialect: &'static dyn Dialect,
        workspace: &Path,
        instance: u64,
        session: Option<&str>,
    ) -> Self {
        let prefix = format!("{instance}-");
        let codec = dialect.codec(&Conversation { workspace, prefix: &prefix, session, process: 0 });
        let state = InstanceState { version: CHECKPOINT_VERSION, ..InstanceState::default() };
        let (shown, wanted, last_words) = (0, TurnFilter::All, LastWords::default());
        Self { dialect, workspace: workspace.into(), prefix, codec, state, shown, wanted, last_words }
    }

    /// Sets how the agent's last lines of standard error are reported.
    pub(super) fn saying(mut self, last_words: LastWords) -> Self {
        self.last_words = last_words;
        self
    }

    /// Restores the state from a checkpoint of this instance. Returns false, without a change, if it cannot be read.
    pub(super) fn restore(&mut self, checkpoint: &[u8]) -> bool {
        let Ok(Checkpoint { state, codec }) = serde_json::from_slice(checkpoint) else { return false };
        let codec = self.dialect.restore(&self.workspace, codec.get()).ok();
        let Some(codec) = codec.filter(|_| state.version == CHECKPOINT_VERSION) else { return false };
        self.state = state;
        self.set_codec(codec);
        true
    }

    /// Drops the events of records up to this position.
    pub(super) fn hide_to(&mut self, position: u64) {
        self.shown = position;
        self.codec.set_published(position);
    }

    fn set_codec(&mut self, codec: Box<dyn Codec>) {
        self.codec = codec;
        self.hide_to(self.shown);
    }

    /// From now on, drops the events of all other turns, which the log has lost.
    pub(super) fn want_only(&mut self, turn: Option<TurnId>) {
        self.wanted = TurnFilter::Only(turn);
    }

    /// Whether the events of this turn are passed on. False after the turn's end.
    pub(super) fn wants(&self, turn: &TurnId) -> bool {
        match &self.wanted {
            TurnFilter::All => true,
            TurnFilter::Only(wanted) => wanted.as_ref() == Some(turn),
        }
    }

    /// Whether the open turn is one whose events are dropped.
    fn is_lost(&self) -> bool {
        self.state.turn_open && self.state.prompted.as_ref().is_some_and(|turn| !self.wants(turn))
    }

    /// Sets the position after which the records of this instance begin.
    pub(super) fn begin_after(&mut self, position: u64) {
        self.state.position = position;
    }

    /// Skips the records up to this position, because they are lost.
    pub(super) fn pass_over(&mut self, position: u64) {
        self.state.position = self.state.position.max(position);
    }

    /// Sets the position of the first existing record. If nothing was decoded and the log has the events of all earlier
    /// records, the instance began before its host, and decoding continues with this record.
    pub(super) fn found_first(&mut self, first: u64) {
        if self.state.position == 0 && first <= self.shown.saturating_add(1) {
            self.state.position = first.saturating_sub(1);
        }
    }

    /// The state according to the decoded records.
    pub(super) fn state(&self) -> &InstanceState {
        &self.state
    }

    /// The state of decoder and codec after the last decoded record.
    pub(super) fn checkpoint(&self) -> Option<Bytes> {
        let codec = RawValue::from_string(self.codec.checkpoint()).ok()?;
        serde_json::to_vec(&Checkpoint { state: self.state.clone(), codec }).ok().map(Into::into)
    }

    /// What is to be done at the process for a command; see [`Codec::encode`].
    pub(super) fn encode(&self, command: &AgentCommand) -> Encoded {
        self.codec.encode(command)
    }

    /// Decodes the next frame. A frame that was decoded before is skipped.
    pub(super) fn record(&mut self, frame: &Frame<impl AsRef<[u8]>>, step: &mut DecodedBatch) {
        if frame.count == 0 || frame.last() <= self.state.position {
            return;
        }
        let (before, was_lost) = (step.events.len(), self.is_lost());
        match frame.kind {
            Kind::Output => return self.output(frame, step),
            Kind::Command => {
                if let Ok(head) = serde_json::from_slice::<CommandHead>(frame.payload.as_ref()) {
                    self.told(head.told, step);
                }
            }
            Kind::Exited => {
                self.exited(serde_json::from_slice(frame.payload.as_ref()).unwrap_or_default(), step)
            }
            Kind::SpawnFailed => {
                self.state.running = false;
                let why = serde_json::from_slice(frame.payload.as_ref()).unwrap_or(SpawnFailure::Other);
                self.state.spawn_failed = Some(why);
            }
            Kind::OutputClosed => self.state.closed = true,
            Kind::TooLong => self.state.too_long = true,
            Kind::Hello
            | Kind::Ended
            | Kind::Stuck
            | Kind::Lent
            | Kind::Discarded
            | Kind::Recall
            | Kind::Known => return,
        }
        self.state.position = frame.last();
        step.notable = true;
        if self.state.position <= self.shown {
            step.events.truncate(before);
        } else if was_lost {
            leave_out_turn(&mut step.events, before);
        }
    }

    fn output(&mut self, frame: &Frame<impl AsRef<[u8]>>, step: &mut DecodedBatch) {
        let mut out = Decoded { events: std::mem::take(&mut step.events), ..Decoded::default() };
        let mut is_lost = self.is_lost();
        match self.dialect.framing() {
            Framing::Reads => {
                let before = out.events.len();
                self.state.position = frame.last();
                self.codec.decode(self.state.position, frame.payload.as_ref(), &mut out);
                if self.state.position <= self.shown || is_lost {
                    out.events.truncate(before);
                }
            }
            Framing::Lines { .. } => {
                out.events.reserve(MOST_EXPECTED.min(frame.count as usize));
                let mut rest = frame.payload.as_ref();
                let mut position = frame.first;
                while let Some(end) = memchr::memchr(b'\n', rest) {
                    let line = &rest[..end];
                    rest = &rest[end + 1..];
                    if position > self.state.position {
                        self.state.position = position;
                        let before = out.events.len();
                        // The codec adds `Alive` only if there are no events yet. Dropping hidden events record by
                        // record makes that independent of how the records were batched.
                        self.codec.decode(position, line, &mut out);
                        if position <= self.shown {
                            out.events.truncate(before);
                        } else if is_lost {
                            leave_out_turn(&mut out.events, before);
                        }
                        if !out.replies.is_empty() {
                            let replies = out.replies.drain(..).enumerate();
                            step.replies.extend(replies.map(|(n, line)| (format!("r{position}.{n}"), line)));
                        }
                        if std::mem::take(&mut out.turn_ended) {
                            self.state.turn_open = false;
                            is_lost = false;
                            self.wanted.end(self.state.prompted.as_ref());
                            if !step.turn_ended && before > 0 {
                                step.before_end = Some(SplitPoint { position: position - 1, events: before });
                            }
                            step.turn_ended = true;
                        }
                    }
                    position += 1;
                }
            }
        }
        step.events = out.events;
        if out.ready {
            self.state.ready = true;
        }
        self.state.unknown_session |= out.unknown_session;
        step.notable |= out.ready || out.unknown_session || step.turn_ended;
    }

    fn told(&mut self, told: CommandMeaning, step: &mut DecodedBatch) {
        match told {
            CommandMeaning::Start { session } => {
                self.begin_process(session.as_deref());
                self.state.resumed = session.is_some();
            }
            CommandMeaning::Prompt { turn } => {
                let Ok(turn) = TurnId::parse(&turn) else { return };
                if self.dialect.lifetime() == ProcessLifetime::Prompt {
                    self.begin_process(None);
                }
                self.codec.delivered(Delivered::Prompt(&turn));
                self.state.prompted = Some(turn);
                self.state.turn_open = true;
                self.state.cancelled = false;
            }
            CommandMeaning::Cancel { .. } => {
                self.state.cancelled = true;
                self.codec.delivered(Delivered::Cancel);
            }
            CommandMeaning::Answer { request } => {
                if let Ok(request) = RequestId::parse(&request) {
                    self.codec.delivered(Delivered::Answer(&request));
                }
            }
            CommandMeaning::Void { turn } => {
                self.state.prompted = TurnId::parse(&turn).ok();
                self.turn_ended(step);
                let (outcome, error) = (Outcome::Cancelled, None);
                step.events.push(AgentEvent::TurnEnded { outcome, error, usage: None, cost: None });
            }
            CommandMeaning::Reply => {}
        }
    }

    fn begin_process(&mut self, session: Option<&str>) {
        self.state.starts += 1;
        self.state.running = true;
        (self.state.ready, self.state.unknown_session, self.state.closed) = (false, false, false);
        self.state.exited = None;
        let codec = self.dialect.codec(&Conversation {
            workspace: &self.workspace,
            prefix: &self.prefix,
            session,
            process: self.state.starts,
        });
        self.set_codec(codec);
    }

    fn exited(&mut self, exited: Exited, step: &mut DecodedBatch) {
        self.state.running = false;
        let mut out = Decoded { events: std::mem::take(&mut step.events), ..Decoded::default() };
        let exit = ProcessExit {
            code: exited.code,
            cancelled: self.state.cancelled,
            description: &describe_end(exited.code, exited.signal),
            last_words: &self.last_words.sentence(&exited.stderr),
        };
        self.codec.exited(&exit, &mut out);
        if out.turn_ended {
            if matches!(out.events.last(), Some(AgentEvent::TurnEnded { outcome: Outcome::Failed, .. })) {
                self.last_words.report(&exited.stderr);
            }
            self.turn_ended(step);
        }
        step.events = out.events;
        self.state.exited = Some(exited);
    }

    fn turn_ended(&mut self, step: &mut DecodedBatch) {
        self.state.turn_open = false;
        self.wanted.end(self.state.prompted.as_ref());
        step.turn_ended = true;
    }
}

impl TurnFilter {
    /// Notes the end of a turn.
    fn end(&mut self, turn: Option<&TurnId>) {
        if let Self::Only(wanted) = self {
            wanted.take_if(|wanted| turn == Some(wanted));
        }
    }
}

/// Removes the events from index `from` on that belong to a turn; events about the agent stay.
fn leave_out_turn(events: &mut Vec<AgentEvent>, from: usize) {
    let said = events.split_off(from);
    let of_agent =
        |event: &AgentEvent| matches!(event, AgentEvent::Session { .. } | AgentEvent::Model { .. });
    events.extend(said.into_iter().filter(of_agent));
}

#[cfg(test)]
pub(super) mod tests;
