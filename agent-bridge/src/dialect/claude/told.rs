//! What has been told beside the answer.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::blocks::Streamed;

/// What has been told, so that it is told once.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Told {
    pub(super) compaction: Compaction,
    /// What was told last of each limit of usage.
    pub(super) limits: BTreeMap<String, Value>,
    /// Outputs of commands in this turn that were told once, and whether by a replayed line.
    pub(super) outputs: Vec<(bool, Streamed)>,
    /// Tool uses in this turn that a person was asked about, or whose denial was told.
    pub(super) judged: BTreeSet<String>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Compaction {
    #[default]
    None,
    /// Its begin was told.
    Running,
    /// Its end was told. The agent reports the end in two lines.
    Done,
}
