//! The connection of a host and a gateway, either end of it: nobody wakes for nothing.
//!
//! A Unix socket has news of room to write each time its peer has read, and tokio's own socket is woken by all news:
//! whoever sends a record would be woken once more for each one. Here, room is waited for where there is none.

use std::{
    io::{self, Write as _},
    net::Shutdown,
    os::{fd::OwnedFd, unix::net::UnixStream},
};

use tokio::{net::unix::pipe, task::coop::consume_budget};

/// What is read. A pipe's end is told of nothing but what there is to read, and reads from a socket as well.
pub(crate) type ReadHalf = pipe::Receiver;

/// What is written. Its end is the end of what the peer reads.
#[derive(Debug)]
pub(crate) struct WriteHalf(UnixStream);

/// The two halves of a connected socket, which no longer blocks.
pub(crate) fn split(socket: UnixStream) -> io::Result<(ReadHalf, WriteHalf)> {
    socket.set_nonblocking(true)?;
    let read = pipe::Receiver::from_owned_fd_unchecked(OwnedFd::from(socket.try_clone()?))?;
    Ok((read, WriteHalf(socket)))
}

impl WriteHalf {
    /// Writes all of it. If the future is dropped, a part of it was written.
    pub(crate) async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        consume_budget().await;
        while !bytes.is_empty() {
            match (&self.0).write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.room().await?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits until more can be written.
    async fn room(&self) -> io::Result<()> {
        let watched = pipe::Sender::from_owned_fd_unchecked(OwnedFd::from(self.0.try_clone()?))?;
        watched.writable().await
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        // The half that reads keeps the socket open.
        let _ = self.0.shutdown(Shutdown::Write);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn more_than_there_is_room_for_arrives_and_its_end_as_well() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let ((_, mut write), (mut read, _theirs)) = (split(ours).unwrap(), split(theirs).unwrap());
        let sent: Vec<u8> = (0..4_000_000_u32).map(|n| (n % 251) as u8).collect();
        let mut heard = Vec::new();
        let (written, _) = tokio::join!(
            async {
                for part in sent.chunks(1_500_000) {
                    write.write_all(part).await?;
                }
                drop(write);
                Ok::<_, io::Error>(())
            },
            read.read_to_end(&mut heard)
        );
        written.unwrap();
        assert!(heard == sent);
    }

    #[tokio::test]
    async fn a_peer_that_goes_is_an_error_also_while_there_is_no_room() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (_read, mut write) = split(ours).unwrap();
        let all = vec![0; 4_000_000];
        let (written, ()) = tokio::join!(write.write_all(&all), async { drop(theirs) });
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert!(write.write_all(b"more").await.is_err());
    }
}
