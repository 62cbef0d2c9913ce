//! A host's directory: creates it, locks it, and finds out whether its host runs; and the socket in it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::{
        fd::AsRawFd,
        unix::{
            fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, Mode, fchmod, flock},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with},
    process::geteuid,
};
use serde::{Deserialize, Serialize};
use switchboard_core::agent::AgentInstanceId;

/// Longest path in a socket address, in bytes (unix(7), without the final NUL).
const PATH_BYTES: usize = 107;
/// Length of the listen queue. Only one gateway is served at a time.
const BACKLOG: i32 = 16;

/// Number of attempts to lock the directory, and the delay between them.
const TRIES: usize = 50;
const BETWEEN_TRIES: Duration = Duration::from_millis(10);

const LOCK: &str = "lock";
const SOCKET: &str = "socket";
const CARD: &str = "host.json";
const ERRORS: &str = "errors";
/// Most bytes that are read from the end of a host's standard error.
const LAST_WORDS_BYTES: u64 = 4096;

/// The directory of one host.
#[derive(Debug, Clone)]
pub(crate) struct HostDirectory {
    dir: PathBuf,
}

/// The lock of a running host on its directory, held until this is dropped.
#[derive(Debug)]
pub(crate) struct DirectoryLock(File);

impl DirectoryLock {
    /// Whether the directory was removed: no gateway can find the host any more. A directory that was moved is still
    /// there.
    pub(crate) fn is_removed(&self) -> bool {
        self.0.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }
}

/// The description file of a host, for processes that must clean up after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Card {
    /// Process id of the host.
    pub(crate) pid: i32,
    /// The mark in the environment of the host's agent and its descendants.
    pub(crate) mark: String,
    /// The chat that the host serves, as `principal/chat`.
    pub(crate) chat: String,
}

impl HostDirectory {
    pub(crate) fn new(hosts: &Path, instance: AgentInstanceId) -> Self {
        Self { dir: hosts.join(instance.0.to_string()) }
    }

    /// The directories of all hosts below `hosts`, sorted by agent instance.
    pub(crate) fn all(hosts: &Path) -> io::Result<Vec<(AgentInstanceId, Self)>> {
        let entries = match fs::read_dir(hosts) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut found = Vec::new();
        for entry in entries {
            let instance =
                entry?.file_name().to_str().and_then(|name| name.parse().ok()).map(AgentInstanceId);
            found.extend(instance.map(|instance| (instance, Self::new(hosts, instance))));
        }
        found.sort_unstable_by_key(|(instance, _)| *instance);
        Ok(found)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Creates the directory with mode 0700 and locks it.
    ///
    /// # Errors
    /// If the directory cannot be made, is open to others, or has a host already.
    pub(crate) fn take(&self) -> io::Result<DirectoryLock> {
        self.make()?;
        let lock = self.lock_file(true)?;
        // A process that checks whether a host runs holds the lock for a moment.
        for _ in 0..TRIES {
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                return Ok(DirectoryLock(lock));
            }
            std::thread::sleep(BETWEEN_TRIES);
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "this agent instance has a host already"))
    }

    fn make(&self) -> io::Result<()> {
        if let Some(hosts) = self.dir.parent() {
            make_private(hosts)?;
        }
        make_private(&self.dir)
    }

    /// Opens the file for the host's standard error, which may be the only place where the death of a host is
    /// explained.
    pub(crate) fn errors(&self) -> io::Result<File> {
        self.make()?;
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600).open(self.dir.join(ERRORS))
    }

    /// The end of the host's standard error; `None` if there is none.
    pub(crate) fn last_words(&self) -> Option<String> {
        let mut file = File::open(self.dir.join(ERRORS)).ok()?;
        let length = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS_BYTES))).ok()?;
        let mut text = Vec::new();
        file.take(LAST_WORDS_BYTES).read_to_end(&mut text).ok()?;
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// Whether the host runs: a running host holds the lock.
    pub(crate) fn is_live(&self) -> bool {
        let Ok(lock) = self.lock_file(false) else { return false };
        flock(&lock, FlockOperation::NonBlockingLockShared).is_err()
    }

    fn lock_file(&self, create: bool) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(create).truncate(false).mode(0o600);
        options.open(self.dir.join(LOCK))
    }

    /// Writes the description file `host.json`, atomically.
    pub(crate) fn write_card(&self, card: &Card) -> io::Result<()> {
        let new = self.dir.join(format!("{CARD}.new"));
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        io::Write::write_all(&mut file, &serde_json::to_vec(card)?)?;
        fs::rename(new, self.dir.join(CARD))
    }

    /// Reads the description file; `None` if it is missing or unreadable.
    pub(crate) fn card(&self) -> Option<Card> {
        serde_json::from_slice(&fs::read(self.dir.join(CARD)).ok()?).ok()
    }

    /// Binds the socket, with mode 0600 from its creation on. The caller must hold the lock: an existing socket file
    /// then belongs to a dead host and is replaced.
    pub(crate) fn bind(&self) -> io::Result<std::os::unix::net::UnixListener> {
        match fs::remove_file(self.dir.join(SOCKET)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        // On Linux the socket file inherits this mode, so other users can never connect.
        fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        self.with_address(|address| Ok(bind(&socket, address)?))?;
        listen(&socket, BACKLOG)?;
        Ok(socket.into())
    }

    /// Connects to the host's socket. Never blocks: a stopped host whose listen queue is full is an error.
    pub(crate) fn connect(&self) -> io::Result<UnixStream> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        self.with_address(|address| Ok(connect(&socket, address)?))?;
        let socket = UnixStream::from(socket);
        socket.set_nonblocking(false)?;
        Ok(socket)
    }

    /// Calls `use_it` with the socket's address. If the path is too long for an address, it goes through
    /// `/proc/self/fd`.
    fn with_address(&self, use_it: impl FnOnce(&SocketAddrUnix) -> io::Result<()>) -> io::Result<()> {
        let path = self.dir.join(SOCKET);
        if path.as_os_str().len() <= PATH_BYTES {
            return use_it(&SocketAddrUnix::new(&path)?);
        }
        let dir = File::open(&self.dir)?;
        use_it(&SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()))?)
    }

    /// Removes the directory and everything in it.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

/// Creates a directory with mode 0700, or checks that an existing one belongs to this user and is closed to others.
fn make_private(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let meta = fs::symlink_metadata(dir)?;
    if !meta.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::NotADirectory,
            "something else is where its directory is to be",
        ));
    }
    if meta.uid() != geteuid().as_raw() || meta.mode() & 0o077 != 0 {
        let why = "its directory must be this user's own and closed to others (mode 0700)";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_last_output_of_a_host_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let directory = HostDirectory::new(&dir.path().join("hosts"), AgentInstanceId(1));
        assert_eq!(directory.last_words(), None);
        let mut errors = directory.errors().unwrap();
        assert_eq!(directory.last_words(), None);
        errors.write_all(&[b'x'; 100_000]).unwrap();
        directory.errors().unwrap().write_all(b"and this is why\n").unwrap();
        let said = directory.last_words().unwrap();
        assert!(said.ends_with("xand this is why") && said.len() < 4097, "{}", said.len());
    }
}
