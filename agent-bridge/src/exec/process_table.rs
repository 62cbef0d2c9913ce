//! Reads the system's process table from `/proc` (proc(5)). On systems without `/proc` every list is empty.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    sync::LazyLock,
};

use rustix::process::Pid;

/// One process of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) parent: i32,
    /// Whether the process has ended and waits for its parent to reap it.
    pub(crate) zombie: bool,
    /// When the process was started, in clock ticks since boot.
    pub(crate) started: u64,
}

/// A process id and the start time of its process, since process ids are reused.
pub(crate) type Seen = (i32, u64);

/// Whether the kernel lists the children of each process (`CONFIG_PROC_CHILDREN`).
static LISTS_CHILDREN: LazyLock<bool> =
    LazyLock::new(|| fs::exists("/proc/thread-self/children").unwrap_or(false));

/// All processes, by process id.
pub(crate) fn all() -> HashMap<i32, Entry> {
    others(&HashMap::new())
}

/// The processes whose ids are not in this table, by process id.
pub(crate) fn others(table: &HashMap<i32, Entry>) -> HashMap<i32, Entry> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let others = pids.filter(|pid| !table.contains_key(pid));
    others.filter_map(|pid| Some((pid, entry(pid)?))).collect()
}

/// One process; `None` if there is no process with this id.
pub(crate) fn entry(pid: i32) -> Option<Entry> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may contain any character, so the fields are counted from the last parenthesis.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let zombie = matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    // Field 22 of proc_pid_stat(5), where `state` is the third.
    let started = fields.nth(17)?.parse().ok()?;
    Some(Entry { parent, zombie, started })
}

/// A process that was seen earlier; `None` if it is gone, also if its id was reused.
pub(crate) fn entry_of((pid, started): Seen) -> Option<Entry> {
    entry(pid).filter(|entry| entry.started == started)
}

/// The children of a process. A child may be missing while others exit, or while its parent does.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    if !*LISTS_CHILDREN {
        return all().into_iter().filter(|(_, entry)| entry.parent == pid).map(|(pid, _)| pid).collect();
    }
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// The descendants of a process that have not ended, and those that have ended but were not reaped yet.
pub(crate) fn descendants(ancestor: Pid) -> BTreeSet<Seen> {
    let mut seen = BTreeSet::new();
    let mut unvisited = vec![ancestor.as_raw_nonzero().get()];
    while let Some(pid) = unvisited.pop() {
        for child in children(pid) {
            if entry(child).is_some_and(|entry| seen.insert((child, entry.started))) {
                unvisited.push(child);
            }
        }
    }
    seen
}

/// When a process was started, in clock ticks since boot.
pub(crate) fn started(pid: Pid) -> Option<u64> {
    entry(pid.as_raw_nonzero().get()).map(|entry| entry.started)
}
