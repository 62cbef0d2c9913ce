//! The agent whose processes run under hosts.

use std::time::Duration;

use async_trait::async_trait;
use switchboard_core::{
    agent::{AgentExit, AgentInstanceId},
    ids::ChatKey,
    wire::AgentState,
};
use switchboard_runtime::{Agent, AgentContext};
use tokio::sync::watch;

use super::{
    hosts, instance,
    starter::{HostConfig, HostStarter, HostedInstance, chat_name},
};
use crate::{
    exec::ports::{ControlSource, RecordSink},
    host::directory::HostDirectory,
};

/// An agent that runs as a separate process for each chat, under a host that outlives the gateway.
///
/// When the future of an instance is dropped, its host goes on running. A later [`HostAgent`] takes the host over when
/// it is given the same [`AgentContext::instance`] with [`AgentContext::resume`].
#[derive(Debug)]
pub struct HostAgent {
    starter: HostStarter,
    leaving: watch::Sender<bool>,
}

impl HostAgent {
    /// Makes the agent. Starts no process yet.
    pub fn new(config: HostConfig) -> Self {
        Self { starter: HostStarter::new(config), leaving: watch::channel(false).0 }
    }

    /// Leaves every host running from now on, for the next gateway; call it before the gateway exits. Futures of
    /// [`Self::serve`] then neither return nor send records, whatever control messages arrive.
    pub fn leave(&self) {
        self.leaving.send_replace(true);
    }

    /// Removes the host directory of an ended instance, once all the instance's records are in the log. Without this
    /// call the directory is removed some time after the end ([`HostLimits::linger`](crate::HostLimits::linger)), or by
    /// [`end_orphans`](crate::end_orphans) at the next start of a gateway. A failure is logged.
    pub fn forget(&self, instance: AgentInstanceId) {
        hosts::remove_ended(&HostDirectory::new(&self.starter.hosts, instance));
    }

    /// Like [`Agent::run`], with any control source and record sink. Returns the reason for which the instance ended.
    pub async fn serve<O: ControlSource, S: RecordSink>(&self, instance: HostedInstance<O, S>) -> AgentExit {
        let number = instance.instance;
        let mut leaving = self.leaving.subscribe();
        let left = async {
            let _ = leaving.wait_for(|leaving| *leaving).await;
        };
        let exit = tokio::select! {
            biased;
            () = left => return std::future::pending().await,
            exit = instance::serve(&self.starter, instance) => exit,
        };
        forget_later(
            HostDirectory::new(&self.starter.hosts, number),
            self.starter.agent.config().limits.host.linger,
        );
        exit
    }
}

/// Removes the directory of an ended host after `linger`: by then the log should have all the instance's records.
fn forget_later(directory: HostDirectory, linger: Duration) {
    tokio::spawn(async move {
        tokio::time::sleep(linger).await;
        hosts::remove_ended(&directory);
    });
}

#[async_trait]
impl Agent for HostAgent {
    fn name(&self) -> &str {
        &self.starter.agent.config().name
    }

    fn describe(&self) -> Option<AgentState> {
        Some(self.starter.agent.config().describe())
    }

    async fn run(&self, context: AgentContext) -> AgentExit {
        let AgentContext { chat, instance, session, resume, control, records, committed, .. } = context;
        self.serve(HostedInstance { chat, instance, session, resume, control, records, committed }).await
    }

    async fn forget_chat(&self, chat: &ChatKey) {
        let (hosts, chat) = (self.starter.hosts.clone(), chat_name(chat));
        let removed = tokio::task::spawn_blocking(move || hosts::remove_of(&hosts, &chat)).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(%error, "what a deleted chat's agent left could not be removed; the next start does it");
        }
    }

    fn survives(&self) -> bool {
        true
    }
}
