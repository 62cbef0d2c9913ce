//! The command line of bubblewrap, and the look whether it works.

use std::{
    ffi::{OsStr, OsString},
    io::{self, Read as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::fs::{Access, access};

use super::{Sandbox, plan::Plan};
use crate::driver::environment;

/// A sandbox that is tried has this long to begin and end.
const PROBE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(2);
/// Of what bubblewrap says, so many bytes are of use.
const SAID_BYTES: u64 = 4096;

/// The system's own `/proc`, for root's sandbox.
const WHOLE_PROC: &str = "/run/.proc";

/// The whole command, up to the program.
///
/// For root it is two sandboxes, one in the other: root keeps its capabilities in a user namespace, which Claude Code's
/// own sandbox needs, and could take off what was mounted in that very namespace.
pub(super) fn arguments(sandbox: &Sandbox, plan: &Plan, workspace: &Path, program: &Path) -> Vec<OsString> {
    let mut line = Line(vec![sandbox.bwrap.clone().into()]);
    line.words(&["--unshare-user", "--die-with-parent"]);
    line.mounts(plan);
    if rustix::process::geteuid().is_root() {
        line.words(&["--"]);
        line.0.push(sandbox.bwrap.clone().into());
        line.words(&["--unshare-user", "--die-with-parent", "--dev-bind", "/", "/"]);
        // For root, bubblewrap covers parts of the new `/proc`. Where none is whole, the system lets no sandbox within
        // mount another. Root could uncover this one anyway; the owner's processes cannot be looked into through it.
        line.words(&["--dev-bind", "/proc", WHOLE_PROC]);
    }
    line.words(&["--unshare-pid", "--proc", "/proc", "--new-session"]);
    line.path("--chdir", workspace);
    line.words(&["--"]);
    line.0.push(program.into());
    line.0
}

struct Line(Vec<OsString>);

impl Line {
    fn words(&mut self, words: &[&str]) {
        self.0.extend(words.iter().map(OsString::from));
    }

    fn path(&mut self, option: &str, path: &Path) {
        self.0.extend([OsStr::new(option), path.as_os_str()].map(OsString::from));
    }

    fn bind(&mut self, option: &str, source: &Path, path: &Path) {
        self.path(option, source);
        self.0.push(path.into());
    }

    /// What is in another comes after it.
    fn mounts(&mut self, plan: &Plan) {
        if plan.confined {
            self.words(&["--ro-bind", "/", "/", "--dev-bind", "/dev", "/dev"]);
            // The sandbox in the sandbox writes there.
            self.words(&["--dev-bind", "/proc", "/proc"]);
            plan.temporary.iter().for_each(|dir| self.path("--tmpfs", dir));
            plan.writable.iter().for_each(|path| self.bind("--dev-bind", path, path));
        } else {
            self.words(&["--dev-bind", "/", "/"]);
        }
        self.words(&["--tmpfs", "/run"]);
        plan.run.iter().for_each(|path| self.bind("--dev-bind-try", path, path));
        for (target, link) in &plan.run_links {
            self.bind("--symlink", target, link);
        }
        plan.pinned.iter().for_each(|dir| self.bind("--dev-bind", dir, dir));
        for dir in plan.empty.iter().chain(&plan.empty_own) {
            self.words(&["--perms", "0700"]);
            self.path("--tmpfs", dir);
        }
        plan.masked.iter().for_each(|path| self.bind("--ro-bind", Path::new("/dev/null"), path));
        plan.given.iter().for_each(|path| self.bind("--dev-bind-try", path, path));
        plan.read_only.iter().for_each(|path| self.bind("--ro-bind", path, path));
        plan.empty_own.iter().for_each(|dir| self.path("--remount-ro", dir));
    }
}

/// Runs a shell in the sandbox that looks for what is to be hidden.
pub(super) fn probe(sandbox: &Sandbox, workspace: &Path) -> Result<(), String> {
    const LOOKS: &str = r#"for dir; do for file in "$dir"/*; do
        [ ! -e "$file" ] || { echo "it does not hide $dir" >&2; exit 3; }
    done; done"#;
    let wrapped = sandbox.wrap(workspace, Path::new("/bin/sh")).map_err(|error| error.to_string())?;
    let (program, arguments) = wrapped.split_first().ok_or("there is no program")?;
    let mut child = Command::new(program)
        .args(arguments)
        .args(["-c", LOOKS, "sh"])
        .args(&sandbox.own_dirs)
        .env_clear()
        .envs(environment::inherited())
        .current_dir(workspace)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("{} cannot be run: {error}", sandbox.bwrap.display()))?;
    let deadline = Instant::now() + PROBE;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(LOOK),
            Ok(None) | Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err("it did not begin within 10 s".into());
            }
        }
    };
    if status.success() {
        return Ok(());
    }
    let mut said = Vec::new();
    // It has ended, and so has everything that could write there.
    let _ = child.stderr.take().map(|stderr| stderr.take(SAID_BYTES).read_to_end(&mut said));
    let said: String = String::from_utf8_lossy(&said).trim().chars().filter(|c| !c.is_control()).collect();
    Err(if said.is_empty() { super::super::driver::process::how_it_ended(Some(status)) } else { said })
}

/// Where a program is, as the system would find it for a process in `workspace`.
pub fn locate(program: &OsStr, workspace: &Path) -> io::Result<PathBuf> {
    let path = Path::new(program);
    if path.components().count() > 1 || path.is_absolute() {
        let path = workspace.join(path);
        return executable(&path).map(|()| path);
    }
    let dirs = std::env::var_os("PATH").unwrap_or_default();
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    for dir in std::env::split_paths(&dirs) {
        let path = workspace.join(dir).join(program);
        match executable(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => failure = error,
            Err(_) => {}
        }
    }
    Err(failure)
}

fn executable(path: &Path) -> io::Result<()> {
    if std::fs::metadata(path)?.is_dir() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(access(path, Access::EXEC_OK)?)
}
