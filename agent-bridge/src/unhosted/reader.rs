//! Reads an agent's output in large pieces, and sends all events of one read as one batch.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use switchboard_core::agent::AgentRecords;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::{mpsc, watch},
};

use crate::{
    dialect::Framing,
    exec::{
        input::WeakInput,
        lines::{self, LineSplitter, Piece, SkippedLine},
        ports::RecordSink,
        read_mode::ReadMode,
    },
    limits::BridgeLimits,
    session::{DecodedBatch, Record, RecordDecoder},
};

/// Decodes records, and sends their events to the gateway. Shared by the tasks of an agent instance.
pub(super) struct Recorder<S> {
    state: Arc<Mutex<RecorderState>>,
    /// Locked from the moment in which a batch gets its position until the batch is sent, so that batches are sent in
    /// the order of their positions.
    sending: Arc<tokio::sync::Mutex<()>>,
    sink: S,
    /// Has capacity for one message, which says that the state has changed.
    progress: mpsc::Sender<()>,
}

#[derive(Debug)]
struct RecorderState {
    decoder: RecordDecoder,
    /// Whether a batch was decoded and is not sent yet.
    is_sending: bool,
    /// Whether the instance is to look at the state again when that batch is sent.
    is_awaited: bool,
}

impl<S: RecordSink> Clone for Recorder<S> {
    fn clone(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
            sending: Arc::clone(&self.sending),
            sink: self.sink.clone(),
            progress: self.progress.clone(),
        }
    }
}

/// Access to the decoder.
pub(super) struct DecoderGuard<'a>(MutexGuard<'a, RecorderState>);

impl std::ops::Deref for DecoderGuard<'_> {
    type Target = RecordDecoder;

    fn deref(&self) -> &RecordDecoder {
        &self.0.decoder
    }
}

impl std::ops::DerefMut for DecoderGuard<'_> {
    fn deref_mut(&mut self) -> &mut RecordDecoder {
        &mut self.0.decoder
    }
}

impl<S: RecordSink> Recorder<S> {
    pub(super) fn new(decoder: RecordDecoder, sink: S, progress: mpsc::Sender<()>) -> Self {
        let state = Arc::new(Mutex::new(RecorderState { decoder, is_sending: false, is_awaited: false }));
        Self { state, sending: Arc::default(), sink, progress }
    }

    fn state(&self) -> MutexGuard<'_, RecorderState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The decoder, and the position up to which the events of all records have been sent: 0 while a batch is being
    /// sent. The end of that is reported as progress.
    pub(super) fn review(&self) -> (DecoderGuard<'_>, u64) {
        let mut state = self.state();
        state.is_awaited = state.is_sending;
        let published = if state.is_sending { 0 } else { state.decoder.state().position };
        (DecoderGuard(state), published)
    }

    /// Decodes the next record, which has no events.
    pub(super) fn record(&self, record: Record<'_>) {
        let mut batch = DecodedBatch::default();
        let mut state = self.state();
        let next = state.decoder.state().position + 1;
        state.decoder.record(next, record, &mut batch);
    }

    /// Decodes the next record, and sends its events. If the future is dropped, they count as not sent for ever.
    pub(super) async fn publish(&self, record: Record<'_>) {
        let _sending = self.sending.lock().await;
        let batch = self.decode(record);
        self.send(batch).await;
        self.sent();
    }

    fn decode(&self, record: Record<'_>) -> DecodedBatch {
        let mut batch = DecodedBatch::default();
        let mut state = self.state();
        let next = state.decoder.state().position + 1;
        state.decoder.record(next, record, &mut batch);
        state.is_sending = !batch.events.is_empty();
        drop(state);
        if batch.notable {
            self.has_progressed();
        }
        batch
    }

    async fn send(&self, batch: DecodedBatch) {
        if batch.events.is_empty() {
            return;
        }
        let (position, checkpoint) = {
            let decoder = &self.state().decoder;
            (decoder.state().position, if batch.turn_ended { decoder.checkpoint() } else { None })
        };
        let records = AgentRecords { position, events: batch.events, checkpoint };
        // If the gateway is gone, the next control message is `Stop`.
        let _ = self.sink.send(records).await;
    }

    fn sent(&self) {
        let mut state = self.state();
        state.is_sending = false;
        if std::mem::take(&mut state.is_awaited) {
            drop(state);
            self.has_progressed();
        }
    }

    fn has_progressed(&self) {
        // If the channel is full, the instance is about to look at the state anyway.
        let _ = self.progress.try_send(());
    }
}

/// Reads the output of one process.
pub(super) struct Reader<S> {
    recorder: Recorder<S>,
    framing: Framing,
    lines: LineSplitter,
    /// Where the codec's replies go.
    replies: WeakInput,
    mode: watch::Receiver<ReadMode>,
    limits: BridgeLimits,
}

impl<S: RecordSink> Reader<S> {
    pub(super) fn new(
        recorder: Recorder<S>,
        framing: Framing,
        replies: WeakInput,
        mode: watch::Receiver<ReadMode>,
        limits: BridgeLimits,
    ) -> Self {
        let lines = LineSplitter::new(limits.record_bytes);
        Self { recorder, framing, lines, replies, mode, limits }
    }

    /// Reads until the agent closes its output, or has exited and its output has been silent since.
    pub(super) async fn run(mut self, mut output: impl AsyncRead + Unpin) {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(self.limits.read_bytes);
            let goes_on = self.read(&mut output, &mut buffer).await;
            match self.framing {
                Framing::Reads if buffer.is_empty() => {}
                Framing::Reads => self.decode(Record::Output { count: 1, bytes: &buffer.split() }).await,
                Framing::Lines { .. } => {
                    while let Some(piece) = self.lines.next(&mut buffer) {
                        self.decode_piece(piece).await;
                    }
                    if !goes_on && let Some(last) = self.lines.rest(&mut buffer) {
                        self.decode_piece(last).await;
                    }
                }
            }
            if !goes_on {
                return;
            }
        }
    }

    async fn decode_piece(&mut self, piece: Piece) {
        match piece {
            Piece::Lines(bytes) => {
                let count = lines::count(&bytes);
                self.decode(Record::Output { count, bytes: &bytes }).await;
            }
            Piece::Skipped(SkippedLine { bytes, prefix }) => {
                tracing::warn!(bytes, "a line of the agent is too long and is skipped");
                self.decode(Record::Skipped { bytes, prefix: &prefix }).await;
            }
        }
    }

    /// Reads some bytes into `buffer`. Returns false at the end of the output.
    async fn read(&mut self, output: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut) -> bool {
        let mut limited = output.take(self.limits.read_bytes as u64);
        loop {
            let mode = *self.mode.borrow_and_update();
            let silence = tokio::time::sleep(self.limits.drain);
            tokio::select! {
                biased;
                read = limited.read_buf(buffer) => return read.is_ok_and(|bytes| bytes > 0),
                () = silence, if mode == ReadMode::Drain => return false,
                changed = self.mode.changed() => if changed.is_err() { return false },
            }
        }
    }

    async fn decode(&mut self, record: Record<'_>) {
        let _sending = self.recorder.sending.lock().await;
        // Before the events are sent: a client that receives a turn's end may send the next prompt at once, and by then
        // the instance must know that the turn has ended.
        let mut batch = self.recorder.decode(record);
        for (_, mut reply) in std::mem::take(&mut batch.replies) {
            reply.push(b'\n');
            self.replies.send(reply);
        }
        tokio::select! {
            biased;
            _ = self.mode.wait_for(|mode| *mode == ReadMode::Discard) => {}
            () = self.recorder.send(batch) => {}
        }
        self.recorder.sent();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use switchboard_runtime::GatewayGone;

    use super::*;
    use crate::{dialect, host::protocol::CommandMeaning};

    #[derive(Clone)]
    struct Nowhere;

    #[async_trait::async_trait]
    impl RecordSink for Nowhere {
        async fn send(&self, _: AgentRecords) -> Result<(), GatewayGone> {
            Ok(())
        }
    }

    #[test]
    fn the_instance_learns_that_events_are_sent_if_it_has_found_them_unsent() {
        let (progress, mut progressed) = mpsc::channel(1);
        let decoder = RecordDecoder::new(dialect::TEXT, Path::new("/workspace"), 7, None);
        let recorder = Recorder::new(decoder, Nowhere, progress);
        recorder.record(Record::Command(CommandMeaning::Prompt { turn: "t1".into() }));
        for is_awaited in [false, true, false] {
            let batch = recorder.decode(Record::Output { count: 1, bytes: b"x" });
            assert!(!batch.events.is_empty());
            let _ = progressed.try_recv();
            if is_awaited {
                assert_eq!(recorder.review().1, 0, "not sent yet");
            }
            recorder.sent();
            assert_eq!(progressed.try_recv().is_ok(), is_awaited);
            let (decoder, published) = recorder.review();
            assert_eq!(published, decoder.state().position);
        }
    }
}
