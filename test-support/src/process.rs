//! The processes of a gateway, found in `/proc`.

use std::{fs, path::Path};

use rustix::process::{Pid, Signal, kill_process};

/// The environment variable that marks the processes of one test. Hosts and agents inherit variables with this prefix.
pub const MARK: &str = "CLAUDE_TEST_MARK";

/// The processes with this value of [`MARK`] in their environment, without zombies.
pub fn with_mark(mark: &str) -> Vec<Pid> {
    let variable = format!("{MARK}={mark}");
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    let is_marked = |pid: &Pid| {
        // Empty for a zombie.
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|own| own == variable.as_bytes())
    };
    pids.filter(is_marked).collect()
}

/// The running agent hosts of a data directory. The environment of a host may be hidden from other processes.
pub fn hosts(data_dir: &Path) -> Vec<Pid> {
    let entries = fs::read_dir(data_dir.join("hosts")).into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| {
        let description = fs::read(entry.path().join("host.json")).ok()?;
        let description: serde_json::Value = serde_json::from_slice(&description).ok()?;
        Pid::from_raw(i32::try_from(description["pid"].as_i64()?).ok()?)
    });
    pids.filter(|pid| arguments(*pid).get(1).is_some_and(|word| word == "agent-host")).collect()
}

/// The command line of a process; empty for a zombie and for a process that does not exist.
pub fn arguments(pid: Pid) -> Vec<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// Sends a signal to a process if it exists.
pub fn signal(pid: Pid, signal: Signal) {
    let _ = kill_process(pid, signal);
}

/// The events for which this process has registered a descriptor with `epoll`, as flags: once for each `epoll` descriptor
/// (proc(5), `fdinfo`).
pub fn epoll_interests(descriptor: i32) -> Vec<u32> {
    let of = |line: &str| {
        let mut words = line.strip_prefix("tfd:")?.split_whitespace();
        let is_meant = words.next()?.parse() == Ok(descriptor);
        u32::from_str_radix(words.nth(1)?, 16).ok().filter(|_| is_meant)
    };
    let descriptors = fs::read_dir("/proc/self/fdinfo").unwrap();
    // Other tests open and close descriptors meanwhile.
    let read = descriptors.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    read.flat_map(|text| text.lines().filter_map(of).collect::<Vec<_>>()).collect()
}
