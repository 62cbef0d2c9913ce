//! Reads a pipe without taking bytes out of it: tee(2) copies references to the pipe's pages into another pipe.

#[cfg(target_os = "linux")]
pub(super) use self::linux::Peek;
#[cfg(not(target_os = "linux"))]
pub(super) use self::nowhere::Peek;

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        cell::RefCell,
        fs::{File, OpenOptions},
        io,
        os::{
            fd::OwnedFd,
            unix::fs::{FileTypeExt as _, MetadataExt as _},
        },
    };

    use rustix::{
        buffer::spare_capacity,
        io::Errno,
        pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice, tee},
    };
    use tokio::{io::Interest, net::unix::pipe};

    use crate::host::protocol::Lent;

    thread_local! {
        /// The pipe that receives the references. Empty between two reads.
        static COPY: RefCell<Option<Copy>> = const { RefCell::new(None) };
    }

    struct Copy {
        read: OwnedFd,
        write: OwnedFd,
        capacity: usize,
        /// `/dev/null`, where bytes go that were read before.
        null: File,
    }

    /// A pipe of another process.
    #[derive(Debug)]
    pub(in super::super) struct Peek {
        pipe: pipe::Receiver,
        /// The pipe's capacity in bytes.
        capacity: usize,
    }

    impl Peek {
        /// Makes a reader for the descriptor that was received for `lent`.
        pub(in super::super) fn new(file: OwnedFd, lent: &Lent) -> io::Result<Self> {
            let file = File::from(file);
            let metadata = file.metadata()?;
            let same = (metadata.dev(), metadata.ino()) == (lent.device, lent.inode);
            if !same || !metadata.file_type().is_fifo() {
                return Err(io::ErrorKind::NotFound.into());
            }
            let capacity = fcntl_getpipe_size(&file)?;
            let pipe = pipe::Receiver::from_owned_fd_unchecked(file.into())?;
            Ok(Self { pipe, capacity })
        }

        /// The pipe's last known capacity in bytes.
        pub(in super::super) fn capacity(&self) -> usize {
            self.capacity
        }

        /// Updates the capacity, because the host may have enlarged the pipe.
        pub(in super::super) fn measure(&mut self) {
            if let Ok(capacity) = fcntl_getpipe_size(&self.pipe) {
                self.capacity = capacity;
            }
        }

        /// Waits until there may be more bytes. Returns whether all writers have closed the pipe. Cancel safe.
        pub(in super::super) async fn ready(&self) -> io::Result<bool> {
            Ok(self.pipe.ready(Interest::READABLE).await?.is_read_closed())
        }

        /// Reads the bytes after the first `behind` bytes, either always (`in_any_case`) or only if the pipe became
        /// readable. Returns the number of bytes that were read.
        pub(in super::super) fn read(
            &self,
            behind: usize,
            in_any_case: bool,
            buffer: &mut Vec<u8>,
        ) -> io::Result<usize> {
            if in_any_case {
                return self.read_now(behind, buffer);
            }
            let mut read = Ok(0);
            let _ = self.pipe.try_io(|| {
                read = self.read_now(behind, buffer);
                // Everything was read: clears the readiness, so that only new bytes wake the task.
                Err::<(), _>(io::ErrorKind::WouldBlock.into())
            });
            read
        }

        fn read_now(&self, behind: usize, buffer: &mut Vec<u8>) -> io::Result<usize> {
            COPY.with_borrow_mut(|kept| {
                // A copy that could not be emptied is not used again.
                let mut copy = match kept.take() {
                    Some(copy) => copy,
                    None => Copy::new()?,
                };
                copy.grow(self.capacity)?;
                let read = match tee(&self.pipe, &copy.write, usize::MAX >> 1, SpliceFlags::NONBLOCK) {
                    Ok(count) => copy.take(behind.min(count), count.saturating_sub(behind), buffer)?,
                    Err(Errno::AGAIN) => 0,
                    Err(error) => return Err(error.into()),
                };
                *kept = Some(copy);
                Ok(read)
            })
        }
    }

    impl Copy {
        fn new() -> io::Result<Self> {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
            let capacity = fcntl_getpipe_size(&write)?;
            Ok(Self { read, write, capacity, null: OpenOptions::new().write(true).open("/dev/null")? })
        }

        /// Enlarges the copy to the capacity of another pipe.
        fn grow(&mut self, capacity: usize) -> io::Result<()> {
            if self.capacity < capacity {
                fcntl_setpipe_size(&self.write, capacity)?;
                self.capacity = capacity;
            }
            Ok(())
        }

        /// Empties the copy: drops the first `seen` bytes and reads the other `unseen` bytes. Returns the number of
        /// bytes that were read.
        fn take(&self, mut seen: usize, unseen: usize, buffer: &mut Vec<u8>) -> io::Result<usize> {
            while seen > 0 {
                match splice(&self.read, None, &self.null, None, seen, SpliceFlags::NONBLOCK)? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    count => seen -= count,
                }
            }
            buffer.reserve(unseen);
            let mut left = unseen;
            while left > 0 {
                match rustix::io::read(&self.read, spare_capacity(buffer))? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    count => left -= count,
                }
            }
            Ok(unseen)
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod nowhere {
    use std::{convert::Infallible, io, os::fd::OwnedFd};

    use crate::host::protocol::Lent;

    /// Cannot be made: outputs are lent on Linux only.
    #[derive(Debug)]
    pub(in super::super) struct Peek(Infallible);

    impl Peek {
        pub(in super::super) fn new(_file: OwnedFd, _lent: &Lent) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(in super::super) fn capacity(&self) -> usize {
            match self.0 {}
        }

        pub(in super::super) fn measure(&mut self) {
            match self.0 {}
        }

        pub(in super::super) async fn ready(&self) -> io::Result<bool> {
            match self.0 {}
        }

        pub(in super::super) fn read(
            &self,
            _behind: usize,
            _in_any_case: bool,
            _buffer: &mut Vec<u8>,
        ) -> io::Result<usize> {
            match self.0 {}
        }
    }
}
