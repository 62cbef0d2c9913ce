//! Why a journal cannot be opened, in words for the person who runs the gateway.

use std::{
    error::Error,
    fmt, io,
    path::{Path, PathBuf},
};

use rusqlite::{ErrorCode, ffi};

/// Why a journal cannot be opened. The text names the file, and says what the error means and what to do.
#[derive(Debug)]
pub struct OpenError {
    /// The file that cannot be opened or used.
    pub path: PathBuf,
    /// The reason.
    pub reason: OpenErrorReason,
}

/// Why the file of a journal cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenErrorReason {
    /// Another gateway has the journal open.
    InUse {
        /// The id of that gateway's process, if it is known.
        pid: Option<u32>,
    },
    /// The file is not a journal. Nothing was changed.
    NotAJournal,
    /// A newer Switchboard wrote the file. Nothing was changed.
    Newer {
        /// The version of the file's schema.
        found: u32,
        /// The newest version that this program supports.
        known: u32,
    },
    /// The contents of the journal are damaged.
    Damaged {
        /// Which damage was found.
        detail: String,
    },
    /// The file is a backup, and it is damaged.
    DamagedCopy {
        /// Which damage was found.
        detail: String,
    },
    /// Committed data is missing from the journal. Nothing was changed.
    Lost {
        /// Which data is missing, and how that is known.
        detail: String,
    },
    /// The user of this process may not read or write the file.
    NotPermitted,
    /// The folder of the file does not exist.
    NoFolder,
    /// The file does not exist.
    Missing,
    /// The file exists already, and is not overwritten.
    Exists,
    /// The disk is full.
    DiskFull,
    /// The file cannot be read from the disk. Nothing was changed.
    Unreadable {
        /// The error of the disk.
        detail: String,
    },
    /// The system could not read or write the file.
    Io(io::Error),
    /// SQLite failed for another reason.
    Sqlite(rusqlite::Error),
}

impl OpenError {
    pub(super) fn new(path: &Path, reason: OpenErrorReason) -> Self {
        Self { path: path.to_owned(), reason }
    }

    pub(super) fn io(path: &Path, error: io::Error) -> Self {
        #[allow(clippy::wildcard_enum_match_arm, reason = "the system knows more kinds than matter here")]
        let reason = match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                OpenErrorReason::NotPermitted
            }
            io::ErrorKind::NotFound => OpenErrorReason::NoFolder,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => OpenErrorReason::DiskFull,
            _ if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                OpenErrorReason::Unreadable { detail: error.to_string() }
            }
            _ => OpenErrorReason::Io(error),
        };
        Self::new(path, reason)
    }

    pub(super) fn sqlite(path: &Path, error: rusqlite::Error) -> Self {
        let reason = match error.sqlite_error_code() {
            _ if is_damage(&error) => OpenErrorReason::Damaged { detail: error.to_string() },
            _ if is_unreadable(&error) => OpenErrorReason::Unreadable { detail: error.to_string() },
            Some(ErrorCode::NotADatabase) => OpenErrorReason::NotAJournal,
            Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly | ErrorCode::CannotOpen) => {
                OpenErrorReason::NotPermitted
            }
            Some(ErrorCode::DiskFull) => OpenErrorReason::DiskFull,
            _ => OpenErrorReason::Sqlite(error),
        };
        Self::new(path, reason)
    }

    /// Whether the file's contents are damaged.
    pub(super) fn is_damage(&self) -> bool {
        matches!(self.reason, OpenErrorReason::Damaged { .. })
    }

    pub(super) fn damaged(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(path, OpenErrorReason::Damaged { detail: detail.into() })
    }
}

/// Whether an error of SQLite says that the file's contents are damaged.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt)
        || matches!(
            error,
            rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
                | rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::Utf8Error(..)
        )
}

/// Whether an error of SQLite says that the disk could not be read. Most functions of SQLite report this as damage.
fn is_unreadable(error: &rusqlite::Error) -> bool {
    let reads = [ffi::SQLITE_IOERR_READ, ffi::SQLITE_IOERR_CORRUPTFS, ffi::SQLITE_IOERR_DATA];
    matches!(error, rusqlite::Error::SqliteFailure(error, _) if reads.contains(&error.extended_code))
}

/// Whether a part of the database cannot be used, because it is damaged or cannot be read from the disk.
pub(super) fn is_unusable(error: &rusqlite::Error) -> bool {
    is_damage(error) || is_unreadable(error)
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.path.display())?;
        match self.reason.words() {
            Some(words) => f.write_str(words),
            None => self.reason.write_details(f),
        }
    }
}

impl OpenErrorReason {
    /// What to say about the file, for a reason without details.
    fn words(&self) -> Option<&'static str> {
        Some(match self {
            Self::InUse { pid: None } => {
                "is in use by another gateway: stop that one first, or give this one another data directory"
            }
            Self::NotAJournal => {
                "is not a Switchboard journal, and was left as it is: give the gateway another data directory, or move \
                 this file away"
            }
            Self::NotPermitted => {
                "cannot be read and written by this user: check who owns it and its folder (the gateway needs to \
                 create files beside it), and that the file system is not read-only"
            }
            Self::NoFolder => "cannot be created: its folder does not exist; create it or name another",
            Self::Missing => "does not exist: name a file that does",
            Self::Exists => "exists already, and was left as it is: name another file, or move this one away",
            Self::DiskFull => "cannot be opened: the disk is full; free some space",
            Self::InUse { pid: Some(_) }
            | Self::Newer { .. }
            | Self::Damaged { .. }
            | Self::DamagedCopy { .. }
            | Self::Lost { .. }
            | Self::Unreadable { .. }
            | Self::Io(_)
            | Self::Sqlite(_) => return None,
        })
    }

    /// Writes what to say about the file, for a reason with details.
    fn write_details(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse { pid: Some(pid) } => write!(
                f,
                "is in use by another gateway (process {pid}): stop that one first, or give this one another data \
                 directory"
            ),
            Self::Newer { found, known } => write!(
                f,
                "was written by a newer Switchboard (format {found}; this one knows up to {known}), and was left as \
                 it is: run that version, or restore a backup made before the upgrade"
            ),
            Self::Damaged { detail } => write!(
                f,
                "is damaged ({detail}), and every file was left as it is: restore a backup into another data \
                 directory; or start once with --accept-loss to set the files aside and go on with what can be read; \
                 `switchboard doctor` says which chats are damaged"
            ),
            Self::DamagedCopy { detail } => write!(f, "is damaged ({detail}): restore another backup"),
            Self::Lost { detail } => write!(
                f,
                "lacks data that was committed ({detail}): a start would lose chats or parts of them, so every file \
                 was left as it is: put back what is missing, restore a backup into another data directory, or start \
                 once with --accept-loss to set the files aside and go on with what is left (also if you put a backup \
                 in its place yourself)"
            ),
            Self::Unreadable { detail } => write!(
                f,
                "cannot be read ({detail}): the disk returns errors, and every file was left as it is; copy the data \
                 directory to another disk with a program that reads past them, such as ddrescue, and start there \
                 with --accept-loss, or restore a backup"
            ),
            Self::Io(error) => write!(f, "cannot be opened: {error}"),
            Self::Sqlite(error) => write!(
                f,
                "cannot be opened: {error}; it needs a local file system with shared memory and locks (network file \
                 systems often lack them)"
            ),
            Self::InUse { pid: None }
            | Self::NotAJournal
            | Self::NotPermitted
            | Self::NoFolder
            | Self::Missing
            | Self::Exists
            | Self::DiskFull => Ok(()),
        }
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.reason {
            OpenErrorReason::Io(error) => Some(error),
            OpenErrorReason::Sqlite(error) => Some(error),
            OpenErrorReason::InUse { .. }
            | OpenErrorReason::NotAJournal
            | OpenErrorReason::Newer { .. }
            | OpenErrorReason::Damaged { .. }
            | OpenErrorReason::DamagedCopy { .. }
            | OpenErrorReason::Lost { .. }
            | OpenErrorReason::NotPermitted
            | OpenErrorReason::NoFolder
            | OpenErrorReason::Missing
            | OpenErrorReason::Exists
            | OpenErrorReason::DiskFull
            | OpenErrorReason::Unreadable { .. } => None,
        }
    }
}
