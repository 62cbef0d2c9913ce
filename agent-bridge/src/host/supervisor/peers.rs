//! The gateways of a host: at most one at a time.

use std::collections::VecDeque;

use async_trait::async_trait;
use switchboard_runtime::AgentControl;
use tokio::{sync::mpsc, time::Instant};

use super::super::{link::GatewayMessage, protocol::ToHost};
use crate::exec::{command::CommandConfig, ports::ControlSource};

/// The state of the connection to a gateway.
pub(super) struct Peers {
    pub(super) messages: mpsc::Receiver<GatewayMessage>,
    /// Messages that arrived while a process was being ended, which takes some seconds at most.
    pub(super) later: VecDeque<GatewayMessage>,
    pub(super) connected: bool,
    /// Incremented when a gateway connects or disconnects.
    pub(super) changes: u64,
    pub(super) turn_open: bool,
    /// Since when there has been no gateway.
    pub(super) since: Instant,
}

impl Peers {
    /// The next message; messages in `later` come first. Cancel safe.
    pub(super) async fn receive(&mut self) -> Option<GatewayMessage> {
        match self.later.pop_front() {
            Some(message) => Some(message),
            None => self.messages.recv().await,
        }
    }

    pub(super) fn connected(&mut self) {
        self.connected = true;
        self.changes += 1;
    }

    pub(super) fn disconnected(&mut self) {
        self.connected = false;
        self.changes += 1;
        self.since = Instant::now();
    }

    /// When the agent is to be stopped because there is no gateway.
    pub(super) fn grace(&self, config: &CommandConfig) -> Option<Instant> {
        let limits = &config.limits.host;
        let grace = if self.turn_open { limits.grace_turn } else { limits.grace_idle };
        (!self.connected).then(|| self.since + grace)
    }
}

/// The control source while a process is being ended: only a kill has an effect. All messages, kills included, are
/// stored for later, because a kill must end the host as well.
pub(super) struct KillReceiver<'a>(pub(super) &'a mut Peers);

#[async_trait]
impl ControlSource for KillReceiver<'_> {
    async fn next(&mut self) -> AgentControl {
        loop {
            match self.0.messages.recv().await {
                Some(GatewayMessage::Message(message)) => {
                    let at_once = matches!(message, ToHost::Kill | ToHost::ShutdownAck { .. });
                    self.0.later.push_back(GatewayMessage::Message(message));
                    if at_once {
                        return AgentControl::Kill;
                    }
                }
                Some(GatewayMessage::Connected) => self.0.connected(),
                Some(GatewayMessage::Gone) => self.0.disconnected(),
                None => return AgentControl::Stop,
            }
        }
    }
}
