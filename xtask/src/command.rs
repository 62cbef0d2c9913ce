//! Runs other programs with a deadline, and leaves none of their processes behind.
//!
//! Each program gets its own process group and a *guard*: a shell that ends the group when the shell's standard input
//! is closed. xtask has the other end of this pipe open. So the group ends with the command, at the deadline, and also
//! when xtask itself is interrupted or killed, without a signal handler.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::workspace::{Context as _, Failure, Result, root};

/// Interval at which a running program is polled for its exit.
const POLL: Duration = Duration::from_millis(20);

/// How long to wait for the rest of captured output after the program has ended.
const OUTPUT_GRACE: Duration = Duration::from_secs(5);

/// The guard's script; `$0` is the process group. It sends an interrupt first, so that cargo, nextest and the gateway
/// can clean up. After three seconds it kills the remaining processes, and waits up to two seconds for their end.
const GUARD: &str = r#"
read -r _
gone_within() {
    i=0
    while [ $i -lt "$2" ] && kill -s 0 -- "-$1" 2>/dev/null; do sleep 0.1; i=$((i + 1)); done
}
kill -s INT -- "-$0" 2>/dev/null || exit 0
gone_within "$0" 30
kill -s KILL -- "-$0" 2>/dev/null || exit 0
gone_within "$0" 20
"#;

/// A program to run, by default in the repository's root and with an empty standard input.
pub(crate) struct Task {
    command: Command,
    shown: String,
}

impl Task {
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref();
        let name = Path::new(program).file_name().unwrap_or(program);
        let mut command = Command::new(program);
        command.current_dir(root()).stdin(Stdio::null());
        Self { command, shown: name.to_string_lossy().into_owned() }
    }

    /// The same cargo that runs xtask.
    pub(crate) fn cargo() -> Self {
        Self::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())).without_own_cargo_env()
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.shown.push(' ');
        self.shown.push_str(&arg.as_ref().to_string_lossy());
        self.command.arg(arg);
        self
    }

    pub(crate) fn args<A: AsRef<OsStr>>(self, args: impl IntoIterator<Item = A>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Redirects standard output and standard error to a file.
    pub(crate) fn log_to(mut self, path: &Path) -> Result<Self> {
        let doing = format_args!("writing {}", path.display()).to_string();
        let file = File::create(path).context(&doing)?;
        self.command.stdout(file.try_clone().context(&doing)?).stderr(file);
        Ok(self)
    }

    /// Runs the program in the current directory, for arguments that name the caller's files.
    pub(crate) fn keep_dir(mut self) -> Self {
        if let Ok(dir) = std::env::current_dir() {
            self.command.current_dir(dir);
        }
        self
    }

    /// Runs the program to its end with its output on the terminal. Any exit code but 0 is a failure.
    pub(crate) fn run(self, deadline: Instant) -> Result {
        println!("$ {}", self.shown);
        let shown = self.shown.clone();
        let status = self.spawn()?.wait(deadline)?;
        require_success(&shown, status, "")
    }

    /// Runs the program to its end and returns its standard output. A failure contains its standard error.
    pub(crate) fn output(mut self, deadline: Instant) -> Result<String> {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let shown = self.shown.clone();
        let mut running = self.spawn()?;
        let stdout = collect(running.child.stdout.take());
        let stderr = collect(running.child.stderr.take());
        let status = running.wait(deadline)?;
        require_success(&shown, status, &received(&stderr))?;
        Ok(received(&stdout))
    }

    /// Starts the program with its output on the terminal. Dropping the result ends the program's process group.
    pub(crate) fn spawn(mut self) -> Result<Running> {
        use std::os::unix::process::CommandExt as _;
        let child =
            self.command.process_group(0).spawn().context(format_args!("starting `{}`", self.shown))?;
        let guard = Command::new("sh")
            .args(["-c", GUARD, &child.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("starting the shell that guards a process group")?;
        Ok(Running { child, guard, shown: self.shown })
    }

    /// Replaces this process by the program, which then gets all signals and sets the exit code. Returns only on
    /// failure.
    pub(crate) fn become_it(mut self) -> Failure {
        use std::os::unix::process::CommandExt as _;
        let error = self.command.stdin(Stdio::inherit()).exec();
        Failure::new(format!("starting `{}`: {error}", self.shown))
    }

    /// Removes the variables with which `cargo run` describes the package xtask. A nested cargo whose build scripts
    /// depend on such variables would build everything again.
    fn without_own_cargo_env(mut self) -> Self {
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_")
                || text.starts_with("CARGO_MANIFEST_")
                || text == "CARGO_BIN_NAME"
            {
                self.command.env_remove(&name);
            }
        }
        self
    }
}

/// A running program. Dropping it ends its process group.
pub(crate) struct Running {
    child: Child,
    guard: Child,
    shown: String,
}

impl Running {
    /// Waits for the program's end. At the deadline, the program is ended, and that is a failure.
    pub(crate) fn wait(mut self, deadline: Instant) -> Result<ExitStatus> {
        loop {
            if let Some(status) = self.poll()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(Failure::new(format!("`{}` ran out of time", self.shown)));
            }
            thread::sleep(POLL);
        }
    }

    /// The program's exit status, if it has ended.
    pub(crate) fn poll(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context(format_args!("waiting for `{}`", self.shown))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        // If a wait fails, a zombie remains until xtask ends, nothing worse.
        let _ = self.child.wait();
        let _ = self.guard.wait();
    }
}

fn require_success(shown: &str, status: ExitStatus, stderr: &str) -> Result {
    if status.success() {
        return Ok(());
    }
    let said = stderr.trim();
    let separator = if said.is_empty() { "" } else { ":\n" };
    Err(Failure::new(format!("`{shown}` ended with {status}{separator}{said}")))
}

/// Reads a pipe on a separate thread, so that a full pipe never blocks the program.
fn collect<R: std::io::Read + Send + 'static>(pipe: Option<R>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // Output before a read error is still worth showing.
            let _ = pipe.read_to_end(&mut bytes);
        }
        // After a time-out, the receiver is gone.
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

fn received(output: &mpsc::Receiver<String>) -> String {
    output.recv_timeout(OUTPUT_GRACE).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Task {
        Task::new("sh").args(["-c", script])
    }

    fn soon(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    #[test]
    fn output_is_captured_and_a_failure_says_why() {
        assert_eq!(shell("echo out; echo err >&2").output(soon(10)).unwrap(), "out\n");
        let failure = shell("echo why >&2; exit 3").output(soon(10)).unwrap_err().to_string();
        assert!(failure.contains("exit status: 3") && failure.contains("why"), "{failure}");
    }

    #[test]
    fn the_deadline_ends_the_whole_group() {
        // The grandchild ignores the interrupt, so only the kill reaches it. Without it, the test would not end.
        let endless = shell("trap '' INT; sleep 1000000 & wait; sleep 1000000");
        let failure = endless.output(Instant::now()).unwrap_err().to_string();
        assert!(failure.contains("ran out of time"), "{failure}");
    }

    #[test]
    fn what_a_command_leaves_behind_is_ended() {
        let pid = shell("sleep 60 >/dev/null 2>&1 & echo $!").output(soon(10)).unwrap();
        let alive = Path::new("/proc").join(pid.trim()).join("cmdline");
        // An orphan that nobody has reaped yet has no command line.
        let cmdline = std::fs::read(alive).unwrap_or_default();
        assert!(cmdline.is_empty(), "still running: {}", String::from_utf8_lossy(&cmdline));
    }
}
