//! An agent instance whose process serves many turns.

use std::{
    process::ExitStatus,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::{Bytes, BytesMut};
use switchboard_core::{
    agent::{AgentCommand, AgentEvent, AgentExit, AgentRecords, CommandId},
    ids::TurnId,
    wire::{Outcome, TurnError},
};
use switchboard_runtime::AgentControl;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    AgentInstance, ProcessAgent,
    ends::{ControlSource, RecordSink},
    is_end,
    process::{Owned, Process, how_it_ended, until},
    reader::{Decoder, Lines, ReadEnd, ReadMode, Reader, RecordTooLong, Signal},
    stop::stop,
};
use crate::dialect::{Codec, Conversation as CodecFor, Decoded, Delivered, Encoded, ProcessStart};

/// Serves a chat until a stop or kill arrives, or the agent is gone.
pub(super) async fn serve<O: ControlSource, S: RecordSink>(
    agent: &ProcessAgent,
    life: AgentInstance<O, S>,
) -> AgentExit {
    let AgentInstance { chat, instance, mut session, control, records } = life;
    tracing::debug!(agent = agent.config.name, chat = %chat.chat, instance = instance.0, "an agent's life begins");
    let mut waiting = Waiting { control, records, prompt: None, position: 0 };
    if !waiting.for_prompt().await || !waiting.for_backoff(agent).await {
        return AgentExit::Stopped;
    }
    let prefix = format!("{}-", instance.0);
    let mut starts = 0;
    loop {
        starts += 1;
        let dialect = agent.config.dialect;
        let codec = dialect.codec(&CodecFor {
            workspace: &agent.config.workspace,
            prefix: &prefix,
            session: session.as_deref(),
            process: starts,
        });
        let ProcessStart { arguments, input } = dialect.start(session.as_deref());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (process, output) = match Process::start(&agent.config.command_config(), &arguments, agent.mark())
        {
            Ok(started) => started,
            Err(error) => return agent.spawn_failed(&error),
        };
        process.write(input);
        let mut conversation = Conversation::new(agent, process, output, codec, &waiting);
        let end = conversation.serve_commands(&mut waiting).await;
        waiting.position = conversation.decoder().position;
        match conversation.close(end, &mut waiting).await {
            AfterProcess::Done(exit) => return exit,
            AfterProcess::Afresh if session.take().is_some() => {
                tracing::info!(
                    agent = agent.config.name,
                    "the session is unknown to the agent; it begins a new one"
                );
            }
            AfterProcess::Afresh => return agent.start_failed("it refused to begin a session"),
        }
    }
}

/// The part of an instance that exists while no process is ready.
struct Waiting<O, S> {
    control: O,
    records: S,
    /// A prompt that has not been sent to a process yet.
    prompt: Option<AgentCommand>,
    position: u64,
}

impl<O: ControlSource, S: RecordSink> Waiting<O, S> {
    /// Waits for the first prompt. Returns false if the instance ends before.
    async fn for_prompt(&mut self) -> bool {
        while self.prompt.is_none() {
            let order = self.control.next().await;
            if is_end(&order) {
                return false;
            }
            self.take(order).await;
        }
        true
    }

    /// Waits until the backoff after failed starts is over and there is a prompt. A prompt that is cancelled during the
    /// wait is replaced by the next one. Returns false if the instance ends before.
    async fn for_backoff(&mut self, agent: &ProcessAgent) -> bool {
        let due = agent.backoff.not_before();
        while due.is_some_and(|due| due > Instant::now()) || self.prompt.is_none() {
            tokio::select! {
                order = self.control.next() => {
                    if is_end(&order) {
                        return false;
                    }
                    self.take(order).await;
                }
                () = until(due), if self.prompt.is_some() => break,
            }
        }
        true
    }

    /// Handles a control message while there is no process for it.
    async fn take(&mut self, order: AgentControl) {
        match order {
            AgentControl::Command(prompt @ AgentCommand::Prompt { .. }) => self.prompt = Some(prompt),
            AgentControl::Command(AgentCommand::Cancel { turn_id, .. }) if self.waits(&turn_id) => {
                self.prompt = None;
                self.position += 1;
                let ended = AgentEvent::TurnEnded {
                    outcome: Outcome::Cancelled,
                    error: None,
                    usage: None,
                    cost: None,
                };
                let records = AgentRecords { position: self.position, events: vec![ended], checkpoint: None };
                // If the gateway is gone, the next control message is `Stop`.
                let _ = self.records.send(records).await;
            }
            // The command belongs to an earlier instance.
            AgentControl::Command(AgentCommand::Cancel { .. } | AgentCommand::Answer { .. })
            | AgentControl::Stop
            | AgentControl::Kill => {}
        }
    }

    fn waits(&self, turn: &TurnId) -> bool {
        matches!(&self.prompt, Some(AgentCommand::Prompt { turn_id, .. }) if turn_id == turn)
    }
}

/// The codec, and the position of the last decoded record.
struct LineDecoder {
    codec: Box<dyn Codec>,
    lines: Lines,
    position: u64,
}

impl Decoder for LineDecoder {
    fn decode(&mut self, read: &mut BytesMut, out: &mut Decoded) -> Result<(), RecordTooLong> {
        while let Some(line) = self.lines.next(read)? {
            self.position += 1;
            self.codec.decode(self.position, &line, out);
        }
        Ok(())
    }

    fn end(&mut self, _: &mut Decoded) {}

    fn position(&self) -> u64 {
        self.position
    }

    fn checkpoint(&self) -> Option<Bytes> {
        Some(self.codec.checkpoint().into())
    }
}

/// One agent process and the state of its conversation.
struct Conversation<'a> {
    agent: &'a ProcessAgent,
    process: Process,
    decoder: Arc<Mutex<LineDecoder>>,
    /// See [`Reader::speaking`].
    speaking: Arc<tokio::sync::Mutex<()>>,
    reading: Owned<ReadEnd>,
    mode: watch::Sender<ReadMode>,
    signals: mpsc::UnboundedReceiver<Signal>,
    ready: bool,
    unknown_session: bool,
    /// The turn whose prompt was sent and whose end has not been decoded.
    turn: Option<TurnId>,
}

/// Why a conversation has ended.
enum End {
    Stop,
    Kill,
    Exited(Option<ExitStatus>),
    ClosedOutput,
    TooLong,
    /// The agent did not answer the initialize request in time.
    Unready,
    /// The agent does not know the session that it was to resume, and is about to exit.
    UnknownSession,
}

enum AfterProcess {
    Done(AgentExit),
    /// The agent does not know the session: start again without it.
    Afresh,
}

impl<'a> Conversation<'a> {
    fn new<O, S: RecordSink>(
        agent: &'a ProcessAgent,
        process: Process,
        output: tokio::process::ChildStdout,
        codec: Box<dyn Codec>,
        waiting: &Waiting<O, S>,
    ) -> Self {
        let limits = &agent.config.limits;
        let lines = Lines::new(limits.record_bytes);
        let decoder = Arc::new(Mutex::new(LineDecoder { codec, lines, position: waiting.position }));
        let (mode, read_mode) = watch::channel(ReadMode::Live);
        let (signal, signals) = mpsc::unbounded_channel();
        let speaking = Arc::<tokio::sync::Mutex<()>>::default();
        let reader = Reader {
            decoder: Arc::clone(&decoder),
            sink: waiting.records.clone(),
            replies: process.input(),
            signals: signal,
            mode: read_mode,
            limits: limits.clone(),
            speaking: Arc::clone(&speaking),
        };
        let reading = Owned(tokio::spawn(reader.run(output)));
        Self {
            agent,
            process,
            decoder,
            speaking,
            reading,
            mode,
            signals,
            ready: false,
            unknown_session: false,
            turn: None,
        }
    }

    fn decoder(&self) -> MutexGuard<'_, LineDecoder> {
        self.decoder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Handles a control message while the process is not ready. A record that results gets the next position after the
    /// process's records.
    async fn put_off<O: ControlSource, S: RecordSink>(
        &self,
        waiting: &mut Waiting<O, S>,
        order: AgentControl,
    ) {
        let _speaks = self.speaking.lock().await;
        waiting.position = self.decoder().position;
        waiting.take(order).await;
        self.decoder().position = waiting.position;
    }

    /// Sends commands to the process until the conversation ends.
    async fn serve_commands<O: ControlSource, S: RecordSink>(&mut self, waiting: &mut Waiting<O, S>) -> End {
        let limits = &self.agent.config.limits;
        let mut deadline = Some(Instant::now() + limits.start);
        let mut closed = false;
        loop {
            tokio::select! {
                biased;
                Some(signal) = self.signals.recv() => {
                    self.noticed(signal);
                    if self.unknown_session {
                        return End::UnknownSession;
                    }
                    if self.ready && !closed {
                        deadline = None;
                        if let Some(prompt) = waiting.prompt.take() {
                            self.write_command(&prompt);
                        }
                    }
                }
                order = waiting.control.next() => match order {
                    AgentControl::Stop => return End::Stop,
                    AgentControl::Kill => return End::Kill,
                    AgentControl::Command(command) if self.ready => self.write_command(&command),
                    order @ AgentControl::Command(_) => self.put_off(waiting, order).await,
                },
                status = self.process.wait() => return End::Exited(status),
                end = &mut self.reading.0, if !closed => match end {
                    Ok(ReadEnd::TooLong) => return End::TooLong,
                    // The process may be about to exit, and its exit status says more.
                    Ok(ReadEnd::Closed) | Err(_) => {
                        closed = true;
                        deadline = Some(Instant::now() + limits.closed_output);
                    }
                },
                () = until(deadline) => return if closed { End::ClosedOutput } else { End::Unready },
            }
        }
    }

    fn noticed(&mut self, signal: Signal) {
        match signal {
            Signal::Ready => {
                self.ready = true;
                self.agent.backoff.succeeded();
            }
            Signal::UnknownSession => self.unknown_session = true,
            Signal::TurnEnded => {
                self.turn = None;
                self.process.note_descendants();
            }
        }
    }

    fn write_command(&mut self, command: &AgentCommand) {
        match command {
            AgentCommand::Prompt { turn_id, .. } => self.turn = Some(turn_id.clone()),
            // The turn's end is about to be decoded; an interrupt could only stop the next turn.
            AgentCommand::Cancel { turn_id, .. } if self.turn.as_ref() != Some(turn_id) => return,
            AgentCommand::Cancel { .. } | AgentCommand::Answer { .. } => {}
        }
        let mut decoder = self.decoder();
        if let Encoded::Write(bytes) = decoder.codec.encode(command) {
            decoder.codec.delivered(match command {
                AgentCommand::Prompt { turn_id, .. } => Delivered::Prompt(turn_id),
                AgentCommand::Cancel { .. } => Delivered::Cancel,
                AgentCommand::Answer { request_id, .. } => Delivered::Answer(request_id),
            });
            drop(decoder);
            self.process.write(bytes);
        }
    }

    /// Ends the process and all its descendants, and decides whether to start again.
    async fn close<O: ControlSource, S: RecordSink>(
        mut self,
        end: End,
        waiting: &mut Waiting<O, S>,
    ) -> AfterProcess {
        let limits = &self.agent.config.limits;
        match end {
            End::Stop => {
                self.mode.send_replace(ReadMode::Discard);
                if let Some(turn_id) = self.turn.clone() {
                    self.write_command(&AgentCommand::Cancel { id: CommandId(0), turn_id });
                }
                stop(&mut self.process, &mut waiting.control, limits).await;
                AfterProcess::Done(AgentExit::Stopped)
            }
            End::Kill => {
                self.mode.send_replace(ReadMode::Discard);
                self.process.kill().await;
                AfterProcess::Done(AgentExit::Stopped)
            }
            End::Exited(status) => self.exited(status, waiting).await,
            End::UnknownSession => {
                self.process.kill().await;
                AfterProcess::Afresh
            }
            End::ClosedOutput => {
                self.exit_reason("agent_closed_output", "The agent closed its output.").await
            }
            End::TooLong => {
                let mib = limits.record_bytes / (1024 * 1024);
                self.exit_reason("agent_protocol", &format!("The agent sent a line of more than {mib} MiB."))
                    .await
            }
            End::Unready => {
                self.process.kill().await;
                let words = self.process.report_last_words(&self.agent.config).await;
                AfterProcess::Done(self.agent.start_failed_saying("it did not answer in time", &words))
            }
        }
    }

    async fn exit_reason(&mut self, code: &str, detail: &str) -> AfterProcess {
        self.process.kill().await;
        let words = self.process.report_last_words(&self.agent.config).await;
        AfterProcess::Done(AgentExit::Gone(TurnError {
            code: code.into(),
            detail: format!("{detail}{words}"),
        }))
    }

    /// Handles an exit that nobody requested. Output from before the exit is still decoded.
    async fn exited<O: ControlSource, S: RecordSink>(
        mut self,
        status: Option<ExitStatus>,
        waiting: &mut Waiting<O, S>,
    ) -> AfterProcess {
        self.mode.send_if_modified(|mode| std::mem::replace(mode, ReadMode::Drain) != ReadMode::Drain);
        while !self.reading.0.is_finished() {
            tokio::select! {
                biased;
                _ = &mut self.reading.0 => break,
                order = waiting.control.next() => if is_end(&order) {
                    self.mode.send_replace(ReadMode::Discard);
                    self.process.kill().await;
                    return AfterProcess::Done(AgentExit::Stopped);
                } else if !self.ready {
                    self.put_off(waiting, order).await;
                },
            }
        }
        while let Ok(signal) = self.signals.try_recv() {
            self.noticed(signal);
        }
        waiting.position = self.decoder().position;
        if self.unknown_session {
            self.process.kill().await;
            return AfterProcess::Afresh;
        }
        let how = how_it_ended(status);
        if self.ready {
            return self.exit_reason("agent_exited", &format!("The agent {how}.")).await;
        }
        self.process.kill().await;
        let words = self.process.report_last_words(&self.agent.config).await;
        AfterProcess::Done(self.agent.start_failed_saying(&format!("it {how} before it was ready"), &words))
    }
}
