//! Finds snapshots that no test uses any more.
//!
//! insta appends the path of each snapshot that a test uses to a file, which an environment variable names. A tracked
//! snapshot whose path is not in the file is left over from a deleted test.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::git::Tree;
use crate::runner::Session;
use crate::workspace::{Context as _, Failure, Result, empty_scratch, root};

/// The snapshots that a test run uses.
pub(crate) struct References {
    file: PathBuf,
}

impl References {
    /// Prepares an empty list.
    pub(crate) fn start() -> Result<Self> {
        Ok(Self { file: empty_scratch("snapshots")?.join("referenced") })
    }

    /// The file that insta appends paths to.
    pub(crate) fn path(&self) -> &Path {
        &self.file
    }

    /// Fails if a snapshot of the repository was not used.
    pub(crate) fn require_all(&self, session: &Session) -> Result {
        let tree = Tree::read(session)?;
        let snapshots =
            tree.files.iter().map(|file| file.path.as_str()).filter(|path| path.ends_with(".snap"));
        let referenced = match std::fs::read_to_string(&self.file) {
            Ok(lines) => lines,
            // insta has not written the file: no test used a snapshot.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).context("reading which snapshots were looked at"),
        };
        let unreferenced = unreferenced(&root(), snapshots, &referenced);
        if unreferenced.is_empty() {
            return Ok(());
        }
        let list = unreferenced.join("\n  ");
        Err(Failure::new(format!("no test looks at these snapshots; delete them:\n  {list}")))
    }
}

/// The paths in `snapshots`, relative to `root`, that are not among the lines of `referenced`.
fn unreferenced<'a>(root: &Path, snapshots: impl Iterator<Item = &'a str>, referenced: &str) -> Vec<&'a str> {
    // insta joins paths without resolving `..`, and a checkout may be reached through a symbolic link.
    let real = |path: PathBuf| path.canonicalize().unwrap_or(path);
    let seen: BTreeSet<PathBuf> = referenced.lines().map(|line| real(root.join(line))).collect();
    snapshots.filter(|path| !seen.contains(&real(root.join(path)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_left_over_snapshot_is_found() {
        let root = Path::new("/nowhere");
        let snapshots = ["core/tests/snapshots/a.snap", "core/tests/snapshots/b.snap"];
        let referenced = "/nowhere/core/tests/snapshots/a.snap\n/nowhere/core/tests/snapshots/a.snap\n";
        assert_eq!(unreferenced(root, snapshots.into_iter(), referenced), ["core/tests/snapshots/b.snap"]);
        assert_eq!(unreferenced(root, snapshots.into_iter(), "").len(), 2);
    }
}
