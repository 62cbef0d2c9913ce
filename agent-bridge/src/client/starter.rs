//! How hosts and their agents are started.

use std::path::PathBuf;

use switchboard_core::{agent::AgentInstanceId, ids::ChatKey};
use switchboard_runtime::Resume;
use tokio::sync::watch;

use crate::{config::ProcessConfig, starter::Starter};

/// How a [`HostAgent`](crate::HostAgent) starts its hosts and their agents.
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// How a host starts its agent.
    pub process: ProcessConfig,
    /// The directory that contains one directory per host; an absolute path. Created with mode 0700 when first needed.
    pub hosts: PathBuf,
    /// The command, a program and its arguments, that starts a host; it must call [`host::run`](crate::host::run).
    pub host: Vec<String>,
    /// Whether spools may be missing because the machine went down or the log was restored from a backup. If true, and
    /// a resumed instance has no spool, its commands count as delivered and the instance is over. If false, an instance
    /// without a spool never had a host, and its commands are delivered now.
    pub spools_lost: bool,
}

/// One agent instance under a host: its chat, the source of its control messages and the sink for its records.
#[derive(Debug)]
pub struct HostedInstance<O, S> {
    /// The chat that the instance serves; the host's directory records its name.
    pub chat: ChatKey,
    /// Identifies the instance, and names its host's directory.
    pub instance: AgentInstanceId,
    /// Id of the agent's session to resume when the instance begins; `None` begins a new session.
    pub session: Option<String>,
    /// Set if the instance began under an earlier gateway and is to be taken over.
    pub resume: Option<Resume>,
    /// Source of the instance's control messages: commands, stop and kill.
    pub control: O,
    /// Sink for the instance's decoded records.
    pub records: S,
    /// Position of the newest checkpoint that the log has; see
    /// [`AgentContext::committed`](switchboard_runtime::AgentContext::committed).
    pub committed: watch::Receiver<u64>,
}

/// An agent's configuration, and what its instances under hosts share.
#[derive(Debug)]
pub(super) struct HostStarter {
    pub(super) agent: Starter,
    /// The directory that contains one directory per host.
    pub(super) hosts: PathBuf,
    /// The command that starts a host.
    pub(super) host: Vec<String>,
    pub(super) spools_lost: bool,
}

impl HostStarter {
    pub(super) fn new(config: HostConfig) -> Self {
        let HostConfig { process, hosts, host, spools_lost } = config;
        Self { agent: Starter::new(process), hosts, host, spools_lost }
    }
}

/// The name of a chat in its host's directory: `principal/chat`.
pub(super) fn chat_name(chat: &ChatKey) -> String {
    format!("{}/{}", chat.principal, chat.chat)
}
