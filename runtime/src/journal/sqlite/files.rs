//! The files of a journal beside what SQLite itself does with them: names, the lock, the side file with the
//! count of commits, and the write-ahead log as something to bring to the disk.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, fdatasync, flock},
    io::Errno,
};

use super::error::{OpenError, OpenErrorReason};

/// Only the owner reads and writes what people and agents said.
const MODE: u32 = 0o600;
/// How many bytes of the write-ahead log are written again at a time.
const COPY_BYTES: usize = 256 * 1024;
/// A file that others remove, or cut, again and again is given up after so many tries.
const TRIES: usize = 100;

/// The head of the write-ahead log, in bytes. Source of both: <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>.
const LOG_HEAD: u64 = 32;
/// What a page takes in it, in bytes.
pub(super) const LOG_PAGE: u64 = 24 + 4096;

/// What so many pages take in the write-ahead log, in bytes.
pub(super) fn logged_bytes(pages: u64) -> u64 {
    LOG_HEAD + pages * LOG_PAGE
}

/// Where everything is.
#[derive(Debug, Clone)]
pub(super) struct Files {
    pub(super) db: PathBuf,
}

impl Files {
    pub(super) fn wal(&self) -> PathBuf {
        self.beside("-wal")
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.beside(".lock")
    }

    pub(super) fn commits(&self) -> PathBuf {
        self.beside(".commits")
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name: OsString = self.db.clone().into();
        name.push(suffix);
        name.into()
    }

    /// Makes the database's file if there is none, for its owner only. Before SQLite has it open: closing
    /// any other handle to it would drop SQLite's locks.
    pub(super) fn make_private(&self) -> io::Result<()> {
        let file = open_private(&self.db)?;
        if file.metadata()?.permissions().mode() & 0o777 != MODE {
            file.set_permissions(fs::Permissions::from_mode(MODE))?;
        }
        Ok(())
    }

    /// Makes the names of new files durable.
    pub(super) fn sync_folder(&self) -> io::Result<()> {
        let folder = self.db.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }

    pub(super) fn open_wal(&self) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.wal())
    }

    /// How long the write-ahead log is without the room that was made in it ahead: pages of zeros at its end.
    pub(super) fn logged(&self) -> io::Result<u64> {
        for _ in 0..TRIES {
            match self.logged_now() {
                // A gateway that has it open has cut it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                logged => return logged,
            }
        }
        Ok(self.wal().metadata()?.len())
    }

    fn logged_now(&self) -> io::Result<u64> {
        let wal = match File::open(self.wal()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            opened => opened?,
        };
        let length = wal.metadata()?.len();
        let mut bytes = vec![0; COPY_BYTES];
        let mut end = length;
        while end > 0 {
            let part = usize::try_from(end).unwrap_or(usize::MAX).min(COPY_BYTES);
            let begin = end - part as u64;
            wal.read_exact_at(&mut bytes[..part], begin)?;
            if let Some(last) = bytes[..part].iter().rposition(|byte| *byte != 0) {
                let used = begin + last as u64 + 1;
                // A page may end in zeros of its own.
                let pages = used.saturating_sub(LOG_HEAD).div_ceil(LOG_PAGE);
                return Ok(logged_bytes(pages).min(length));
            }
            end = begin;
        }
        Ok(0)
    }

    /// Brings the write-ahead log to the disk after that failed once: what the system still has of it may
    /// count as written though it is not, so every byte is written again first. No connection may be open.
    pub(super) fn rewrite_wal(&self) -> io::Result<()> {
        let wal = self.open_wal()?;
        let mut bytes = vec![0; COPY_BYTES];
        let mut at = 0;
        loop {
            let read = wal.read_at(&mut bytes, at)?;
            if read == 0 {
                break;
            }
            wal.write_all_at(&bytes[..read], at)?;
            at += u64::try_from(read).unwrap_or(u64::MAX);
        }
        fdatasync(&wal)?;
        Ok(())
    }
}

fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(MODE).open(path)
}

/// Held for as long as this process has the journal open. The system lets go of it when the process ends,
/// however it ends.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    /// Nobody had the journal open before.
    made: bool,
}

impl Lock {
    pub(super) fn take(files: &Files) -> Result<Self, OpenError> {
        let path = files.lock();
        for _ in 0..TRIES {
            let lock = Self::open(&path).map_err(|error| OpenError::io(&path, error))?;
            match flock(&lock.file, FlockOperation::NonBlockingLockExclusive) {
                // Whoever had it may have removed it meanwhile.
                Ok(()) if !lock.is_at(&path) => {}
                Ok(()) => {
                    if let Err(error) = lock.tell() {
                        tracing::debug!(%error, "the lock file does not say who holds it");
                    }
                    return Ok(lock);
                }
                Err(Errno::WOULDBLOCK) => {
                    // The process is a courtesy: without it the message is still right.
                    let text = io::read_to_string(&lock.file).unwrap_or_default();
                    let pid = text.trim().parse().ok();
                    return Err(OpenError::new(&files.db, OpenErrorReason::InUse { pid }));
                }
                Err(error) => return Err(OpenError::io(&path, error.into())),
            }
        }
        Err(OpenError::io(&path, io::Error::other("it is removed again and again")))
    }

    fn open(path: &Path) -> io::Result<Self> {
        let made = OpenOptions::new().read(true).write(true).create_new(true).mode(MODE).open(path);
        match made {
            Ok(file) => Ok(Self { file, made: true }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Ok(Self { file: open_private(path)?, made: false })
            }
            Err(error) => Err(error),
        }
    }

    fn is_at(&self, path: &Path) -> bool {
        let (Ok(mine), Ok(there)) = (self.file.metadata(), fs::metadata(path)) else { return false };
        (mine.dev(), mine.ino()) == (there.dev(), there.ino())
    }

    fn tell(&self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)
    }

    /// Lets go of a journal that was not made after all.
    pub(super) fn undo(self, files: &Files) {
        if self.made {
            // Left, it keeps nobody from anything.
            let _ = fs::remove_file(files.lock());
        }
    }
}

/// Remembers outside the database the count of commits, so that lost ones are noticed: one
/// line `<journal id> <commits, 20 digits>`.
#[derive(Debug)]
pub(super) struct SideFile {
    file: File,
    journal_id: String,
}

/// What a side file said at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Remembered {
    /// There was none.
    Nothing,
    /// The count of commits of the journal with this id.
    Commits { journal_id: String, commits: u64 },
    /// It cannot be understood.
    Garbage,
}

impl SideFile {
    /// What is remembered, before the file is written anew.
    pub(super) fn recall(files: &Files) -> io::Result<Remembered> {
        let bytes = match fs::read(files.commits()) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Remembered::Nothing),
            Err(error) => return Err(error),
        };
        let line = std::str::from_utf8(&bytes).ok().and_then(|text| text.split_once(' '));
        Ok(match line.map(|(id, commits)| (id, commits.trim().parse())) {
            _ if bytes.is_empty() => Remembered::Nothing,
            Some((id, Ok(commits))) => Remembered::Commits { journal_id: id.to_owned(), commits },
            Some((_, Err(_))) | None => Remembered::Garbage,
        })
    }

    pub(super) fn open(files: &Files, journal_id: String) -> io::Result<Self> {
        Ok(Self { file: open_private(&files.commits())?, journal_id })
    }

    /// Remembers a commit. It survives the process from then on.
    pub(super) fn remember(&self, commits: u64) -> io::Result<()> {
        self.file.write_all_at(self.line(commits).as_bytes(), 0)
    }

    /// Remembers a commit, and that durably.
    pub(super) fn remember_for_good(&self, commits: u64) -> io::Result<()> {
        self.remember(commits)?;
        // What another journal's side file had beyond that.
        self.file.set_len(u64::try_from(self.line(commits).len()).unwrap_or(u64::MAX))?;
        self.file.sync_all()
    }

    fn line(&self, commits: u64) -> String {
        format!("{} {commits:020}\n", self.journal_id)
    }
}

/// The boot that this machine is in, where the system says so (Linux: `random(4)`, "boot_id").
pub(super) fn boot_id() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned()).filter(|id| !id.is_empty())
}
