//! What a process is started with.

use std::path::PathBuf;

use super::sandbox::Sandbox;
use crate::limits::BridgeLimits;

/// The part of a [`ProcessConfig`](crate::ProcessConfig) with which a process is started.
#[derive(Debug, Clone)]
pub(crate) struct CommandConfig {
    pub(crate) command: Vec<String>,
    pub(crate) workspace: PathBuf,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) sandbox: Option<Sandbox>,
    pub(crate) limits: BridgeLimits,
}
