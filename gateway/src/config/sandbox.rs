//! The sandbox settings.

use std::path::Path;

use switchboard_agent_bridge::SandboxAllow;

use super::path::absolute;
use crate::failure::{Failure, Result};

/// What the sandbox prevents agents from doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxChoice {
    /// Like `Shield` where the system supports a sandbox; otherwise agents run without one.
    Auto,
    /// Nothing: agents run without a sandbox.
    Off,
    /// Acting as their owner. The gateway does not start if the system supports no sandbox.
    Shield,
    /// Acting as their owner, and writing outside the workspace.
    Workspace,
}

pub(super) fn level(text: Option<&str>) -> Result<SandboxChoice> {
    match text {
        None => Ok(SandboxChoice::Auto),
        Some("off") => Ok(SandboxChoice::Off),
        Some("shield" | "require") => Ok(SandboxChoice::Shield),
        Some("workspace") => Ok(SandboxChoice::Workspace),
        Some(text) => Err(Failure::new(
            format!("--sandbox is {text:?}, which it cannot be."),
            "Give `shield`, `workspace`, `require` or `off`; or leave it out for `shield` where that works.",
        )),
    }
}

pub(super) fn allow(text: &str) -> Result<SandboxAllow> {
    let path = if text.starts_with("~/") { absolute(Path::new(text))? } else { text.into() };
    path.to_string_lossy().parse().map_err(|()| {
        Failure::new(
            format!("--sandbox-allow is {text:?}, which it cannot be."),
            format!("Give an absolute path, or one of: {}.", SandboxAllow::NAMES.join(", ")),
        )
    })
}
