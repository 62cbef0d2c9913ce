//! The protocol between a gateway and a host.
//!
//! Both sides send frames: a length (`u32`, little-endian, of the rest of the frame), a kind (`u8`), and a body. The
//! gateway begins with [`ToHost::Hello`] and the host answers with [`HostHello`]. From then on the host sends records
//! and the gateway sends commands. The host sends records exactly as its spool files contain them.
//!
//! `Hello`, `Stop` and `Kill` have the same form in every version, so that any gateway can end any host.
//!
//! A host whose hello says so can lend the agent's output: the gateway then reads the agent's pipe itself, without
//! taking bytes out of it. The host takes bytes out once the log has their events.
//!
//! 1. [`ToHost::Borrow`] asks for the output. If the host has not read a part of a line and the gateway knows all
//!    records, the host answers with [`Kind::Lent`]; otherwise it does not answer and goes on sending records. The
//!    gateway then sends [`ToHost::Take`] on a separate connection and receives the pipe as a descriptor
//!    (`SCM_RIGHTS`). It cannot open the pipe through `/proc`, because a host is not dumpable.
//! 2. Each line in the pipe is one record, with the next position. A command contains the byte of the output at which
//!    it was sent ([`CommandPlace`]). The gateway decodes no further lines until the command's record or
//!    [`Kind::Known`] arrives.
//! 3. [`ToHost::Discard`] names bytes that the log has. The gateway does not read the pipe until [`Kind::Discarded`]
//!    arrives.
//! 4. [`ToHost::Return`] or the end of the connection returns the output, at any time. A host asks for that with
//!    [`Kind::Recall`]; if it is ending its agent, it waits for one second only. The host then spools the content of
//!    the pipe from the first byte that was not discarded, with the commands at their places.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// The version of this protocol. A gateway of another version can only end this host, unless it greets the host in this
/// version.
pub(crate) const VERSION: u32 = 2;
/// The oldest version of hosts that a gateway understands. Hosts of version 1 have the same messages, but some cannot lend
/// the output, and some do not say how long a skipped line was. A gateway serves them without lending until their turn
/// has ended, and then stops them.
pub(crate) const OLDEST_VERSION: u32 = 1;

/// Length of a frame's head in bytes: length and kind.
pub(crate) const FRAME_HEAD: usize = 5;
/// Length of the head of a host's frame in bytes: length, kind, position of the first record, number of records.
pub(crate) const RECORD_HEAD: usize = FRAME_HEAD + 12;

/// The error for bytes that are not a valid frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InvalidFrame;

/// A message from the gateway to the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ToHost {
    /// The first message: asks for all records from position `from` on.
    Hello { version: u32, from: u64 },
    /// A command to spool and then to carry out. A repeated command, recognised by its id, is ignored. `place` is set
    /// while the output is lent.
    Command { head: CommandHead, place: Option<CommandPlace>, bytes: Bytes },
    /// The open turn has ended.
    Idle,
    /// The log has all records before this position.
    Trim { before: u64 },
    /// Stop the agent gracefully, then send [`Kind::Ended`].
    Stop,
    /// Kill the agent, then send [`Kind::Ended`].
    Kill,
    /// The shutdown acknowledgement: the gateway has all records. The host exits; if `remove` is set, it removes its
    /// directory.
    ShutdownAck { remove: bool },
    /// Asks for the agent's output; the gateway has all records before position `next`.
    Borrow { next: u64 },
    /// The log has the first `bytes` bytes of the lent output, which are the records before position `before`.
    Discard { bytes: u64, before: u64 },
    /// Returns the output that was lent or asked for.
    Return,
    /// Asks for the descriptor of the lent pipe. The first and only message of its connection.
    Take(Lent),
}

/// The place of a command in the lent output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CommandPlace {
    /// Number of bytes of the lent output before the command.
    pub(crate) bytes: u64,
    /// Position of the last record before the command, as far as the gateway knows.
    pub(crate) position: u64,
}

/// A command without the bytes that it writes; spooled as a record of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CommandHead {
    /// Identifies the command within the agent instance, so that a repeat is recognised.
    pub(crate) id: String,
    /// What the host does.
    pub(crate) action: Action,
    /// Whether the command opens a turn.
    #[serde(default)]
    pub(crate) opens_turn: bool,
    /// What the command means to the gateway's decoder; the host ignores all meanings but `Void`.
    #[serde(rename = "told")]
    pub(crate) meaning: CommandMeaning,
}

/// What the host does for a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    /// Nothing, apart from spooling the record.
    Note,
    /// Writes the bytes to the agent's input.
    Write,
    /// Starts the agent's command with further arguments, writes the bytes, and closes the input if `close` is set.
    Start { further: Vec<String>, close: bool },
    /// Ends the process: kills it if `force` is set, otherwise sends SIGTERM first.
    End { force: bool },
}

/// What a command means to the decoder of the records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CommandMeaning {
    /// A process starts, and resumes this session of the agent.
    Start { session: Option<String> },
    /// A prompt was sent.
    Prompt { turn: String },
    /// The turn was cancelled.
    Cancel { turn: String },
    /// A person's answer was sent.
    Answer { request: String },
    /// The turn was cancelled before its prompt was sent.
    Void { turn: String },
    /// A reply by the codec itself.
    #[serde(other)]
    Reply,
}

/// The kinds of frames from a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// The answer to a hello; the payload is a [`HostHello`]. Not a record.
    Hello = 1,
    /// Output of the agent: whole lines, one record each, or in dialect `text` the bytes of one read as one record.
    Output = 2,
    /// A command was spooled; the payload is a [`CommandHead`].
    Command = 3,
    /// A process could not be started; the payload is a [`SpawnFailure`].
    SpawnFailed = 4,
    /// A process has exited, and all its output is in earlier records; the payload is an [`Exited`].
    Exited = 5,
    /// A process closed its output and has not exited.
    OutputClosed = 6,
    /// A process wrote a line that is longer than the limit, and the line was skipped. The payload is its number of bytes
    /// (`u64`, little-endian), and its first bytes.
    Skipped = 7,
    /// The host has ended its agent and waits for the shutdown acknowledgement. Not a record.
    Ended = 8,
    /// The disk is full or fails, so that the agent or its input waits: the agent must not be taken for a hanging one.
    /// Repeated while the disk fails. Not a record.
    Stuck = 9,
    /// The output is lent; the payload is a [`Lent`]. Not a record.
    Lent = 10,
    /// The host has carried out a [`ToHost::Discard`]; the payload is its number of bytes (`u64`, little-endian). Not a
    /// record.
    Discarded = 11,
    /// The gateway must return the output. Not a record.
    Recall = 12,
    /// A command with a place was a repeat, so it gets no record; the payload is the command's id. Not a record.
    Known = 13,
}

impl Kind {
    fn of(byte: u8) -> Result<Self, InvalidFrame> {
        Ok(match byte {
            1 => Self::Hello,
            2 => Self::Output,
            3 => Self::Command,
            4 => Self::SpawnFailed,
            5 => Self::Exited,
            6 => Self::OutputClosed,
            7 => Self::Skipped,
            8 => Self::Ended,
            9 => Self::Stuck,
            10 => Self::Lent,
            11 => Self::Discarded,
            12 => Self::Recall,
            13 => Self::Known,
            _ => return Err(InvalidFrame),
        })
    }

    fn is_record(self) -> bool {
        match self {
            Self::Output
            | Self::Command
            | Self::SpawnFailed
            | Self::Exited
            | Self::OutputClosed
            | Self::Skipped => true,
            Self::Hello
            | Self::Ended
            | Self::Stuck
            | Self::Lent
            | Self::Discarded
            | Self::Recall
            | Self::Known => false,
        }
    }
}

/// A host's answer to a gateway's hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostHello {
    /// The host's protocol version. If it differs from that of the gateway's hello, the host understands only `Stop` and
    /// `Kill` on this connection.
    pub(crate) version: u32,
    /// The first position that the spool still has.
    #[serde(default)]
    pub(crate) first: u64,
    /// The position of the next record.
    #[serde(default)]
    pub(crate) next: u64,
    /// Whether the host can lend the agent's output.
    #[serde(default)]
    pub(crate) lends: bool,
}

/// The lent pipe, as a descriptor number in the host's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lent {
    pub(crate) descriptor: i32,
    /// Device and inode identify the pipe.
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// The position of the first record in the pipe.
    pub(crate) next: u64,
}

/// How a process ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exited {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    /// The last lines of the process's standard error.
    #[serde(default)]
    pub(crate) stderr: Vec<String>,
}

/// Why a process could not be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SpawnFailure {
    NotFound,
    Denied,
    Other,
}

/// A frame from a host: its kind, the positions of its records, and its payload.
#[derive(Debug)]
pub(crate) struct Frame<P = Bytes> {
    pub(crate) kind: Kind,
    /// The position of the first record in the frame.
    pub(crate) first: u64,
    /// Number of records in the frame; zero if the frame is not a record.
    pub(crate) count: u32,
    pub(crate) payload: P,
}

impl Frame {
    /// Takes the next whole frame off the front of a buffer. Returns `None` if the frame is incomplete.
    ///
    /// # Errors
    /// If the frame is invalid or longer than `longest` bytes.
    pub(crate) fn next(buffer: &mut BytesMut, longest: usize) -> Result<Option<Self>, InvalidFrame> {
        let Some(length) = body_length(buffer, RECORD_HEAD - 4, longest)? else { return Ok(None) };
        if buffer.len() < 4 + length {
            // Reserves space for the whole frame, so that it is received without further allocations.
            buffer.reserve(4 + length - buffer.len());
            return Ok(None);
        }
        let kind = Kind::of(buffer[4])?;
        let mut frame = buffer.split_to(4 + length).freeze();
        frame.advance(FRAME_HEAD);
        let (first, count) = (frame.get_u64_le(), frame.get_u32_le());
        Ok(Some(Self { kind, first, count, payload: frame }))
    }
}

/// Encodes the head of a host's frame; `payload` is the payload's length in bytes.
pub(crate) fn record_head(kind: Kind, first: u64, count: u32, payload: usize) -> [u8; RECORD_HEAD] {
    let length = u32::try_from(RECORD_HEAD - 4 + payload).unwrap_or(u32::MAX);
    let mut head = [0; RECORD_HEAD];
    let mut rest = &mut head[..];
    rest.put_u32_le(length);
    rest.put_u8(kind as u8);
    rest.put_u64_le(first);
    rest.put_u32_le(count);
    head
}

/// Decodes the head of a record's frame: position of the first record, number of records, length of the whole frame.
/// `None` if it is not the head of a record's frame.
pub(crate) fn parse_record_head(head: &[u8; RECORD_HEAD]) -> Option<(u64, u32, u64)> {
    let mut rest = &head[..];
    let length = rest.get_u32_le();
    let kind = Kind::of(rest.get_u8()).ok()?;
    let (first, count) = (rest.get_u64_le(), rest.get_u32_le());
    (kind.is_record() && count > 0 && length as usize >= RECORD_HEAD - 4).then_some((
        first,
        count,
        4 + u64::from(length),
    ))
}

/// Encodes a frame that is not a record.
pub(crate) fn host_frame(kind: Kind, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(RECORD_HEAD + payload.len());
    out.extend_from_slice(&record_head(kind, 0, 0, payload.len()));
    out.extend_from_slice(payload);
    out.freeze()
}

impl ToHost {
    /// Encodes the message as a frame.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        out.put_u32_le(0);
        match self {
            Self::Hello { version, from } => {
                out.put_u8(1);
                out.put_u32_le(*version);
                out.put_u64_le(*from);
            }
            Self::Command { head, place, bytes } => {
                let head = serde_json::to_vec(head).unwrap_or_default();
                match place {
                    None => out.put_u8(2),
                    Some(CommandPlace { bytes, position }) => {
                        out.put_u8(8);
                        out.put_u64_le(*bytes);
                        out.put_u64_le(*position);
                    }
                }
                out.put_u32_le(u32::try_from(head.len()).unwrap_or(u32::MAX));
                out.put_slice(&head);
                out.put_slice(bytes);
            }
            Self::Idle => out.put_u8(3),
            Self::Trim { before } => {
                out.put_u8(4);
                out.put_u64_le(*before);
            }
            Self::Stop => out.put_u8(5),
            Self::Kill => out.put_u8(6),
            Self::ShutdownAck { remove } => {
                out.put_u8(7);
                out.put_u8(u8::from(*remove));
            }
            Self::Borrow { next } => {
                out.put_u8(9);
                out.put_u64_le(*next);
            }
            Self::Discard { bytes, before } => {
                out.put_u8(10);
                out.put_u64_le(*bytes);
                out.put_u64_le(*before);
            }
            Self::Return => out.put_u8(11),
            Self::Take(Lent { descriptor, device, inode, next }) => {
                out.put_u8(12);
                out.put_i32_le(*descriptor);
                [device, inode, next].into_iter().for_each(|number| out.put_u64_le(*number));
            }
        }
        let length = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
        out[..4].copy_from_slice(&length.to_le_bytes());
        out.freeze()
    }

    /// Takes the next whole message off the front of a buffer. Returns `None` if the message is incomplete.
    pub(crate) fn next(buffer: &mut BytesMut, longest: usize) -> Result<Option<Self>, InvalidFrame> {
        let Some(length) = body_length(buffer, 1, longest)? else { return Ok(None) };
        if buffer.len() < 4 + length {
            return Ok(None);
        }
        let mut body = buffer.split_to(4 + length).freeze();
        body.advance(4);
        let kind = body.get_u8();
        let message = match (kind, body.len()) {
            // Bytes that later versions append are ignored.
            (1, 12..) => Self::Hello { version: body.get_u32_le(), from: body.get_u64_le() },
            (2, 4..) => Self::command(None, body)?,
            (8, 20..) => {
                let place = CommandPlace { bytes: body.get_u64_le(), position: body.get_u64_le() };
                Self::command(Some(place), body)?
            }
            (3, _) => Self::Idle,
            (4, 8..) => Self::Trim { before: body.get_u64_le() },
            (5, _) => Self::Stop,
            (6, _) => Self::Kill,
            (7, 1..) => Self::ShutdownAck { remove: body.get_u8() == 1 },
            (9, 8..) => Self::Borrow { next: body.get_u64_le() },
            (10, 16..) => Self::Discard { bytes: body.get_u64_le(), before: body.get_u64_le() },
            (11, _) => Self::Return,
            (12, 28..) => Self::Take(Lent {
                descriptor: body.get_i32_le(),
                device: body.get_u64_le(),
                inode: body.get_u64_le(),
                next: body.get_u64_le(),
            }),
            _ => return Err(InvalidFrame),
        };
        Ok(Some(message))
    }

    fn command(place: Option<CommandPlace>, mut body: Bytes) -> Result<Self, InvalidFrame> {
        let head = body.get_u32_le() as usize;
        if head > body.len() {
            return Err(InvalidFrame);
        }
        let head = serde_json::from_slice(&body.split_to(head)).map_err(|_| InvalidFrame)?;
        Ok(Self::Command { head, place, bytes: body })
    }
}

/// The length that a frame states; `None` if the length is incomplete.
fn body_length(buffer: &[u8], least: usize, longest: usize) -> Result<Option<usize>, InvalidFrame> {
    let Some(length) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if length < least || length > longest {
        return Err(InvalidFrame);
    }
    Ok(Some(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_gateway_says_arrives_however_it_is_cut() {
        let head = CommandHead {
            id: "c1:t".into(),
            action: Action::Start { further: vec!["--resume".into(), "x".into()], close: false },
            opens_turn: true,
            meaning: CommandMeaning::Start { session: Some("x".into()) },
        };
        let said = [
            ToHost::Hello { version: 1, from: 7 },
            ToHost::Command { head: head.clone(), place: None, bytes: Bytes::from_static(b"a line\n") },
            ToHost::Command {
                head,
                place: Some(CommandPlace { bytes: 300, position: 4 }),
                bytes: Bytes::from_static(b"a line\n"),
            },
            ToHost::Borrow { next: 8 },
            ToHost::Discard { bytes: 70_000, before: 99 },
            ToHost::Return,
            ToHost::Take(Lent { descriptor: -1, device: 1 << 40, inode: 3, next: 4 }),
            ToHost::Idle,
            ToHost::Trim { before: 9 },
            ToHost::Stop,
            ToHost::Kill,
            ToHost::ShutdownAck { remove: true },
        ];
        let bytes: Vec<u8> = said.iter().flat_map(|message| message.encode().to_vec()).collect();
        for size in 1..bytes.len() {
            let (mut buffer, mut heard) = (BytesMut::new(), Vec::new());
            for part in bytes.chunks(size) {
                buffer.extend_from_slice(part);
                while let Some(message) = ToHost::next(&mut buffer, 1024).unwrap() {
                    heard.push(message);
                }
            }
            assert_eq!(heard, said, "{size} bytes at once");
        }
    }

    #[test]
    fn invalid_frames_are_refused() {
        for bytes in [&[0, 0, 0, 0, 9][..], &[255, 255, 255, 255], &[1, 0, 0, 0, 99], &[2, 0, 0, 0, 4, 0]] {
            assert_eq!(ToHost::next(&mut BytesMut::from(bytes), 1024), Err(InvalidFrame), "{bytes:?}");
        }
        for bytes in
            [&[1, 0, 0, 0][..], &[255, 255, 255, 255], &[13, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]
        {
            assert!(Frame::next(&mut BytesMut::from(bytes), 1024).is_err(), "{bytes:?}");
        }
    }
}
