//! Files that get their names only when they are complete.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{
    error::{OpenError, OpenErrorReason},
    files::{Files, PARTIAL},
};

/// Backups and journals contain conversations, so only their owner may read them.
const MODE: u32 = 0o600;

/// Removes the files of a restore or a start that was killed.
pub(super) fn remove_partials(files: &Files) {
    let (Some(folder), Some(name)) = (files.db.parent(), files.db.file_name()) else { return };
    let begin = format!("{}.", name.to_string_lossy());
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let part = name.to_string_lossy().strip_prefix(&begin).map(str::to_owned);
        let is_it = |part: &str| {
            part.split_once(PARTIAL).is_some_and(|(pid, _)| pid.bytes().all(|byte| byte.is_ascii_digit()))
        };
        if part.is_some_and(|part| is_it(&part)) {
            // A file that remains does no harm.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// An unfinished file, removed when it is dropped before it gets its final name.
pub(super) struct Partial {
    pub(super) path: PathBuf,
}

impl Partial {
    /// For a new file.
    pub(super) fn make(of: &Path) -> Result<Self, OpenError> {
        if of.exists() {
            return Err(OpenError::new(of, OpenErrorReason::Exists));
        }
        Self::beside(of)
    }

    /// For a file that is to replace another one.
    pub(super) fn beside(of: &Path) -> Result<Self, OpenError> {
        let path = Files { db: of.to_owned() }.partial();
        let made = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&path);
        made.map_err(|error| OpenError::io(of, error))?;
        Ok(Self { path })
    }

    /// Replaces a file with the finished one.
    pub(super) fn replace(self, name: &Path) -> Result<(), OpenError> {
        let of = |error| OpenError::io(name, error);
        File::open(&self.path).and_then(|file| file.sync_all()).map_err(of)?;
        fs::rename(&self.path, name).map_err(of)?;
        Files { db: name.to_owned() }.sync_folder().map_err(of)
    }

    /// Gives the finished file its name, unless another file has taken that name.
    pub(super) fn finish(self, name: &Path) -> Result<(), OpenError> {
        let of = |error| OpenError::io(name, error);
        File::open(&self.path).and_then(|file| file.sync_all()).map_err(of)?;
        match renameat_with(CWD, &self.path, CWD, name, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => return Err(OpenError::new(name, OpenErrorReason::Exists)),
            // The file system does not support this flag.
            Err(rustix::io::Errno::INVAL) => fs::hard_link(&self.path, name).map_err(of)?,
            Err(error) => return Err(of(error.into())),
        }
        Files { db: name.to_owned() }.sync_folder().map_err(|error| {
            // Without this sync, the file may be gone after a power loss, so the copy has failed.
            let _ = fs::remove_file(name);
            of(error)
        })
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Opening a copy that was made by another program may have created these files. After `finish`, the file
        // itself is gone from this path.
        for suffix in ["", "-wal", "-shm"] {
            let mut name = self.path.clone().into_os_string();
            name.push(suffix);
            let _ = fs::remove_file(name);
        }
    }
}
