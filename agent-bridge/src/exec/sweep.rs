//! Kills all processes that an agent started, also those that left its process group or lost their parent.
//!
//! A host is a child subreaper and starts nothing but its agent: whatever the agent starts stays below the host, and
//! [`kill_children`] leaves nothing of it. A gateway without hosts has the processes of many agents below it, and the
//! processes of a dead host may be anywhere. These are found in the process table: by the tree of parents while it
//! exists, by records of that tree from earlier, and by the agent's mark.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

#[cfg(target_os = "linux")]
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
use rustix::{
    io::Errno,
    process::{
        Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process, kill_process_group, waitid, waitpid,
    },
};
use tokio::sync::oneshot;

use super::{
    mark::{self, Mark},
    process_table::{self, Entry, Seen},
};

/// Most rounds of searching and killing for one agent. Each round takes some milliseconds.
const ROUNDS: usize = 100;
/// Delay between two rounds, for killed processes to exit.
const BETWEEN_ROUNDS: Duration = Duration::from_millis(5);

/// Most lists of new processes in one round, while other programs start processes all the time.
const LISTS_OF_NEW: usize = 20;

/// How long the processes below a host may resist. Some cannot be killed while they wait for a device.
const BELOW_A_HOST: Duration = Duration::from_secs(3);
/// Rounds without a delay between them, for processes that exit as soon as they have started another one.
const QUICK_ROUNDS: usize = 50;

/// What to kill: the processes of one agent, or of all agents of a data directory.
#[derive(Debug)]
pub(crate) struct Target {
    /// The mark of the processes.
    pub(crate) mark: Mark,
    /// The agent, which its owner reaps. Its process group and its descendants are killed as well.
    pub(crate) agent: Option<Seen>,
    /// Descendants of the agent from earlier.
    pub(crate) seen: BTreeSet<Seen>,
}

impl Target {
    /// All processes with a mark.
    pub(crate) fn marked(mark: Mark) -> Self {
        Self { mark, agent: None, seen: BTreeSet::new() }
    }
}

/// A target of which processes may be left.
struct Sweep {
    target: Target,
    killed: Killed,
    rounds: usize,
    done: Option<oneshot::Sender<usize>>,
}

impl Sweep {
    fn new(target: Target, done: Option<oneshot::Sender<usize>>) -> Self {
        Self { target, killed: Killed::default(), rounds: 0, done }
    }
}

/// The processes that several searches have killed.
#[derive(Default)]
struct Killed {
    processes: BTreeSet<Seen>,
    /// Whether it was logged that a process may not be killed.
    has_warned: bool,
}

impl Killed {
    /// Kills a process. Returns whether to search for it again, which is in vain if this process may not kill it.
    fn kill(&mut self, process: Seen) -> bool {
        match kill_seen(process, Signal::KILL) {
            Ok(()) => {
                self.processes.insert(process);
            }
            Err(Errno::PERM) => {
                if !std::mem::replace(&mut self.has_warned, true) {
                    let (pid, _) = process;
                    tracing::warn!(pid, "a process of an agent belongs to another user and goes on");
                }
                return false;
            }
            Err(_) => {}
        }
        true
    }
}

/// Sends a signal to a process that was seen earlier, and to no later one with the same id.
fn kill_seen(process: Seen, signal: Signal) -> Result<(), Errno> {
    let pid = Pid::from_raw(process.0).ok_or(Errno::SRCH)?;
    // Opened before the comparison: the descriptor stays that of the process that is compared.
    #[cfg(target_os = "linux")]
    let descriptor = pidfd_open(pid, PidfdFlags::empty());
    if process_table::entry_of(process).is_none() {
        return Err(Errno::SRCH);
    }
    #[cfg(target_os = "linux")]
    if let Ok(descriptor) = descriptor {
        return pidfd_send_signal(descriptor, signal);
    }
    kill_process(pid, signal)
}

/// Sweeps that have not begun, and whether a thread is there to begin them.
struct Shared {
    waiting: Vec<Sweep>,
    running: bool,
}

static SHARED: Mutex<Shared> = Mutex::new(Shared { waiting: Vec::new(), running: false });

/// Kills the processes of a target, in a thread of its own. Whatever is requested at about the same time shares each
/// search. The receiver gets the number of killed processes when none is left.
pub(crate) fn request(target: Target) -> oneshot::Receiver<usize> {
    let (done, receiver) = oneshot::channel();
    let mut shared = shared();
    shared.waiting.push(Sweep::new(target, Some(done)));
    if !shared.running {
        match thread::Builder::new().name("agent-sweeper".into()).spawn(sweep_shared) {
            Ok(_) => shared.running = true,
            Err(error) => {
                tracing::error!(%error, "what agents left cannot be searched for");
                shared.waiting.clear();
            }
        }
    }
    receiver
}

fn shared() -> MutexGuard<'static, Shared> {
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets the next request start another thread if the sweeping thread panics. Requests that wait are given up.
struct ResetOnPanic;

impl Drop for ResetOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            let mut shared = shared();
            shared.running = false;
            shared.waiting.clear();
        }
    }
}

fn sweep_shared() {
    let _reset = ResetOnPanic;
    let mut sweeps = Vec::new();
    loop {
        {
            let mut shared = shared();
            sweeps.append(&mut shared.waiting);
            if sweeps.is_empty() {
                shared.running = false;
                return;
            }
        }
        round(&mut sweeps, process_table::all);
        if !sweeps.is_empty() {
            thread::sleep(BETWEEN_ROUNDS);
        }
    }
}

/// Kills the processes of several targets. Blocks for milliseconds; returns the number of killed processes.
pub(crate) fn sweep(targets: impl IntoIterator<Item = Target>) -> usize {
    let mut sweeps: Vec<Sweep> = targets.into_iter().map(|target| Sweep::new(target, None)).collect();
    let mut killed = 0;
    while !sweeps.is_empty() {
        killed += round(&mut sweeps, process_table::all);
        if !sweeps.is_empty() {
            thread::sleep(BETWEEN_ROUNDS);
        }
    }
    killed
}

/// Kills processes that agents of earlier gateways on the same data directory left behind: every process whose mark
/// begins with `prefix` and a dot. Blocks for milliseconds; returns the number of killed processes.
///
/// To be called at the start of a gateway that does not resume earlier agents. `prefix` identifies the data directory
/// ([`ProcessConfig::mark_prefix`](crate::ProcessConfig::mark_prefix)), so that agents of other gateways are not
/// killed.
pub fn sweep_leftovers(prefix: &str) -> usize {
    sweep([Target::marked(Mark::prefix(prefix))])
}

/// Searches once for all sweeps, in the process table that `list` gives, and kills what it finds. Removes the sweeps of which nothing was found, which are done;
/// returns how many processes these have killed.
fn round(sweeps: &mut Vec<Sweep>, mut list: impl FnMut() -> HashMap<i32, Entry>) -> usize {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let mut table = list();
    let mut left = kill_found(&table, own, sweeps);
    // A process may start another one and exit before the search comes to it. The new one is looked at at once, while it
    // has no time to do the same.
    for _ in 0..LISTS_OF_NEW {
        let new = process_table::others(&table);
        if new.is_empty() {
            break;
        }
        let left_of_new = kill_found(&new, own, sweeps);
        left.iter_mut().zip(left_of_new).for_each(|(left, new)| *left |= new);
        table.extend(new);
    }
    let mut killed = 0;
    let mut left = left.into_iter();
    sweeps.retain_mut(|sweep| {
        let left = left.next().unwrap_or_default();
        if sweep.rounds == 0
            && let Some((agent, started)) = sweep.target.agent
            && table.get(&agent).is_none_or(|entry| entry.started == started)
            && let Some(group) = Pid::from_raw(agent)
        {
            // After the first search, which needs the tree of parents to be whole.
            let _ = kill_process_group(group, Signal::KILL);
        }
        sweep.rounds += 1;
        if left && sweep.rounds < ROUNDS {
            return true;
        }
        if left {
            tracing::error!("processes of an agent cannot be killed");
        }
        killed += sweep.killed.processes.len();
        if let Some(done) = sweep.done.take() {
            let _ = done.send(sweep.killed.processes.len());
        }
        false
    });
    killed
}

/// Kills all processes in a table that belong to sweeps. Returns for each sweep whether to search for it again.
fn kill_found(table: &HashMap<i32, Entry>, own: i32, sweeps: &mut [Sweep]) -> Vec<bool> {
    let mut left = vec![false; sweeps.len()];
    // Agents first, then the oldest, so that no shell reports that its child was killed.
    let mut found: Vec<(i32, usize)> = owners(table, own, sweeps).into_iter().collect();
    found.sort_unstable_by_key(|(pid, owner)| {
        let is_agent = sweeps[*owner].target.agent.is_some_and(|(agent, _)| agent == *pid);
        (!is_agent, table.get(pid).map(|entry| entry.started), *pid)
    });
    for (pid, owner) in found {
        let Some(entry) = table.get(&pid) else { continue };
        let sweep = &mut sweeps[owner];
        if entry.zombie {
            // Its parent reaps it; only adopted processes are reaped here.
            if entry.parent == own && sweep.target.agent.is_none_or(|(agent, _)| agent != pid) {
                let _ = waitpid(Pid::from_raw(pid), WaitOptions::NOHANG);
            }
            continue;
        }
        left[owner] |= sweep.killed.kill((pid, entry.started));
    }
    left
}

/// The sweep to which each process belongs, by process id; never this process.
fn owners(table: &HashMap<i32, Entry>, own: i32, sweeps: &[Sweep]) -> HashMap<i32, usize> {
    let mut owners = HashMap::new();
    for (number, Sweep { target, killed, .. }) in sweeps.iter().enumerate() {
        let same = |(pid, started): &&Seen| table.get(pid).is_some_and(|entry| entry.started == *started);
        let seen = target.agent.iter().chain(&target.seen).chain(&killed.processes);
        owners.extend(seen.filter(same).map(|(pid, _)| (*pid, number)));
    }
    for pid in table.keys() {
        if !owners.contains_key(pid)
            && let Some(found) = mark::of(*pid)
            && let Some(number) = sweeps.iter().position(|sweep| sweep.target.mark.matches(&found))
        {
            owners.insert(*pid, number);
        }
    }
    owners.remove(&own);
    loop {
        let children = table.iter().filter(|(pid, _)| **pid != own && !owners.contains_key(*pid));
        let children: Vec<(i32, usize)> =
            children.filter_map(|(pid, entry)| Some((*pid, *owners.get(&entry.parent)?))).collect();
        if children.is_empty() {
            return owners;
        }
        owners.extend(children);
    }
}

/// Kills everything below this process until no child is left, and reaps the children. Blocks; returns the number of
/// killed processes. Only for a process that starts nothing but its agent, after the agent was reaped.
///
/// That no child is left is what the kernel says, and no search: where this process is a child subreaper, nothing of
/// the agent is left then.
pub(crate) fn kill_children() -> usize {
    let own = rustix::process::getpid();
    let deadline = Instant::now() + BELOW_A_HOST;
    let mut killed = Killed::default();
    for round in 0.. {
        kill_all(process_table::descendants(own), &mut killed);
        reap_children(None);
        if !has_children() {
            break;
        }
        if Instant::now() >= deadline {
            tracing::error!("processes of an agent cannot be killed");
            break;
        }
        if round < QUICK_ROUNDS {
            thread::yield_now();
        } else {
            thread::sleep(BETWEEN_ROUNDS);
        }
    }
    killed.processes.len()
}

/// Kills other processes with everything below them. Blocks; returns the number of killed processes. Complete for child
/// subreapers, whatever they do meanwhile, also if they are stopped.
pub(crate) fn kill_with_descendants(ancestors: &[Seen]) -> usize {
    // While an ancestor is stopped, it starts and reaps nothing, and adopts whatever loses its parent.
    let mut left = ancestors.to_vec();
    left.retain(|ancestor| kill_seen(*ancestor, Signal::STOP).is_ok());
    let deadline = Instant::now() + BELOW_A_HOST;
    let mut killed = Killed::default();
    loop {
        left.retain(|ancestor| {
            let below = Pid::from_raw(ancestor.0).map(process_table::descendants).unwrap_or_default();
            // Compared after the search, which may have found the descendants of a later process with the same id.
            if process_table::entry_of(*ancestor).is_none() {
                return false;
            }
            let is_left = kill_all(below, &mut killed);
            if !is_left {
                let _ = kill_seen(*ancestor, Signal::KILL);
            }
            is_left
        });
        if left.is_empty() || Instant::now() >= deadline {
            break;
        }
        thread::sleep(BETWEEN_ROUNDS);
    }
    for ancestor in left {
        tracing::error!("processes of an agent cannot be killed");
        let _ = kill_seen(ancestor, Signal::KILL);
    }
    killed.processes.len()
}

/// Kills processes. Returns whether to search again: some had not ended.
fn kill_all(processes: BTreeSet<Seen>, killed: &mut Killed) -> bool {
    let mut is_left = false;
    for process in processes {
        if process_table::entry_of(process).is_some_and(|entry| !entry.zombie) {
            is_left |= killed.kill(process);
        }
    }
    is_left
}

/// Whether this process has children, ended ones included.
pub(crate) fn has_children() -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::All, options), Err(Errno::CHILD))
}

/// Reaps all ended children of this process except `agent`, which its owner reaps. Only for a process whose other
/// children are all adopted.
pub(crate) fn reap_children(agent: Option<Pid>) {
    for pid in process_table::children(rustix::process::getpid().as_raw_nonzero().get()) {
        let ended = process_table::entry(pid).is_some_and(|entry| entry.zombie);
        if let Some(pid) = Pid::from_raw(pid).filter(|pid| ended && Some(*pid) != agent) {
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
    }
}

/// Removes processes that have ended from `seen`, and reaps them if this process has adopted them.
pub(crate) fn forget_gone(seen: &mut BTreeSet<Seen>) {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    seen.retain(|process| {
        let found = process_table::entry_of(*process);
        let orphan = found.is_some_and(|found| found.zombie && found.parent == own);
        if let Some(pid) = Pid::from_raw(process.0).filter(|_| orphan) {
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
        found.is_some_and(|found| !found.zombie)
    });
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::exec::mark::MARK;

    /// A process without a mark in a group of its own, which ends when its input does.
    fn unmarked() -> (Child, Seen) {
        use std::os::unix::process::CommandExt;

        let mut command = Command::new("cat");
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .env_remove(MARK)
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        (child, (pid.as_raw_nonzero().get(), process_table::started(pid).unwrap()))
    }

    fn target(agent: Option<Seen>, seen: BTreeSet<Seen>) -> Target {
        Target { mark: Mark::agent("nobody-1.0123"), agent, seen }
    }

    #[test]
    fn a_later_process_with_the_id_of_a_dead_one_lives() {
        let (mut child, (pid, started)) = unmarked();
        let earlier = (pid, started - 1);
        assert_eq!(sweep([target(Some(earlier), BTreeSet::from([earlier]))]), 0);
        assert_eq!(kill_with_descendants(&[earlier]), 0);
        assert_eq!(kill_seen(earlier, Signal::KILL), Err(Errno::SRCH));
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success(), "no signal has reached it");
    }

    #[test]
    fn an_agent_is_killed_that_is_still_the_same() {
        let (mut child, agent) = unmarked();
        assert_eq!(sweep([target(Some(agent), BTreeSet::new())]), 1);
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn one_list_of_processes_serves_all_stops_of_a_moment() {
        let children: Vec<(Child, Seen)> = (0..5).map(|_| unmarked()).collect();
        let stop = |(_, agent): &(Child, Seen)| Sweep::new(target(Some(*agent), BTreeSet::new()), None);
        let (mut sweeps, mut lists) = (children.iter().map(stop).collect(), 0);
        round(&mut sweeps, || {
            lists += 1;
            process_table::all()
        });
        for (mut child, _) in children {
            assert!(!child.wait().unwrap().success(), "it is killed");
        }
        assert_eq!(lists, 1);
    }

    #[test]
    fn a_panic_does_not_hold_up_later_requests() {
        shared().running = true;
        let waits = request(target(None, BTreeSet::new()));
        let panicked = thread::spawn(|| {
            let _reset = ResetOnPanic;
            panic!("as if a search had panicked");
        });
        assert!(panicked.join().is_err());
        assert!(waits.blocking_recv().is_err(), "it is given up");
        assert_eq!(request(target(None, BTreeSet::new())).blocking_recv(), Ok(0));
    }
}
