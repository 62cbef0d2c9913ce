//! Finds and kills all processes that an agent started, also those that left its process group or lost their parent.
//!
//! Agents run tool shells in sessions of their own, and a process that loses its parent is adopted by the nearest
//! subreaper. Three things still connect such a process with its agent: the tree of parents while it exists, records of
//! that tree from earlier, and a mark in the environment, which a process inherits unless somebody removes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, waitpid};

/// The environment variable that marks an agent and all processes that it starts.
pub(crate) const MARK: &str = "SWITCHBOARD_MARK";

/// Most rounds of searching and killing in one sweep. Each round takes some milliseconds.
const ROUNDS: usize = 100;
const BETWEEN_ROUNDS: Duration = Duration::from_millis(10);

#[derive(Debug)]
struct Process {
    parent: i32,
    zombie: bool,
    started: u64,
}

/// A descendant of an agent: its process id and its start time, since process ids are reused.
pub(crate) type Seen = (i32, u64);

/// The current descendants of an agent. Some remove their mark and lose their parent later.
pub(crate) fn descendants(agent: Pid) -> BTreeSet<Seen> {
    let mut seen = BTreeSet::new();
    let mut unvisited = vec![agent.as_raw_nonzero().get()];
    while let Some(pid) = unvisited.pop() {
        for child in children(pid) {
            if process(child).is_some_and(|process| seen.insert((child, process.started))) {
                unvisited.push(child);
            }
        }
    }
    seen
}

/// Removes processes that have ended from `seen`, and reaps them if this process has adopted them.
pub(crate) fn forget_gone(seen: &mut BTreeSet<Seen>) {
    let own = rustix::process::getpid();
    seen.retain(|(pid, started)| {
        let found = process(*pid).filter(|process| process.started == *started);
        let orphan =
            found.as_ref().is_some_and(|found| found.zombie && found.parent == own.as_raw_nonzero().get());
        if let Some(pid) = Pid::from_raw(*pid).filter(|_| orphan) {
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
        found.is_some_and(|found| !found.zombie)
    });
}

/// Reaps all ended children of this process except `agent`, which its owner reaps. Only for a process whose other
/// children are all adopted.
pub(crate) fn reap_adopted(agent: Option<Pid>) {
    for pid in children(rustix::process::getpid().as_raw_nonzero().get()) {
        let ended = process(pid).is_some_and(|process| process.zombie);
        if let Some(pid) = Pid::from_raw(pid).filter(|pid| ended && Some(*pid) != agent) {
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
    }
}

/// When a process was started, in clock ticks since boot.
pub(crate) fn started(pid: Pid) -> Option<u64> {
    process(pid.as_raw_nonzero().get()).map(|process| process.started)
}

fn children(pid: i32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// Kills an agent's process group, its descendants, the processes in `seen` and all processes with its mark. Reaps the
/// killed processes that this process has adopted, except `agent`, which its owner reaps. Blocks; returns the number of
/// killed processes.
pub(crate) fn kill_tree(agent: Option<Pid>, mark: &str, seen: &BTreeSet<Seen>) -> usize {
    let marked = |found: &[u8]| found == mark.as_bytes();
    sweep(agent, marked, seen)
}

/// Kills processes that agents of earlier gateways on the same data directory left behind: every process whose mark
/// begins with `prefix` and a dot. Blocks for milliseconds; returns the number of killed processes.
///
/// To be called at the start of a gateway that does not resume earlier agents. `prefix` identifies the data directory
/// ([`ProcessConfig::mark_prefix`](super::ProcessConfig::mark_prefix)), so that agents of other gateways are not
/// killed.
pub fn sweep_leftovers(prefix: &str) -> usize {
    let prefix = format!("{prefix}.");
    sweep(None, |mark| mark.starts_with(prefix.as_bytes()), &BTreeSet::new())
}

fn sweep(agent: Option<Pid>, marked: impl Fn(&[u8]) -> bool, seen: &BTreeSet<Seen>) -> usize {
    let own = rustix::process::getpid();
    let mut seen = seen.clone();
    let mut killed = 0;
    for round in 0..ROUNDS {
        let processes = processes();
        let mut left = false;
        for pid in wanted(&processes, agent, own, &marked, &seen) {
            let Some(process) = processes.get(&pid) else { continue };
            let Some(target) = Pid::from_raw(pid) else { continue };
            if process.zombie {
                // Its parent reaps it; only adopted processes are reaped here.
                if process.parent == own.as_raw_nonzero().get() && Some(target) != agent {
                    let _ = waitpid(Some(target), WaitOptions::NOHANG);
                }
                continue;
            }
            left = true;
            if kill_process(target, Signal::KILL).is_ok() {
                killed += usize::from(seen.insert((pid, process.started)));
            }
        }
        if let Some(group) = agent.filter(|_| round == 0) {
            // After the first search, which needs the tree of parents to be whole.
            let _ = kill_process_group(group, Signal::KILL);
        }
        if !left && round > 0 {
            break;
        }
        std::thread::sleep(BETWEEN_ROUNDS);
    }
    killed
}

/// The agent, its descendants, the processes in `seen` and all marked processes, but never this process.
fn wanted(
    processes: &BTreeMap<i32, Process>,
    agent: Option<Pid>,
    own: Pid,
    marked: impl Fn(&[u8]) -> bool,
    seen: &BTreeSet<Seen>,
) -> BTreeSet<i32> {
    let same = |(pid, started): &&Seen| processes.get(pid).is_some_and(|process| process.started == *started);
    let mut wanted: BTreeSet<i32> = seen.iter().filter(same).map(|(pid, _)| *pid).collect();
    wanted.extend(processes.keys().copied().filter(|pid| mark_of(*pid).is_some_and(|mark| marked(&mark))));
    wanted.extend(agent.map(|agent| agent.as_raw_nonzero().get()));
    loop {
        let children =
            processes.iter().filter(|(_, process)| wanted.contains(&process.parent)).map(|(pid, _)| *pid);
        let children: Vec<i32> = children.filter(|pid| !wanted.contains(pid)).collect();
        if children.is_empty() {
            break;
        }
        wanted.extend(children);
    }
    wanted.remove(&own.as_raw_nonzero().get());
    wanted
}

fn processes() -> BTreeMap<i32, Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, process(pid)?))).collect()
}

fn process(pid: i32) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may contain any character, so the fields are counted from the last parenthesis.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let zombie = matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    // Field 22 of proc_pid_stat(5), where `state` is the third.
    let started = fields.nth(17)?.parse().ok()?;
    Some(Process { parent, zombie, started })
}

fn mark_of(pid: i32) -> Option<Vec<u8>> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables = environment.split(|byte| *byte == 0);
    variables
        .find_map(|variable| variable.strip_prefix(MARK.as_bytes())?.strip_prefix(b"=").map(<[u8]>::to_vec))
}
