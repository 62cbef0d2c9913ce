//! From a host's socket, or what a dead host left, to the gateway: big reads, one batch for what arrived together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    pub(super) cadence: Cadence,
    /// The position of the newest checkpoint that the log has.
    pub(super) kept: watch::Receiver<u64>,
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
            match self.read(&mut host, &mut buffer).await {
                Ok(0) | Err(_) => return (self, FeedEnd::Closed),
                Ok(_) => {}
            }
        }
    }

    /// Reads more, and meanwhile lets go of what the log has.
    async fn read(
        &mut self,
        host: &mut (impl AsyncRead + Unpin),
        buffer: &mut BytesMut,
    ) -> std::io::Result<usize> {
        loop {
            tokio::select! {
                biased;
                Ok(()) = self.kept.changed() => {
                    let position = *self.kept.borrow_and_update();
                    self.tell(&ToHost::Trim { before: position + 1 });
                }
                read = host.read_buf(buffer) => return read,
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
        let batch = self.limits.read_bytes.min(usize::try_from(self.cadence.every).unwrap_or(usize::MAX));
        loop {
            let mut step = Step::default();
            let (mut bytes, mut ended, mut stuck) = (0, false, false);
            {
                let mut decoder = self.decoder.lock().unwrap_or_else(PoisonError::into_inner);
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
                }
            }
            if bytes == 0 {
                return Ok(());
            }
            if stuck && step.events.is_empty() {
                // The agent is not to be blamed for its silence.
                step.events.push(AgentEvent::Alive);
            }
            self.hand_on(step, bytes, ended).await;
        }
    }

    async fn hand_on(&mut self, mut step: Step, bytes: usize, ended: bool) {
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
        let due = self.cadence.took(bytes as u64, step.turn_ended);
        let (position, checkpoint) = {
            let decoder = self.decoder();
            (decoder.state().position, if due { decoder.checkpoint() } else { None })
        };
        // A turn's end waits for the disk. What was said before it need not.
        if let Some(cut) = step.before_end {
            let rest = step.events.split_off(cut.events);
            let events = std::mem::replace(&mut step.events, rest);
            self.send(AgentRecords { position: cut.position, events, checkpoint: None }).await;
        }
        if !step.events.is_empty() {
            self.send(AgentRecords { position, events: step.events, checkpoint }).await;
        }
        self.progress.send_modify(|progress| {
            progress.sent = position;
            progress.ended |= ended;
        });
    }

    async fn send(&mut self, records: AgentRecords) {
        let unwanted = async {
            let _ = self.mode.wait_for(|mode| *mode == ReadMode::Discard).await;
        };
        tokio::select! {
            biased;
            () = unwanted => {}
            // The gateway having gone shows elsewhere.
            _ = self.sink.send(records) => {}
        }
    }

    fn tell(&self, message: &ToHost) {
        if let Some(messages) = self.messages.upgrade() {
            // A host that has gone shows at the other end.
            let _ = messages.send(message.encode());
        }
    }
}

/// When the decoder's state is due to be kept.
#[derive(Debug)]
pub(super) struct Cadence {
    every: u64,
    since: u64,
}

impl Cadence {
    pub(super) fn new(limits: &BridgeLimits) -> Self {
        let host = &limits.host;
        // Several fit into a spool, so that room is made before it is full.
        Self { every: host.checkpoint_bytes.min(host.spool_bytes / 8), since: 0 }
    }

    /// Records came. Whether a checkpoint is due after them.
    fn took(&mut self, bytes: u64, turn_ended: bool) -> bool {
        self.since += bytes;
        let due = turn_ended || self.since >= self.every;
        if due {
            self.since = 0;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use switchboard_runtime::GatewayGone;

    use super::{
        super::decoder::tests::{frames, new, put},
        *,
    };

    #[derive(Clone, Default)]
    struct Handed(Arc<Mutex<Vec<AgentRecords>>>);

    #[async_trait]
    impl RecordSink for Handed {
        async fn send(&self, records: AgentRecords) -> Result<(), GatewayGone> {
            self.0.lock().unwrap().push(records);
            Ok(())
        }
    }

    async fn handed(decoder: LifeDecoder, bytes: &BytesMut) -> Vec<AgentRecords> {
        let handed = Handed::default();
        let limits = BridgeLimits::default();
        let (_mode, mode) = watch::channel(ReadMode::Live);
        let mut feed = Feed {
            decoder: Arc::new(Mutex::new(decoder)),
            sink: handed.clone(),
            messages: mpsc::unbounded_channel().0.downgrade(),
            progress: watch::channel(Progress::default()).0,
            mode,
            cadence: Cadence::new(&limits),
            limits,
            kept: watch::channel(0).1,
        };
        feed.take(&mut bytes.clone()).await.unwrap();
        std::mem::take(&mut *handed.0.lock().unwrap())
    }

    #[tokio::test]
    async fn what_was_said_does_not_wait_with_the_end_of_its_turn() {
        let mut bytes = BytesMut::new();
        for (n, (kind, count, payload)) in
            (1..).zip(frames(include_str!("../../fixtures/claude/think.jsonl")))
        {
            put(&mut bytes, kind, n, count, &payload);
        }
        let all = handed(new(), &bytes).await;
        let ends = |records: &AgentRecords| {
            records.events.iter().any(|event| matches!(event, AgentEvent::TurnEnded { .. }))
        };
        let [said, end] = &all[..] else { panic!("{all:?}") };
        assert!(said.events.iter().any(|event| matches!(event, AgentEvent::Text { .. })) && !ends(said));
        assert!(ends(end) && said.position < end.position && said.checkpoint.is_none());
        // Whoever has kept the first alone gets the second again, and nothing else.
        let mut decoder = new();
        decoder.hide_to(said.position);
        let again = handed(decoder, &bytes).await;
        assert_eq!(again.iter().flat_map(|records| &records.events).collect::<Vec<_>>(), {
            end.events.iter().collect::<Vec<_>>()
        });
    }
}
