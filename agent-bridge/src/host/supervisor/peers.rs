//! The gateways of a host: at most one at a time.

use std::collections::VecDeque;

use async_trait::async_trait;
use bytes::Bytes;
use switchboard_runtime::AgentControl;
use tokio::{sync::mpsc, time::Instant};

use super::super::{
    link::GatewayMessage,
    protocol::{Kind, ToHost, host_frame},
};
use crate::exec::{command::CommandConfig, ports::ControlSource};

/// The state of the connection to a gateway.
pub(super) struct Peers {
    pub(super) messages: mpsc::Receiver<GatewayMessage>,
    /// Messages that arrived while a process was being ended, which takes some seconds at most.
    pub(super) later: VecDeque<GatewayMessage>,
    /// Where frames for the connected gateway go.
    gateway: Option<mpsc::UnboundedSender<Bytes>>,
    pub(super) turn_open: bool,
    /// Since when there has been no gateway.
    pub(super) since: Instant,
}

impl Peers {
    pub(super) fn new(messages: mpsc::Receiver<GatewayMessage>) -> Self {
        let later = VecDeque::new();
        Self { messages, later, gateway: None, turn_open: false, since: Instant::now() }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.gateway.is_some()
    }

    /// Sends a frame to the gateway, if one is connected.
    pub(super) fn send(&self, frame: Bytes) {
        if let Some(gateway) = &self.gateway {
            // If the connection has ended, that is reported.
            let _ = gateway.send(frame);
        }
    }

    /// Sends a frame without a payload.
    pub(super) fn say(&self, kind: Kind) {
        self.send(host_frame(kind, &[]));
    }

    /// The next message; messages in `later` come first. Cancel safe.
    pub(super) async fn receive(&mut self) -> Option<GatewayMessage> {
        match self.later.pop_front() {
            Some(message) => Some(message),
            None => self.messages.recv().await,
        }
    }

    pub(super) fn connected(&mut self, frames: mpsc::UnboundedSender<Bytes>) {
        self.gateway = Some(frames);
    }

    pub(super) fn disconnected(&mut self) {
        self.gateway = None;
        self.since = Instant::now();
    }

    /// When the agent is to be stopped because there is no gateway.
    pub(super) fn grace(&self, config: &CommandConfig) -> Option<Instant> {
        let limits = &config.limits.host;
        let grace = if self.turn_open { limits.grace_turn } else { limits.grace_idle };
        (!self.is_connected()).then(|| self.since + grace)
    }
}

/// The control source while a process is being ended: only a kill has an effect. All messages, kills included, are
/// stored for later, because a kill must end the host as well.
pub(super) struct KillReceiver<'a>(pub(super) &'a mut Peers);

#[async_trait]
impl ControlSource for KillReceiver<'_> {
    async fn next(&mut self) -> AgentControl {
        loop {
            let Some(received) = self.0.messages.recv().await else { return AgentControl::Stop };
            let kills =
                matches!(received, GatewayMessage::Message(ToHost::Kill | ToHost::ShutdownAck { .. }));
            self.0.later.push_back(received);
            if kills {
                return AgentControl::Kill;
            }
        }
    }
}
