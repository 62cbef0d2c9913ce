//! Every limit of this crate, with its unit.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The limits on one agent process. The defaults suit every agent that was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BridgeLimits {
    /// Longest record: one line of the agent's output, in bytes without its newline. A longer one ends the run.
    pub record_bytes: usize,
    /// Most that is taken from the agent's pipe at once, in bytes; what arrives together is decoded together.
    pub read_bytes: usize,
    /// Most that waits to be written to an agent, in bytes. One that lets more come is killed.
    pub input_bytes: usize,
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
    /// The limits on each agent host.
    pub host: HostLimits,
}

impl BridgeLimits {
    /// Longest record below a host, in bytes: four must fit into its spool, or there might never be room for another.
    pub(crate) fn spooled_record_bytes(&self) -> usize {
        let quarter = usize::try_from(self.host.spool_bytes / 4).unwrap_or(usize::MAX);
        self.record_bytes.min(quarter)
    }
}

impl Default for BridgeLimits {
    fn default() -> Self {
        Self {
            record_bytes: 8 * 1024 * 1024,
            read_bytes: 256 * 1024,
            input_bytes: 8 * 1024 * 1024,
            stderr_lines: 50,
            stderr_line_bytes: 2 * 1024,
            start: Duration::from_secs(60),
            stop_eof: Duration::from_secs(10),
            stop_term: Duration::from_secs(3),
            closed_output: Duration::from_secs(1),
            drain: Duration::from_millis(250),
            backoff_first: Duration::from_millis(250),
            backoff_longest: Duration::from_secs(15),
            host: HostLimits::default(),
        }
    }
}

/// The limits on one agent host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostLimits {
    /// When the spool holds this many bytes, the agent's output is not read until some of it is trimmed. A record
    /// longer than a quarter of it is too long, whatever [`BridgeLimits::record_bytes`] says.
    pub spool_bytes: u64,
    /// The decoder's state is kept at least every so many bytes of records.
    pub checkpoint_bytes: u64,
    /// Longest command, in bytes.
    pub command_bytes: usize,
    /// A host without a gateway, and without an open turn, stops its agent after this long.
    pub grace_idle: Duration,
    /// A host without a gateway stops its agent after this long while a turn is open, requests included.
    pub grace_turn: Duration,
    /// A started host has this long to listen, and a host to answer a gateway that connects.
    pub start: Duration,
    /// A gateway waits this long beyond the agent's own limits for a stopping host, and a host that has ended
    /// its agent for the gateway's farewell; then it goes by force.
    pub farewell: Duration,
    /// The spool of an ended life is kept this long, unless it is forgotten earlier.
    pub linger: Duration,
    /// When the disk takes nothing, it is tried again after this long.
    pub disk_retry: Duration,
}

impl Default for HostLimits {
    fn default() -> Self {
        Self {
            spool_bytes: 64 * 1024 * 1024,
            checkpoint_bytes: 1024 * 1024,
            command_bytes: 64 * 1024 * 1024,
            grace_idle: Duration::from_secs(10 * 60),
            grace_turn: Duration::from_secs(60 * 60),
            start: Duration::from_secs(10),
            farewell: Duration::from_secs(5),
            linger: Duration::from_secs(60),
            disk_retry: Duration::from_millis(250),
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
/// Whole inputs of open questions together, in bytes: they go back with the answers, and nobody else bounds them.
pub(crate) const QUESTION_INPUT_BYTES: usize = 1024 * 1024;
/// Most blocks of one message that a codec remembers.
pub(crate) const BLOCKS: usize = 4096;
