//! The gateway behind a real nginx, with the lines that the documentation gives.

use std::path::PathBuf;

use crate::report::Verdict;
use crate::runner::Session;
use crate::workspace::{Failure, Result, find_program};
use crate::{rust, tools};

/// The integration test of `gateway` that starts it, and the variable through which it learns the program.
const TEST: (&str, &str) = ("nginx", "SWITCHBOARD_NGINX");

/// Runs the test, or says why it cannot.
pub(crate) fn step(session: &Session) -> Result<Verdict> {
    let program = match nginx(session) {
        Ok(program) => program,
        Err(failure) => return Ok(Verdict::Skipped(failure.to_string())),
    };
    let (test, variable) = TEST;
    rust::one_test(session, test).env(variable, program).run(session.deadline())?;
    Ok(Verdict::Passed)
}

/// One that is installed, or that can be.
pub(crate) fn nginx(session: &Session) -> Result<PathBuf> {
    if let Some(found) = find_nginx() {
        return Ok(found);
    }
    tools::apt_install(session, "nginx", &["nginx-light"])?;
    find_nginx().ok_or_else(|| Failure::new("apt-get installed nginx, but it is not to be found"))
}

/// Also where administrators' programs are, which are not on everybody's `PATH`.
fn find_nginx() -> Option<PathBuf> {
    find_program("nginx").or_else(|| Some(PathBuf::from("/usr/sbin/nginx")).filter(|path| path.is_file()))
}
