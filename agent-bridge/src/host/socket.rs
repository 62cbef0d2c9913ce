//! The socket between host and gateway, used by both, without needless wake-ups.
//!
//! A Unix socket becomes writable each time its peer reads, and tokio's own socket wakes its task for every event: a
//! sender would be woken once more for each record. Here, a task waits for writability only when a write would block.

use std::{
    io::{self, IoSlice, IoSliceMut, Write as _},
    mem::MaybeUninit,
    net::Shutdown,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use rustix::{
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, recvmsg, sendmsg,
    },
    process::geteuid,
};
use tokio::{net::unix::pipe, task::coop::consume_budget, time::sleep};

/// Delay between writes, if writability cannot be waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The read half. A pipe receiver is registered for readability only, and can read from a socket as well.
pub(crate) type ReadHalf = pipe::Receiver;

/// The write half. When it is dropped, the peer reads the end of the stream.
#[derive(Debug)]
pub(crate) struct WriteHalf(UnixStream);

/// Splits a connected socket into two non-blocking halves.
pub(crate) fn split(socket: UnixStream) -> io::Result<(ReadHalf, WriteHalf)> {
    socket.set_nonblocking(true)?;
    let read = pipe::Receiver::from_owned_fd_unchecked(OwnedFd::from(socket.try_clone()?))?;
    Ok((read, WriteHalf(socket)))
}

/// Checks that the peer of a connection belongs to this process's user.
///
/// # Errors
/// [`io::ErrorKind::PermissionDenied`] if the peer belongs to another user.
pub(crate) fn must_be_own(socket: &UnixStream) -> io::Result<()> {
    let watched = socket.try_clone()?;
    watched.set_nonblocking(true)?;
    let peer = tokio::net::UnixStream::from_std(watched)?.peer_cred()?.uid();
    if peer == geteuid().as_raw() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("its socket belongs to the user {peer}")))
}

impl WriteHalf {
    /// Writes all bytes. If the future is dropped, some of them may have been written.
    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        consume_budget().await;
        while !bytes.is_empty() {
            match (&self.0).write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.room().await,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits until more can probably be written.
    async fn room(&self) {
        let watched = self.0.try_clone().map(OwnedFd::from).and_then(pipe::Sender::from_owned_fd_unchecked);
        let waited = match watched {
            Ok(watched) => watched.writable().await,
            Err(error) => Err(error),
        };
        if waited.is_err() {
            // Probably out of descriptors, which says nothing about the peer.
            sleep(LOOK_AGAIN).await;
        }
    }
}

/// Sends a descriptor with one byte. Never blocks on a connection on which nothing was sent.
pub(crate) fn send_descriptor(write: &WriteHalf, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    rights.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(&write.0, &[IoSlice::new(&[0])], &mut rights, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives a descriptor, which is closed on exec.
pub(crate) fn receive_descriptor(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    recvmsg(socket, &mut [IoSliceMut::new(&mut [0])], &mut rights, RecvFlags::CMSG_CLOEXEC)?;
    let descriptors = rights.drain().filter_map(|message| {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message { Some(descriptors) } else { None }
    });
    descriptors.flatten().next().ok_or_else(|| io::ErrorKind::NotFound.into())
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        // The read half keeps the socket open, so it must be shut down explicitly.
        let _ = self.0.shutdown(Shutdown::Write);
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn data_larger_than_the_socket_buffer_arrives_with_its_end() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let ((_, write), (mut read, _theirs)) = (split(ours).unwrap(), split(theirs).unwrap());
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

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_peer_that_reads_does_not_wake_the_reader() {
        use std::os::fd::AsRawFd as _;

        use switchboard_test_support::process::epoll_interests;

        const READABLE: u32 = 1;
        const WRITABLE: u32 = 4;
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut read, write) = split(ours).unwrap();
        let mine = [read.as_raw_fd(), write.0.as_raw_fd()];
        let (_peer, answer) = split(theirs).unwrap();
        write.write_all(b"a record").await.unwrap();
        answer.write_all(b"a").await.unwrap();
        assert_eq!(read.read_u8().await.unwrap(), b'a');
        let of_mine: Vec<u32> = mine.into_iter().flat_map(epoll_interests).collect();
        assert!(!of_mine.is_empty());
        assert!(of_mine.iter().all(|events| events & (READABLE | WRITABLE) == READABLE), "{of_mine:x?}");
    }

    #[test]
    fn a_descriptor_arrives_and_its_absence_is_noticed() {
        let (pipe, _write) = io::pipe().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let write = WriteHalf(ours);
        send_descriptor(&write, pipe.as_fd()).unwrap();
        let arrived = receive_descriptor(&theirs).unwrap();
        let inode = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).unwrap().st_ino;
        assert_eq!(inode(arrived.as_fd()), inode(pipe.as_fd()));
        let flags = rustix::io::fcntl_getfd(&arrived).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        (&write.0).write_all(b"x").unwrap();
        assert!(receive_descriptor(&theirs).is_err());
        drop(write);
        assert!(receive_descriptor(&theirs).is_err());
    }

    #[tokio::test]
    async fn a_peer_that_goes_is_an_error_also_while_there_is_no_room() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (_read, write) = split(ours).unwrap();
        let all = vec![0; 4_000_000];
        let (written, ()) = tokio::join!(write.write_all(&all), async { drop(theirs) });
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert!(write.write_all(b"more").await.is_err());
    }
}
