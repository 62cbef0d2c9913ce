//! The CPU time of a measured server, as the scheduler counts it: user and system time, in nanoseconds.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// The CPU time of each thread of a server, at one moment.
pub(crate) struct CpuTime {
    /// Nanoseconds by thread id.
    threads: HashMap<u32, u64>,
}

impl CpuTime {
    /// The CPU time of a process and of its descendants that run the same program: of a gateway and its hosts, without
    /// the agents.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let mut time = Self { threads: HashMap::new() };
        time.add(pid, &program_of(pid)?)?;
        if time.threads.is_empty() {
            return Err(io::Error::other("the kernel does not say how much CPU time a thread has used"));
        }
        Ok(time)
    }

    fn add(&mut self, pid: u32, program: &Path) -> io::Result<()> {
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let thread = thread?;
            // A thread that has ended since the directory was read is not counted.
            let Ok(schedstat) = fs::read_to_string(thread.path().join("schedstat")) else { continue };
            let Ok(children) = fs::read_to_string(thread.path().join("children")) else { continue };
            let id = thread.file_name().to_string_lossy().parse().map_err(io::Error::other)?;
            let on_cpu = schedstat.split_whitespace().next().unwrap_or_default();
            self.threads.insert(id, on_cpu.parse().map_err(io::Error::other)?);
            for child in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
                if program_of(child).is_ok_and(|its| its == program) {
                    self.add(child, program)?;
                }
            }
        }
        Ok(())
    }

    /// The CPU time used since `earlier`, except by threads that have ended since.
    pub(crate) fn since(&self, earlier: &Self) -> Duration {
        let used = |(id, now): (&u32, &u64)| now - earlier.threads.get(id).copied().unwrap_or(0).min(*now);
        Duration::from_nanos(self.threads.iter().map(used).sum())
    }
}

fn program_of(pid: u32) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time<const N: usize>(threads: [(u32, u64); N]) -> CpuTime {
        CpuTime { threads: threads.into() }
    }

    #[test]
    fn threads_that_ended_or_began_meanwhile_are_no_negative_time() {
        let earlier = time([(1, 100), (2, 50)]);
        let later = time([(1, 130), (3, 7)]);
        assert_eq!(later.since(&earlier), Duration::from_nanos(37));
    }

    #[test]
    fn a_process_has_used_cpu_time() {
        let time = CpuTime::of(std::process::id()).unwrap();
        assert!(time.threads.values().sum::<u64>() > 0);
    }
}
