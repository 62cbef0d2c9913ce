//! The paths of the workspace, and the failure type of xtask.

use std::fmt;
use std::path::{Path, PathBuf};

/// Why a command or a step failed, in words for the person at the terminal.
#[derive(Debug)]
pub(crate) struct Failure(String);

/// The result type of xtask.
pub(crate) type Result<T = ()> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Adds to an error what xtask was doing when it occurred.
pub(crate) trait Context<T> {
    fn context(self, doing: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, doing: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Failure(format!("{doing}: {error}")))
    }
}

/// The root of the repository: the parent of this crate's directory.
pub(crate) fn root() -> PathBuf {
    // `cargo run` sets the variable, which is right even if the checkout was moved. The constant is for an executable
    // that is started without cargo.
    let manifest_dir = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest_dir.parent().map_or_else(|| manifest_dir.clone(), Path::to_path_buf)
}

/// Cargo's target directory.
pub(crate) fn target() -> PathBuf {
    let root = root();
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}

/// A directory for xtask's files below the target directory, created if missing.
pub(crate) fn scratch(name: &str) -> Result<PathBuf> {
    let dir = target().join("xtask").join(name);
    std::fs::create_dir_all(&dir).context(format_args!("making {}", dir.display()))?;
    Ok(dir)
}

/// An empty directory for xtask's files below the target directory; earlier content is removed.
pub(crate) fn empty_scratch(name: &str) -> Result<PathBuf> {
    let dir = target().join("xtask").join(name);
    if dir.exists() {
        std::fs::remove_dir_all(&dir).context(format_args!("emptying {}", dir.display()))?;
    }
    scratch(name)
}

/// Reads a text file of the repository. `path` is relative to the root.
pub(crate) fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(root().join(path)).context(format_args!("reading {path}"))
}

/// The path of a program in `PATH`.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|candidate| candidate.is_file())
}
