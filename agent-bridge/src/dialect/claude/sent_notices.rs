//! The notices that were sent.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::texts::TextDigest;

/// The notices that were sent, so that each is sent once.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct SentNotices {
    pub(super) compaction: Compaction,
    /// The data of the last notice of each limit of usage.
    pub(super) limits: BTreeMap<String, Value>,
    /// Outputs of commands in this turn that were sent once, and whether they came by a replayed line.
    pub(super) outputs: Vec<(bool, TextDigest)>,
    /// Tool uses that a person was asked about, or whose denial was sent: of this turn, and of subagents that go on.
    pub(super) decided: BTreeSet<String>,
    /// Whether the notice was sent that the budget is used up.
    pub(super) budget: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Compaction {
    #[default]
    None,
    /// The notice of its beginning was sent.
    Running,
    /// The notice of its end was sent. The agent reports the end in two lines.
    Done,
}
