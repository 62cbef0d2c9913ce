//! Agents that are processes: started when first needed, kept over turns, ended with all they started.
//!
//! The environment of an agent is an allow-list, its directory is the workspace, it inherits no descriptor
//! beyond 0 to 2, and a prompt never becomes an argument.

pub(crate) mod backoff;
mod claude;
mod ends;
pub(crate) mod environment;
mod input;
pub(crate) mod process;
pub(crate) mod random;
pub(crate) mod reader;
pub(crate) mod stderr_tail;
pub(crate) mod stop;
pub(crate) mod sweep;
mod text;

use std::{
    io,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use switchboard_core::{
    agent::{AgentExit, AgentInstanceId},
    ids::ChatKey,
    wire::{AgentState, TurnError},
};
use switchboard_runtime::{Agent, AgentContext, AgentControl};
use tokio::time::Instant;

use self::{backoff::Backoff, random::Random};
use crate::{BridgeLimits, Dialect, Sandbox, SandboxLevel};

pub use ends::{ControlSource, RecordSink};
pub use sweep::sweep_leftovers;

/// What a [`ProcessAgent`] runs.
#[derive(Debug, Clone)]
pub struct ProcessConfig {
    /// A name for logs and start-up text.
    pub name: String,
    /// The program and its arguments. From the configuration only.
    pub command: Vec<String>,
    /// What it speaks.
    pub dialect: Dialect,
    /// Its working directory; absolute.
    pub workspace: PathBuf,
    /// Further variables of its environment. They come after the allow-list and may replace what it lets through.
    pub env: Vec<(String, String)>,
    /// What it is kept from; `None`: nothing.
    pub sandbox: Option<Sandbox>,
    /// Begins the mark in its environment, by which [`sweep_leftovers`] finds it: a name for the data directory,
    /// `[A-Za-z0-9_-]+`.
    pub mark_prefix: String,
    /// Drawn at random by whoever starts the gateway: for jitter, and so that marks differ.
    pub seed: [u8; 16],
    /// The limits on each process.
    pub limits: BridgeLimits,
}

impl ProcessConfig {
    /// What it is kept from.
    pub fn sandbox_level(&self) -> SandboxLevel {
        self.sandbox.as_ref().map_or(SandboxLevel::Off, Sandbox::level)
    }

    /// What clients are to know of it. Of the workspace's path, nothing outside the home directory is in it.
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

/// An agent that is a process of its own in each chat.
#[derive(Debug)]
pub struct ProcessAgent {
    config: ProcessConfig,
    pub(crate) backoff: Backoff,
    random: Mutex<Random>,
}

/// One life of an agent, wherever its orders come from and its records go.
#[derive(Debug)]
pub struct AgentInstance<O, S> {
    /// The chat, for logs.
    pub chat: ChatKey,
    /// Which life this is; part of the ids that it makes.
    pub instance: AgentInstanceId,
    /// The session to take up again.
    pub session: Option<String>,
    /// What the agent is told.
    pub control: O,
    /// Where the agent speaks.
    pub records: S,
}

impl ProcessAgent {
    /// An agent of this configuration. Starts nothing yet.
    pub fn new(config: ProcessConfig) -> Self {
        let mut random = Random::new(config.seed);
        let mut for_backoff = config.seed;
        for_backoff[..8].copy_from_slice(&random.next().to_le_bytes());
        let backoff = Backoff::new(&config.limits, Random::new(for_backoff));
        Self { config, backoff, random: Mutex::new(random) }
    }

    /// What it runs.
    pub fn config(&self) -> &ProcessConfig {
        &self.config
    }

    /// [`Agent::run`] with other ends. Returns how that life ended; by then its process, and everything that
    /// it started, is gone. If the future is dropped instead, they are killed in the background.
    pub async fn serve<O: ControlSource, S: RecordSink>(&self, life: AgentInstance<O, S>) -> AgentExit {
        match self.config.dialect {
            Dialect::Claude => claude::serve(self, life).await,
            Dialect::Text => text::serve(self, life).await,
        }
    }

    pub(crate) fn mark(&self) -> String {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        format!("{}.{:016x}{:016x}", self.config.mark_prefix, random.next(), random.next())
    }

    /// The start failed: the next one waits, and the turn is told why in a sentence without paths.
    pub(crate) fn start_failed(&self, why: &str) -> AgentExit {
        self.start_failed_saying(why, "")
    }

    /// The same, with its last words.
    pub(crate) fn start_failed_saying(&self, why: &str, last_words: &str) -> AgentExit {
        self.backoff.failed(Instant::now());
        let detail = format!("The agent \"{}\" could not be started: {why}.{last_words}", self.config.name);
        AgentExit::StartFailed(TurnError { code: "agent_start_failed".into(), detail })
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the kinds that a person can do something about are few"
    )]
    pub(crate) fn spawn_failed(&self, error: &io::Error) -> AgentExit {
        tracing::warn!(agent = self.config.name, %error, "an agent could not be started");
        let why = match error.kind() {
            io::ErrorKind::NotFound if !self.config.workspace.is_dir() => "the workspace does not exist",
            io::ErrorKind::NotFound => "its program was not found",
            io::ErrorKind::PermissionDenied => "its program may not be executed",
            io::ErrorKind::InvalidInput => "it has no command, or the sandbox hides its workspace",
            _ => "the system refused",
        };
        self.start_failed(why)
    }
}

#[async_trait]
impl Agent for ProcessAgent {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn describe(&self) -> Option<AgentState> {
        Some(self.config.describe())
    }

    async fn run(&self, context: AgentContext) -> AgentExit {
        let AgentContext { chat, instance, session, control, records, .. } = context;
        self.serve(AgentInstance { chat, instance, session, control, records }).await
    }
}

/// Whether an order ends a life that has no process.
pub(crate) fn is_end(order: &AgentControl) -> bool {
    matches!(order, AgentControl::Stop | AgentControl::Kill)
}
