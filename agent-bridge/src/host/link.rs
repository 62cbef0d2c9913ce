//! The host's end of the socket: serves one gateway at a time.

use std::{io, os::fd::AsFd as _, sync::Arc};

use bytes::{Bytes, BytesMut};
use rustix::process::geteuid;
use tokio::{
    io::AsyncReadExt,
    net::{UnixListener, UnixStream},
    sync::{Mutex, mpsc, watch},
    time::timeout,
};

use super::{
    mover::HostOutput,
    pipe,
    position::Position,
    protocol::{HostHello, Kind, ToHost, VERSION, host_frame},
    socket::{self, ReadHalf, WriteHalf},
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
    /// A gateway has connected, and the one before it has gone. It wants the notes from position `from` on.
    Connected {
        from: u64,
        /// The frames for the gateway. Few wait here: notes of its own commands, and of the ends of processes.
        frames: mpsc::UnboundedSender<Bytes>,
    },
    /// The gateway has disconnected.
    Gone,
    Message(ToHost),
}

/// Accepts connections until the host exits.
pub(super) fn listen(
    listener: UnixListener,
    output: Arc<HostOutput>,
    limits: BridgeLimits,
) -> mpsc::Receiver<GatewayMessage> {
    let (messages, receiver) = mpsc::channel(MESSAGES);
    tokio::spawn(async move {
        let connections = Connections { output, limits, messages, serving: Arc::default() };
        loop {
            match listener.accept().await {
                Ok((socket, _)) if socket.peer_cred().is_ok_and(|peer| peer.uid() == geteuid().as_raw()) => {
                    tokio::spawn(connections.clone().accept(socket));
                }
                Ok(_) => {}
                // Probably out of descriptors.
                Err(_) => tokio::time::sleep(connections.limits.host.disk_retry).await,
            }
        }
    });
    receiver
}

#[derive(Clone)]
struct Connections {
    output: Arc<HostOutput>,
    limits: BridgeLimits,
    messages: mpsc::Sender<GatewayMessage>,
    /// Locked while a gateway is served. That gateway may be moving output, so it is never sent away.
    serving: Arc<Mutex<()>>,
}

/// A connection whose hello was received.
struct Link {
    read: ReadHalf,
    write: WriteHalf,
    buffer: BytesMut,
}

impl Connections {
    async fn accept(self, socket: UnixStream) {
        let start = self.limits.host.start;
        let Ok(Ok(Some((link, version, from)))) = timeout(start, receive_hello(socket)).await else {
            return;
        };
        if version != VERSION {
            // A gateway of another version can only end this host.
            let hello = HostHello { version: VERSION, first: 0, next: 0, end: 0, noted: 0 };
            if let Ok(Ok(())) = timeout(start, link.write.write_all(&hello.frame())).await {
                self.end_only(link).await;
            }
            return;
        }
        if let Ok(_serving) = timeout(start, self.serving.lock()).await {
            self.serve(link, from).await;
        }
    }

    /// Serves a gateway until it disconnects.
    async fn serve(&self, link: Link, from: u64) {
        let Link { read, write, buffer } = link;
        let (frames, queue) = mpsc::unbounded_channel();
        let end = self.output.watch_end();
        if self.messages.send(GatewayMessage::Connected { from, frames }).await.is_err() {
            return;
        }
        tokio::select! {
            () = self.receive(read, buffer) => {}
            sent = send(write, queue, end) => {
                if let Err(error) = sent {
                    tracing::debug!(%error, "a gateway could not be sent notes");
                }
            }
        }
        let _ = self.messages.send(GatewayMessage::Gone).await;
    }

    async fn receive(&self, mut read: ReadHalf, mut buffer: BytesMut) {
        let longest = self.limits.host.command_bytes;
        while let Ok(Some(message)) = next(&mut read, &mut buffer, longest).await {
            if let ToHost::Trim { before } = message {
                // At once, even while the host is busy: the agent may be waiting for room in the spool.
                self.output.trim(Position::offset(before));
            }
            if self.messages.send(GatewayMessage::Message(message)).await.is_err() {
                return;
            }
        }
    }

    async fn end_only(&self, mut link: Link) {
        while let Ok(Some(message)) = next(&mut link.read, &mut link.buffer, HELLO_BYTES).await {
            if matches!(message, ToHost::Stop | ToHost::Kill) {
                let _ = self.messages.send(GatewayMessage::Message(message)).await;
            }
        }
    }
}

/// Receives the hello. Returns its version and the position from which notes are wanted; `None` if the connection
/// asked for the descriptor of the pipe, which is sent here.
async fn receive_hello(socket: UnixStream) -> io::Result<Option<(Link, u32, u64)>> {
    let (read, write) = socket::split(socket.into_std()?)?;
    let mut link = Link { read, write, buffer: BytesMut::new() };
    match next(&mut link.read, &mut link.buffer, HELLO_BYTES).await? {
        Some(ToHost::Hello { version, from }) => Ok(Some((link, version, from))),
        Some(ToHost::Take(asked)) => {
            socket::send_descriptor(&link.write, pipe::reopen(&asked)?.as_fd())?;
            Ok(None)
        }
        Some(_) | None => Err(io::ErrorKind::InvalidData.into()),
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

/// Sends frames, and how far this host has moved output.
async fn send(
    write: WriteHalf,
    mut queue: mpsc::UnboundedReceiver<Bytes>,
    mut end: watch::Receiver<u64>,
) -> io::Result<()> {
    loop {
        tokio::select! {
            biased;
            frame = queue.recv() => match frame {
                Some(frame) => write.write_all(&frame).await?,
                None => return Ok(()),
            },
            Ok(()) = end.changed() => {
                let end = *end.borrow_and_update();
                write.write_all(&host_frame(Kind::Grown, &end.to_le_bytes())).await?;
            }
        }
    }
}
