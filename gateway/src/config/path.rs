//! Paths in settings.

use std::{
    env,
    path::{Component, Path, PathBuf},
};

use crate::failure::{Failure, Result};

/// The home directory, if `HOME` is an absolute path.
pub(super) fn home() -> Option<PathBuf> {
    env::var_os("HOME").map(PathBuf::from).filter(|dir| dir.is_absolute())
}

/// Makes a path absolute and removes its `.` components. A leading `~` is the home directory.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf> {
    let expanded = match path.strip_prefix("~") {
        Ok(rest) => home().map(|home| home.join(rest)),
        Err(_) => Some(path.to_owned()),
    };
    let from_here = expanded.and_then(|path| std::path::absolute(path).ok()).ok_or_else(|| {
        Failure::new(
            format!("The path {:?} leads nowhere.", path.display().to_string()),
            "Give an absolute path.",
        )
    })?;
    let plain = from_here.components().filter(|component| *component != Component::CurDir);
    Ok(plain.collect())
}
