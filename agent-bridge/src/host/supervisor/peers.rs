//! The gateways of a host: one at a time, or none for a while.

use std::collections::VecDeque;

use async_trait::async_trait;
use switchboard_runtime::AgentControl;
use tokio::{sync::mpsc, time::Instant};

use super::super::{link::GatewayMessage, protocol::ToHost};
use crate::{ProcessConfig, driver::ControlSource};

/// What is known about gateways.
pub(super) struct Peers {
    pub(super) heard: mpsc::Receiver<GatewayMessage>,
    /// What came while a process was being ended, which takes seconds at most.
    pub(super) later: VecDeque<GatewayMessage>,
    pub(super) connected: bool,
    /// Grows when one comes or goes.
    pub(super) changes: u64,
    pub(super) turn_open: bool,
    /// Since when there has been none.
    pub(super) since: Instant,
}

impl Peers {
    /// What comes next: first what came while a process was being ended. Cancel safe.
    pub(super) async fn receive(&mut self) -> Option<GatewayMessage> {
        match self.later.pop_front() {
            Some(heard) => Some(heard),
            None => self.heard.recv().await,
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

    /// When the agent is stopped for want of a gateway.
    pub(super) fn grace(&self, config: &ProcessConfig) -> Option<Instant> {
        let limits = &config.limits.host;
        let grace = if self.turn_open { limits.grace_turn } else { limits.grace_idle };
        (!self.connected).then(|| self.since + grace)
    }
}

/// What is heard while a process is being ended: that it is to go at once. All else is for later, that it is to go
/// at once included, because the host is to go with it.
pub(super) struct KillReceiver<'a>(pub(super) &'a mut Peers);

#[async_trait]
impl ControlSource for KillReceiver<'_> {
    async fn next(&mut self) -> AgentControl {
        loop {
            match self.0.heard.recv().await {
                Some(GatewayMessage::Message(message)) => {
                    let at_once = matches!(message, ToHost::Kill | ToHost::Farewell { .. });
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
