//! The two ends of a life: where orders come from and where records go.

use async_trait::async_trait;
use switchboard_core::agent::AgentRecords;
use switchboard_runtime::{AgentControl, ControlReceiver, GatewayGone, Records};

/// Where an agent's orders come from: the runtime's [`ControlReceiver`], or an agent host's socket, or a test.
#[async_trait]
pub trait ControlSource: Send {
    /// The next order; cancel safe. After its sender has gone it is [`AgentControl::Stop`], for ever.
    async fn next(&mut self) -> AgentControl;
}

/// Where an agent's records go: the runtime's [`Records`], or an agent host's spool, or a test.
#[async_trait]
pub trait RecordSink: Clone + Send + Sync + 'static {
    /// Hands records on. May wait; the agent's output is not read meanwhile.
    async fn send(&self, records: AgentRecords) -> Result<(), GatewayGone>;
}

#[async_trait]
impl ControlSource for ControlReceiver {
    async fn next(&mut self) -> AgentControl {
        Self::next(self).await
    }
}

#[async_trait]
impl RecordSink for Records {
    async fn send(&self, records: AgentRecords) -> Result<(), GatewayGone> {
        Self::send(self, records).await
    }
}
