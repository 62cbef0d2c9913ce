//! Files of a spool whose names end in a number.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The numbers and paths of the files in a directory whose names begin with `prefix`, in the order of their numbers.
///
/// # Errors
/// If the directory cannot be read.
pub(super) fn numbered_files(dir: &Path, prefix: &str) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files: Vec<(u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(|name| name.strip_prefix(prefix)?.parse().ok());
        files.extend(number.map(|number| (number, entry.path())));
    }
    files.sort_unstable();
    Ok(files)
}
