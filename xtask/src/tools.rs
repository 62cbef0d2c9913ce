//! Tools that do not come with cargo: their pinned versions, how they are installed, and the steps that use them.
//!
//! They are installed below the target directory, so that each checkout has its own and `cargo clean` removes them.

use std::path::{Path, PathBuf};

use crate::command::Task;
use crate::report::Verdict;
use crate::runner::Session;
use crate::workspace::{Context as _, Failure, Result, find_program, target};

/// The spelling checker. PyPI has a compiled program, which saves minutes of compiling.
const TYPOS: Tool = Tool { name: "typos", crate_name: "typos-cli", version: "1.52.0" };

/// The licence and dependency checker. PyPI's version is too old to know the licence Unicode-3.0, so it is compiled:
/// without optimisation, because it runs for a second and optimising would take minutes.
const CARGO_DENY: Tool = Tool { name: "cargo-deny", crate_name: "cargo-deny", version: "0.20.2" };

/// A program from crates.io in one version.
struct Tool {
    name: &'static str,
    crate_name: &'static str,
    version: &'static str,
}

impl Tool {
    fn dir(&self) -> PathBuf {
        target().join("tools").join(format!("{}-{}", self.name, self.version))
    }

    /// The installed program in the right version: from our directory, or on `PATH`.
    fn find(&self, session: &Session) -> Option<PathBuf> {
        let ours = self.dir().join("bin").join(self.name);
        let candidates = std::iter::once(ours).chain(find_program(self.name));
        candidates.into_iter().find(|program| self.is_right(session, program))
    }

    fn is_right(&self, session: &Session, program: &Path) -> bool {
        let said = Task::new(program).arg("--version").output(session.deadline());
        said.is_ok_and(|said| said.split_whitespace().last() == Some(self.version))
    }

    /// Installs the program from PyPI; `None` if that fails, for example without Python.
    fn fetch_from_pypi(&self, session: &Session) -> Option<PathBuf> {
        let requirement = format!("{}=={}", self.name, self.version);
        let pip = Task::new("python3").args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--only-binary",
            ":all:",
        ]);
        let installed = pip.arg("--target").arg(self.dir()).arg(requirement).output(session.deadline());
        if let Err(failure) = installed {
            println!("not from PyPI: {failure}");
        }
        self.find(session)
    }

    /// Compiles and installs the program from crates.io.
    fn compile(&self, session: &Session) -> Result<PathBuf> {
        let install = ["install", "--locked", "--no-default-features", "--version", self.version, "--root"];
        Task::cargo()
            .args(install)
            .arg(self.dir())
            .arg(self.crate_name)
            // A separate target directory, since the workspace's artifacts are built with other settings.
            .env("CARGO_TARGET_DIR", self.dir().join("build"))
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .run(session.deadline())?;
        // Hundreds of megabytes that are not needed again.
        std::fs::remove_dir_all(self.dir().join("build")).context("removing what a tool was built from")?;
        let missing = || Failure::new(format!("{} {} is not what was installed", self.name, self.version));
        self.find(session).ok_or_else(missing)
    }
}

/// Checks the spelling of all hand-written files.
pub(crate) fn spelling(session: &Session) -> Result<Verdict> {
    let typos = match TYPOS.find(session).or_else(|| TYPOS.fetch_from_pypi(session)) {
        Some(typos) => typos,
        None => TYPOS.compile(session)?,
    };
    Task::new(typos).args(["--config", "typos.toml"]).run(session.deadline())?;
    Ok(Verdict::Passed)
}

/// Checks licences, bans and sources of the dependencies. Needs no network beyond cargo's own downloads.
pub(crate) fn deny(session: &Session) -> Result<Verdict> {
    cargo_deny(session)?
        .args(["check", "--hide-inclusion-graph", "licenses", "bans", "sources"])
        .run(session.deadline())?;
    Ok(Verdict::Passed)
}

/// Checks for known vulnerabilities; skipped if the advisory database cannot be fetched.
pub(crate) fn advisories(session: &Session) -> Result<Verdict> {
    if let Err(failure) = cargo_deny(session)?.args(["fetch", "db"]).output(session.deadline()) {
        return Ok(Verdict::Skipped(format!(
            "the advisory database cannot be fetched: {}",
            gist(&failure.to_string())
        )));
    }
    cargo_deny(session)?.args(["check", "--disable-fetch", "advisories"]).run(session.deadline())?;
    Ok(Verdict::Passed)
}

fn cargo_deny(session: &Session) -> Result<Task> {
    let program = match CARGO_DENY.find(session) {
        Some(program) => program,
        None => CARGO_DENY.compile(session)?,
    };
    Ok(Task::new(program).args(["--all-features", "--locked"]))
}

/// The last non-empty line of a program's error output, which usually says most.
fn gist(complaint: &str) -> &str {
    complaint.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default()
}

/// Installs system packages with apt-get, as root only. `what` names the missing program in the failure.
pub(crate) fn apt_install(session: &Session, what: &str, packages: &[&str]) -> Result {
    let is_root = Task::new("id").arg("-u").output(session.deadline()).is_ok_and(|uid| uid.trim() == "0");
    if !is_root {
        return Err(Failure::new(format!("there is no {what}, and installing it with apt-get needs root")));
    }
    let apt = || Task::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive");
    let install = || {
        apt().args(["update", "--quiet"]).output(session.deadline())?;
        let install = ["install", "--yes", "--quiet", "--no-install-recommends"];
        apt().args(install).args(packages.iter().copied()).output(session.deadline())
    };
    install().map(drop).context(format!("there is no {what}, and apt-get cannot install it"))
}

#[cfg(test)]
mod tests {
    use super::gist;

    #[test]
    fn the_last_line_of_a_complaint_is_its_gist() {
        assert_eq!(gist("cloning\nfatal: no such host\n\n"), "fatal: no such host");
        assert_eq!(gist(""), "");
    }
}
