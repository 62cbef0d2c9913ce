//! A transport of one's own: lines of JSON over TCP, below 150 lines.
//!
//! The first line must be `{"type":"authenticate","token":...}`. A transport verifies its peer, carries frames and carries
//! out a close; nothing else. `tests/conformance.rs` holds this one to the same conversations as the others.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use switchboard_core::{
    Limits, Peer,
    ids::Principal,
    wire::{
        ClientEnvelope, CloseCode, ControlEvent, DecodeError, ErrorCode, Frame, decode_binary, encode_control,
    },
};
use switchboard_runtime::{
    Connection, Framing, Gateway, Inbox, OutboxReader, Stopped, Verifier, WriteBatch, WriterStep,
};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::{sync::Semaphore, time::timeout};

/// Connections at once.
const CONNECTIONS: usize = 256;
/// For the first line.
const AUTHENTICATE_WITHIN: Duration = Duration::from_secs(5);
/// For the peer to take what is in flight and the last line.
const CLOSE_WITHIN: Duration = Duration::from_secs(30);

/// What stands around a frame: nothing before it, a line break after it.
struct JsonLines;

impl Framing for JsonLines {
    const OVERHEAD: usize = 1;

    fn before(&mut self, _: &mut Vec<u8>, _: &Frame) {}

    fn after(&mut self, out: &mut Vec<u8>) {
        out.push(b'\n');
    }
}

/// Serves peers until the future is dropped. Connections that were accepted before go on.
///
/// TCP has no encryption: listen on loopback, or put TLS in front.
///
/// # Errors
/// If the system's `accept` fails.
pub async fn serve(listener: TcpListener, gateway: Gateway, tokens: Arc<dyn Verifier>) -> io::Result<()> {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return Ok(()) };
        let (socket, _) = listener.accept().await?;
        let (gateway, tokens) = (gateway.clone(), Arc::clone(&tokens));
        tokio::spawn(async move {
            // Otherwise small frames wait for each other's acknowledgement.
            let _ = socket.set_nodelay(true);
            run(socket, &gateway, &*tokens).await;
            drop(permit);
        });
    }
}

/// One connection. No last line, here and below: the peer is gone.
async fn run(socket: TcpStream, gateway: &Gateway, tokens: &dyn Verifier) {
    let (reader, mut writer) = socket.into_split();
    let mut reader = BufReader::new(reader);
    let last = match timeout(AUTHENTICATE_WITHIN, authenticate(&mut reader, tokens)).await {
        Ok(Some(principal)) => converse(reader, &mut writer, gateway, principal).await,
        _ => Some(error(
            ErrorCode::Unauthorized,
            "the first line is not `authenticate` with a token",
            CloseCode::Unauthenticated,
        )),
    };
    let Some(last) = last else { return };
    // A peer that does not take it does not read it either.
    let _ = timeout(CLOSE_WITHIN, async {
        writer.write_all(&[&last, &b"\n"[..]].concat()).await?;
        writer.shutdown().await
    })
    .await;
}

async fn authenticate(reader: &mut BufReader<OwnedReadHalf>, tokens: &dyn Verifier) -> Option<Principal> {
    let line = line(reader, 4 * 1024).await.ok()??;
    let Ok(Some(ClientEnvelope::Authenticate { token })) = decode_binary(&line, &Limits::default(), false)
    else {
        return None;
    };
    tokens.verify(&token)
}

/// Reads and writes at once; the end of either is the end of both, and the line that it leaves is the last.
async fn converse(
    reader: BufReader<OwnedReadHalf>,
    writer: &mut OwnedWriteHalf,
    gateway: &Gateway,
    principal: Principal,
) -> Option<Bytes> {
    let peer = Peer { principal, client_id: None };
    let Ok(Connection { inbox, mut outbox }) = gateway.connect(peer, false) else { return Some(stopping()) };
    tokio::select! {
        last = read(reader, &inbox) => last,
        last = write(writer, &mut outbox) => last,
    }
}

/// `inbox` waits while the gateway is busy or this peer does not read: the socket fills, the client waits.
async fn read(mut reader: BufReader<OwnedReadHalf>, inbox: &Inbox) -> Option<Bytes> {
    let longest = inbox.limits().frame_bytes;
    loop {
        let Some(line) = line(&mut reader, longest).await.ok()? else {
            return Some(error(ErrorCode::TooLarge, "a line is over the limit", CloseCode::TooLarge));
        };
        if let Err(Stopped) = inbox.binary(&line).await {
            return Some(stopping());
        }
    }
}

/// `Ok(None)`: it is longer than that.
async fn line(reader: &mut BufReader<OwnedReadHalf>, longest: usize) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    reader.take(longest as u64 + 1).read_until(b'\n', &mut line).await?;
    match line.pop() {
        Some(b'\n') => Ok(Some(line)),
        Some(_) if line.len() >= longest => Ok(None),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// `outbox` is what bounds this peer's memory, and sees when it takes nothing any more.
async fn write(writer: &mut OwnedWriteHalf, outbox: &mut OutboxReader) -> Option<Bytes> {
    let progress = outbox.progress();
    let mut batch = Vec::new();
    loop {
        if let WriterStep::Close(close) = outbox.next(&mut batch).await {
            return Some(close.frame.bytes().clone());
        }
        let in_flight = WriteBatch::frames(&mut JsonLines, &mut batch);
        let written = in_flight.write(writer, outbox, &progress, CLOSE_WITHIN).await;
        outbox.written();
        written.ok()?;
    }
}

fn stopping() -> Bytes {
    error(
        ErrorCode::ShuttingDown,
        "the gateway is stopping; connect again shortly",
        CloseCode::ServiceRestart,
    )
}

/// The last line, in permit of a WebSocket's close code.
fn error(code: ErrorCode, detail: &str, close: CloseCode) -> Bytes {
    let detail = detail.to_owned();
    let mut event = DecodeError { code, detail, chat_id: None, turn_id: None, request_id: None }.into_event();
    (event.retryable, event.close) = (code == ErrorCode::ShuttingDown, Some(close.number()));
    encode_control(&ControlEvent::Error(event)).bytes().clone()
}
