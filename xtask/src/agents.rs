//! Real agents for the tests: installed in a pinned version, never a developer's own installation.

use std::path::PathBuf;

use crate::command::Task;
use crate::report::Verdict;
use crate::runner::Session;
use crate::workspace::{Failure, Result, find_program, target};
use crate::{rust, tools};

/// The version of Claude Code whose dialect is recorded and tested. A change of the version needs new recordings.
const CLAUDE_CODE: (&str, &str) = ("@anthropic-ai/claude-code", "2.1.329");

/// The integration tests with Claude Code, of `agent-bridge` and of `gateway`, and the variable that gives them the
/// executable's path.
const CLAUDE_TEST: (&str, &str) = ("claude_code", CLAUDE_VARIABLE);
const CLAUDE_VARIABLE: &str = "SWITCHBOARD_TEST_CLAUDE";

/// The scripted model for tests that are not written in Rust, and the variable that gives them the program's path.
const MODEL: (&str, &str) = ("scripted_model", "SWITCHBOARD_TEST_MODEL");

/// How many messages meet turns of the agent with `--nightly`.
const NIGHTLY_RACES: (&str, &str) = ("SWITCHBOARD_CLAUDE_RACES", "1000");

/// Runs the tests with Claude Code. The tests include a scripted model on loopback, so no account is needed.
pub(crate) fn claude(session: &Session) -> Result<Verdict> {
    let executable = match install_claude(session) {
        Ok(executable) => executable,
        Err(failure) => return Ok(Verdict::Skipped(format!("Claude Code cannot be installed: {failure}"))),
    };
    // The sandboxes of Claude Code and of the gateway need these; without them, the test says what it skips.
    for (program, package) in [("bwrap", "bubblewrap"), ("socat", "socat")] {
        if find_program(program).is_none()
            && let Err(failure) = tools::apt_install(session, package, &[package])
        {
            println!("not tested: Claude Code in a sandbox: {failure}");
        }
    }
    let (test, variable) = CLAUDE_TEST;
    let mut tests = rust::one_test(session, test).env(variable, executable);
    if session.is_nightly() {
        let (name, count) = NIGHTLY_RACES;
        println!("{name}={count}");
        tests = tests.env(name, count);
    }
    tests.run(session.deadline())?;
    Ok(Verdict::Passed)
}

/// What tests in other languages need for Claude Code, as environment variables.
pub(crate) fn claude_environment(session: &Session) -> Result<[(&'static str, PathBuf); 2]> {
    let (example, variable) = MODEL;
    Ok([(CLAUDE_VARIABLE, install_claude(session)?), (variable, rust::example(session, example)?)])
}

/// Installs Claude Code below the target directory, unless this version is installed, and returns the executable's
/// path.
fn install_claude(session: &Session) -> Result<PathBuf> {
    let (package, version) = CLAUDE_CODE;
    let dir = target().join("agents").join(format!("claude-code-{version}"));
    let executable = dir.join("node_modules/.bin/claude");
    if reports_version(session, &executable, version) {
        return Ok(executable);
    }
    if find_program("npm").is_none() {
        return Err(Failure::new("npm is not on PATH; install Node 20 or later"));
    }
    let install =
        Task::new("npm").args(["install", "--no-save", "--no-package-lock", "--no-audit", "--no-fund"]);
    install.arg("--prefix").arg(&dir).arg(format!("{package}@{version}")).output(session.deadline())?;
    if reports_version(session, &executable, version) {
        return Ok(executable);
    }
    Err(Failure::new(format!("what npm installed does not say that it is version {version}")))
}

fn reports_version(session: &Session, executable: &PathBuf, version: &str) -> bool {
    let said = Task::new(executable).arg("--version").output(session.deadline());
    said.is_ok_and(|said| said.split_whitespace().next() == Some(version))
}
