//! Checks of the sources beyond those of the compiler.

mod links;
mod machine;
mod sources;
mod surface;

use std::fmt;

use crate::git::Tree;
use crate::report::Verdict;
use crate::runner::Session;
use crate::workspace::{Failure, Result};

/// A problem in a file.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    /// The number of the line, from 1; 0 for the whole file.
    line: usize,
    what: String,
}

impl Finding {
    fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, what } = self;
        if *line == 0 { write!(f, "{path}: {what}") } else { write!(f, "{path}:{line}: {what}") }
    }
}

/// Runs all checks and prints all findings.
pub(crate) fn step(session: &Session) -> Result<Verdict> {
    let tree = Tree::read(session)?;
    let findings: Vec<Finding> = [
        sources::oversized(&tree),
        sources::debris(&tree),
        sources::bare_exceptions(&tree),
        sources::members_without_lints(&tree),
        machine::private_paths(&tree, &machine::private_trees()),
        machine::registries(&tree),
        links::broken(&tree),
        surface::unlisted(&tree),
    ]
    .into_iter()
    .flatten()
    .collect();
    if findings.is_empty() {
        return Ok(Verdict::Passed);
    }
    for finding in &findings {
        println!("{finding}");
    }
    Err(Failure::new(format!("{} findings", findings.len())))
}

/// Whether `line` contains `word` as a whole word.
fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

/// The lines of a text, numbered from 1.
fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines())
}

#[cfg(test)]
mod tests {
    use super::has_word;

    #[test]
    fn words_stand_alone() {
        assert!(has_word("// FOO: later", "FOO") && has_word("FOO", "FOO"));
        assert!(!has_word("FOOD", "FOO") && !has_word("A_FOO", "FOO"));
    }
}
