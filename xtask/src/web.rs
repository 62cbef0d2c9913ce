//! The steps for the page, which npm runs.

use crate::command::Task;
use crate::report::Verdict;
use crate::runner::Session;
use crate::workspace::{Context as _, Failure, Result, find_program, read, root};

/// Type-checks the sources and runs the unit tests.
pub(crate) fn step(session: &Session) -> Result<Verdict> {
    install(session)?;
    npm(&["run", "check"])?.run(session.deadline())?;
    npm(&["test"])?.run(session.deadline())?;
    Ok(Verdict::Passed)
}

/// The command that runs npm in the page's directory.
pub(crate) fn npm(args: &[&str]) -> Result<Task> {
    if find_program("npm").is_none() {
        let advice = "install Node 20 or later; only the gateway itself can be built without it";
        return Err(Failure::new(format!("npm is not on PATH: {advice}")));
    }
    Ok(Task::new("npm").dir(root().join("web")).args(args))
}

/// Installs the packages of the lock file, unless exactly these are installed already.
pub(crate) fn install(session: &Session) -> Result {
    let lock = read("web/package-lock.json")?;
    // In node_modules, so that deleting the packages deletes this note as well.
    let installed = root().join("web/node_modules/.installed-lock.json");
    if std::fs::read_to_string(&installed).is_ok_and(|text| text == lock) {
        return Ok(());
    }
    npm(&["ci", "--no-audit", "--no-fund"])?.run(session.deadline())?;
    std::fs::write(&installed, lock).context("noting which packages are installed")
}
