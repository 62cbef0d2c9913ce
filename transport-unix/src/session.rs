//! One connection: lines in both directions.

use std::{io, time::Duration};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use switchboard_core::{
    Peer,
    wire::{CloseCode, ControlEvent, ErrorCode, ErrorEvent, Frame, encode_control},
};
use switchboard_runtime::{
    Connection, Framing, Gateway, Inbox, OutboxReader, Stopped, WriteBatch, WriterStep,
};
use tokio::{
    io::AsyncWriteExt as _,
    net::UnixStream,
    time::{interval, timeout},
};

use crate::{
    lines::{Line, Lines},
    options::Options,
    socket::{ReadHalf, WriteHalf, split},
};

/// How often to check whether a peer that has closed its sending side still reads.
const HANGUP_CHECK: Duration = Duration::from_millis(500);

/// Writes one line for each event.
struct JsonLines;

impl Framing for JsonLines {
    const OVERHEAD: usize = 1;

    fn before(&mut self, _: &mut Vec<u8>, _: &Frame) {}

    fn after(&mut self, out: &mut Vec<u8>) {
        out.push(b'\n');
    }
}

/// Why a connection ends.
enum Ending {
    /// The peer is gone.
    Gone,
    /// The connection is closed after this line.
    Last(Bytes),
}

pub(crate) async fn run(socket: UnixStream, gateway: &Gateway, options: &Options) {
    let peer = Peer { principal: options.principal.clone(), client_id: None };
    let (reader, mut writer) = match split(socket) {
        Ok(halves) => halves,
        Err(error) => {
            tracing::warn!(%error, "a peer's socket cannot be used");
            return;
        }
    };
    let Ok(Connection { inbox, mut outbox }) = gateway.connect(peer, false) else {
        last(&mut writer, &stopping(), options).await;
        return;
    };
    tracing::info!(conn = %inbox.id(), "a peer of the gateway's own user connected");
    let ending = tokio::select! {
        ending = read(reader, &inbox) => ending,
        ending = write(&mut writer, &mut outbox, options) => ending,
    };
    if let Ending::Last(line) = ending {
        last(&mut writer, &line, options).await;
    }
}

async fn last(writer: &mut WriteHalf, line: &[u8], options: &Options) {
    let sent = timeout(options.close_within, async {
        writer.write_all(line).await?;
        writer.write_all(b"\n").await?;
        writer.shutdown().await
    });
    if !matches!(sent.await, Ok(Ok(()))) {
        tracing::debug!("a peer did not take its last line");
    }
}

async fn read(reader: ReadHalf, inbox: &Inbox) -> Ending {
    let mut lines = Lines::new(reader, inbox.limits().frame_bytes);
    loop {
        let taken = match lines.next().await {
            Ok(Line::Whole(line)) => inbox.binary(&line).await,
            Ok(Line::TooLong) => return too_long(inbox),
            Ok(Line::End) => break,
            Err(_) => return Ending::Gone,
        };
        if let Err(Stopped) = taken {
            return Ending::Last(stopping());
        }
    }
    still_reads(lines.io()).await
}

/// Waits until the peer stops reading. A peer that has closed its sending side may still read, as in `printf … |
/// socat - UNIX:PATH`.
async fn still_reads(reader: &ReadHalf) -> Ending {
    let mut check = interval(HANGUP_CHECK);
    loop {
        check.tick().await;
        let mut fds = [PollFd::new(reader, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let hung_up = match poll(&mut fds, Some(&now)) {
            Ok(_) => fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR),
            Err(error) => error != rustix::io::Errno::INTR,
        };
        if hung_up {
            return Ending::Gone;
        }
    }
}

fn too_long(inbox: &Inbox) -> Ending {
    let limit = inbox.limits().frame_bytes;
    let detail = format!("a line is over the limit of {limit} bytes");
    Ending::Last(error(ErrorCode::TooLarge, detail, false, CloseCode::TooLarge))
}

fn stopping() -> Bytes {
    let detail = "the gateway is stopping; connect again shortly".to_owned();
    error(ErrorCode::ShuttingDown, detail, true, CloseCode::ServiceRestart)
}

fn error(code: ErrorCode, detail: String, retryable: bool, close: CloseCode) -> Bytes {
    let event = ErrorEvent {
        code,
        detail,
        retryable,
        chat_id: None,
        turn_id: None,
        request_id: None,
        retry_after_ms: None,
        close: Some(close.number()),
    };
    encode_control(&ControlEvent::Error(event)).bytes().clone()
}

async fn write(io: &mut WriteHalf, outbox: &mut OutboxReader, options: &Options) -> Ending {
    let progress = outbox.progress();
    let mut batch = Vec::new();
    loop {
        match outbox.next(&mut batch).await {
            WriterStep::Close(close) => return Ending::Last(close.frame.bytes().clone()),
            WriterStep::Frames => {}
        }
        let in_flight = WriteBatch::frames(&mut JsonLines, &mut batch);
        let written: io::Result<()> = in_flight.write(io, outbox, &progress, options.close_within).await;
        outbox.written();
        if let Err(error) = written {
            tracing::debug!(%error, "a peer cannot be written to");
            return Ending::Gone;
        }
    }
}
