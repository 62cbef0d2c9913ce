//! Agents in their sandbox, which bubblewrap makes.

use crate::command::Task;
use crate::report::Verdict;
use crate::runner::Session;
use crate::workspace::{Context as _, Result, find_program};
use crate::{rust, tools};

/// The integration test of `gateway` in which a hostile agent tries everything that is hidden.
const TEST: &str = "sandbox";

/// What an agent's sandbox is made of, at its least.
const LEAST: [&str; 9] =
    ["--unshare-user", "--unshare-pid", "--dev-bind", "/", "/", "--proc", "/proc", "--", "true"];

/// Runs the test, or says why it cannot. Later steps run their agents in a sandbox where this one found it to work.
pub(crate) fn step(session: &Session) -> Result<Verdict> {
    if let Err(failure) = bubblewrap(session) {
        return Ok(Verdict::Skipped(format!("agents were not tested in their sandbox: {failure}")));
    }
    rust::one_test(session, TEST).run(session.deadline())?;
    Ok(Verdict::Passed)
}

fn bubblewrap(session: &Session) -> Result {
    if find_program("bwrap").is_none() {
        tools::apt_install(session, "bubblewrap", &["bubblewrap"])?;
    }
    let tried = Task::new("bwrap").args(LEAST).output(session.deadline());
    tried.map(drop).context("bwrap does not work on this machine")
}
