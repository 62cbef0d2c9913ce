//! The files of the repository, as git knows them.

use std::path::Path;

use crate::command::Task;
use crate::runner::Session;
use crate::workspace::{Result, root};

/// One file of the repository.
pub(crate) struct SourceFile {
    /// The path relative to the root, with `/`.
    pub(crate) path: String,
    /// The content; empty for a binary file.
    pub(crate) text: String,
}

/// All files of the repository.
pub(crate) struct Tree {
    pub(crate) files: Vec<SourceFile>,
    generated: Vec<String>,
}

impl Tree {
    /// Reads every file that is tracked, or untracked and not ignored. Deleted files are left out.
    pub(crate) fn read(session: &Session) -> Result<Self> {
        let list = Task::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .output(session.deadline())?;
        let root = root();
        let files = list
            .split_terminator('\0')
            .filter_map(|path| {
                let text = read_text(&root.join(path))?;
                Some((path.to_owned(), text))
            })
            .collect::<Vec<_>>();
        Ok(Self::new(files))
    }

    /// A tree of these files, given as pairs of path and text.
    pub(crate) fn new<P: Into<String>, T: Into<String>>(files: impl IntoIterator<Item = (P, T)>) -> Self {
        let mut files: Vec<SourceFile> = files
            .into_iter()
            .map(|(path, text)| SourceFile { path: path.into(), text: text.into() })
            .collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files.dedup_by(|a, b| a.path == b.path);
        let attributes = files.iter().find(|file| file.path == ".gitattributes");
        let generated = attributes.map(|file| generated_patterns(&file.text)).unwrap_or_default();
        Self { files, generated }
    }

    /// Whether `.gitattributes` marks this file as generated.
    pub(crate) fn is_generated(&self, path: &str) -> bool {
        self.generated.iter().any(|pattern| matches(pattern, path))
    }

    /// The file with this path.
    pub(crate) fn get(&self, path: &str) -> Option<&SourceFile> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Whether there is a file or a directory with this path.
    pub(crate) fn contains(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let is_below = |file: &SourceFile| {
            file.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        path.is_empty() || self.files.iter().any(is_below)
    }
}

/// The text of a file; empty for a binary file, and `None` for a deleted file that git still lists.
fn read_text(path: &Path) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    Some(String::from_utf8(bytes).unwrap_or_default())
}

fn generated_patterns(attributes: &str) -> Vec<String> {
    let is_generated = |line: &&str| line.split_whitespace().skip(1).any(|word| word == "linguist-generated");
    attributes
        .lines()
        .filter(is_generated)
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

/// Whether a path matches a pattern. Supports the patterns in this repository's `.gitattributes`: a path, `dir/**`, and
/// `*suffix` in any directory.
fn matches(pattern: &str, path: &str) -> bool {
    if let Some(dir) = pattern.strip_suffix("**") {
        return path.starts_with(dir);
    }
    match pattern.strip_prefix('*') {
        Some(suffix) => path.ends_with(suffix),
        None => path == pattern,
    }
}

/// Whether a path is that of a test, which runs on developers' machines and in CI only.
pub(crate) fn is_test(path: &str) -> bool {
    let mut parts = path.split('/').rev();
    let name = parts.next().unwrap_or_default();
    let is_test_name = name == "tests.rs" || name.contains(".test.") || name.contains(".spec.");
    is_test_name || parts.any(|dir| matches!(dir, "test" | "tests" | "e2e"))
}

/// Whether a file was recorded from another program or written by a test run.
pub(crate) fn is_fixture(path: &str) -> bool {
    path.ends_with(".snap")
        || path.split('/').any(|part| matches!(part, "fixtures" | "recordings" | "snapshots"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_files_are_known_by_their_attribute() {
        let attributes = "* text=auto\nweb/dist/** linguist-generated -diff\n*.lock linguist-generated\na/b.ts linguist-generated\n";
        let tree = Tree::new([(".gitattributes", attributes)]);
        for path in ["web/dist/a/b.js", "Cargo.lock", "a/b.ts"] {
            assert!(tree.is_generated(path), "{path}");
        }
        for path in ["web/src/a.ts", "b.ts", "a/b.tsx", "Cargo.toml"] {
            assert!(!tree.is_generated(path), "{path}");
        }
    }

    #[test]
    fn directories_are_part_of_a_tree() {
        let tree = Tree::new([("core/src/lib.rs", "")]);
        assert!(tree.contains("core") && tree.contains("core/src/") && tree.contains("core/src/lib.rs"));
        assert!(!tree.contains("cor") && !tree.contains("core/src/lib"));
    }

    #[test]
    fn tests_are_known_by_their_path() {
        for path in ["core/tests/hub.rs", "web/e2e/chat.mjs", "core/src/hub/tests.rs", "web/src/a.test.ts"] {
            assert!(is_test(path), "{path}");
        }
        for path in ["core/src/latest.rs", "xtask/src/main.rs", "web/src/contest/a.ts"] {
            assert!(!is_test(path), "{path}");
        }
    }
}
