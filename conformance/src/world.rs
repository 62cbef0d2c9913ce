//! A gateway whose journal and agents do what the test says.

use std::sync::Arc;

use switchboard_core::{Counts, Limits, wire::AgentState};
use switchboard_runtime::{Gateway, Running};
use tokio::time::timeout;

use crate::{agent::Script, journal::Kept, lab::WAIT};

/// A running gateway, what it keeps, and its agents.
#[derive(Debug)]
pub struct World {
    limits: Limits,
    pub(crate) kept: Kept,
    life: u8,
    gateway: Gateway,
    running: Option<Running>,
    agents: Script,
}

impl World {
    /// Starts a gateway that has kept nothing yet. To be called within a tokio runtime.
    pub fn new(limits: Limits) -> Self {
        Self::described(limits, None)
    }

    /// The same, of a gateway that says what its agents are.
    pub(crate) fn described(limits: Limits, agent: Option<AgentState>) -> Self {
        let (kept, agents) = (Kept::default(), Script::described(agent));
        let (gateway, running) =
            Gateway::start(limits.clone(), [1; 32], kept.clone(), Arc::new(agents.clone()));
        Self { limits, kept, life: 1, gateway, running: Some(running), agents }
    }

    /// Ends the gateway as a crash would, and starts another on what the first one kept. The first one's
    /// connections and agents are nobody's any more.
    pub fn restart(&mut self) {
        self.life += 1;
        self.agents = self.agents.anew();
        let (kept, agents) = (self.kept.clone(), Arc::new(self.agents.clone()));
        let (gateway, running) = Gateway::start(self.limits.clone(), [self.life; 32], kept, agents);
        (self.gateway, self.running) = (gateway, Some(running));
    }

    /// The gateway that lives now.
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Its agents.
    pub fn agents(&self) -> &Script {
        &self.agents
    }

    /// Waits until the gateway has stopped by itself.
    pub async fn finished(&mut self) -> Result<(), String> {
        let running = self.running.take().ok_or("it has finished before")?;
        timeout(WAIT, running.finished()).await.map_err(|_| "it does not finish".to_owned())
    }

    /// Lets the gateway deal with what has reached it, and with what follows from that.
    ///
    /// It takes what the journal answered and what happened to connections before it takes frames, and agents
    /// last, so the answer to a question asked now may still come before something else is seen; the next one
    /// does not.
    pub async fn settle(&self) {
        for _ in 0..4 {
            tokio::task::yield_now().await;
            // A gateway that has stopped is at rest.
            let _ = self.gateway.counts().await;
        }
    }

    /// Waits until what lives in the gateway is as wanted.
    pub async fn until(&self, wanted: impl Fn(Counts) -> bool) -> Result<(), String> {
        let waiting = async {
            while self.gateway.counts().await.is_ok_and(|counts| !wanted(counts)) {
                tokio::task::yield_now().await;
            }
        };
        timeout(WAIT, waiting).await.map_err(|_| "what lives in the gateway does not change".to_owned())
    }
}
