//! From a host's socket, or what a dead host left, to the gateway: big reads, one batch for what arrived together.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::{Bytes, BytesMut};
use switchboard_core::agent::{AgentEvent, AgentRecords};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::{mpsc, watch},
};

use super::decoder::{LifeDecoder, LifeState, Step};
use crate::{
    BridgeLimits,
    driver::{RecordSink, reader::ReadMode},
    host::protocol::{Action, CommandHead, Frame, Kind, RECORD_HEAD, ToHost, Told},
};

/// How far a feed has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Grows whenever the state that the records tell is worth a look.
    pub(super) notable: u64,
    /// What the records up to this position came to has been handed on.
    pub(super) sent: u64,
    /// The host has ended its agent.
    pub(super) ended: bool,
}

/// Why a feed ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FeedEnd {
    /// The host has closed the connection.
    Closed,
    /// What came were no records, or records between are missing.
    Broken,
}

pub(super) struct Feed<S> {
    pub(super) decoder: Arc<Mutex<LifeDecoder>>,
    pub(super) sink: S,
    /// Messages for the host; it ends with the life's supervisor.
    pub(super) messages: mpsc::WeakUnboundedSender<Bytes>,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) mode: watch::Receiver<ReadMode>,
    pub(super) limits: BridgeLimits,
    pub(super) kept: Kept,
}

impl<S: RecordSink> Feed<S> {
    /// Reads until the host closes the connection. Gives itself back, and why it ended.
    pub(super) async fn run(
        mut self,
        mut host: impl AsyncRead + Unpin,
        mut buffer: BytesMut,
    ) -> (Self, FeedEnd) {
        loop {
            if self.take(&mut buffer).await.is_err() {
                return (self, FeedEnd::Broken);
            }
            buffer.reserve(self.limits.read_bytes);
            match host.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return (self, FeedEnd::Closed),
                Ok(_) => {}
            }
        }
    }

    fn decoder(&self) -> MutexGuard<'_, LifeDecoder> {
        self.decoder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// See [`LifeDecoder::found_first`].
    pub(super) fn found_first(&self, first: u64) {
        self.decoder().found_first(first);
    }

    /// The last record that was decoded.
    pub(super) fn position(&self) -> u64 {
        self.decoder().state().position
    }

    /// What the records have told.
    pub(super) fn state(&self) -> LifeState {
        self.decoder().state().clone()
    }

    /// Takes all whole frames off the front of a buffer and hands on what they came to.
    pub(super) async fn take(&mut self, buffer: &mut BytesMut) -> Result<(), FeedEnd> {
        // A frame holds whole lines: at most one of the longest, and what was read with its end.
        let longest = self.limits.record_bytes + self.limits.read_bytes + RECORD_HEAD;
        let batch = self.limits.read_bytes.min(usize::try_from(self.kept.every).unwrap_or(usize::MAX));
        loop {
            let mut step = Step::default();
            let (mut bytes, mut ended, mut opened, mut stuck) = (0, false, false, false);
            {
                let mut decoder = self.decoder.lock().unwrap_or_else(PoisonError::into_inner);
                let was_open = decoder.state().turn_open;
                while bytes < batch {
                    let Some(frame) = Frame::next(buffer, longest).map_err(|_| FeedEnd::Broken)? else {
                        break;
                    };
                    bytes += RECORD_HEAD + frame.payload.len();
                    if frame.count > 0 && frame.first > decoder.state().position + 1 {
                        return Err(FeedEnd::Broken);
                    }
                    ended |= frame.kind == Kind::Ended;
                    stuck |= frame.kind == Kind::Stuck;
                    decoder.record(&frame, &mut step);
                    opened |= !was_open && decoder.state().turn_open;
                }
            }
            if bytes == 0 {
                return Ok(());
            }
            if stuck && step.events.is_empty() {
                // The agent is not to be blamed for its silence.
                step.events.push(AgentEvent::Alive);
            }
            if opened {
                let kept_elsewhere = self.kept.turn_opened();
                self.trim_to(kept_elsewhere);
            }
            self.hand_on(step, bytes, ended).await;
        }
    }

    async fn hand_on(&mut self, step: Step, bytes: usize, ended: bool) {
        for (id, mut line) in step.replies {
            line.push(b'\n');
            let head = CommandHead { id, action: Action::Write, opens_turn: false, told: Told::Reply };
            self.tell(&ToHost::Command { head, bytes: line.into() });
        }
        // Before the records: whoever hears of a turn's end may order the next one at once, and the supervisor
        // must know by then.
        if step.notable {
            self.progress.send_modify(|progress| progress.notable += 1);
        }
        let due = self.kept.took(bytes as u64, step.turn_ended);
        let (position, checkpoint) = {
            let decoder = self.decoder();
            (decoder.state().position, if due { decoder.checkpoint() } else { None })
        };
        if !step.events.is_empty() {
            let kept = checkpoint.is_some();
            let records = AgentRecords { position, events: step.events, checkpoint };
            let sent = {
                let unwanted = async {
                    let _ = self.mode.wait_for(|mode| *mode == ReadMode::Discard).await;
                };
                tokio::select! {
                    biased;
                    () = unwanted => false,
                    sent = self.sink.send(records) => sent.is_ok(),
                }
            };
            if sent && kept {
                let kept_elsewhere = self.kept.handed_over(position);
                self.trim_to(kept_elsewhere);
            }
        }
        self.progress.send_modify(|progress| {
            progress.sent = position;
            progress.ended |= ended;
        });
    }

    fn trim_to(&self, position: Option<u64>) {
        if let Some(position) = position {
            self.tell(&ToHost::Trim { before: position + 1 });
        }
    }

    fn tell(&self, message: &ToHost) {
        if let Some(messages) = self.messages.upgrade() {
            // A host that has gone shows at the other end.
            let _ = messages.send(message.encode());
        }
    }
}

/// Which checkpoints were handed over, to know what the host need not keep.
///
/// What was handed over may not be in the log yet. When a turn opens, all that came before is; within a turn, the
/// records since the last two checkpoints stay, and half of what the spool may hold.
#[derive(Debug)]
pub(super) struct Kept {
    every: u64,
    at_least: u64,
    total: u64,
    since: u64,
    /// Position, and how many bytes had come by then.
    checkpoints: VecDeque<(u64, u64)>,
}

impl Kept {
    pub(super) fn new(limits: &BridgeLimits) -> Self {
        let host = &limits.host;
        let every = host.checkpoint_bytes.min(host.spool_bytes / 8);
        Self { every, at_least: host.spool_bytes / 2, total: 0, since: 0, checkpoints: VecDeque::new() }
    }

    /// A life goes on from a checkpoint that is in the log.
    pub(super) fn restored(&mut self, position: u64) {
        self.checkpoints.push_back((position, 0));
    }

    /// Records came. Whether a checkpoint is due after them.
    fn took(&mut self, bytes: u64, turn_ended: bool) -> bool {
        self.total += bytes;
        self.since += bytes;
        turn_ended || self.since >= self.every
    }

    /// A checkpoint was handed over. Gives the position up to which records may go.
    fn handed_over(&mut self, position: u64) -> Option<u64> {
        self.since = 0;
        self.checkpoints.push_back((position, self.total));
        let mut gone = None;
        while self.checkpoints.len() > 2
            && self.checkpoints.front().is_some_and(|(_, at)| self.total - at >= self.at_least)
        {
            gone = self.checkpoints.pop_front();
        }
        gone.map(|(position, _)| position)
    }

    /// A turn opened.
    fn turn_opened(&mut self) -> Option<u64> {
        let last = self.checkpoints.back().copied();
        self.checkpoints.clear();
        last.map(|(position, _)| position)
    }
}
