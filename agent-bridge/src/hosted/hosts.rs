//! The hosts of a data directory, for the start of a gateway.

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

/// A host that was told to end its agent by force has this long.
const KILL: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(5);

/// A host, or what one has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostState {
    /// The life that it serves.
    pub instance: AgentInstanceId,
    /// The chat of that life, as `principal/chat`, where the host came to write it down.
    pub chat: Option<String>,
    /// Whether it lives. One that does not has left a spool, which is decoded when its life is taken up.
    pub live: bool,
}

/// All hosts below `hosts` and all that ended ones left there, by their runs.
///
/// # Errors
/// If the directory cannot be read. One that does not exist has no hosts.
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

/// Ends hosts whose lives are not in `keep`, with their agents, and removes what they left. Of lives in `keep`, ends
/// what a dead host's agent left running; the spool stays. Blocks for milliseconds, and for seconds where a host
/// does not react. Returns how many hosts were ended.
///
/// # Errors
/// If the directory cannot be read.
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

/// Removes what ended hosts of a chat, as `principal/chat`, have left: everything that its agents said is in there.
pub(super) fn remove_of(hosts: &Path, whom: &str) -> io::Result<()> {
    for (_, place) in HostDirectory::all(hosts)? {
        if place.card().is_some_and(|card| card.chat == whom) && !place.is_live() {
            sweep(&place);
            place.remove()?;
        }
    }
    Ok(())
}

/// Ends what bears the mark of a dead host's agent. Blocks; gives how many processes that were.
pub(super) fn sweep(place: &HostDirectory) -> usize {
    place.card().map_or(0, |card| kill_tree(None, &card.mark, &BTreeSet::new()))
}

/// Ends a host: it is asked to kill its agent, and killed if it does not. Blocks.
pub(super) fn end(place: &HostDirectory) {
    let asked = place.connect().and_then(|mut socket| {
        // Understood by every version.
        socket.set_write_timeout(Some(KILL))?;
        socket.write_all(&ToHost::Hello { version: VERSION, from: u64::MAX }.encode())?;
        socket.write_all(&ToHost::Kill.encode())?;
        socket.write_all(&ToHost::Farewell { remove: false }.encode())?;
        Ok(socket)
    });
    // Held open: a host that hears nobody any more ends its agent with less haste.
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

/// Kills a host that lives, and then what it leaves. Blocks.
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
