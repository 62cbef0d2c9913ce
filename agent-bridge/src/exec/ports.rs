//! Where an agent instance gets its control messages, and where it sends its records.

use async_trait::async_trait;
use switchboard_core::agent::AgentRecords;
use switchboard_runtime::{AgentControl, ControlReceiver, GatewayGone, Records};

/// A source of control messages for an agent: the runtime's [`ControlReceiver`], an agent host's socket, or a test.
#[async_trait]
pub trait ControlSource: Send {
    /// The next control message. Cancel safe. Once the sender is gone, every call returns [`AgentControl::Stop`].
    async fn next(&mut self) -> AgentControl;
}

/// A sink for an agent's records: the runtime's [`Records`], an agent host's spool, or a test.
#[async_trait]
pub trait RecordSink: Clone + Send + Sync + 'static {
    /// Sends records. May wait, during which the agent's output is not read.
    ///
    /// # Errors
    /// If the gateway is gone.
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
