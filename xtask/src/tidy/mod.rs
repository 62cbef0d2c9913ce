//! Checks of the sources beyond those of the compiler.

mod finding;
mod links;
mod machine;
mod sources;
mod surface;

use crate::git::Tree;
use crate::report::Verdict;
use crate::runner::Session;
use crate::workspace::{Failure, Result};

use finding::Finding;

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
        links::broken(&tree, &session.step_names()),
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
