//! The files of a journal beside what SQLite itself does with them: names, the lock, the side file with the
//! count of commits, and the write-ahead log as something to bring to the disk.

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

/// Only the owner reads and writes what people and agents said.
const MODE: u32 = 0o600;
/// How the name of a file ends that is not finished.
pub(super) const PARTIAL: &str = ".partial";
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

#[cfg(test)]
thread_local! {
    /// On a disk that fails there, for tests.
    pub(super) static SYNC_FOLDER_FAILS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
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

    /// A file that is not finished, and has another name until it is.
    pub(super) fn partial(&self) -> PathBuf {
        self.beside(&format!(".{}{PARTIAL}", std::process::id()))
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

    /// Whether a gateway could write its files, where they are there already. None is opened: closing the database's would
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

    /// Makes the names of new files durable.
    pub(super) fn sync_folder(&self) -> io::Result<()> {
        #[cfg(test)]
        if SYNC_FOLDER_FAILS.get() {
            return Err(io::Error::other("a sync that a test lets fail"));
        }
        let folder = self.db.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }

    /// Reads the beginnings of small files from the disk itself, and not from what the system has of them in memory.
    /// Nothing of the database: that file must not be closed while SQLite has it open.
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
    /// What its file said before; `None`: there was none.
    said: Option<Vec<u8>>,
}

impl Lock {
    /// Takes it, and says which process has it.
    pub(super) fn take(files: &Files) -> Result<Self, OpenError> {
        let lock = Self::take_quietly(files)?;
        if let Err(error) = lock.record() {
            tracing::debug!(%error, "the lock file does not say who holds it");
        }
        Ok(lock)
    }

    /// Takes it, and leaves its file as it is.
    pub(super) fn take_quietly(files: &Files) -> Result<Self, OpenError> {
        let path = files.lock();
        for _ in 0..TRIES {
            let mut lock = Self::open(&path).map_err(|error| OpenError::io(&path, error))?;
            match flock(&lock.file, FlockOperation::NonBlockingLockExclusive) {
                // Whoever had it may have removed it meanwhile.
                Ok(()) if !lock.is_at(&path) => {}
                Ok(()) => {
                    if lock.said.is_some() {
                        lock.said = Some(fs::read(&path).map_err(|error| OpenError::io(&path, error))?);
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
            Ok(file) => Ok(Self { file, said: None }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Ok(Self { file: open_private(path)?, said: Some(Vec::new()) })
            }
            Err(error) => Err(error),
        }
    }

    fn is_at(&self, path: &Path) -> bool {
        let (Ok(mine), Ok(there)) = (self.file.metadata(), fs::metadata(path)) else { return false };
        (mine.dev(), mine.ino()) == (there.dev(), there.ino())
    }

    fn record(&self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)
    }

    /// Whether a gateway had a journal here before.
    pub(super) fn was_there(&self) -> bool {
        self.said.is_some()
    }

    /// Lets go of a journal that was not opened after all, and leaves the lock's file as it was.
    pub(super) fn undo(self, files: &Files) {
        // Left, it keeps nobody from anything.
        let _ = match &self.said {
            None => fs::remove_file(files.lock()),
            Some(said) => self.file.set_len(0).and_then(|()| self.file.write_all_at(said, 0)),
        };
    }
}

/// Remembers outside the database the count of commits, so that lost ones are noticed: one line
/// `<journal id> <commits written, 20 digits> <commits synced, 20 digits> <boot id>`. Before there was
/// `--accept-loss` it ended after the first count.
#[derive(Debug)]
pub(super) struct SideFile {
    file: File,
    journal_id: String,
    boot_id: String,
    written: AtomicU64,
}

/// Stands in the place of all that where a backup was restored.
const RESTORED: &str = "restored";
/// Stands for a boot that the system does not name.
const NO_BOOT: &str = "-";

/// What a side file said at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Remembered {
    /// There was none.
    Nothing,
    /// The journal was made of a backup, and not opened since.
    Restored,
    /// The count of commits of the journal with this id.
    Commits {
        journal_id: String,
        /// Written: they survive the process.
        commits: u64,
        /// Known to be on the disk.
        synced: u64,
        /// In which boot they were written, where that is known.
        boot_id: Option<String>,
    },
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
        let text = String::from_utf8_lossy(&bytes);
        let words: Vec<&str> = text.split_whitespace().collect();
        let (id, commits, synced, boot) = match words[..] {
            [RESTORED] => return Ok(Remembered::Restored),
            [id, commits] => (id, commits, "0", NO_BOOT),
            [id, commits, synced, boot] => (id, commits, synced, boot),
            _ => return Ok(Remembered::Garbage),
        };
        let (Ok(commits), Ok(synced), true) = (commits.parse(), synced.parse(), text.is_ascii()) else {
            return Ok(Remembered::Garbage);
        };
        let boot_id = Some(boot.to_owned()).filter(|boot| boot != NO_BOOT);
        Ok(Remembered::Commits { journal_id: id.to_owned(), commits, synced, boot_id })
    }

    /// Notes that a journal is made of a backup: that it lacks what came later is no accident.
    pub(super) fn note_restored(files: &Files) -> io::Result<()> {
        Self::place(files, &format!("{RESTORED}\n"))
    }

    /// Makes the file, with all of its line or not at all: one that is empty is damaged.
    fn place(files: &Files, line: &str) -> io::Result<()> {
        let partial = files.partial();
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&partial)?;
        let placed = file
            .write_all_at(line.as_bytes(), 0)
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&partial, files.commits()));
        placed.inspect_err(|_| {
            // The next start removes it.
            let _ = fs::remove_file(&partial);
        })
    }

    pub(super) fn open(files: &Files, journal_id: String, boot_id: &str) -> io::Result<Self> {
        let boot_id = if boot_id.is_empty() { NO_BOOT } else { boot_id }.to_owned();
        if !files.commits().exists() {
            Self::place(files, &format!("{journal_id} {0:020} {0:020} {boot_id}\n", 0))?;
        }
        Ok(Self { file: open_private(&files.commits())?, journal_id, boot_id, written: AtomicU64::new(0) })
    }

    /// Remembers a commit. It survives the process from then on.
    pub(super) fn remember(&self, commits: u64) -> io::Result<()> {
        let line = format!("{} {commits:020}", self.journal_id);
        self.file.write_all_at(line.as_bytes(), 0)?;
        self.written.store(commits, Ordering::Release);
        Ok(())
    }

    /// The newest commit that is remembered: a sync that begins now is of this one, too.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Remembers that a commit, and all before it, are on the disk.
    pub(super) fn remember_synced(&self, commits: u64) -> io::Result<()> {
        let at = u64::try_from(self.journal_id.len() + 22).unwrap_or(u64::MAX);
        self.file.write_all_at(format!("{commits:020}").as_bytes(), at)
    }

    /// Remembers a commit that is on the disk, and that durably.
    pub(super) fn remember_for_good(&self, commits: u64) -> io::Result<()> {
        let line = format!("{} {commits:020} {commits:020} {}\n", self.journal_id, self.boot_id);
        self.file.write_all_at(line.as_bytes(), 0)?;
        // What another journal's side file had beyond that.
        self.file.set_len(u64::try_from(line.len()).unwrap_or(u64::MAX))?;
        self.file.sync_all()?;
        self.written.store(commits, Ordering::Release);
        Ok(())
    }
}

/// The boot that this machine is in, where the system says so (Linux: `random(4)`, "boot_id").
pub(super) fn boot_id() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned()).filter(|id| !id.is_empty())
}
