//! How an agent's processes are started.

use std::path::PathBuf;

use switchboard_core::{ids::ChatId, wire::AgentState};

use crate::{
    dialect::Dialect,
    exec::{
        command::CommandConfig,
        sandbox::{Sandbox, SandboxLevel},
    },
    limits::BridgeLimits,
};

/// The environment variable of an agent's processes that contains the id of their chat.
const CHAT_ID: &str = "SWITCHBOARD_CHAT_ID";

/// How a [`ProcessAgent`](crate::ProcessAgent) starts its processes.
#[derive(Debug, Clone)]
pub struct ProcessConfig {
    /// The agent's name in logs and error sentences.
    pub name: String,
    /// The program and its arguments. Comes from the configuration only, never from a client.
    pub command: Vec<String>,
    /// The dialect of the program.
    pub dialect: &'static dyn Dialect,
    /// The working directory of the process; an absolute path.
    pub workspace: PathBuf,
    /// Further environment variables for the process. They override inherited variables of the same name.
    pub env: Vec<(String, String)>,
    /// The sandbox for the process; `None` runs it without one.
    pub sandbox: Option<Sandbox>,
    /// First part of the random mark in the process's environment, by which [`sweep_leftovers`](crate::sweep_leftovers)
    /// finds leftover processes. Identifies the data directory; matches `[A-Za-z0-9_-]+`.
    pub mark_prefix: String,
    /// Random bytes from the caller, the seed for backoff jitter and for marks. Must differ between gateways.
    pub seed: [u8; 16],
    /// The limits on each process.
    pub limits: BridgeLimits,
}

impl ProcessConfig {
    /// The part with which a process for this chat is started.
    pub(crate) fn command_config(&self, chat: &ChatId) -> CommandConfig {
        let Self { command, workspace, sandbox, limits, .. } = self.clone();
        CommandConfig { command, workspace, env: self.environment(chat), sandbox, limits }
    }

    /// The environment variables of a process for this chat, besides inherited ones. Later ones replace earlier ones.
    pub(crate) fn environment(&self, chat: &ChatId) -> Vec<(String, String)> {
        let of_dialect = self.dialect.environment().iter().copied();
        let mut variables: Vec<_> =
            of_dialect.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        variables.extend(self.env.iter().cloned());
        variables.push((CHAT_ID.into(), chat.as_str().into()));
        variables
    }

    /// How much the sandbox restricts the process.
    pub fn sandbox_level(&self) -> SandboxLevel {
        self.sandbox.as_ref().map_or(SandboxLevel::Off, Sandbox::level)
    }

    /// The description that clients get. A workspace outside the home directory appears by its last component only.
    pub(crate) fn describe(&self) -> AgentState {
        let below_home = std::env::home_dir().and_then(|home| self.workspace.strip_prefix(home).ok());
        let workspace = match below_home {
            Some(path) if path.as_os_str().is_empty() => Some("~".to_owned()),
            Some(path) => Some(format!("~/{}", path.display())),
            None => self.workspace.file_name().map(|name| name.to_string_lossy().into_owned()),
        };
        AgentState {
            agent: self.name.clone(),
            dialect: Some(self.dialect.name().to_owned()),
            workspace,
            sandbox: Some(self.sandbox_level().name().to_owned()),
        }
    }
}
