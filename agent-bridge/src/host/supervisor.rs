//! What a host does: commands in order, the agent's process, the time without a gateway, the end.

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    os::unix::process::ExitStatusExt,
    process::ExitStatus,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use switchboard_runtime::Order;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep, timeout},
};

use super::{
    intake::{Intake, IntakeEnd},
    link::Heard,
    protocol::{Action, CommandHead, Exited, Kind, SpawnFailure, ToHost, Told},
    spool::Spool,
};
use crate::{
    ProcessConfig,
    driver::{
        OrderSource,
        process::{Owned, Process, until},
        reader::ReadMode,
        stop::{stop, terminate},
        sweep::reap_adopted,
    },
};

/// After a turn, what the agent has started is looked for this much later: the next turn may begin at once, and
/// looking takes longer than passing that on.
const LOOK_AFTER: Duration = Duration::from_millis(100);

/// How a host and its gateway parted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Farewell {
    /// Nobody needs the spool.
    pub(super) remove: bool,
}

pub(super) struct Supervisor {
    config: ProcessConfig,
    mark: String,
    spool: Arc<Spool>,
    peers: Peers,
    /// Commands that are not spooled yet: the disk took nothing.
    waiting: VecDeque<(CommandHead, Bytes)>,
    retry: Option<Instant>,
    /// The ids of spooled commands.
    known: BTreeSet<String>,
    running: Option<Running>,
    /// When it is looked what the agent has started.
    look: Option<Instant>,
    terminate: Signal,
    /// The agent's output looks as if a turn had ended: of use where no gateway is there to say so.
    turn_ended: Arc<Notify>,
}

/// A process, and what it says.
struct Running {
    process: Process,
    intake: Owned<IntakeEnd>,
    mode: watch::Sender<ReadMode>,
    closed: bool,
    exited: Option<Option<ExitStatus>>,
}

/// What is known about gateways.
struct Peers {
    heard: mpsc::Receiver<Heard>,
    /// What came while a process was being ended, which takes seconds at most.
    later: VecDeque<Heard>,
    connected: bool,
    turn_open: bool,
    /// Since when there has been none.
    since: Instant,
}

enum Event {
    Heard(Heard),
    Exited(Option<ExitStatus>),
    Intake(IntakeEnd),
    TurnEnded,
    Look,
    Retry,
    /// The grace time is over, or the system is going down.
    Over,
}

impl Supervisor {
    pub(super) fn new(
        config: ProcessConfig,
        mark: String,
        spool: Arc<Spool>,
        heard: mpsc::Receiver<Heard>,
    ) -> io::Result<Self> {
        let peers = Peers {
            heard,
            later: VecDeque::new(),
            connected: false,
            turn_open: false,
            since: Instant::now(),
        };
        Ok(Self {
            config,
            mark,
            spool,
            peers,
            waiting: VecDeque::new(),
            retry: None,
            known: BTreeSet::new(),
            running: None,
            look: None,
            terminate: signal(SignalKind::terminate())?,
            turn_ended: Arc::default(),
        })
    }

    pub(super) async fn run(mut self) -> io::Result<Farewell> {
        loop {
            match self.next().await {
                Event::Heard(Heard::Connected) => self.peers.connected = true,
                Event::Heard(Heard::Gone) => self.peers.gone(),
                Event::Heard(Heard::Message(message)) => match message {
                    ToHost::Command { head, bytes } => {
                        self.waiting.push_back((head, bytes));
                        self.obey().await;
                    }
                    ToHost::Idle => {
                        self.peers.turn_open = false;
                        self.look.get_or_insert_with(|| Instant::now() + LOOK_AFTER);
                    }
                    ToHost::Stop => {
                        self.end(false).await;
                        return Ok(self.part().await);
                    }
                    ToHost::Kill => {
                        self.end(true).await;
                        return Ok(self.part().await);
                    }
                    ToHost::Farewell { remove } => {
                        self.end(true).await;
                        return Ok(Farewell { remove });
                    }
                    ToHost::Hello { .. } | ToHost::Trim { .. } => {}
                },
                Event::Exited(status) => {
                    if let Some(running) = &mut self.running {
                        running.exited = Some(status);
                        running.mode.send_replace(ReadMode::Drain);
                    }
                    self.settle().await;
                }
                Event::Intake(end) => self.intake_ended(end).await,
                Event::TurnEnded => {
                    if std::mem::take(&mut self.peers.turn_open) {
                        self.peers.since = Instant::now();
                    }
                }
                Event::Look => {
                    self.look = None;
                    if let Some(running) = &mut self.running {
                        running.process.look_around();
                        reap_adopted(running.process.pid());
                    }
                }
                Event::Retry => self.obey().await,
                Event::Over => {
                    self.end(false).await;
                    return Ok(self.part().await);
                }
            }
        }
    }

    async fn next(&mut self) -> Event {
        let grace = self.peers.grace(&self.config);
        let (exit, intake) = match &mut self.running {
            Some(running) => {
                let Running { process, intake, closed, exited, .. } = running;
                (exited.is_none().then_some(process), (!*closed).then_some(intake))
            }
            None => (None, None),
        };
        tokio::select! {
            biased;
            heard = self.peers.hear() => match heard {
                Some(heard) => Event::Heard(heard),
                None => Event::Over,
            },
            status = async { match exit {
                Some(process) => process.wait().await,
                None => std::future::pending().await,
            } } => Event::Exited(status),
            end = async { match intake {
                Some(intake) => (&mut intake.0).await,
                None => std::future::pending().await,
            } } => Event::Intake(end.unwrap_or(IntakeEnd::Closed)),
            () = self.turn_ended.notified() => Event::TurnEnded,
            () = until(self.look) => Event::Look,
            () = until(self.retry) => Event::Retry,
            () = until(grace) => Event::Over,
            _ = self.terminate.recv() => Event::Over,
        }
    }

    /// Spools what has been commanded, then does it, in order, as far as the disk lets it.
    async fn obey(&mut self) {
        self.retry = None;
        while let Some((head, _)) = self.waiting.front() {
            if !self.known.contains(&head.id) {
                let spooled = serde_json::to_vec(head)
                    .map_err(Into::into)
                    .and_then(|head| self.spool.append(Kind::Command, 1, &head));
                if let Err(error) = spooled {
                    tracing::warn!(%error, "a command cannot be spooled; it waits");
                    self.spool.is_stuck();
                    self.retry = Some(Instant::now() + self.config.limits.host.disk_retry);
                    return;
                }
                let Some((head, bytes)) = self.waiting.pop_front() else { return };
                self.known.insert(head.id.clone());
                self.peers.turn_open |= head.opens_turn;
                self.act(head, bytes).await;
            } else {
                self.waiting.pop_front();
            }
        }
    }

    async fn act(&mut self, head: CommandHead, bytes: Bytes) {
        match (head.action, &mut self.running) {
            (Action::Note, _) => {
                self.peers.turn_open &= !matches!(head.told, Told::Void { .. });
            }
            (Action::Write, Some(running)) => running.process.write(bytes.to_vec()),
            (Action::Start { further, close }, None) => self.start(&further, bytes, close).await,
            (Action::End { force }, Some(running)) => {
                if force {
                    running.process.kill().await;
                } else {
                    let mut orders = Ears(&mut self.peers);
                    terminate(&mut running.process, &mut orders, &self.config.limits).await;
                }
            }
            // The process that it was for has gone; its exit says so.
            (Action::Write | Action::End { .. }, None) | (Action::Start { .. }, Some(_)) => {}
        }
    }

    async fn start(&mut self, further: &[String], bytes: Bytes, close: bool) {
        let further: Vec<&str> = further.iter().map(String::as_str).collect();
        let (mut process, output) = match Process::start(&self.config, &further, self.mark.clone()) {
            Ok(started) => started,
            Err(error) => {
                self.peers.turn_open = false;
                return self.keep(Kind::SpawnFailed, &spawn_failure(&error)).await;
            }
        };
        let (mode, watched) = watch::channel(ReadMode::Live);
        let intake = Intake {
            spool: Arc::clone(&self.spool),
            dialect: self.config.dialect,
            mode: watched,
            limits: self.config.limits.clone(),
            turn_ended: Arc::clone(&self.turn_ended),
        };
        let intake = Owned(tokio::spawn(intake.run(output)));
        process.write(bytes.to_vec());
        if close {
            process.close_input();
        }
        self.running = Some(Running { process, intake, mode, closed: false, exited: None });
    }

    async fn intake_ended(&mut self, end: IntakeEnd) {
        let Some(running) = &mut self.running else { return };
        running.closed = true;
        match end {
            IntakeEnd::TooLong => {
                running.process.kill().await;
                running.exited = Some(running.process.wait().await);
                self.keep(Kind::TooLong, &()).await;
            }
            IntakeEnd::Closed if running.exited.is_none() => {
                self.keep(Kind::OutputClosed, &()).await;
                return;
            }
            IntakeEnd::Closed => {}
        }
        self.settle().await;
    }

    /// A process that has exited, and whose output has been read to its end, is over.
    async fn settle(&mut self) {
        let Some(running) = self.running.take_if(|running| running.closed && running.exited.is_some()) else {
            return;
        };
        self.over(running).await;
    }

    async fn over(&mut self, running: Running) {
        let Running { mut process, exited, .. } = running;
        // What it started goes with it.
        process.kill().await;
        reap_adopted(process.pid());
        let status = exited.flatten();
        let exited = Exited {
            code: status.and_then(|status| status.code()),
            signal: status.and_then(|status| status.signal()),
            stderr: process.last_words().await,
        };
        self.peers.turn_open = false;
        self.keep(Kind::Exited, &exited).await;
    }

    /// Spools a record of the host's own, however long it takes while somebody waits for it.
    async fn keep(&mut self, kind: Kind, payload: &impl Serialize) {
        let payload = serde_json::to_vec(payload).unwrap_or_default();
        let limits = &self.config.limits.host;
        let deadline = Instant::now() + limits.farewell;
        while let Err(error) = self.spool.append(kind, 1, &payload) {
            // A directory that was removed does not come back.
            let hopeless = error.kind() == io::ErrorKind::NotFound;
            if hopeless || (!self.peers.connected && Instant::now() >= deadline) {
                return;
            }
            sleep(limits.disk_retry).await;
        }
    }

    /// Ends the agent, and notes how.
    async fn end(&mut self, force: bool) {
        let Some(mut running) = self.running.take() else { return };
        let limits = self.config.limits.clone();
        if self.peers.connected {
            // A gateway that stops its agent has stopped listening.
            running.mode.send_replace(ReadMode::Discard);
        }
        if force {
            running.process.kill().await;
        } else {
            stop(&mut running.process, &mut Ears(&mut self.peers), &limits).await;
        }
        running.exited = Some(running.process.wait().await);
        running.mode.send_if_modified(|mode| {
            let live = *mode == ReadMode::Live;
            if live {
                *mode = ReadMode::Drain;
            }
            live
        });
        if !running.closed {
            // What it said last counts, unless there is no room for it.
            let _ = timeout(limits.closed_output, &mut running.intake.0).await;
        }
        self.over(running).await;
    }

    /// Says that it is over, and waits for the gateway to have understood.
    async fn part(&mut self) -> Farewell {
        self.spool.end();
        let deadline = Instant::now() + self.config.limits.host.farewell;
        while self.peers.connected {
            tokio::select! {
                heard = self.peers.hear() => match heard {
                    Some(Heard::Message(ToHost::Farewell { remove })) => return Farewell { remove },
                    Some(Heard::Gone) | None => break,
                    Some(_) => {}
                },
                () = until(Some(deadline)) => break,
            }
        }
        Farewell { remove: false }
    }
}

impl Peers {
    /// What comes next: first what came while a process was being ended. Cancel safe.
    async fn hear(&mut self) -> Option<Heard> {
        match self.later.pop_front() {
            Some(heard) => Some(heard),
            None => self.heard.recv().await,
        }
    }

    fn gone(&mut self) {
        self.connected = false;
        self.since = Instant::now();
    }

    /// When the agent is stopped for want of a gateway.
    fn grace(&self, config: &ProcessConfig) -> Option<Instant> {
        let limits = &config.limits.host;
        let grace = if self.turn_open { limits.grace_turn } else { limits.grace_idle };
        (!self.connected).then(|| self.since + grace)
    }
}

/// What is heard while a process is being ended: that it is to go at once. All else is for later, that it is to go
/// at once included, because the host is to go with it.
struct Ears<'a>(&'a mut Peers);

#[async_trait]
impl OrderSource for Ears<'_> {
    async fn next(&mut self) -> Order {
        loop {
            match self.0.heard.recv().await {
                Some(Heard::Message(message)) => {
                    let at_once = matches!(message, ToHost::Kill | ToHost::Farewell { .. });
                    self.0.later.push_back(Heard::Message(message));
                    if at_once {
                        return Order::Kill;
                    }
                }
                Some(Heard::Connected) => self.0.connected = true,
                Some(Heard::Gone) => self.0.gone(),
                None => return Order::Stop,
            }
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the kinds that a person can do something about are few")]
fn spawn_failure(error: &io::Error) -> SpawnFailure {
    match error.kind() {
        io::ErrorKind::NotFound => SpawnFailure::NotFound,
        io::ErrorKind::PermissionDenied => SpawnFailure::Denied,
        _ => SpawnFailure::Other,
    }
}
