//! How a connected instance is killed, stopped, or loses its host.

use std::time::Duration;

use switchboard_core::agent::AgentExit;
use switchboard_runtime::AgentControl;
use tokio::time::Instant;

use super::{
    connected::{ConnectedInstance, Feeding},
    ending::{by_force, decode_dead, has_gone, records_lost},
    feed::{Feed, FeedEnd},
};
use crate::{
    exec::{
        ports::{ControlSource, RecordSink},
        process::until,
        read_mode::ReadMode,
    },
    host::protocol::ToHost,
    session::gone,
};

impl ConnectedInstance<'_> {
    /// Kills the agent, ends the host, and returns `exit`.
    pub(super) async fn terminate<S: RecordSink>(
        mut self,
        mut feeding: Feeding<S>,
        exit: AgentExit,
    ) -> AgentExit {
        self.feed.mode.send_replace(ReadMode::Discard);
        self.say(&ToHost::Kill);
        let patience = self.agent.agent.config().limits.host.shutdown_ack;
        self.await_end(&mut feeding, None::<&mut NoControl>, patience).await;
        exit
    }

    /// Stops the agent gracefully, or kills it if [`AgentControl::Kill`] arrives meanwhile.
    pub(super) async fn stop<O: ControlSource, S: RecordSink>(
        mut self,
        mut control: O,
        mut feeding: Feeding<S>,
    ) -> AgentExit {
        self.say(&ToHost::Stop);
        let patience = self.patience();
        self.await_end(&mut feeding, Some(&mut control), patience).await;
        AgentExit::Stopped
    }

    /// Stops the agent of a host of an earlier version. Receives no control messages: a prompt that nobody receives goes
    /// to the chat's next instance.
    pub(super) async fn retire<S: RecordSink>(mut self, mut feeding: Feeding<S>) -> AgentExit {
        self.feed.mode.send_replace(ReadMode::Discard);
        self.say(&ToHost::Stop);
        let patience = self.patience();
        self.await_end(&mut feeding, None::<&mut NoControl>, patience).await;
        gone(
            "agent_host_version",
            "The agent's host was of an earlier version and was stopped after its turn.",
        )
    }

    /// How long a host may take to stop its agent.
    fn patience(&self) -> Duration {
        let limits = &self.agent.agent.config().limits;
        limits.stop_eof + limits.stop_term + limits.host.shutdown_ack
    }

    /// Waits until the host has ended its agent, at most for `patience`, and sends the shutdown acknowledgement. Kills
    /// a host that does not exit.
    async fn await_end<O: ControlSource, S: RecordSink>(
        &mut self,
        feeding: &mut Feeding<S>,
        mut control: Option<&mut O>,
        patience: Duration,
    ) {
        let mut deadline = Instant::now() + patience;
        let mut said = false;
        loop {
            if self.feed.progressed.borrow_and_update().ended && !std::mem::replace(&mut said, true) {
                self.say(&ToHost::ShutdownAck { remove: false });
            }
            tokio::select! {
                biased;
                _ = &mut feeding.0 => break,
                _ = self.feed.progressed.changed(), if !said => {}
                order = async { match &mut control {
                    Some(control) => control.next().await,
                    None => std::future::pending().await,
                } } => match order {
                    AgentControl::Kill => {
                        control = None;
                        self.say(&ToHost::Kill);
                        let patience = self.agent.agent.config().limits.host.shutdown_ack;
                        deadline = deadline.min(Instant::now() + patience);
                    }
                    // A source whose sender is gone returns `Stop` at once, every time.
                    AgentControl::Stop => control = None,
                    AgentControl::Command(_) => {}
                },
                () = until(Some(deadline)) => break,
            }
        }
        if !has_gone(&self.directory).await {
            tracing::warn!("an agent's host does not go; it is killed");
            by_force(&self.directory).await;
        }
    }

    /// Handles a connection that has ended although this gateway did not end it.
    pub(super) async fn lost<S: RecordSink>(self, feed: Feed<S>, end: FeedEnd) -> AgentExit {
        if end == FeedEnd::Broken || !has_gone(&self.directory).await {
            return records_lost(&self.directory).await;
        }
        decode_dead(self.agent, &self.directory, feed).await
    }
}

/// A control source without messages.
struct NoControl;

#[async_trait::async_trait]
impl ControlSource for NoControl {
    async fn next(&mut self) -> AgentControl {
        std::future::pending().await
    }
}
