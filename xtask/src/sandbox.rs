//! Tests the sandbox of agents, for which bubblewrap is needed.

use crate::command::Task;
use crate::report::Verdict;
use crate::runner::Session;
use crate::workspace::{Context as _, Result, find_program};
use crate::{rust, tools};

/// The integration test of `gateway` in which a hostile agent tries to access everything that the sandbox hides.
const TEST: &str = "sandbox";

/// The least that bubblewrap must support for an agent's sandbox, as arguments for a trial run.
const LEAST: [&str; 9] =
    ["--unshare-user", "--unshare-pid", "--dev-bind", "/", "/", "--proc", "/proc", "--", "true"];

/// Runs the test; skipped if bubblewrap does not work on this machine. Also installs bubblewrap for the later steps.
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
