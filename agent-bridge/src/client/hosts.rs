//! Lists and ends the hosts of a data directory, for a gateway that starts.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::Path,
    time::{Duration, Instant},
};

use switchboard_core::agent::AgentInstanceId;

use crate::{
    exec::{
        mark::Mark,
        process_table::{self, Seen},
        sweep::{self, Target, kill_with_descendants},
    },
    host::{
        directory::HostDirectory,
        protocol::{ToHost, VERSION},
    },
};

/// How long a host may take to end after it was asked to kill its agent.
const KILL: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(5);

/// A running host, or the leftover directory of an ended one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostState {
    /// The agent instance that the host serves.
    pub instance: AgentInstanceId,
    /// The chat of that instance, as `principal/chat`; `None` if the host ended before it wrote its description file.
    pub chat: Option<String>,
    /// Whether the host runs. An ended host may have left a spool, which is decoded when its instance is resumed.
    pub live: bool,
}

/// Lists running hosts and the leftover directories of ended ones below `hosts`, sorted by instance.
///
/// # Errors
/// If the directory cannot be read. A directory that does not exist counts as empty.
pub fn list_hosts(hosts: &Path) -> io::Result<Vec<HostState>> {
    let directories = HostDirectory::all(hosts)?.into_iter();
    Ok(directories
        .map(|(instance, directory)| HostState {
            instance,
            chat: directory.card().map(|card| card.chat),
            live: directory.is_live(),
        })
        .collect())
}

/// Ends hosts whose instances are not in `keep`, together with their agents, and removes their directories. For
/// instances in `keep` whose hosts have died, ends the processes that the agent left running, and leaves the spool.
/// Blocks for milliseconds, or for three seconds if a host does not react. Returns the number of hosts that were ended.
///
/// # Errors
/// If the directory `hosts` cannot be read.
pub fn end_orphans(hosts: &Path, keep: &BTreeSet<AgentInstanceId>) -> io::Result<usize> {
    let (kept, orphans): (Vec<_>, Vec<_>) =
        HostDirectory::all(hosts)?.into_iter().partition(|(instance, _)| keep.contains(instance));
    let kept = kept.into_iter().map(|(_, directory)| directory).filter(|directory| !directory.is_live());
    let orphans: Vec<_> = orphans.into_iter().map(|(_, directory)| directory).collect();
    let live: Vec<_> = orphans.iter().filter(|directory| directory.is_live()).collect();
    let left = ask_to_end(&live);
    kill_hosts(&left);
    let ended = live.len();
    sweep(kept.chain(orphans.iter().cloned()));
    orphans.iter().for_each(remove);
    Ok(ended)
}

/// Kills all hosts at once, without waiting for what their agents are doing, and removes their directories: for a
/// gateway whose time to shut down is over. Blocks for milliseconds, also if hosts are stopped. Returns the number of
/// hosts that were killed.
///
/// # Errors
/// If the directory `hosts` cannot be read.
pub fn kill_all_hosts(hosts: &Path) -> io::Result<usize> {
    let all: Vec<_> = HostDirectory::all(hosts)?.into_iter().map(|(_, directory)| directory).collect();
    let live: Vec<_> = all.iter().filter(|directory| directory.is_live()).collect();
    kill_hosts(&live);
    let killed = live.len();
    sweep(all.iter().cloned());
    all.iter().for_each(remove);
    Ok(killed)
}

/// Removes the directory of a host, unless the host runs. A failure is logged.
pub(super) fn remove_ended(directory: &HostDirectory) {
    if !directory.is_live() {
        remove(directory);
    }
}

fn remove(directory: &HostDirectory) {
    if let Err(error) = directory.remove() {
        let path = directory.dir().display();
        tracing::warn!(%error, %path, "what an agent's host left could not be removed");
    }
}

/// Removes the directories of ended hosts of one chat, given as `principal/chat`: their spools contain all output of
/// the chat's agents.
pub(super) fn remove_of(hosts: &Path, chat: &str) -> io::Result<()> {
    let of_chat = |directory: &HostDirectory| directory.card().is_some_and(|card| card.chat == chat);
    let directories: Vec<_> = HostDirectory::all(hosts)?
        .into_iter()
        .map(|(_, directory)| directory)
        .filter(|directory| of_chat(directory) && !directory.is_live())
        .collect();
    sweep(directories.iter().cloned());
    directories.iter().try_for_each(HostDirectory::remove)
}

/// Kills all processes with the marks of dead hosts' agents. Blocks. Returns the number of killed processes.
pub(super) fn sweep(directories: impl IntoIterator<Item = HostDirectory>) -> usize {
    sweep::sweep(directories.into_iter().filter_map(|directory| target(&directory)))
}

/// The processes of a host's agent; `None` if the host never had one.
pub(super) fn target(directory: &HostDirectory) -> Option<Target> {
    directory.card().map(|card| Target::marked(Mark::agent(&card.mark)))
}

/// Asks hosts to kill their agents, and waits until they have ended. Returns those that do not end in time. Blocks.
fn ask_to_end<'a>(hosts: &[&'a HostDirectory]) -> Vec<&'a HostDirectory> {
    let asked = |host: &HostDirectory| {
        let mut socket = host.connect()?;
        // Every version of the host understands `Hello` and `Kill`.
        socket.set_write_timeout(Some(KILL))?;
        socket.write_all(&ToHost::Hello { version: VERSION, from: u64::MAX }.encode())?;
        socket.write_all(&ToHost::Kill.encode())?;
        socket.write_all(&ToHost::ShutdownAck { remove: false }.encode())?;
        Ok::<_, io::Error>(socket)
    };
    // The connections stay open: a host that loses its gateway takes longer to end its agent.
    let mut connections = Vec::new();
    let (mut waiting, mut left) = (Vec::new(), Vec::new());
    for host in hosts {
        match asked(host) {
            Ok(connection) => {
                connections.push(connection);
                waiting.push(*host);
            }
            Err(_) => left.push(*host),
        }
    }
    wait_for(&mut waiting, Instant::now() + KILL);
    left.append(&mut waiting);
    left
}

/// Waits until hosts have ended, and removes these from `hosts`. Blocks until `deadline` at most.
fn wait_for(hosts: &mut Vec<&HostDirectory>, deadline: Instant) {
    loop {
        hosts.retain(|host| host.is_live());
        if hosts.is_empty() || Instant::now() >= deadline {
            return;
        }
        std::thread::sleep(LOOK);
    }
}

/// Kills running hosts and everything below them. Blocks.
pub(super) fn kill_hosts(hosts: &[&HostDirectory]) {
    let mut live = hosts.to_vec();
    let mut deadline = None;
    loop {
        live.retain(|host| host.is_live());
        if live.is_empty() || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return;
        }
        let processes: Vec<_> = live.iter().filter_map(|host| process_of(host)).collect();
        kill_with_descendants(&processes);
        deadline.get_or_insert_with(|| Instant::now() + KILL);
        std::thread::sleep(LOOK);
    }
}

/// The process of a running host; `None` if the host has ended, or has not written its description file yet.
fn process_of(host: &HostDirectory) -> Option<Seen> {
    let pid = host.card()?.pid;
    let started = process_table::entry(pid)?.started;
    // Checked last: after a host has ended, another process may get its id.
    host.is_live().then_some((pid, started))
}
