//! The data directory: accessible to its owner only, and locked by one gateway at a time.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    fs::{Access, OFlags, access},
    process::{Pid, test_kill_process},
};

use crate::failure::{Failure, Result};

/// The name of the journal's file.
pub(crate) const JOURNAL: &str = "journal.db";
/// The name of the folder in which the agents' hosts keep their sockets and spools.
pub(crate) const HOSTS: &str = "hosts";
/// The name of the lock file; a running gateway holds its lock.
const LOCK: &str = "lock";
/// How long to wait for a lock whose gateway has already ended.
const DYING: Duration = Duration::from_secs(2);
const LOCK_POLL: Duration = Duration::from_millis(5);
/// Most tries to lock, if other processes remove the lock file again and again.
const TRIES: usize = 100;

/// A data directory, locked by this process until this value is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    lock: Lock,
    before: Before,
}

/// The state of the path before the data directory was opened, for [`DataDir::undo`].
#[derive(Debug)]
struct Before {
    /// Folders that did not exist, innermost first.
    missing: Vec<PathBuf>,
    /// The permissions of the directory, if it existed.
    permissions: Option<fs::Permissions>,
}

#[derive(Debug)]
struct Lock {
    file: File,
    /// The earlier content of the lock file; `None` if the file did not exist.
    previous: Option<Vec<u8>>,
}

impl DataDir {
    /// Creates the directory if it is missing, with access for this user only, and locks it.
    ///
    /// # Errors
    ///
    /// The directory cannot be created or written, others have access to it, or another gateway holds the lock. Folders
    /// that this call has created are removed again.
    pub fn open(path: &Path) -> Result<Self> {
        check_usable(path)?;
        let before = Before::of(path);
        let opened = make(path).and_then(|()| check(path)).and_then(|()| lock(path)).and_then(|lock| {
            // The gateway that held the lock before may have restored the directory's permissions.
            match check(path) {
                Ok(()) => Ok(lock),
                Err(failure) => {
                    lock.undo(&path.join(LOCK));
                    Err(failure)
                }
            }
        });
        let lock = opened.inspect_err(|_| before.remove_folders())?;
        // The mark is derived from the path, so it must not depend on symbolic links.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        Ok(Self { path, lock, before })
    }

    /// Unlocks the directory and restores the state before [`DataDir::open`]. Other files in the directory stay.
    pub(crate) fn undo(self) {
        // Restored while the lock is held; the next gateway checks the permissions again after it has locked.
        self.before.restore_permissions(&self.path);
        self.lock.undo(&self.path.join(LOCK));
        self.before.remove_folders();
    }

    /// The canonical path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A mark that identifies the directory, the same at every start and safe in an environment variable.
    pub fn mark(&self) -> String {
        use sha2::{Digest, Sha256};
        use std::os::unix::ffi::OsStrExt;
        let hash = Sha256::digest(self.path.as_os_str().as_bytes());
        hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

// Errors are ignored here: the caller already reports another failure, and whatever remains does no harm.
impl Before {
    fn of(path: &Path) -> Self {
        let folders = path.ancestors().filter(|folder| !folder.as_os_str().is_empty());
        let missing = folders.take_while(|folder| !folder.exists()).map(Path::to_owned).collect();
        Self { missing, permissions: fs::metadata(path).ok().map(|metadata| metadata.permissions()) }
    }

    fn restore_permissions(&self, path: &Path) {
        if let Some(before) = &self.permissions {
            let _ = fs::set_permissions(path, before.clone());
        }
    }

    fn remove_folders(&self) {
        for folder in &self.missing {
            let _ = fs::remove_dir(folder);
        }
    }
}

impl Lock {
    fn undo(mut self, path: &Path) {
        let _ = match &self.previous {
            None => fs::remove_file(path),
            Some(previous) => self
                .file
                .set_len(0)
                .and_then(|()| self.file.rewind())
                .and_then(|()| self.file.write_all(previous)),
        };
    }
}

/// Checks, without changing anything, whether a gateway can start on a directory. A missing directory must be one that
/// can be created.
///
/// # Errors
///
/// Says why a gateway cannot start on the directory.
pub(crate) fn check_usable(path: &Path) -> Result<()> {
    let remedy = "Name a directory that this user can write to with --data-dir.";
    let unusable = |shown: &Path, why: &str| {
        Failure::new(format!("The data directory {} cannot be used: {why}.", shown.display()), remedy)
    };
    let folders =
        path.ancestors().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    let mut there = folders.skip_while(|folder| fs::symlink_metadata(folder).is_err());
    let folder = there.next().unwrap_or(path);
    if !folder.is_dir() {
        return Err(unusable(path, &format!("{} is no directory", folder.display())));
    }
    let writable = access(folder, Access::WRITE_OK | Access::EXEC_OK);
    if folder != path {
        let why = |error| format!("it is not there, and cannot be made in {}: {error}", folder.display());
        return writable.map_err(|error| unusable(path, &why(io::Error::from(error))));
    }
    if !can_be_closed(path) {
        check(path)?;
    }
    writable.map_err(|error| unusable(path, &io::Error::from(error).to_string()))?;
    check_lock(&path.join(LOCK))?;
    check_hosts(&path.join(HOSTS))
}

/// Checks that the lock file can be opened. A missing file is fine: the first start creates it.
fn check_lock(path: &Path) -> Result<()> {
    let flags = (OFlags::NOFOLLOW | OFlags::CLOEXEC).bits().cast_signed();
    match OpenOptions::new().read(true).write(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(no_lock(path, &error)),
        _ => Ok(()),
    }
}

fn no_lock(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        format!("The lock file {} cannot be used: {error}.", path.display()),
        "Move it away or make it writable for this user, or name another directory with --data-dir.",
    )
}

/// Checks the folder in which the agents' hosts keep their spools. A missing folder is fine: the first host creates it.
fn check_hosts(hosts: &Path) -> Result<()> {
    let Ok(metadata) = fs::symlink_metadata(hosts) else { return Ok(()) };
    let shown = hosts.display();
    if !metadata.is_dir() {
        return Err(Failure::new(
            format!("Agents cannot be started: {shown} is no directory."),
            "Move it away; the gateway makes a directory there.",
        ));
    }
    let mode = metadata.mode() & 0o777;
    if metadata.uid() != rustix::process::geteuid().as_raw() || mode & 0o077 != 0 {
        return Err(Failure::new(
            format!(
                "Agents cannot be started: {shown} is open to others (mode {mode:03o}) or belongs to another user."
            ),
            format!("Make it this user's own, and run `chmod 700 {shown}`."),
        ));
    }
    access(hosts, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
        Failure::new(
            format!("Agents cannot be started: {shown} cannot be written: {}.", io::Error::from(error)),
            format!("Run `chmod 700 {shown}`."),
        )
    })
}

fn make(path: &Path) -> Result<()> {
    if path.is_dir() {
        close_if_empty(path);
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| {
        Failure::new(
            format!("The data directory {} cannot be made: {error}.", path.display()),
            "Name a directory that this user can write to with --data-dir.",
        )
    })
}

/// Closes an empty directory to other users, as when a person has just created it for the gateway.
fn close_if_empty(path: &Path) {
    if can_be_closed(path) {
        // `check` finds out whether this worked.
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    }
}

fn can_be_closed(path: &Path) -> bool {
    let ours = fs::metadata(path).is_ok_and(|metadata| metadata.uid() == rustix::process::geteuid().as_raw());
    ours && fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

/// Checks that a directory is fit for secrets.
///
/// # Errors
///
/// The directory cannot be read, belongs to another user, or is open to others.
pub(crate) fn check(path: &Path) -> Result<()> {
    let shown = path.display();
    let metadata = fs::metadata(path).map_err(|error| {
        Failure::new(
            format!("The data directory {shown} cannot be used: {error}."),
            "Name a directory that this user can write to with --data-dir.",
        )
    })?;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(Failure::new(
            format!("The data directory {shown} belongs to another user."),
            "Name one that belongs to this user with --data-dir.",
        ));
    }
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Failure::new(
            format!("The data directory {shown} is open to others (mode {mode:03o}); it holds secrets."),
            format!("Run `chmod 700 {shown}`, or name another directory with --data-dir."),
        ));
    }
    Ok(())
}

fn lock(dir: &Path) -> Result<Lock> {
    let path = dir.join(LOCK);
    let unusable = |error: io::Error| no_lock(&path, &error);
    let deadline = Instant::now() + DYING;
    for _ in 0..TRIES {
        let (mut file, made) = open_lock(&path).map_err(unusable)?;
        let mut locked = file.try_lock();
        // If a gateway is killed between fork and exec of a child, the child holds the lock until its exec.
        while matches!(locked, Err(TryLockError::WouldBlock))
            && holder(dir).is_some_and(|pid| test_kill_process(pid).is_err())
            && Instant::now() < deadline
        {
            std::thread::sleep(LOCK_POLL);
            locked = file.try_lock();
        }
        match locked {
            // The gateway that held the lock before may have removed the file meanwhile; then open it again.
            Ok(()) if !is_at(&file, &path) => {}
            Ok(()) => {
                let mut previous = Vec::new();
                let read = file.read_to_end(&mut previous);
                let mut lock = Lock { file, previous: (!made).then_some(previous) };
                // The process id only serves the error message of the next gateway.
                let noted = read
                    .and_then(|_| lock.file.set_len(0))
                    .and_then(|()| lock.file.rewind())
                    .and_then(|()| writeln!(lock.file, "{}", std::process::id()));
                return match noted {
                    Ok(()) => Ok(lock),
                    Err(error) => {
                        lock.undo(&path);
                        Err(unusable(error))
                    }
                };
            }
            Err(TryLockError::WouldBlock) => return Err(in_use(dir)),
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
    }
    Err(unusable(io::Error::other("other processes remove the file again and again")))
}

/// Opens the lock file. Returns whether this call has created it.
fn open_lock(path: &Path) -> io::Result<(File, bool)> {
    let flags = (OFlags::NOFOLLOW | OFlags::CLOEXEC).bits().cast_signed();
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600).custom_flags(flags);
    match options.clone().create_new(true).open(path) {
        Ok(file) => Ok((file, true)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Ok((options.create(true).truncate(false).open(path)?, false))
        }
        Err(error) => Err(error),
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(mine), Ok(there)) = (file.metadata(), fs::metadata(path)) else { return false };
    (mine.dev(), mine.ino()) == (there.dev(), there.ino())
}

/// The process id in the lock file.
fn holder(dir: &Path) -> Option<Pid> {
    let text = fs::read_to_string(dir.join(LOCK)).ok()?;
    Pid::from_raw(text.trim().parse().ok()?)
}

fn in_use(dir: &Path) -> Failure {
    let who = holder(dir).map_or(String::new(), |pid| format!(" (process {})", pid.as_raw_nonzero()));
    Failure::new(
        format!("Another gateway{who} runs on the data directory {} already.", dir.display()),
        "Talk to that one, stop it first, or give this one a directory of its own with --data-dir.",
    )
}

/// Checks that no gateway runs on this directory, without locking it.
///
/// # Errors
///
/// Another gateway holds the lock.
pub(crate) fn check_free(dir: &Path) -> Result<()> {
    let lock = File::open(dir.join(LOCK));
    let locked = lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)));
    if locked { Err(in_use(dir)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_gateway_was_starting_does_not_keep_the_next_one_out() {
        let root = tempfile::tempdir().unwrap();
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        // The killed gateway's descriptor lives on in a child between fork and exec.
        let path = root.path().join(LOCK);
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(&path, gone.id().to_string()).unwrap();
        let inherited = File::open(&path).unwrap();
        inherited.try_lock().unwrap();
        let child = std::thread::spawn(move || {
            std::thread::sleep(LOCK_POLL * 4);
            drop(inherited);
        });
        DataDir::open(root.path()).unwrap();
        child.join().unwrap();
    }

    #[test]
    fn a_directory_is_made_for_its_owner_only_and_taken_once() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        let first = DataDir::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        assert!(check_free(&path).unwrap_err().what().contains("already"));
        let error = DataDir::open(&path).unwrap_err();
        assert!(error.what().contains(&std::process::id().to_string()), "{error}");
        drop(first);
        check_free(&path).unwrap();
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn a_directory_that_is_given_up_is_as_it_was() {
        let root = tempfile::tempdir().unwrap();
        DataDir::open(&root.path().join("a/b")).unwrap().undo();
        assert!(fs::read_dir(root.path()).unwrap().next().is_none());
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(root.path(), open).unwrap();
        DataDir::open(root.path()).unwrap().undo();
        assert_eq!(fs::metadata(root.path()).unwrap().permissions().mode() & 0o777, 0o755);
        assert!(fs::read_dir(root.path()).unwrap().next().is_none());
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let lock = root.path().join(LOCK);
        fs::write(&lock, "4000000\n").unwrap();
        DataDir::open(root.path()).unwrap().undo();
        assert_eq!(fs::read(&lock).unwrap(), b"4000000\n");
    }

    #[test]
    fn a_lock_that_is_removed_while_it_is_waited_for_is_not_taken() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(LOCK);
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        fs::write(&path, gone.id().to_string()).unwrap();
        let before = File::open(&path).unwrap();
        before.try_lock().unwrap();
        let second = std::thread::spawn({
            let root = root.path().to_owned();
            move || lock(&root).unwrap()
        });
        std::thread::sleep(LOCK_POLL * 4);
        fs::remove_file(&path).unwrap();
        drop(before);
        let second = second.join().unwrap();
        assert!(is_at(&second.file, &path));
    }

    #[test]
    fn a_directory_that_others_can_enter_is_refused() {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        drop(DataDir::open(root.path()).unwrap());
        assert_eq!(fs::metadata(root.path()).unwrap().mode() & 0o777, 0o700, "an empty one is closed");
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(DataDir::open(root.path()).unwrap_err().remedy().contains("chmod 700"));
    }

    #[test]
    fn the_mark_is_fit_for_an_environment_variable() {
        let root = tempfile::tempdir().unwrap();
        let mark = DataDir::open(root.path()).unwrap().mark();
        assert!(mark.len() == 16 && mark.bytes().all(|b| b.is_ascii_alphanumeric()));
    }

    #[test]
    fn the_mark_is_the_same_through_a_link() {
        let root = tempfile::tempdir().unwrap();
        let (real, link) = (root.path().join("real"), root.path().join("link"));
        let mark = DataDir::open(&real).unwrap().mark();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert_eq!(DataDir::open(&link).unwrap().mark(), mark);
    }
}
