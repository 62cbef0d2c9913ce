//! Autobahn's fuzzing client for WebSocket. It needs Python 2.7, and is installed with an old virtualenv below the
//! target directory.

use std::path::{Path, PathBuf};

use crate::command::Task;
use crate::report::Verdict;
use crate::runner::Session;
use crate::rust;
use crate::workspace::{Context as _, Failure, Result, find_program, target};

/// The test suite, and the last virtualenv that supports Python 2.7.
const SUITE: &str = "autobahntestsuite==25.10.1";
const VIRTUALENV: &str = "virtualenv==20.21.1";

/// The test of `transport-ws` that runs the suite, and the variable that gives the test the path of the program.
const TEST: (&str, &str) = ("autobahn_finds_nothing", "SWITCHBOARD_TEST_AUTOBAHN");

/// Runs the cases of the suite against the WebSocket transport.
pub(crate) fn step(session: &Session) -> Result<Verdict> {
    let Some(python) = python2() else {
        return Ok(Verdict::Skipped("there is no Python 2.7, on PATH or of pyenv".into()));
    };
    let program = match install(session, &python) {
        Ok(program) => program,
        Err(failure) => return Ok(Verdict::Skipped(format!("Autobahn cannot be installed: {failure}"))),
    };
    let (test, variable) = TEST;
    rust::test_runner(session, &["--no-fail-fast", test]).env(variable, program).run(session.deadline())?;
    Ok(Verdict::Passed)
}

/// The path of Python 2.7: a version of pyenv, or on `PATH`.
fn python2() -> Option<PathBuf> {
    let pyenv = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let pyenv = pyenv.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pyenv")))?;
    let versions = std::fs::read_dir(pyenv.join("versions")).into_iter().flatten().flatten();
    let of_pyenv = versions
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("2.7."))
        .map(|entry| entry.path().join("bin/python"));
    // pyenv's shims on PATH only work in directories for which this version is chosen.
    let real = |path: &PathBuf| !path.components().any(|part| part.as_os_str() == "shims");
    of_pyenv.chain(find_program("python2.7").filter(real)).find(|path| path.is_file())
}

fn install(session: &Session, python: &Path) -> Result<PathBuf> {
    let dir = target().join("autobahn");
    let (tools, suite, noted) = (dir.join("tools"), dir.join("suite"), dir.join("installed"));
    let program = suite.join("bin/wstest");
    let what = format!("{SUITE} {VIRTUALENV} {}", python.display());
    if std::fs::read_to_string(&noted).is_ok_and(|text| text == what) && program.is_file() {
        return Ok(program);
    }
    if find_program("python3").is_none() {
        return Err(Failure::new("python3 is not on PATH"));
    }
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    Task::new("python3").args(["-m", "venv", "--clear"]).arg(&tools).output(session.deadline())?;
    let tool = tools.join("bin/python");
    Task::new(&tool).args(pip).arg(VIRTUALENV).output(session.deadline())?;
    let virtualenv = Task::new(&tool).args(["-m", "virtualenv", "--quiet", "--clear", "--python"]);
    virtualenv.arg(python).arg(&suite).output(session.deadline())?;
    Task::new(suite.join("bin/python")).args(pip).arg(SUITE).output(session.deadline())?;
    std::fs::write(&noted, what).context("noting that Autobahn is installed")?;
    Ok(program)
}
