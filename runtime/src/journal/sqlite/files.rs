//! The files of a journal as far as SQLite does not handle them: their names, the lock, the side file with the commit
//! count, and syncing the write-ahead log.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::{
    fs::{Access, Advice, FlockOperation, access, fadvise, fdatasync, flock},
    io::Errno,
};

use super::error::{OpenError, OpenErrorReason};

/// The journal contains conversations, so only its owner may read and write it.
const MODE: u32 = 0o600;
/// The suffix of the names of unfinished files.
pub(super) const PARTIAL: &str = ".partial";
/// How many bytes of the write-ahead log are read or rewritten at a time.
const COPY_BYTES: usize = 256 * 1024;
/// How many times an operation is tried if other processes remove or truncate the file meanwhile.
const TRIES: usize = 100;

/// The header of the write-ahead log, in bytes. Source of both sizes:
/// <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>.
const LOG_HEAD: u64 = 32;
/// The size of a page with its header in the write-ahead log, in bytes.
pub(super) const LOG_PAGE: u64 = 24 + 4096;

/// The length of a write-ahead log of `pages` pages, in bytes.
pub(super) fn logged_bytes(pages: u64) -> u64 {
    LOG_HEAD + pages * LOG_PAGE
}

#[cfg(test)]
thread_local! {
    /// Makes syncs of the folder fail, for tests.
    pub(super) static SYNC_FOLDER_FAILS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// The paths of a journal's files.
#[derive(Debug, Clone)]
pub(super) struct Files {
    pub(super) db: PathBuf,
}

impl Files {
    pub(super) fn wal(&self) -> PathBuf {
        self.beside("-wal")
    }

    /// SQLite's index of the log.
    pub(super) fn index(&self) -> PathBuf {
        self.beside("-shm")
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.beside(".lock")
    }

    pub(super) fn commits(&self) -> PathBuf {
        self.beside(".commits")
    }

    /// The path of an unfinished file, before it is renamed.
    pub(super) fn partial(&self) -> PathBuf {
        self.beside(&format!(".{}{PARTIAL}", std::process::id()))
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name: OsString = self.db.clone().into();
        name.push(suffix);
        name.into()
    }

    /// Creates the database file if it does not exist, and makes it private to its owner. Call this function before
    /// SQLite opens the file: closing any other handle to the file would drop SQLite's locks.
    pub(super) fn make_private(&self) -> io::Result<()> {
        let file = open_private(&self.db)?;
        if file.metadata()?.permissions().mode() & 0o777 != MODE {
            file.set_permissions(fs::Permissions::from_mode(MODE))?;
        }
        Ok(())
    }

    /// Fails if a gateway could not write the existing files. Opens none of them: closing the database file would
    /// drop the locks of a gateway in this process.
    pub(super) fn check_writable(&self) -> Result<(), OpenError> {
        for file in [self.lock(), self.commits(), self.db.clone(), self.wal()] {
            let writable = match access(&file, Access::READ_OK | Access::WRITE_OK) {
                Ok(()) if file.is_dir() => Err(Errno::ISDIR),
                Err(Errno::NOENT) => Ok(()),
                writable => writable,
            };
            writable.map_err(|error| OpenError::io(&file, error.into()))?;
        }
        Ok(())
    }

    /// Syncs the folder, so that new names of files survive a power loss.
    pub(super) fn sync_folder(&self) -> io::Result<()> {
        #[cfg(test)]
        if SYNC_FOLDER_FAILS.get() {
            return Err(io::Error::other("a sync that a test lets fail"));
        }
        let folder = self.db.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }

    /// Reads the beginnings of small files from the disk itself, past the page cache. Does not read the database
    /// file, which must not be closed while SQLite has it open.
    pub(super) fn read_disk(&self) -> io::Result<()> {
        for name in [self.wal(), self.commits()] {
            let file = File::open(name)?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
            file.read_at(&mut [0; LOG_HEAD as usize], 0)?;
        }
        Ok(())
    }

    pub(super) fn open_wal(&self) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.wal())
    }

    /// The length of the write-ahead log in bytes, without the zeros at its end that were written ahead.
    pub(super) fn logged(&self) -> io::Result<u64> {
        for _ in 0..TRIES {
            match self.logged_now() {
                // A gateway that has the journal open has truncated the log meanwhile.
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
                // The contents of a page may end in zeros.
                let pages = used.saturating_sub(LOG_HEAD).div_ceil(LOG_PAGE);
                return Ok(logged_bytes(pages).min(length));
            }
            end = begin;
        }
        Ok(0)
    }

    /// Syncs the write-ahead log after a failed sync. The page cache may then count bytes as written that are not on
    /// the disk, so every byte is written again first. No connection may be open.
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

/// The lock on a journal. The system releases it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    /// The contents of the lock file before; `None`: the file did not exist.
    before: Option<Vec<u8>>,
}

impl Lock {
    /// Takes the lock, and writes this process's id into the lock file.
    pub(super) fn take(files: &Files) -> Result<Self, OpenError> {
        let lock = Self::take_quietly(files)?;
        if let Err(error) = lock.write_pid() {
            tracing::debug!(%error, "the id of this process could not be written into the lock file");
        }
        Ok(lock)
    }

    /// Takes the lock, and does not change an existing lock file.
    pub(super) fn take_quietly(files: &Files) -> Result<Self, OpenError> {
        let path = files.lock();
        for _ in 0..TRIES {
            let mut lock = Self::open(&path).map_err(|error| OpenError::io(&path, error))?;
            match flock(&lock.file, FlockOperation::NonBlockingLockExclusive) {
                // The process that had the lock may have removed the file meanwhile.
                Ok(()) if !lock.is_at(&path) => {}
                Ok(()) => {
                    if lock.before.is_some() {
                        lock.before = Some(fs::read(&path).map_err(|error| OpenError::io(&path, error))?);
                    }
                    return Ok(lock);
                }
                Err(Errno::WOULDBLOCK) => {
                    // The process id is optional: the error is correct without it.
                    let text = io::read_to_string(&lock.file).unwrap_or_default();
                    let pid = text.trim().parse().ok();
                    return Err(OpenError::new(&files.db, OpenErrorReason::InUse { pid }));
                }
                Err(error) => return Err(OpenError::io(&path, error.into())),
            }
        }
        Err(OpenError::io(&path, io::Error::other("other processes remove the file again and again")))
    }

    fn open(path: &Path) -> io::Result<Self> {
        let made = OpenOptions::new().read(true).write(true).create_new(true).mode(MODE).open(path);
        match made {
            Ok(file) => Ok(Self { file, before: None }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Ok(Self { file: open_private(path)?, before: Some(Vec::new()) })
            }
            Err(error) => Err(error),
        }
    }

    fn is_at(&self, path: &Path) -> bool {
        let (Ok(mine), Ok(there)) = (self.file.metadata(), fs::metadata(path)) else { return false };
        (mine.dev(), mine.ino()) == (there.dev(), there.ino())
    }

    fn write_pid(&self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)
    }

    /// Whether the lock file existed before, so a gateway once had a journal here.
    pub(super) fn was_there(&self) -> bool {
        self.before.is_some()
    }

    /// Releases the lock of a journal that was not opened after all, and restores the lock file.
    pub(super) fn undo(self, files: &Files) {
        // A lock file that remains locks nothing.
        let _ = match &self.before {
            None => fs::remove_file(files.lock()),
            Some(before) => self.file.set_len(0).and_then(|()| self.file.write_all_at(before, 0)),
        };
    }
}

/// The side file: stores the commit count outside the database, so that lost commits are noticed. One line: `<journal
/// id> <commits written, 20 digits> <commits synced, 20 digits> <boot id>`. Versions without `--accept-loss` wrote
/// only the first two fields.
#[derive(Debug)]
pub(super) struct SideFile {
    file: File,
    journal_id: String,
    boot_id: String,
    written: AtomicU64,
}

/// The contents of the side file of a restored journal.
const RESTORED: &str = "restored";
/// Stands for the boot id where the system gives none.
const NO_BOOT: &str = "-";

/// The contents of the side file when the journal was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RecordedCommits {
    /// The file does not exist.
    Nothing,
    /// The journal was restored from a backup, and not opened since.
    Restored,
    /// The commit count of the journal with this id.
    Commits {
        journal_id: String,
        /// The number of commits that were written: they survive the end of the process.
        commits: u64,
        /// The number of commits that are known to be synced to the disk.
        synced: u64,
        /// The boot in which the commits were written, if it is known.
        boot_id: Option<String>,
    },
    /// The contents are invalid.
    Garbage,
}

impl SideFile {
    /// Reads the side file.
    pub(super) fn read(files: &Files) -> io::Result<RecordedCommits> {
        let bytes = match fs::read(files.commits()) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(RecordedCommits::Nothing),
            Err(error) => return Err(error),
        };
        let text = String::from_utf8_lossy(&bytes);
        let words: Vec<&str> = text.split_whitespace().collect();
        let (id, commits, synced, boot) = match words[..] {
            [RESTORED] => return Ok(RecordedCommits::Restored),
            [id, commits] => (id, commits, "0", NO_BOOT),
            [id, commits, synced, boot] => (id, commits, synced, boot),
            _ => return Ok(RecordedCommits::Garbage),
        };
        let (Ok(commits), Ok(synced), true) = (commits.parse(), synced.parse(), text.is_ascii()) else {
            return Ok(RecordedCommits::Garbage);
        };
        let boot_id = Some(boot.to_owned()).filter(|boot| boot != NO_BOOT);
        Ok(RecordedCommits::Commits { journal_id: id.to_owned(), commits, synced, boot_id })
    }

    /// Marks a journal as restored from a backup, so that its missing newer commits do not count as lost.
    pub(super) fn note_restored(files: &Files) -> io::Result<()> {
        Self::write_whole(files, &format!("{RESTORED}\n"))
    }

    /// Creates the file with its complete line or not at all, because an empty file counts as damaged.
    fn write_whole(files: &Files, line: &str) -> io::Result<()> {
        let partial = files.partial();
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&partial)?;
        let written = file
            .write_all_at(line.as_bytes(), 0)
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&partial, files.commits()));
        written.inspect_err(|_| {
            // If this fails, the next start removes the file.
            let _ = fs::remove_file(&partial);
        })
    }

    pub(super) fn open(files: &Files, journal_id: String, boot_id: &str) -> io::Result<Self> {
        let boot_id = if boot_id.is_empty() { NO_BOOT } else { boot_id }.to_owned();
        if !files.commits().exists() {
            Self::write_whole(files, &format!("{journal_id} {0:020} {0:020} {boot_id}\n", 0))?;
        }
        Ok(Self { file: open_private(&files.commits())?, journal_id, boot_id, written: AtomicU64::new(0) })
    }

    /// Stores the count of written commits. It survives the end of the process, but not a power loss.
    pub(super) fn record(&self, commits: u64) -> io::Result<()> {
        let line = format!("{} {commits:020}", self.journal_id);
        self.file.write_all_at(line.as_bytes(), 0)?;
        self.written.store(commits, Ordering::Release);
        Ok(())
    }

    /// The newest commit that was stored: a sync that starts now covers this commit.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Stores that this commit and all earlier ones are synced.
    pub(super) fn record_synced(&self, commits: u64) -> io::Result<()> {
        let at = u64::try_from(self.journal_id.len() + 22).unwrap_or(u64::MAX);
        self.file.write_all_at(format!("{commits:020}").as_bytes(), at)
    }

    /// Stores a synced commit, and syncs the side file.
    pub(super) fn record_durably(&self, commits: u64) -> io::Result<()> {
        let line = format!("{} {commits:020} {commits:020} {}\n", self.journal_id, self.boot_id);
        self.file.write_all_at(line.as_bytes(), 0)?;
        // Cuts off the end of a longer line that was in the file before.
        self.file.set_len(u64::try_from(line.len()).unwrap_or(u64::MAX))?;
        self.file.sync_all()?;
        self.written.store(commits, Ordering::Release);
        Ok(())
    }
}

/// The id of the machine's current boot, if the system gives one (Linux: `random(4)`, "boot_id").
pub(super) fn boot_id() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned()).filter(|id| !id.is_empty())
}
