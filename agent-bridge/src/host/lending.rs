//! The host's side of a lent output: the gateway reads the agent's pipe without taking bytes out, and the host takes
//! out the bytes that the log has.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
};

use bytes::Bytes;
use rustix::{
    fs::OFlags,
    io::{ioctl_fionbio, ioctl_fionread},
};
use tokio::process::ChildStdout;

use super::{
    intake::Backlog,
    protocol::{CommandPlace, Kind, Lent, host_frame},
    spool::Spool,
};
use crate::exec::lines;

/// Most commands that are stored beside a lent output.
const COMMANDS: usize = 1024;
/// Most bytes of such commands. When either limit is reached, the host asks for the output back.
const COMMAND_BYTES: u64 = 1024 * 1024;

/// Opens the lent pipe again for a gateway. The new descriptor is non-blocking, independently of the host's own.
pub(crate) fn reopen(lent: &Lent) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let file = options.open(format!("/proc/self/fd/{}", lent.descriptor))?;
    let metadata = file.metadata()?;
    // The output may have been returned meanwhile, and its descriptor number reused.
    let same = (metadata.dev(), metadata.ino()) == (lent.device, lent.inode);
    if same && metadata.file_type().is_fifo() { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// A lent output.
pub(super) struct Loan {
    /// The agent's output, not registered with the runtime, so that it wakes no task.
    output: File,
    /// `/dev/null`, where taken bytes go.
    null: File,
    gateway: u64,
    /// Number of bytes that were taken out since the output was lent.
    taken: u64,
    /// The position of the first record in the pipe.
    next: u64,
    /// The commands whose places are in the pipe.
    commands: VecDeque<Command>,
    grown: bool,
}

struct Command {
    place: CommandPlace,
    position: u64,
    head: Vec<u8>,
}

impl Loan {
    /// Lends an output to a gateway.
    pub(super) fn new(output: ChildStdout, spool: &Spool, next: u64, gateway: u64) -> io::Result<Self> {
        let null = OpenOptions::new().write(true).open("/dev/null")?;
        let output = File::from(output.into_owned_fd()?);
        ioctl_fionbio(&output, true)?;
        let metadata = output.metadata()?;
        let lent =
            Lent { descriptor: output.as_raw_fd(), device: metadata.dev(), inode: metadata.ino(), next };
        spool.lend(host_frame(Kind::Lent, &serde_json::to_vec(&lent)?));
        Ok(Self { output, null, gateway, taken: 0, next, commands: VecDeque::new(), grown: false })
    }

    /// The number of the gateway that has the output.
    pub(super) fn gateway(&self) -> u64 {
        self.gateway
    }

    /// Stores a command and its place. Returns the command's record, which the gateway waits for. After an error the
    /// command is not stored.
    pub(super) fn store_command(
        &mut self,
        spool: &Spool,
        place: CommandPlace,
        head: Vec<u8>,
    ) -> io::Result<Bytes> {
        let (bytes, position) = self
            .commands
            .back()
            .map_or((self.taken, self.next - 1), |last| (last.place.bytes, last.position));
        let place = CommandPlace { bytes: place.bytes.max(bytes), ..place };
        let position = place.position.max(position) + 1;
        let record = spool.store_command(position, &head)?;
        self.commands.push_back(Command { place, position, head });
        if self.commands.len() >= COMMANDS || spool.stored_command_bytes() >= COMMAND_BYTES {
            spool.send(host_frame(Kind::Recall, &[]));
        }
        Ok(record)
    }

    /// Takes bytes out of the pipe that the log has, and confirms that to the gateway.
    pub(super) fn discard(&mut self, spool: &Spool, bytes: u64, before: u64) -> io::Result<()> {
        if bytes.saturating_sub(self.taken) >= MUCH {
            self.grow();
        }
        while self.taken < bytes {
            let most = usize::try_from(bytes - self.taken).unwrap_or(usize::MAX);
            self.taken += drop_bytes(&self.output, &self.null, most)? as u64;
        }
        self.next = self.next.max(before);
        self.commands.retain(|command| command.position >= before);
        spool.skip_to(before);
        if self.commands.is_empty() {
            spool.drop_stored_commands();
        }
        spool.send(host_frame(Kind::Discarded, &bytes.to_le_bytes()));
        Ok(())
    }

    /// Enlarges the pipe, so that bytes must be taken out less often. Nothing depends on its size.
    fn grow(&mut self) {
        if !std::mem::replace(&mut self.grown, true) {
            #[cfg(target_os = "linux")]
            let _ = rustix::pipe::fcntl_setpipe_size(&self.output, LENT_BYTES);
        }
    }

    /// Ends the loan. Returns the output and the records that were in the pipe.
    pub(super) fn end(mut self, spool: &Spool) -> Ended {
        let mut backlog = Backlog::new();
        let mut next = self.next;
        for command in std::mem::take(&mut self.commands) {
            let bytes = self.take_out(command.place.bytes.saturating_sub(self.taken));
            for piece in pieces(bytes) {
                let count = lines::count(&piece);
                next += u64::from(count);
                backlog.push_back((Kind::Output, count, piece));
            }
            next += 1;
            backlog.push_back((Kind::Command, 1, command.head.into()));
        }
        // The gateway may have decoded everything in the pipe, so these lines come before all new records.
        let begun = self.take_out(u64::MAX);
        next += u64::from(lines::count(&begun));
        let output = ChildStdout::from_std(OwnedFd::from(self.output).into());
        spool.take_back(if output.is_ok() { next } else { 0 });
        Ended { output, backlog, begun }
    }

    /// Reads up to `count` bytes from the pipe.
    fn take_out(&mut self, count: u64) -> Bytes {
        let there = ioctl_fionread(&self.output).unwrap_or(0);
        let mut bytes = vec![0; usize::try_from(count.min(there)).unwrap_or(usize::MAX)];
        match (&self.output).read_exact(&mut bytes) {
            Ok(()) => self.taken += bytes.len() as u64,
            Err(error) => {
                tracing::error!(%error, "a part of the agent's output is not where it was");
                bytes.clear();
            }
        }
        bytes.into()
    }
}

/// The results of ending a loan.
pub(super) struct Ended {
    pub(super) output: io::Result<ChildStdout>,
    /// The records up to and including the last command.
    pub(super) backlog: Backlog,
    /// Output after the last command that was read from the pipe.
    pub(super) begun: Bytes,
}

/// Splits off whole lines, about [`FRAME_BYTES`] at a time.
fn pieces(mut bytes: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || lines::length(&bytes, FRAME_BYTES).map(|length| bytes.split_to(length)))
}

/// Most bytes of several lines in one frame.
const FRAME_BYTES: usize = 64 * 1024;

/// The pipe is enlarged when at least this many bytes are taken out at once.
const MUCH: u64 = 64 * 1024;

/// Size of an enlarged pipe, in bytes. By default, Linux limits the pipes of one user to 64 MiB in total; beyond that,
/// a pipe keeps its size.
#[cfg(target_os = "linux")]
const LENT_BYTES: usize = 1024 * 1024;

/// Drops up to `most` bytes from the pipe.
#[cfg(target_os = "linux")]
fn drop_bytes(output: &File, null: &File, most: usize) -> io::Result<usize> {
    use rustix::pipe::{SpliceFlags, splice};

    match splice(output, None, null, None, most, SpliceFlags::NONBLOCK)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        count => Ok(count),
    }
}

/// Outputs are lent on Linux only.
#[cfg(not(target_os = "linux"))]
fn drop_bytes(_output: &File, _null: &File, _most: usize) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::io::{PipeWriter, Write as _, pipe};

    use super::*;

    fn lent(spool: &Spool, next: u64) -> (PipeWriter, Loan) {
        let (reader, writer) = pipe().unwrap();
        let output = ChildStdout::from_std(OwnedFd::from(reader).into()).unwrap();
        (writer, Loan::new(output, spool, next, 1).unwrap())
    }

    fn place(bytes: u64, position: u64) -> CommandPlace {
        CommandPlace { bytes, position }
    }

    #[tokio::test]
    async fn all_that_is_in_the_pipe_comes_before_anything_new_with_commands_in_their_places() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::new(dir.path(), 10, 1 << 20);
        let (mut writer, mut loan) = lent(&spool, 10);
        writer.write_all(b"ten\neleven\ntwelve\nfourteen\nsixteen\nseventeen\nhalf").unwrap();
        loan.store_command(&spool, place(18, 12), b"thirteen".to_vec()).unwrap();
        loan.discard(&spool, 11, 12).unwrap();
        loan.store_command(&spool, place(27, 14), b"fifteen".to_vec()).unwrap();
        assert_eq!(spool.range(), (12, 12));
        let Ended { output, backlog, begun } = loan.end(&spool);
        output.unwrap();
        let expected: [(Kind, u32, &[u8]); 4] = [
            (Kind::Output, 1, b"twelve\n"),
            (Kind::Command, 1, b"thirteen"),
            (Kind::Output, 1, b"fourteen\n"),
            (Kind::Command, 1, b"fifteen"),
        ];
        let backlog: Vec<_> =
            backlog.iter().map(|(kind, count, payload)| (*kind, *count, &payload[..])).collect();
        assert_eq!(backlog, expected);
        assert_eq!(begun, "sixteen\nseventeen\nhalf");
        // Output that the gateway has decoded keeps its positions, even if the gateway sends another command.
        let state = *spool.watch().borrow();
        assert!(state.pending && !state.lent);
        assert_eq!(spool.range(), (12, 18));
    }

    #[tokio::test]
    async fn commands_follow_each_other_whatever_is_said_of_their_places() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::new(dir.path(), 1, 1 << 20);
        let (mut writer, mut loan) = lent(&spool, 1);
        writer.write_all(b"one\ntwo\n").unwrap();
        for place in [place(4, 1), place(0, 0), place(4, 1)] {
            loan.store_command(&spool, place, b"x".to_vec()).unwrap();
        }
        let stored = |dir| -> Vec<u64> {
            super::super::spool::read_stored_commands(dir)
                .unwrap()
                .into_iter()
                .map(|(position, _)| position)
                .collect()
        };
        assert_eq!(stored(dir.path()), [2, 3, 4]);
        let Ended { backlog, begun, .. } = loan.end(&spool);
        assert_eq!(backlog.iter().map(|(_, count, _)| count).sum::<u32>(), 4);
        assert_eq!((&begun[..], spool.range()), (&b"two\n"[..], (1, 6)));
    }

    #[test]
    fn frames_are_whole_lines() {
        let long = vec![b'x'; 2 * FRAME_BYTES];
        let mut bytes = b"a\n".repeat(FRAME_BYTES);
        bytes.extend(&long);
        bytes.push(b'\n');
        let pieces: Vec<_> = pieces(bytes.clone().into()).collect();
        assert_eq!(
            pieces.iter().map(Bytes::len).collect::<Vec<_>>(),
            [FRAME_BYTES, FRAME_BYTES, long.len() + 1]
        );
        assert_eq!(pieces.concat(), bytes);
    }
}
