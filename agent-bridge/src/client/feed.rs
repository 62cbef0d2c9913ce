//! Decodes a host's records and sends their events to the gateway, in large batches. The records come from the host's
//! socket, from the output that the host lends, or from the spool of a dead host.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use switchboard_core::agent::{AgentEvent, AgentRecords};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::{mpsc, watch},
};

use super::{
    cadence::Cadence,
    loan::{Lending, Loan, ReadReason},
};
use crate::{
    BridgeLimits,
    exec::{lines, ports::RecordSink, read_mode::ReadMode},
    host::{
        directory::HostDirectory,
        protocol::{
            Action, CommandHead, CommandMeaning, Frame, Kind, Lent, RECORD_HEAD, SpawnFailure, ToHost,
        },
    },
    session::{DecodedBatch, Record, RecordDecoder, SessionState},
};

/// Progress of a feed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Incremented whenever the instance should review the decoder's state.
    pub(super) notable: u64,
    /// The events of all records up to this position have been sent.
    pub(super) sent: u64,
    /// Whether the host has ended its agent.
    pub(super) ended: bool,
}

/// Why a feed ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FeedEnd {
    /// The host has closed the connection.
    Closed,
    /// A frame is invalid, or records are missing.
    Broken,
}

pub(super) struct Feed<S> {
    decoder: Arc<Mutex<RecordDecoder>>,
    /// Always locked before the decoder.
    lending: Arc<Mutex<Lending>>,
    /// The host's directory.
    directory: HostDirectory,
    /// The agent's output, while it is lent.
    loan: Option<Loan>,
    /// Whether the host can lend the output.
    lends: bool,
    /// Whether to ask for the output next.
    asks: bool,
    sink: S,
    /// Sender of messages to the host; closed when the instance ends.
    messages: mpsc::WeakUnboundedSender<Bytes>,
    progress: watch::Sender<Progress>,
    mode: watch::Receiver<ReadMode>,
    limits: BridgeLimits,
    cadence: Cadence,
    /// The position of the newest checkpoint that the log has.
    committed: watch::Receiver<u64>,
}

/// What an instance shares with its feed.
pub(super) struct FeedHandle {
    decoder: Arc<Mutex<RecordDecoder>>,
    /// Always locked before the decoder.
    lending: Arc<Mutex<Lending>>,
    /// Whether events are wanted. The feed drops them when this is dropped.
    pub(super) mode: watch::Sender<ReadMode>,
    pub(super) progressed: watch::Receiver<Progress>,
}

impl FeedHandle {
    pub(super) fn decoder(&self) -> MutexGuard<'_, RecordDecoder> {
        lock(&self.decoder)
    }

    /// Must not be called while the decoder is locked.
    pub(super) fn lending(&self) -> MutexGuard<'_, Lending> {
        lock(&self.lending)
    }
}

/// What happens next.
enum FeedEvent {
    /// The host has sent bytes, or closed the connection.
    Host(std::io::Result<usize>),
    /// The log has a newer checkpoint.
    Committed,
    /// The lent output may contain more.
    Output(std::io::Result<ReadReason>),
}

impl<S: RecordSink> Feed<S> {
    /// Makes the feed of an instance. `messages` go to the host, which lends the agent's output if `lends`; for the
    /// spool of a dead host the channel is closed. `committed` is the position of the newest checkpoint that the log
    /// has.
    pub(super) fn new(
        limits: &BridgeLimits,
        directory: HostDirectory,
        decoder: RecordDecoder,
        sink: S,
        messages: mpsc::WeakUnboundedSender<Bytes>,
        lends: bool,
        committed: watch::Receiver<u64>,
    ) -> (Self, FeedHandle) {
        let (decoder, lending) = (Arc::new(Mutex::new(decoder)), Arc::default());
        let (mode, watched) = watch::channel(ReadMode::Live);
        let (progress, progressed) = watch::channel(Progress::default());
        let handle =
            FeedHandle { decoder: Arc::clone(&decoder), lending: Arc::clone(&lending), mode, progressed };
        let feed = Self {
            decoder,
            lending,
            directory,
            loan: None,
            lends,
            asks: true,
            sink,
            messages,
            progress,
            mode: watched,
            limits: limits.clone(),
            cadence: Cadence::new(limits),
            committed,
        };
        (feed, handle)
    }

    /// Reads until the host closes the connection or a frame is invalid. Returns the feed and the reason.
    pub(super) async fn run(
        mut self,
        mut host: impl AsyncRead + Unpin,
        mut buffer: BytesMut,
    ) -> (Self, FeedEnd) {
        // The log has what an earlier gateway decoded.
        let position = self.position();
        self.progress.send_modify(|progress| progress.sent = position);
        loop {
            if self.take(&mut buffer).await.is_err() {
                return (self, FeedEnd::Broken);
            }
            self.take_lines().await;
            if std::mem::take(&mut self.asks) && self.lends {
                self.borrow();
            }
            buffer.reserve(self.limits.read_bytes);
            match self.next(&mut host, &mut buffer).await {
                FeedEvent::Host(Ok(0) | Err(_)) => return (self, FeedEnd::Closed),
                FeedEvent::Host(Ok(_)) => {}
                FeedEvent::Committed => self.let_go(),
                FeedEvent::Output(reason) => self.look(reason),
            }
        }
    }

    async fn next(&mut self, host: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut) -> FeedEvent {
        let loan = self.loan.as_ref();
        tokio::select! {
            biased;
            Ok(()) = self.committed.changed() => FeedEvent::Committed,
            read = host.read_buf(buffer) => FeedEvent::Host(read),
            reason = async { match loan {
                Some(loan) => loan.ready().await,
                None => std::future::pending().await,
            } } => FeedEvent::Output(reason),
        }
    }

    /// Lets the host drop records whose checkpoint the log has.
    fn let_go(&mut self) {
        let position = *self.committed.borrow_and_update();
        match &mut self.loan {
            Some(loan) => loan.committed(position),
            None => self.send_to_host(&ToHost::Trim { before: position + 1 }),
        }
        self.discard();
    }

    fn discard(&mut self) {
        let Some(loan) = &mut self.loan else { return };
        let lending = lock(&self.lending);
        let in_turn = lock(&self.decoder).state().in_turn();
        if let Some(message) = loan.discard(in_turn) {
            if !in_turn && lending.may_go_on() {
                // The bytes may be all from which the host can learn that no turn is open.
                self.send_to_host(&ToHost::Idle);
            }
            self.send_to_host(&message);
        }
    }

    /// Reads new bytes of the lent output.
    fn look(&mut self, reason: std::io::Result<ReadReason>) {
        let lending = lock(&self.lending);
        let Some(loan) = self.loan.as_mut().filter(|_| lending.is_lent()) else {
            self.loan = None;
            return;
        };
        let in_turn = lock(&self.decoder).state().in_turn();
        let goes_on = reason.and_then(|reason| loan.read(reason, in_turn));
        drop(lending);
        match goes_on {
            Ok(true) => {}
            // The host reports how the agent ended.
            Ok(false) => self.give_back(),
            Err(error) => self.cannot_borrow(&error),
        }
        self.discard();
    }

    /// Asks for the output, unless it is lent already.
    fn borrow(&self) {
        let mut lending = lock(&self.lending);
        let (position, running) = {
            let decoder = self.decoder();
            (decoder.state().position, decoder.state().running)
        };
        if let Some(message) = running.then(|| lending.ask(position)).flatten() {
            self.send_to_host(&message);
        }
    }

    fn give_back(&mut self) {
        self.loan = None;
        let mut lending = lock(&self.lending);
        if let Some(message) = lending.give_back() {
            self.send_to_host(&message);
            // Trims what the log has received while the output was lent.
            self.send_to_host(&ToHost::Trim { before: *self.committed.borrow() + 1 });
        }
    }

    fn cannot_borrow(&mut self, error: &std::io::Error) {
        tracing::info!(%error, "an agent's output cannot be read here; its host passes it on");
        self.lends = false;
        self.give_back();
    }

    /// Handles a host's frame about the lent output.
    async fn lending_changed(&mut self, frame: &Frame) {
        if frame.kind == Kind::Lent {
            let position = self.decoder().state().position;
            let lent = serde_json::from_slice::<Lent>(&frame.payload);
            let Some(lent) = lent.ok().filter(|lent| lent.next == position + 1) else {
                return self.give_back();
            };
            if !lock(&self.lending).lent() {
                return;
            }
            let longest = self.limits.host.start;
            match Loan::take(self.directory.clone(), lent, longest).await {
                Ok(loan) => self.loan = Some(loan),
                Err(error) => self.cannot_borrow(&error),
            }
        } else if frame.kind == Kind::Recall {
            self.give_back();
        } else if frame.kind == Kind::Discarded
            && let (Some(loan), Ok(bytes)) = (&mut self.loan, frame.payload.as_ref().try_into())
        {
            loan.discarded(u64::from_le_bytes(bytes));
        }
    }

    fn decoder(&self) -> MutexGuard<'_, RecordDecoder> {
        lock(&self.decoder)
    }

    /// See [`RecordDecoder::skip_to`].
    pub(super) fn skip_to(&self, position: u64) {
        self.decoder().skip_to(position);
    }

    /// See [`RecordDecoder::found_first`].
    pub(super) fn found_first(&self, first: u64) {
        self.decoder().found_first(first);
    }

    /// Position of the last decoded record.
    pub(super) fn position(&self) -> u64 {
        self.decoder().state().position
    }

    /// The instance's state according to the decoded records.
    pub(super) fn state(&self) -> SessionState {
        self.decoder().state().clone()
    }

    /// Takes all whole frames off the front of a buffer, decodes them and sends their events.
    pub(super) async fn take(&mut self, buffer: &mut BytesMut) -> Result<(), FeedEnd> {
        // The longest frame: the longest line, and the bytes that were read together with its end.
        let longest = self.limits.record_bytes + self.limits.read_bytes + RECORD_HEAD;
        let about = self.limits.read_bytes.min(self.cadence.bytes());
        loop {
            let mut batch = DecodedBatch::default();
            let (mut bytes, mut ended, mut stuck) = (0, false, false);
            let mut about_loan = None;
            {
                let mut lending = lock(&self.lending);
                let mut decoder = lock(&self.decoder);
                while bytes < about {
                    let Some(frame) = Frame::next(buffer, longest).map_err(|_| FeedEnd::Broken)? else {
                        break;
                    };
                    bytes += RECORD_HEAD + frame.payload.len();
                    if frame.count > 0 && frame.first > decoder.state().position + 1 {
                        return Err(FeedEnd::Broken);
                    }
                    ended |= frame.kind == Kind::Ended;
                    stuck |= frame.kind == Kind::Stuck;
                    if matches!(frame.kind, Kind::Lent | Kind::Discarded | Kind::Recall) {
                        about_loan = Some(frame);
                        break;
                    }
                    if frame.kind == Kind::Command {
                        lending.came_back(&frame.payload);
                    } else if frame.kind == Kind::Known {
                        lending.was_known(&frame.payload);
                    }
                    decode(&frame, &mut decoder, &mut batch);
                }
            }
            if bytes == 0 {
                return Ok(());
            }
            if stuck && batch.events.is_empty() {
                // The agent is silent because the disk is full, so it must not be taken for a hanging agent.
                batch.events.push(AgentEvent::Alive);
            }
            self.hand_on(batch, bytes, ended).await;
            if let Some(frame) = about_loan {
                self.lending_changed(&frame).await;
            }
        }
    }

    /// Decodes whole lines of the lent output and sends their events.
    async fn take_lines(&mut self) {
        while let Some((batch, bytes)) = self.decode_lines() {
            self.hand_on(batch, bytes, false).await;
        }
        let longest = self.limits.spooled_record_bytes();
        if self.loan.as_ref().is_some_and(|loan| loan.is_too_long(longest)) {
            self.give_back();
        }
    }

    /// Decodes some lines. Returns their events and their number of bytes.
    fn decode_lines(&mut self) -> Option<(DecodedBatch, usize)> {
        let longest = self.limits.spooled_record_bytes();
        let about = self.limits.read_bytes.min(self.cadence.bytes());
        let mut lending = lock(&self.lending);
        if !lending.is_lent() {
            self.loan = None;
        }
        let loan = self.loan.as_mut().filter(|_| lending.may_go_on())?;
        let payload = loan.lines(about, longest)?;
        let bytes = payload.len();
        let mut decoder = lock(&self.decoder);
        let first = decoder.state().position + 1;
        let count = lines::count(payload);
        let mut batch = DecodedBatch::default();
        decoder.record(first, Record::Output { count, bytes: payload }, &mut batch);
        loan.decoded(bytes);
        lending.decoded += bytes as u64;
        Some((batch, bytes))
    }

    async fn hand_on(&mut self, mut batch: DecodedBatch, bytes: usize, ended: bool) {
        for (id, mut line) in batch.replies {
            line.push(b'\n');
            let head =
                CommandHead { id, action: Action::Write, opens_turn: false, meaning: CommandMeaning::Reply };
            let mut lending = lock(&self.lending);
            let position = self.decoder().state().position;
            self.send_to_host(&lending.command(head, line.into(), position));
        }
        // Before the records: a client that receives a turn's end may send the next prompt at once, and by then the
        // instance must know that the turn has ended.
        if batch.notable {
            self.progress.send_modify(|progress| progress.notable += 1);
            self.asks = true;
            if let Some(loan) = &mut self.loan {
                loan.expect_soon();
            }
        }
        let most = self.loan.as_ref().map_or(u64::MAX, Loan::checkpoint_bytes);
        let due = self.cadence.is_due_after(bytes as u64, batch.turn_ended, most);
        let (position, checkpoint) = {
            let decoder = self.decoder();
            // A checkpoint of its own needs a position of its own.
            let is_new = decoder.state().position > self.progress.borrow().sent;
            let due = due && is_new && !decoder.is_published();
            (decoder.state().position, if due { decoder.checkpoint() } else { None })
        };
        // The end of a turn is published only when it is on disk. Events before it need not wait for that.
        if let Some(cut) = batch.before_end {
            let rest = batch.events.split_off(cut.events);
            let events = std::mem::replace(&mut batch.events, rest);
            self.send(AgentRecords { position: cut.position, events, checkpoint: None }).await;
        }
        if checkpoint.is_some() {
            self.cadence.restart();
            if let Some(loan) = &mut self.loan {
                loan.checkpointed(position, lock(&self.lending).decoded);
            }
        }
        // Output without events needs checkpoints as well: what is behind them makes room in the spool.
        if !batch.events.is_empty() || checkpoint.is_some() {
            self.send(AgentRecords { position, events: batch.events, checkpoint }).await;
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
            // If the gateway is gone, the instance gets `AgentControl::Stop`.
            _ = self.sink.send(records) => {}
        }
    }

    fn send_to_host(&self, message: &ToHost) {
        if let Some(messages) = self.messages.upgrade() {
            // If the host is gone, the connection ends.
            let _ = messages.send(message.encode());
        }
    }
}

/// Decodes a frame from a host, if it is a record.
fn decode(frame: &Frame, decoder: &mut RecordDecoder, batch: &mut DecodedBatch) {
    let payload = frame.payload.as_ref();
    let record = match frame.kind {
        Kind::Output => Record::Output { count: frame.count, bytes: payload },
        Kind::Command => {
            let head = serde_json::from_slice::<CommandHead>(payload);
            Record::Command(head.map_or(CommandMeaning::Reply, |head| head.meaning))
        }
        Kind::SpawnFailed => {
            Record::SpawnFailed(serde_json::from_slice(payload).unwrap_or(SpawnFailure::Other))
        }
        Kind::Exited => Record::Exited(serde_json::from_slice(payload).unwrap_or_default()),
        Kind::OutputClosed => Record::OutputClosed,
        Kind::Skipped => {
            // A host of an earlier version says no more, and ends the agent.
            let (bytes, prefix) = payload
                .split_first_chunk()
                .map_or((0, &[][..]), |(bytes, prefix)| (u64::from_le_bytes(*bytes), prefix));
            Record::Skipped { bytes, prefix }
        }
        Kind::Hello
        | Kind::Ended
        | Kind::Stuck
        | Kind::Lent
        | Kind::Discarded
        | Kind::Recall
        | Kind::Known => return,
    };
    if frame.count > 0 {
        decoder.record(frame.first, record, batch);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
