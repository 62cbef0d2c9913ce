//! An agent instance under a host: finds or starts its host, and serves it while the two are connected.

use std::sync::{Arc, Mutex};

use switchboard_core::agent::AgentExit;
use tokio::sync::{mpsc, watch};

use super::{
    connected::ConnectedInstance,
    ending,
    feed::{Cadence, Feed, Progress},
    find::{self, Found},
    link::{Link, NoLink},
    starter::{HostStarter, HostedInstance},
};
use crate::{
    dialect::Framing,
    exec::{
        ports::{ControlSource, RecordSink},
        process::Owned,
        read_mode::ReadMode,
    },
    host::{directory::HostDirectory, protocol::ToHost},
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
    let mut session = Session::new(agent.session_config(), instance.session.clone());
    let found = find::host(agent, &directory, &mut instance, &mut session).await;
    let Found { link, decoder, commands, stopped, adopted_turn } = match found {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    let from = decoder.state().position + 1;
    let HostedInstance { control, records, committed, .. } = instance;
    let (messages, _) = mpsc::unbounded_channel();
    let (mode, watched) = watch::channel(ReadMode::Live);
    let (progress, progressed) = watch::channel(Progress::default());
    let decoder = Arc::new(Mutex::new(decoder));
    let lending = Arc::default();
    let mut feed = Feed {
        decoder: Arc::clone(&decoder),
        lending: Arc::clone(&lending),
        directory: directory.clone(),
        loan: None,
        lends: false,
        asks: true,
        sink: records,
        messages: messages.downgrade(),
        progress,
        mode: watched,
        limits: config.limits.clone(),
        cadence: Cadence::new(&config.limits),
        committed,
    };
    let link = match link {
        Ok(link) => link,
        Err(NoLink::Dead) => return ending::decode_dead(agent, &directory, feed).await,
        Err(NoLink::Version(version)) => return ending::other_version(agent, &directory, version).await,
        Err(NoLink::Io(error)) => {
            tracing::warn!(agent = config.name, %error, "an agent's host does not answer; it is ended");
            ending::by_force(&directory).await;
            return ending::decode_dead(agent, &directory, feed).await;
        }
    };
    let Link { read, buffer, messages, writer, hello } = link;
    feed.found_first(hello.first);
    if hello.first > feed.position() + 1 {
        return ending::records_lost(&directory).await;
    }
    feed.lends = hello.lends && matches!(config.dialect.framing(), Framing::Lines { .. });
    feed.messages = messages.downgrade();
    // Records before a checkpoint that the log has are no longer needed.
    let _ = messages.send(ToHost::Trim { before: from }.encode());
    session.attach(hello.next.saturating_sub(1), adopted_turn);
    let mut instance = ConnectedInstance {
        agent,
        directory,
        session,
        decoder,
        lending,
        messages,
        _writer: writer,
        mode,
        progressed,
    };
    let feeding = Owned(tokio::spawn(feed.run(read, buffer)));
    for command in commands {
        instance.handle(Input::Command(command));
    }
    let first = stopped.then(|| instance.stopping());
    instance.serve(control, feeding, first).await
}
