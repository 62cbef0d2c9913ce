//! Finds traces of a particular machine in the repository: paths of home directories and addresses of private
//! registries.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::finding::{Finding, numbered};
use crate::git::{SourceFile, Tree};
use crate::workspace::root;

/// Directories in `/` that contain private files on every machine.
const ALWAYS_PRIVATE: [&str; 2] = ["root", "Users"];

/// Directories in `/` that every machine has, so that a path below them may be a general example.
const SHARED: [&str; 13] =
    ["home", "tmp", "usr", "var", "opt", "etc", "srv", "mnt", "media", "proc", "run", "dev", "private"];

/// User names that are examples.
const ANYBODY: [&str; 10] = ["agent", "alice", "bob", "dev", "example", "me", "somebody", "user", "you", "x"];

/// The directories in `/` whose paths must not appear: [`ALWAYS_PRIVATE`], and those that contain this checkout, its
/// tools or its user's home.
pub(super) fn private_trees() -> BTreeSet<String> {
    let from_env =
        ["HOME", "CARGO_HOME", "RUSTUP_HOME"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    let of_this_machine = std::iter::once(root()).chain(from_env).filter_map(|path| first_component(&path));
    let always = ALWAYS_PRIVATE.into_iter().map(str::to_owned);
    always.chain(of_this_machine).filter(|name| !SHARED.contains(&name.as_str())).collect()
}

fn first_component(path: &Path) -> Option<String> {
    let mut components = path.components();
    if components.next() != Some(Component::RootDir) {
        return None;
    }
    components.next().map(|component| component.as_os_str().to_string_lossy().into_owned())
}

/// Finds absolute paths below a directory of `private`, or below a home directory that is no example.
pub(super) fn private_paths(tree: &Tree, private: &BTreeSet<String>) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in &tree.files {
        for (number, line) in numbered(&file.text) {
            if let Some(path) = absolute_paths(line).find(|path| is_private(path, private)) {
                found.push(Finding::new(&file.path, number, format!("a path of one machine: {path}")));
            }
        }
    }
    found
}

/// The parts of a line that look like absolute paths: they begin with a slash that does not continue a path or URL.
fn absolute_paths(line: &str) -> impl Iterator<Item = &str> {
    let is_inside = |c: char| {
        c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '}' | ')' | '*' | '>' | '~' | '$' | '<')
    };
    let is_start = move |at: &usize| !line[..*at].chars().next_back().is_some_and(is_inside);
    let is_path_char = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-');
    line.match_indices('/').map(|(at, _)| at).filter(is_start).map(move |at| {
        let rest = &line[at..];
        &rest[..rest.find(|c| !is_path_char(c)).unwrap_or(rest.len())]
    })
}

fn is_private(path: &str, private: &BTreeSet<String>) -> bool {
    let mut parts = path.split('/').skip(1);
    match (parts.next(), parts.next()) {
        (Some("home"), Some(name)) => {
            let stem = name.split('-').next().unwrap_or(name);
            !name.is_empty() && !ANYBODY.contains(&stem)
        }
        // A single component may be something else than a file: `/root` may be a route.
        (Some(first), Some(_)) => private.contains(first),
        _ => false,
    }
}

/// The source of packages from crates.io in a lock file.
const CARGO_SOURCE: &str = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";

/// Words in addresses of private registries. In two parts, so that this file contains none.
const REGISTRY_WORDS: [[&str; 2]; 5] =
    [["arti", "factory"], ["/api/", "npm/"], ["/api/", "pypi/"], ["/repository/", "npm"], ["index", "-url"]];

/// Finds addresses of registries: in lock files, in the configuration of npm and cargo, or elsewhere.
pub(super) fn registries(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in &tree.files {
        let names_one = |line: &str| names_registry(file, line.trim());
        let lines = numbered(&file.text).filter(|(_, line)| names_one(line));
        found.extend(
            lines.map(|(number, _)| Finding::new(&file.path, number, "the address of a package registry")),
        );
    }
    found
}

fn names_registry(file: &SourceFile, line: &str) -> bool {
    let name = file.path.rsplit('/').next().unwrap_or_default();
    let in_its_place = match name {
        "Cargo.lock" => line.starts_with("source = ") && line != CARGO_SOURCE,
        "package-lock.json" => line.starts_with("\"resolved\": \"") && line.contains("://"),
        ".npmrc" => line.contains("://"),
        "config.toml" => {
            ["[source", "[registries", "[registry", "registry ="].iter().any(|start| line.starts_with(start))
        }
        _ => false,
    };
    in_its_place || REGISTRY_WORDS.iter().any(|word| line.contains(&word.concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path_findings(line: &str) -> usize {
        let private = ["root", "builds"].map(str::to_owned).into();
        private_paths(&Tree::new([("a.md", line)]), &private).len()
    }

    #[test]
    fn paths_of_a_machine_are_found() {
        for tree in ["root", "builds", "home/jane"] {
            for [before, after] in [["", ""], ["see `", "`"], ["\"cwd\":\"", "\""], ["--dir=", " --x"]] {
                let line = format!("{before}/{tree}/thing{after}");
                assert_eq!(path_findings(&line), 1, "{line}");
            }
        }
    }

    #[test]
    fn paths_of_no_machine_are_not_reported() {
        for line in [
            "/home/user/x",
            "/home/agent-two/x",
            "/usr/bin/env",
            "web/root/x",
            "/root",
            "https://a.example/builds/x",
            "../builds/x",
        ] {
            assert_eq!(path_findings(line), 0, "{line}");
        }
    }

    #[test]
    fn the_first_component_tells_whose_a_path_is() {
        assert_eq!(first_component(Path::new("/a/b/c")), Some("a".to_owned()));
        assert_eq!(first_component(Path::new("/")), None);
        assert_eq!(first_component(Path::new("a/b")), None);
    }

    #[test]
    fn registries_are_found() {
        let findings = |path: &str, line: &str| registries(&Tree::new([(path, line)])).len();
        assert_eq!(findings("Cargo.lock", CARGO_SOURCE), 0);
        assert_eq!(findings("Cargo.lock", "source = \"registry+https://crates.corp.example/index\""), 1);
        assert_eq!(
            findings("web/package-lock.json", "      \"resolved\": \"https://npm.corp.example/a.tgz\","),
            1
        );
        assert_eq!(findings("web/package-lock.json", "      \"resolved\": \"packages/a\","), 0);
        assert_eq!(findings("web/.npmrc", "registry=https://npm.corp.example"), 1);
        assert_eq!(findings(".cargo/config.toml", "[source.crates-io]"), 1);
        for word in REGISTRY_WORDS {
            assert_eq!(
                findings("docs/a.md", &format!("https://corp.example/{}/x", word.concat())),
                1,
                "{word:?}"
            );
        }
    }
}
