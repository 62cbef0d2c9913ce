//! Records, and the positions of lines.

use crate::host::{
    position::Position,
    protocol::{CommandMeaning, Exited, SpawnFailure},
};

/// A record of an agent instance: what was sent to its process, and what the process did.
#[derive(Debug)]
pub(crate) enum Record<'a> {
    /// Output of the process: whole lines, each of them a record, or the bytes of one read.
    Output {
        /// Number of records.
        count: u32,
        bytes: &'a [u8],
    },
    /// A command was delivered.
    Command(CommandMeaning),
    /// A process could not be started.
    SpawnFailed(SpawnFailure),
    /// A process has exited, and all its output is in earlier records.
    Exited(Exited),
    /// A process closed its output and has not exited.
    OutputClosed,
    /// A process wrote a line that is longer than the limit, and the line was skipped.
    Skipped {
        /// The line's length in bytes.
        bytes: u64,
        /// The line's first bytes.
        prefix: &'a [u8],
    },
}

impl Record<'_> {
    pub(super) fn count(&self) -> u32 {
        match self {
            Record::Output { count, .. } => *count,
            Record::Command(_)
            | Record::SpawnFailed(_)
            | Record::Exited(_)
            | Record::OutputClosed
            | Record::Skipped { .. } => 1,
        }
    }
}

/// Which positions lines of output have.
#[derive(Debug, Clone, Copy)]
pub(super) enum LinePositions {
    /// The first line has this position, and each other one the next.
    Counted(u64),
    /// The first byte has this offset in a spool.
    At(u64),
}

impl LinePositions {
    /// The position of the `nth` line, counted from 0, which ends before byte `end` of these lines.
    pub(super) fn of(self, nth: u64, end: usize) -> u64 {
        match self {
            Self::Counted(first) => first + nth,
            Self::At(offset) => Position::of_output(offset + end as u64),
        }
    }
}
