//! Tests the gateway behind a real nginx, with the documented configuration.

use std::path::PathBuf;

use crate::report::Verdict;
use crate::runner::Session;
use crate::workspace::{Failure, Result, find_program};
use crate::{rust, tools};

/// The integration test of `gateway` that starts nginx, and the variable that gives the test the path of nginx.
const TEST: (&str, &str) = ("nginx", "SWITCHBOARD_NGINX");

/// Runs the test; skipped if nginx is missing and cannot be installed.
pub(crate) fn step(session: &Session) -> Result<Verdict> {
    let program = match nginx(session) {
        Ok(program) => program,
        Err(failure) => return Ok(Verdict::Skipped(failure.to_string())),
    };
    let (test, variable) = TEST;
    rust::one_test(session, test).env(variable, program).run(session.deadline())?;
    Ok(Verdict::Passed)
}

/// The path of nginx, which is installed if it is missing.
pub(crate) fn nginx(session: &Session) -> Result<PathBuf> {
    if let Some(found) = find_nginx() {
        return Ok(found);
    }
    tools::apt_install(session, "nginx", &["nginx-light"])?;
    find_nginx().ok_or_else(|| Failure::new("apt-get installed nginx, but it is not to be found"))
}

/// The path of nginx: on `PATH`, or in `/usr/sbin`, which is not on every user's `PATH`.
fn find_nginx() -> Option<PathBuf> {
    find_program("nginx").or_else(|| Some(PathBuf::from("/usr/sbin/nginx")).filter(|path| path.is_file()))
}
