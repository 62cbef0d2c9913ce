//! An agent instance under a host: finds or starts its host, and serves it while the two are connected.

use std::io;

use switchboard_core::agent::AgentExit;
use tokio::sync::mpsc;

use super::{
    connected::ConnectedInstance,
    ending,
    feed::{Feed, FeedSource},
    feed_handle::FeedHandle,
    find::{self, Found},
    link::{Link, NoLink},
    spool_reader::SpoolReader,
    starter::{HostStarter, HostedInstance},
};
use crate::{
    exec::{
        ports::{ControlSource, RecordSink},
        process::Owned,
    },
    host::{
        directory::HostDirectory,
        earlier,
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
    let position = decoder.state().position;
    let HostedInstance { control, records, committed, .. } = instance;
    let feed = |source| Feed::new(&config.limits, directory.clone(), decoder, records, source, committed);
    let Link { read, buffer, messages, writer, connection, hello } = match link {
        Ok(link) => link,
        Err(why) => return without_link(agent, &directory, why, position, feed).await,
    };
    let is_earlier = hello.version != VERSION;
    let spool = if is_earlier {
        None
    } else {
        let Ok(mut spool) = open_spool(agent, &directory, position) else {
            return ending::records_lost(&directory).await;
        };
        spool.found(hello.end, hello.noted);
        Some(spool)
    };
    let source = FeedSource { spool, messages: messages.downgrade(), connection: Some(connection) };
    let (feed, handle) = feed(source);
    if is_earlier {
        feed.found_first(hello.first);
        if hello.first > feed.position() + 1 {
            return ending::records_lost(&directory).await;
        }
        session.attach(hello.next.saturating_sub(1), adopted_turn);
        let (agent, version) = (&config.name, hello.version);
        tracing::info!(
            agent,
            version,
            "an agent's host is of an earlier version; it is stopped after its turn"
        );
        session.retire();
    } else {
        session.attach(u64::MAX, adopted_turn);
    }
    // What is in front of a checkpoint that the log has is no longer needed.
    let _ = messages.send(ToHost::Trim { before: position + 1 }.encode());
    let mut instance =
        ConnectedInstance { agent, directory, session, feed: handle, messages, _writer: writer };
    let feeding = Owned(tokio::spawn(feed.run(read, buffer)));
    for command in commands {
        instance.handle(Input::Command(command));
    }
    let first = stopped.then(|| instance.stopping());
    instance.serve(control, feeding, first).await
}

/// Opens the spool of a host, to be read from behind a position on.
fn open_spool(agent: &HostStarter, directory: &HostDirectory, position: u64) -> io::Result<SpoolReader> {
    let config = agent.agent.config();
    let limits = &config.limits;
    let (framing, room) = (config.dialect.framing(), limits.host.spool_bytes);
    SpoolReader::open(directory.dir(), framing, position, room, limits.spooled_record_bytes())
}

/// Ends an instance to whose host there is no connection. If the host is dead or does not answer, a feed from `position`
/// on decodes what is in its spool.
async fn without_link<S: RecordSink>(
    agent: &HostStarter,
    directory: &HostDirectory,
    why: NoLink,
    position: u64,
    feed: impl FnOnce(FeedSource) -> (Feed<S>, FeedHandle),
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
    let spool = if earlier::has_records(directory.dir()) {
        None
    } else {
        let Ok(spool) = open_spool(agent, directory, position) else {
            return ending::records_lost(directory).await;
        };
        Some(spool)
    };
    let messages = mpsc::unbounded_channel().0.downgrade();
    let (feed, _handle) = feed(FeedSource { spool, messages, connection: None });
    ending::decode_dead(agent, directory, feed).await
}
