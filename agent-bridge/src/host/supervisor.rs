//! The main task of a host: carries out commands in order, watches the agent's process, measures the time without a
//! gateway, and ends the agent.

mod handover;
mod peers;

use std::{
    collections::VecDeque, io, os::unix::process::ExitStatusExt, path::Path, process::ExitStatus, sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use serde::Serialize;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

use self::peers::{KillReceiver, Peers};
use super::{
    link::GatewayMessage,
    mover::HostOutput,
    notes::{self, Notes},
    protocol::{
        Action, CommandHead, CommandMeaning, Exited, HostHello, Kind, SpawnFailure, ToHost, VERSION,
        host_frame,
    },
    recent::RecentCommands,
    running_output::RunningOutput,
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

/// The spool of this host.
pub(super) struct Spool {
    pub(super) dir: &'static Path,
    pub(super) notes: Notes,
    pub(super) output: Arc<HostOutput>,
}

pub(super) struct Supervisor {
    config: CommandConfig,
    framing: Framing,
    mark: String,
    spool: Spool,
    peers: Peers,
    /// Commands that are not noted yet.
    waiting: VecDeque<(CommandHead, Option<u64>, Bytes)>,
    retry: Option<Instant>,
    known: RecentCommands,
    running: Option<Running>,
    /// The offset in the output at which the newest turn was opened.
    turn_offset: u64,
    /// When to reap ended processes that the agent has left.
    reap_at: Option<Instant>,
    terminate: Signal,
    /// Completes when the host's directory was removed.
    removed: Owned<()>,
}

/// A running process and its output.
struct Running {
    process: Process,
    output: RunningOutput,
    exited: Option<Option<ExitStatus>>,
}

enum Event {
    Received(GatewayMessage),
    Exited(Option<ExitStatus>),
    OutputEnded,
    Stuck,
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
        spool: Spool,
        messages: mpsc::Receiver<GatewayMessage>,
        removed: Owned<()>,
    ) -> io::Result<Self> {
        Ok(Self {
            config,
            framing,
            mark,
            spool,
            peers: Peers::new(messages),
            waiting: VecDeque::new(),
            retry: None,
            known: RecentCommands::default(),
            running: None,
            turn_offset: 0,
            reap_at: None,
            terminate: signal(SignalKind::terminate())?,
            removed,
        })
    }

    pub(super) async fn run(mut self) -> io::Result<ShutdownAck> {
        loop {
            match self.next().await {
                Event::Received(GatewayMessage::Connected { from, frames }) => {
                    self.greet(from, frames);
                    self.hand_over();
                }
                Event::Received(GatewayMessage::Gone) => self.gateway_gone(),
                Event::Received(GatewayMessage::Message(message)) => {
                    if let Some(ack) = self.message(message).await {
                        return Ok(ack);
                    }
                }
                Event::Exited(status) => {
                    if let Some(running) = &mut self.running {
                        running.exited = Some(status);
                        running.output.mode.send_replace(ReadMode::Drain);
                        if running.output.is_handed_over() {
                            self.peers.say(Kind::Recall);
                        }
                    }
                    self.settle().await;
                }
                Event::OutputEnded => self.output_ended().await,
                Event::Stuck => self.peers.say(Kind::Stuck),
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

    /// Handles a message from the gateway. Returns how the two have parted, if this was the last one.
    async fn message(&mut self, message: ToHost) -> Option<ShutdownAck> {
        match message {
            ToHost::Command { head, offset, bytes } => {
                self.waiting.push_back((head, offset, bytes));
                self.carry_out_commands().await;
            }
            ToHost::Idle => {
                self.peers.turn_open = false;
                self.reap_at.get_or_insert_with(|| Instant::now() + REAP_AFTER);
            }
            ToHost::Stop => {
                self.end(false).await;
                return Some(self.await_shutdown_ack().await);
            }
            ToHost::Kill => {
                self.end(true).await;
                return Some(self.await_shutdown_ack().await);
            }
            ToHost::ShutdownAck { remove } => {
                self.end(true).await;
                return Some(ShutdownAck { remove });
            }
            ToHost::Return => self.take_up(),
            ToHost::Trim { before } => self.spool.notes.trim(before),
            ToHost::Hello { .. } | ToHost::Take(_) => {}
        }
        None
    }

    async fn next(&mut self) -> Event {
        let grace = self.peers.grace(&self.config);
        let (exit, output) = match &mut self.running {
            Some(Running { process, output, exited }) => {
                (exited.is_none().then_some(process), output.moving())
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
            // A task that has panicked moves nothing any more.
            _ = async { match output {
                Some(moving) => (&mut moving.0).await,
                None => std::future::pending().await,
            } } => Event::OutputEnded,
            () = self.spool.output.stuck.notified() => Event::Stuck,
            () = self.spool.output.turn_ended.notified() => Event::TurnEnded,
            () = until(self.reap_at) => Event::Reap,
            () = until(self.retry) => Event::Retry,
            () = until(grace) => Event::Over,
            _ = self.terminate.recv() => Event::Over,
            _ = &mut self.removed.0 => Event::Over,
        }
    }

    /// Answers the hello of a gateway, and sends it the notes from a position on.
    fn greet(&mut self, from: u64, frames: mpsc::UnboundedSender<Bytes>) {
        self.peers.connected(frames);
        let greeting = self.spool.output.range().and_then(|(first, end)| {
            let notes = notes::read(self.spool.dir, from)?;
            let noted = self.spool.notes.last();
            let hello = HostHello { version: VERSION, first, next: 0, end, noted };
            Ok((hello, notes.frames))
        });
        match greeting {
            Ok((hello, notes)) => {
                self.peers.send(hello.frame());
                self.peers.send(notes.freeze());
            }
            Err(error) => {
                // The gateway finds the connection closed, and ends this host.
                tracing::error!(%error, "a spool cannot be read");
                self.peers.disconnected();
            }
        }
    }

    /// Notes waiting commands and carries them out, in order, until the disk fails.
    async fn carry_out_commands(&mut self) {
        self.retry = None;
        while let Some((head, offset, _)) = self.waiting.front() {
            if self.known.contains(&head.id) {
                self.peers.send(host_frame(Kind::Known, head.id.as_bytes()));
                self.waiting.pop_front();
                continue;
            }
            let offset = offset.unwrap_or_default();
            let noted = serde_json::to_vec(head)
                .map_err(Into::into)
                .and_then(|head| self.spool.notes.append(Kind::Command, offset, &head));
            let note = match noted {
                Ok(note) => note,
                Err(error) => {
                    tracing::warn!(%error, "a command cannot be noted; it waits");
                    self.peers.say(Kind::Stuck);
                    self.retry = Some(Instant::now() + self.config.limits.host.disk_retry);
                    return;
                }
            };
            let Some((head, _, bytes)) = self.waiting.pop_front() else { return };
            self.known.insert(&head);
            if head.opens_turn {
                self.peers.turn_open = true;
                self.turn_offset = offset;
            }
            if matches!(head.action, Action::Write) {
                // The agent gets the command before the gateway gets its note: a caller that waits for the note in fact
                // waits for the agent.
                self.carry_out(head, bytes).await;
                self.peers.send(note);
            } else {
                self.peers.send(note);
                self.carry_out(head, bytes).await;
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
        process.write(bytes.to_vec());
        if close {
            process.close_input();
        }
        match RunningOutput::new(output) {
            Ok(output) => {
                self.running = Some(Running { process, output, exited: None });
                self.take_up();
                self.hand_over();
            }
            Err(error) => self.append(Kind::SpawnFailed, &spawn_failure(&error)).await,
        }
    }

    async fn output_ended(&mut self) {
        let Some(running) = &mut self.running else { return };
        running.output.close();
        if running.exited.is_none() {
            self.append(Kind::OutputClosed, &()).await;
            return;
        }
        self.settle().await;
    }

    /// Ends the process if it has exited and its output was read to the end.
    async fn settle(&mut self) {
        let Some(running) =
            self.running.take_if(|running| running.output.is_closed() && running.exited.is_some())
        else {
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

    /// Writes a note by the host itself, behind all output. Retries while the disk fails, without a gateway only for a
    /// limited time.
    async fn append(&mut self, kind: Kind, payload: &impl Serialize) {
        let payload = serde_json::to_vec(payload).unwrap_or_default();
        let limits = &self.config.limits.host;
        let deadline = Instant::now() + limits.shutdown_ack;
        loop {
            let offset = self.spool.output.range().map(|(_, end)| end);
            let error = match offset.and_then(|offset| self.spool.notes.append(kind, offset, &payload)) {
                Ok(note) => return self.peers.send(note),
                Err(error) => error,
            };
            // A removed directory is not created again.
            let hopeless = error.kind() == io::ErrorKind::NotFound;
            if hopeless || (!self.peers.is_connected() && Instant::now() >= deadline) {
                return;
            }
            self.peers.say(Kind::Stuck);
            sleep(limits.disk_retry).await;
        }
    }

    /// Ends the agent and notes its exit.
    async fn end(&mut self, force: bool) {
        let Some(mut running) = self.running.take() else { return };
        let limits = self.config.limits.clone();
        if self.peers.is_connected() {
            // A gateway that stops its agent does not need further output.
            running.output.mode.send_replace(ReadMode::Discard);
        }
        if running.output.is_handed_over() && self.recall().await {
            let moving = self.mover(&running.output);
            running.output.take_up(moving);
        }
        if force {
            running.process.kill().await;
        } else {
            stop(&mut running.process, &mut KillReceiver(&mut self.peers), &limits).await;
        }
        running.exited = Some(running.process.wait().await);
        running.output.mode.send_if_modified(|mode| {
            let live = *mode == ReadMode::Live;
            if live {
                *mode = ReadMode::Drain;
            }
            live
        });
        if let Some(moving) = running.output.moving() {
            // The last output is spooled as well, if there is room for it.
            let _ = timeout(limits.closed_output, &mut moving.0).await;
        }
        self.finish_process(running).await;
    }

    /// Tells the gateway that nothing follows, and waits for its shutdown acknowledgement.
    async fn await_shutdown_ack(&mut self) -> ShutdownAck {
        self.peers.say(Kind::Ended);
        let deadline = Instant::now() + self.config.limits.host.shutdown_ack;
        while self.peers.is_connected() {
            tokio::select! {
                received = self.peers.receive() => match received {
                    Some(GatewayMessage::Message(ToHost::ShutdownAck { remove })) => return ShutdownAck { remove },
                    Some(GatewayMessage::Gone) | None => break,
                    Some(GatewayMessage::Connected { from, frames }) => {
                        self.greet(from, frames);
                        self.peers.say(Kind::Ended);
                    }
                    Some(GatewayMessage::Message(_)) => {}
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
