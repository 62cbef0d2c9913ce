//! The agent host: a small process that owns an agent's process, so that the agent outlives the gateway.
//!
//! A host has its own directory, `<hosts>/<instance>/`, which other users cannot enter. It contains `lock` (locked
//! while the host runs), `host.json` (the host's process id, its chat and its agent's mark), `socket`, `errors` (the
//! host's standard error, for defects of the host itself), and the spool: the agent's output (`output.<offset>`), and notes
//! on what happened between two bytes of it (`notes.<position>`). Every command is noted before the agent gets it, and
//! output is decoded only once it is in the spool. The host does not decode it; a newer gateway can therefore take over
//! the agent of an older host.
//!
//! While a gateway is connected, it moves the output from the agent's pipe to the spool, so that no byte passes through
//! the host (see `protocol.rs`). When it is gone, the host goes on with that: any of the two may die at any moment.
//!
//! A host serves one gateway at a time; a second one waits until the first is gone. The gateway's hello contains the
//! position from which it wants notes. Each command has an id, and a repeated command is ignored. Without a gateway the
//! agent goes on, its requests stay unanswered, and it is stopped after a grace time, or as soon as the host's directory
//! was removed. While the spool or the disk is full, nothing is taken out of the agent's pipe; the gateway makes room by
//! trimming the spool.
//!
//! The host is the subreaper of all processes that the agent starts, and ends them together with the agent. Processes
//! that a killed host leaves behind have the mark of `host.json` in their environment. The gateway that notices the
//! host's death kills them, or else the next gateway at its start.

pub(crate) mod directory;
pub(crate) mod earlier;
#[cfg(test)]
#[path = "../../fuzz/spool.rs"]
mod fuzz;
mod link;
mod mover;
pub(crate) mod notes;
mod numbered;
pub(crate) mod output;
pub(crate) mod pipe;
pub(crate) mod position;
pub(crate) mod protocol;
pub(crate) mod recent;
mod running_output;
pub(crate) mod socket;
mod supervisor;

use std::{
    io::{self, Read, Write},
    panic::resume_unwind,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use switchboard_core::agent::AgentInstanceId;
use tokio::net::UnixListener;

use self::{
    directory::{Card, DirectoryLock, HostDirectory},
    mover::HostOutput,
    notes::Notes,
    supervisor::{Spool, Supervisor},
};
use crate::{
    BridgeLimits, Sandbox,
    dialect::Framing,
    exec::{command::CommandConfig, process::Owned},
    keep_memory_private,
};

/// The text that a host writes to its standard output: the first byte before it listens, the rest when it listens.
pub(crate) const READY: &str = "ready\n";

/// Longest configuration on standard input, in bytes.
const SETUP_BYTES: u64 = 1024 * 1024;

/// The version of [`Setup`]. A host refuses other versions, because it might not know the sandbox settings in them.
pub(crate) const SETUP_VERSION: u32 = 3;

/// The configuration that a gateway writes to the standard input of a host that it starts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) version: u32,
    /// The directory that contains one directory per host.
    pub(crate) hosts: PathBuf,
    pub(crate) run: u64,
    pub(crate) chat: String,
    /// The position of the host's first record.
    pub(crate) first: u64,
    pub(crate) mark: String,
    pub(crate) command: Vec<String>,
    /// What the end of a turn looks like; all that a host knows about the agent's dialect.
    pub(crate) framing: Framing,
    pub(crate) workspace: PathBuf,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) sandbox: Option<Sandbox>,
    pub(crate) limits: BridgeLimits,
}

/// Runs a host until its agent has ended and the spool is no longer needed or nobody collects it in time. Returns the
/// exit status for the process. The process must have been started by [`HostAgent`](crate::HostAgent) for this purpose
/// only: `run` reads the configuration from `stdin`, reports on `stdout` when it listens, and changes settings of the
/// whole process.
///
/// # Errors
/// If the configuration cannot be read, the agent instance has a host already, or the system refuses a resource.
pub fn run(stdin: impl Read, mut stdout: impl Write) -> io::Result<u8> {
    keep_memory_private()?;
    let setup: Setup = serde_json::from_reader(stdin.take(SETUP_BYTES))?;
    if setup.version != SETUP_VERSION {
        // The program file was replaced while the gateway was running.
        return Err(io::Error::other(format!("the gateway speaks version {} of the setup", setup.version)));
    }
    quiet_panics();
    // A new session, so that signals to the terminal or to the gateway's process group do not reach the host. The call
    // fails if the process leads a session already.
    let _ = rustix::process::setsid();
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let directory = HostDirectory::new(&setup.hosts, AgentInstanceId(setup.run));
    let lock = Arc::new(directory.take()?);
    // The spool is found also when the directory was moved.
    std::env::set_current_dir(directory.dir())?;
    // Held until the process ends, and not only until this function returns: a host without the lock counts as ended.
    std::mem::forget(Arc::clone(&lock));
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    directory.write_card(&Card { pid, mark: setup.mark.clone(), chat: setup.chat })?;
    // One thread is enough: the host mostly waits.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ack = runtime.block_on(async {
        // This write fails if the gateway has gone, and then the host exits: another gateway starts its own host. Once
        // the host listens, another gateway may have found it, so a later failed write is ignored.
        let (before, after) = READY.split_at(1);
        stdout.write_all(before.as_bytes())?;
        stdout.flush()?;
        let listener = UnixListener::from_std(directory.bind()?)?;
        let here = Path::new(".");
        let output = Arc::new(HostOutput::open(here, setup.limits.host.spool_bytes)?);
        let spool = Spool { dir: here, notes: Notes::new(here, setup.first), output: Arc::clone(&output) };
        let process = CommandConfig {
            command: setup.command,
            workspace: setup.workspace,
            env: setup.env,
            sandbox: setup.sandbox,
            limits: setup.limits.clone(),
        };
        let removed = Owned(tokio::spawn(removed(Arc::clone(&lock), setup.limits.host.directory_check)));
        let messages = link::listen(listener, output, setup.limits);
        let _ = stdout.write_all(after.as_bytes()).and_then(|()| stdout.flush());
        drop(stdout);
        // As a task of its own: `block_on` polls for I/O each time before it polls its own future.
        let supervisor = tokio::spawn(
            Supervisor::new(process, setup.framing, setup.mark, spool, messages, removed)?.run(),
        );
        supervisor.await.unwrap_or_else(|panicked| resume_unwind(panicked.into_panic()))
    })?;
    if ack.remove {
        directory.remove()?;
    }
    Ok(0)
}

/// Returns when the host's directory was removed.
async fn removed(lock: Arc<DirectoryLock>, every: Duration) {
    while !lock.is_removed() {
        tokio::time::sleep(every).await;
    }
}

/// Limits the number of panic messages: they go to a file, and would repeat.
fn quiet_panics() {
    const PANICS: usize = 16;
    let count = std::sync::atomic::AtomicUsize::new(0);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < PANICS {
            hook(panic);
        }
    }));
}
