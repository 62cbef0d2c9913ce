//! A connected socket whose task is not woken when the peer reads.
//!
//! A Unix socket becomes writable each time its peer reads, and tokio's own socket is registered for both events: the
//! runtime would wake up once more for each read of each peer. Here, a task waits for writability only while a write
//! would block.

use std::{
    io::{self, IoSlice, Write as _},
    net::Shutdown,
    os::{fd::OwnedFd, unix::net::UnixStream},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{io::AsyncWrite, net::unix::pipe, task::coop::poll_proceed};

/// The read half. A pipe's receiver is registered for readability only, and can read from a socket as well.
pub(crate) type ReadHalf = pipe::Receiver;

/// The write half.
#[derive(Debug)]
pub(crate) struct WriteHalf {
    socket: UnixStream,
    /// The same socket, registered for writability; only while a write would block.
    blocked: Option<pipe::Sender>,
}

/// Splits a connected socket.
pub(crate) fn split(socket: tokio::net::UnixStream) -> io::Result<(ReadHalf, WriteHalf)> {
    let socket = socket.into_std()?;
    let read = pipe::Receiver::from_owned_fd_unchecked(OwnedFd::from(socket.try_clone()?))?;
    Ok((read, WriteHalf { socket, blocked: None }))
}

impl AsyncWrite for WriteHalf {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        loop {
            if let Some(blocked) = &mut this.blocked {
                let written = ready!(Pin::new(blocked).poll_write_vectored(cx, slices));
                this.blocked = None;
                return Poll::Ready(written);
            }
            let budget = ready!(poll_proceed(cx));
            match (&this.socket).write_vectored(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let same = OwnedFd::from(this.socket.try_clone()?);
                    this.blocked = Some(pipe::Sender::from_owned_fd_unchecked(same)?);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                written => {
                    budget.made_progress();
                    return Poll::Ready(written);
                }
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use switchboard_test_support::process::epoll_interests;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const READABLE: u32 = 1;
    const WRITABLE: u32 = 4;

    fn pair() -> (ReadHalf, WriteHalf, tokio::net::UnixStream) {
        let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
        let (read, write) = split(ours).unwrap();
        (read, write, theirs)
    }

    #[tokio::test]
    async fn data_larger_than_the_sockets_buffer_arrives_in_both_directions() {
        let (mut reader, mut writer, mut peer) = pair();
        let sent: Vec<u8> = (0..4_000_000_u32).map(|n| (n % 251) as u8).collect();
        let (mut there, mut back) = (Vec::new(), vec![0; sent.len()]);
        let ours = async {
            writer.write_all(&sent).await.unwrap();
            writer.shutdown().await.unwrap();
            assert!(writer.blocked.is_none(), "it is not registered once there is room");
            reader.read_exact(&mut back).await.unwrap();
            assert_eq!(reader.read(&mut [0]).await.unwrap(), 0, "the end");
        };
        let theirs = async {
            peer.read_to_end(&mut there).await.unwrap();
            peer.write_all(&sent).await.unwrap();
            drop(peer);
        };
        tokio::join!(ours, theirs);
        assert!(there == sent && back == sent);
    }

    #[tokio::test]
    async fn a_peer_that_reads_wakes_nobody_unless_a_write_waits_for_it() {
        let (mut reader, mut writer, mut peer) = pair();
        writer.write_all(b"a line").await.unwrap();
        peer.write_all(b"a").await.unwrap();
        assert_eq!(reader.read_u8().await.unwrap(), b'a');
        let ours = [reader.as_raw_fd(), writer.socket.as_raw_fd()];
        let interest: Vec<u32> = ours.into_iter().flat_map(epoll_interests).collect();
        assert!(!interest.is_empty());
        assert!(interest.iter().all(|events| events & (READABLE | WRITABLE) == READABLE), "{interest:x?}");

        let much = vec![0; 4_000_000];
        let blocked = async {
            writer.write_all(&much).await.unwrap();
        };
        tokio::select! {
            biased;
            () = blocked => panic!("the peer does not read"),
            () = std::future::ready(()) => {}
        }
        let number = writer.blocked.as_ref().expect("it waits").as_raw_fd();
        let interest = epoll_interests(number);
        assert!(!interest.is_empty());
        assert!(interest.iter().all(|events| events & WRITABLE == WRITABLE), "{interest:x?}");
    }

    #[tokio::test]
    async fn a_peer_that_goes_is_an_error_also_while_there_is_no_room() {
        let (_reader, mut writer, peer) = pair();
        let much = vec![0; 4_000_000];
        let (written, ()) = tokio::join!(writer.write_all(&much), async { drop(peer) });
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert!(writer.write_all(b"more").await.is_err());
    }
}
