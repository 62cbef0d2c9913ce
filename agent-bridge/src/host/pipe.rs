//! The pipe that has the agent's output, as it is handed over to a gateway.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
};

use rustix::fs::OFlags;

use super::protocol::Pipe;

/// How a gateway asks for the pipe.
pub(super) fn describe(pipe: &OwnedFd) -> io::Result<Pipe> {
    let metadata = rustix::fs::fstat(pipe)?;
    Ok(Pipe { descriptor: pipe.as_raw_fd(), device: metadata.st_dev, inode: metadata.st_ino })
}

/// Opens the pipe again for a gateway. The new descriptor is non-blocking, independently of the host's own.
pub(super) fn reopen(asked: &Pipe) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let file = options.open(format!("/proc/self/fd/{}", asked.descriptor))?;
    // The process may have ended meanwhile, and the descriptor's number been used again.
    if is_pipe(&file, asked)? { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// Whether this is the pipe that was asked for.
pub(crate) fn is_pipe(file: &File, asked: &Pipe) -> io::Result<bool> {
    let metadata = file.metadata()?;
    let same = (metadata.dev(), metadata.ino()) == (asked.device, asked.inode);
    Ok(same && metadata.file_type().is_fifo())
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::io::{Read as _, Write as _, pipe};

    use super::*;

    #[test]
    fn another_descriptor_is_not_taken_for_the_pipe() {
        let (reader, mut writer) = pipe().unwrap();
        let reader = OwnedFd::from(reader);
        let right = describe(&reader).unwrap();
        writer.write_all(b"x").unwrap();
        let mut byte = [0];
        reopen(&right).unwrap().read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
        let other = File::open("/dev/null").unwrap();
        for wrong in [
            Pipe { inode: right.inode + 1, ..right },
            Pipe { descriptor: i32::MAX, ..right },
            Pipe { descriptor: other.as_raw_fd(), ..right },
        ] {
            assert!(reopen(&wrong).is_err(), "{wrong:?}");
        }
    }
}
