//! One connection after its handshake: authentication by the first frame if required, then frames both ways.

use std::{
    io,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use switchboard_core::{
    Limits, Peer,
    ids::Principal,
    wire::{ClientEnvelope, CloseCode, decode},
};
use switchboard_runtime::{
    Admission, Connection, Gateway, Inbox, OutboxReader, Stopped, Verifier, WriteBatch, WriterStep,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        error::CapacityError,
        protocol::{Role, WebSocketConfig},
    },
};

use zeroize::Zeroizing;

use crate::{
    handshake::Accepted,
    options::Options,
    read::{Excess, ReadSide, Shared},
    write::{PING_FRAME, TextFrames, close_frame},
};

/// The read buffer of a connection, in bytes. Small, because the memory of idle connections matters more than the
/// speed of reading.
const READ_BUFFER: usize = 1024;
/// After a message of more than this many bytes, the buffer that it was read into is freed.
const LARGE_MESSAGE: usize = 16 * 1024;
/// How long to wait for the peer's close frame after ours, so that the peer reads ours before the connection is
/// reset.
const LINGER: Duration = Duration::from_secs(2);

/// Why a connection ends, as far as the close frame depends on it.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The peer closed the connection, or is gone.
    Gone,
    /// The peer reads nothing, so a close frame would not reach it.
    Unread,
    /// This side closes the connection with this code and reason.
    Close(CloseCode, String),
}

// Every idle connection keeps the space of this future. So it refers to what connections share, and what is rare is boxed.
pub(crate) async fn run(upgraded: OnUpgrade, accepted: Accepted, gateway: Gateway, options: Arc<Options>) {
    let upgraded = match upgraded.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            tracing::debug!(%error, "an upgrade was not completed");
            return;
        }
    };
    match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => {
            let socket = parts.io.into_inner();
            // Frames are flushed when they are complete; Nagle's algorithm would only delay them.
            if let Err(error) = socket.set_nodelay(true) {
                tracing::debug!(%error, "a socket does not take TCP_NODELAY");
            }
            // Pings show whether the peer is alive. A timeout that the HTTP server set could cut off a close frame.
            #[cfg(target_os = "linux")]
            if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(&socket, 0) {
                tracing::debug!(%error, "a socket does not take TCP_USER_TIMEOUT");
            }
            let (reader, writer) = socket.into_split();
            serve(reader, writer, parts.read_buf, accepted, &gateway, &options).await;
        }
        Err(upgraded) => Box::pin(generic(upgraded, accepted, &gateway, &options)).await,
    }
}

/// Serves a connection over TLS, or over any other stream of the application's HTTP server.
async fn generic(upgraded: Upgraded, accepted: Accepted, gateway: &Gateway, options: &Options) {
    let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
    serve(reader, writer, Bytes::new(), accepted, gateway, options).await;
}

async fn serve<R, W>(
    reader: R,
    mut writer: W,
    early: Bytes,
    accepted: Accepted,
    gateway: &Gateway,
    options: &Options,
) where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    let shared = Arc::new(Shared::default());
    let allowance = options.unauthenticated_bytes;
    let side = ReadSide::new(reader, early, options.fragments, allowance, Arc::clone(&shared));
    let mut socket =
        WebSocketStream::from_raw_socket(side, Role::Server, Some(config(gateway.limits()))).await;
    let principal = match admit(&mut socket, accepted.admission, gateway.limits(), options).await {
        Ok(principal) => principal,
        Err(Ending::Gone | Ending::Unread) => return,
        Err(Ending::Close(code, reason)) => {
            Box::pin(close(&mut writer, &mut socket, close_frame(code, &reason), options)).await;
            return;
        }
    };
    socket.get_mut().lift_allowance();
    let peer = Peer { principal, client_id: accepted.client_id };
    // A client that offered the subprotocol does not need frames of the older vocabulary.
    let Ok(Connection { inbox, mut outbox }) = gateway.connect(peer, !accepted.with_protocol) else {
        let stopping = close_frame(CloseCode::ServiceRestart, "the gateway is stopping");
        Box::pin(close(&mut writer, &mut socket, stopping, options)).await;
        return;
    };
    // One task reads and writes: the end of either ends both, and an idle connection needs less memory.
    let ending = tokio::select! {
        ending = read(&mut socket, &inbox, &shared, gateway.limits(), options) => ending,
        ending = write(&mut writer, &mut outbox, &shared, options) => ending,
    };
    tracing::debug!(conn = %inbox.id(), ?ending, "a connection ends");
    // tungstenite's reply to the peer's close frame still has to be sent.
    let last = match ending {
        Ending::Close(code, reason) => close_frame(code, &reason),
        Ending::Gone => shared.replies.try_take(),
        Ending::Unread => Bytes::new(),
    };
    Box::pin(close(&mut writer, &mut socket, last, options)).await;
}

pub(crate) fn config(limits: &Limits) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * 1024)
        .max_message_size(Some(limits.frame_bytes))
        .max_frame_size(Some(limits.frame_bytes))
}

async fn admit<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<S>,
    admission: Admission,
    limits: &Limits,
    options: &Options,
) -> Result<Principal, Ending> {
    let verifier = match admission {
        Admission::Verified(principal) => return Ok(principal),
        Admission::FirstFrame(verifier) => verifier,
    };
    let refused = |reason: &str| Ending::Close(CloseCode::Unauthenticated, reason.to_owned());
    match timeout(options.authenticate_within, first_message(socket)).await {
        Err(_) => Err(refused("no credentials came in time")),
        Ok(Some(Ok(Message::Text(text)))) => {
            first_frame(&text, &*verifier, limits).ok_or_else(|| refused("wrong or missing credentials"))
        }
        Ok(Some(Err(error))) => Err(ending_of(&error)),
        Ok(Some(Ok(Message::Close(_))) | None) => Err(Ending::Gone),
        Ok(Some(Ok(_))) => Err(refused("the first frame must be authenticate")),
    }
}

/// Waits for the first message that is no ping or pong. Pings may come at any time (RFC 6455 section 5.5.2), but they
/// do not extend the deadline, and their bytes count.
async fn first_message<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<S>,
) -> Option<Result<Message, Error>> {
    loop {
        let message = socket.next().await;
        if !matches!(message, Some(Ok(Message::Ping(_) | Message::Pong(_)))) {
            return message;
        }
    }
}

fn first_frame(text: &str, verifier: &dyn Verifier, limits: &Limits) -> Option<Principal> {
    let Ok(Some(ClientEnvelope::Authenticate { token })) = decode(text, limits, false) else { return None };
    // Overwritten after the check. tungstenite's own copy of the frame is not.
    let token = Zeroizing::new(token);
    let principal = verifier.verify(&token);
    tracing::debug!(accepted = principal.is_some(), "authentication by first frame");
    principal
}

/// Replaces a `WebSocketStream` by a new one, because the old one never frees the buffer that a large message was
/// read into. Call this function only when everything that arrived was read and no message is open: then no state is
/// lost.
async fn free_buffer<R: AsyncRead + Unpin>(socket: &mut WebSocketStream<ReadSide<R>>, limits: &Limits) {
    let side = socket.get_mut().take();
    *socket = WebSocketStream::from_raw_socket(side, Role::Server, Some(config(limits))).await;
}

async fn read<R: AsyncRead + Unpin>(
    socket: &mut WebSocketStream<ReadSide<R>>,
    inbox: &Inbox,
    shared: &Shared,
    limits: &Limits,
    options: &Options,
) -> Ending {
    // One timer for all messages: a ping between fragments does not extend the deadline.
    let mut unfinished = pin!(unfinished(shared, options));
    let mut has_large_buffer = false;
    loop {
        let at_once = if has_large_buffer { socket.next().now_or_never() } else { None };
        if has_large_buffer && at_once.is_none() && shared.open_message.load(Ordering::Relaxed) == 0 {
            Box::pin(free_buffer(socket, limits)).await;
            has_large_buffer = false;
        }
        let message = tokio::select! {
            message = async { if let Some(message) = at_once { message } else { socket.next().await } } => message,
            () = &mut unfinished => {
                return Ending::Close(CloseCode::PolicyViolation, "the rest of a message did not come in time".to_owned());
            }
        };
        has_large_buffer |= matches!(&message, Some(Ok(message)) if message.len() > LARGE_MESSAGE);
        let taken = match message {
            Some(Ok(Message::Text(text))) => inbox.text(&text).await,
            Some(Ok(Message::Binary(bytes))) => inbox.binary(&bytes).await,
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(()),
            Some(Ok(Message::Close(_))) => {
                // tungstenite writes its reply only when it is polled again; no further message follows.
                let _ = socket.next().await;
                return Ending::Gone;
            }
            None => return Ending::Gone,
            Some(Err(error)) => return ending_of(&error),
        };
        if let Err(Stopped) = taken {
            return Ending::Close(CloseCode::ServiceRestart, "the gateway is stopping".to_owned());
        }
    }
}

/// Resolves when a message that has begun is still incomplete after `message_within`.
async fn unfinished(shared: &Shared, options: &Options) {
    let mut seen = 0;
    loop {
        tokio::time::sleep(options.message_within).await;
        let open = shared.open_message.load(Ordering::Relaxed);
        if open != 0 && open == seen {
            return;
        }
        seen = open;
    }
}

pub(crate) fn ending_of(error: &Error) -> Ending {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { max_size, .. }) => {
            Ending::Close(CloseCode::TooLarge, format!("a frame is over the limit of {max_size} bytes"))
        }
        Error::Capacity(_) => Ending::Close(CloseCode::TooLarge, "a frame is too large".to_owned()),
        Error::Protocol(error) => Ending::Close(CloseCode::ProtocolError, error.to_string()),
        Error::Utf8(_) => Ending::Close(CloseCode::InvalidPayload, "a text frame is not UTF-8".to_owned()),
        Error::Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<Excess>()) {
            Some(Excess::Unauthenticated) => {
                Ending::Close(CloseCode::Unauthenticated, Excess::Unauthenticated.to_string())
            }
            Some(Excess::Fragments) => {
                Ending::Close(CloseCode::PolicyViolation, Excess::Fragments.to_string())
            }
            Some(Excess::Pings) => Ending::Unread,
            None => Ending::Gone,
        },
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Tls(_)
        | Error::WriteBufferFull(_)
        | Error::AttackAttempt
        | Error::Url(_)
        | Error::Http(_)
        | Error::HttpFormat(_) => Ending::Gone,
    }
}

async fn write<W: AsyncWrite + Unpin>(
    io: &mut W,
    outbox: &mut OutboxReader,
    shared: &Shared,
    options: &Options,
) -> Ending {
    let (progress, within) = (outbox.progress(), options.close_within);
    let mut batch = Vec::new();
    let mut ping = interval_at(Instant::now() + options.ping_every, options.ping_every);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pong_by: Option<Instant> = None;
    loop {
        let silence = async {
            match pong_by {
                Some(by) => tokio::time::sleep_until(by).await,
                None => std::future::pending().await,
            }
        };
        let written: io::Result<()> = tokio::select! {
            biased;
            replies = shared.replies.take() => WriteBatch::raw(replies).write(io, outbox, &progress, within).await,
            next = outbox.next(&mut batch) => match next {
                WriterStep::Close(close) => return Ending::Close(close.code, close.reason),
                WriterStep::Frames => {
                    let written = WriteBatch::frames(&mut TextFrames, &mut batch).write(io, outbox, &progress, within).await;
                    outbox.written();
                    written
                }
            },
            // Only after the last ping was answered: a new ping would extend the deadline of the old one.
            _ = ping.tick(), if pong_by.is_none() => {
                shared.received.store(false, Ordering::Relaxed);
                pong_by = Some(Instant::now() + options.pong_within);
                WriteBatch::raw(PING_FRAME).write(io, outbox, &progress, within).await
            }
            () = silence => {
                pong_by = None;
                if !shared.received.load(Ordering::Relaxed) {
                    return Ending::Close(CloseCode::GoingAway, "no sign of life".to_owned());
                }
                Ok(())
            }
        };
        if let Err(error) = written {
            tracing::debug!(%error, "a peer cannot be written to");
            return Ending::Gone;
        }
    }
}

/// Sends the last frame, then reads for a moment: closing a socket with unread bytes resets the connection, and the
/// peer would not see the close frame.
pub(crate) async fn close<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    writer: &mut W,
    socket: &mut WebSocketStream<ReadSide<R>>,
    last: Bytes,
    options: &Options,
) {
    let sent = timeout(options.close_within, async {
        writer.write_all(&last).await?;
        writer.shutdown().await
    });
    if matches!(sent.await, Ok(Ok(()))) && !last.is_empty() {
        let mut sink = [0_u8; 1024];
        let drained =
            timeout(LINGER, async { while matches!(socket.get_mut().read(&mut sink).await, Ok(1..)) {} });
        // A peer that does not close in time is disconnected.
        let _ = drained.await;
    }
}

#[cfg(test)]
mod tests {
    use switchboard_core::agent::AgentExit;
    use switchboard_runtime::{Agent, AgentContext, Memory};

    use super::*;

    struct Nobody;

    #[async_trait::async_trait]
    impl Agent for Nobody {
        fn name(&self) -> &'static str {
            "nobody"
        }

        async fn run(&self, _: AgentContext) -> AgentExit {
            AgentExit::Stopped
        }
    }

    #[tokio::test]
    async fn pings_win_no_time_for_a_message_that_was_begun() {
        let (gateway, _running) = Gateway::start(Limits::default(), [0; 32], Memory::new(), Arc::new(Nobody));
        let peer = Peer { principal: Principal::owner(), client_id: None };
        let connection = gateway.connect(peer, true).unwrap();
        let (mut client, server) = tokio::io::duplex(4096);
        let (shared, options) = (
            Arc::new(Shared::default()),
            Options { message_within: Duration::from_millis(200), ..Options::default() },
        );
        let side = ReadSide::new(server, Bytes::new(), 16, u64::MAX, Arc::clone(&shared));
        let mut socket = WebSocketStream::from_raw_socket(side, Role::Server, None).await;
        let pings = async {
            client.write_all(&[0x01, 0x80, 0, 0, 0, 0]).await.unwrap();
            loop {
                client.write_all(&[0x89, 0x80, 0, 0, 0, 0]).await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
                shared.replies.try_take();
            }
        };
        let ending = tokio::select! {
            ending = timeout(Duration::from_secs(30), read(&mut socket, &connection.inbox, &shared, gateway.limits(), &options)) => ending,
            () = pings => unreachable!("it goes on for ever"),
        };
        assert!(matches!(ending, Ok(Ending::Close(CloseCode::PolicyViolation, _))), "{ending:?}");
    }
}
