//! The gateway's side of agent hosts: agents that outlive the gateway.

mod decoder;
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

pub use self::hosts::{HostState, end_orphans, list_hosts};
use crate::{
    driver::{ControlSource, ProcessAgent, ProcessConfig, RecordSink},
    host::place::HostDirectory,
};

/// What a [`HostAgent`] runs.
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// The agent, as a host starts it.
    pub process: ProcessConfig,
    /// The directory of all hosts; absolute. It is made with mode 0700 when it is needed.
    pub hosts: PathBuf,
    /// The program, and its arguments, that calls [`host::run`](crate::host::run).
    pub host: Vec<String>,
    /// Spools may be lost: the machine went down, or the log was put back from a copy. Where nothing is left of a
    /// life that is taken up, what it was to be told counts as told, and it is over. Otherwise a life without a
    /// spool never had one, and is told now.
    pub spools_lost: bool,
}

/// An agent that is a process of its own in each chat, below a host that outlives the gateway.
///
/// A life whose future is dropped leaves its host running, for the next [`HostAgent`] that is given the same run
/// with [`AgentContext::resume`].
#[derive(Debug)]
pub struct HostAgent {
    agent: ProcessAgent,
    hosts: PathBuf,
    host: Vec<String>,
    spools_lost: bool,
    leaving: watch::Sender<bool>,
}

/// One life of an agent under a host, wherever its orders come from and its records go.
#[derive(Debug)]
pub struct HostedInstance<O, S> {
    /// The chat.
    pub chat: ChatKey,
    /// Which life this is; names its host.
    pub instance: AgentInstanceId,
    /// The session to take up again, where the life begins.
    pub session: Option<String>,
    /// Set when it began under an earlier gateway.
    pub resume: Option<Resume>,
    /// What the agent is told.
    pub control: O,
    /// Where the agent speaks.
    pub records: S,
    /// The position of the newest checkpoint that the log has; see [`AgentContext::kept`].
    pub committed: watch::Receiver<u64>,
}

impl HostAgent {
    /// An agent of this configuration. Starts nothing yet.
    pub fn new(config: HostConfig) -> Self {
        let HostConfig { process, hosts, host, spools_lost } = config;
        let leaving = watch::channel(false).0;
        Self { agent: ProcessAgent::new(process), hosts, host, spools_lost, leaving }
    }

    /// From here on every host is left running, whatever is ordered: the gateway goes, and another one will come.
    /// Lives neither end nor say anything more.
    pub fn leave(&self) {
        self.leaving.send_replace(true);
    }

    /// Removes what the host of an ended life has left: everything it said is in the log. Otherwise that happens
    /// some time after its end ([`HostLimits::linger`](crate::HostLimits::linger)), or at the next start
    /// ([`end_orphans`]).
    pub fn forget(&self, instance: AgentInstanceId) {
        let place = HostDirectory::new(&self.hosts, instance);
        if !place.is_live()
            && let Err(error) = place.remove()
        {
            tracing::warn!(%error, instance = instance.0, "what an agent's host left could not be removed");
        }
    }

    /// [`Agent::run`] with other ends.
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

/// The log may not have everything yet that an ended life said.
fn forget_later(place: HostDirectory, linger: Duration) {
    tokio::spawn(async move {
        tokio::time::sleep(linger).await;
        if !place.is_live() {
            let removed: io::Result<()> = place.remove();
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
