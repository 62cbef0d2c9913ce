//! The loop that owns the hub: inputs in a fixed order of precedence, bounded work per wake, outputs
//! carried out at once.

use std::{
    future::pending,
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
    journal::{Append, AppendId, Change, JournalAnswer},
    wire::TurnError,
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot, watch},
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep, sleep_until},
};

use crate::{
    agent::{Agent, AgentChannels, AgentContext, ControlReceiver, FromAgent, Resume, Termination},
    clock::Clock,
    journal::{Journal, Request},
    outbox::Outbox,
};

/// Inputs of one kind taken per wake, before the others get their turn.
const INPUTS_PER_WAKE: usize = 64;
/// Commands that may wait for one agent. The hub sends one prompt at a time and one answer per request.
const COMMANDS: usize = 128;
/// How often readers that take nothing are looked for.
const STALL_CHECK: Duration = Duration::from_secs(1);

/// What comes from connections, each in its own order: one is opened before it speaks, and goes after it has
/// spoken. Bounded by the number of connections, by the places for frames, and by who asks for counts.
#[derive(Debug)]
pub(crate) enum FromPeer {
    Opened {
        conn: ConnId,
        peer: Peer,
        outbox: Arc<Outbox>,
    },
    /// With its place among the frames that may wait.
    Frame(Input, OwnedSemaphorePermit),
    Gone(ConnId),
    Count(oneshot::Sender<Counts>),
}

/// What overtakes the frames. Bounded by the number of connections, each of which reports once.
#[derive(Debug)]
pub(crate) enum Lifecycle {
    Drained(ConnId),
    Shutdown,
    Leave,
}

/// The loop's ends of all channels.
pub(crate) struct Inputs {
    pub(crate) journal: mpsc::UnboundedReceiver<JournalAnswer>,
    /// The journal answers nothing any more.
    pub(crate) journal_failed: Arc<Notify>,
    /// Why it can keep nothing at the moment.
    pub(crate) health: watch::Receiver<Option<String>>,
    pub(crate) lifecycle: mpsc::UnboundedReceiver<Lifecycle>,
    pub(crate) peers: mpsc::UnboundedReceiver<FromPeer>,
    pub(crate) agents: mpsc::Receiver<FromAgent>,
}

/// Everything that the loop owns.
pub(crate) struct Engine<J> {
    pub(crate) hub: Hub,
    pub(crate) journal: J,
    pub(crate) agent: Arc<dyn Agent>,
    pub(crate) agents_inbox: mpsc::Sender<FromAgent>,
    pub(crate) clock: Clock,
    pub(crate) outboxes: FxHashMap<ConnId, Arc<Outbox>>,
    pub(crate) agents: FxHashMap<AgentInstanceId, AgentLink>,
    pub(crate) requests: Vec<Request>,
    /// Decoders' checkpoints on their way to the journal. Bounded by the appends that the hub has out.
    pub(crate) checkpoints: FxHashMap<AppendId, (AgentInstanceId, u64)>,
    /// Outbox refusals to be told to the hub before anything else.
    pub(crate) refusals: Vec<(ConnId, ChatRef, u64)>,
    /// Lives of an earlier gateway's agents that ended with it, to be told at once: who comes then is told what
    /// became of their turns, and not that they run.
    pub(crate) dead_instances: Vec<(ChatKey, AgentInstanceId)>,
    /// Watches that can be answered at once.
    pub(crate) drained: Vec<ConnId>,
    pub(crate) finished: bool,
}

/// The loop's end of one agent.
pub(crate) struct AgentLink {
    commands: mpsc::Sender<AgentCommand>,
    termination: watch::Sender<Termination>,
    paused: watch::Sender<bool>,
    committed: watch::Sender<u64>,
    /// Taken up from an earlier gateway.
    adopted: bool,
    /// The number of the last prompt that was sent, and of the last command that the agent took.
    prompt: u64,
    last_taken: Arc<AtomicU64>,
}

impl<J: Journal> Engine<J> {
    pub(crate) async fn run(mut self, mut inputs: Inputs, finished: oneshot::Sender<()>) {
        for chat in self.journal.unfinished() {
            self.handle(Input::Recover { chat });
        }
        self.journal.submit(&mut self.requests);
        let mut stall_check = interval(STALL_CHECK);
        stall_check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.finished {
            let deadline = self.hub.next_deadline();
            // What is already kept is shown first, then room is made, then people, then agents.
            tokio::select! {
                biased;
                Some(answer) = inputs.journal.recv() => {
                    self.answer(answer);
                    take(&mut inputs.journal, |answer| self.answer(answer));
                }
                () = inputs.journal_failed.notified() => {
                    tracing::error!("the journal has failed for good; the gateway stops, and loses nothing that is kept");
                    break;
                }
                Ok(()) = inputs.health.changed() => {
                    let why = inputs.health.borrow_and_update().clone();
                    self.handle(Input::Degraded { why });
                }
                Some(event) = inputs.lifecycle.recv() => {
                    self.lifecycle(event);
                    take(&mut inputs.lifecycle, |event| self.lifecycle(event));
                }
                Some(event) = inputs.peers.recv() => {
                    self.peer(event);
                    take(&mut inputs.peers, |event| self.peer(event));
                }
                Some(event) = inputs.agents.recv() => self.agent(event),
                () = sleep_until(deadline.map_or_else(far_away, |due| self.clock.instant(due.ticks_ms))),
                    if deadline.is_some() => self.handle(Input::Tick),
                _ = stall_check.tick() => self.check_stalls(),
            }
            if !self.requests.is_empty() {
                self.journal.submit(&mut self.requests);
            }
        }
        // It is over once the journal is closed, and what it was given last is kept.
        drop(self);
        // Nobody may wait for it any more.
        let _ = finished.send(());
    }

    /// Gives the hub one input and carries out all that follows.
    fn handle(&mut self, input: Input) {
        let now = self.clock.now();
        self.hub.handle(now, input);
        loop {
            while let Some(output) = self.hub.poll_output() {
                self.carry_out(output);
            }
            if self.refusals.is_empty() && self.dead_instances.is_empty() && self.drained.is_empty() {
                break;
            }
            for (conn, chat, first_seq) in std::mem::take(&mut self.refusals) {
                self.hub.handle(now, Input::OutboxFull { conn, chat, first_seq });
            }
            for (chat, instance) in std::mem::take(&mut self.dead_instances) {
                let exit = AgentExit::Gone(restarted());
                self.hub.handle(now, Input::AgentExited { chat, instance, exit });
            }
            if let Some(conn) = self.drained.pop() {
                self.report_drained(now, conn);
            }
        }
    }

    fn answer(&mut self, answer: JournalAnswer) {
        if let JournalAnswer::Appended(id) | JournalAnswer::Refused(id) = &answer
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
                tracing::debug!(%conn, code = close.code, "hanging up");
                if let Some(outbox) = self.outboxes.get(&conn) {
                    outbox.close(close);
                }
            }
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
            tracing::warn!(instance = instance.0, "an agent does not take its orders, and is ended");
            self.end(instance, Termination::Kill);
        }
    }

    fn end(&mut self, instance: AgentInstanceId, termination: Termination) {
        if let Some(link) = self.agents.get(&instance) {
            link.termination.send_if_modified(|ordered| {
                std::mem::replace(ordered, termination.max(*ordered)) < termination
            });
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
        self.agents.insert(
            instance,
            AgentLink {
                commands,
                termination,
                paused,
                committed,
                adopted: resume.is_some(),
                prompt: 0,
                last_taken,
            },
        );
        let inbox = self.agents_inbox.clone();
        let ends = AgentChannels { control, paused: paused_end, committed: committed_end };
        let context = AgentContext::new(chat.clone(), instance, session, resume, inbox.clone(), ends);
        let agent = Arc::clone(&self.agent);
        let grace = Duration::from_millis(self.hub.limits().cancel_grace_ms);
        tokio::spawn(async move {
            // In a task of its own, so that a panic ends this life and nothing else.
            let life = tokio::spawn(async move { agent.run(context).await });
            let exit = end_of(life, termination_end, grace, instance).await;
            // A gateway that has gone needs no report.
            let _ = inbox.send(FromAgent::Exited { chat, instance, exit }).await;
        });
    }

    fn agent(&mut self, event: FromAgent) {
        match event {
            FromAgent::Records { chat, instance, records } => {
                self.handle(Input::AgentRecords { chat, instance, records });
            }
            FromAgent::Exited { chat, instance, exit } => {
                let link = self.agents.remove(&instance);
                // It may have been dead before it was taken up, and that is found out no sooner than a prompt comes.
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
            FromPeer::Frame(input, _place) => self.handle(input),
            FromPeer::Gone(conn) => {
                self.outboxes.remove(&conn);
                self.handle(Input::Gone { conn });
            }
            FromPeer::Count(answer) => {
                // Whoever asked may have gone.
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
            Lifecycle::Shutdown => self.handle(Input::Shutdown),
            Lifecycle::Leave => self.handle(Input::Leave),
        }
    }

    fn check_stalls(&mut self) {
        self.clock.read_at(Instant::now());
        if self.clock.stood_still_lately() {
            // Writers have to have had a chance.
            return;
        }
        let limit = self.hub.limits().reader_stall_ms;
        let stalled: Vec<ConnId> = self
            .outboxes
            .iter()
            .filter(|(_, outbox)| outbox.stalled_ms() > limit)
            .map(|(conn, _)| *conn)
            .collect();
        for conn in stalled {
            if !self.outboxes.get(&conn).is_some_and(|outbox| outbox.cut()) {
                self.handle(Input::ReaderStalled { conn });
            }
        }
    }
}

/// How a life ends. One that goes on for `grace` after the order to be killed is aborted, and is over for the gateway
/// even where it never comes to a point at which that can be done: its place is not to be lost.
async fn end_of(
    mut life: JoinHandle<AgentExit>,
    mut termination: watch::Receiver<Termination>,
    grace: Duration,
    instance: AgentInstanceId,
) -> AgentExit {
    let overdue = async {
        if termination.wait_for(|termination| *termination == Termination::Kill).await.is_err() {
            // The gateway has gone: nobody waits for the place.
            pending::<()>().await;
        }
        sleep(grace).await;
    };
    tokio::select! {
        exit = &mut life => exit.unwrap_or_else(|_| AgentExit::Gone(panicked())),
        () = overdue => {
            life.abort();
            tracing::warn!(instance = instance.0, "an agent ignored the order to end, and was aborted");
            AgentExit::Gone(ignored_orders())
        }
    }
}

/// Takes what else is there, up to the bound.
fn take<T>(channel: &mut mpsc::UnboundedReceiver<T>, mut each: impl FnMut(T)) {
    for _ in 1..INPUTS_PER_WAKE {
        let Ok(item) = channel.try_recv() else { break };
        each(item);
    }
}

/// The life and the position of a decoder's checkpoint that an append carries.
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

fn ignored_orders() -> TurnError {
    TurnError {
        code: "agent_stopped".into(),
        detail: "the agent did not take its orders and was ended before its answer was complete".into(),
    }
}
