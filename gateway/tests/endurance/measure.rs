//! The resources that a gateway and its agents' hosts use.

use std::{collections::BTreeMap, fs, time::Instant};

use serde_json::Value;

use switchboard_test_support::Gateway;

/// The resources in use at a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) at: Instant,
    /// Resident memory of the gateway, in MiB.
    pub(crate) gateway: f64,
    /// Resident memory of all hosts together, in MiB.
    pub(crate) hosts: f64,
    pub(crate) host_count: usize,
}

impl Sample {
    pub(crate) fn take(gateway: &Gateway) -> Self {
        // A host may end between two reads.
        let hosts: Vec<f64> = hosts(gateway).into_iter().filter_map(resident).collect();
        Self {
            at: Instant::now(),
            gateway: resident(gateway.pid().into()).expect("the gateway runs"),
            hosts: hosts.iter().sum(),
            host_count: hosts.len(),
        }
    }
}

/// The files of one connection to the journal. It has two that read, and opens the second when the first is busy.
const READER_FILES: usize = 2;

/// Resources that the kernel lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Handles {
    /// Open files of the gateway: how many of each kind or name.
    files: BTreeMap<String, usize>,
    /// Threads of the gateway.
    pub(crate) threads: usize,
    /// Hosts of agents.
    pub(crate) hosts: usize,
}

impl Handles {
    pub(crate) fn count(gateway: &Gateway) -> Self {
        let entries = |of: &str| fs::read_dir(format!("/proc/{}/{of}", gateway.pid())).unwrap().flatten();
        let mut files = BTreeMap::new();
        for target in entries("fd").filter_map(|entry| fs::read_link(entry.path()).ok()) {
            let name = target.file_name().unwrap_or_default().to_string_lossy();
            let kind = name.split(':').next().unwrap_or_default().to_owned();
            *files.entry(kind).or_default() += 1;
        }
        Self { files, threads: entries("task").count(), hosts: hosts(gateway).len() }
    }

    pub(crate) fn are_within(&self, before: &Self) -> bool {
        self.journal_files() <= before.journal_files() + READER_FILES
            && self.other_files() <= before.other_files()
            && self.threads <= before.threads
            && self.hosts <= before.hosts
    }

    fn journal_files(&self) -> usize {
        self.files.iter().filter(|(name, _)| name.starts_with("journal.db")).map(|(_, count)| count).sum()
    }

    fn other_files(&self) -> usize {
        self.files.values().sum::<usize>() - self.journal_files()
    }
}

/// CPU time that the gateway and the hosts that run now have used, in seconds: without agents.
pub(crate) fn cpu_seconds(gateway: &Gateway) -> f64 {
    let processes = hosts(gateway).into_iter().chain([gateway.pid().into()]);
    processes.filter_map(cpu_of).sum()
}

/// CPU time of a process, in seconds; none if it has gone.
fn cpu_of(pid: u64) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold anything, the 12th and 13th field are the times in user and in kernel mode.
    let fields = stat.rsplit_once(')')?.1.split_whitespace();
    let ticks = fields.skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap());
    Some(ticks.sum::<f64>() / rustix::param::clock_ticks_per_second() as f64)
}

/// The processes of hosts that run.
fn hosts(gateway: &Gateway) -> Vec<u64> {
    let folders = fs::read_dir(gateway.path("data/hosts")).into_iter().flatten().flatten();
    let pids = folders.filter_map(|folder| {
        let card: Value = serde_json::from_slice(&fs::read(folder.path().join("host.json")).ok()?).ok()?;
        card["pid"].as_u64()
    });
    pids.filter(|pid| resident(*pid).is_some()).collect()
}

/// Resident memory of a process, in MiB; none if it has gone.
pub(crate) fn resident(pid: u64) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<f64>().ok()? / 1024.0)
}

/// By how much `y` grows for each 1 of `x`: the slope of the line with the least squares.
pub(crate) fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let covariance: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let variance: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    covariance / variance
}

#[test]
fn a_slope_is_that_of_the_line() {
    let line: Vec<(f64, f64)> = (0..10).map(|x| (f64::from(x), 3.0 * f64::from(x) + 7.0)).collect();
    assert!((slope(&line) - 3.0).abs() < 1e-9);
    // The slope of values that rise and fall is about 0.
    let noise: Vec<(f64, f64)> = (0..1001).map(|x| (f64::from(x), f64::from(x % 2))).collect();
    assert!(slope(&noise).abs() < 1e-6);
}
