//! The output of a running process, and who moves it to the spool.

use std::{io, os::fd::OwnedFd};

use rustix::io::ioctl_fionbio;
use tokio::{process::ChildStdout, sync::watch};

use crate::exec::{process::Owned, read_mode::ReadMode};

/// The output of a running process.
pub(super) struct RunningOutput {
    pipe: OwnedFd,
    state: State,
    pub(super) mode: watch::Sender<ReadMode>,
}

enum State {
    /// This host moves it.
    Moving(Owned<()>),
    /// The gateway moves it.
    HandedOver,
    /// Nothing follows.
    Closed,
}

impl RunningOutput {
    /// The output of a process that was just started, which nobody moves yet.
    pub(super) fn new(output: ChildStdout) -> io::Result<Self> {
        let pipe = output.into_owned_fd()?;
        ioctl_fionbio(&pipe, true)?;
        Ok(Self { pipe, state: State::HandedOver, mode: watch::channel(ReadMode::Live).0 })
    }

    pub(super) fn pipe(&self) -> &OwnedFd {
        &self.pipe
    }

    /// The task that moves the output; `None` if this host does not move it.
    pub(super) fn moving(&mut self) -> Option<&mut Owned<()>> {
        match &mut self.state {
            State::Moving(task) => Some(task),
            State::HandedOver | State::Closed => None,
        }
    }

    pub(super) fn is_handed_over(&self) -> bool {
        matches!(self.state, State::HandedOver)
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Notes that the gateway moves it from now on. Ends the task of this host.
    pub(super) fn hand_over(&mut self) {
        self.state = State::HandedOver;
    }

    pub(super) fn close(&mut self) {
        self.state = State::Closed;
    }

    /// Notes that this host moves the output from now on, with this task.
    pub(super) fn take_up(&mut self, moving: io::Result<Owned<()>>) {
        self.state = match moving {
            Ok(task) => State::Moving(task),
            Err(error) => {
                tracing::error!(%error, "an agent's output cannot be read any more");
                // Ends at once, as if the agent had closed its output.
                State::Moving(Owned(tokio::spawn(std::future::ready(()))))
            }
        };
    }
}
