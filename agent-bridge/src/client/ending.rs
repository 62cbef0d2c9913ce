//! What is done about hosts that have ended, do not answer, or cannot be understood.

use std::time::Duration;

use bytes::BytesMut;
use switchboard_core::agent::AgentExit;
use tokio::time::{Instant, sleep};

use super::{
    feed::{Feed, FeedEnd},
    hosts,
    starter::HostStarter,
};
use crate::{
    exec::{ports::RecordSink, sweep::request},
    host::{
        directory::HostDirectory,
        earlier,
        protocol::{OLDEST_VERSION, VERSION},
    },
    session::gone,
};

/// How long a host may take to exit after its connection has ended.
const EXIT: Duration = Duration::from_secs(1);
/// Delays between two looks whether a host has exited: the first and the longest.
const LOOKS: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(50)];

/// Whether a host whose connection has ended exits in time. A host releases its lock when it exits.
pub(super) async fn has_gone(directory: &HostDirectory) -> bool {
    exits_within(directory, EXIT).await
}

/// Whether a host exits within this time.
async fn exits_within(directory: &HostDirectory, longest: Duration) -> bool {
    let deadline = Instant::now() + longest;
    let [mut delay, longest_delay] = LOOKS;
    while directory.is_live() {
        if Instant::now() >= deadline {
            return false;
        }
        sleep(delay).await;
        delay = (2 * delay).min(longest_delay);
    }
    true
}

/// Ends a host whose records are missing or unreadable.
pub(super) async fn records_lost(directory: &HostDirectory) -> AgentExit {
    tracing::error!("an agent's records are not to be understood, or some are missing");
    by_force(directory).await;
    gone("agent_host_lost", "What the agent said is lost.")
}

/// Kills the processes that a dead host left behind, and decodes the host's spool to its end.
pub(super) async fn decode_dead<S: RecordSink>(
    agent: &HostStarter,
    directory: &HostDirectory,
    mut feed: Feed<S>,
) -> AgentExit {
    sweep(directory).await;
    if let Some(said) = directory.last_words() {
        tracing::error!(said, "an agent's host died and said why");
    }
    let decoded = if earlier::has_records(directory.dir()) {
        decode_earlier(directory, &mut feed).await
    } else {
        feed.read_dead_spool().await
    };
    if decoded.is_err() {
        tracing::warn!("an agent's spool could not be read to its end");
    }
    let state = feed.state();
    agent
        .agent
        .end(&state)
        .unwrap_or_else(|| gone("agent_exited", "The agent's host was ended, and the agent with it."))
}

/// Decodes the spool of a dead host of version 2.
async fn decode_earlier<S: RecordSink>(directory: &HostDirectory, feed: &mut Feed<S>) -> Result<(), FeedEnd> {
    if let Some(first) = earlier::first_position(directory.dir()) {
        feed.found_first(first);
    }
    let position = feed.position();
    // An incomplete frame at the end of the last file is ignored.
    for bytes in earlier::read_dead(directory.dir(), position + 1)? {
        feed.take(&mut BytesMut::from(&bytes?[..])).await?;
    }
    // The output between these commands is in the log already, or was lost with the agent's pipe.
    for (position, frame) in earlier::read_stored_commands(directory.dir()).unwrap_or_default() {
        feed.skip_to(position.saturating_sub(1));
        feed.take(&mut BytesMut::from(&frame[..])).await?;
    }
    Ok(())
}

/// Ends a host with an unknown protocol version. The host has been asked to kill its agent.
pub(super) async fn other_version(agent: &HostStarter, directory: &HostDirectory, version: u32) -> AgentExit {
    tracing::warn!(
        agent = agent.agent.config().name,
        version,
        "an agent's host speaks a version of the protocol that this program does not know; it is ended, and its turn with \
        it. Before going back to an earlier program, let the turns end"
    );
    exits_within(directory, agent.agent.config().limits.host.shutdown_ack).await;
    by_force(directory).await;
    let detail = format!(
        "The agent was started by another version of Switchboard, whose hosts speak version {version} of their protocol. This \
        one knows versions {OLDEST_VERSION} to {VERSION} and cannot read the rest of the answer, so the agent was ended. Send \
        the message again: the conversation goes on with a new agent."
    );
    gone("agent_host_version", &detail)
}

/// Kills the host, if it runs, and the processes that it leaves behind.
pub(super) async fn by_force(directory: &HostDirectory) {
    kill(directory).await;
    sweep(directory).await;
}

/// Kills the host, if it runs, with everything below it.
pub(super) async fn kill(directory: &HostDirectory) {
    let host = directory.clone();
    let _ = tokio::task::spawn_blocking(move || hosts::kill_hosts(&[&host])).await;
}

/// Kills the processes that a dead host left behind.
async fn sweep(directory: &HostDirectory) {
    let Some(target) = hosts::target(directory) else { return };
    if let Ok(killed @ 1..) = request(target).await {
        tracing::warn!(killed, "what an agent's dead host left was ended");
    }
}
