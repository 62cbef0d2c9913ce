//! The crate `conformance` as a package, which authors of clients and transports can use outside of this repository.

use crate::command::Task;
use crate::git::Tree;
use crate::report::Verdict;
use crate::runner::Session;
use crate::rust::LIBRARIES;
use crate::workspace::{Failure, Result};

const CRATE: &str = "conformance";

/// Packages the crate, and with `--nightly` builds the package.
pub(crate) fn step(session: &Session) -> Result<Verdict> {
    let list = package().arg("--list").output(session.deadline())?;
    let tree = Tree::read(session)?;
    let missing = missing(tree.files.iter().map(|file| file.path.as_str()), &list);
    if !missing.is_empty() {
        let list = missing.join("\n  ");
        return Err(Failure::new(format!("the package of {CRATE} would lack these files:\n  {list}")));
    }
    // The crates that it needs are not in the registry.
    let mut package = package();
    for (library, _) in LIBRARIES {
        let patch = format!("patch.crates-io.switchboard-{library}.path=\"{library}\"");
        package = package.args(["--config", &patch]);
    }
    if !session.is_nightly() {
        package = package.arg("--no-verify");
    }
    package.run(session.deadline())?;
    Ok(Verdict::Passed)
}

/// The command without what differs. An earlier step has fetched all dependencies, so nothing needs the network.
fn package() -> Task {
    let name = format!("switchboard-{CRATE}");
    Task::cargo().args(["package", "--quiet", "--offline", "--allow-dirty", "--package", &name])
}

/// The files of the crate that are not in the list of its package.
fn missing<'a>(files: impl Iterator<Item = &'a str>, list: &str) -> Vec<&'a str> {
    let own = files.filter_map(|path| path.strip_prefix(CRATE)?.strip_prefix('/'));
    own.filter(|path| !list.lines().any(|line| line == *path)).collect()
}

#[cfg(test)]
mod tests {
    use super::missing;

    #[test]
    fn files_of_the_crate_that_are_left_out_are_found() {
        let files = ["conformance/Cargo.toml", "conformance/traces/a.trace", "conformance.md", "core/a.rs"];
        assert_eq!(missing(files.into_iter(), "Cargo.toml\nCargo.lock\n"), ["traces/a.trace"]);
        assert!(missing(files.into_iter(), "Cargo.toml\ntraces/a.trace\n").is_empty());
    }
}
