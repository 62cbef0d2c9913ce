//! Finds broken links in documents, and names of files and commands that do not exist.

use std::collections::BTreeSet;

use super::finding::{Finding, numbered};
use crate::git::{SourceFile, Tree, is_fixture};
use crate::usage::SUBCOMMANDS;

/// Checks all Markdown of the repository. `steps` are the names of the steps of `cargo xtask test`.
pub(super) fn broken(tree: &Tree, steps: &[&str]) -> Vec<Finding> {
    let names = Names::of(tree, steps);
    let documents = tree.files.iter().filter(|file| file.path.ends_with(".md") && !is_fixture(&file.path));
    documents.flat_map(|document| check(tree, &names, document)).collect()
}

/// The names that a document may use, besides files.
struct Names<'a> {
    steps: &'a [&'a str],
    packages: BTreeSet<String>,
    npm_scripts: BTreeSet<String>,
    top_level: BTreeSet<String>,
}

impl<'a> Names<'a> {
    fn of(tree: &Tree, steps: &'a [&'a str]) -> Self {
        let manifests = tree.files.iter().filter(|file| file.path.ends_with("/Cargo.toml"));
        let name =
            |file: &SourceFile| file.text.lines().find_map(|line| line.strip_prefix("name = ").map(unquoted));
        let top_level = tree.files.iter().filter_map(|file| file.path.split_once('/'));
        Self {
            steps,
            packages: manifests.filter_map(name).collect(),
            npm_scripts: tree.get("web/package.json").map(|file| npm_scripts(&file.text)).unwrap_or_default(),
            top_level: top_level.map(|(first, _)| first.to_owned()).collect(),
        }
    }
}

fn unquoted(text: &str) -> String {
    text.trim().trim_matches(['"', ',']).to_owned()
}

/// The names in the `scripts` object of a `package.json` that is formatted as npm formats it.
fn npm_scripts(package: &str) -> BTreeSet<String> {
    let scripts = package.lines().map(str::trim).skip_while(|line| !line.starts_with("\"scripts\"")).skip(1);
    let lines = scripts.take_while(|line| !line.starts_with('}'));
    lines.filter_map(|line| line.split_once(':')).map(|(name, _)| unquoted(name)).collect()
}

fn check(tree: &Tree, names: &Names<'_>, document: &SourceFile) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut in_fence = false;
    for (number, line) in numbered(&document.text) {
        let mut complain = |what: String| found.push(Finding::new(&document.path, number, what));
        if is_fence(line) {
            in_fence = !in_fence;
            continue;
        }
        if in_fence {
            wrong_commands(names, line).into_iter().for_each(&mut complain);
            continue;
        }
        let (prose, code) = split_code(line);
        for target in link_targets(&prose) {
            if !resolves(tree, document, target) {
                complain(format!("a link to nowhere: {target}"));
            }
        }
        for span in code {
            wrong_commands(names, span).into_iter().for_each(&mut complain);
            if is_repository_path(names, span) && !tree.contains(span) {
                complain(format!("no such file: {span}"));
            }
        }
    }
    found
}

fn is_fence(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("```") || line.starts_with("~~~")
}

/// Splits a line into its text without code spans, and its code spans.
fn split_code(line: &str) -> (String, Vec<&str>) {
    let parts: Vec<&str> = line.split('`').collect();
    let prose: Vec<&str> = parts.iter().copied().step_by(2).collect();
    (prose.join("``"), parts.into_iter().skip(1).step_by(2).collect())
}

/// The link targets in Markdown links, reference definitions and HTML attributes.
fn link_targets(prose: &str) -> Vec<&str> {
    let between = |open: &'static str, close: char| {
        let starts = prose.match_indices(open).map(move |(at, _)| &prose[at + open.len()..]);
        starts.filter_map(move |rest| rest.find(close).map(|end| &rest[..end]))
    };
    let definition = prose.trim_start().starts_with('[').then(|| prose.split_once("]: ")).flatten();
    between("](", ')')
        .chain(between("src=\"", '"'))
        .chain(between("href=\"", '"'))
        .chain(between("srcset=\"", '"'))
        .chain(definition.map(|(_, target)| target))
        // A title may follow the target.
        .filter_map(|target| target.split_whitespace().next())
        .map(|target| target.trim_matches(['<', '>']))
        .collect()
}

/// Whether a link leads to a file of the repository, to a heading in a file, or to another site.
fn resolves(tree: &Tree, document: &SourceFile, target: &str) -> bool {
    if target.contains("://") || target.starts_with("mailto:") {
        return true;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let Some(path) = (if path.is_empty() { Some(document.path.clone()) } else { join(&document.path, path) })
    else {
        return false;
    };
    if !tree.contains(&path) {
        return false;
    }
    match tree.get(&path) {
        Some(file) if !anchor.is_empty() && path.ends_with(".md") => anchors(&file.text).contains(anchor),
        _ => true,
    }
}

/// Resolves a path relative to a document; `None` if the path leads out of the repository.
fn join(document: &str, relative: &str) -> Option<String> {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in relative.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// The anchors that GitHub derives from a document's headings, and explicit anchors in the document.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let mut in_fence = false;
    for line in text.lines() {
        in_fence ^= is_fence(line);
        if !in_fence && line.starts_with('#') {
            let slug = slug(line.trim_start_matches('#').trim());
            // A repeated heading gets a number.
            let repeated = (1..).map(|n| format!("{slug}-{n}"));
            let free = std::iter::once(slug.clone()).chain(repeated).find(|anchor| !anchors.contains(anchor));
            anchors.extend(free);
        }
        for attribute in ["id=\"", "name=\""] {
            let ids = line.match_indices(attribute).map(|(at, _)| &line[at + attribute.len()..]);
            anchors.extend(ids.filter_map(|rest| rest.split('"').next()).map(str::to_owned));
        }
    }
    anchors
}

fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Whether a code span is clearly a path from the repository's root.
fn is_repository_path(names: &Names<'_>, span: &str) -> bool {
    let is_plain = span.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-'));
    is_plain && span.split_once('/').is_some_and(|(first, _)| names.top_level.contains(first))
}

/// A predicate: whether something of this name exists.
type IsKnown<'a> = &'a dyn Fn(&str) -> bool;

/// Messages about commands in a piece of code that do not exist in this repository.
fn wrong_commands(names: &Names<'_>, code: &str) -> Vec<String> {
    let is_subcommand = |name: &str| SUBCOMMANDS.contains(&name);
    let is_step = |name: &str| names.steps.contains(&name);
    let is_package = |name: &str| !name.starts_with("switchboard-") || names.packages.contains(name);
    let is_script = |name: &str| names.npm_scripts.contains(name);
    let checks: [(&str, &str, IsKnown<'_>); 5] = [
        ("cargo xtask ", "no subcommand of xtask", &is_subcommand),
        (" --only ", "no step of `cargo xtask test`", &is_step),
        (" -p ", "no package of the workspace", &is_package),
        (" --package ", "no package of the workspace", &is_package),
        ("npm run ", "no script of web/package.json", &is_script),
    ];
    let mut wrong = Vec::new();
    for (before, complaint, is_known) in checks {
        let named = code.match_indices(before).map(|(at, _)| first_word(&code[at + before.len()..]));
        let is_literal = |name: &&str| name.starts_with(|c: char| c.is_ascii_lowercase());
        wrong.extend(
            named
                .filter(is_literal)
                .filter(|name| !is_known(name))
                .map(|name| format!("{complaint}: {name}")),
        );
    }
    wrong
}

fn first_word(text: &str) -> &str {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':');
    &text[..text.find(|c| !is_name(c)).unwrap_or(text.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        let package = "{\n  \"scripts\": {\n    \"build\": \"vite build\",\n    \"e2e\": \"x\"\n  }\n}\n";
        let tree = Tree::new([
            ("docs/a.md", text),
            ("docs/b.md", "# One `two`, three!\n\n# Again\n# Again\n<a id=\"own\"></a>\n"),
            ("core/src/lib.rs", ""),
            ("core/Cargo.toml", "[package]\nname = \"switchboard-core\"\n"),
            ("web/package.json", package),
        ]);
        broken(&tree, &["fmt"]).into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn good_links_resolve() {
        for text in [
            "[b](b.md) and [c](../core/src/lib.rs) and [d](../core/)",
            "[b](b.md#one-two-three) [again](b.md#again-1) [own](b.md#own)",
            "# Here\n[here](#here)",
            "[out](https://example.org/x) <img src=\"b.md\" alt=\"\">",
            "[ref]: b.md \"a title\"",
            "`[not](a-link.md)`",
            "```\n[not](a-link.md)\n```",
        ] {
            assert_eq!(findings(text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn bad_links_are_found() {
        for text in [
            "[b](c.md)",
            "[b](b.md#four)",
            "[b](b.md#again-2)",
            "[here](#there)",
            "[out](../../shared/x.md)",
            "<img src=\"shot.png\">",
            "[ref]: gone.md",
        ] {
            assert_eq!(findings(text).len(), 1, "{text}");
        }
    }

    #[test]
    fn named_files_exist() {
        assert!(findings("`core/src/lib.rs`, `core/`, `target/x`, `core/src/*.rs`, `a/b`").is_empty());
        assert_eq!(findings("see `core/src/hub.rs`").len(), 1);
    }

    #[test]
    fn named_commands_exist() {
        let good = "`cargo xtask test --only fmt`, `cargo xtask STEP`, `cargo run -p switchboard-core`, `npm run build`";
        assert_eq!(findings(good), Vec::<String>::new());
        for bad in [
            "cargo xtask tset",
            "cargo xtask test --only frmt",
            "cargo run -p switchboard-cor",
            "npm run bild",
        ] {
            assert_eq!(findings(&format!("`{bad}`")).len(), 1, "{bad}");
            assert_eq!(findings(&format!("```sh\n{bad}\n```")).len(), 1, "{bad}");
        }
    }
}
