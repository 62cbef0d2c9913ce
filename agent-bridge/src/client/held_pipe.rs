//! The agent's pipe, while this gateway moves the output.

use std::{
    fs::File,
    io::{self, Write as _},
    os::fd::OwnedFd,
    sync::Arc,
    time::Duration,
};

use tokio::net::unix::pipe;

use crate::host::{
    directory::HostDirectory,
    output::SpooledOutput,
    pipe::is_pipe,
    protocol::{Pipe, ToHost},
    socket::{self, WriteHalf},
};

/// The pipe of an agent. The fields are dropped in order.
#[derive(Debug)]
pub(super) struct HeldPipe {
    pipe: pipe::Receiver,
    /// The host moves the output itself once the connection has ended, so it must not end before this pipe is closed.
    _connection: Arc<WriteHalf>,
}

/// What an attempt to move output has shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// There may be more.
    Some,
    /// Nothing is there at present.
    Nothing,
    /// The agent has closed its output.
    End,
}

impl HeldPipe {
    /// Receives the pipe from its host. Waits at most `longest`.
    ///
    /// # Errors
    /// If the host does not send it, or it is another one.
    pub(super) async fn take(
        directory: HostDirectory,
        asked: Pipe,
        connection: Arc<WriteHalf>,
        longest: Duration,
    ) -> io::Result<Self> {
        // On a separate connection and with blocking calls: a pipe receiver would lose the descriptor.
        let taken = tokio::task::spawn_blocking(move || {
            let mut socket = directory.connect()?;
            socket.set_read_timeout(Some(longest))?;
            socket.set_write_timeout(Some(longest))?;
            socket.write_all(&ToHost::Take(asked).encode())?;
            socket::receive_descriptor(&socket)
        });
        let file = File::from(taken.await.map_err(io::Error::other)??);
        if !is_pipe(&file, &asked)? {
            return Err(io::ErrorKind::NotFound.into());
        }
        let pipe = pipe::Receiver::from_owned_fd_unchecked(OwnedFd::from(file))?;
        Ok(Self { pipe, _connection: connection })
    }

    /// Waits until there may be more output. Cancel safe.
    pub(super) async fn ready(&self) -> io::Result<()> {
        self.pipe.readable().await
    }

    /// Moves what is there, about `about` bytes of it, to the spool.
    ///
    /// # Errors
    /// If the disk is full or fails. What is not in the spool is in the pipe.
    pub(super) fn move_to(&self, output: &mut SpooledOutput, about: usize) -> io::Result<Moved> {
        let mut bytes = 0;
        while bytes < about && output.has_room() {
            match self.pipe.try_io(|| output.take_from(&self.pipe)) {
                Ok(0) => return Ok(Moved::End),
                Ok(count) => bytes += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Moved::Nothing),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Moved::Some)
    }
}
