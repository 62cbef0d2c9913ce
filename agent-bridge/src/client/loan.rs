//! The gateway's side of a lent output: reads the agent's output without taking bytes out of its pipe.

use std::{
    collections::VecDeque,
    io::{self, Write as _},
    os::fd::OwnedFd,
    time::Duration,
};

use bytes::Bytes;
use serde::Deserialize;
use tokio::time::Instant;

use super::peek::Peek;
use crate::{
    exec::{lines, process::until},
    host::{
        directory::HostDirectory,
        protocol::{CommandHead, CommandPlace, Lent, ToHost},
        socket,
    },
};

/// Least capacity, in bytes, of a pipe that is worth borrowing.
const LEAST_CAPACITY: usize = 64 * 1024;

/// Delay before the pipe is read again when the agent may have been waiting for room in it.
const SOON: Duration = Duration::from_millis(1);
/// Least and greatest delay between two reads during a turn while the pipe is not empty. A writer that finds the pipe
/// non-empty, without room for its whole write, waits without waking the reader.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));
/// Greatest delay between two reads outside of a turn.
const LONG_PAUSE: Duration = Duration::from_secs(10);

/// Why the pipe should be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadReason {
    More,
    /// The agent has closed its output.
    Closed,
    /// The delay is over.
    Due,
}

/// What gateway and host have agreed on about the output. A sender of messages that depend on it must hold the lock.
#[derive(Debug, Default)]
pub(super) struct Lending {
    phase: Phase,
    /// Number of bytes that were decoded since the output was lent.
    pub(super) decoded: u64,
    /// The ids of commands that were sent since the output was asked for, and have not come back as records.
    awaited: Vec<String>,
}

/// The part of a [`CommandHead`] that is needed here.
#[derive(Deserialize)]
struct Id {
    id: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    /// The host reads the output.
    #[default]
    Returned,
    /// The gateway has asked for the output and has no answer yet. The host may also decline without an answer.
    Asked,
    Lent,
}

impl Lending {
    /// Makes the message for a command, with its place if the output is or may be lent. `position` is that of the last
    /// decoded record.
    pub(super) fn command(&mut self, head: CommandHead, bytes: Bytes, position: u64) -> ToHost {
        let place = match self.phase {
            Phase::Returned => None,
            Phase::Asked | Phase::Lent => {
                self.awaited.push(head.id.clone());
                Some(CommandPlace { bytes: self.decoded, position })
            }
        };
        ToHost::Command { head, place, bytes }
    }

    /// Notes that a command has come back as a record with this payload.
    pub(super) fn came_back(&mut self, head: &[u8]) {
        if !self.awaited.is_empty()
            && let Ok(Id { id }) = serde_json::from_slice(head)
        {
            self.was_known(id.as_bytes());
        }
    }

    /// Notes that a command was a repeat, which gets no record.
    pub(super) fn was_known(&mut self, id: &[u8]) {
        self.awaited.retain(|awaited| awaited.as_bytes() != id);
    }

    /// Whether the output is lent.
    pub(super) fn is_lent(&self) -> bool {
        self.phase == Phase::Lent
    }

    /// Whether lines may be decoded. They must wait while the place of a command among them is unknown.
    pub(super) fn may_go_on(&self) -> bool {
        self.phase == Phase::Lent && self.awaited.is_empty()
    }

    /// Makes the message that asks for the output; `None` if it is lent already. `position` is that of the last decoded
    /// record.
    pub(super) fn ask(&mut self, position: u64) -> Option<ToHost> {
        (!self.is_lent()).then(|| {
            *self = Self { phase: Phase::Asked, ..Self::default() };
            ToHost::Borrow { next: position + 1 }
        })
    }

    /// Notes that the host lends the output. Returns false if the gateway has returned the output meanwhile.
    pub(super) fn lent(&mut self) -> bool {
        let asked = self.phase == Phase::Asked;
        if asked {
            self.phase = Phase::Lent;
        }
        asked
    }

    /// Makes the message that returns the output; `None` if it is neither lent nor asked for.
    pub(super) fn give_back(&mut self) -> Option<ToHost> {
        let before = std::mem::take(&mut self.phase);
        (before != Phase::Returned).then_some(ToHost::Return)
    }
}

/// A lent output.
#[derive(Debug)]
pub(super) struct Loan {
    peek: Peek,
    /// Bytes that were read and not decoded.
    buffer: Vec<u8>,
    /// Number of bytes that were read since the output was lent.
    seen: u64,
    /// Number of bytes that the host has taken out since the output was lent.
    discarded: u64,
    /// Whether the host was asked to take bytes out and has not confirmed it.
    discards: bool,
    /// Checkpoints that the log does not have yet: position, and number of bytes that were decoded by then.
    checkpoints: VecDeque<(u64, u64)>,
    /// The newest checkpoint that the log has, and the one before it.
    committed: Option<(u64, u64)>,
    committed_before: Option<(u64, u64)>,
    /// When to read even if the pipe has not become readable.
    due: Option<Instant>,
    /// The delay before such a read.
    pause: Duration,
}

impl Loan {
    /// Receives the pipe from its host. Waits at most `longest`.
    pub(super) async fn take(directory: HostDirectory, lent: Lent, longest: Duration) -> io::Result<Self> {
        // On a separate connection and with blocking calls: a pipe receiver would lose the descriptor.
        let taken = tokio::task::spawn_blocking(move || {
            let mut socket = directory.connect()?;
            socket.set_read_timeout(Some(longest))?;
            socket.set_write_timeout(Some(longest))?;
            socket.write_all(&ToHost::Take(lent).encode())?;
            socket::receive_descriptor(&socket)
        });
        Self::new(taken.await.map_err(io::Error::other)??, &lent)
    }

    fn new(pipe: OwnedFd, lent: &Lent) -> io::Result<Self> {
        let peek = Peek::new(pipe, lent)?;
        if peek.capacity() < LEAST_CAPACITY {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(Self {
            peek,
            buffer: Vec::new(),
            seen: 0,
            discarded: 0,
            discards: false,
            checkpoints: VecDeque::new(),
            committed: None,
            committed_before: None,
            due: None,
            pause: PAUSES.0,
        })
    }

    fn capacity(&self) -> u64 {
        self.peek.capacity() as u64
    }

    /// Most bytes between two checkpoints, so that several fit into the pipe.
    pub(super) fn checkpoint_bytes(&self) -> u64 {
        self.capacity() / 8
    }

    /// Waits until the pipe should be read. Cancel safe.
    pub(super) async fn ready(&self) -> io::Result<ReadReason> {
        if self.discards {
            // Until the host confirms, it is unknown where in the pipe the unread bytes begin.
            return std::future::pending().await;
        }
        tokio::select! {
            biased;
            closed = self.peek.ready() => closed.map(|closed| if closed { ReadReason::Closed } else { ReadReason::More }),
            () = until(self.due) => Ok(ReadReason::Due),
        }
    }

    /// Reads new bytes. `in_turn` says that more output is expected. Returns false if the agent has closed its output
    /// and everything was read.
    pub(super) fn read(&mut self, reason: ReadReason, in_turn: bool) -> io::Result<bool> {
        let seen = usize::try_from(self.seen - self.discarded).unwrap_or(usize::MAX);
        let read = self.peek.read(seen, reason == ReadReason::Due, &mut self.buffer)?;
        self.seen += read as u64;
        let longest = if in_turn { PAUSES.1 } else { LONG_PAUSE };
        self.pause = match read {
            0 => (self.pause * 2).clamp(PAUSES.0, longest),
            _ if self.is_filling() => SOON,
            _ => PAUSES.0,
        };
        self.expect_more();
        Ok(read > 0 || reason != ReadReason::Closed)
    }

    /// Schedules the next read, if the pipe is not empty.
    fn expect_more(&mut self) {
        self.due = (self.seen > self.discarded).then(|| Instant::now() + self.pause);
    }

    /// Schedules an early read, because a turn has begun or ended.
    pub(super) fn expect_soon(&mut self) {
        self.pause = PAUSES.0;
        self.expect_more();
    }

    /// Whole lines that were read and not decoded, about `about` bytes of them. `None` if there are none, or if one is
    /// longer than `longest`.
    pub(super) fn lines(&self, about: usize, longest: usize) -> Option<&[u8]> {
        let lines = &self.buffer[..lines::length(&self.buffer, about)?];
        (lines.len() <= longest || !lines::has_longer(lines, longest)).then_some(lines)
    }

    /// Notes that the first `bytes` bytes were decoded.
    pub(super) fn decoded(&mut self, bytes: usize) {
        self.buffer.drain(..bytes);
    }

    /// Whether the next line is longer than `longest` or than the pipe.
    pub(super) fn is_too_long(&self, longest: usize) -> bool {
        let is_ahead = self.committed.is_some_and(|(_, bytes)| bytes > self.discarded);
        let nothing_to_take_out = !self.discards && self.checkpoints.is_empty() && !is_ahead;
        self.buffer.len() > longest || (self.is_filling() && nothing_to_take_out)
    }

    /// Whether bytes should be taken out of the pipe. Small writes may need twice their size in it.
    fn is_filling(&self) -> bool {
        self.seen - self.discarded >= self.capacity() / 2
    }

    /// Notes that a checkpoint was sent to the log.
    pub(super) fn checkpointed(&mut self, position: u64, decoded: u64) {
        self.checkpoints.push_back((position, decoded));
    }

    /// Notes that the log has the checkpoint of this position.
    pub(super) fn committed(&mut self, position: u64) {
        while self.checkpoints.front().is_some_and(|(checkpoint, _)| *checkpoint <= position) {
            self.committed_before = self.committed;
            self.committed = self.checkpoints.pop_front();
        }
    }

    /// Makes the message that asks the host to take bytes out, if that is worthwhile: during a turn if there are many,
    /// after a turn if skipping them at each read would cost more. As long as there is room, some bytes stay in the
    /// pipe although the log has them, in case the log loses its end.
    pub(super) fn discard(&mut self, in_turn: bool) -> Option<ToHost> {
        let (position, bytes) = if self.is_filling() { self.committed } else { self.committed_before }?;
        let capacity = self.capacity();
        let worth = if in_turn { capacity * 3 / 8 } else { capacity / 16 };
        let much = self.is_filling() || bytes >= self.discarded + worth;
        if self.discards || !much || bytes <= self.discarded {
            return None;
        }
        self.discards = true;
        Some(ToHost::Discard { bytes, before: position + 1 })
    }

    /// Notes that the host has taken bytes out.
    pub(super) fn discarded(&mut self, bytes: u64) {
        self.discarded = bytes;
        self.discards = false;
        self.peek.measure();
        // An agent that was waiting for room in the pipe has probably written meanwhile.
        self.due = Some(Instant::now() + SOON);
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::{
        io::{PipeReader, PipeWriter, Read as _, Write as _, pipe},
        os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    };

    use rustix::pipe::fcntl_setpipe_size;

    use super::*;
    use crate::host::{
        lending::reopen,
        protocol::{Action, CommandMeaning},
    };

    const CAPACITY: usize = 64 * 1024;

    /// Describes a pipe of this process as if a host had lent it.
    fn lent(reader: &PipeReader) -> Lent {
        let descriptor = reader.as_raw_fd();
        let metadata = std::fs::metadata(format!("/proc/self/fd/{descriptor}")).unwrap();
        Lent { descriptor, device: metadata.dev(), inode: metadata.ino(), next: 1 }
    }

    fn loan() -> (PipeReader, PipeWriter, Loan) {
        let (reader, writer) = pipe().unwrap();
        fcntl_setpipe_size(&reader, CAPACITY).unwrap();
        let loan = open(&lent(&reader)).unwrap();
        (reader, writer, loan)
    }

    /// Opens the pipe as a host does, and makes the loan as a gateway does.
    fn open(lent: &Lent) -> io::Result<Loan> {
        Loan::new(reopen(lent)?.into(), lent)
    }

    /// Takes all whole lines that were read.
    fn lines(loan: &mut Loan) -> Vec<u8> {
        let lines = loan.lines(usize::MAX, usize::MAX).unwrap_or_default().to_vec();
        loan.decoded(lines.len());
        lines
    }

    #[tokio::test]
    async fn lent_output_stays_in_the_pipe_and_each_line_is_read_once() {
        let (mut reader, mut writer, mut loan) = loan();
        let mut looked = Vec::new();
        for n in 0..500 {
            write!(writer, "line {n}\nhalf").unwrap();
            let reason = loan.ready().await.unwrap();
            assert!(loan.read(reason, false).unwrap());
            looked.extend(lines(&mut loan));
            writeln!(writer, " a line").unwrap();
        }
        drop(writer);
        let reason = loan.ready().await.unwrap();
        assert_eq!(reason, ReadReason::Closed);
        assert!(loan.read(reason, false).unwrap(), "there was something");
        looked.extend(lines(&mut loan));
        assert!(!loan.read(ReadReason::Closed, false).unwrap());
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert_eq!(looked, all);
    }

    #[tokio::test]
    async fn what_the_log_has_is_taken_out_while_a_writer_waits_for_room() {
        const ALL: usize = 40 * CAPACITY;
        let (mut reader, mut writer, mut loan) = loan();
        // One large write, which does not wake the reader while it waits for room.
        let sent: Vec<u8> =
            (0..ALL).map(|n| if n % 100 == 99 { b'\n' } else { b'a' + (n % 23) as u8 }).collect();
        let written = sent.clone();
        let writer = std::thread::spawn(move || writer.write_all(&written).unwrap());
        let (mut looked, mut taken) = (Vec::new(), 0);
        while looked.len() < ALL - 100 {
            let reason = loan.ready().await.unwrap();
            assert!(loan.read(reason, true).unwrap());
            looked.extend(lines(&mut loan));
            loan.checkpointed(looked.len() as u64 / 100, looked.len() as u64);
            loan.committed(looked.len() as u64 / 100);
            if let Some(ToHost::Discard { bytes, before }) = loan.discard(true) {
                assert!(bytes == (before - 1) * 100 && bytes <= looked.len() as u64);
                let mut gone = vec![0; usize::try_from(bytes).unwrap() - taken];
                reader.read_exact(&mut gone).unwrap();
                assert_eq!(gone, sent[taken..taken + gone.len()]);
                taken += gone.len();
                assert!(loan.discard(true).is_none(), "one after the other");
                loan.discarded(bytes);
            }
        }
        writer.join().unwrap();
        assert!(looked == sent[..looked.len()]);
    }

    #[tokio::test]
    async fn a_line_that_fills_the_pipe_is_not_waited_for() {
        let (_reader, mut writer, mut loan) = loan();
        writer.write_all(&vec![b'x'; CAPACITY / 4]).unwrap();
        let reason = loan.ready().await.unwrap();
        loan.read(reason, true).unwrap();
        assert!(loan.lines(usize::MAX, usize::MAX).is_none() && !loan.is_too_long(usize::MAX));
        assert!(loan.is_too_long(1000), "too long for anybody");
        writer.write_all(&vec![b'x'; CAPACITY / 4]).unwrap();
        loan.read(ReadReason::Due, true).unwrap();
        assert!(loan.is_too_long(usize::MAX));
        writer.write_all(b"\nshort\n").unwrap();
        loan.read(ReadReason::Due, true).unwrap();
        assert!(loan.lines(usize::MAX, 1000).is_none(), "whole, and too long");
    }

    #[tokio::test]
    async fn another_pipe_is_not_taken_for_the_one_that_is_lent() {
        let (reader, _writer) = pipe().unwrap();
        let right = lent(&reader);
        open(&right).unwrap();
        for wrong in [Lent { inode: right.inode + 1, ..right }, Lent { descriptor: 9999, ..right }] {
            assert!(open(&wrong).is_err(), "{wrong:?}");
            assert!(Loan::new(reopen(&right).unwrap().into(), &wrong).is_err() || wrong.inode == right.inode);
        }
        fcntl_setpipe_size(&reader, 4096).unwrap();
        assert!(open(&right).is_err(), "too small");
    }

    #[test]
    fn a_command_that_was_sent_since_it_was_asked_for_is_waited_for() {
        let command = |lending: &mut Lending, id: &str| {
            let head = CommandHead {
                id: id.into(),
                action: Action::Note,
                opens_turn: false,
                meaning: CommandMeaning::Reply,
            };
            let payload = serde_json::to_vec(&head).unwrap();
            let ToHost::Command { place, .. } = lending.command(head, Bytes::new(), 7) else { panic!() };
            (payload, place)
        };
        let mut lending = Lending::default();
        assert_eq!(command(&mut lending, "before").1, None);
        assert_eq!(lending.ask(7), Some(ToHost::Borrow { next: 8 }));
        let (first, place) = command(&mut lending, "first");
        assert_eq!(place, Some(CommandPlace { bytes: 0, position: 7 }));
        // The host may have declined, so the output is asked for again; earlier commands no longer count.
        assert!(lending.ask(7).is_some() && lending.lent() && lending.may_go_on());
        assert_eq!(lending.ask(7), None, "it is lent");
        lending.decoded = 300;
        let (second, place) = command(&mut lending, "second");
        assert_eq!(place, Some(CommandPlace { bytes: 300, position: 7 }));
        command(&mut lending, "third");
        lending.came_back(&first);
        lending.came_back(&second);
        assert!(!lending.may_go_on());
        lending.was_known(b"third");
        assert!(lending.may_go_on());
        assert_eq!(lending.give_back(), Some(ToHost::Return));
        assert_eq!(lending.give_back(), None);
        assert!(!lending.lent(), "returned before it came");
    }
}
