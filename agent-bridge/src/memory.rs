//! Keeping what is in a process's memory to itself.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Keeps the memory of this process out of core dumps and, on Linux, away from other processes of its user, which then
/// cannot read it, nor its environment and descriptors, through `/proc`. Programs that it starts are no longer kept so,
/// except that they inherit the soft limit of core dumps, which they may raise.
///
/// # Errors
/// If the system refuses.
pub fn keep_memory_private() -> io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Core);
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum })?;
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}
