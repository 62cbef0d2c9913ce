//! An agent instance under a host: finds or starts its host, and serves it while the two are connected.

use bytes::Bytes;
use switchboard_core::agent::AgentExit;
use tokio::sync::mpsc;

use super::{
    connected::ConnectedInstance,
    ending,
    feed::Feed,
    find::{self, Found},
    link::{Link, NoLink},
    starter::{HostStarter, HostedInstance},
};
use crate::{
    dialect::Framing,
    exec::{
        ports::{ControlSource, RecordSink},
        process::Owned,
    },
    host::{
        directory::HostDirectory,
        protocol::{ToHost, VERSION},
    },
    session::{Input, Session},
};

/// Serves a chat until a stop or kill arrives, or the agent is gone.
pub(super) async fn serve<O: ControlSource, S: RecordSink>(
    agent: &HostStarter,
    mut instance: HostedInstance<O, S>,
) -> AgentExit {
    let config = agent.agent.config();
    let directory = HostDirectory::new(&agent.hosts, instance.instance);
    let number = instance.instance.0;
    tracing::debug!(agent = config.name, chat = %instance.chat.chat, instance = number, "an agent instance begins");
    let mut session = Session::new(agent.agent.session_config().clone(), instance.session.clone());
    let found = find::host(agent, &directory, &mut instance, &mut session).await;
    let Found { link, decoder, commands, stopped, adopted_turn } = match found {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    let from = decoder.state().position + 1;
    let HostedInstance { control, records, committed, .. } = instance;
    let feed = |messages: mpsc::WeakUnboundedSender<Bytes>, lends| {
        Feed::new(&config.limits, directory.clone(), decoder, records, messages, lends, committed)
    };
    let Link { read, buffer, messages, writer, hello } = match link {
        Ok(link) => link,
        Err(why) => {
            let (feed, _handle) = feed(mpsc::unbounded_channel().0.downgrade(), false);
            return without_link(agent, &directory, why, feed).await;
        }
    };
    let is_earlier = hello.version != VERSION;
    let lends = hello.lends && !is_earlier && matches!(config.dialect.framing(), Framing::Lines { .. });
    let (feed, handle) = feed(messages.downgrade(), lends);
    feed.found_first(hello.first);
    if hello.first > feed.position() + 1 {
        return ending::records_lost(&directory).await;
    }
    // Records before a checkpoint that the log has are no longer needed.
    let _ = messages.send(ToHost::Trim { before: from }.encode());
    session.attach(hello.next.saturating_sub(1), adopted_turn);
    if is_earlier {
        let (agent, version) = (&config.name, hello.version);
        tracing::info!(
            agent,
            version,
            "an agent's host is of an earlier version; it is stopped after its turn"
        );
        session.retire();
    }
    let mut instance =
        ConnectedInstance { agent, directory, session, feed: handle, messages, _writer: writer };
    let feeding = Owned(tokio::spawn(feed.run(read, buffer)));
    for command in commands {
        instance.handle(Input::Command(command));
    }
    let first = stopped.then(|| instance.stopping());
    instance.serve(control, feeding, first).await
}

/// Ends an instance to whose host there is no connection. If the host is dead or does not answer, `feed` decodes what
/// the host has spooled.
async fn without_link<S: RecordSink>(
    agent: &HostStarter,
    directory: &HostDirectory,
    why: NoLink,
    feed: Feed<S>,
) -> AgentExit {
    match why {
        NoLink::Dead => {}
        NoLink::Version(version) => return ending::other_version(agent, directory, version).await,
        NoLink::Io(error) => {
            let agent = &agent.agent.config().name;
            tracing::warn!(agent, %error, "an agent's host does not answer; it is ended");
            ending::kill(directory).await;
        }
    }
    ending::decode_dead(agent, directory, feed).await
}
