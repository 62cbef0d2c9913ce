//! The agent host: a small process that owns an agent's process, so that the agent outlives the gateway.
//!
//! A host has a directory of its own, `<hosts>/<run>/`, closed to other users: `lock` (held as long as it lives),
//! `host.json` (its process and its agent's mark), `socket`, `errors` (its standard error, which has something to say
//! where the host itself has a defect), and the spool (`spool.<position>`, `told`, and `spare.<n>`: trimmed files that
//! will be written over). Everything that the agent is told, and, unless its output is lent, everything that it says,
//! is a record in the spool before anybody hears of it; records have positions that only grow. The host decodes
//! nothing: what records mean is the gateway's affair, so that a newer gateway can take up the agent of an older host.
//!
//! On Linux, a gateway that is connected and knows all records can read the agent's output itself: it is lent
//! (`protocol.rs` says how). Nothing is taken out of the agent's pipe before the gateway's log has it, so that the
//! gateway may die at any moment: then what is in the pipe is spooled. Only what the agent is told is spooled at once.
//!
//! One gateway is served at a time. It says hello with the position from which it wants records, and gets all from
//! there on. A newer connection ends the older one. A command has an id; one that the spool has is ignored when it is
//! repeated. Without a gateway the agent goes on, nobody answers what it asks, and it is stopped after a grace time.
//! When the spool or the disk is full, the agent's output is not read, until the gateway trims the spool.
//!
//! Every process that the agent starts belongs to the host, which is their subreaper and ends them with the agent. What
//! a host that was killed leaves behind bears the mark of `host.json` in its environment, and is ended by the gateway
//! that notices, or by the next one at its start.

#[cfg(test)]
mod fuzz;
mod intake;
pub(crate) mod lending;
pub(crate) mod lines;
mod link;
pub(crate) mod place;
pub(crate) mod protocol;
mod recent;
pub(crate) mod socket;
pub(crate) mod spool;
mod supervisor;

use std::{
    io::{self, Read, Write},
    panic::resume_unwind,
    path::PathBuf,
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use switchboard_core::agent::AgentInstanceId;
use tokio::net::UnixListener;

use self::{
    place::{Card, HostDirectory},
    spool::Spool,
    supervisor::Supervisor,
};
use crate::{BridgeLimits, Dialect, ProcessConfig, Sandbox, keep_memory_private};

/// What a host says on its standard output: the first byte before it listens, all of it once it does.
pub(crate) const READY: &str = "ready\n";

/// Longest configuration that is read, in bytes.
const SETUP_BYTES: u64 = 1024 * 1024;

/// The version of [`Setup`]: a host that knows nothing of what its agent is to be kept from does not begin.
pub(crate) const SETUP_VERSION: u32 = 2;

/// What a gateway tells the host that it starts, on its standard input.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) version: u32,
    /// The directory of all hosts.
    pub(crate) hosts: PathBuf,
    pub(crate) run: u64,
    pub(crate) chat: String,
    /// The position of its first record.
    pub(crate) first: u64,
    pub(crate) mark: String,
    pub(crate) name: String,
    pub(crate) command: Vec<String>,
    pub(crate) dialect: String,
    pub(crate) workspace: PathBuf,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) sandbox: Option<Sandbox>,
    pub(crate) limits: BridgeLimits,
}

/// Runs a host until its agent is ended and nobody needs what it said any more. Gives the exit status for the
/// process, which must have been started for this and nothing else, by
/// [`HostAgent`](crate::HostAgent): the configuration comes on `stdin`, and `stdout` is told when it listens.
///
/// # Errors
/// If the configuration cannot be read, the life has a host already, or the system refuses what a host needs.
pub fn run(stdin: impl Read, mut stdout: impl Write) -> io::Result<u8> {
    keep_memory_private()?;
    let setup: Setup = serde_json::from_reader(stdin.take(SETUP_BYTES))?;
    if setup.version != SETUP_VERSION {
        // The program was replaced under a gateway that runs.
        return Err(io::Error::other(format!("the gateway speaks version {} of the setup", setup.version)));
    }
    let dialect: Dialect = setup.dialect.parse().map_err(io::Error::other)?;
    quiet_panics();
    // A session of its own: neither the terminal nor the gateway's group reaches it. It leads one already if it
    // was started that way.
    let _ = rustix::process::setsid();
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let place = HostDirectory::new(&setup.hosts, AgentInstanceId(setup.run));
    // Held until the process ends.
    let _lock = place.take()?;
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    place.write_card(&Card { pid, mark: setup.mark.clone(), chat: setup.chat })?;
    // In one thread: what there is to do is waiting, and two threads would only wait for each other.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let farewell = runtime.block_on(async {
        // Nobody waits for a host whose gateway has gone meanwhile: the next one has started its own, or will. Once it
        // listens, it may have been found and lives.
        let (before, after) = READY.split_at(1);
        stdout.write_all(before.as_bytes())?;
        stdout.flush()?;
        let listener = UnixListener::from_std(place.bind()?)?;
        let spool = Arc::new(Spool::new(place.dir(), setup.first, setup.limits.host.spool_bytes));
        let process = ProcessConfig {
            name: setup.name,
            command: setup.command,
            dialect,
            workspace: setup.workspace,
            env: setup.env,
            sandbox: setup.sandbox,
            mark_prefix: setup.mark.clone(),
            seed: [0; 16],
            limits: setup.limits.clone(),
        };
        let heard = link::listen(listener, Arc::clone(&spool), setup.limits);
        let _ = stdout.write_all(after.as_bytes()).and_then(|()| stdout.flush());
        drop(stdout);
        // As a task: before a runtime goes on with its first future, it looks for news.
        let supervisor = tokio::spawn(Supervisor::new(process, setup.mark, spool, heard)?.run());
        supervisor.await.unwrap_or_else(|panicked| resume_unwind(panicked.into_panic()))
    })?;
    if farewell.remove {
        place.remove()?;
    }
    Ok(0)
}

/// What it says of its panics goes to a file, and is the same over and over.
fn quiet_panics() {
    const PANICS: usize = 16;
    let said = std::sync::atomic::AtomicUsize::new(0);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if said.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < PANICS {
            hook(panic);
        }
    }));
}
