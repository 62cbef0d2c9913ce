//! What a program chooses for the journal.

use std::time::Duration;

/// How a [`Sqlite`](super::Sqlite) journal works. The defaults are right for nearly everybody.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SqliteOptions {
    /// Every append waits for the disk, not only messages, prompts and ends of turns (`--durability strict`).
    /// Default: no.
    pub strict: bool,
    /// The number of threads that answer questions; at least 1. Default: 2.
    pub readers: usize,
    /// The size of the write queue, in bytes. Appends that do not fit into the queue are refused. Default: 64 MiB.
    pub queue_bytes: usize,
    /// How long after the end of a stream its deltas are compacted; `None`: never. Default: 2 s.
    pub compact_after: Option<Duration>,
    /// Once the write-ahead log is longer than this many bytes, it is reset, which delays commits for a moment.
    /// Default: 64 MiB.
    pub wal_bytes: u64,
    /// Whether to open a journal from which committed data is missing (`--accept-loss`). The files are first copied
    /// aside, and every chat gets a new epoch. Default: no, such a journal is not opened.
    pub accept_loss: bool,
    /// The id of the machine's current boot, for a system that gives none, such as one without `/proc`: without an id,
    /// each unclean end counts as a loss of power, and chats with an open turn get a new epoch. Tests simulate reboots
    /// with it. Default: the id that Linux gives.
    pub boot_id: Option<String>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            strict: false,
            readers: 2,
            queue_bytes: 64 * 1024 * 1024,
            compact_after: Some(Duration::from_secs(2)),
            wal_bytes: 64 * 1024 * 1024,
            accept_loss: false,
            boot_id: None,
        }
    }
}
