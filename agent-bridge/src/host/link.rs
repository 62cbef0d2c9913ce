//! The host's end of the socket: sends records to one gateway at a time and receives its messages.

use std::{io, os::fd::AsFd as _, sync::Arc};

use bytes::BytesMut;
use rustix::process::geteuid;
use tokio::{
    io::AsyncReadExt,
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    lending,
    protocol::{HostHello, Kind, ToHost, VERSION, host_frame},
    socket::{self, ReadHalf, WriteHalf},
    spool::Spool,
};
use crate::BridgeLimits;

/// Most received messages that wait to be handled.
const MESSAGES: usize = 64;
/// Buffer space for one read, in bytes.
const READ_BYTES: usize = 4096;
/// Longest hello, in bytes.
const HELLO_BYTES: usize = 1024;

/// What the host receives from its gateways.
#[derive(Debug)]
pub(super) enum GatewayMessage {
    /// A gateway has connected and replaced the previous one, if any.
    Connected,
    /// The gateway has disconnected, and no other has replaced it.
    Gone,
    Message(ToHost),
}

/// Accepts connections until the host exits.
pub(super) fn listen(
    listener: UnixListener,
    spool: Arc<Spool>,
    limits: BridgeLimits,
) -> mpsc::Receiver<GatewayMessage> {
    let (messages, receiver) = mpsc::channel(MESSAGES);
    tokio::spawn(accept(listener, spool, limits, messages));
    receiver
}

async fn accept(
    listener: UnixListener,
    spool: Arc<Spool>,
    limits: BridgeLimits,
    messages: mpsc::Sender<GatewayMessage>,
) {
    // Dropping the sender ends the previous connection: there is one gateway at a time.
    let mut current: Option<(oneshot::Sender<()>, tokio::task::JoinHandle<()>)> = None;
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            // Probably out of descriptors.
            tokio::time::sleep(limits.host.disk_retry).await;
            continue;
        };
        if !socket.peer_cred().is_ok_and(|peer| peer.uid() == geteuid().as_raw()) {
            continue;
        }
        let Ok(Ok(Some((mut link, version, from)))) = timeout(limits.host.start, receive_hello(socket)).await
        else {
            continue;
        };
        if version != VERSION {
            // A gateway of another version can only end this host.
            if let Ok(Ok(())) = timeout(limits.host.start, link.answer(&spool)).await {
                tokio::spawn(end_only(link, messages.clone()));
            }
            continue;
        }
        if let Some((replaced, connection)) = current.take() {
            drop(replaced);
            let _ = connection.await;
        }
        if messages.send(GatewayMessage::Connected).await.is_err() {
            return;
        }
        let (replace, replaced) = oneshot::channel();
        let (spool, messages) = (Arc::clone(&spool), messages.clone());
        let start = limits.host.start;
        link.longest = limits.host.command_bytes;
        let connection = tokio::spawn(async move {
            tokio::select! {
                _ = replaced => {}
                () = async {
                    let mut state = spool.watch();
                    let begun = async {
                        // The output that was lent to the previous gateway must be spooled first.
                        let _ = state.wait_for(|spool| !spool.lent).await;
                        link.answer(&spool).await
                    };
                    if let Ok(Ok(())) = timeout(start, begun).await {
                        serve(link, from, &spool, &messages).await;
                    }
                } => {
                    let _ = messages.send(GatewayMessage::Gone).await;
                }
            }
        });
        current = Some((replace, connection));
    }
}

/// A connection whose hello was received.
struct Link {
    read: ReadHalf,
    write: WriteHalf,
    buffer: BytesMut,
    longest: usize,
}

/// Receives the hello. Returns its version and the position from which records are wanted; `None` if the connection
/// asked for the descriptor of the lent pipe, which is sent here.
async fn receive_hello(socket: UnixStream) -> io::Result<Option<(Link, u32, u64)>> {
    let (read, write) = socket::split(socket.into_std()?)?;
    let mut link = Link { read, write, buffer: BytesMut::new(), longest: HELLO_BYTES };
    match next(&mut link.read, &mut link.buffer, link.longest).await? {
        Some(ToHost::Hello { version, from }) => Ok(Some((link, version, from))),
        Some(ToHost::Take(lent)) => {
            socket::send_descriptor(&link.write, lending::reopen(&lent)?.as_fd())?;
            Ok(None)
        }
        Some(_) | None => Err(io::ErrorKind::InvalidData.into()),
    }
}

impl Link {
    /// Answers the hello.
    async fn answer(&mut self, spool: &Spool) -> io::Result<()> {
        let (first, next) = spool.range();
        let hello = HostHello { version: VERSION, first, next, lends: cfg!(target_os = "linux") };
        self.write.write_all(&host_frame(Kind::Hello, &serde_json::to_vec(&hello)?)).await
    }
}

async fn end_only(mut link: Link, messages: mpsc::Sender<GatewayMessage>) {
    while let Ok(Some(message)) = next(&mut link.read, &mut link.buffer, HELLO_BYTES).await {
        if matches!(message, ToHost::Stop | ToHost::Kill) {
            let _ = messages.send(GatewayMessage::Message(message)).await;
        }
    }
}

/// Serves a gateway until it disconnects.
async fn serve(link: Link, from: u64, spool: &Spool, messages: &mpsc::Sender<GatewayMessage>) {
    let Link { read, mut write, buffer, longest } = link;
    tokio::select! {
        () = receive(read, buffer, longest, spool, messages) => {}
        sent = send(&mut write, from, spool) => {
            if let Err(error) = sent {
                tracing::debug!(%error, "a gateway could not be sent records");
            }
        }
    }
}

async fn receive(
    mut read: ReadHalf,
    mut buffer: BytesMut,
    longest: usize,
    spool: &Spool,
    messages: &mpsc::Sender<GatewayMessage>,
) {
    while let Ok(Some(message)) = next(&mut read, &mut buffer, longest).await {
        if let ToHost::Trim { before } = message {
            // Trims at once, even while the host is busy: the agent may be waiting for room in the spool.
            spool.trim(before);
        } else if messages.send(GatewayMessage::Message(message)).await.is_err() {
            return;
        }
    }
}

/// The next message; `None` if the peer has closed the connection.
async fn next(
    read: &mut (impl AsyncReadExt + Unpin),
    buffer: &mut BytesMut,
    longest: usize,
) -> io::Result<Option<ToHost>> {
    loop {
        match ToHost::next(buffer, longest) {
            Err(_) => return Err(io::ErrorKind::InvalidData.into()),
            Ok(Some(message)) => return Ok(Some(message)),
            Ok(None) => {}
        }
        buffer.reserve(READ_BYTES);
        if read.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// Sends records as they are spooled, and [`Kind::Ended`] after the last one.
async fn send(write: &mut WriteHalf, from: u64, spool: &Spool) -> io::Result<()> {
    let mut changes = spool.watch();
    let mut records = spool.read_from(from)?;
    let mut stuck = changes.borrow().stuck;
    loop {
        let state = *changes.borrow_and_update();
        let part = records.next()?;
        if !part.is_empty() {
            write.write_all(&part).await?;
            continue;
        }
        if std::mem::replace(&mut stuck, state.stuck) != state.stuck {
            write.write_all(&host_frame(Kind::Stuck, &[])).await?;
        }
        if state.ended {
            write.write_all(&host_frame(Kind::Ended, &[])).await?;
            // The gateway's shutdown acknowledgement ends the host, and with it this task.
            return std::future::pending().await;
        }
        if changes.changed().await.is_err() {
            return Ok(());
        }
    }
}
