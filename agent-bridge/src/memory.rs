//! Protects a process's memory from other processes.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Excludes this process's memory from core dumps. On Linux, it also stops other processes of the same user from
/// reading this process's memory, environment and descriptors through `/proc`. Programs that this process starts are
/// not protected, but inherit the soft limit of zero on core dumps, which they may raise.
///
/// # Errors
/// If the system refuses one of the settings.
pub fn keep_memory_private() -> io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Core);
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum })?;
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}
