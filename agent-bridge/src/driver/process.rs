//! One process: started with nothing inherited, listened to, and ended with everything that it started.

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
    ProcessConfig, environment,
    input::{Input, WeakInput, input},
    stderr_tail::LastWords,
    sweep::{self, MARK, Seen},
};
use crate::{
    limits::BridgeLimits,
    sandbox::{Sandbox, locate},
};

/// A process that runs.
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
    /// Starts the command with further arguments. Gives it and its output.
    pub(crate) fn start(
        config: &ProcessConfig,
        further: &[&str],
        mark: String,
    ) -> io::Result<(Self, ChildStdout)> {
        let (program, arguments) = config
            .command
            .split_first()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the agent's command is empty"))?;
        environment::close_descriptors_on_exec();
        let mut command = match &config.sandbox {
            None => Command::new(program),
            Some(sandbox) => {
                // Looked for here: what bubblewrap does not find only shows in its words.
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
        let leash = ProcessGuard { pid, mark, seen: BTreeSet::new(), held: true };
        let sandboxed = config.sandbox.is_some();
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::Error::other("the agent has no pipes"));
        };
        // A larger pipe means fewer, larger batches; without it everything works the same.
        #[cfg(target_os = "linux")]
        let _ = rustix::pipe::fcntl_setpipe_size(&stdout, config.limits.read_bytes);
        let (input, waiting) = input(config.limits.input_bytes, pid);
        let writer = tokio::spawn(waiting.write_to(stdin)).abort_handle();
        let tail = Arc::default();
        let limits = config.limits.clone();
        let stderr_read = Owned(tokio::spawn(keep_tail(stderr, Arc::clone(&tail), limits.clone())));
        Ok((
            Self {
                child,
                guard: leash,
                input: Some(input),
                writer,
                stderr: tail,
                stderr_read,
                limits,
                sandboxed,
            },
            stdout,
        ))
    }

    /// Where lines for its input go, as long as that is not closed.
    pub(crate) fn input(&self) -> WeakInput {
        self.input.as_ref().map_or_else(WeakInput::closed, Input::downgrade)
    }

    /// Writes to its input, as soon as it reads.
    pub(crate) fn write(&self, bytes: Vec<u8>) {
        if let Some(input) = &self.input {
            input.send(bytes);
        }
    }

    /// Writes a line to its input, as soon as it reads.
    pub(crate) fn write_line(&self, mut line: Vec<u8>) {
        line.push(b'\n');
        self.write(line);
    }

    /// Ends its input once everything is written. False if that was done before.
    pub(crate) fn close_input(&mut self) -> bool {
        self.input.take().is_some()
    }

    /// Waits until it exits. Cancel safe.
    pub(crate) async fn wait(&mut self) -> Option<ExitStatus> {
        let status = self.child.wait().await.ok()?;
        Some(if self.sandboxed { of_the_agent(status) } else { status })
    }

    /// Remembers what it has started so far: what loses its parent later is still known.
    pub(crate) fn note_descendants(&mut self) {
        if let Some(pid) = self.guard.pid.filter(|_| self.child.id().is_some()) {
            sweep::forget_gone(&mut self.guard.seen);
            self.guard.seen.append(&mut sweep::descendants(pid));
        }
    }

    /// Its process number, for whoever reaps all others.
    pub(crate) fn pid(&self) -> Option<Pid> {
        self.guard.pid
    }

    /// Asks it, and what is in its group, to exit.
    pub(crate) fn terminate(&mut self) {
        self.writer.abort();
        self.note_descendants();
        if let Some(pid) = self.guard.pid.filter(|_| self.child.id().is_some()) {
            let group = if self.sandboxed { agent_group(pid, &self.guard.seen) } else { pid };
            let _ = rustix::process::kill_process_group(group, Signal::TERM);
        }
    }

    /// Ends it and everything that it started, by force, and waits until they are gone.
    pub(crate) async fn kill(&mut self) {
        self.writer.abort();
        self.note_descendants();
        let (pid, mark, seen) = (self.guard.pid, self.guard.mark.clone(), self.guard.seen.clone());
        let swept = tokio::task::spawn_blocking(move || sweep::kill_tree(pid, &mark, &seen));
        // The agent is reaped here, everything else in there.
        let _ = self.child.wait().await;
        if let Ok(killed) = swept.await {
            tracing::debug!(killed, "swept what an agent left");
        }
        self.guard.held = false;
    }

    /// Logs the last lines of its standard error, and gives them as a sentence.
    pub(crate) async fn report_last_words(&mut self, config: &ProcessConfig) -> String {
        let lines = self.stderr_tail().await;
        LastWords::of(config).report(&lines)
    }

    /// The last lines of its standard error.
    pub(crate) async fn stderr_tail(&mut self) -> Vec<String> {
        // They may still be on their way; others may hold that pipe open for ever.
        if !self.stderr_read.0.is_finished() {
            let _ = timeout(self.limits.drain, &mut self.stderr_read.0).await;
        }
        let tail = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        tail.iter().cloned().collect()
    }
}

/// The agent's own group in a sandbox: its session begins below the processes of bubblewrap, which would end with it by
/// force if they were asked to go. The sandbox itself where there is none yet.
fn agent_group(sandbox: Pid, descendants: &BTreeSet<Seen>) -> Pid {
    let groups = descendants.iter().filter_map(|(pid, _)| rustix::process::getpgid(Pid::from_raw(*pid)).ok());
    // The first that was started: an agent's tools may have groups of their own.
    groups.filter(|group| *group != sandbox).min_by_key(|group| sweep::started(*group)).unwrap_or(sandbox)
}

/// What bubblewrap says of how its program ended, as shells do: 128 and the signal.
fn of_the_agent(status: ExitStatus) -> ExitStatus {
    match status.code() {
        Some(code @ 129..=192) => ExitStatus::from_raw(code - 128),
        _ => status,
    }
}

/// Ends the process and what it started even if nobody is left to wait for that, as after a panic.
#[derive(Debug)]
struct ProcessGuard {
    pid: Option<Pid>,
    mark: String,
    seen: BTreeSet<Seen>,
    held: bool,
}

impl Drop for ProcessGuard {
    fn drop(&mut self) {
        if self.held {
            let (pid, mark) = (self.pid, std::mem::take(&mut self.mark));
            let mut seen = std::mem::take(&mut self.seen);
            seen.append(&mut pid.map(sweep::descendants).unwrap_or_default());
            // A thread of its own: the runtime may be on its way down.
            let spawned = std::thread::Builder::new()
                .name("agent-reaper".into())
                .spawn(move || sweep::kill_tree(pid, &mark, &seen));
            if let Err(error) = spawned {
                tracing::error!(%error, "an agent could not be swept");
            }
        }
    }
}

/// Reads standard error to its end, always, and keeps its last lines.
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

/// How a process ended, as part of a sentence.
pub(crate) fn how_it_ended(status: Option<ExitStatus>) -> String {
    describe_end(status.and_then(|status| status.code()), status.and_then(|status| status.signal()))
}

/// How a process ended, by its status or the signal that ended it, as part of a sentence.
pub(crate) fn describe_end(code: Option<i32>, signal: Option<i32>) -> String {
    match (code, signal) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "went away".into(),
    }
}

/// A task that ends with its owner.
#[derive(Debug)]
pub(crate) struct Owned<T>(pub(crate) JoinHandle<T>);

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sleeps until then; for ever without a then.
pub(crate) async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
