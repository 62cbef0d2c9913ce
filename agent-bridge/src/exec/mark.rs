//! The mark of an agent, by which all processes that it started are found, also those that lost their parent and left
//! its process group.
//!
//! A process inherits the mark in two ways: as an environment variable, and as a number in a resource limit. Programs
//! that start others with an empty environment remove the variable. The limit is `RLIMIT_LOCKS`, which Linux has not
//! enforced since version 2.4.25 (getrlimit(2)), so that its value has no effect. Children inherit it over `fork` and
//! `exec`, and no known program sets it. A process that does both, on purpose, is found only below its agent or by a
//! host, whose descendants cannot leave it.

use std::fs;

use rustix::process::Pid;

/// The environment variable that marks an agent and all processes that it starts.
pub(crate) const MARK: &str = "SWITCHBOARD_MARK";

/// Separates the part that all marks of a data directory have in common from the agent's own part.
const SEPARATOR: char = '.';

/// Every number has this bit, and no higher one: no limit is as great by chance.
const NUMBER: u64 = 1 << 62;
/// Bits of a number that identify the agent; the 24 bits above them identify the data directory.
const AGENT_BITS: u32 = 38;

/// A mark to search for: that of one agent, or the first part of those of all agents of a data directory.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    text: String,
    /// Bits of numbers that are not compared.
    ignored: u32,
    number: u64,
}

/// The mark that one process bears.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Variable(Vec<u8>),
    Number(u64),
}

impl Mark {
    /// The mark of one agent.
    pub(crate) fn agent(mark: &str) -> Self {
        Self { text: mark.to_owned(), ignored: 0, number: number_of(mark) }
    }

    /// All marks with this first part.
    pub(crate) fn prefix(prefix: &str) -> Self {
        Self { text: make(prefix, ""), ignored: AGENT_BITS, number: number_of(prefix) >> AGENT_BITS }
    }

    /// Whether a process with this mark is searched for.
    pub(super) fn matches(&self, found: &Found) -> bool {
        match found {
            Found::Variable(found) if self.ignored == 0 => found == self.text.as_bytes(),
            Found::Variable(found) => found.starts_with(self.text.as_bytes()),
            Found::Number(found) => found >> self.ignored == self.number,
        }
    }
}

/// Makes a mark from the part that all marks of a data directory have in common, and the agent's own part.
pub(crate) fn make(prefix: &str, own: &str) -> String {
    format!("{prefix}{SEPARATOR}{own}")
}

/// Sets the number of an agent that was just started with `mark` in its environment. A process that the agent starts
/// before this call has only the variable.
pub(super) fn set_number(agent: Pid, mark: &str) {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, prlimit};

        let maximum = getrlimit(Resource::Locks).maximum;
        let limit = Rlimit { current: Some(number_of(mark)), maximum };
        if let Err(error) = prlimit(Some(agent), Resource::Locks, limit) {
            tracing::debug!(%error, "an agent is marked by its environment only");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (agent, mark);
}

/// The mark of a process; `None` if it bears none. Where the environment may not be read, as that of another user's
/// process or of one that forbids to be dumped (prctl(2), `PR_SET_DUMPABLE`), the number counts alone.
pub(super) fn of(pid: i32) -> Option<Found> {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let mut variables = environment.split(|byte| *byte == 0);
    let variable = variables.find_map(|variable| variable.strip_prefix(MARK.as_bytes())?.strip_prefix(b"="));
    match variable {
        Some(variable) => Some(Found::Variable(variable.to_vec())),
        None => limit_of(pid).filter(|limit| *limit & !(NUMBER - 1) == NUMBER).map(Found::Number),
    }
}

/// The soft limit `RLIMIT_LOCKS` of a process; `None` if it is unlimited, as for a process without a mark.
fn limit_of(pid: i32) -> Option<u64> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max file locks"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The number for a mark, or for the first part of marks.
fn number_of(mark: &str) -> u64 {
    let prefix = mark.split_once(SEPARATOR).map_or(mark, |(prefix, _)| prefix);
    let directory = hash(prefix) >> 40 << AGENT_BITS;
    let agent = hash(mark) & ((1 << AGENT_BITS) - 1);
    NUMBER | directory | agent
}

/// FNV-1a, since a later version of the gateway must compute the same numbers.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_by_either_sign() {
        let number = |mark: &str| Found::Number(number_of(mark));
        let variable = |mark: &str| Found::Variable(mark.into());
        for found in [number("data-1.0123"), variable("data-1.0123")] {
            assert!(Mark::agent("data-1.0123").matches(&found));
            assert!(Mark::prefix("data-1").matches(&found));
            for other in [Mark::agent("data-1.0124"), Mark::prefix("data-10"), Mark::prefix("data-")] {
                assert!(!other.matches(&found), "{other:?}");
            }
        }
    }

    #[test]
    fn later_versions_compute_the_same_numbers() {
        assert_eq!(number_of("data-1.0123"), 0x7c4b_53c6_0daf_0cc3);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_with_an_empty_environment_bears_the_number() {
        let mut child = std::process::Command::new("cat")
            .env_clear()
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        assert_eq!(of(pid.as_raw_nonzero().get()), None);
        set_number(pid, "data-1.0123");
        assert_eq!(of(pid.as_raw_nonzero().get()), Some(Found::Number(number_of("data-1.0123"))));
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
