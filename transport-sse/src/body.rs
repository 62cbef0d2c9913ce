//! What joins the writer of a stream and the server that sends it: a buffer with two ends.
//!
//! The writer's progress is what the server takes, and the server takes only what its own bounded buffer has room
//! for, so a peer that does not read holds the writer up.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use tokio::io::AsyncWrite;

/// What the buffer holds at most, in bytes.
const BUFFER_BYTES: usize = 16 * 1024;

/// A buffer's two ends.
pub(crate) fn channel() -> (Sink, SseBody) {
    let shared = Shared::default();
    (Sink(shared.clone()), SseBody(shared))
}

#[derive(Debug, Clone, Default)]
struct Shared(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    buffer: BytesMut,
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
        // A panic elsewhere leaves nothing half-changed in here.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// Where the stream is written. Dropped without a shutdown, it breaks the response off.
#[derive(Debug)]
pub(crate) struct Sink(Shared);

/// Sees the server's end go.
#[derive(Debug)]
pub(crate) struct Watch(Shared);

impl Sink {
    pub(crate) fn watch(&self) -> Watch {
        Watch(self.0.clone())
    }
}

impl Watch {
    /// Waits until nobody will take anything any more. Cancel safe.
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

impl AsyncWrite for Sink {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.state();
        if state.server_gone {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        // Only whole refills, so that what the server sends at once is as much as there is.
        if !state.buffer.is_empty() {
            state.to_writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        state.buffer.reserve(wanted.min(BUFFER_BYTES));
        let mut count = 0;
        for slice in slices {
            let taken = slice.len().min(BUFFER_BYTES - count);
            state.buffer.extend_from_slice(&slice[..taken]);
            count += taken;
        }
        wake(&mut state.to_server);
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Ends the response, once the server has taken what there is.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.state();
        if !state.buffer.is_empty() && !state.server_gone {
            state.to_writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.writer = Writer::Done;
        wake(&mut state.to_server);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if state.writer == Writer::Writes {
            state.writer = Writer::GaveUp;
            state.buffer = BytesMut::new();
            wake(&mut state.to_server);
        }
    }
}

/// The response's body.
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
        if !state.buffer.is_empty() {
            // An idle stream keeps no buffer.
            let bytes = std::mem::take(&mut state.buffer).freeze();
            wake(&mut state.to_writer);
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
        state.buffer = BytesMut::new();
        wake(&mut state.to_writer);
        wake(&mut state.to_watch);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn what_is_written_comes_out_in_bounded_pieces() {
        let (mut sink, mut body) = channel();
        let text: Vec<u8> = (0..100_000_u32).map(|at| at.to_le_bytes()[0]).collect();
        let written = text.clone();
        let writing = async {
            sink.write_all(&written).await.unwrap();
            sink.shutdown().await.unwrap();
        };
        let reading = async {
            let mut read = Vec::new();
            while let Some(frame) = body.frame().await {
                let piece = frame.unwrap().into_data().unwrap();
                assert!(!piece.is_empty() && piece.len() <= BUFFER_BYTES);
                read.extend_from_slice(&piece);
            }
            read
        };
        let ((), read) = tokio::join!(writing, reading);
        assert_eq!(read, text);
    }

    #[tokio::test]
    async fn a_writer_that_gives_up_breaks_the_response_off() {
        let (mut sink, mut body) = channel();
        sink.write_all(b"half").await.unwrap();
        drop(sink);
        assert!(body.frame().await.unwrap().is_err());
    }

    #[tokio::test]
    async fn a_server_that_goes_is_seen_by_writer_and_watch() {
        let (mut sink, body) = channel();
        sink.write_all(b"untaken").await.unwrap();
        let watch = sink.watch();
        let gone = async {
            tokio::join!(watch.gone(), async { assert!(sink.write_all(b"more").await.is_err()) });
        };
        let ((), ()) = tokio::join!(gone, async { drop(body) });
    }
}
