//! Size, debris and lints.

use super::finding::{Finding, has_word, numbered};
use crate::git::{SourceFile, Tree, is_fixture, is_test};

/// Most lines of a source file; a longer file does more than one thing.
const MAX_LINES: usize = 500;

/// Marks of unfinished work. In two parts, so that this file contains none.
const MARKS: [[&str; 2]; 4] = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"], ["HA", "CK"]];

/// Text that must not remain in files of a kind, with what it is.
const DEBRIS: [(Kind, [&str; 2], &str); 8] = [
    (Kind::Rust, ["dbg", "!("], "debugging output"),
    (Kind::Rust, ["todo", "!("], "code that is not written"),
    (Kind::Rust, ["unimplemented", "!("], "code that is not written"),
    (Kind::Rust, ["#[ign", "ore]"], "a test that never runs, without a reason"),
    (Kind::Page, ["console", "."], "the page says nothing on the console"),
    (Kind::Script, ["debug", "ger;"], "a breakpoint"),
    (Kind::Script, [".on", "ly("], "a test that keeps the others from running"),
    (Kind::Any, ["<<<<", "<<< "], "a conflict that is not resolved"),
];

/// A kind of file.
#[derive(Clone, Copy)]
enum Kind {
    Rust,
    /// TypeScript and JavaScript that run in a browser.
    Page,
    /// TypeScript and JavaScript.
    Script,
    Any,
}

impl Kind {
    fn covers(self, path: &str) -> bool {
        let is_script = [".ts", ".tsx", ".js", ".mjs"].iter().any(|ending| path.ends_with(ending));
        match self {
            Self::Rust => path.ends_with(".rs"),
            Self::Page => is_script && path.starts_with("web/src/"),
            Self::Script => is_script,
            Self::Any => true,
        }
    }
}

/// The files that are neither generated nor fixtures.
fn hand_written(tree: &Tree) -> impl Iterator<Item = &SourceFile> {
    tree.files.iter().filter(|file| !tree.is_generated(&file.path) && !is_fixture(&file.path))
}

/// Finds Rust and TypeScript files that are too long; tests may be longer.
pub(super) fn oversized(tree: &Tree) -> Vec<Finding> {
    let is_source = |path: &str| [".rs", ".ts", ".tsx"].iter().any(|ending| path.ends_with(ending));
    hand_written(tree)
        .filter(|file| is_source(&file.path) && !is_test(&file.path))
        .map(|file| (file, file.text.lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(file, lines)| {
            Finding::new(&file.path, 0, format!("{lines} lines, more than {MAX_LINES}: split it"))
        })
        .collect()
}

/// Finds debugging aids, marks of unfinished work and unresolved conflicts.
pub(super) fn debris(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in hand_written(tree) {
        let debris: Vec<(String, &str)> = DEBRIS
            .iter()
            .filter(|(kind, ..)| kind.covers(&file.path))
            .map(|(_, text, what)| (text.concat(), *what))
            .collect();
        for (number, line) in numbered(&file.text) {
            let marks = MARKS.iter().map(|mark| mark.concat()).filter(|mark| has_word(line, mark));
            found.extend(marks.map(|mark| Finding::new(&file.path, number, format!("{mark}: finish it"))));
            let left = debris.iter().filter(|(text, _)| line.contains(text.as_str()));
            found.extend(
                left.map(|(text, what)| Finding::new(&file.path, number, format!("`{text}`: {what}"))),
            );
        }
    }
    found
}

/// Finds lints that are switched off without a reason: neither a `reason` nor a comment beside the attribute.
pub(super) fn bare_exceptions(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in hand_written(tree).filter(|file| file.path.ends_with(".rs")) {
        let lines: Vec<&str> = file.text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let start = line.trim_start();
            let is_exception =
                ["#[allow(", "#![allow(", "#[expect(", "#![expect("].iter().any(|a| start.starts_with(a));
            if is_exception && !has_reason(&lines, index) {
                found.push(Finding::new(&file.path, index + 1, "a lint is switched off without a reason"));
            }
        }
    }
    found
}

/// Whether the attribute that begins in this line has a `reason`, or a comment on its lines or the line before.
fn has_reason(lines: &[&str], index: usize) -> bool {
    let end = (index..lines.len()).find(|&i| lines[i].contains(']')).unwrap_or(index);
    let before = index.checked_sub(1).is_some_and(|i| {
        let line = lines[i].trim_start();
        line.starts_with("//") && !line.starts_with("///") && !line.starts_with("//!")
    });
    before || lines[index..=end].iter().any(|line| line.contains("reason =") || line.contains("//"))
}

/// Finds crates that do not inherit the workspace's lints.
pub(super) fn members_without_lints(tree: &Tree) -> Vec<Finding> {
    let is_member = |file: &&SourceFile| file.path.ends_with("/Cargo.toml") && !is_fixture(&file.path);
    tree.files
        .iter()
        .filter(is_member)
        .filter(|file| !inherits_lints(&file.text))
        .map(|file| Finding::new(&file.path, 0, "does not inherit the workspace's lints"))
        .collect()
}

fn inherits_lints(manifest: &str) -> bool {
    let lints = manifest.lines().map(str::trim).skip_while(|line| *line != "[lints]").skip(1);
    lints.take_while(|line| !line.starts_with('[')).any(|line| line.replace(' ', "") == "workspace=true")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(check: fn(&Tree) -> Vec<Finding>, path: &str, text: &str) -> usize {
        check(&Tree::new([(path, text), (".gitattributes", "gen.rs linguist-generated")])).len()
    }

    #[test]
    fn long_files_are_found() {
        let long = "//\n".repeat(MAX_LINES + 1);
        assert_eq!(findings(oversized, "core/src/a.rs", &long), 1);
        assert_eq!(findings(oversized, "web/src/a.ts", &long), 1);
        assert_eq!(findings(oversized, "core/src/a.rs", &"//\n".repeat(MAX_LINES)), 0);
        for path in ["core/tests/a.rs", "core/src/a/tests.rs", "gen.rs", "docs/a.md"] {
            assert_eq!(findings(oversized, path, &long), 0, "{path}");
        }
    }

    #[test]
    fn debris_is_found() {
        for (kind, text, _) in DEBRIS {
            let path = match kind {
                Kind::Rust => "core/src/a.rs",
                Kind::Page | Kind::Script => "web/src/a.ts",
                Kind::Any => "README.md",
            };
            assert_eq!(findings(debris, path, &format!("    {} x", text.concat())), 1, "{text:?}");
        }
        for mark in MARKS {
            assert_eq!(
                findings(debris, "core/src/a.rs", &format!("// {}: later", mark.concat())),
                1,
                "{mark:?}"
            );
        }
        assert_eq!(findings(debris, "web/test/a.ts", "console.log(1)"), 0);
        assert_eq!(findings(debris, "gen.rs", &MARKS[0].concat()), 0);
    }

    #[test]
    fn an_exception_needs_a_reason() {
        let check = |text: &str| findings(bare_exceptions, "core/src/a.rs", text);
        assert_eq!(check("use a;\n#[allow(clippy::x)]\nfn f() {}\n"), 1);
        assert_eq!(check("/// Docs.\n#[allow(clippy::x)]\nfn f() {}\n"), 1);
        assert_eq!(check("#[allow(clippy::x, reason = \"so\")]\n"), 0);
        assert_eq!(check("#![allow(\n    clippy::x,\n    reason = \"so\"\n)]\n"), 0);
        assert_eq!(check("#![allow(clippy::x)] // so\n"), 0);
        assert_eq!(check("// so\n#[expect(clippy::x)]\n"), 0);
    }

    #[test]
    fn a_member_inherits_the_lints() {
        let check = |text: &str| findings(members_without_lints, "core/Cargo.toml", text);
        assert_eq!(check("[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n"), 0);
        assert_eq!(check("[package]\nname = \"a\"\n"), 1);
        assert_eq!(check("[lints]\n\n[dependencies]\nworkspace = true\n"), 1);
    }
}
