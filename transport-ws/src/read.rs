//! The reading half below tungstenite: enforces limits that tungstenite lacks, and passes the frames that tungstenite
//! writes to our own writer.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};

/// The longest frame header: 2 bytes, 8 for the length, 4 for the mask.
const HEADER_BYTES: usize = 14;
/// The first byte of a pong.
const PONG: u8 = 0x8a;
/// The longest control frame from a server: 2 bytes of header and at most 125 of payload (RFC 6455 section 5.5).
const CONTROL_BYTES: usize = 2 + 125;

/// How many pongs may replace each other while the peer reads none; after more, the connection ends.
const UNREAD_PINGS: u32 = 65_536;

/// tungstenite's own frames that wait for the writer: at most the newest pong and the reply to a close frame.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Only the newest ping needs a pong (RFC 6455 section 5.5.3).
    pong: BytesMut,
    /// Sent after the pong, because no frame may follow a close frame.
    close: BytesMut,
    /// The number of pongs since the writer last took one.
    pongs: u32,
}

impl Replies {
    /// Waits for replies and takes them. Cancel safe.
    pub(crate) async fn take(&self) -> Bytes {
        loop {
            let taken = self.try_take();
            if !taken.is_empty() {
                return taken;
            }
            self.filled.notified().await;
        }
    }

    pub(crate) fn try_take(&self) -> Bytes {
        let Waiting { mut pong, close, .. } = std::mem::take(&mut *self.waiting());
        pong.unsplit(close);
        pong.freeze()
    }

    /// Queues one control frame. tungstenite writes each control frame in one call.
    fn put(&self, frame: &[u8]) -> io::Result<usize> {
        if frame.len() > CONTROL_BYTES {
            return Err(io::Error::other("only control frames are written here"));
        }
        let mut waiting = self.waiting();
        let is_pong = frame.first() == Some(&PONG);
        waiting.pongs += u32::from(is_pong);
        if waiting.pongs > UNREAD_PINGS {
            return Err(io::Error::other(Excess::Pings));
        }
        let slot = if is_pong { &mut waiting.pong } else { &mut waiting.close };
        slot.clear();
        slot.extend_from_slice(frame);
        drop(waiting);
        self.filled.notify_one();
        Ok(frame.len())
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the session and the reading half share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) replies: Replies,
    /// Whether bytes were read since this flag was last cleared.
    pub(crate) received: AtomicBool,
    /// The number of the message that has begun and not ended; 0: none.
    pub(crate) open_message: AtomicU64,
}

/// A limit that tungstenite does not have, and that the peer exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Excess {
    /// Too many fragments.
    Fragments,
    /// Too many pings from a peer that reads no pongs.
    Pings,
    /// Too many bytes before authentication.
    Unauthenticated,
}

impl std::fmt::Display for Excess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Fragments => "too many fragments in one message",
            Self::Pings => "too many pings, and no pong is read",
            Self::Unauthenticated => "too many bytes before authentication",
        })
    }
}

impl std::error::Error for Excess {}

/// The stream that tungstenite reads from and writes to.
#[derive(Debug)]
pub(crate) struct ReadSide<R> {
    /// `None` after [`take`](Self::take).
    io: Option<R>,
    /// Bytes that arrived together with the upgrade request.
    early: Bytes,
    frames: FrameCounter,
    /// How many bytes may still arrive before authentication; `None`: no limit.
    allowance: Option<u64>,
    shared: Arc<Shared>,
}

/// An empty `Bytes` would still keep the whole buffer of the request alive.
fn released(early: Bytes) -> Bytes {
    if early.is_empty() { Bytes::new() } else { early }
}

impl<R> ReadSide<R> {
    pub(crate) fn new(io: R, early: Bytes, fragments: u32, allowance: u64, shared: Arc<Shared>) -> Self {
        Self {
            io: Some(io),
            early: released(early),
            frames: FrameCounter::new(fragments),
            allowance: Some(allowance),
            shared,
        }
    }

    /// Moves the stream out, for a new `WebSocketStream` that replaces this one. This one reads nothing more.
    pub(crate) fn take(&mut self) -> Self {
        Self {
            io: self.io.take(),
            early: std::mem::take(&mut self.early),
            frames: std::mem::replace(&mut self.frames, FrameCounter::new(0)),
            allowance: self.allowance,
            shared: Arc::clone(&self.shared),
        }
    }

    /// Removes the limit on bytes before authentication; from now on the limits of the protocol apply.
    pub(crate) fn lift_allowance(&mut self) {
        self.allowance = None;
    }

    fn took(&mut self, bytes: &[u8]) -> Result<(), Excess> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.shared.received.store(true, Ordering::Relaxed);
        if let Some(allowance) = &mut self.allowance {
            *allowance = allowance.checked_sub(bytes.len() as u64).ok_or(Excess::Unauthenticated)?;
        }
        self.frames.count(bytes)?;
        self.shared.open_message.store(self.frames.open_message(), Ordering::Relaxed);
        Ok(())
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for ReadSide<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = &mut *self;
        let before = buf.filled().len();
        if me.early.has_remaining() {
            let length = me.early.len().min(buf.remaining());
            buf.put_slice(&me.early.split_to(length));
            me.early = released(std::mem::take(&mut me.early));
        } else {
            let Some(io) = &mut me.io else { return Poll::Ready(Ok(())) };
            std::task::ready!(Pin::new(io).poll_read(cx, buf))?;
        }
        Poll::Ready(me.took(&buf.filled()[before..]).map_err(io::Error::other))
    }
}

impl<R: Unpin> AsyncWrite for ReadSide<R> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.shared.replies.put(buf))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Follows frame headers (RFC 6455 section 5.2) to count the fragments of a message.
#[derive(Debug)]
struct FrameCounter {
    limit: u32,
    header: [u8; HEADER_BYTES],
    header_length: usize,
    payload_left: u64,
    fragments: u32,
    open: bool,
    messages: u64,
}

impl FrameCounter {
    fn new(limit: u32) -> Self {
        Self {
            limit,
            header: [0; HEADER_BYTES],
            header_length: 0,
            payload_left: 0,
            fragments: 0,
            open: false,
            messages: 0,
        }
    }

    /// The number of the frame or fragmented message that has begun and not ended; 0: none.
    fn open_message(&self) -> u64 {
        let open = self.open || self.header_length > 0 || self.payload_left > 0;
        if open { self.messages + 1 } else { 0 }
    }

    fn count(&mut self, mut bytes: &[u8]) -> Result<(), Excess> {
        while let Some(first) = bytes.first() {
            if self.payload_left > 0 {
                let skip = usize::try_from(self.payload_left).unwrap_or(usize::MAX).min(bytes.len());
                self.payload_left -= skip as u64;
                bytes = &bytes[skip..];
                continue;
            }
            self.header[self.header_length] = *first;
            self.header_length += 1;
            bytes = &bytes[1..];
            if let Some(length) = payload_length(&self.header[..self.header_length]) {
                self.payload_left = length;
                self.header_length = 0;
                self.frame(self.header[0])?;
            }
        }
        Ok(())
    }

    fn frame(&mut self, first: u8) -> Result<(), Excess> {
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
        if opcode >= 8 {
            return Ok(());
        }
        self.fragments = if opcode == 0 { self.fragments + 1 } else { 1 };
        self.open = !fin;
        self.messages += u64::from(fin);
        if self.fragments > self.limit { Err(Excess::Fragments) } else { Ok(()) }
    }
}

/// The length of the payload, once the header is complete.
fn payload_length(header: &[u8]) -> Option<u64> {
    let second = header.get(1)?;
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    let (extra, short) = match second & 0x7f {
        126 => (2, None),
        127 => (8, None),
        short => (0, Some(u64::from(short))),
    };
    if header.len() < 2 + extra + mask {
        return None;
    }
    Some(short.unwrap_or_else(|| {
        header[2..2 + extra].iter().fold(0, |length, byte| (length << 8) | u64::from(*byte))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count_in_pieces(bytes: &[u8], size: usize, limit: u32) -> (Result<(), Excess>, bool) {
        let mut counter = FrameCounter::new(limit);
        let result = bytes.chunks(size).try_for_each(|piece| counter.count(piece));
        (result, counter.open_message() != 0)
    }

    #[test]
    fn headers_are_followed_however_the_bytes_arrive() {
        let mut bytes = vec![0x01, 0x81, 1, 2, 3, 4, b'a'];
        bytes.extend([0x89, 0x80, 1, 2, 3, 4]);
        bytes.extend([0x00, 0xfe, 0x00, 0x80, 1, 2, 3, 4]);
        bytes.extend([7; 128]);
        for size in 1..bytes.len() {
            assert_eq!(count_in_pieces(&bytes, size, 2), (Ok(()), true), "in pieces of {size}");
            assert_eq!(count_in_pieces(&bytes, size, 1).0, Err(Excess::Fragments));
        }
        bytes.extend([0x80, 0x80, 1, 2, 3, 4]);
        assert_eq!(count_in_pieces(&bytes, 3, 3), (Ok(()), false));
    }

    #[test]
    fn of_many_pongs_only_the_newest_waits_and_a_close_follows_it() {
        let replies = Replies::default();
        for byte in 0..=255 {
            assert_eq!(replies.put(&[PONG, 1, byte]).unwrap(), 3);
        }
        assert_eq!(replies.try_take()[..], [PONG, 1, 255]);
        assert!(replies.try_take().is_empty());
        replies.put(&[0x88, 0]).unwrap();
        replies.put(&[PONG, 0]).unwrap();
        assert_eq!(replies.try_take()[..], [PONG, 0, 0x88, 0]);
        assert!(replies.put(&[PONG; CONTROL_BYTES + 1]).is_err());
        for _ in 0..UNREAD_PINGS {
            replies.put(&[PONG, 0]).unwrap();
        }
        assert!(replies.put(&[PONG, 0]).is_err(), "the peer reads nothing");
        assert_eq!(replies.try_take()[..], [PONG, 0]);
        replies.put(&[PONG, 0]).unwrap();
    }

    #[test]
    fn a_new_message_counts_anew() {
        let message = [0x01, 0x80, 1, 2, 3, 4, 0x80, 0x80, 1, 2, 3, 4];
        assert_eq!(count_in_pieces(&message.repeat(100), 5, 2), (Ok(()), false));
    }
}
