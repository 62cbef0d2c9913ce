//! One agent process: started with a clean environment, and ended together with all its descendants.

use std::{
    collections::{BTreeSet, VecDeque},
    ffi::{OsStr, OsString},
    io,
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use rustix::process::{Pid, Signal};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, ChildStderr, ChildStdout, Command},
    task::{AbortHandle, JoinHandle},
    time::{Instant, timeout},
};

use super::{
    command::CommandConfig,
    environment,
    input::{Input, WeakInput, input},
    mark::{self, MARK, Mark},
    process_table::{self, Seen},
    sandbox::{Sandbox, locate},
    stderr_tail::LastWords,
    sweep,
};
use crate::limits::BridgeLimits;

/// A running agent process.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    guard: ProcessGuard,
    input: Option<Input>,
    writer: AbortHandle,
    stderr: Arc<Mutex<VecDeque<String>>>,
    stderr_read: Owned<()>,
    limits: BridgeLimits,
    sandboxed: bool,
}

impl Process {
    /// Starts the configured command with `further` arguments. Returns the process and its standard output.
    pub(crate) fn start(
        config: &CommandConfig,
        further: &[&str],
        mark: String,
    ) -> io::Result<(Self, ChildStdout)> {
        Self::start_in(config, further, mark, Belonging::Marked)
    }

    /// [`Self::start`], for a process that starts nothing else: when the agent is killed, everything below this process
    /// is killed with it.
    pub(crate) fn start_alone(
        config: &CommandConfig,
        further: &[&str],
        mark: String,
    ) -> io::Result<(Self, ChildStdout)> {
        Self::start_in(config, further, mark, Belonging::EveryChild)
    }

    fn start_in(
        config: &CommandConfig,
        further: &[&str],
        mark: String,
        belonging: Belonging,
    ) -> io::Result<(Self, ChildStdout)> {
        let (program, arguments) = config
            .command
            .split_first()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the agent's command is empty"))?;
        environment::close_descriptors_on_exec();
        let mut command = match &config.sandbox {
            None => Command::new(program),
            Some(sandbox) => {
                // Located here, because bubblewrap reports a missing program only as text on standard error.
                let program = locate(OsStr::new(program), &config.workspace)?;
                let wrapped = sandbox.wrap(&config.workspace, &program)?;
                let mut wrapped = wrapped.iter();
                let mut command = Command::new(wrapped.next().unwrap_or(&OsString::new()));
                command.args(wrapped);
                command
            }
        };
        command
            .args(arguments)
            .args(further)
            .current_dir(&config.workspace)
            .env_clear()
            .envs(environment::inherited())
            .envs(config.sandbox.iter().flat_map(Sandbox::env))
            .envs(config.env.iter().map(|(name, value)| (OsStr::new(name), OsStr::new(value))))
            .env(MARK, &mark)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        if let Some(pid) = pid {
            mark::set_number(pid, &mark);
        }
        // Read while the process cannot have been reaped. Systems without a process table know no start times.
        let agent =
            pid.map(|pid| (pid.as_raw_nonzero().get(), process_table::started(pid).unwrap_or_default()));
        let guard = ProcessGuard { agent, mark, belonging, seen: BTreeSet::new(), armed: true };
        let sandboxed = config.sandbox.is_some();
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::Error::other("the agent has no pipes"));
        };
        // A larger pipe allows fewer and larger batches, but nothing depends on its size.
        #[cfg(target_os = "linux")]
        let _ = rustix::pipe::fcntl_setpipe_size(&stdout, config.limits.read_bytes);
        let (input, waiting) = input(config.limits.input_bytes, pid);
        let writer = tokio::spawn(waiting.write_to(stdin)).abort_handle();
        let tail = Arc::default();
        let limits = config.limits.clone();
        let stderr_read = Owned(tokio::spawn(keep_tail(stderr, Arc::clone(&tail), limits.clone())));
        Ok((
            Self { child, guard, input: Some(input), writer, stderr: tail, stderr_read, limits, sandboxed },
            stdout,
        ))
    }

    /// A sender to the process's standard input that does not keep it open.
    pub(crate) fn input(&self) -> WeakInput {
        self.input.as_ref().map_or_else(WeakInput::closed, Input::downgrade)
    }

    /// Queues bytes for the process's standard input.
    pub(crate) fn write(&self, bytes: Vec<u8>) {
        if let Some(input) = &self.input {
            input.send(bytes);
        }
    }

    /// Closes standard input once all queued bytes are written. Returns false if it was closed before.
    pub(crate) fn close_input(&mut self) -> bool {
        self.input.take().is_some()
    }

    /// Waits until the process exits. Cancel safe.
    pub(crate) async fn wait(&mut self) -> Option<ExitStatus> {
        let status = self.child.wait().await.ok()?;
        Some(if self.sandboxed { of_the_agent(status) } else { status })
    }

    /// Records the current descendants, so that they can be killed even if their parent exits first.
    pub(crate) fn note_descendants(&mut self) {
        if let Some(pid) = self.running().filter(|_| self.guard.belonging == Belonging::Marked) {
            sweep::forget_gone(&mut self.guard.seen);
            self.guard.seen.append(&mut process_table::descendants(pid));
        }
    }

    /// The process id, for a caller that reaps all other children.
    pub(crate) fn pid(&self) -> Option<Pid> {
        self.guard.agent.and_then(|(pid, _)| Pid::from_raw(pid))
    }

    /// The process id, unless the process was reaped.
    fn running(&self) -> Option<Pid> {
        self.pid().filter(|_| self.child.id().is_some())
    }

    /// Sends SIGTERM to the process group of the agent.
    pub(crate) fn terminate(&mut self) {
        self.writer.abort();
        self.note_descendants();
        if let Some(pid) = self.running() {
            let group = if self.sandboxed { agent_group(pid) } else { pid };
            let _ = rustix::process::kill_process_group(group, Signal::TERM);
        }
    }

    /// Kills the process and all its descendants, and waits until they are gone.
    pub(crate) async fn kill(&mut self) {
        self.writer.abort();
        self.note_descendants();
        let killed = match self.guard.belonging {
            Belonging::Marked => {
                // Reaped last: until then no other process gets the agent's id.
                let killed = sweep::request(self.guard.target()).await.unwrap_or_default();
                let _ = self.child.kill().await;
                killed
            }
            Belonging::EveryChild => {
                if let Some(pid) = self.running() {
                    let _ = rustix::process::kill_process_group(pid, Signal::KILL);
                }
                let _ = self.child.wait().await;
                if sweep::has_children() {
                    tokio::task::spawn_blocking(sweep::kill_children).await.unwrap_or_default()
                } else {
                    0
                }
            }
        };
        tracing::debug!(killed, "what an agent left was killed");
        self.guard.armed = false;
    }

    /// Logs the last lines of the process's standard error, and returns their end as a sentence for the turn's error.
    pub(crate) async fn report_last_words(&mut self, words: &LastWords) -> String {
        let lines = self.stderr_tail().await;
        words.report(&lines)
    }

    /// The last lines of the process's standard error.
    pub(crate) async fn stderr_tail(&mut self) -> Vec<String> {
        // The last lines may not have been read yet. The wait is bounded, because descendants may keep the pipe open.
        if !self.stderr_read.0.is_finished() {
            let _ = timeout(self.limits.drain, &mut self.stderr_read.0).await;
        }
        let tail = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        tail.iter().cloned().collect()
    }
}

/// The process group of the agent inside a sandbox. The agent runs in a session below bubblewrap's own processes; a
/// SIGTERM to bubblewrap would kill the agent at once. Returns the sandbox's own group if the agent has no group yet.
fn agent_group(sandbox: Pid) -> Pid {
    let descendants = process_table::descendants(sandbox).into_iter();
    let groups = descendants.filter_map(|(pid, _)| rustix::process::getpgid(Pid::from_raw(pid)).ok());
    // The group that was started first: an agent's tools may have groups of their own.
    groups
        .filter(|group| *group != sandbox)
        .min_by_key(|group| process_table::started(*group))
        .unwrap_or(sandbox)
}

/// Converts the exit status of bubblewrap to that of the agent: bubblewrap reports signal N as status 128 + N, as
/// shells do.
fn of_the_agent(status: ExitStatus) -> ExitStatus {
    match status.code() {
        Some(code @ 129..=192) => ExitStatus::from_raw(code - 128),
        _ => status,
    }
}

/// Which processes belong to an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Belonging {
    /// Those that bear its mark, those below it, and those that were below it when somebody looked.
    Marked,
    /// Everything below this process, which is a child subreaper if the system has that.
    EveryChild,
}

/// Kills the process and its descendants when dropped, if [`Process::kill`] has not done it, for example after a panic.
#[derive(Debug)]
struct ProcessGuard {
    agent: Option<Seen>,
    mark: String,
    belonging: Belonging,
    seen: BTreeSet<Seen>,
    armed: bool,
}

impl ProcessGuard {
    fn target(&self) -> sweep::Target {
        sweep::Target { mark: Mark::agent(&self.mark), agent: self.agent, seen: self.seen.clone() }
    }
}

impl Drop for ProcessGuard {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        match self.belonging {
            Belonging::Marked => {
                if let Some(agent) = self.agent.filter(|agent| process_table::entry_of(*agent).is_some()) {
                    let mut below =
                        Pid::from_raw(agent.0).map(process_table::descendants).unwrap_or_default();
                    self.seen.append(&mut below);
                }
                // Goes on in a thread of its own, because the runtime may be shutting down.
                drop(sweep::request(self.target()));
            }
            // This process is about to exit.
            Belonging::EveryChild => {
                sweep::kill_children();
            }
        }
    }
}

/// Reads standard error to its end, so that the agent never blocks on it, and retains the last lines.
async fn keep_tail(stderr: ChildStderr, tail: Arc<Mutex<VecDeque<String>>>, limits: BridgeLimits) {
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = (&mut stderr).take(limits.stderr_line_bytes as u64);
        match limited.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
                if tail.len() >= limits.stderr_lines {
                    tail.pop_front();
                }
                tail.push_back(text);
            }
        }
    }
}

/// A task that is aborted when this handle is dropped.
#[derive(Debug)]
pub(crate) struct Owned<T>(pub(crate) JoinHandle<T>);

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sleeps until the deadline; without a deadline, never returns.
pub(crate) async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
