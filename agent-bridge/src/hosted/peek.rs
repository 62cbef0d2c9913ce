//! Reading a pipe without taking anything out of it: tee(2) copies references to its pages into another pipe.

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
        /// Where references to pages go. It is empty between two reads.
        static COPY: RefCell<Option<Copy>> = const { RefCell::new(None) };
    }

    struct Copy {
        read: OwnedFd,
        write: OwnedFd,
        capacity: usize,
        /// Where what was seen before goes.
        null: File,
    }

    /// A pipe that is somebody else's.
    #[derive(Debug)]
    pub(in super::super) struct Peek {
        pipe: pipe::Receiver,
        /// How many bytes it holds.
        capacity: usize,
    }

    impl Peek {
        /// The pipe that was sent for what is lent.
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

        /// How many bytes the pipe holds, as far as is known.
        pub(in super::super) fn capacity(&self) -> usize {
            self.capacity
        }

        /// The host may have let it grow.
        pub(in super::super) fn measure(&mut self) {
            if let Ok(capacity) = fcntl_getpipe_size(&self.pipe) {
                self.capacity = capacity;
            }
        }

        /// Waits until there may be more. Gives whether the writers have closed. Cancel safe.
        pub(in super::super) async fn ready(&self) -> io::Result<bool> {
            Ok(self.pipe.ready(Interest::READABLE).await?.is_read_closed())
        }

        /// Reads what is in the pipe behind so many bytes: if there were news of it, or in any case. Gives how many
        /// bytes it was.
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
                // That was all: what comes next is news, and wakes.
                Err::<(), _>(io::ErrorKind::WouldBlock.into())
            });
            read
        }

        fn read_now(&self, behind: usize, buffer: &mut Vec<u8>) -> io::Result<usize> {
            COPY.with_borrow_mut(|kept| {
                // One that could not be emptied is not used again.
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

        /// Makes room for what another pipe may hold.
        fn grow(&mut self, capacity: usize) -> io::Result<()> {
            if self.capacity < capacity {
                fcntl_setpipe_size(&self.write, capacity)?;
                self.capacity = capacity;
            }
            Ok(())
        }

        /// Empties it: passes over so many bytes, and reads the others. Gives how many those were.
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

    /// There is none: hosts lend nothing here.
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
