//! A host's records to events, and the state of a life as far as its records tell it.
//!
//! A pure function of the records: the same ones give the same events and the same state again, from the
//! beginning or from a checkpoint.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use switchboard_core::{
    agent::{AgentCommand, AgentEvent},
    ids::{RequestId, TurnId},
    wire::{Outcome, TurnError},
};

use crate::{
    Dialect,
    codec::{ClaudeCodec, Decoded, TextCodec},
    driver::{process::describe_end, stderr_tail::LastWords},
    host::protocol::{CommandHead, CommandMeaning, Exited, Frame, Kind, SpawnFailure},
};

/// Version of the checkpoint's shape. Another one is refused.
const CHECKPOINT_VERSION: u32 = 1;

/// Events that room is made for at once, if a frame has as many lines: growing bit by bit copies what is there.
const MOST_EXPECTED: usize = 1024;

/// Decodes one life's records.
#[derive(Debug)]
pub(super) struct InstanceDecoder {
    dialect: Dialect,
    workspace: PathBuf,
    prefix: String,
    codec: Codec,
    state: InstanceState,
    /// Events of records up to here are known elsewhere.
    shown: u64,
    wanted: TurnFilter,
    last_words: LastWords,
}

/// The turns whose events are wanted.
#[derive(Debug)]
enum TurnFilter {
    All,
    /// This one, as long as it has not ended.
    Only(Option<TurnId>),
}

#[derive(Debug)]
enum Codec {
    Claude(Box<ClaudeCodec>),
    Text(TextCodec),
}

/// What records tell of a life, besides what the codec remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct InstanceState {
    version: u32,
    /// The last record.
    pub(super) position: u64,
    /// Processes that were ordered.
    pub(super) starts: u64,
    /// Whether the last of them has not ended.
    pub(super) running: bool,
    /// Whether it has answered its first request.
    pub(super) ready: bool,
    /// Whether it was to take up a session.
    pub(super) resumed: bool,
    /// It does not know the session that it was to take up.
    pub(super) unknown_session: bool,
    /// It closed its output.
    pub(super) closed: bool,
    /// It wrote a line over the limit.
    pub(super) too_long: bool,
    /// The last prompt that it was given.
    pub(super) prompted: Option<TurnId>,
    /// Whether that turn is open.
    pub(super) turn_open: bool,
    /// Whether that turn was cancelled.
    cancelled: bool,
    /// How the last process ended.
    pub(super) exited: Option<Exited>,
    /// Why a process could not be started.
    pub(super) spawn_failed: Option<SpawnFailure>,
}

#[derive(Serialize, Deserialize)]
struct Checkpoint {
    state: InstanceState,
    codec: Box<RawValue>,
}

/// What a batch of records came to.
#[derive(Debug, Default)]
pub(super) struct DecodedBatch {
    pub(super) events: Vec<AgentEvent>,
    /// Lines that are due to the agent, with ids that derive from positions.
    pub(super) replies: Vec<(String, Vec<u8>)>,
    /// A turn ended in here.
    pub(super) turn_ended: bool,
    /// Where the record that ended the first such turn begins, if something came before it.
    pub(super) before_end: Option<SplitPoint>,
    /// Something that is worth a look at the state.
    pub(super) notable: bool,
}

/// A place between the records of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SplitPoint {
    /// The last record before it.
    pub(super) position: u64,
    /// How many events come before it.
    pub(super) events: usize,
}

impl InstanceDecoder {
    /// For a life that begins. `session` is what it is to take up.
    pub(super) fn new(dialect: Dialect, workspace: &Path, instance: u64, session: Option<&str>) -> Self {
        let prefix = format!("{instance}-");
        let codec = codec(dialect, workspace, &prefix, session, 0);
        let state = InstanceState { version: CHECKPOINT_VERSION, ..InstanceState::default() };
        let (shown, wanted, last_words) = (0, TurnFilter::All, LastWords::default());
        Self { dialect, workspace: workspace.into(), prefix, codec, state, shown, wanted, last_words }
    }

    /// Whose last words an answer may end with.
    pub(super) fn saying(mut self, last_words: LastWords) -> Self {
        self.last_words = last_words;
        self
    }

    /// Goes on from a checkpoint of this life. False: it cannot be read, and nothing has changed.
    pub(super) fn restore(&mut self, checkpoint: &[u8]) -> bool {
        let Ok(Checkpoint { state, codec }) = serde_json::from_slice(checkpoint) else { return false };
        let codec = match self.dialect {
            Dialect::Claude => ClaudeCodec::restore(&self.workspace, codec.get().as_bytes())
                .map(|codec| Codec::Claude(Box::new(codec)))
                .ok(),
            Dialect::Text => serde_json::from_str(codec.get()).map(Codec::Text).ok(),
        };
        let Some(codec) = codec.filter(|_| state.version == CHECKPOINT_VERSION) else { return false };
        self.state = state;
        self.set_codec(codec);
        true
    }

    /// Events of records up to this position are not wanted.
    pub(super) fn hide_to(&mut self, position: u64) {
        self.shown = position;
        if let Codec::Claude(codec) = &mut self.codec {
            codec.set_known(position);
        }
    }

    fn set_codec(&mut self, codec: Codec) {
        self.codec = codec;
        self.hide_to(self.shown);
    }

    /// From here on events of no other turn are wanted: the log has lost those.
    pub(super) fn want_only(&mut self, turn: Option<TurnId>) {
        self.wanted = TurnFilter::Only(turn);
    }

    /// Whether this turn is wanted, and has not ended.
    pub(super) fn wants(&self, turn: &TurnId) -> bool {
        match &self.wanted {
            TurnFilter::All => true,
            TurnFilter::Only(wanted) => wanted.as_ref() == Some(turn),
        }
    }

    /// Whether the agent is in a turn that nobody wants.
    fn is_lost(&self) -> bool {
        self.state.turn_open && self.state.prompted.as_ref().is_some_and(|turn| !self.wants(turn))
    }

    /// The records of this life begin after this position.
    pub(super) fn begin_after(&mut self, position: u64) {
        self.state.position = position;
    }

    /// The records up to this position are lost.
    pub(super) fn pass_over(&mut self, position: u64) {
        self.state.position = self.state.position.max(position);
    }

    /// The first record that there is of this life. Where nothing was decoded and the log knows what comes before,
    /// the life had begun without a host, and the host came later.
    pub(super) fn found_first(&mut self, first: u64) {
        if self.state.position == 0 && first <= self.shown.saturating_add(1) {
            self.state.position = first.saturating_sub(1);
        }
    }

    /// What the records have told.
    pub(super) fn state(&self) -> &InstanceState {
        &self.state
    }

    /// The state after the last record.
    pub(super) fn checkpoint(&self) -> Option<Bytes> {
        let codec = match &self.codec {
            Codec::Claude(codec) => String::from_utf8(codec.checkpoint().into()).ok()?,
            Codec::Text(codec) => serde_json::to_string(codec).ok()?,
        };
        let codec = RawValue::from_string(codec).ok()?;
        serde_json::to_vec(&Checkpoint { state: self.state.clone(), codec }).ok().map(Into::into)
    }

    /// The line that tells the agent; None if there is nothing to tell.
    pub(super) fn line_for(&self, command: &AgentCommand) -> Option<Vec<u8>> {
        match &self.codec {
            Codec::Claude(codec) => codec.line_for(command),
            Codec::Text(_) => None,
        }
    }

    /// Takes the next frame. Those that were decoded before are passed over.
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
        match &mut self.codec {
            Codec::Text(codec) => {
                let before = out.events.len();
                codec.decode(frame.payload.as_ref(), &mut out);
                self.state.position = frame.last();
                if self.state.position <= self.shown || is_lost {
                    out.events.truncate(before);
                }
            }
            Codec::Claude(codec) => {
                out.events.reserve(MOST_EXPECTED.min(frame.count as usize));
                let mut rest = frame.payload.as_ref();
                let mut position = frame.first;
                while let Some(end) = memchr::memchr(b'\n', rest) {
                    let line = &rest[..end];
                    rest = &rest[end + 1..];
                    if position > self.state.position {
                        self.state.position = position;
                        let before = out.events.len();
                        // What is noted as a sign of life, where nothing better has been, must not depend on how
                        // records are batched when they are decoded again: hidden ones are dropped one by one.
                        codec.decode(position, line, &mut out);
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
        let InstanceState { starts, .. } = self.state;
        match told {
            CommandMeaning::Start { session } => {
                self.begin_process();
                self.state.resumed = session.is_some();
                self.set_codec(codec(
                    self.dialect,
                    &self.workspace,
                    &self.prefix,
                    session.as_deref(),
                    starts + 1,
                ));
            }
            CommandMeaning::Prompt { turn } => {
                let Ok(turn) = TurnId::parse(&turn) else { return };
                match &mut self.codec {
                    Codec::Claude(codec) => codec.prompted(&turn),
                    Codec::Text(codec) => {
                        *codec = TextCodec::new(&format!("{}{}", self.prefix, starts + 1));
                        self.begin_process();
                    }
                }
                self.state.prompted = Some(turn);
                self.state.turn_open = true;
                self.state.cancelled = false;
            }
            CommandMeaning::Cancel { .. } => {
                self.state.cancelled = true;
                if let Codec::Claude(codec) = &mut self.codec {
                    codec.cancelled();
                }
            }
            CommandMeaning::Answer { request } => {
                if let (Codec::Claude(codec), Ok(request)) = (&mut self.codec, RequestId::parse(&request)) {
                    codec.answered(&request);
                }
            }
            CommandMeaning::Void { turn } => {
                self.state.prompted = TurnId::parse(&turn).ok();
                self.end_turn(Outcome::Cancelled, None, step);
            }
            CommandMeaning::Reply => {}
        }
    }

    fn begin_process(&mut self) {
        self.state.starts += 1;
        self.state.running = true;
        (self.state.ready, self.state.unknown_session, self.state.closed) = (false, false, false);
        self.state.exited = None;
    }

    fn exited(&mut self, exited: Exited, step: &mut DecodedBatch) {
        self.state.running = false;
        if let Codec::Text(codec) = &mut self.codec {
            let mut out = Decoded { events: std::mem::take(&mut step.events), ..Decoded::default() };
            codec.end(&mut out);
            step.events = out.events;
            let (outcome, error) = match (self.state.cancelled, exited.code) {
                (true, _) => (Outcome::Cancelled, None),
                (false, Some(0)) => (Outcome::Completed, None),
                (false, _) => {
                    let words = self.last_words.report(&exited.stderr);
                    let detail = format!("The command {}.{words}", describe_end(exited.code, exited.signal));
                    (Outcome::Failed, Some(TurnError { code: "agent_exited".into(), detail }))
                }
            };
            self.end_turn(outcome, error, step);
        }
        self.state.exited = Some(exited);
    }

    fn end_turn(&mut self, outcome: Outcome, error: Option<TurnError>, step: &mut DecodedBatch) {
        self.state.turn_open = false;
        self.wanted.end(self.state.prompted.as_ref());
        step.turn_ended = true;
        step.events.push(AgentEvent::TurnEnded { outcome, error, usage: None, cost: None });
    }
}

impl TurnFilter {
    /// A turn has ended.
    fn end(&mut self, turn: Option<&TurnId>) {
        if let Self::Only(wanted) = self {
            wanted.take_if(|wanted| turn == Some(wanted));
        }
    }
}

/// Leaves of the events from here on what is not of a turn.
fn leave_out_turn(events: &mut Vec<AgentEvent>, from: usize) {
    let said = events.split_off(from);
    let of_agent =
        |event: &AgentEvent| matches!(event, AgentEvent::Session { .. } | AgentEvent::Model { .. });
    events.extend(said.into_iter().filter(of_agent));
}

fn codec(dialect: Dialect, workspace: &Path, prefix: &str, session: Option<&str>, start: u64) -> Codec {
    match (dialect, session) {
        (Dialect::Claude, Some(session)) => {
            Codec::Claude(Box::new(ClaudeCodec::resumed(workspace, prefix, session)))
        }
        (Dialect::Claude, None) => Codec::Claude(Box::new(ClaudeCodec::new(workspace, prefix))),
        (Dialect::Text, _) => Codec::Text(TextCodec::new(&format!("{prefix}{start}"))),
    }
}

#[cfg(test)]
pub(super) mod tests;
