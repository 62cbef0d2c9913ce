//! Lists and ends the hosts of a data directory, for a gateway that starts.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::Path,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use switchboard_core::agent::AgentInstanceId;

use crate::{
    driver::sweep::kill_tree,
    host::{
        place::HostDirectory,
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
    let places = HostDirectory::all(hosts)?.into_iter();
    Ok(places
        .map(|(instance, place)| HostState {
            instance,
            chat: place.card().map(|card| card.chat),
            live: place.is_live(),
        })
        .collect())
}

/// Ends hosts whose instances are not in `keep`, together with their agents, and removes their directories. For
/// instances in `keep` whose hosts have died, ends the processes that the agent left running, and leaves the spool.
/// Blocks for milliseconds, or for seconds if a host does not react. Returns the number of hosts that were ended.
///
/// # Errors
/// If the directory `hosts` cannot be read.
pub fn end_orphans(hosts: &Path, keep: &BTreeSet<AgentInstanceId>) -> io::Result<usize> {
    let mut ended = 0;
    for (instance, place) in HostDirectory::all(hosts)? {
        let live = place.is_live();
        if keep.contains(&instance) {
            if !live {
                sweep(&place);
            }
            continue;
        }
        if live {
            ended += 1;
            end(&place);
        }
        sweep(&place);
        if let Err(error) = place.remove() {
            tracing::warn!(%error, instance = instance.0, "what an agent's host left could not be removed");
        }
    }
    Ok(ended)
}

/// Removes the directories of ended hosts of one chat, given as `principal/chat`: their spools contain all output of
/// the chat's agents.
pub(super) fn remove_of(hosts: &Path, whom: &str) -> io::Result<()> {
    for (_, place) in HostDirectory::all(hosts)? {
        if place.card().is_some_and(|card| card.chat == whom) && !place.is_live() {
            sweep(&place);
            place.remove()?;
        }
    }
    Ok(())
}

/// Kills all processes with the mark of a dead host's agent. Blocks. Returns the number of killed processes.
pub(super) fn sweep(place: &HostDirectory) -> usize {
    place.card().map_or(0, |card| kill_tree(None, &card.mark, &BTreeSet::new()))
}

/// Ends a host: asks it to kill its agent, and kills the host if it does not end in time. Blocks.
pub(super) fn end(place: &HostDirectory) {
    let asked = place.connect().and_then(|mut socket| {
        // Every version of the host understands `Hello` and `Kill`.
        socket.set_write_timeout(Some(KILL))?;
        socket.write_all(&ToHost::Hello { version: VERSION, from: u64::MAX }.encode())?;
        socket.write_all(&ToHost::Kill.encode())?;
        socket.write_all(&ToHost::Farewell { remove: false }.encode())?;
        Ok(socket)
    });
    // The connection stays open: a host that loses its gateway takes longer to end its agent.
    if let Ok(_socket) = &asked {
        let deadline = Instant::now() + KILL;
        while Instant::now() < deadline {
            if !place.is_live() {
                return;
            }
            std::thread::sleep(LOOK);
        }
    }
    force(place);
}

/// Kills a running host with SIGKILL, and then the processes that it leaves behind. Blocks.
pub(super) fn force(place: &HostDirectory) {
    let pid = place.card().and_then(|card| Pid::from_raw(card.pid)).filter(|_| place.is_live());
    if let Some(pid) = pid {
        let _ = kill_process(pid, Signal::KILL);
        let deadline = Instant::now() + KILL;
        while place.is_live() && Instant::now() < deadline {
            std::thread::sleep(LOOK);
        }
    }
    sweep(place);
}
