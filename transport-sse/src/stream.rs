//! Streams: each is opened by a GET and written by a task of its own; POSTs name the stream by its secret name.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{body::Body, extract::Request, response::Response};
use bytes::Bytes;
use switchboard_core::{
    Peer,
    ids::Principal,
    wire::{ClientEnvelope, CloseCode, ControlEvent, ErrorCode, ErrorEvent, Frame, encode_control},
};
use switchboard_runtime::{
    Admission, Connection, Framing, Gateway, Inbox, OutboxReader, Stopped, WriteBatch, WriterStep, entropy,
};
use tokio::{
    sync::{Mutex as AsyncMutex, Semaphore, watch},
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};

use crate::{
    answer::{self, Refusal},
    body::{Sink, channel},
    chats::Chats,
    options::Options,
    request::{StreamRequest, verified},
    run::Run,
};

/// Sent at intervals, so that no proxy closes the stream as idle. The comment has no blank line after it: some
/// libraries (httpx-sse, for one) report an empty event at each blank line.
const COMMENT: Bytes = Bytes::from_static(b":\n");
/// The most cursors in the ids of one batch of events: with several chats an id can be longer than its event.
const CURSORS: usize = 1024;
/// The reconnection delay of clients that were refused for lack of room or for sending too fast.
const RETRY_LATE: Duration = Duration::from_secs(30);

/// Says when the server should drop the connection of a stream. In the extensions of the stream's response.
#[derive(Debug, Clone)]
pub struct Streaming(watch::Receiver<()>);

impl Streaming {
    /// Waits until the response should be complete. Bytes that are still unsent then belong to a client that does not
    /// read.
    pub async fn over(mut self) {
        // No value is ever sent: the loop ends when the sender is dropped.
        while self.0.changed().await.is_ok() {}
    }
}

/// The open streams, by their secret names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Streams(Arc<Mutex<HashMap<String, Arc<Stream>>>>);

/// An open stream, as POSTs use it.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) principal: Principal,
    /// The lock passes frames on one after another, in the order of their arrival.
    pub(crate) inbox: AsyncMutex<Inbox>,
    pub(crate) posts: Semaphore,
    chats: Mutex<Chats>,
    /// The sender is dropped when the stream ends.
    ended: watch::Receiver<()>,
}

impl Stream {
    pub(crate) fn chats(&self) -> MutexGuard<'_, Chats> {
        self.chats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end of the stream. Cancel safe.
    pub(crate) async fn ended(&self) {
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }
}

impl Streams {
    fn map(&self) -> MutexGuard<'_, HashMap<String, Arc<Stream>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<Stream>> {
        self.map().get(name).cloned()
    }
}

/// Removes a stream from the list when it is dropped, however the stream's task ends.
struct Listed {
    streams: Streams,
    name: String,
    _ended: watch::Sender<()>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.streams.map().remove(&self.name);
    }
}

/// Answers a request for a stream, which a new task serves.
pub(crate) fn open(
    gateway: &Gateway,
    options: &Options,
    streams: &Streams,
    admission: Option<Admission>,
    request: &Request,
) -> Result<Response, Refusal> {
    let principal = verified(admission)?;
    let StreamRequest { chats, client_id } = StreamRequest::of(request, options.chats)?;
    let random = entropy().map_err(|_| Refusal::ENTROPY)?;
    let (over, streaming) = watch::channel(());
    let peer = Peer { principal: principal.clone(), client_id };
    let (options, close_within) = (options.clone(), options.close_within);
    let retry = retry(&options, random[16]);
    let body = match gateway.connect(peer, false) {
        Ok(Connection { inbox, outbox }) => {
            let (sink, body) = channel(Some(outbox.progress()));
            tracing::debug!(conn = %inbox.id(), "a stream is opened");
            let (ended_sender, ended) = watch::channel(());
            let name: String = random[..16].iter().map(|byte| format!("{byte:02x}")).collect();
            let stream = Stream {
                principal,
                inbox: AsyncMutex::new(inbox),
                posts: Semaphore::new(options.unanswered_posts),
                chats: Mutex::new(chats),
                ended,
            };
            let stream = Arc::new(stream);
            streams.map().insert(name.clone(), Arc::clone(&stream));
            let listed = Listed { streams: streams.clone(), name, _ended: ended_sender };
            let serving = serve(stream, listed, outbox, sink, retry, options);
            tokio::spawn(finish(serving, over, close_within));
            body
        }
        Err(Stopped) => {
            let (sink, body) = channel(None);
            let serving = async move {
                last(sink, &stopping(), CloseCode::ServiceRestart, Some(retry), &options).await
            };
            tokio::spawn(finish(serving, over, close_within));
            body
        }
    };
    let mut response = answer::stream(Body::new(body));
    response.extensions_mut().insert(Streaming(streaming));
    Ok(response)
}

/// The reconnection delay of one client. Random, so that not all clients reconnect at the same time.
fn retry(options: &Options, random: u8) -> Duration {
    let (shortest, longest) = options.retry;
    shortest + longest.saturating_sub(shortest).mul_f64(f64::from(random) / 255.0)
}

/// Waits, after a stream has ended, until the server has sent its last bytes. All other resources of the stream are
/// free by then.
async fn finish(serving: impl Future<Output = bool>, over: watch::Sender<()>, within: Duration) {
    if serving.await {
        // After a timeout, too, the response is over: `over` is dropped.
        let _ = timeout(within, over.closed()).await;
    }
}

/// Why a stream ends.
enum Ending {
    /// The client is gone, or reads too slowly.
    Gone,
    /// The stream ends after this event, which stands for this close code.
    Last(Frame, CloseCode),
}

/// Serves a stream to its end. Returns true if the server has all bytes and may still be sending them.
async fn serve(
    stream: Arc<Stream>,
    listed: Listed,
    mut outbox: OutboxReader,
    mut sink: Sink,
    retry: Duration,
    options: Options,
) -> bool {
    let gone = sink.watch();
    let mut retry = Some(retry);
    let ending = tokio::select! {
        biased;
        () = attach(&stream) => return false,
        () = gone.gone() => Ending::Gone,
        ending = write(&stream, &listed.name, &mut sink, &mut outbox, &mut retry, &options) => ending,
    };
    // The gateway learns of the end at once, even if sending the last event takes time.
    drop((outbox, listed, stream));
    match ending {
        Ending::Gone => false,
        Ending::Last(frame, code) => last(sink, &frame, code, retry, &options).await,
    }
}

/// Subscribes to the chats that the request named, before any POST is handled.
async fn attach(stream: &Stream) {
    let inbox = stream.inbox.lock().await;
    let cursors: Vec<_> = stream.chats().cursors().collect();
    for (chat_id, after) in cursors {
        if inbox.envelope(ClientEnvelope::Attach { chat_id, after }).await.is_err() {
            break;
        }
    }
    drop(inbox);
    std::future::pending().await
}

async fn write(
    stream: &Stream,
    name: &str,
    sink: &mut Sink,
    outbox: &mut OutboxReader,
    retry: &mut Option<Duration>,
    options: &Options,
) -> Ending {
    let within = options.close_within;
    let mut comments = interval_at(Instant::now() + options.comment_every, options.comment_every);
    comments.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut batch = Vec::new();
    let mut is_named = false;
    let mut written: io::Result<()> = Ok(());
    loop {
        if let Err(error) = written {
            tracing::debug!(%error, "a stream cannot be written to");
            return Ending::Gone;
        }
        written = tokio::select! {
            biased;
            next = outbox.next(&mut batch) => match next {
                WriterStep::Close(close) => return Ending::Last(close.frame, close.code),
                WriterStep::Frames => {
                    if !is_named && let Some(ready) = batch.first_mut() {
                        is_named = true;
                        *ready = named(ready, name, options);
                    }
                    let written = send_event(stream, sink, outbox, &mut batch, retry, within).await;
                    outbox.written();
                    written
                }
            },
            _ = comments.tick() => sink.write(WriteBatch::raw(COMMENT), outbox, within).await,
        };
    }
}

/// Sends a batch of events.
async fn send_event(
    stream: &Stream,
    sink: &mut Sink,
    outbox: &mut OutboxReader,
    batch: &mut Vec<Frame>,
    retry: &mut Option<Duration>,
    within: Duration,
) -> io::Result<()> {
    loop {
        let (in_flight, later) = {
            let mut events = Events { chats: stream.chats(), run: None, retry: retry.take() };
            let at_once = match events.chats.len() {
                0 | 1 => batch.len(),
                several => batch.len().min(CURSORS / several).max(1),
            };
            let later = batch.split_off(at_once);
            (WriteBatch::frames(&mut events, batch), later)
        };
        sink.write(in_flight, outbox, within).await?;
        // The batch may have been cut short: no event may follow it.
        if later.is_empty() || outbox.is_closed() {
            return Ok(());
        }
        *batch = later;
    }
}

/// Adds the stream's name and its limits to the `ready` event.
fn named(ready: &Frame, name: &str, options: &Options) -> Frame {
    match serde_json::from_slice(ready.bytes()) {
        Ok(ControlEvent::Ready { chat_id, client_id, protocol, mut limits, agent, .. }) => {
            limits.chats_per_connection = limits.chats_per_connection.min(options.chats as u64);
            let stream = Some(name.to_owned());
            encode_control(&ControlEvent::Ready { chat_id, client_id, protocol, limits, agent, stream })
        }
        Ok(_) | Err(_) => ready.clone(),
    }
}

/// Writes one `data:` line for each event, and cursors as event ids.
struct Events<'a> {
    chats: MutexGuard<'a, Chats>,
    /// The current run of deltas, if the stream has only one chat.
    run: Option<Run>,
    /// Written with the first event: some libraries would report a block of its own as an empty event.
    retry: Option<Duration>,
}

impl Framing for Events<'_> {
    const OVERHEAD: usize = 64;

    fn before(&mut self, out: &mut Vec<u8>, frame: &Frame) {
        if let Some(retry) = self.retry.take() {
            put_retry(out, retry);
        }
        if let Some(seq) = self.run.as_mut().and_then(|run| run.put_id(frame, out)) {
            self.chats.advance(seq);
            out.extend_from_slice(b"data: ");
            return;
        }
        // Every event that moves a cursor has an id: the client may get this event and not the next, and then
        // continues from this id.
        if self.chats.note_sent(frame) {
            self.run = if self.chats.len() == 1 { Run::begin(frame) } else { None };
            out.extend_from_slice(b"id: ");
            self.chats.put_id(out);
            out.push(b'\n');
        }
        out.extend_from_slice(b"data: ");
    }

    fn after(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\n\n");
    }
}

/// Sends the last event and ends the response. Returns true if the server may still be sending it.
async fn last(
    sink: Sink,
    frame: &Frame,
    code: CloseCode,
    unsent_retry: Option<Duration>,
    options: &Options,
) -> bool {
    let mut event = Vec::with_capacity(frame.len() + 64);
    if let Some(retry) = if matches!(code, CloseCode::PolicyViolation | CloseCode::TryAgainLater) {
        Some(RETRY_LATE)
    } else {
        unsent_retry
    } {
        put_retry(&mut event, retry);
    }
    event.extend_from_slice(b"data: ");
    event.extend_from_slice(frame.bytes());
    event.extend_from_slice(b"\n\n");
    let sent = matches!(timeout(options.close_within, sink.finish(event.into())).await, Ok(Ok(())));
    if !sent {
        tracing::debug!("a client did not take the last event of its stream");
    }
    sent
}

fn put_retry(out: &mut Vec<u8>, retry: Duration) {
    out.extend_from_slice(format!("retry: {}\n", retry.as_millis()).as_bytes());
}

fn stopping() -> Frame {
    encode_control(&ControlEvent::Error(ErrorEvent {
        code: ErrorCode::ShuttingDown,
        detail: "the gateway is stopping; connect again shortly".to_owned(),
        retryable: true,
        chat_id: None,
        turn_id: None,
        request_id: None,
        retry_after_ms: None,
        close: Some(CloseCode::ServiceRestart.number()),
    }))
}
