//! What a gateway and a host say to each other, byte for byte.
//!
//! Both sides send frames: a length (`u32`, little-endian, of what follows it), a kind (`u8`), a body. The
//! gateway begins with [`ToHost::Hello`], the host answers with [`HostHello`]; then records flow one way and
//! commands the other. What the host sends of records is what its spool files hold, byte for byte.
//!
//! `Hello`, `Stop` and `Kill` keep their form in every version, so that any gateway can end any host.
//!
//! A host that says so in its hello can lend the agent's output: the gateway reads the agent's pipe itself, and leaves
//! in it what it reads, until the host is told that the log has it.
//!
//! 1. [`ToHost::Borrow`] asks. Where nothing is half-read and the gateway knows all records, [`Kind::Lent`] names the
//!    pipe; otherwise nothing is said, and records go on. [`ToHost::Take`], on a connection of its own, gets the pipe as
//!    a descriptor (`SCM_RIGHTS`): nobody can open it through `/proc`, since a host is not dumpable.
//! 2. Each line in the pipe is the record after the one before it. A command says at which byte of the output it was
//!    sent ([`CommandPlace`]); the gateway decodes no further until its record has come back, or [`Kind::Known`].
//! 3. [`ToHost::Discard`] names bytes that are kept elsewhere, and the gateway does not look into the pipe until
//!    [`Kind::Discarded`].
//! 4. [`ToHost::Return`] ends it, at any time, and so does the end of the connection. A host asks for it with
//!    [`Kind::Recall`], and does without after a second where it is ending its agent. What is in the pipe then becomes records as ever, from the first byte that was not discarded
//!    on, with the commands in their places.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// The version of everything in here.
pub(crate) const VERSION: u32 = 1;

/// The bytes of a frame before its body: length and kind.
pub(crate) const FRAME_HEAD: usize = 5;
/// The bytes of a record's frame before its payload: length, kind, position of the first record, count.
pub(crate) const RECORD_HEAD: usize = FRAME_HEAD + 12;

/// A frame that nobody could have meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InvalidFrame;

/// What a gateway says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ToHost {
    /// First of all: records are wanted from this position on.
    Hello { version: u32, from: u64 },
    /// To be spooled, then done; a repeat is ignored by its id. The place counts while the output is lent.
    Command { head: CommandHead, place: Option<CommandPlace>, bytes: Bytes },
    /// The turn that was opened has ended.
    Idle,
    /// Records before this position are kept elsewhere.
    Trim { before: u64 },
    /// End the agent in good order, then say so ([`Kind::Ended`]).
    Stop,
    /// End the agent by force, then say so.
    Kill,
    /// All that the host has said is known: it exits, and removes its directory if that is wanted.
    Farewell { remove: bool },
    /// Records are known up to the one before `next`, and the agent's output is to be lent.
    Borrow { next: u64 },
    /// The first so many bytes since it was lent, which are the records before this position, are kept elsewhere.
    Discard { bytes: u64, before: u64 },
    /// The output that was lent, or asked for, is the host's again.
    Return,
    /// The pipe that is lent is wanted, and nothing else: the first and only message of its connection.
    Take(Lent),
}

/// Where a command stands in an output that is lent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CommandPlace {
    /// Behind so many bytes since it was lent.
    pub(crate) bytes: u64,
    /// The last record before it, as far as the gateway knows.
    pub(crate) position: u64,
}

/// What a command is; spooled as a record of its own, without the bytes that it writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CommandHead {
    /// Names it within this host's life.
    pub(crate) id: String,
    /// What to do.
    pub(crate) action: Action,
    /// Whether a turn is open from here on.
    #[serde(default)]
    pub(crate) opens_turn: bool,
    /// What it means to the decoder; of no interest to the host.
    pub(crate) told: CommandMeaning,
}

/// What the host does for a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    /// Nothing: the record itself is what is wanted.
    Note,
    /// Writes the bytes to the agent's input.
    Write,
    /// Starts the agent's command with further arguments, writes the bytes, and closes the input if wanted.
    Start { further: Vec<String>, close: bool },
    /// Ends the process, by force at once or after it was asked to go.
    End { force: bool },
}

/// What a command means to the decoder of the records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CommandMeaning {
    /// A process begins, with this session to take up.
    Start { session: Option<String> },
    /// A prompt.
    Prompt { turn: String },
    /// A cancel.
    Cancel { turn: String },
    /// A person's answer.
    Answer { request: String },
    /// A turn that was cancelled before the agent had heard of it.
    Void { turn: String },
    /// Something that the decoder itself owed the agent.
    #[serde(other)]
    Reply,
}

/// The kinds of frames that a host sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// [`HostHello`]; not a record.
    Hello = 1,
    /// The agent's output: as many records as whole lines, or one that is what was read.
    Output = 2,
    /// A [`CommandHead`].
    Command = 3,
    /// A process could not be started; the payload is a [`SpawnFailure`].
    SpawnFailed = 4,
    /// A process has exited and everything it said comes before; the payload is an [`Exited`].
    Exited = 5,
    /// A process closed its output and has not exited.
    OutputClosed = 6,
    /// A process wrote a line over the limit.
    TooLong = 7,
    /// The host has ended its agent and waits for the farewell; not a record.
    Ended = 8,
    /// The disk does not take what is to be spooled, so the agent or its input waits: whoever watches the agent's
    /// silence must not blame it. Repeated for as long as that lasts; not a record.
    Stuck = 9,
    /// The output is lent; the payload is a [`Lent`]. Not a record.
    Lent = 10,
    /// It was done; the payload is [`ToHost::Discard`]'s number of bytes (`u64`, little-endian). Not a record.
    Discarded = 11,
    /// The output is to be returned. Not a record.
    Recall = 12,
    /// A command with a place was a repeat, and no record comes of it; the payload is its id. Not a record.
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
            7 => Self::TooLong,
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
            | Self::TooLong => true,
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
    /// Its version. Where it differs from the gateway's, nothing but `Stop` and `Kill` is understood.
    pub(crate) version: u32,
    /// The first position that its spool still has.
    #[serde(default)]
    pub(crate) first: u64,
    /// The position that the next record gets.
    #[serde(default)]
    pub(crate) next: u64,
    /// Whether it can lend the agent's output.
    #[serde(default)]
    pub(crate) lends: bool,
}

/// The pipe that is lent: a descriptor of the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lent {
    pub(crate) descriptor: i32,
    /// What tells it from any other pipe.
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// The position of the first record in it.
    pub(crate) next: u64,
}

/// How a process ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exited {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    /// The last lines of its standard error.
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

/// A frame of a host: its kind, the positions that it covers, its payload.
#[derive(Debug)]
pub(crate) struct Frame<P = Bytes> {
    pub(crate) kind: Kind,
    /// The position of the first record in here.
    pub(crate) first: u64,
    /// How many records it holds; zero where it is none.
    pub(crate) count: u32,
    pub(crate) payload: P,
}

impl<P> Frame<P> {
    /// The position of the last record in here.
    pub(crate) fn last(&self) -> u64 {
        self.first.saturating_add(u64::from(self.count)).saturating_sub(1)
    }
}

impl Frame {
    /// Takes the next whole frame off the front of a buffer. None: its end has not come yet.
    pub(crate) fn next(buffer: &mut BytesMut, longest: usize) -> Result<Option<Self>, InvalidFrame> {
        let Some(length) = body_length(buffer, RECORD_HEAD - 4, longest)? else { return Ok(None) };
        if buffer.len() < 4 + length {
            // What is missing comes in one piece of memory.
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

/// The beginning of a host's frame.
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

/// The positions of a frame by its beginning, and the length of the whole.
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

/// A frame of a host that is no record.
pub(crate) fn host_frame(kind: Kind, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(RECORD_HEAD + payload.len());
    out.extend_from_slice(&record_head(kind, 0, 0, payload.len()));
    out.extend_from_slice(payload);
    out.freeze()
}

impl ToHost {
    /// As bytes.
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
            Self::Farewell { remove } => {
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

    /// Takes the next whole message off the front of a buffer.
    pub(crate) fn next(buffer: &mut BytesMut, longest: usize) -> Result<Option<Self>, InvalidFrame> {
        let Some(length) = body_length(buffer, 1, longest)? else { return Ok(None) };
        if buffer.len() < 4 + length {
            return Ok(None);
        }
        let mut body = buffer.split_to(4 + length).freeze();
        body.advance(4);
        let kind = body.get_u8();
        let message = match (kind, body.len()) {
            // What later versions append is passed over.
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
            (7, 1..) => Self::Farewell { remove: body.get_u8() == 1 },
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

/// The length that a frame states; None if even that has not come yet.
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
            told: CommandMeaning::Start { session: Some("x".into()) },
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
            ToHost::Farewell { remove: true },
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
    fn what_nobody_could_mean_is_refused() {
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
