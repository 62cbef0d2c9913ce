//! The command line of bubblewrap, and a test run of the sandbox.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    io::{self, Read as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::fs::{Access, access};

use super::{configured::Sandbox, options::SandboxFailure, plan::Plan};
use crate::exec::{environment, status::how_it_ended};

/// Longest duration of a test run.
const PROBE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(2);
/// Most bytes of bubblewrap's messages that are read.
const OUTPUT_BYTES: u64 = 4096;

/// A directory that covers a mount, and the mount below it: for root, the system's own `/proc`.
const COVERED_PROC: [&str; 2] = ["/run/.proc", "/run/.proc/proc"];

impl Sandbox {
    /// Runs a test program in the sandbox, which tries to reach what the sandbox hides. Blocks for milliseconds.
    ///
    /// # Errors
    /// If the sandbox cannot be made or does not hide everything.
    pub fn probe(&self, workspace: &Path) -> Result<(), SandboxFailure> {
        probe(self, workspace)
    }

    /// The command line that runs `program` in this sandbox, with the workspace as its directory.
    pub(crate) fn wrap(&self, workspace: &Path, program: &Path) -> io::Result<Vec<OsString>> {
        let plan = Plan::make(self, workspace, program)?;
        Ok(arguments(self, &plan, workspace, program))
    }
}

/// The whole command line of bubblewrap, with the program but without its arguments.
///
/// For root, the command makes two nested sandboxes. Root keeps its capabilities in a user namespace, because Claude
/// Code's own sandbox needs them, and could unmount what was mounted in its own namespace. It cannot unmount the mounts
/// of the outer sandbox.
fn arguments(sandbox: &Sandbox, plan: &Plan, workspace: &Path, program: &Path) -> Vec<OsString> {
    let mut line = Line(vec![sandbox.bwrap.clone().into()]);
    line.words(&["--unshare-user", "--die-with-parent"]);
    line.mounts(plan);
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        // Parts of root's new `/proc` are covered. Linux lets a nested sandbox mount a `/proc` only if some `/proc` is
        // mounted without covers, whether it can be reached or not. Hence one is mounted below a cover of the outer
        // sandbox.
        let [cover, proc] = COVERED_PROC;
        line.words(&["--tmpfs", cover, "--dev-bind", "/proc", proc, "--tmpfs", cover, "--remount-ro", cover]);
        line.words(&["--"]);
        line.0.push(sandbox.bwrap.clone().into());
        line.words(&["--unshare-user", "--die-with-parent", "--dev-bind", "/", "/"]);
    }
    line.words(&["--unshare-pid", "--proc", "/proc", "--new-session"]);
    if is_root {
        // Users other than root cannot write there anyway.
        line.words(&["--ro-bind", "/proc/sys", "/proc/sys"]);
    }
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

    /// Adds the options for all mounts, each directory before the mounts inside of it.
    fn mounts<'a>(&mut self, plan: &'a Plan) {
        if plan.confined {
            self.words(&["--ro-bind", "/", "/", "--dev-bind", "/dev", "/dev"]);
            // The agent's own, nested sandbox writes there.
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
        // The map sorts directories before their content. If a path occurs twice, the later mount replaces the earlier
        // one.
        let all = |paths: &'a BTreeSet<PathBuf>, mount| paths.iter().map(move |path| (path, mount));
        let mounts: BTreeMap<&PathBuf, Mount> = all(&plan.pinned, Mount::Itself)
            .chain(plan.workspace.iter().map(|dir| (dir, Mount::Itself)))
            .chain(all(&plan.read_only, Mount::ReadOnly))
            .chain(all(&plan.empty, Mount::Empty))
            .chain(all(&plan.empty_own, Mount::Empty))
            .chain(all(&plan.masked, Mount::Nothing))
            .chain(all(&plan.given, Mount::Itself))
            .collect();
        for (path, mount) in mounts {
            match mount {
                Mount::Itself => self.bind("--dev-bind-try", path, path),
                Mount::ReadOnly => self.bind("--ro-bind", path, path),
                Mount::Empty => {
                    self.words(&["--perms", "0700"]);
                    self.path("--tmpfs", path);
                }
                Mount::Nothing => self.bind("--ro-bind", Path::new("/dev/null"), path),
            }
        }
        // Settings of the kernel and of control groups are read-only.
        self.words(&["--ro-bind-try", "/sys", "/sys"]);
        plan.empty_own.iter().for_each(|dir| self.path("--remount-ro", dir));
    }
}

/// What is mounted at a path.
#[derive(Clone, Copy)]
enum Mount {
    /// The file or directory outside of the sandbox.
    Itself,
    /// The file or directory outside of the sandbox, read-only.
    ReadOnly,
    /// An empty directory.
    Empty,
    /// A file that cannot be opened.
    Nothing,
}

/// Runs a shell in the sandbox that tests whether each hidden path exists.
fn probe(sandbox: &Sandbox, workspace: &Path) -> Result<(), SandboxFailure> {
    // A hidden file is `/dev/null` in the sandbox, which passes none of these tests.
    const LOOKS: &str = r#"for path; do
        if [ -f "$path" ] || [ -d "$path" ] || [ -S "$path" ]; then echo "$path"; exit 3; fi
    done"#;
    let shell = Path::new("/bin/sh");
    let plan = Plan::make(sandbox, workspace, shell)
        .map_err(|error| SandboxFailure::new(error, "Choose another workspace"))?;
    if let Some(own) = plan.empty_own.intersection(&plan.given).next() {
        let why = format!("--sandbox-allow {} would give agents what is the gateway's", own.display());
        return Err(SandboxFailure::new(why, "Leave that out"));
    }
    let failed = |why: String| {
        SandboxFailure::new(
            why,
            "Let bubblewrap make namespaces here, which containers and some systems forbid",
        )
    };
    let wrapped = arguments(sandbox, &plan, workspace, shell);
    let mut child = Command::new(&sandbox.bwrap)
        .args(wrapped.iter().skip(1))
        .args(["-c", LOOKS, "sh"])
        .args(plan.hidden_now())
        .env_clear()
        .envs(environment::inherited())
        .current_dir(workspace)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| failed(format!("{} cannot be run: {error}", sandbox.bwrap.display())))?;
    let deadline = Instant::now() + PROBE;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(LOOK),
            Ok(None) | Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed("it did not begin within 10 s".into()));
            }
        }
    };
    if status.success() {
        return Ok(());
    }
    if let Some(path) = output_of(child.stdout.take()) {
        let why = format!("it does not hide {path}");
        return Err(SandboxFailure::new(why, "Keep the data directory and the token elsewhere"));
    }
    let why = output_of(child.stderr.take());
    Err(failed(why.unwrap_or_else(|| how_it_ended(Some(status)))))
}

/// What a process has written to a pipe. All processes that could write to it must have ended.
fn output_of(pipe: Option<impl io::Read>) -> Option<String> {
    let mut output = Vec::new();
    let _ = pipe?.take(OUTPUT_BYTES).read_to_end(&mut output);
    let output: String =
        String::from_utf8_lossy(&output).trim().chars().filter(|c| !c.is_control()).collect();
    Some(output).filter(|output| !output.is_empty())
}

/// Locates a program as the system would for a process in `workspace`: a name in the directories of `PATH`, and a path
/// relative to `workspace`.
///
/// # Errors
/// If there is no such program or it is not executable.
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
