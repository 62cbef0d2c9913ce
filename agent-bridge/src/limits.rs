//! Every limit of this crate, with its unit.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The limits on one agent process. The defaults suit every agent that was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BridgeLimits {
    /// Longest record (one line of the agent's output) in bytes, without its newline. A longer line is skipped. An agent
    /// that reads a picture writes a line of 9 MB and more.
    pub record_bytes: usize,
    /// Most bytes that one read takes from the agent's standard output. Records that arrive in one read are decoded as
    /// one batch.
    pub read_bytes: usize,
    /// Most bytes that may be queued for the agent's standard input. An agent that reads so slowly that more would be
    /// queued is killed.
    pub input_bytes: usize,
    /// Number of last lines of the agent's standard error that are retained for the log.
    pub stderr_lines: usize,
    /// Longest retained line of standard error, in bytes; the rest of a longer line is dropped.
    pub stderr_line_bytes: usize,
    /// How long a started agent may take to answer the initialize request.
    pub start: Duration,
    /// How long an agent that was started to resume a session may be silent before it has answered the initialize
    /// request. Then it is ended, and a new session begins.
    pub resume: Duration,
    /// How long a stopping agent may take to exit after its standard input was closed; then it gets SIGTERM.
    pub stop_eof: Duration,
    /// How long a stopping agent may take to exit after SIGTERM; then the agent and all its descendants are killed.
    pub stop_term: Duration,
    /// How long an agent may take to exit after it closed its standard output; then it is killed.
    pub closed_output: Duration,
    /// The rest of an exited agent's output is read until nothing has arrived for this long.
    pub drain: Duration,
    /// Delay before the next start after one failed start; doubles with each further failed start.
    pub backoff_first: Duration,
    /// Longest delay after failed starts.
    pub backoff_longest: Duration,
    /// The limits on each agent host.
    pub host: HostLimits,
}

impl BridgeLimits {
    /// Longest record of an agent under a host, in bytes. At most a quarter of the spool: with longer records, the
    /// spool might never have room for the next one.
    pub(crate) fn spooled_record_bytes(&self) -> usize {
        let quarter = usize::try_from(self.host.spool_bytes / 4).unwrap_or(usize::MAX);
        self.record_bytes.min(quarter)
    }
}

impl Default for BridgeLimits {
    fn default() -> Self {
        Self {
            record_bytes: 16 * 1024 * 1024,
            read_bytes: 256 * 1024,
            input_bytes: 8 * 1024 * 1024,
            stderr_lines: 50,
            stderr_line_bytes: 2 * 1024,
            start: Duration::from_secs(60),
            resume: Duration::from_secs(15),
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
    /// Size of the spool in bytes. While the spool is full, the host does not read the agent's output. A record longer
    /// than a quarter of this size is too long, even if [`BridgeLimits::record_bytes`] is larger.
    pub spool_bytes: u64,
    /// A checkpoint of the decoder's state is persisted at least once per this many bytes of records.
    pub checkpoint_bytes: u64,
    /// Longest command from the gateway to the host, in bytes.
    pub command_bytes: usize,
    /// How long a host without a connected gateway lets its agent run while no turn is open.
    pub grace_idle: Duration,
    /// How long a host without a connected gateway lets its agent run while a turn is open, also one that waits for the
    /// answer to a request.
    pub grace_turn: Duration,
    /// How long a started host may take until it listens, and a listening host until it answers a gateway's hello.
    pub start: Duration,
    /// How long a gateway waits for a stopping host, beyond the limits on the stopping agent, before it kills the host;
    /// and how long a host that has ended its agent waits for the gateway's shutdown acknowledgement before it exits.
    pub shutdown_ack: Duration,
    /// How long the spool of an ended agent instance stays on disk, unless
    /// [`HostAgent::forget`](crate::HostAgent::forget) removes it earlier.
    pub linger: Duration,
    /// Delay between attempts to write to a full or failing disk.
    pub disk_retry: Duration,
    /// How often a host looks whether its directory was removed. Then it stops its agent and exits.
    pub directory_check: Duration,
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
            shutdown_ack: Duration::from_secs(5),
            linger: Duration::from_secs(60),
            disk_retry: Duration::from_millis(250),
            directory_check: Duration::from_secs(10),
        }
    }
}

/// Most commands since the newest prompt whose ids a host remembers. It remembers as many from before, at most.
pub(crate) const RECENT_COMMANDS: usize = 8192;
/// Most bytes of a line that is too long which its codec gets.
pub(crate) const SKIPPED_PREFIX_BYTES: usize = 4 * 1024;
/// Longest tool result in an event, in bytes; a longer one is cut and marked as cut.
pub(crate) const TOOL_RESULT_BYTES: usize = 64 * 1024;
/// Longest diff of one file in an event, in bytes and without the names of the file; a longer diff is cut and marked as
/// cut.
pub(crate) const DIFF_BYTES: usize = 16 * 1024;
/// Most steps that the search for a small difference between two texts takes. A step compares two lines.
pub(crate) const DIFF_EFFORT: usize = 1 << 26;
/// Longest text of a notice that the agent gives, in bytes.
pub(crate) const NOTICE_BYTES: usize = 8 * 1024;
/// Longest `detail` of a `TurnError`, in bytes.
pub(crate) const DETAIL_BYTES: usize = 500;
/// Longest input of a tool that is assembled from streamed pieces, in bytes.
pub(crate) const TOOL_INPUT_BYTES: usize = 1024 * 1024;
/// Size from which on an input is shown while the model still writes it, in bytes. Most inputs are shorter, and are shown
/// once.
pub(crate) const TOOL_UPDATE_FIRST_BYTES: usize = 512;
/// Longest beginning of an input that is shown while the model still writes it, in bytes.
pub(crate) const TOOL_UPDATE_LONGEST_BYTES: usize = 32 * 1024;
/// Most tool uses that a codec remembers within one turn.
pub(crate) const TOOLS: usize = 4096;
/// Most subagents whose texts a codec follows at once; those of further ones are not shown.
pub(crate) const SUBAGENTS: usize = 256;
/// Most pieces of background work that a codec knows at once; further ones are not shown.
pub(crate) const TASKS: usize = 256;
/// Most requests of one agent that may be open at once; further requests are refused.
pub(crate) const REQUESTS: usize = 256;
/// Most bytes of tool input that a codec stores for open questions, all together. The input is sent back to the agent
/// with the answers; no other limit bounds it.
pub(crate) const QUESTION_INPUT_BYTES: usize = 1024 * 1024;
/// Most content blocks of one message that a codec remembers.
pub(crate) const BLOCKS: usize = 4096;
/// Most texts of the agent, or of one subagent, that a codec remembers so that it does not send them twice.
pub(crate) const TEXTS: usize = 64;
/// Longest text that is held back while it streams, because it may be one that was sent before, in bytes. A longer one is
/// sent twice if its stream comes after the whole text.
pub(crate) const HELD_TEXT_BYTES: u64 = 1024 * 1024;
