//! An agent instance under a host: sends commands to the host, and decides from the records what to do next.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use switchboard_core::{
    agent::{AgentCommand, AgentExit, CommandId},
    ids::{ChatKey, TurnId},
    wire::TurnError,
};
use switchboard_runtime::AgentControl;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    HostAgent, HostedInstance,
    decoder::{InstanceDecoder, InstanceState},
    ending::{self, how_it_ended},
    feed::{Cadence, Feed, FeedEnd, Progress},
    find::{self, Found},
    link::{Link, NoLink},
    loan::Lending,
};
use crate::{
    dialect::{Encoded, Framing, ProcessLifetime, ProcessStart},
    driver::{
        ControlSource, RecordSink,
        process::{Owned, until},
        reader::ReadMode,
    },
    host::{
        place::HostDirectory,
        protocol::{Action, CommandHead, CommandMeaning, ToHost},
    },
};

/// Delay before the host is informed that no turn is open, in case another turn begins at once. Clients that wait for
/// the turn's end are served first.
const IDLE_AFTER: Duration = Duration::from_millis(50);

/// Serves a chat until a stop or kill arrives, or the agent is gone.
pub(super) async fn serve<O: ControlSource, S: RecordSink>(
    agent: &HostAgent,
    mut life: HostedInstance<O, S>,
) -> AgentExit {
    let config = agent.agent.config();
    let place = HostDirectory::new(&agent.hosts, life.instance);
    tracing::debug!(agent = config.name, chat = %life.chat.chat, instance = life.instance.0, "an agent's life begins");
    let Found { link, decoder, commands, stopped, resumed } = match find::host(agent, &place, &mut life).await
    {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    let from = decoder.state().position + 1;
    let HostedInstance { session, control, records, committed: kept, .. } = life;
    let (messages, _) = mpsc::unbounded_channel();
    let (mode, watched) = watch::channel(ReadMode::Live);
    let (progress, progressed) = watch::channel(Progress::default());
    let decoder = Arc::new(Mutex::new(decoder));
    let lending = Arc::default();
    let mut feed = Feed {
        decoder: Arc::clone(&decoder),
        lending: Arc::clone(&lending),
        place: place.clone(),
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
        Err(NoLink::Dead) => return ending::decode_dead(agent, &place, feed).await,
        Err(NoLink::Version(version)) => return ending::other_version(agent, &place, version).await,
        Err(NoLink::Io(error)) => {
            tracing::warn!(agent = config.name, %error, "an agent's host does not answer; it is ended");
            ending::by_force(&place).await;
            return ending::decode_dead(agent, &place, feed).await;
        }
    };
    let Link { read, buffer, messages, writer, hello } = link;
    feed.found_first(hello.first);
    if hello.first > feed.position() + 1 {
        return ending::records_lost(&place).await;
    }
    feed.lends = hello.lends && matches!(config.dialect.framing(), Framing::Lines { .. });
    feed.messages = messages.downgrade();
    // Records before a checkpoint that the log has are no longer needed.
    let _ = messages.send(ToHost::Trim { before: from }.encode());
    let life = ConnectedInstance {
        agent,
        place,
        session,
        decoder,
        lending,
        messages,
        _writer: writer,
        mode,
        progressed,
        caught_up_at: hello.next.saturating_sub(1),
        queue: commands,
        waiting: None,
        sent: None,
        resumed,
        ordered: 0,
        end_sent: false,
        was_open: true,
        idle_at: None,
        reviewed: Instant::now(),
        began: None,
        closed: None,
    };
    let feeding = Owned(tokio::spawn(feed.run(read, buffer)));
    if stopped {
        return life.stop(control, feeding).await;
    }
    life.serve_commands(control, feeding).await
}

/// The name of a chat in its host's directory: `principal/chat`.
pub(super) fn chat_name(chat: &ChatKey) -> String {
    format!("{}/{}", chat.principal, chat.chat)
}

pub(super) fn gone(code: &str, detail: &str) -> AgentExit {
    AgentExit::Gone(TurnError { code: code.into(), detail: detail.into() })
}

pub(super) type Feeding<S> = Owned<(Feed<S>, FeedEnd)>;

/// An agent instance that is connected to its host.
pub(super) struct ConnectedInstance<'a> {
    pub(super) agent: &'a HostAgent,
    pub(super) place: HostDirectory,
    session: Option<String>,
    decoder: Arc<Mutex<InstanceDecoder>>,
    lending: Arc<Mutex<Lending>>,
    messages: mpsc::UnboundedSender<Bytes>,
    _writer: Owned<()>,
    pub(super) mode: watch::Sender<ReadMode>,
    pub(super) progressed: watch::Receiver<Progress>,
    /// The position of the last record from before this connection. Commands wait until this record is decoded, because
    /// until then it is unknown which of them have been carried out.
    caught_up_at: u64,
    /// Commands that have not been carried out.
    queue: VecDeque<AgentCommand>,
    /// A prompt that waits for a process.
    waiting: Option<AgentCommand>,
    /// The turn whose prompt was sent last.
    sent: Option<TurnId>,
    /// The turn for which an instance of an earlier gateway was taken over.
    resumed: Option<TurnId>,
    /// Number of the last start that was commanded.
    ordered: u64,
    /// Whether the process that does not know its session was commanded to end.
    end_sent: bool,
    was_open: bool,
    /// When to inform the host that no turn is open.
    idle_at: Option<Instant>,
    /// The time of the last review.
    reviewed: Instant,
    /// When the process that is not ready was first seen.
    began: Option<Instant>,
    /// When the process's output was found to be closed.
    closed: Option<Instant>,
}

impl ConnectedInstance<'_> {
    async fn serve_commands<O: ControlSource, S: RecordSink>(
        mut self,
        mut control: O,
        mut feeding: Feeding<S>,
    ) -> AgentExit {
        loop {
            if let Some(exit) = self.review() {
                return self.terminate(feeding, exit).await;
            }
            let deadline = self.deadline();
            tokio::select! {
                biased;
                _ = self.progressed.changed() => {}
                order = control.next() => match order {
                    AgentControl::Stop => match find::after_stop(&mut control).await {
                        Some(AgentControl::Stop) => {
                            // The gateway is shutting down; the next gateway takes the host over.
                            drop((self, feeding));
                            return std::future::pending().await;
                        }
                        Some(AgentControl::Kill) => return self.terminate(feeding, AgentExit::Stopped).await,
                        // A stopped agent gets no more commands.
                        Some(AgentControl::Command(_)) | None => return self.stop(control, feeding).await,
                    },
                    AgentControl::Kill => return self.terminate(feeding, AgentExit::Stopped).await,
                    AgentControl::Command(command) => self.queue.push_back(command),
                },
                ended = &mut feeding.0 => return match ended {
                    Ok((feed, end)) => self.lost(feed, end).await,
                    Err(_) => gone("agent_crashed", "The agent's records could not be decoded."),
                },
                () = until(deadline) => {}
            }
        }
    }

    pub(super) fn decoder(&self) -> MutexGuard<'_, InstanceDecoder> {
        self.decoder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a message to the host.
    pub(super) fn say(&self, message: &ToHost) {
        // If the host is gone, the feed reports it.
        let _ = self.messages.send(message.encode());
    }

    fn command(&self, id: String, action: Action, told: CommandMeaning, bytes: impl Into<Bytes>) {
        let opens_turn = matches!(told, CommandMeaning::Prompt { .. });
        let head = CommandHead { id, action, opens_turn, told };
        let mut lending = self.lending.lock().unwrap_or_else(PoisonError::into_inner);
        let position = self.decoder().state().position;
        self.say(&lending.command(head, bytes.into(), position));
    }

    /// Returns the lent output to the host.
    pub(super) fn give_back(&self) {
        let mut lending = self.lending.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(message) = lending.give_back() {
            self.say(&message);
        }
    }

    /// Reviews the state and takes all actions that are due. Returns the reason for which the instance has ended, if it
    /// has.
    fn review(&mut self) -> Option<AgentExit> {
        self.reviewed = Instant::now();
        let state = self.decoder().state().clone();
        if state.position < self.caught_up_at {
            return None;
        }
        if self.sent.is_none() {
            self.sent.clone_from(&state.prompted);
        }
        if let Some(exit) = self.ended(&state) {
            // All events of the agent must be sent first.
            return (self.progressed.borrow().sent >= state.position).then_some(exit);
        }
        let open = state.turn_open || self.sent != state.prompted;
        if std::mem::replace(&mut self.was_open, open) && !open {
            self.idle_at = Some(self.reviewed + IDLE_AFTER);
        }
        while let Some(command) = self.next_command(&state) {
            self.obey(&state, command);
        }
        if self.was_open {
            self.idle_at = None;
        } else if self.idle_at.take_if(|due| *due <= self.reviewed).is_some() {
            self.say(&ToHost::Idle);
        }
        match self.lifetime() {
            ProcessLifetime::Instance => self.review_process(&state),
            ProcessLifetime::Prompt => {
                if !state.running && self.sent == state.prompted && self.is_due() {
                    self.start_for_prompt(&state);
                }
            }
        }
        None
    }

    /// The next command, unless it is a prompt and the agent is in another turn. The log has lost that turn, so it is
    /// cancelled first.
    fn next_command(&mut self, state: &InstanceState) -> Option<AgentCommand> {
        while let Some(AgentCommand::Prompt { turn_id, .. }) = self.queue.front() {
            if self.resumed.as_ref() == Some(turn_id) && !self.decoder().wants(turn_id) {
                // The records contain the end of this turn.
                self.queue.pop_front();
                continue;
            }
            self.decoder().want_only(Some(turn_id.clone()));
            if let Some(lost) = state.prompted.clone().filter(|open| state.turn_open && open != turn_id) {
                self.send_command(&AgentCommand::Cancel { id: CommandId(0), turn_id: lost });
                return None;
            }
            break;
        }
        self.queue.pop_front()
    }

    fn review_process(&mut self, state: &InstanceState) {
        if state.ready {
            self.began = None;
            if let Some(prompt) = self.waiting.take() {
                self.agent.agent.backoff.succeeded();
                self.send_command(&prompt);
            }
        } else if state.running {
            self.began.get_or_insert_with(Instant::now);
            if state.unknown_session && !std::mem::replace(&mut self.end_sent, true) {
                self.command(
                    format!("end{}", state.starts),
                    Action::End { force: true },
                    CommandMeaning::Reply,
                    "",
                );
            }
        } else if self.waiting.is_some() && self.ordered == state.starts && self.is_due() {
            // The first start, or the second one without the unknown session.
            let session = self.session.clone().filter(|_| state.starts == 0);
            if state.starts > 0 {
                let agent = &self.agent.agent.config().name;
                tracing::info!(agent, "the session is unknown to the agent; it begins a new one");
            }
            let ProcessStart { arguments, input } =
                self.agent.agent.config().dialect.start(session.as_deref());
            self.ordered = state.starts + 1;
            self.began = None;
            let start = Action::Start { further: arguments, close: false };
            self.command(format!("start{}", self.ordered), start, CommandMeaning::Start { session }, input);
        }
        self.closed = (state.running && state.closed).then(|| self.closed.unwrap_or_else(Instant::now));
    }

    /// Whether the backoff after failed starts is over.
    fn is_due(&self) -> bool {
        self.agent.agent.backoff.not_before().is_none_or(|due| due <= self.reviewed)
    }

    fn start_for_prompt(&mut self, state: &InstanceState) {
        let Some(command) = self.waiting.take() else { return };
        let AgentCommand::Prompt { id, turn_id, .. } = &command else { return };
        let Encoded::Write(bytes) = self.decoder().encode(&command) else { return };
        if state.starts > 0 {
            self.agent.agent.backoff.succeeded();
        }
        let ProcessStart { arguments, mut input } = self.agent.agent.config().dialect.start(None);
        input.extend_from_slice(&bytes);
        let start = Action::Start { further: arguments, close: true };
        self.sent = Some(turn_id.clone());
        self.was_open = true;
        let told = CommandMeaning::Prompt { turn: turn_id.as_str().into() };
        self.command(format!("c{}:{turn_id}", id.0), start, told, input);
    }

    /// Carries out a command, unless the records show that it has been carried out.
    fn obey(&mut self, state: &InstanceState, command: AgentCommand) {
        match &command {
            AgentCommand::Prompt { turn_id, .. } => {
                let known = self.sent.as_ref() == Some(turn_id);
                if !known && state.ready && self.lifetime() == ProcessLifetime::Instance {
                    self.send_command(&command);
                } else if !known {
                    self.waiting = Some(command);
                }
            }
            AgentCommand::Cancel { id, turn_id } => {
                let waits = matches!(&self.waiting, Some(AgentCommand::Prompt { turn_id: waits, .. }) if waits == turn_id);
                let on_its_way =
                    self.sent.as_ref() == Some(turn_id) && state.prompted.as_ref() != Some(turn_id);
                let open = state.turn_open && state.prompted.as_ref() == Some(turn_id);
                if waits {
                    self.waiting = None;
                    self.sent = Some(turn_id.clone());
                    self.was_open = true;
                    let told = CommandMeaning::Void { turn: turn_id.as_str().into() };
                    self.command(format!("c{}:{turn_id}", id.0), Action::Note, told, "");
                } else if on_its_way || open {
                    self.send_command(&command);
                }
                // Otherwise the turn's end is about to be decoded; an interrupt could only stop the next turn.
            }
            AgentCommand::Answer { .. } => self.send_command(&command),
        }
    }

    /// Sends a command to the host, if the agent is to be sent anything for it.
    pub(super) fn send_command(&mut self, command: &AgentCommand) {
        let (subject, told) = match command {
            AgentCommand::Prompt { turn_id, .. } => {
                self.sent = Some(turn_id.clone());
                self.was_open = true;
                (turn_id.as_str(), CommandMeaning::Prompt { turn: turn_id.as_str().into() })
            }
            AgentCommand::Cancel { turn_id, .. } => {
                (turn_id.as_str(), CommandMeaning::Cancel { turn: turn_id.as_str().into() })
            }
            AgentCommand::Answer { request_id, .. } => {
                (request_id.as_str(), CommandMeaning::Answer { request: request_id.as_str().into() })
            }
        };
        let id = format!("c{}:{subject}", command.id().0);
        let encoded = self.decoder().encode(command);
        match encoded {
            Encoded::Nothing => {}
            Encoded::Write(bytes) => self.command(id, Action::Write, told, bytes),
            Encoded::Terminate => self.command(id, Action::End { force: false }, told, ""),
        }
    }

    fn lifetime(&self) -> ProcessLifetime {
        self.agent.agent.config().dialect.lifetime()
    }

    /// The open turn, including a turn whose prompt was sent and has not come back as a record.
    pub(super) fn open_turn(&self) -> Option<TurnId> {
        let state = self.decoder().state().clone();
        if self.sent.is_some() && self.sent != state.prompted {
            return self.sent.clone();
        }
        state.prompted.filter(|_| state.turn_open)
    }

    /// When the next review is due if no new records arrive.
    fn deadline(&self) -> Option<Instant> {
        let limits = &self.agent.agent.config().limits;
        let backoff = self.agent.agent.backoff.not_before();
        let backoff = backoff.filter(|_| self.waiting.is_some());
        let start = self.began.map(|began| began + limits.start);
        let closed = self.closed.map(|closed| closed + limits.closed_output);
        let due = [backoff, start, closed, self.idle_at].into_iter().flatten();
        // Overdue actions wait until the records are sent.
        due.filter(|due| *due > self.reviewed).min()
    }

    /// The reason for which the instance has ended, according to its records and to the time limits.
    fn ended(&self, state: &InstanceState) -> Option<AgentExit> {
        let now = self.reviewed;
        let limits = &self.agent.agent.config().limits;
        if self.closed.is_some_and(|closed| closed + limits.closed_output <= now) && state.running {
            return Some(gone("agent_closed_output", "The agent closed its output."));
        }
        if self.began.is_some_and(|began| began + limits.start <= now) && state.running && !state.ready {
            return Some(self.agent.agent.start_failed("it did not answer in time"));
        }
        how_it_ended(self.agent, state)
    }
}
