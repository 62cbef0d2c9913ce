//! The engine: the task that owns the hub. It takes inputs in a fixed order of priority, a bounded number per wake,
//! and carries out the hub's outputs at once.

use std::{
    future::{pending, poll_fn},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;
use switchboard_core::{
    ChatRef, Counts, Hub, Input, Moment, Offered, Output, Peer, Recipients,
    agent::{AgentCommand, AgentExit, AgentInstanceId},
    ids::{ChatKey, ConnId},
    journal::{Append, AppendId, Change, Grant, JournalAnswer},
    wire::TurnError,
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot, watch},
    task::{AbortHandle, JoinHandle},
    time::{MissedTickBehavior, interval, sleep, sleep_until},
};

use crate::{
    agent::{Agent, AgentChannels, AgentContext, ControlReceiver, FromAgent, Resume, Termination},
    clock::Clock,
    journal::{self, Journal, Request},
    lifecycle::Lifecycle,
    outbox::Outbox,
};

/// How many inputs of one kind are taken per wake, before the other kinds are polled again.
const INPUTS_PER_WAKE: usize = 64;
/// How many commands may wait for one agent. The hub sends one prompt at a time and one answer per request.
const COMMANDS: usize = 128;
/// How many chats may be in recovery at once, so that a journal with many of them does not delay clients.
const RECOVERIES: usize = 64;
/// How often the engine looks for peers that accept no bytes.
const STALL_CHECK: Duration = Duration::from_secs(1);
/// A shutdown does not wait for a peer that accepts no byte for this long, in milliseconds.
const CLOSE_STALL_MS: u64 = 3_000;

/// Events of connections, in order for each connection: opened, frames, gone. Bounded by the number of connections,
/// by the permits for frames, and by the number of callers that ask for counts.
#[derive(Debug)]
pub(crate) enum FromPeer {
    Opened {
        conn: ConnId,
        peer: Peer,
        outbox: Arc<Outbox>,
    },
    /// A frame, with its permit to wait for the engine.
    Frame(Input, OwnedSemaphorePermit),
    Gone(ConnId),
    Count(oneshot::Sender<Counts>),
}

/// The engine's ends of all channels.
pub(crate) struct Inputs {
    pub(crate) journal: mpsc::UnboundedReceiver<JournalAnswer>,
    /// Notified when the journal has failed for good.
    pub(crate) journal_failed: Arc<Notify>,
    /// Why the journal cannot be written or read at the moment.
    pub(crate) health: watch::Receiver<Option<String>>,
    pub(crate) lifecycle: mpsc::UnboundedReceiver<Lifecycle>,
    pub(crate) peers: mpsc::UnboundedReceiver<FromPeer>,
    pub(crate) agents: mpsc::Receiver<FromAgent>,
}

/// Everything that the engine owns.
pub(crate) struct Engine<J> {
    pub(crate) hub: Hub,
    pub(crate) journal: J,
    pub(crate) agent: Arc<dyn Agent>,
    pub(crate) agents_inbox: mpsc::Sender<FromAgent>,
    pub(crate) clock: Clock,
    pub(crate) outboxes: FxHashMap<ConnId, Arc<Outbox>>,
    pub(crate) agents: FxHashMap<AgentInstanceId, AgentLink>,
    /// The number of the newest link.
    pub(crate) last_link: u64,
    pub(crate) requests: Vec<Request>,
    /// Checkpoints of decoders in appends that the journal has not answered. Bounded by the number of such appends.
    pub(crate) checkpoints: FxHashMap<AppendId, (AgentInstanceId, u64)>,
    /// Events that outboxes refused. The hub gets these refusals before any other input.
    pub(crate) refusals: Vec<(ConnId, ChatRef, u64)>,
    /// Agent instances that ended with an earlier gateway. The hub learns of their end at once, so that clients that
    /// attach during recovery get the outcome of the turn, and do not see it as running.
    pub(crate) dead_instances: Vec<(ChatKey, AgentInstanceId)>,
    /// Grants that the journal gave at once.
    pub(crate) granted: Vec<(ChatKey, Grant)>,
    /// Connections whose outbox already has room when the hub asks for a drain report.
    pub(crate) drained: Vec<ConnId>,
    /// A shutdown has begun.
    pub(crate) stopping: bool,
    pub(crate) finished: bool,
}

/// The engine's ends of one agent's channels.
pub(crate) struct AgentLink {
    /// Parts this link's messages from those of an earlier link to the same instance.
    number: u64,
    /// Drops the instance's future.
    run: AbortHandle,
    commands: mpsc::Sender<AgentCommand>,
    termination: watch::Sender<Termination>,
    paused: watch::Sender<bool>,
    committed: watch::Sender<u64>,
    /// Whether an earlier gateway started this instance.
    adopted: bool,
    /// The id of the newest prompt that was sent, and the id of the newest command that the agent took.
    prompt: u64,
    last_taken: Arc<AtomicU64>,
}

impl<J: Journal> Engine<J> {
    pub(crate) async fn run(mut self, mut inputs: Inputs, finished: oneshot::Sender<()>) {
        let mut stall_check = interval(STALL_CHECK);
        stall_check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.finished {
            let deadline = self.hub.next_deadline();
            let recovers = !self.stopping && self.hub.counts().recoveries < RECOVERIES;
            // In order of priority: committed events are published, room is made, chats are recovered, requests of clients
            // are handled, then records of agents.
            tokio::select! {
                biased;
                Some(answer) = inputs.journal.recv() => {
                    self.answer(answer);
                    receive_more(&mut inputs.journal, |answer| self.answer(answer));
                }
                () = inputs.journal_failed.notified() => {
                    tracing::error!("the journal has failed for good; the gateway stops, and loses nothing that is committed");
                    break;
                }
                Ok(()) = inputs.health.changed() => {
                    let why = inputs.health.borrow_and_update().clone();
                    self.handle(Input::Degraded { why });
                }
                Some(event) = inputs.lifecycle.recv() => {
                    self.lifecycle(event);
                    receive_more(&mut inputs.lifecycle, |event| self.lifecycle(event));
                }
                input = poll_fn(|cx| journal::report(&mut self.journal, recovers, cx)) => self.handle(input),
                Some(event) = inputs.peers.recv() => {
                    self.peer(event);
                    receive_more(&mut inputs.peers, |event| self.peer(event));
                }
                Some(event) = inputs.agents.recv() => self.agent(event),
                () = sleep_until(deadline.map_or_else(far_away, |due| self.clock.instant(due.at_ms))),
                    if deadline.is_some() => self.handle(Input::Tick),
                _ = stall_check.tick() => self.check_stalls(),
            }
            if !self.requests.is_empty() {
                self.journal.submit(&mut self.requests);
            }
        }
        // Dropping the journal commits the last requests, so the gateway has ended only after it.
        drop(self);
        // The `Running` handle may have been dropped.
        let _ = finished.send(());
    }

    /// Passes one input to the hub and carries out all outputs that follow.
    fn handle(&mut self, input: Input) {
        let now = self.clock.now();
        self.hub.handle(now, input);
        loop {
            while let Some(output) = self.hub.poll_output() {
                self.carry_out(output);
            }
            let none = self.refusals.is_empty() && self.dead_instances.is_empty() && self.granted.is_empty();
            if none && self.drained.is_empty() {
                break;
            }
            for (conn, chat, first_seq) in std::mem::take(&mut self.refusals) {
                self.hub.handle(now, Input::OutboxFull { conn, chat, first_seq });
            }
            for (chat, instance) in std::mem::take(&mut self.dead_instances) {
                let exit = AgentExit::Gone(restarted());
                self.hub.handle(now, Input::AgentExited { chat, instance, exit });
            }
            for (chat, grant) in std::mem::take(&mut self.granted) {
                self.hub.handle(now, Input::Owned { chat, grant });
            }
            if let Some(conn) = self.drained.pop() {
                self.report_drained(now, conn);
            }
        }
    }

    fn answer(&mut self, answer: JournalAnswer) {
        if let JournalAnswer::Appended(id) | JournalAnswer::Refused(id) | JournalAnswer::Conflict(id, _) =
            &answer
            && let Some((instance, position)) = self.checkpoints.remove(id)
            && let Some(link) =
                self.agents.get(&instance).filter(|_| matches!(answer, JournalAnswer::Appended(_)))
        {
            link.committed.send_replace(position);
        }
        self.handle(Input::Journal(answer));
    }

    fn report_drained(&mut self, now: Moment, conn: ConnId) {
        if let Some(outbox) = self.outboxes.get(&conn) {
            outbox.accept_again();
            self.hub.handle(now, Input::OutboxDrained { conn });
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Deliver { conn, frame } => {
                if let Some(outbox) = self.outboxes.get(&conn) {
                    outbox.push(frame);
                }
            }
            Output::Offer { chat, events, to } => match to {
                Recipients::One(conn) => self.offer(conn, chat, &events),
                Recipients::Many(conns) => conns.iter().for_each(|conn| self.offer(*conn, chat, &events)),
            },
            Output::WatchDrain { conn } => {
                if self.outboxes.get(&conn).is_some_and(|outbox| outbox.watch()) {
                    self.drained.push(conn);
                }
            }
            Output::HangUp { conn, close } => {
                tracing::debug!(%conn, code = close.code.number(), "hanging up");
                if let Some(outbox) = self.outboxes.get(&conn) {
                    outbox.close(close);
                }
            }
            Output::Claim { chat } => {
                let granted = self.journal.claim(&chat);
                self.granted.extend(granted.map(|grant| (chat, grant)));
            }
            Output::Release { chat, term } => self.journal.release(&chat, term),
            Output::Append(append) => {
                self.checkpoints.extend(checkpoint(&append).map(|checkpoint| (append.id, checkpoint)));
                self.requests.push(Request::Append(append));
            }
            Output::Ask(ask) => self.requests.push(Request::Ask(ask)),
            Output::StartAgent { chat, instance, session } => self.start_agent(chat, instance, session, None),
            Output::AdoptAgent { chat, agent, session, turn } => {
                if self.agent.survives() {
                    let resume = Resume { position: agent.position, checkpoint: agent.checkpoint, turn };
                    self.start_agent(chat, agent.instance, session, Some(resume));
                } else {
                    self.dead_instances.push((chat, agent.instance));
                }
            }
            Output::Command { instance, command } => self.command(instance, command),
            Output::StopAgent { instance, kill } => {
                self.end(instance, if kill { Termination::Kill } else { Termination::Stop })
            }
            Output::LeaveAgent { instance } => self.leave(instance),
            Output::ForgetChat { chat } => {
                let agent = Arc::clone(&self.agent);
                tokio::spawn(async move { agent.forget_chat(&chat).await });
            }
            Output::PauseAgent { instance, paused } => {
                if let Some(link) = self.agents.get(&instance) {
                    link.paused.send_replace(paused);
                }
            }
            Output::Finished => self.finished = true,
        }
    }

    fn offer(&mut self, conn: ConnId, chat: ChatRef, events: &[Offered]) {
        if let Some(first_seq) = self.outboxes.get(&conn).and_then(|outbox| outbox.offer(events)) {
            self.refusals.push((conn, chat, first_seq));
        }
    }

    fn command(&mut self, instance: AgentInstanceId, command: AgentCommand) {
        let Some(link) = self.agents.get_mut(&instance) else { return };
        if let AgentCommand::Prompt { id, .. } = &command {
            link.prompt = id.0;
        }
        if link.commands.try_send(command).is_err() && !link.commands.is_closed() {
            tracing::warn!(instance = instance.0, "an agent does not take its commands, and is killed");
            self.end(instance, Termination::Kill);
        }
    }

    fn end(&mut self, instance: AgentInstanceId, termination: Termination) {
        if let Some(link) = self.agents.get(&instance) {
            link.termination.send_if_modified(|requested| {
                std::mem::replace(requested, termination.max(*requested)) < termination
            });
        }
    }

    /// Leaves an agent to the next owner of its chat. One that nobody can take over is killed.
    fn leave(&mut self, instance: AgentInstanceId) {
        if !self.agent.survives() {
            self.end(instance, Termination::Kill);
        } else if let Some(link) = self.agents.remove(&instance) {
            link.run.abort();
        }
    }

    fn start_agent(
        &mut self,
        chat: ChatKey,
        instance: AgentInstanceId,
        session: Option<String>,
        resume: Option<Resume>,
    ) {
        let (commands, commands_end) = mpsc::channel(COMMANDS);
        let (termination, termination_end) = watch::channel(Termination::None);
        let (paused, paused_end) = watch::channel(false);
        let (committed, committed_end) = watch::channel(0);
        let last_taken = Arc::<AtomicU64>::default();
        let control = ControlReceiver::new(commands_end, termination_end.clone(), Arc::clone(&last_taken));
        self.last_link += 1;
        let (number, inbox) = (self.last_link, self.agents_inbox.clone());
        let ends = AgentChannels { number, control, paused: paused_end, committed: committed_end };
        let adopted = resume.is_some();
        let context = AgentContext::new(chat.clone(), instance, session, resume, inbox.clone(), ends);
        let agent = Arc::clone(&self.agent);
        // The agent runs in a task of its own, so that a panic ends this instance and nothing else.
        let task = tokio::spawn(async move { agent.run(context).await });
        self.agents.insert(
            instance,
            AgentLink {
                number,
                run: task.abort_handle(),
                commands,
                termination,
                paused,
                committed,
                adopted,
                prompt: 0,
                last_taken,
            },
        );
        let grace = Duration::from_millis(self.hub.limits().cancel_grace_ms);
        tokio::spawn(async move {
            let exit = end_of(task, termination_end, grace, instance).await;
            // A gateway that has gone needs no report.
            let _ = inbox.send(FromAgent::Exited { chat, instance, link: number, exit }).await;
        });
    }

    fn agent(&mut self, event: FromAgent) {
        let (FromAgent::Records { instance, link, .. } | FromAgent::Exited { instance, link, .. }) = &event;
        if self.agents.get(instance).is_none_or(|present| present.number != *link) {
            // The agent was left, and whoever takes it over reads this again.
            return;
        }
        match event {
            FromAgent::Records { chat, instance, records, .. } => {
                self.handle(Input::AgentRecords { chat, instance, records });
            }
            FromAgent::Exited { chat, instance, exit, .. } => {
                let link = self.agents.remove(&instance);
                // An adopted instance may have been dead already, which is noticed only when it does not take a
                // prompt.
                let untaken =
                    |link: AgentLink| link.adopted && link.prompt > link.last_taken.load(Ordering::Acquire);
                let exit = if link.is_some_and(untaken) { exit.unprompted() } else { exit };
                self.handle(Input::AgentExited { chat, instance, exit });
            }
        }
    }

    fn peer(&mut self, event: FromPeer) {
        match event {
            FromPeer::Opened { conn, peer, outbox } => {
                self.outboxes.insert(conn, outbox);
                self.handle(Input::Opened { conn, peer });
            }
            FromPeer::Frame(input, _permit) => self.handle(input),
            FromPeer::Gone(conn) => {
                // At a shutdown, the hub may know it already.
                if self.outboxes.remove(&conn).is_some() {
                    self.handle(Input::Gone { conn });
                }
            }
            FromPeer::Count(answer) => {
                // The caller may have stopped waiting.
                let _ = answer.send(self.hub.counts());
            }
        }
    }

    fn lifecycle(&mut self, event: Lifecycle) {
        match event {
            Lifecycle::Drained(conn) => {
                self.drained.push(conn);
                self.handle(Input::Tick);
            }
            Lifecycle::Shutdown => {
                self.stopping = true;
                self.handle(Input::Shutdown);
            }
            Lifecycle::Leave => {
                self.stopping = true;
                self.handle(Input::Leave);
            }
        }
    }

    fn check_stalls(&mut self) {
        self.clock.read_at(Instant::now());
        if self.clock.stood_still_lately() {
            // The writers need time to make progress after the standstill.
            return;
        }
        let limit = self.hub.limits().reader_stall_ms;
        let stalled: Vec<ConnId> = self
            .outboxes
            .iter()
            .filter(|(_, outbox)| {
                let shutdown = self.stopping && outbox.is_closing();
                outbox.stalled_ms() > if shutdown { limit.min(CLOSE_STALL_MS) } else { limit }
            })
            .map(|(conn, _)| *conn)
            .collect();
        for conn in stalled {
            if !self.outboxes.get(&conn).is_some_and(|outbox| outbox.cut()) {
                self.handle(Input::ReaderStalled { conn });
            } else if self.stopping {
                // The transport may still wait for its peer, but the shutdown does not.
                self.outboxes.remove(&conn);
                self.handle(Input::Gone { conn });
            }
        }
    }
}

/// Waits for an agent instance to end, and returns why it ended. An instance that still runs `grace` after a kill is
/// aborted, and counts as ended even if its task never reaches an await point: its agent slot must become free.
async fn end_of(
    mut task: JoinHandle<AgentExit>,
    mut termination: watch::Receiver<Termination>,
    grace: Duration,
    instance: AgentInstanceId,
) -> AgentExit {
    let overdue = async {
        if termination.wait_for(|termination| *termination == Termination::Kill).await.is_err() {
            // The gateway has gone, and no chat waits for the agent slot.
            pending::<()>().await;
        }
        sleep(grace).await;
    };
    tokio::select! {
        exit = &mut task => exit.unwrap_or_else(|_| AgentExit::Gone(panicked())),
        () = overdue => {
            task.abort();
            tracing::warn!(instance = instance.0, "an agent still ran after it was killed, and its task was aborted");
            AgentExit::Gone(ignored_commands())
        }
    }
}

/// Receives the other events in the channel, up to the limit per wake.
fn receive_more<T>(channel: &mut mpsc::UnboundedReceiver<T>, mut each: impl FnMut(T)) {
    for _ in 1..INPUTS_PER_WAKE {
        let Ok(item) = channel.try_recv() else { break };
        each(item);
    }
}

/// The instance and the position of a decoder's checkpoint that an append contains.
fn checkpoint(append: &Append) -> Option<(AgentInstanceId, u64)> {
    append.changes.iter().rev().find_map(|change| {
        let Change::AgentPosition { instance, position, checkpoint: Some(_) } = change else { return None };
        Some((*instance, *position))
    })
}

fn far_away() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(3600)
}

fn restarted() -> TurnError {
    let detail = "the gateway was restarted before the answer was complete";
    TurnError { code: "gateway_restarted".into(), detail: detail.into() }
}

fn panicked() -> TurnError {
    TurnError {
        code: "agent_crashed".into(),
        detail: "the agent crashed before its answer was complete".into(),
    }
}

fn ignored_commands() -> TurnError {
    TurnError {
        code: "agent_stopped".into(),
        detail: "the agent did not take its commands, and was ended before its answer was complete".into(),
    }
}
