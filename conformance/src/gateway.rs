//! A gateway whose journal and agents are scripted by the test.

use std::sync::Arc;

use switchboard_core::{Counts, Limits, Peer, ids::Principal, wire::AgentState};
use switchboard_runtime::{Gateway, Running};
use tokio::time::timeout;

use crate::{agent::TestAgents, scripted_journal::ScriptedJournal, transport::WAIT};

/// A running gateway with its scripted journal and agents.
#[derive(Debug)]
pub struct TestGateway {
    limits: Limits,
    pub(crate) journal: ScriptedJournal,
    /// The number of gateways so far; the seed of the current one.
    starts: u8,
    gateway: Gateway,
    running: Option<Running>,
    agents: TestAgents,
}

/// Limits that no test exceeds by being fast.
pub fn generous_limits() -> Limits {
    Limits {
        frames_per_second: 1_000_000,
        frames_burst: 1_000_000,
        messages_per_minute: None,
        new_chats_per_minute: None,
        connections_per_principal: None,
        ..Limits::default()
    }
}

impl TestGateway {
    /// Starts a gateway with an empty journal. Must be called within a tokio runtime.
    pub fn new(limits: Limits) -> Self {
        Self::described(limits, None)
    }

    /// Starts a gateway with an empty journal, whose agents describe themselves as `agent`.
    pub(crate) fn described(limits: Limits, agent: Option<AgentState>) -> Self {
        let (journal, agents) = (ScriptedJournal::default(), TestAgents::described(agent));
        let (gateway, running) =
            Gateway::start(limits.clone(), [1; 32], journal.clone(), Arc::new(agents.clone()));
        Self { limits, journal, starts: 1, gateway, running: Some(running), agents }
    }

    /// Abandons the gateway as in a crash, and starts another one on the same journal. The connections and agents of
    /// the first gateway are lost.
    pub fn restart(&mut self) {
        self.starts += 1;
        self.agents = self.agents.for_next_gateway();
        let (journal, agents) = (self.journal.clone(), Arc::new(self.agents.clone()));
        let (gateway, running) = Gateway::start(self.limits.clone(), [self.starts; 32], journal, agents);
        (self.gateway, self.running) = (gateway, Some(running));
    }

    /// The handle of the current gateway.
    pub fn handle(&self) -> &Gateway {
        &self.gateway
    }

    /// The agents of the current gateway.
    pub fn agents(&self) -> &TestAgents {
        &self.agents
    }

    /// Waits until the gateway has stopped by itself.
    ///
    /// # Errors
    ///
    /// The gateway has been waited for before, or does not stop within [`WAIT`].
    pub async fn finished(&mut self) -> Result<(), String> {
        let running = self.running.take().ok_or("it has finished before")?;
        timeout(WAIT, running.finished()).await.map_err(|_| "it does not finish".to_owned())
    }

    /// Lets the gateway process all pending inputs and their consequences.
    ///
    /// The gateway's loop takes journal answers and connection events before frames, and agent records last. The
    /// answer to one `counts` query may therefore come before a pending input is processed, but the answers to later
    /// queries do not.
    pub async fn settle(&self) {
        for _ in 0..4 {
            tokio::task::yield_now().await;
            // A gateway that has stopped is at rest, too.
            let _ = self.gateway.counts().await;
        }
    }

    /// Waits until the gateway has closed every reader that has taken nothing since before this call. The measure is a
    /// connection in memory that takes nothing from this call on.
    ///
    /// # Errors
    ///
    /// The gateway has stopped, or closes no such reader within [`WAIT`].
    pub async fn stalled_readers_closed(&self) -> Result<(), String> {
        let peer = Peer { principal: Principal::owner(), client_id: None };
        let Ok(mut stalled) = self.gateway.connect(peer, false) else {
            return Err("the gateway has stopped".to_owned());
        };
        let closed = timeout(WAIT, stalled.outbox.closed()).await;
        closed.map_err(|_| "a reader that takes nothing is not closed".to_owned())?;
        // The gateway closes all stalled readers that it finds at a time, one after the other.
        self.settle().await;
        Ok(())
    }

    /// Waits until the gateway's counts satisfy `wanted`, or the gateway has stopped.
    ///
    /// # Errors
    ///
    /// The counts do not satisfy `wanted` within [`WAIT`].
    pub async fn until(&self, wanted: impl Fn(Counts) -> bool) -> Result<(), String> {
        let waiting = async {
            while self.gateway.counts().await.is_ok_and(|counts| !wanted(counts)) {
                tokio::task::yield_now().await;
            }
        };
        timeout(WAIT, waiting).await.map_err(|_| "the counts of the gateway do not change".to_owned())
    }
}
