//! Every limit of this crate, with its unit.

use std::time::Duration;

/// The limits on one agent process. The defaults suit every agent that was measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeLimits {
    /// Longest record: one line of the agent's output, in bytes without its newline. A longer one ends the run.
    pub record_bytes: usize,
    /// Most that is taken from the agent's pipe at once, in bytes; what arrives together is decoded together.
    pub read_bytes: usize,
    /// Lines of the agent's standard error that are kept for the log.
    pub stderr_lines: usize,
    /// Longest line of standard error that is kept, in bytes; the rest of it is dropped.
    pub stderr_line_bytes: usize,
    /// A started agent has this long to answer its first request.
    pub start: Duration,
    /// A stopping agent has this long to exit after its input was closed.
    pub stop_eof: Duration,
    /// And then this long after SIGTERM, before it is killed with everything that it started.
    pub stop_term: Duration,
    /// An agent that closed its output has this long to exit.
    pub closed_output: Duration,
    /// What is left in the pipe of an agent that exited is read until it is silent for this long.
    pub drain: Duration,
    /// First delay after a failed start; it doubles with each further failure.
    pub backoff_first: Duration,
    /// Longest delay after failed starts.
    pub backoff_longest: Duration,
}

impl Default for BridgeLimits {
    fn default() -> Self {
        Self {
            record_bytes: 8 * 1024 * 1024,
            read_bytes: 256 * 1024,
            stderr_lines: 50,
            stderr_line_bytes: 2 * 1024,
            start: Duration::from_secs(60),
            stop_eof: Duration::from_secs(10),
            stop_term: Duration::from_secs(3),
            closed_output: Duration::from_secs(1),
            drain: Duration::from_millis(250),
            backoff_first: Duration::from_millis(250),
            backoff_longest: Duration::from_secs(15),
        }
    }
}

/// Longest result of a tool in an event, in bytes; the rest is cut and marked.
pub(crate) const TOOL_RESULT_BYTES: usize = 64 * 1024;
/// Longest diff of one file in an event, in bytes; a longer one is left out.
pub(crate) const DIFF_BYTES: usize = 16 * 1024;
/// Longest text on either side of an edit that is compared line by line, in bytes.
pub(crate) const DIFF_INPUT_BYTES: usize = 256 * 1024;
/// Longest sentence of a `TurnError`, in bytes.
pub(crate) const DETAIL_BYTES: usize = 500;
/// Longest input of a tool that is put together from pieces, in bytes.
pub(crate) const TOOL_INPUT_BYTES: usize = 1024 * 1024;
/// Most uses of tools that a codec remembers within one turn.
pub(crate) const TOOLS: usize = 4096;
/// Most requests of an agent that are open at once; further ones are refused.
pub(crate) const REQUESTS: usize = 256;
/// Most blocks of one message that a codec remembers.
pub(crate) const BLOCKS: usize = 4096;
