//! Decodes the records of an agent instance to events, and derives the instance's state from them.
//!
//! The decoder is deterministic: the same records give the same events and the same state, from the beginning or from a
//! checkpoint.

mod filter;
mod record;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use switchboard_core::{
    agent::{AgentCommand, AgentEvent},
    ids::{RequestId, TurnId},
    wire::{NoticeLevel, Outcome, TurnError},
};

pub(crate) use self::record::Record;
use self::{
    filter::{LostTurn, TurnFilter},
    record::LinePositions,
};
use crate::{
    dialect::{
        Codec, Conversation, Decoded, Delivered, Dialect, Encoded, Framing, ProcessExit, ProcessLifetime,
        TurnEnding,
    },
    exec::{status::describe_end, stderr_tail::LastWords},
    host::{
        position::Position,
        protocol::{CommandMeaning, Exited, SpawnFailure},
    },
};

/// Version of the checkpoint's format. Checkpoints of other versions are refused.
const CHECKPOINT_VERSION: u32 = 1;

/// Most events for which space is reserved at once, according to the number of lines in a frame.
const MOST_EXPECTED: usize = 1024;

/// The text of the notice `memory_lost`, which the agent's last words may follow.
const MEMORY_LOST: &str = "The agent could not continue the conversation and begins a new one. It does not remember \
                           what was said before.";

/// Decodes the records of one agent instance.
#[derive(Debug)]
pub(crate) struct RecordDecoder {
    dialect: &'static dyn Dialect,
    workspace: PathBuf,
    prefix: String,
    codec: Box<dyn Codec>,
    state: SessionState,
    /// Events of records up to this position have been published and are dropped.
    published: u64,
    filter: TurnFilter,
    last_words: LastWords,
}

/// State of an agent instance that follows from its records, besides the codec's state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SessionState {
    version: u32,
    /// Position of the last decoded record.
    pub(crate) position: u64,
    /// Number of process starts that were commanded.
    pub(crate) starts: u64,
    /// Whether the last process has not ended.
    pub(crate) running: bool,
    /// Whether the process has answered the initialize request.
    pub(crate) ready: bool,
    /// Whether the process was to resume a session.
    pub(crate) resumed: bool,
    /// Whether the agent does not know the session that it was to resume.
    pub(crate) unknown_session: bool,
    /// Whether the process has closed its output.
    pub(crate) closed: bool,
    /// The turn whose prompt was sent last.
    pub(crate) prompted: Option<TurnId>,
    /// Whether the turn in `prompted` is open.
    pub(crate) turn_open: bool,
    /// Whether the turn in `prompted` was cancelled.
    pub(crate) cancelled: bool,
    /// Whether the prompt of the open turn was sent to an earlier process only, which could not resume its session.
    pub(crate) unsent: bool,
    /// Whether a turn that the agent began by itself is open.
    pub(crate) agent_turn: bool,
    /// How the last process ended.
    pub(crate) exited: Option<Exited>,
    /// Why the last process could not be started.
    pub(crate) spawn_failed: Option<SpawnFailure>,
}

#[derive(Serialize, Deserialize)]
struct Checkpoint {
    state: SessionState,
    codec: Box<RawValue>,
}

/// The results of decoding a batch of records.
#[derive(Debug, Default)]
pub(crate) struct DecodedBatch {
    pub(crate) events: Vec<AgentEvent>,
    /// Lines to send to the agent, each with a command id that derives from the position of its record.
    pub(crate) replies: Vec<(String, Vec<u8>)>,
    /// Whether a turn ended in this batch.
    pub(crate) turn_ended: bool,
    /// The split point before the record that ended the first turn, if there are events before it.
    pub(crate) before_end: Option<SplitPoint>,
    /// Whether the instance should review the state.
    pub(crate) notable: bool,
}

impl DecodedBatch {
    /// Notes that the agent is silent because the disk is full, so it must not be taken for a hanging one.
    pub(crate) fn agent_waits(&mut self) {
        if self.events.is_empty() {
            self.events.push(AgentEvent::Alive);
        }
    }
}

/// A split point between two records of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SplitPoint {
    /// Position of the last record before the split point.
    pub(crate) position: u64,
    /// Number of events before the split point.
    pub(crate) events: usize,
}

impl RecordDecoder {
    /// Makes a decoder for a new instance. `session` is the agent's session to resume.
    pub(crate) fn new(
        dialect: &'static dyn Dialect,
        workspace: &Path,
        instance: u64,
        session: Option<&str>,
    ) -> Self {
        let prefix = format!("{instance}-");
        let codec = dialect.codec(&Conversation { workspace, prefix: &prefix, session, process: 0 });
        let state = SessionState { version: CHECKPOINT_VERSION, ..SessionState::default() };
        let (published, filter, last_words) = (0, TurnFilter::All, LastWords::default());
        Self { dialect, workspace: workspace.into(), prefix, codec, state, published, filter, last_words }
    }

    /// Sets how the agent's last lines of standard error are reported.
    pub(crate) fn with_last_words(mut self, last_words: LastWords) -> Self {
        self.last_words = last_words;
        self
    }

    /// Restores the state from a checkpoint of this instance. Returns false, without a change, if it cannot be read.
    pub(crate) fn restore(&mut self, checkpoint: &[u8]) -> bool {
        let Ok(Checkpoint { state, codec }) = serde_json::from_slice(checkpoint) else { return false };
        let codec = self.dialect.restore(&self.workspace, codec.get()).ok();
        let Some(codec) = codec.filter(|_| state.version == CHECKPOINT_VERSION) else { return false };
        self.state = state;
        self.set_codec(codec);
        true
    }

    /// Declares that an earlier gateway has published the events of records up to this position; they are dropped.
    pub(crate) fn set_published(&mut self, position: u64) {
        self.published = position;
        self.codec.set_published(position);
    }

    fn set_codec(&mut self, codec: Box<dyn Codec>) {
        self.codec = codec;
        self.set_published(self.published);
    }

    /// Whether an earlier gateway has published the events of all records that were decoded.
    pub(crate) fn is_published(&self) -> bool {
        self.state.position <= self.published
    }

    /// From now on, drops the events of all other turns, which the log has lost.
    pub(crate) fn pass_only(&mut self, turn: Option<TurnId>) {
        self.filter = TurnFilter::Only(turn);
    }

    /// Whether the events of this turn are passed on. False after the turn's end.
    pub(crate) fn passes(&self, turn: &TurnId) -> bool {
        self.filter.passes(turn)
    }

    /// The prompt's open turn, if its events are dropped.
    fn lost(&self) -> Option<LostTurn> {
        let turn = self.state.prompted.as_ref().filter(|_| self.state.turn_open)?;
        (!self.passes(turn)).then_some(LostTurn { agent_turn: self.state.agent_turn })
    }

    /// Sets the position after which the records of this instance begin.
    pub(crate) fn begin_after(&mut self, position: u64) {
        self.state.position = position;
    }

    /// Skips the records up to this position, because they are lost.
    pub(crate) fn skip_to(&mut self, position: u64) {
        self.state.position = self.state.position.max(position);
    }

    /// Sets the position of the first existing record. If nothing was decoded and the log has the events of all earlier
    /// records, the instance began before its host, and decoding continues with this record.
    pub(crate) fn found_first(&mut self, first: u64) {
        if self.state.position == 0 && first <= self.published.saturating_add(1) {
            self.state.position = first.saturating_sub(1);
        }
    }

    /// The state according to the decoded records.
    pub(crate) fn state(&self) -> &SessionState {
        &self.state
    }

    /// The state of decoder and codec after the last decoded record.
    pub(crate) fn checkpoint(&self) -> Option<Bytes> {
        let codec = RawValue::from_string(self.codec.checkpoint()).ok()?;
        serde_json::to_vec(&Checkpoint { state: self.state.clone(), codec }).ok().map(Into::into)
    }

    /// What is to be done at the process for a command; see [`Codec::encode`].
    pub(crate) fn encode(&self, command: &AgentCommand) -> Encoded {
        self.codec.encode(command)
    }

    /// Whether the process works on in the background after the end of its input.
    pub(crate) fn works_in_background(&self) -> bool {
        self.state.running && self.codec.works_in_background()
    }

    /// Decodes a record, or several lines of output of which each is a record. `first` is the position of the first
    /// one. Records that were decoded before are skipped.
    pub(crate) fn record(&mut self, first: u64, record: Record<'_>, batch: &mut DecodedBatch) {
        let last = first.saturating_add(u64::from(record.count())).saturating_sub(1);
        if record.count() == 0 || last <= self.state.position {
            return;
        }
        let (before, lost) = (batch.events.len(), self.lost());
        match record {
            Record::Output { bytes, count } => return self.output(first, last, count, bytes, batch),
            Record::Skipped { bytes, prefix } => {
                return self.decode_output(batch, |decoder, out, batch| {
                    batch.notable = true;
                    decoder.output_record(last, out, batch, |codec, out| {
                        codec.skipped(last, prefix, bytes, out);
                    });
                });
            }
            Record::Command(meaning) => self.delivered(meaning, batch),
            Record::SpawnFailed(failure) => {
                self.state.running = false;
                self.state.spawn_failed = Some(failure);
            }
            Record::Exited(exited) => self.exited(exited, batch),
            Record::OutputClosed => self.state.closed = true,
        }
        self.state.position = last;
        batch.notable = true;
        if self.state.position <= self.published {
            batch.events.truncate(before);
        } else if let Some(lost) = lost {
            lost.leave_out(&mut batch.events, before);
        }
    }

    /// Decodes output out of a spool: whole lines, or in dialect `text` any bytes. `offset` is the offset of the first
    /// byte in the output of the instance's processes, from which the positions of records follow. What was decoded
    /// before is skipped.
    pub(crate) fn spooled_output(&mut self, offset: u64, bytes: &[u8], batch: &mut DecodedBatch) {
        let end = offset + bytes.len() as u64;
        if Position::of_output(end) <= self.state.position {
            return;
        }
        match self.dialect.framing() {
            Framing::Lines { .. } => self.decode_output(batch, |decoder, out, batch| {
                decoder.lines(LinePositions::At(offset), bytes, out, batch);
            }),
            Framing::Reads => {
                // A batch that ends within these bytes was published, so they are decoded in two parts.
                let known = Position::offset(self.state.position.max(self.published));
                let (first, second) = bytes.split_at((known.clamp(offset, end) - offset) as usize);
                self.read(Position::of_output(end - second.len() as u64), first, batch);
                self.read(Position::of_output(end), second, batch);
            }
        }
    }

    /// Decodes the bytes of one read, if there are any and they were not decoded before.
    fn read(&mut self, position: u64, bytes: &[u8], batch: &mut DecodedBatch) {
        if bytes.is_empty() || position <= self.state.position {
            return;
        }
        self.decode_output(batch, |decoder, out, batch| {
            decoder.output_record(position, out, batch, |codec, out| codec.decode(position, bytes, out));
        });
    }

    fn output(&mut self, first: u64, last: u64, count: u32, bytes: &[u8], batch: &mut DecodedBatch) {
        match self.dialect.framing() {
            Framing::Reads => self.read(last, bytes, batch),
            Framing::Lines { .. } => self.decode_output(batch, |decoder, out, batch| {
                out.events.reserve(MOST_EXPECTED.min(count as usize));
                decoder.lines(LinePositions::Counted(first), bytes, out, batch);
            }),
        }
    }

    /// Decodes whole lines. Skips those that were decoded before.
    fn lines(&mut self, positions: LinePositions, lines: &[u8], out: &mut Decoded, batch: &mut DecodedBatch) {
        let (mut start, mut nth) = (0, 0);
        loop {
            // Any number of empty lines costs nothing.
            let empty = lines[start..].iter().take_while(|byte| **byte == b'\n').count();
            if empty > 0 {
                start += empty;
                nth += empty as u64;
                self.state.position = self.state.position.max(positions.of(nth - 1, start));
            }
            let Some(length) = memchr::memchr(b'\n', &lines[start..]) else { return };
            let (line, end) = (&lines[start..start + length], start + length + 1);
            let position = positions.of(nth, end);
            if position > self.state.position {
                self.output_record(position, out, batch, |codec, out| codec.decode(position, line, out));
            }
            (start, nth) = (end, nth + 1);
        }
    }

    /// Decodes output with `decode`, and notes what it says of the process.
    fn decode_output(
        &mut self,
        batch: &mut DecodedBatch,
        decode: impl FnOnce(&mut Self, &mut Decoded, &mut DecodedBatch),
    ) {
        let mut out = Decoded { events: std::mem::take(&mut batch.events), ..Decoded::default() };
        decode(self, &mut out, batch);
        batch.events = out.events;
        self.state.ready |= out.ready;
        self.state.unknown_session |= out.unknown_session;
        batch.notable |= out.ready || out.unknown_session || batch.turn_ended;
    }

    fn output_record(
        &mut self,
        position: u64,
        out: &mut Decoded,
        batch: &mut DecodedBatch,
        decode: impl FnOnce(&mut dyn Codec, &mut Decoded),
    ) {
        let lost = self.lost();
        self.state.position = position;
        let before = out.events.len();
        // The codec adds `Alive` only if there are no events yet. Dropping hidden events record by record makes that
        // independent of how the records were batched.
        decode(self.codec.as_mut(), out);
        if position <= self.published {
            out.events.truncate(before);
        } else if let Some(lost) = lost {
            lost.leave_out(&mut out.events, before);
        }
        let replies = out.replies.drain(..).enumerate();
        batch.replies.extend(replies.map(|(n, line)| (format!("r{position}.{n}"), line)));
        let agent_turn = out.agent_turn.take();
        self.state.agent_turn = agent_turn.unwrap_or(self.state.agent_turn);
        batch.notable |= agent_turn.is_some();
        let turn_ended = std::mem::take(&mut out.turn_ended);
        if turn_ended || agent_turn == Some(false) {
            if !batch.turn_ended && before > 0 {
                batch.before_end = Some(SplitPoint { position: position - 1, events: before });
            }
            batch.turn_ended = true;
        }
        if turn_ended {
            self.turn_ended(batch);
        }
    }

    /// Whether this is the prompt's turn, and open.
    fn is_open(&self, turn: &str) -> bool {
        self.state.turn_open && self.state.prompted.as_ref().is_some_and(|open| open.as_str() == turn)
    }

    /// Handles the record of a command.
    fn delivered(&mut self, meaning: CommandMeaning, batch: &mut DecodedBatch) {
        match meaning {
            CommandMeaning::Start { session } => {
                if session.is_none() && self.state.resume_failed() {
                    batch.events.push(self.memory_lost());
                }
                self.begin_process(session.as_deref());
                self.state.resumed = session.is_some();
                self.state.unsent = self.state.turn_open;
            }
            CommandMeaning::Prompt { turn } => {
                let Ok(turn) = TurnId::parse(&turn) else { return };
                if self.dialect.lifetime() == ProcessLifetime::Prompt {
                    self.begin_process(None);
                }
                self.codec.delivered(Delivered::Prompt(&turn));
                self.state.prompted = Some(turn);
                self.state.turn_open = true;
                (self.state.cancelled, self.state.unsent) = (false, false);
            }
            // Only the hub knows the id of a turn that the agent began by itself, and maybe that there is one. If it is
            // over, the interrupt reaches the prompt's turn.
            CommandMeaning::Cancel { turn }
                if !self.is_open(&turn) && (self.state.agent_turn || !self.state.turn_open) =>
            {
                self.codec.delivered(Delivered::CancelAgentTurn);
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
                self.turn_ended(batch);
                let (outcome, error) = (Outcome::Cancelled, None);
                batch.events.push(AgentEvent::TurnEnded { outcome, error, usage: None, cost: None });
            }
            CommandMeaning::Reply => {}
        }
    }

    /// The notice that the agent begins a new session, because it could not resume the one that it was started with.
    fn memory_lost(&self) -> AgentEvent {
        let stderr = self.state.exited.as_ref().map_or(&[][..], |exited| &exited.stderr);
        let words = self.last_words.sentence(stderr);
        AgentEvent::Notice {
            level: NoticeLevel::Warning,
            code: "memory_lost".into(),
            text: format!("{MEMORY_LOST}{words}"),
            data: None,
        }
    }

    fn begin_process(&mut self, session: Option<&str>) {
        self.state.starts += 1;
        self.state.running = true;
        (self.state.ready, self.state.unknown_session, self.state.closed) = (false, false, false);
        self.state.agent_turn = false;
        self.state.exited = None;
        let codec = self.dialect.codec(&Conversation {
            workspace: &self.workspace,
            prefix: &self.prefix,
            session,
            process: self.state.starts,
        });
        self.set_codec(codec);
    }

    fn exited(&mut self, exited: Exited, batch: &mut DecodedBatch) {
        self.state.running = false;
        let mut out = Decoded { events: std::mem::take(&mut batch.events), ..Decoded::default() };
        let exit_description = describe_end(exited.code, exited.signal);
        let exit = ProcessExit {
            code: exited.code,
            cancelled: self.state.cancelled,
            description: &exit_description,
            last_words: &self.last_words.sentence(&exited.stderr),
        };
        self.codec.exited(&exit, &mut out);
        let left_open = std::mem::take(&mut self.state.agent_turn) && out.agent_turn != Some(false);
        if out.turn_ended {
            if matches!(out.events.last(), Some(AgentEvent::TurnEnded { outcome: Outcome::Failed, .. })) {
                self.last_words.report(&exited.stderr);
            }
            self.turn_ended(batch);
        }
        self.state.exited = Some(exited);
        // When the instance ends, the hub closes what is open. Otherwise the next process knows nothing of the turn.
        if left_open && self.state.end_reason(self.dialect.lifetime()).is_none() {
            let detail = format!("The agent {exit_description}.");
            let error = Some(TurnError { code: "agent_exited".into(), detail });
            out.end_agent_turn(TurnEnding { error, ..Outcome::Interrupted.into() });
            batch.turn_ended = true;
        }
        batch.events = out.events;
    }

    fn turn_ended(&mut self, batch: &mut DecodedBatch) {
        (self.state.turn_open, self.state.unsent) = (false, false);
        self.filter.end(self.state.prompted.as_ref());
        batch.turn_ended = true;
    }
}

#[cfg(test)]
pub(crate) mod tests;
