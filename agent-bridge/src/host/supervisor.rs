//! The main task of a host: carries out commands in order, watches the agent's process, measures the time without a
//! gateway, and ends the agent.

mod loans;
mod peers;

use std::{
    collections::VecDeque, io, os::unix::process::ExitStatusExt, process::ExitStatus, sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use serde::Serialize;
use tokio::{
    process::ChildStdout,
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep, timeout},
};

use self::peers::{KillReceiver, Peers};
use super::{
    intake::{Backlog, Intake, IntakeEnd},
    lending::Loan,
    link::GatewayMessage,
    protocol::{
        Action, CommandHead, CommandMeaning, CommandPlace, Exited, Kind, SpawnFailure, ToHost, host_frame,
    },
    recent::RecentCommands,
    spool::{self, Spool},
};
use crate::{
    dialect::Framing,
    exec::{
        command::CommandConfig,
        process::{Owned, Process, until},
        read_mode::ReadMode,
        stop::{stop, terminate},
        sweep::reap_children,
    },
};

/// Delay between the end of a turn and the reaping of ended processes that the agent has left to the host. The next
/// turn may begin at once, and must not wait for that.
const REAP_AFTER: Duration = Duration::from_millis(100);

/// How a host and its gateway have parted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ShutdownAck {
    /// Whether the spool is no longer needed.
    pub(super) remove: bool,
}

pub(super) struct Supervisor {
    config: CommandConfig,
    framing: Framing,
    mark: String,
    spool: Arc<Spool>,
    peers: Peers,
    /// Commands that are not spooled yet.
    waiting: VecDeque<(CommandHead, Option<CommandPlace>, Bytes)>,
    retry: Option<Instant>,
    /// Whether commands wait for earlier records to be spooled.
    waits: bool,
    spooled: watch::Receiver<spool::State>,
    known: RecentCommands,
    running: Option<Running>,
    /// When to reap ended processes that the agent has left.
    reap_at: Option<Instant>,
    terminate: Signal,
    /// Completes when the host's directory was removed.
    removed: Owned<()>,
    /// Notified when the agent's output looks as if a turn had ended, for the time without a gateway.
    turn_ended: Arc<Notify>,
}

/// A running process and its output.
struct Running {
    process: Process,
    intake: Owned<IntakeEnd<ChildStdout>>,
    /// The output, while it is lent.
    loan: Option<Loan>,
    /// Set when a gateway has asked for the output: the position after the records that it has, and the gateway's
    /// number.
    asked: Option<(u64, u64)>,
    pause: Arc<Notify>,
    mode: watch::Sender<ReadMode>,
    closed: bool,
    exited: Option<Option<ExitStatus>>,
}

enum Event {
    Received(GatewayMessage),
    Exited(Option<ExitStatus>),
    Intake(IntakeEnd<ChildStdout>),
    TurnEnded,
    Reap,
    Retry,
    /// The grace time is over, the host's directory was removed, or the system is shutting down.
    Over,
}

impl Supervisor {
    pub(super) fn new(
        config: CommandConfig,
        framing: Framing,
        mark: String,
        spool: Arc<Spool>,
        messages: mpsc::Receiver<GatewayMessage>,
        removed: Owned<()>,
    ) -> io::Result<Self> {
        let peers = Peers {
            messages,
            later: VecDeque::new(),
            connected: false,
            changes: 0,
            turn_open: false,
            since: Instant::now(),
        };
        let spooled = spool.watch();
        Ok(Self {
            config,
            framing,
            mark,
            spool,
            peers,
            waiting: VecDeque::new(),
            retry: None,
            waits: false,
            spooled,
            known: RecentCommands::default(),
            running: None,
            reap_at: None,
            terminate: signal(SignalKind::terminate())?,
            removed,
            turn_ended: Arc::default(),
        })
    }

    pub(super) async fn run(mut self) -> io::Result<ShutdownAck> {
        loop {
            self.end_stale_loan();
            match self.next().await {
                Event::Received(GatewayMessage::Connected) => self.peers.connected(),
                Event::Received(GatewayMessage::Gone) => self.peers.disconnected(),
                Event::Received(GatewayMessage::Message(message)) => match message {
                    ToHost::Command { head, place, bytes } => {
                        self.waiting.push_back((head, place, bytes));
                        self.carry_out_commands().await;
                    }
                    ToHost::Idle => {
                        self.peers.turn_open = false;
                        self.reap_at.get_or_insert_with(|| Instant::now() + REAP_AFTER);
                    }
                    ToHost::Stop => {
                        self.end(false).await;
                        return Ok(self.await_shutdown_ack().await);
                    }
                    ToHost::Kill => {
                        self.end(true).await;
                        return Ok(self.await_shutdown_ack().await);
                    }
                    ToHost::ShutdownAck { remove } => {
                        self.end(true).await;
                        return Ok(ShutdownAck { remove });
                    }
                    ToHost::Borrow { next } => self.output_requested(next),
                    ToHost::Discard { bytes, before } => self.discard(bytes, before),
                    ToHost::Return => self.take_back(),
                    ToHost::Hello { .. } | ToHost::Trim { .. } | ToHost::Take(_) => {}
                },
                Event::Exited(status) => {
                    if let Some(running) = &mut self.running {
                        running.exited = Some(status);
                        running.mode.send_replace(ReadMode::Drain);
                        if running.loan.is_some() {
                            self.spool.send(host_frame(Kind::Recall, &[]));
                        }
                    }
                    self.settle().await;
                }
                Event::Intake(end) => self.intake_ended(end).await,
                Event::TurnEnded => {
                    if std::mem::take(&mut self.peers.turn_open) {
                        self.peers.since = Instant::now();
                    }
                }
                Event::Reap => {
                    self.reap_at = None;
                    if let Some(running) = &self.running {
                        reap_children(running.process.pid());
                    }
                }
                Event::Retry => self.carry_out_commands().await,
                Event::Over => {
                    self.end(false).await;
                    return Ok(self.await_shutdown_ack().await);
                }
            }
        }
    }

    async fn next(&mut self) -> Event {
        let grace = self.peers.grace(&self.config);
        let (exit, intake) = match &mut self.running {
            Some(running) => {
                let Running { process, intake, loan, closed, exited, .. } = running;
                let takes_in = !*closed && loan.is_none();
                (exited.is_none().then_some(process), takes_in.then_some(intake))
            }
            None => (None, None),
        };
        tokio::select! {
            biased;
            received = self.peers.receive() => match received {
                Some(received) => Event::Received(received),
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
            () = until(self.reap_at) => Event::Reap,
            () = until(self.retry) => Event::Retry,
            _ = self.spooled.wait_for(|spool| !spool.pending), if self.waits => Event::Retry,
            () = until(grace) => Event::Over,
            _ = self.terminate.recv() => Event::Over,
            _ = &mut self.removed.0 => Event::Over,
        }
    }

    /// Spools waiting commands and carries them out, in order, until the disk fails.
    async fn carry_out_commands(&mut self) {
        (self.retry, self.waits) = (None, false);
        while let Some((head, place, _)) = self.waiting.front() {
            if !self.known.contains(&head.id) {
                let loan = self.running.as_mut().and_then(|running| running.loan.as_mut());
                if loan.is_none() && self.spooled.borrow().pending {
                    // Earlier records are still being spooled.
                    self.waits = true;
                    return;
                }
                let spooled = serde_json::to_vec(head).map_err(Into::into).and_then(|head| match loan {
                    Some(loan) => loan.store_command(&self.spool, place.unwrap_or_default(), head).map(Some),
                    None => self.spool.append(Kind::Command, 1, &head).map(|()| None),
                });
                let record = match spooled {
                    Ok(record) => record,
                    Err(error) => {
                        tracing::warn!(%error, "a command cannot be spooled; it waits");
                        self.spool.is_stuck();
                        self.retry = Some(Instant::now() + self.config.limits.host.disk_retry);
                        return;
                    }
                };
                let Some((head, _, bytes)) = self.waiting.pop_front() else { return };
                self.known.insert(&head);
                self.peers.turn_open |= head.opens_turn;
                let at_once = matches!(head.action, Action::Write);
                if at_once {
                    // The agent gets the command before the gateway gets its record: a caller that waits for the record
                    // in fact waits for the agent.
                    self.carry_out(head, bytes).await;
                    record.into_iter().for_each(|record| self.spool.send(record));
                } else {
                    record.into_iter().for_each(|record| self.spool.send(record));
                    self.carry_out(head, bytes).await;
                }
            } else if let Some((head, Some(_), _)) = self.waiting.pop_front() {
                self.spool.send(host_frame(Kind::Known, head.id.as_bytes()));
            }
        }
    }

    async fn carry_out(&mut self, head: CommandHead, bytes: Bytes) {
        match (head.action, &mut self.running) {
            (Action::Note, _) => {
                self.peers.turn_open &= !matches!(head.meaning, CommandMeaning::Void { .. });
            }
            (Action::Write, Some(running)) => running.process.write(bytes.to_vec()),
            (Action::Start { further, close }, None) => self.start(&further, bytes, close).await,
            (Action::End { force }, Some(running)) => {
                if force {
                    running.process.kill().await;
                } else {
                    let mut control = KillReceiver(&mut self.peers);
                    terminate(&mut running.process, &mut control, &self.config.limits).await;
                }
            }
            // The process that the command was meant for is gone, which its exit record shows.
            (Action::Write | Action::End { .. }, None) | (Action::Start { .. }, Some(_)) => {}
        }
    }

    async fn start(&mut self, further: &[String], bytes: Bytes, close: bool) {
        let further: Vec<&str> = further.iter().map(String::as_str).collect();
        let (mut process, output) = match Process::start_alone(&self.config, &further, self.mark.clone()) {
            Ok(started) => started,
            Err(error) => {
                self.peers.turn_open = false;
                return self.append(Kind::SpawnFailed, &spawn_failure(&error)).await;
            }
        };
        let (mode, watched) = watch::channel(ReadMode::Live);
        let pause = Arc::default();
        let intake = self.take_in(output, Backlog::new(), Bytes::new(), watched, Arc::clone(&pause));
        process.write(bytes.to_vec());
        if close {
            process.close_input();
        }
        self.running = Some(Running {
            process,
            intake,
            loan: None,
            asked: None,
            pause,
            mode,
            closed: false,
            exited: None,
        });
    }

    fn take_in(
        &self,
        output: ChildStdout,
        backlog: Backlog,
        begun: Bytes,
        mode: watch::Receiver<ReadMode>,
        pause: Arc<Notify>,
    ) -> Owned<IntakeEnd<ChildStdout>> {
        let intake = Intake {
            spool: Arc::clone(&self.spool),
            framing: self.framing.clone(),
            mode,
            limits: self.config.limits.clone(),
            turn_ended: Arc::clone(&self.turn_ended),
            backlog,
            begun,
            pause,
        };
        Owned(tokio::spawn(intake.run(output)))
    }

    async fn intake_ended(&mut self, end: IntakeEnd<ChildStdout>) {
        if let IntakeEnd::Between(output) = end {
            return self.lend(output);
        }
        let Some(running) = &mut self.running else { return };
        running.closed = true;
        // No pending records of a returned output will be appended any more.
        self.spool.take_back(0);
        if running.exited.is_none() {
            self.append(Kind::OutputClosed, &()).await;
            return;
        }
        self.settle().await;
    }

    /// Ends the process if it has exited and its output was read to the end.
    async fn settle(&mut self) {
        let Some(running) = self.running.take_if(|running| running.closed && running.exited.is_some()) else {
            return;
        };
        self.finish_process(running).await;
    }

    async fn finish_process(&mut self, running: Running) {
        let Running { mut process, exited, .. } = running;
        // Kills the descendants as well.
        process.kill().await;
        reap_children(process.pid());
        let status = exited.flatten();
        let exited = Exited {
            code: status.and_then(|status| status.code()),
            signal: status.and_then(|status| status.signal()),
            stderr: process.stderr_tail().await,
        };
        self.peers.turn_open = false;
        self.append(Kind::Exited, &exited).await;
    }

    /// Spools a record by the host itself. Retries while the disk fails, without a gateway only for a limited time.
    async fn append(&mut self, kind: Kind, payload: &impl Serialize) {
        let payload = serde_json::to_vec(payload).unwrap_or_default();
        let limits = &self.config.limits.host;
        let deadline = Instant::now() + limits.shutdown_ack;
        while let Err(error) = self.spool.append(kind, 1, &payload) {
            // A removed directory is not created again.
            let hopeless = error.kind() == io::ErrorKind::NotFound;
            if hopeless || (!self.peers.connected && Instant::now() >= deadline) {
                return;
            }
            sleep(limits.disk_retry).await;
        }
    }

    /// Ends the agent and spools its exit.
    async fn end(&mut self, force: bool) {
        self.recall().await;
        let Some(mut running) = self.running.take() else { return };
        let limits = self.config.limits.clone();
        if self.peers.connected {
            // A gateway that stops its agent does not need further output.
            running.mode.send_replace(ReadMode::Discard);
        }
        if force {
            running.process.kill().await;
        } else {
            stop(&mut running.process, &mut KillReceiver(&mut self.peers), &limits).await;
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
            // The last output is spooled as well, if there is room for it.
            let _ = timeout(limits.closed_output, &mut running.intake.0).await;
        }
        self.finish_process(running).await;
    }

    /// Marks the spool as ended, and waits for the gateway's shutdown acknowledgement.
    async fn await_shutdown_ack(&mut self) -> ShutdownAck {
        self.spool.end();
        let deadline = Instant::now() + self.config.limits.host.shutdown_ack;
        while self.peers.connected {
            tokio::select! {
                received = self.peers.receive() => match received {
                    Some(GatewayMessage::Message(ToHost::ShutdownAck { remove })) => return ShutdownAck { remove },
                    Some(GatewayMessage::Gone) | None => break,
                    Some(_) => {}
                },
                () = until(Some(deadline)) => break,
            }
        }
        ShutdownAck { remove: false }
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
