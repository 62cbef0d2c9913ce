//! The protocol between a gateway and a host.
//!
//! Both sides send frames: a length (`u32`, little-endian, of the rest of the frame), a kind (`u8`), and a body. The
//! gateway begins with [`ToHost::Hello`] and the host answers with [`HostHello`]. From then on the host sends notes and
//! the gateway sends commands. The host sends notes exactly as its files contain them. What the agent has written, the
//! gateway reads in the spool's files itself ([`super::output`]).
//!
//! `Hello`, `Stop` and `Kill` have the same form in every version, so that any gateway can end any host.
//!
//! The connected gateway also moves the agent's output from its pipe to these files:
//!
//! 1. With [`Kind::Pipe`] the host hands the pipe over, and moves nothing any more. The gateway sends [`ToHost::Take`] on
//!    a separate connection and receives the pipe as a descriptor (`SCM_RIGHTS`). It cannot open the pipe through
//!    `/proc`, because a host is not dumpable.
//! 2. A command contains the offset up to which the gateway has decoded the output. The gateway decodes nothing behind
//!    that offset until the command's note or [`Kind::Known`] arrives.
//! 3. With [`ToHost::Return`] or the end of the connection, the host moves the output again. A host asks for that with
//!    [`Kind::Recall`] when the agent has exited, and waits before it writes how the agent exited. While the host moves
//!    output, it says how far with [`Kind::Grown`].

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// The version of this protocol. A gateway of another version can only end this host, unless it greets the host in this
/// version.
pub(crate) const VERSION: u32 = 3;
/// The oldest version of hosts that a gateway understands. A host of version 2 sends the output as well, as records that
/// are counted ([`super::earlier`]). A gateway serves it until its turn has ended, and then stops it.
pub(crate) const OLDEST_VERSION: u32 = 2;

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
    /// A command to note and then to carry out. A repeated command, recognised by its id, is ignored. `offset` is the
    /// offset in the output up to which the gateway has decoded; a host of version 2 gets none.
    Command { head: CommandHead, offset: Option<u64>, bytes: Bytes },
    /// The open turn has ended.
    Idle,
    /// The log has all records before this position, so the host may drop their notes.
    Trim { before: u64 },
    /// Stop the agent gracefully, then send [`Kind::Ended`].
    Stop,
    /// Kill the agent, then send [`Kind::Ended`].
    Kill,
    /// The shutdown acknowledgement: the gateway has all records. The host exits; if `remove` is set, it removes its
    /// directory.
    ShutdownAck { remove: bool },
    /// The gateway moves no output any more.
    Return,
    /// Asks for the descriptor of the pipe. The first and only message of its connection.
    Take(Pipe),
}

/// A command without the bytes that it writes, as it is noted.
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
    /// Nothing, apart from the note.
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
    /// Version 2: output of the agent: whole lines, one record each, or in dialect `text` the bytes of one read as one
    /// record.
    Output = 2,
    /// A command was noted; the payload is a [`CommandHead`].
    Command = 3,
    /// A process could not be started; the payload is a [`SpawnFailure`].
    SpawnFailed = 4,
    /// A process has exited, and all its output is in earlier records; the payload is an [`Exited`].
    Exited = 5,
    /// A process closed its output and has not exited.
    OutputClosed = 6,
    /// Version 2: a process wrote a line that is longer than the limit, and the line was skipped. The payload is its
    /// number of bytes (`u64`, little-endian), and its first bytes.
    Skipped = 7,
    /// The host has ended its agent and waits for the shutdown acknowledgement. Not a record.
    Ended = 8,
    /// The disk is full or fails, so that the agent or its input waits: the agent must not be taken for a hanging one.
    /// Repeated while the disk fails. Not a record.
    Stuck = 9,
    /// The gateway is to move the output; the payload is a [`Pipe`]. Not a record.
    Pipe = 10,
    /// The gateway must return the pipe. Not a record.
    Recall = 12,
    /// A command was a repeat, so it gets no note; the payload is the command's id. Not a record.
    Known = 13,
    /// The host has moved the output up to this offset (`u64`, little-endian). Not a record.
    Grown = 14,
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
            10 => Self::Pipe,
            12 => Self::Recall,
            13 => Self::Known,
            14 => Self::Grown,
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
            | Self::Pipe
            | Self::Recall
            | Self::Known
            | Self::Grown => false,
        }
    }
}

/// A host's answer to a gateway's hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostHello {
    /// The host's protocol version. If it differs from that of the gateway's hello, the host understands only `Stop` and
    /// `Kill` on this connection.
    pub(crate) version: u32,
    /// The offset of the first byte of output that the spool still has; in version 2 the position of the first record.
    #[serde(default)]
    pub(crate) first: u64,
    /// Version 2: the position of the next record.
    #[serde(default)]
    pub(crate) next: u64,
    /// The offset of the end of the output.
    #[serde(default)]
    pub(crate) end: u64,
    /// The position of the last note.
    #[serde(default)]
    pub(crate) noted: u64,
}

impl HostHello {
    pub(crate) fn frame(&self) -> Bytes {
        host_frame(Kind::Hello, &serde_json::to_vec(self).unwrap_or_default())
    }
}

/// The pipe that has the agent's output, as a descriptor number in the host's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pipe {
    pub(crate) descriptor: i32,
    /// Device and inode identify the pipe.
    pub(crate) device: u64,
    pub(crate) inode: u64,
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

/// Encodes the head of a host's frame; `first` is a position, `payload` is the payload's length in bytes.
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

/// Splits the first record's frame off a file: its position, the frame, and what is behind it. `None` if there is no whole
/// one.
pub(crate) fn split_record(bytes: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (position, _, length) = parse_record_head(bytes.first_chunk()?)?;
    let (frame, behind) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    Some((position, frame, behind))
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
            Self::Command { head, offset, bytes } => {
                let head = serde_json::to_vec(head).unwrap_or_default();
                match offset {
                    None => out.put_u8(2),
                    Some(offset) => {
                        out.put_u8(8);
                        out.put_u64_le(*offset);
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
            Self::Return => out.put_u8(11),
            Self::Take(Pipe { descriptor, device, inode }) => {
                out.put_u8(12);
                out.put_i32_le(*descriptor);
                [device, inode].into_iter().for_each(|number| out.put_u64_le(*number));
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
            (8, 12..) => Self::command(Some(body.get_u64_le()), body)?,
            (3, _) => Self::Idle,
            (4, 8..) => Self::Trim { before: body.get_u64_le() },
            (5, _) => Self::Stop,
            (6, _) => Self::Kill,
            (7, 1..) => Self::ShutdownAck { remove: body.get_u8() == 1 },
            (11, _) => Self::Return,
            (12, 20..) => Self::Take(Pipe {
                descriptor: body.get_i32_le(),
                device: body.get_u64_le(),
                inode: body.get_u64_le(),
            }),
            _ => return Err(InvalidFrame),
        };
        Ok(Some(message))
    }

    fn command(offset: Option<u64>, mut body: Bytes) -> Result<Self, InvalidFrame> {
        let head = body.get_u32_le() as usize;
        if head > body.len() {
            return Err(InvalidFrame);
        }
        let head = serde_json::from_slice(&body.split_to(head)).map_err(|_| InvalidFrame)?;
        Ok(Self::Command { head, offset, bytes: body })
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
            ToHost::Command { head: head.clone(), offset: None, bytes: Bytes::from_static(b"a line\n") },
            ToHost::Command { head, offset: Some(300), bytes: Bytes::from_static(b"a line\n") },
            ToHost::Return,
            ToHost::Take(Pipe { descriptor: -1, device: 1 << 40, inode: 3 }),
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
