//! A connection's outbox: bounded in bytes, filled by the engine, emptied by the transport's writer.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use switchboard_core::{Close, Offered, ids::ConnId, wire::Frame};
use tokio::sync::{Notify, mpsc};

use crate::lifecycle::Lifecycle;

/// How many bytes of frames the writer takes at once; frames still in the queue can be dropped when the connection is
/// closed.
const BATCH_BYTES: usize = 128 * 1024;

/// The capacity, in frames, that queues retain: after a burst, a larger buffer is freed.
const RETAINED_FRAMES: usize = 256;

/// The queue that the engine and the writer share.
#[derive(Debug)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    /// The writer waits here for frames.
    filled: Notify,
    /// The task that reads from the peer waits here for room: a client that does not read its answers cannot send
    /// more requests.
    emptied: Notify,
    progress: Progress,
    limit: usize,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Frame>,
    /// Bytes in the queue or taken by the writer.
    bytes: usize,
    /// Bytes taken by the writer and not written yet.
    in_hand: usize,
    /// An event was refused, and so are all later ones until the hub knows that the outbox has drained.
    refusing: bool,
    watched: bool,
    close: Option<Close>,
}

impl State {
    /// Whether all frames were written to the peer's socket.
    fn is_written(&self) -> bool {
        self.queue.is_empty() && self.in_hand == 0
    }

    fn drop_queue(&mut self) {
        self.queue.clear();
        self.bytes = self.in_hand;
    }
}

/// When a peer last accepted a byte. Transports call [`Progress::touch`] whenever a write makes progress.
#[derive(Debug, Clone)]
pub struct Progress {
    began: Instant,
    at_ms: Arc<AtomicU64>,
}

impl Progress {
    fn new() -> Self {
        Self { began: Instant::now(), at_ms: Arc::new(AtomicU64::new(0)) }
    }

    /// Records that the peer has just accepted at least one byte.
    pub fn touch(&self) {
        self.at_ms.store(self.elapsed_ms(), Ordering::Relaxed);
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn silent_ms(&self) -> u64 {
        self.elapsed_ms().saturating_sub(self.at_ms.load(Ordering::Relaxed))
    }
}

impl Outbox {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            state: Mutex::new(State::default()),
            filled: Notify::new(),
            emptied: Notify::new(),
            progress: Progress::new(),
            limit,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that can panic leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a frame that must not be refused. A full outbox instead stops the reading from the peer.
    pub(crate) fn push(&self, frame: Frame) {
        let mut state = self.state();
        if state.close.is_none() {
            self.enqueue(&mut state, frame);
        }
    }

    /// Queues events of the log, in order, while they fit; an outbox that is at most half full accepts an event of
    /// any size. Returns the first number of the first event that it refused.
    pub(crate) fn offer(&self, events: &[Offered]) -> Option<u64> {
        let mut state = self.state();
        if state.close.is_some() {
            return None;
        }
        for event in events {
            let fits = self.has_room(&state) || state.bytes + event.frame.len() <= self.limit;
            if state.refusing || !fits {
                state.refusing = true;
                return Some(event.first_seq);
            }
            self.enqueue(&mut state, event.frame.clone());
        }
        None
    }

    fn has_room(&self, state: &State) -> bool {
        state.bytes <= self.limit / 2
    }

    fn enqueue(&self, state: &mut State, frame: Frame) {
        state.bytes += frame.len();
        if state.is_written() {
            self.progress.touch();
        }
        if state.queue.is_empty() {
            self.filled.notify_one();
        }
        state.queue.push_back(frame);
    }

    /// Accepts events again. Called when the hub learns that the outbox has drained.
    pub(crate) fn accept_again(&self) {
        self.state().refusing = false;
    }

    /// Whether there is room now. If not, the writer reports [`Lifecycle::Drained`] once there is.
    pub(crate) fn watch(&self) -> bool {
        let mut state = self.state();
        if self.has_room(&state) {
            return true;
        }
        state.watched = true;
        false
    }

    /// Asks the writer to close the connection. Queued frames are dropped, unless `close` says to drain them.
    pub(crate) fn close(&self, close: Close) {
        let mut state = self.state();
        if state.is_written() && state.close.is_none() {
            self.progress.touch();
        }
        if !close.drain {
            state.drop_queue();
        }
        state.close.get_or_insert(close);
        self.filled.notify_one();
        self.emptied.notify_one();
    }

    /// Stops draining because the peer accepts nothing. Returns false if the connection is not being closed.
    pub(crate) fn cut(&self) -> bool {
        let mut state = self.state();
        let Some(close) = &mut state.close else { return false };
        close.drain = false;
        state.drop_queue();
        self.filled.notify_one();
        true
    }

    /// For how many milliseconds the peer has accepted nothing although bytes, or the end of the connection, are waiting.
    pub(crate) fn stalled_ms(&self) -> u64 {
        let state = self.state();
        if state.is_written() && state.close.is_none() { 0 } else { self.progress.silent_ms() }
    }

    /// Waits until the outbox is small enough for the peer to send more requests.
    pub(crate) async fn wait_for_room(&self) {
        while self.must_wait() {
            // `Notify` stores one notification, so a notification since the check is not lost.
            self.emptied.notified().await;
        }
    }

    /// Whether the connection is being closed.
    pub(crate) fn is_closing(&self) -> bool {
        self.state().close.is_some()
    }

    fn must_wait(&self) -> bool {
        let state = self.state();
        state.bytes > 2 * self.limit && state.close.is_none()
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress.clone()
    }
}

/// What a transport's writer has to do next.
#[derive(Debug)]
pub enum WriterStep {
    /// Write the frames, flush, and call [`OutboxReader::written`].
    Frames,
    /// Finish the frames that are being written, and close the connection for this reason.
    Close(Close),
}

/// The end of an outbox from which a transport's writer takes frames.
#[derive(Debug)]
pub struct OutboxReader {
    outbox: Arc<Outbox>,
    conn: ConnId,
    lifecycle: mpsc::UnboundedSender<Lifecycle>,
}

impl OutboxReader {
    pub(crate) fn new(
        outbox: Arc<Outbox>,
        conn: ConnId,
        lifecycle: mpsc::UnboundedSender<Lifecycle>,
    ) -> Self {
        Self { outbox, conn, lifecycle }
    }

    /// Waits for frames and moves queued frames, up to a limit of bytes, into `batch`, which must be empty.
    ///
    /// Cancel safe: no frame is taken until the future is ready.
    pub async fn next(&mut self, batch: &mut Vec<Frame>) -> WriterStep {
        loop {
            if let Some(next) = self.try_next(batch) {
                return next;
            }
            // `Notify` stores one notification, so a notification since the check is not lost.
            self.outbox.filled.notified().await;
        }
    }

    /// Like [`next`](Self::next), but returns `None` if no frame is queued and the connection is not being closed.
    pub fn try_next(&mut self, batch: &mut Vec<Frame>) -> Option<WriterStep> {
        if batch.capacity() > RETAINED_FRAMES {
            *batch = Vec::new();
        }
        let mut state = self.outbox.state();
        if let Some(close) = state.close.as_ref().filter(|_| state.queue.is_empty()) {
            return Some(WriterStep::Close(close.clone()));
        }
        let queued = state.bytes - state.in_hand;
        let bytes = if queued <= BATCH_BYTES {
            batch.extend(state.queue.drain(..));
            queued
        } else {
            let mut bytes = 0;
            while bytes < BATCH_BYTES {
                let Some(frame) = state.queue.pop_front() else { break };
                bytes += frame.len();
                batch.push(frame);
            }
            bytes
        };
        state.in_hand += bytes;
        if state.queue.is_empty() && state.queue.capacity() > RETAINED_FRAMES {
            state.queue = VecDeque::new();
        }
        (bytes > 0).then_some(WriterStep::Frames)
    }

    /// Reports that the last batch was written to the peer's socket, which frees its bytes in the outbox.
    pub fn written(&mut self) {
        self.outbox.progress.touch();
        let mut state = self.outbox.state();
        state.bytes -= std::mem::take(&mut state.in_hand);
        self.outbox.emptied.notify_one();
        if state.watched && self.outbox.has_room(&state) {
            state.watched = false;
            drop(state);
            // A gateway that has gone needs no report.
            let _ = self.lifecycle.send(Lifecycle::Drained(self.conn));
        }
    }

    /// Waits until the connection is to be closed without draining: only the frame that is being written must be
    /// finished.
    ///
    /// Cancel safe.
    pub async fn closed(&mut self) {
        while !self.is_closed() {
            self.outbox.filled.notified().await;
        }
    }

    /// Whether [`closed`](Self::closed) would return at once.
    pub fn is_closed(&self) -> bool {
        self.outbox.state().close.as_ref().is_some_and(|close| !close.drain)
    }

    /// Where the transport reports that its peer accepts bytes.
    pub fn progress(&self) -> Progress {
        self.outbox.progress()
    }
}

#[cfg(test)]
mod tests {
    use switchboard_core::wire::{ControlEvent, encode_control};

    use super::*;

    #[test]
    fn capacity_of_a_flood_is_freed() {
        let outbox = Arc::new(Outbox::new(1 << 20));
        let (lifecycle, _drained) = mpsc::unbounded_channel();
        let mut reader = OutboxReader::new(Arc::clone(&outbox), ConnId(1), lifecycle);
        let mut batch = Vec::new();
        for _ in 0..3 {
            for _ in 0..10_000 {
                outbox.push(encode_control(&ControlEvent::Pong { nonce: None }));
            }
            let mut taken = 0;
            while let Some(WriterStep::Frames) = reader.try_next(&mut batch) {
                taken += batch.drain(..).count();
                reader.written();
            }
            assert_eq!(taken, 10_000);
        }
        // A call that finds no frame frees the capacity of the last batch, too.
        assert!(reader.try_next(&mut batch).is_none());
        assert!(batch.capacity() <= RETAINED_FRAMES, "{}", batch.capacity());
        assert!(outbox.state().queue.capacity() <= RETAINED_FRAMES);
    }
}
