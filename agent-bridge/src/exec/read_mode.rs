//! How the task that reads a process's output treats it.

/// How output is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ReadMode {
    Live,
    /// The agent has exited: read the rest of the output. Other processes may still keep the pipe open.
    Drain,
    /// Discard the records, and read only so that the agent does not block.
    Discard,
}
