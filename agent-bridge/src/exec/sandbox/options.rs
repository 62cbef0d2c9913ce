//! What can be configured about a sandbox, and why there may be none.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};

/// The names of the groups that can be allowed.
pub(super) const NAMES: &[&str] = &[
    "session-bus",
    "system-bus",
    "containers",
    "tmux",
    "screen",
    "zellij",
    "editors",
    "display",
    "ssh-agent",
    "gpg-agent",
    "start-files",
];

/// How much a sandbox restricts an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxLevel {
    /// No sandbox.
    Off,
    /// Hides or protects everything by which the agent could act as the gateway's user.
    Shield,
    /// [`Shield`](Self::Shield), and no writing outside the workspace.
    Workspace,
}

impl SandboxLevel {
    /// The level's name in the configuration and on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Shield => "shield",
            Self::Workspace => "workspace",
        }
    }
}

impl fmt::Display for SandboxLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The settings for a sandbox.
#[derive(Debug, Clone, Default)]
pub struct SandboxOptions {
    /// Whether the agent may write only to the workspace, to its own folders and to `writable`.
    pub confine_writes: bool,
    /// Absolute path of the `bwrap` program.
    pub bwrap: PathBuf,
    /// Directories of the gateway; hidden as a whole.
    pub own_dirs: Vec<PathBuf>,
    /// Files of the gateway; hidden together with their directory if its name begins with `switchboard` or if it
    /// contains nothing else.
    pub own_files: Vec<PathBuf>,
    /// Sockets of the gateway; hidden together with their directory if other users cannot enter the directory.
    pub own_sockets: Vec<PathBuf>,
    /// Programs of the gateway; read-only.
    pub programs: Vec<PathBuf>,
    /// Exceptions: groups and paths that the agent may use although they are hidden or read-only by default.
    pub allow: Vec<SandboxAllow>,
    /// Further directories to which the agent may write.
    pub writable: Vec<PathBuf>,
}

/// An exception to the sandbox: something that is hidden or read-only by default, but not for this agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SandboxAllow {
    /// A group of paths and variables, one of [`SandboxAllow::NAMES`].
    Group(&'static str),
    /// An absolute path.
    Path(PathBuf),
}

impl SandboxAllow {
    /// The names of the groups that can be allowed.
    pub const NAMES: &'static [&'static str] = NAMES;
}

impl FromStr for SandboxAllow {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if let Some(name) = Self::NAMES.iter().find(|name| **name == text) {
            return Ok(Self::Group(name));
        }
        Some(PathBuf::from(text)).filter(|path| path.is_absolute()).map(Self::Path).ok_or(())
    }
}

/// Why no sandbox can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxFailure {
    /// The reason, as part of a sentence.
    pub reason: String,
    /// Advice: the beginning of a sentence that the caller continues with "or".
    pub remedy: &'static str,
}

impl SandboxFailure {
    /// Makes a failure with this reason and advice.
    pub fn new(reason: impl fmt::Display, remedy: &'static str) -> Self {
        Self { reason: reason.to_string(), remedy }
    }
}
