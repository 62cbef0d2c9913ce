//! A connection's outbox: bounded in bytes, filled by the hub's loop, emptied by the transport's writer.

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

use crate::engine::Lifecycle;

/// Frames handed to the writer at once, in bytes; what is behind them can still be dropped when the
/// connection is closed.
const BATCH_BYTES: usize = 128 * 1024;

/// Frames for which room is kept: what a burst took beyond it is given back once it has gone out.
const KEPT_FRAMES: usize = 256;

/// The part that the hub's loop and the writer share.
#[derive(Debug)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    /// The writer waits here for frames.
    filled: Notify,
    /// The reader waits here for room: a client that does not read is not listened to.
    emptied: Notify,
    progress: Progress,
    limit: usize,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Frame>,
    /// Bytes queued or in the writer's hands.
    bytes: usize,
    /// Bytes in the writer's hands.
    in_hand: usize,
    /// An event was refused; all further ones are until the hub has heard of the drain.
    refusing: bool,
    watched: bool,
    close: Option<Close>,
}

impl State {
    fn drop_queue(&mut self) {
        self.queue.clear();
        self.bytes = self.in_hand;
    }
}

/// When a peer last took a byte. Transports call [`Progress::touch`] whenever a write makes headway.
#[derive(Debug, Clone)]
pub struct Progress {
    began: Instant,
    at_ms: Arc<AtomicU64>,
}

impl Progress {
    fn new() -> Self {
        Self { began: Instant::now(), at_ms: Arc::new(AtomicU64::new(0)) }
    }

    /// The peer took at least one byte.
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
        // A panic elsewhere leaves nothing half-changed in here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a frame that must not be refused. The peer is not listened to while there is too much.
    pub(crate) fn push(&self, frame: Frame) {
        let mut state = self.state();
        if state.close.is_none() {
            self.enqueue(&mut state, frame);
        }
    }

    /// Takes events of the log, in order, while there is room; an outbox at most half full takes any one. Gives
    /// the first number of the first event that it refused.
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
        if state.queue.is_empty() {
            if state.in_hand == 0 {
                self.progress.touch();
            }
            self.filled.notify_one();
        }
        state.queue.push_back(frame);
    }

    /// The hub has heard that there is room: events are taken again.
    pub(crate) fn accept_again(&self) {
        self.state().refusing = false;
    }

    /// Whether there is room now; otherwise the writer reports when there is.
    pub(crate) fn watch(&self) -> bool {
        let mut state = self.state();
        if self.has_room(&state) {
            return true;
        }
        state.watched = true;
        false
    }

    /// Gives the writer the reason to close. What waits is dropped, unless it is to be drained first.
    pub(crate) fn close(&self, close: Close) {
        let mut state = self.state();
        if !close.drain {
            state.drop_queue();
        }
        state.close.get_or_insert(close);
        self.filled.notify_one();
        self.emptied.notify_one();
    }

    /// Gives up draining for a peer that takes nothing. False if it is not being closed.
    pub(crate) fn cut(&self) -> bool {
        let mut state = self.state();
        let Some(close) = &mut state.close else { return false };
        close.drain = false;
        state.drop_queue();
        self.filled.notify_one();
        true
    }

    /// Milliseconds for which the peer has taken nothing although something waits.
    pub(crate) fn stalled_ms(&self) -> u64 {
        let state = self.state();
        let waits = !state.queue.is_empty() || state.in_hand > 0;
        let goes_on = state.close.as_ref().is_none_or(|close| close.drain);
        if waits && goes_on { self.progress.silent_ms() } else { 0 }
    }

    /// Waits until so little waits to be sent that more may be asked.
    pub(crate) async fn wait_for_room(&self) {
        while self.must_wait() {
            // A notice given since the look is kept for this one waiter.
            self.emptied.notified().await;
        }
    }

    /// Whether the close of the connection is ordered.
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

/// What the writer is to do next.
#[derive(Debug)]
pub enum WriterStep {
    /// Write the frames, flush, and call [`OutboxReader::written`].
    Frames,
    /// Finish what is in flight and close the connection for this reason.
    Close(Close),
}

/// The writer's end of an outbox.
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

    /// Waits for frames and moves those that wait, up to a bound, into `batch`, which must be empty.
    ///
    /// Cancel safe: nothing is taken until it returns.
    pub async fn next(&mut self, batch: &mut Vec<Frame>) -> WriterStep {
        loop {
            if let Some(next) = self.try_next(batch) {
                return next;
            }
            // A notice given since the look is kept for this one waiter.
            self.outbox.filled.notified().await;
        }
    }

    /// What waits now, without waiting for more.
    pub fn try_next(&mut self, batch: &mut Vec<Frame>) -> Option<WriterStep> {
        if batch.capacity() > KEPT_FRAMES {
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
        if state.queue.is_empty() && state.queue.capacity() > KEPT_FRAMES {
            state.queue = VecDeque::new();
        }
        (bytes > 0).then_some(WriterStep::Frames)
    }

    /// The batch is with the peer's socket: its bytes are free again.
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

    /// Waits until the connection is to be closed without draining: the frame in flight is to be finished, and
    /// no more.
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

    /// Where the transport reports that its peer takes bytes.
    pub fn progress(&self) -> Progress {
        self.outbox.progress()
    }
}

#[cfg(test)]
mod tests {
    use switchboard_core::wire::{ControlEvent, encode_control};

    use super::*;

    #[test]
    fn what_a_flood_took_is_given_back() {
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
        // The one that finds nothing any more lets go of the last batch, too.
        assert!(reader.try_next(&mut batch).is_none());
        assert!(batch.capacity() <= KEPT_FRAMES, "{}", batch.capacity());
        assert!(outbox.state().queue.capacity() <= KEPT_FRAMES);
    }
}
