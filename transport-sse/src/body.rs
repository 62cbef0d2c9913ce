//! The body of a stream's response, shared by the stream's writer and the HTTP server.
//!
//! A peer that does not read slows the writer down: the server takes bytes only while its own bounded buffer has
//! room, and the writer's progress is what the server takes. No bytes are copied.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::Frame;
use switchboard_runtime::{OutboxReader, Progress, WriteBatch};
use tokio::time::{Instant, sleep_until};

/// The most bytes that the server gets at once.
const PIECE_BYTES: usize = 32 * 1024;

/// Creates the two ends. `progress` is touched whenever the server takes bytes.
pub(crate) fn channel(progress: Option<Progress>) -> (Sink, SseBody) {
    let shared = Shared(Arc::new(Mutex::new(State { progress, ..State::default() })));
    (Sink(shared.clone()), SseBody(shared))
}

#[derive(Debug, Clone)]
struct Shared(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    in_flight: WriteBatch,
    progress: Option<Progress>,
    writer: Writer,
    server_gone: bool,
    to_server: Option<Waker>,
    to_writer: Option<Waker>,
    to_watch: Option<Waker>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Writer {
    #[default]
    Writes,
    Done,
    GaveUp,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // No code that can panic leaves the state half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// The writer's end. If it is dropped before [`finish`](Self::finish), the response is aborted.
#[derive(Debug)]
pub(crate) struct Sink(Shared);

/// Notices when the server's end is dropped.
#[derive(Debug)]
pub(crate) struct Watch(Shared);

impl Watch {
    /// Waits until the server has dropped the body. Cancel safe.
    pub(crate) async fn gone(&self) {
        poll_fn(|cx| {
            let mut state = self.0.state();
            if state.server_gone {
                return Poll::Ready(());
            }
            state.to_watch = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Sink {
    pub(crate) fn watch(&self) -> Watch {
        Watch(self.0.clone())
    }

    /// Passes a batch to the server, and waits until the server has taken it. If the connection is to be closed
    /// meanwhile, only the frame that has begun is finished, within `close_within`.
    ///
    /// # Errors
    /// [`io::ErrorKind::BrokenPipe`] if the server has dropped the body; [`io::ErrorKind::TimedOut`] if the begun
    /// frame is not taken within `close_within`.
    pub(crate) async fn write(
        &mut self,
        in_flight: WriteBatch,
        outbox: &mut OutboxReader,
        close_within: Duration,
    ) -> io::Result<()> {
        self.put(in_flight);
        tokio::select! {
            biased;
            taken = self.taken() => return taken,
            () = outbox.closed() => {}
        }
        let close_by = Instant::now() + close_within;
        self.0.state().in_flight.keep_only_begun_frame();
        tokio::select! {
            biased;
            taken = self.taken() => taken,
            () = sleep_until(close_by) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Passes the last bytes to the server, and ends the response when the server has taken them.
    ///
    /// # Errors
    /// [`io::ErrorKind::BrokenPipe`] if the server has dropped the body.
    pub(crate) async fn finish(mut self, last: Bytes) -> io::Result<()> {
        self.put(WriteBatch::raw(last));
        self.taken().await?;
        let mut state = self.0.state();
        state.writer = Writer::Done;
        wake(&mut state.to_server);
        Ok(())
    }

    fn put(&mut self, in_flight: WriteBatch) {
        let mut state = self.0.state();
        state.in_flight = in_flight;
        wake(&mut state.to_server);
    }

    /// Waits until the server has taken the whole batch. Cancel safe.
    async fn taken(&self) -> io::Result<()> {
        poll_fn(|cx| {
            let mut state = self.0.state();
            if state.server_gone {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            if state.in_flight.is_empty() {
                return Poll::Ready(Ok(()));
            }
            state.to_writer = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if state.writer == Writer::Writes {
            state.writer = Writer::GaveUp;
            state.in_flight = WriteBatch::default();
            wake(&mut state.to_server);
        }
    }
}

/// The server's end: the body of the response.
#[derive(Debug)]
pub(crate) struct SseBody(Shared);

impl http_body::Body for SseBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let mut state = self.0.state();
        if let Some(bytes) = state.in_flight.take(PIECE_BYTES) {
            if let Some(progress) = &state.progress {
                progress.touch();
            }
            if state.in_flight.is_empty() {
                // Frees the memory of the batch while the stream is idle.
                state.in_flight = WriteBatch::default();
                wake(&mut state.to_writer);
            }
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        let ended = ready!(state.ended(cx));
        Poll::Ready(ended.err().map(Err))
    }
}

impl State {
    fn ended(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        match self.writer {
            Writer::Writes => {
                self.to_server = Some(cx.waker().clone());
                Poll::Pending
            }
            Writer::Done => Poll::Ready(Ok(())),
            Writer::GaveUp => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
        }
    }
}

impl Drop for SseBody {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.server_gone = true;
        state.in_flight = WriteBatch::default();
        wake(&mut state.to_writer);
        wake(&mut state.to_watch);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn what_is_written_comes_out_in_bounded_pieces_that_share_its_memory() {
        let (sink, mut body) = channel(None);
        let text: Bytes = (0..100_000_u32).map(|at| at.to_le_bytes()[0]).collect();
        let writing = sink.finish(text.clone());
        let reading = async {
            let mut read = 0;
            while let Some(frame) = body.frame().await {
                let piece = frame.unwrap().into_data().unwrap();
                assert!(!piece.is_empty() && piece.len() <= PIECE_BYTES);
                let expected = text.slice(read..read + piece.len());
                assert_eq!((piece.as_ptr(), piece.len()), (expected.as_ptr(), expected.len()));
                read += piece.len();
            }
            read
        };
        let (written, read) = tokio::join!(writing, reading);
        written.unwrap();
        assert_eq!(read, text.len());
    }

    #[tokio::test]
    async fn a_writer_that_gives_up_breaks_the_response_off() {
        let (mut sink, mut body) = channel(None);
        sink.put(WriteBatch::raw("half".into()));
        drop(sink);
        assert!(body.frame().await.unwrap().is_err());
    }

    #[tokio::test]
    async fn a_server_that_goes_is_seen_by_writer_and_watch() {
        let (mut sink, body) = channel(None);
        sink.put(WriteBatch::raw("untaken".into()));
        let watch = sink.watch();
        let gone = async {
            tokio::join!(watch.gone(), async { assert!(sink.taken().await.is_err()) });
        };
        let ((), ()) = tokio::join!(gone, async { drop(body) });
    }
}
