//! Binds a socket that other users cannot reach, and replaces a socket that no process serves any more.

use std::{
    env, fmt, fs, io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _},
        net::UnixStream as StdUnixStream,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, fchmod},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with},
    process::geteuid,
};
use tokio::net::{UnixListener, UnixStream};

use crate::refused::Refused;

/// The longest path that fits into a socket address, in bytes (unix(7), less the final NUL).
const PATH_BYTES: usize = 107;
/// How many connections the kernel queues until they are accepted.
const BACKLOG: i32 = 128;

/// A bound socket that accepts only peers with the gateway's own user id.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the bound socket, to recognise a file that replaced it.
    identity: (u64, u64),
    refused: Refused,
}

/// Why a socket could not be bound. The text names the path and says what to do.
#[derive(Debug)]
pub struct BindError {
    path: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Path(&'static str),
    Directory(&'static str),
    NotASocket,
    InUse,
    Io(io::Error),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.kind {
            Kind::Path(why) => write!(f, "{path} cannot be a socket's path: {why}"),
            Kind::Directory(why) => {
                write!(f, "the directory of {path} {why}; use one that only you can enter (mode 0700)")
            }
            Kind::NotASocket => {
                write!(f, "{path} exists and is not a socket; remove it or choose another path")
            }
            Kind::InUse => {
                write!(f, "{path} is served by another process; stop it or choose another path")
            }
            Kind::Io(error) => write!(f, "{path} cannot be bound: {error}"),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            Kind::Io(error) => Some(error),
            Kind::Path(_) | Kind::Directory(_) | Kind::NotASocket | Kind::InUse => None,
        }
    }
}

impl From<io::Error> for Kind {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<rustix::io::Errno> for Kind {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Io(error.into())
    }
}

impl Listener {
    /// Binds `path`, which is absolute or begins with `~/` for the home directory.
    ///
    /// The directory of the socket is created with mode 0700; an existing one must belong to the caller and be closed
    /// to other users. The socket has mode 0600 from the moment it exists. A leftover socket is replaced only after a
    /// connection to it was refused; a symbolic link at the socket's path is not followed. Must be called within a
    /// tokio runtime.
    ///
    /// # Errors
    /// If the path or its directory is unsuitable, if the path exists and is not a socket, if another process serves
    /// the socket, or if the system cannot bind it.
    pub fn bind(path: impl AsRef<Path>) -> Result<Self, BindError> {
        let given = path.as_ref();
        let failed = |kind| BindError { path: given.to_owned(), kind };
        let path = expand(given).map_err(failed)?;
        prepare_directory(&path).map_err(failed)?;
        clear_stale(&path).map_err(failed)?;
        bind_private(path).map_err(failed)
    }

    /// The path of the socket, with `~` expanded.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the socket's file, unless another file has replaced it. A failure is logged.
    pub fn remove(self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|meta| identity(&meta) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, "the socket could not be removed");
        }
    }

    /// Waits for the next peer with the gateway's own user id. Public for programs that use another protocol on such
    /// a socket. Other peers are disconnected and counted: the first is logged at once, the others as a sum every ten
    /// seconds and when the listener is dropped. Cancel safe.
    ///
    /// # Errors
    /// If the system's `accept` fails.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        loop {
            let socket = tokio::select! {
                accepted = self.listener.accept() => accepted?.0,
                () = self.refused.sum_up_when_due() => continue,
            };
            match socket.peer_cred().map(|peer| peer.uid()) {
                Ok(uid) if uid == geteuid().as_raw() => return Ok(socket),
                refused => self.refused.count(refused.ok()),
            }
        }
    }
}

fn identity(meta: &fs::Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

fn expand(path: &Path) -> Result<PathBuf, Kind> {
    let path = match path.strip_prefix("~") {
        Ok(rest) => {
            let home = env::home_dir().ok_or(Kind::Path("there is no home directory for ~"))?;
            home.join(rest)
        }
        Err(_) => path.to_owned(),
    };
    if !path.is_absolute() {
        return Err(Kind::Path("it is not absolute; begin it with / or ~/"));
    }
    if path.as_os_str().as_bytes().contains(&0) {
        return Err(Kind::Path("it holds a NUL"));
    }
    if path.as_os_str().len() > PATH_BYTES {
        return Err(Kind::Path("it is longer than 107 bytes"));
    }
    if path.file_name().is_none() {
        return Err(Kind::Path("it names no file"));
    }
    Ok(path)
}

fn prepare_directory(path: &Path) -> Result<(), Kind> {
    let Some(directory) = path.parent() else { return Err(Kind::Path("it names no file")) };
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.into()),
    }
    let meta = fs::metadata(directory)?;
    if !meta.is_dir() {
        return Err(Kind::Directory("is not a directory"));
    }
    if meta.uid() != geteuid().as_raw() {
        return Err(Kind::Directory("belongs to another user"));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(Kind::Directory("is open to other users"));
    }
    Ok(())
}

/// Removes a leftover socket that no process serves.
fn clear_stale(path: &Path) -> Result<(), Kind> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if !meta.file_type().is_socket() {
        return Err(Kind::NotASocket);
    }
    match StdUnixStream::connect(path) {
        Ok(_) => Err(Kind::InUse),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(fs::remove_file(path)?),
        Err(error) => Err(error.into()),
    }
}

fn bind_private(path: PathBuf) -> Result<Listener, Kind> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // On Linux the socket's file gets its mode from the socket, so it is private from the start.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &SocketAddrUnix::new(&path)?)?;
    listen(&socket, BACKLOG)?;
    let identity = identity(&fs::symlink_metadata(&path)?);
    let listener = UnixListener::from_std(socket.into())?;
    Ok(Listener { listener, path, identity, refused: Refused::default() })
}
