//! The agent whose processes are subprocesses of the gateway.

use async_trait::async_trait;
use switchboard_core::{agent::AgentExit, wire::AgentState};
use switchboard_runtime::{Agent, AgentContext};

use super::instance::{self, UnhostedInstance};
use crate::{
    config::ProcessConfig,
    exec::ports::{ControlSource, RecordSink},
    starter::Starter,
};

/// An agent that runs as a separate subprocess of the gateway for each chat.
#[derive(Debug)]
pub struct ProcessAgent(Starter);

impl ProcessAgent {
    /// Makes the agent. Starts no process yet.
    pub fn new(config: ProcessConfig) -> Self {
        Self(Starter::new(config))
    }

    /// The configuration with which processes are started.
    pub fn config(&self) -> &ProcessConfig {
        self.0.config()
    }

    /// Like [`Agent::run`], with any control source and record sink. Returns the reason for which the instance ended; by
    /// then its process and all the process's descendants are gone. If the future is dropped, they are killed in the
    /// background.
    pub async fn serve<O: ControlSource, S: RecordSink>(
        &self,
        instance: UnhostedInstance<O, S>,
    ) -> AgentExit {
        instance::serve(&self.0, instance).await
    }
}

#[async_trait]
impl Agent for ProcessAgent {
    fn name(&self) -> &str {
        &self.0.config().name
    }

    fn describe(&self) -> Option<AgentState> {
        Some(self.0.config().describe())
    }

    async fn run(&self, context: AgentContext) -> AgentExit {
        let AgentContext { chat, instance, session, control, records, .. } = context;
        self.serve(UnhostedInstance { chat, instance, session, control, records }).await
    }
}
