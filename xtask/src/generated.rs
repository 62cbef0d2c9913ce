//! Files that programs write and that are committed all the same: the types of the wire for TypeScript, so that a
//! change of the wire shows in a review, and the page's bundle, so that building the gateway needs no Node.

use std::collections::BTreeMap;
use std::path::Path;

use crate::report::Verdict;
use crate::runner::Session;
use crate::workspace::{Context as _, Failure, Result, empty_scratch, read, root};
use crate::{rust, web};

/// The types of the wire, and the example of `switchboard-core` that prints them.
pub(crate) const WIRE_TYPES: (&str, &str) = ("web/src/client/wire.ts", "wire_types");

/// The page's bundle.
pub(crate) const BUNDLE: &str = "web/dist";

/// Generates everything anew beside the committed files and compares.
pub(crate) fn step(session: &Session) -> Result<Verdict> {
    let (file, example) = WIRE_TYPES;
    if rust::example_output(session, example)? != read(file)? {
        return Err(stale(file, ""));
    }

    let built = empty_scratch("web-dist")?;
    web::build(session, &built)?;
    let differences = differences(&contents(&root().join(BUNDLE))?, &contents(&built)?);
    if !differences.is_empty() {
        return Err(stale(BUNDLE, &format!(":\n  {}", differences.join("\n  "))));
    }
    Ok(Verdict::Passed)
}

fn stale(what: &str, details: &str) -> Failure {
    Failure::new(format!(
        "{what} is not what its sources generate; `cargo xtask fixtures` writes it anew{details}"
    ))
}

/// The files below a directory by their relative paths.
type Contents = BTreeMap<String, Vec<u8>>;

fn contents(dir: &Path) -> Result<Contents> {
    let mut found = Contents::new();
    collect(dir, "", &mut found).context(format_args!("reading {}", dir.display()))?;
    Ok(found)
}

fn collect(dir: &Path, prefix: &str, into: &mut Contents) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), &format!("{name}/"), into)?;
        } else {
            into.insert(name, std::fs::read(entry.path())?);
        }
    }
    Ok(())
}

/// What is different between a committed and a freshly built directory, one line a file.
fn differences(committed: &Contents, built: &Contents) -> Vec<String> {
    let gone = committed
        .keys()
        .filter(|name| !built.contains_key(*name))
        .map(|name| format!("{name}: no longer built"));
    let other = built.iter().filter_map(|(name, bytes)| match committed.get(name) {
        None => Some(format!("{name}: not committed")),
        Some(old) if old != bytes => Some(format!("{name}: differs")),
        Some(_) => None,
    });
    gone.chain(other).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(files: &[(&str, &str)]) -> Contents {
        files.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect()
    }

    #[test]
    fn each_sort_of_difference_is_named() {
        let committed = contents(&[("same", "1"), ("gone", "1"), ("other", "1")]);
        let built = contents(&[("same", "1"), ("new", "1"), ("other", "2")]);
        assert_eq!(
            differences(&committed, &built),
            ["gone: no longer built", "new: not committed", "other: differs"]
        );
        assert!(differences(&committed, &committed).is_empty());
    }
}
