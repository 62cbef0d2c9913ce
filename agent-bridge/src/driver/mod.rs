//! Agents as processes: started for the first prompt, reused over turns where the dialect allows it, and ended together
//! with all their descendants.
//!
//! An agent process inherits only the environment variables of an allow-list and no descriptors beyond 0 to 2. Its
//! working directory is the workspace. A prompt is never part of its command line.

mod embedded;
mod ends;
pub(crate) mod environment;
mod input;
pub(crate) mod mark;
pub(crate) mod process;
mod process_table;
pub(crate) mod random;
pub(crate) mod reader;
pub(crate) mod stderr_tail;
pub(crate) mod stop;
pub(crate) mod sweep;

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use switchboard_core::{
    agent::{AgentExit, AgentInstanceId},
    ids::ChatKey,
    wire::AgentState,
};
use switchboard_runtime::{Agent, AgentContext};
use tokio::time::Instant;

use self::{random::Random, stderr_tail::LastWords};
use crate::{
    BridgeLimits, Sandbox, SandboxLevel,
    dialect::Dialect,
    host::protocol::SpawnFailure,
    session::{self, End, SessionConfig, backoff::Backoff},
};

pub use ends::{ControlSource, RecordSink};
pub use sweep::sweep_leftovers;

/// How a [`ProcessAgent`] starts its processes.
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
    /// First part of the random mark in the process's environment, by which [`sweep_leftovers`] finds leftover
    /// processes. Identifies the data directory; matches `[A-Za-z0-9_-]+`.
    pub mark_prefix: String,
    /// Random bytes from the caller, the seed for backoff jitter and for marks. Must differ between gateways.
    pub seed: [u8; 16],
    /// The limits on each process.
    pub limits: BridgeLimits,
}

/// The part of a [`ProcessConfig`] with which a process is started.
#[derive(Debug, Clone)]
pub(crate) struct CommandConfig {
    pub(crate) command: Vec<String>,
    pub(crate) workspace: PathBuf,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) sandbox: Option<Sandbox>,
    pub(crate) limits: BridgeLimits,
}

impl ProcessConfig {
    /// The part with which a process is started.
    pub(crate) fn command_config(&self) -> CommandConfig {
        let Self { command, workspace, env, sandbox, limits, .. } = self.clone();
        CommandConfig { command, workspace, env, sandbox, limits }
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

/// An agent that runs as a separate subprocess of the gateway for each chat.
#[derive(Debug)]
pub struct ProcessAgent {
    config: ProcessConfig,
    /// The delays after failed starts.
    backoff: Arc<Backoff>,
    random: Mutex<Random>,
}

/// One agent instance: its chat, the source of its control messages and the sink for its records.
#[derive(Debug)]
pub struct AgentInstance<O, S> {
    /// The chat that the instance serves; used in logs.
    pub chat: ChatKey,
    /// Identifies the instance. Ids that the codec makes contain it, so that ids of two instances differ.
    pub instance: AgentInstanceId,
    /// Id of the agent's session to resume; `None` begins a new session.
    pub session: Option<String>,
    /// Source of the instance's control messages: commands, stop and kill.
    pub control: O,
    /// Sink for the instance's decoded records.
    pub records: S,
}

impl ProcessAgent {
    /// Makes the agent. Starts no process yet.
    pub fn new(config: ProcessConfig) -> Self {
        let mut random = Random::new(config.seed);
        let mut for_backoff = config.seed;
        for_backoff[..8].copy_from_slice(&random.next().to_le_bytes());
        let backoff = Arc::new(Backoff::new(&config.limits, Random::new(for_backoff)));
        Self { config, backoff, random: Mutex::new(random) }
    }

    /// The configuration with which processes are started.
    pub fn config(&self) -> &ProcessConfig {
        &self.config
    }

    /// Like [`Agent::run`], with any control source and record sink. Returns the reason for which the instance ended;
    /// by
    /// then its process and all the process's descendants are gone. If the future is dropped, they are killed in the
    /// background.
    pub async fn serve<O: ControlSource, S: RecordSink>(&self, instance: AgentInstance<O, S>) -> AgentExit {
        embedded::serve(self, instance).await
    }

    /// Makes a new random mark for the environment of a process.
    pub(crate) fn mark(&self) -> String {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        mark::make(&self.config.mark_prefix, &format!("{:016x}{:016x}", random.next(), random.next()))
    }

    /// What the sessions of this agent know about it. `record_bytes` is the length of the longest record.
    pub(crate) fn session_config(&self, record_bytes: usize) -> SessionConfig {
        let config = &self.config;
        SessionConfig {
            agent: config.name.clone(),
            dialect: config.dialect,
            start: config.limits.start,
            closed_output: config.limits.closed_output,
            record_bytes,
            backoff: Arc::clone(&self.backoff),
            last_words: LastWords::of(config),
        }
    }

    /// The exit of an instance that has ended.
    pub(crate) fn exit(&self, end: End) -> AgentExit {
        let kind = match end {
            End::Exit(exit) => return exit,
            End::SpawnFailed(SpawnFailure::NotFound) => io::ErrorKind::NotFound,
            End::SpawnFailed(SpawnFailure::Denied) => io::ErrorKind::PermissionDenied,
            End::SpawnFailed(SpawnFailure::Other) => io::ErrorKind::Other,
        };
        self.spawn_failed(&kind.into())
    }

    /// Records a failed start, which delays the next one. The turn gets `why` as its error, which contains no path.
    pub(crate) fn start_failed(&self, why: &str) -> AgentExit {
        self.backoff.failed(Instant::now());
        session::start_failed(&self.config.name, why, "")
    }

    /// The reason for which an instance ends if the system could not start its process.
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
