//! Finding and ending everything that an agent started, also what left its group and its parents.
//!
//! Agents put tool shells in sessions of their own, and what loses its parent is adopted by whoever is the
//! subreaper. Two things still tell whose it is: the tree of parents while it stands, and a mark in the
//! environment that every process inherits.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, waitpid};

/// The environment variable that marks an agent and what it starts.
pub(super) const MARK: &str = "SWITCHBOARD_MARK";

/// Rounds of looking and killing before a sweep gives up; each takes a few milliseconds.
const ROUNDS: usize = 100;
const BETWEEN_ROUNDS: Duration = Duration::from_millis(10);

#[derive(Debug)]
struct Process {
    parent: i32,
    zombie: bool,
}

/// Kills an agent's group, its descendants and whatever bears its mark, and reaps those of them that this
/// process has adopted, except `agent` itself, which its owner reaps. Blocks; returns how many were killed.
pub(super) fn kill_tree(agent: Option<Pid>, mark: &str) -> usize {
    let marked = |found: &[u8]| found == mark.as_bytes();
    sweep(agent, marked)
}

/// Ends what agents of earlier lives of this gateway left behind: every process with a mark that begins with
/// `prefix` and a dot. Blocks for milliseconds; returns how many were killed.
///
/// For the start of a gateway that does not take up its earlier agents. `prefix` names its data directory, so
/// that the agents of another gateway are left alone.
pub fn sweep_leftovers(prefix: &str) -> usize {
    let prefix = format!("{prefix}.");
    sweep(None, |mark| mark.starts_with(prefix.as_bytes()))
}

fn sweep(agent: Option<Pid>, marked: impl Fn(&[u8]) -> bool) -> usize {
    let own = rustix::process::getpid();
    let mut killed = BTreeSet::new();
    for round in 0..ROUNDS {
        let processes = processes();
        let mut left = false;
        for pid in wanted(&processes, agent, own, &marked, &killed) {
            let Some(process) = processes.get(&pid) else { continue };
            let Some(target) = Pid::from_raw(pid) else { continue };
            if process.zombie {
                // Reaped by whoever its parent is; by nobody but us if it was adopted.
                if process.parent == own.as_raw_nonzero().get() && Some(target) != agent {
                    let _ = waitpid(Some(target), WaitOptions::NOHANG);
                }
                continue;
            }
            left = true;
            if kill_process(target, Signal::KILL).is_ok() {
                killed.insert(pid);
            }
        }
        if let Some(group) = agent.filter(|_| round == 0) {
            // After the first look, which needs the tree of parents to be whole.
            let _ = kill_process_group(group, Signal::KILL);
        }
        if !left && round > 0 {
            break;
        }
        std::thread::sleep(BETWEEN_ROUNDS);
    }
    killed.len()
}

/// The agent, its descendants, and what is marked; never this process.
fn wanted(
    processes: &BTreeMap<i32, Process>,
    agent: Option<Pid>,
    own: Pid,
    marked: impl Fn(&[u8]) -> bool,
    killed: &BTreeSet<i32>,
) -> BTreeSet<i32> {
    let mut wanted: BTreeSet<i32> = killed.iter().copied().filter(|pid| processes.contains_key(pid)).collect();
    wanted.extend(processes.keys().copied().filter(|pid| mark_of(*pid).is_some_and(|mark| marked(&mark))));
    wanted.extend(agent.map(|agent| agent.as_raw_nonzero().get()));
    loop {
        let children = processes.iter().filter(|(_, process)| wanted.contains(&process.parent)).map(|(pid, _)| *pid);
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
    // The name is in parentheses and may hold any character, so what counts comes after the last one.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let zombie = matches!(fields.next()?, "Z" | "X");
    Some(Process { parent: fields.next()?.parse().ok()?, zombie })
}

fn mark_of(pid: i32) -> Option<Vec<u8>> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables = environment.split(|byte| *byte == 0);
    variables.find_map(|variable| variable.strip_prefix(MARK.as_bytes())?.strip_prefix(b"=").map(<[u8]>::to_vec))
}
