//! Starts the processes of an agent, and puts failures into words.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use switchboard_core::agent::{AgentExit, AgentInstanceId};
use tokio::time::Instant;

use crate::{
    config::ProcessConfig,
    exec::{mark, random::Random, stderr_tail::LastWords},
    host::protocol::SpawnFailure,
    session::{self, End, RecordDecoder, SessionConfig, SessionState, backoff::Backoff},
};

/// An agent's configuration, and what its instances share.
#[derive(Debug)]
pub(crate) struct Starter {
    config: ProcessConfig,
    session: SessionConfig,
    random: Mutex<Random>,
}

impl Starter {
    /// Starts no process yet.
    pub(crate) fn new(config: ProcessConfig) -> Self {
        let mut random = Random::new(config.seed);
        let mut for_backoff = config.seed;
        for_backoff[..8].copy_from_slice(&random.next().to_le_bytes());
        let session = SessionConfig {
            agent: config.name.clone(),
            dialect: config.dialect,
            start: config.limits.start,
            resume: config.limits.resume,
            closed_output: config.limits.closed_output,
            backoff: Arc::new(Backoff::new(&config.limits, Random::new(for_backoff))),
            last_words: LastWords::new(&config.name, &config.env),
        };
        Self { config, session, random: Mutex::new(random) }
    }

    /// The configuration with which processes are started.
    pub(crate) fn config(&self) -> &ProcessConfig {
        &self.config
    }

    /// Makes a new random mark for the environment of a process.
    pub(crate) fn mark(&self) -> String {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        mark::make(&self.config.mark_prefix, &format!("{:016x}{:016x}", random.next(), random.next()))
    }

    /// What the sessions of this agent know about it.
    pub(crate) fn session_config(&self) -> &SessionConfig {
        &self.session
    }

    /// Makes the decoder for a new instance. `session` is the agent's session to resume.
    pub(crate) fn decoder(&self, instance: AgentInstanceId, session: Option<&str>) -> RecordDecoder {
        let ProcessConfig { dialect, workspace, .. } = &self.config;
        RecordDecoder::new(*dialect, workspace, instance.0, session)
            .with_last_words(self.session.last_words.clone())
    }

    /// How an instance has ended according to all its records; `None` if it has not ended.
    pub(crate) fn end(&self, state: &SessionState) -> Option<AgentExit> {
        Some(self.exit(self.session.end(Instant::now(), state)?))
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
        self.session.backoff.failed(Instant::now());
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
