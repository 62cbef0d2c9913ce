//! An agent's output that is lent: the gateway looks at what is in the pipe, and the host takes out what is kept
//! elsewhere.

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
    lines,
    protocol::{CommandPlace, Kind, Lent, host_frame},
    spool::Spool,
};

/// Most commands that are kept beside an output that is lent.
const COMMANDS: usize = 1024;
/// Most bytes of them. With either, the output is the host's again for a while.
const COMMAND_BYTES: u64 = 1024 * 1024;

/// The pipe that is lent, opened anew for a gateway: it does not block, whatever this process makes of its own.
pub(crate) fn reopen(lent: &Lent) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let file = options.open(format!("/proc/self/fd/{}", lent.descriptor))?;
    let metadata = file.metadata()?;
    // It may have been returned meanwhile, and its number be another's.
    let same = (metadata.dev(), metadata.ino()) == (lent.device, lent.inode);
    if same && metadata.file_type().is_fifo() { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// An output that is lent.
pub(super) struct Loan {
    /// Nobody here is woken by it.
    output: File,
    /// Where goes what is kept elsewhere.
    null: File,
    gateway: u64,
    /// How many bytes were taken out since it was lent.
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

    /// Which of the gateways has it.
    pub(super) fn gateway(&self) -> u64 {
        self.gateway
    }

    /// Keeps a command and its place. Gives its record, which the gateway waits for. After an error it is not kept.
    pub(super) fn told(&mut self, spool: &Spool, place: CommandPlace, head: Vec<u8>) -> io::Result<Bytes> {
        let (bytes, position) = self
            .commands
            .back()
            .map_or((self.taken, self.next - 1), |last| (last.place.bytes, last.position));
        let place = CommandPlace { bytes: place.bytes.max(bytes), ..place };
        let position = place.position.max(position) + 1;
        let record = spool.told(position, &head)?;
        self.commands.push_back(Command { place, position, head });
        if self.commands.len() >= COMMANDS || spool.told_bytes() >= COMMAND_BYTES {
            spool.say(host_frame(Kind::Recall, &[]));
        }
        Ok(record)
    }

    /// Takes out of the pipe what is kept elsewhere, and says so.
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
            spool.forget_told();
        }
        spool.say(host_frame(Kind::Discarded, &bytes.to_le_bytes()));
        Ok(())
    }

    /// Lets the pipe hold more: the more it holds, the less often something is to be taken out. Without that everything
    /// works the same.
    fn grow(&mut self) {
        if !std::mem::replace(&mut self.grown, true) {
            #[cfg(target_os = "linux")]
            let _ = rustix::pipe::fcntl_setpipe_size(&self.output, LENT_BYTES);
        }
    }

    /// Ends it.
    pub(super) fn end(mut self, spool: &Spool) -> Ended {
        let mut backlog = Backlog::new();
        let mut owed = self.next;
        for command in std::mem::take(&mut self.commands) {
            let said = self.take_out(command.place.bytes.saturating_sub(self.taken));
            for piece in pieces(said) {
                let count = lines::count(&piece);
                owed += u64::from(count);
                backlog.push_back((Kind::Output, count, piece));
            }
            owed += 1;
            backlog.push_back((Kind::Command, 1, command.head.into()));
        }
        // The gateway may have decoded all that is there: nothing comes before it any more.
        let begun = self.take_out(u64::MAX);
        owed += u64::from(lines::count(&begun));
        let output = ChildStdout::from_std(OwnedFd::from(self.output).into());
        spool.take_back(if output.is_ok() { owed } else { 0 });
        Ended { output, backlog, begun }
    }

    /// The next bytes in the pipe, at most so many. What the gateway has seen is there.
    fn take_out(&mut self, count: u64) -> Bytes {
        let there = ioctl_fionread(&self.output).unwrap_or(0);
        let mut said = vec![0; usize::try_from(count.min(there)).unwrap_or(usize::MAX)];
        match (&self.output).read_exact(&mut said) {
            Ok(()) => self.taken += said.len() as u64,
            Err(error) => {
                tracing::error!(%error, "a part of the agent's output is not where it was");
                said.clear();
            }
        }
        said.into()
    }
}

/// What is left of a loan.
pub(super) struct Ended {
    pub(super) output: io::Result<ChildStdout>,
    /// The records up to the last command.
    pub(super) backlog: Backlog,
    /// What was said after that and is not in the pipe any more.
    pub(super) begun: Bytes,
}

/// Whole lines, about so many of them as make a frame.
fn pieces(mut said: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || lines::length(&said, FRAME_BYTES).map(|length| said.split_to(length)))
}

/// Most bytes of several lines in one frame.
const FRAME_BYTES: usize = 64 * 1024;

/// An agent of which so many bytes are taken out at once says much.
const MUCH: u64 = 64 * 1024;

/// What the pipe of an agent that says much holds, in bytes. All of one user's pipes together may hold 64 MiB, unless
/// the system's owner has allowed more; beyond that they stay as they are.
#[cfg(target_os = "linux")]
const LENT_BYTES: usize = 1024 * 1024;

/// Drops bytes that are there, at most so many.
#[cfg(target_os = "linux")]
fn drop_bytes(output: &File, null: &File, most: usize) -> io::Result<usize> {
    use rustix::pipe::{SpliceFlags, splice};

    match splice(output, None, null, None, most, SpliceFlags::NONBLOCK)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        count => Ok(count),
    }
}

/// Nothing is lent elsewhere.
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
        loan.told(&spool, place(18, 12), b"thirteen".to_vec()).unwrap();
        loan.discard(&spool, 11, 12).unwrap();
        loan.told(&spool, place(27, 14), b"fifteen".to_vec()).unwrap();
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
        // What a gateway has decoded of it keeps its position, whoever commands something meanwhile.
        let state = *spool.watch().borrow();
        assert!(state.owing && !state.lent);
        assert_eq!(spool.range(), (12, 18));
    }

    #[tokio::test]
    async fn commands_follow_each_other_whatever_is_said_of_their_places() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::new(dir.path(), 1, 1 << 20);
        let (mut writer, mut loan) = lent(&spool, 1);
        writer.write_all(b"one\ntwo\n").unwrap();
        for place in [place(4, 1), place(0, 0), place(4, 1)] {
            loan.told(&spool, place, b"x".to_vec()).unwrap();
        }
        let told = |dir| -> Vec<u64> {
            super::super::spool::read_told(dir).unwrap().into_iter().map(|(position, _)| position).collect()
        };
        assert_eq!(told(dir.path()), [2, 3, 4]);
        let Ended { backlog, begun, .. } = loan.end(&spool);
        assert_eq!(backlog.iter().map(|(_, count, _)| count).sum::<u32>(), 4);
        assert_eq!((&begun[..], spool.range()), (&b"two\n"[..], (1, 6)));
    }

    #[test]
    fn frames_are_whole_lines() {
        let long = vec![b'x'; 2 * FRAME_BYTES];
        let mut said = b"a\n".repeat(FRAME_BYTES);
        said.extend(&long);
        said.push(b'\n');
        let pieces: Vec<_> = pieces(said.clone().into()).collect();
        assert_eq!(
            pieces.iter().map(Bytes::len).collect::<Vec<_>>(),
            [FRAME_BYTES, FRAME_BYTES, long.len() + 1]
        );
        assert_eq!(pieces.concat(), said);
    }
}
