//! An agent instance under a host: carries out the outputs of its session over the connection to the host.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use switchboard_core::{agent::AgentExit, ids::ChatKey, wire::TurnError};
use switchboard_runtime::AgentControl;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    HostAgent, HostedInstance, ending,
    feed::{Cadence, Feed, FeedEnd, Progress},
    find::{self, Found},
    link::{Link, NoLink},
    loan::Lending,
};
use crate::{
    dialect::Framing,
    driver::{
        ControlSource, RecordSink,
        process::{Owned, until},
        reader::ReadMode,
    },
    host::{
        directory::HostDirectory,
        protocol::{CommandHead, ToHost},
    },
    session::{Input, Output, RecordDecoder, Session, SessionConfig, SessionState},
};

/// Serves a chat until a stop or kill arrives, or the agent is gone.
pub(super) async fn serve<O: ControlSource, S: RecordSink>(
    agent: &HostAgent,
    mut instance: HostedInstance<O, S>,
) -> AgentExit {
    let config = agent.agent.config();
    let directory = HostDirectory::new(&agent.hosts, instance.instance);
    let number = instance.instance.0;
    tracing::debug!(agent = config.name, chat = %instance.chat.chat, instance = number, "an agent instance begins");
    let mut session = Session::new(agent.session_config(), instance.session.clone());
    let found = find::host(agent, &directory, &mut instance, &mut session).await;
    let Found { link, decoder, commands, stopped, resumed } = match found {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    let from = decoder.state().position + 1;
    let HostedInstance { control, records, committed: kept, .. } = instance;
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
        kept,
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
    session.attach(hello.next.saturating_sub(1), resumed);
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

/// The name of a chat in its host's directory: `principal/chat`.
pub(super) fn chat_name(chat: &ChatKey) -> String {
    format!("{}/{}", chat.principal, chat.chat)
}

pub(super) fn gone(code: &str, detail: &str) -> AgentExit {
    AgentExit::Gone(TurnError { code: code.into(), detail: detail.into() })
}

pub(super) type Feeding<S> = Owned<(Feed<S>, FeedEnd)>;

impl HostAgent {
    /// What the sessions of this agent know about it.
    pub(super) fn session_config(&self) -> SessionConfig {
        self.agent.session_config(self.agent.config().limits.spooled_record_bytes())
    }

    /// How an instance has ended according to all its records; `None` if it has not ended.
    pub(super) fn end(&self, state: &SessionState) -> Option<AgentExit> {
        let end = self.session_config().end(Instant::now(), state)?;
        Some(self.agent.exit(end))
    }
}

/// An agent instance that is connected to its host.
pub(super) struct ConnectedInstance<'a> {
    pub(super) agent: &'a HostAgent,
    pub(super) directory: HostDirectory,
    session: Session,
    decoder: Arc<Mutex<RecordDecoder>>,
    lending: Arc<Mutex<Lending>>,
    messages: mpsc::UnboundedSender<Bytes>,
    _writer: Owned<()>,
    pub(super) mode: watch::Sender<ReadMode>,
    pub(super) progressed: watch::Receiver<Progress>,
}

impl ConnectedInstance<'_> {
    async fn serve<O: ControlSource, S: RecordSink>(
        mut self,
        mut control: O,
        mut feeding: Feeding<S>,
        mut input: Option<Input>,
    ) -> AgentExit {
        loop {
            let published = self.progressed.borrow_and_update().sent;
            self.handle(input.take().unwrap_or(Input::Progress { published }));
            while let Some(output) = self.session.poll_output() {
                match output {
                    Output::Command { head, bytes } => self.command(head, bytes),
                    Output::Idle => self.say(&ToHost::Idle),
                    Output::Stop => return self.stop(control, feeding).await,
                    Output::End(end) => {
                        let exit = self.agent.agent.exit(end);
                        return self.terminate(feeding, exit).await;
                    }
                }
            }
            tokio::select! {
                biased;
                _ = self.progressed.changed() => {}
                message = control.next() => match message {
                    AgentControl::Stop => match find::after_stop(&mut control).await {
                        Some(AgentControl::Stop) => {
                            // The gateway is shutting down; the next gateway takes the host over.
                            drop((self, feeding));
                            return std::future::pending().await;
                        }
                        Some(AgentControl::Kill) => return self.terminate(feeding, AgentExit::Stopped).await,
                        // A stopped agent gets no more commands.
                        Some(AgentControl::Command(_)) | None => input = Some(self.stopping()),
                    },
                    AgentControl::Kill => return self.terminate(feeding, AgentExit::Stopped).await,
                    AgentControl::Command(command) => input = Some(Input::Command(command)),
                },
                ended = &mut feeding.0 => return match ended {
                    Ok((feed, end)) => self.lost(feed, end).await,
                    Err(_) => gone("agent_crashed", "The agent's records could not be decoded."),
                },
                () = until(self.session.deadline()) => {}
            }
        }
    }

    /// The input for a stop. The events of a stopped agent are no longer wanted.
    fn stopping(&self) -> Input {
        self.mode.send_replace(ReadMode::Discard);
        Input::Stop
    }

    fn handle(&mut self, input: Input) {
        let mut decoder = self.decoder.lock().unwrap_or_else(PoisonError::into_inner);
        self.session.handle(Instant::now(), input, &mut decoder);
    }

    fn decoder(&self) -> MutexGuard<'_, RecordDecoder> {
        self.decoder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a message to the host.
    pub(super) fn say(&self, message: &ToHost) {
        // If the host is gone, the feed reports it.
        let _ = self.messages.send(message.encode());
    }

    fn command(&self, head: CommandHead, bytes: Bytes) {
        let mut lending = self.lending.lock().unwrap_or_else(PoisonError::into_inner);
        let position = self.decoder().state().position;
        self.say(&lending.command(head, bytes, position));
    }

    /// Returns the lent output to the host.
    pub(super) fn give_back(&self) {
        let mut lending = self.lending.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(message) = lending.give_back() {
            self.say(&message);
        }
    }
}
