//! What agents are kept from, as it is configured.

use std::path::Path;

use switchboard_agent_bridge::SandboxAllow;

use super::absolute;
use crate::failure::{Failure, Result};

/// What agents are kept from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxChoice {
    /// From acting as their owner, where that works.
    Auto,
    /// From nothing.
    Off,
    /// From acting as their owner.
    Shield,
    /// And from writing outside the workspace.
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
