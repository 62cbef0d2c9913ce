//! The gateway's side of agent hosts. A host is a process that owns an agent and outlives the gateway.

mod ending;
mod feed;
mod find;
mod hosts;
mod instance;
mod link;
mod loan;
mod peek;
mod waiting;

use std::{io, path::PathBuf, time::Duration};

use async_trait::async_trait;
use switchboard_core::{
    agent::{AgentExit, AgentInstanceId},
    ids::ChatKey,
    wire::AgentState,
};
use switchboard_runtime::{Agent, AgentContext, Resume};
use tokio::sync::watch;

pub use self::hosts::{HostState, end_orphans, kill_all_hosts, list_hosts};
use crate::{
    driver::{ControlSource, ProcessAgent, ProcessConfig, RecordSink},
    host::directory::HostDirectory,
};

/// How a [`HostAgent`] starts its hosts and their agents.
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// How a host starts its agent.
    pub process: ProcessConfig,
    /// The directory that contains one directory per host; an absolute path. Created with mode 0700 when first needed.
    pub hosts: PathBuf,
    /// The command, a program and its arguments, that starts a host; it must call [`host::run`](crate::host::run).
    pub host: Vec<String>,
    /// Whether spools may be missing because the machine went down or the log was restored from a backup. If true, and
    /// a
    /// resumed instance has no spool, its commands count as delivered and the instance is over. If false, an instance
    /// without a spool never had a host, and its commands are delivered now.
    pub spools_lost: bool,
}

/// An agent that runs as a separate process for each chat, under a host that outlives the gateway.
///
/// When the future of an instance is dropped, its host goes on running. A later [`HostAgent`] takes the host over when
/// it is given the same [`AgentContext::instance`] with [`AgentContext::resume`].
#[derive(Debug)]
pub struct HostAgent {
    agent: ProcessAgent,
    hosts: PathBuf,
    host: Vec<String>,
    spools_lost: bool,
    leaving: watch::Sender<bool>,
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
    /// Position of the newest checkpoint that the log has; see [`AgentContext::committed`].
    pub committed: watch::Receiver<u64>,
}

impl HostAgent {
    /// Makes the agent. Starts no process yet.
    pub fn new(config: HostConfig) -> Self {
        let HostConfig { process, hosts, host, spools_lost } = config;
        let leaving = watch::channel(false).0;
        Self { agent: ProcessAgent::new(process), hosts, host, spools_lost, leaving }
    }

    /// Leaves every host running from now on, for the next gateway; call it before the gateway exits. Futures of
    /// [`Self::serve`] then neither return nor send records, whatever control messages arrive.
    pub fn leave(&self) {
        self.leaving.send_replace(true);
    }

    /// Removes the host directory of an ended instance, once all the instance's records are in the log. Without this
    /// call
    /// the directory is removed some time after the end ([`HostLimits::linger`](crate::HostLimits::linger)), or by
    /// [`end_orphans`] at the next start of a gateway. A failure is logged.
    pub fn forget(&self, instance: AgentInstanceId) {
        let directory = HostDirectory::new(&self.hosts, instance);
        if !directory.is_live()
            && let Err(error) = directory.remove()
        {
            tracing::warn!(%error, instance = instance.0, "what an agent's host left could not be removed");
        }
    }

    /// Like [`Agent::run`], with any control source and record sink. Returns the reason for which the instance ended.
    pub async fn serve<O: ControlSource, S: RecordSink>(&self, life: HostedInstance<O, S>) -> AgentExit {
        let instance = life.instance;
        let mut leaving = self.leaving.subscribe();
        let left = async {
            let _ = leaving.wait_for(|leaving| *leaving).await;
        };
        let exit = tokio::select! {
            biased;
            () = left => return std::future::pending().await,
            exit = instance::serve(self, life) => exit,
        };
        forget_later(HostDirectory::new(&self.hosts, instance), self.agent.config().limits.host.linger);
        exit
    }
}

/// Removes the directory of an ended host after `linger`: by then the log should have all the instance's records.
fn forget_later(directory: HostDirectory, linger: Duration) {
    tokio::spawn(async move {
        tokio::time::sleep(linger).await;
        if !directory.is_live() {
            let removed: io::Result<()> = directory.remove();
            if let Err(error) = removed {
                tracing::warn!(%error, "what an agent's host left could not be removed");
            }
        }
    });
}

#[async_trait]
impl Agent for HostAgent {
    fn name(&self) -> &str {
        &self.agent.config().name
    }

    fn describe(&self) -> Option<AgentState> {
        Some(self.agent.config().describe())
    }

    async fn run(&self, context: AgentContext) -> AgentExit {
        let AgentContext { chat, instance, session, resume, control, records, committed, .. } = context;
        self.serve(HostedInstance { chat, instance, session, resume, control, records, committed }).await
    }

    async fn forget_chat(&self, chat: &ChatKey) {
        let (hosts, whom) = (self.hosts.clone(), instance::chat_name(chat));
        let removed = tokio::task::spawn_blocking(move || hosts::remove_of(&hosts, &whom)).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(%error, "what a deleted chat's agent left could not be removed; the next start does it");
        }
    }

    fn survives(&self) -> bool {
        true
    }
}
