//! An agent instance whose process is a subprocess of the gateway.

use std::{collections::VecDeque, io, os::unix::process::ExitStatusExt, process::ExitStatus};

use async_trait::async_trait;
use bytes::Bytes;
use switchboard_core::{
    agent::{AgentExit, AgentInstanceId},
    ids::{ChatId, ChatKey},
};
use switchboard_runtime::AgentControl;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::reader::{Reader, Recorder};
use crate::{
    exec::{
        ports::{ControlSource, RecordSink},
        process::{Owned, Process, until},
        read_mode::ReadMode,
        stop::{stop, terminate},
    },
    host::protocol::{Action, CommandHead, CommandMeaning, Exited, SpawnFailure},
    session::{End, Input, Output, Record, Session},
    starter::Starter,
};

/// One agent instance: its chat, the source of its control messages and the sink for its records.
#[derive(Debug)]
pub struct UnhostedInstance<O, S> {
    /// The chat that the instance serves; used in logs.
    pub chat: ChatKey,
    /// Identifies the instance. Ids that the codec makes contain it, so that ids of two instances differ.
    pub instance: AgentInstanceId,
    /// Id of the agent's session to resume; `None` begins a new session.
    pub session: Option<String>,
    /// Source of the instance's control messages: commands, stop and kill.
    pub control: O,
    /// Sink for the instance's decoded records.
    pub records: S,
}

/// Serves a chat until a stop or kill arrives, or the agent is gone.
pub(super) async fn serve<O: ControlSource, S: RecordSink>(
    agent: &Starter,
    instance: UnhostedInstance<O, S>,
) -> AgentExit {
    let UnhostedInstance { chat, instance, session, control, records } = instance;
    let config = agent.config();
    tracing::debug!(agent = config.name, chat = %chat.chat, instance = instance.0, "an agent instance begins");
    let decoder = agent.decoder(instance, session.as_deref());
    let (progress, progressed) = mpsc::channel(1);
    let mut session = Session::new(agent.session_config().clone(), session);
    session.attach(0, None);
    let running = RunningInstance {
        agent,
        chat: chat.chat,
        session,
        recorder: Recorder::new(decoder, records, progress),
        progressed,
        control: Control { source: control, deferred: VecDeque::new() },
        running: None,
        spawn_error: None,
    };
    running.run().await
}

/// The source of control messages. Messages that arrive while a process is being ended or events are sent are deferred.
struct Control<O> {
    source: O,
    deferred: VecDeque<AgentControl>,
}

impl<O: ControlSource> Control<O> {
    /// The next control message. Cancel safe.
    async fn next(&mut self) -> AgentControl {
        match self.deferred.pop_front() {
            Some(control) => control,
            None => self.source.next().await,
        }
    }

    /// Waits until a stop or kill is there, and defers all messages. Cancel safe.
    async fn ending(&mut self) {
        while self.deferred.iter().all(|control| matches!(control, AgentControl::Command(_))) {
            let control = self.source.next().await;
            self.deferred.push_back(control);
        }
    }
}

/// The control source while a process is being ended: all messages are deferred, and only a kill hastens the end.
struct Deferring<'a, O>(&'a mut Control<O>);

#[async_trait]
impl<O: ControlSource> ControlSource for Deferring<'_, O> {
    async fn next(&mut self) -> AgentControl {
        loop {
            let control = self.0.source.next().await;
            self.0.deferred.push_back(control.clone());
            if !matches!(control, AgentControl::Command(_)) {
                return control;
            }
        }
    }
}

/// An agent instance and its process.
struct RunningInstance<'a, O, S> {
    agent: &'a Starter,
    chat: ChatId,
    session: Session,
    recorder: Recorder<S>,
    /// Receives when records were decoded or published.
    progressed: mpsc::Receiver<()>,
    control: Control<O>,
    running: Option<Running>,
    /// Why the last process could not be started.
    spawn_error: Option<io::Error>,
}

/// A process and the task that reads its output.
struct Running {
    process: Process,
    reading: Owned<()>,
    mode: watch::Sender<ReadMode>,
    closed: bool,
    exited: Option<Option<ExitStatus>>,
}

enum Event {
    Progress,
    Control(AgentControl),
    Exited(Option<ExitStatus>),
    /// The output was read to its end.
    Closed,
}

impl<O: ControlSource, S: RecordSink> RunningInstance<'_, O, S> {
    async fn run(mut self) -> AgentExit {
        let mut next_input = None;
        loop {
            self.review(next_input.take());
            let mut acted = false;
            while let Some(output) = self.session.poll_output() {
                acted = true;
                match output {
                    Output::Command { head, bytes } => self.carry_out(head, bytes).await,
                    Output::Idle => {
                        if let Some(running) = &mut self.running {
                            running.process.note_descendants();
                        }
                    }
                    // Only a host is retired.
                    Output::Stop | Output::Retire { .. } => return self.stop().await,
                    Output::End(end) => return self.end(end).await,
                }
            }
            if acted {
                // The records of the commands may call for more.
                continue;
            }
            match self.next().await {
                Event::Progress => {}
                Event::Control(AgentControl::Command(command)) => next_input = Some(Input::Command(command)),
                Event::Control(AgentControl::Stop) => {
                    self.discard();
                    next_input = Some(Input::Stop);
                }
                Event::Control(AgentControl::Kill) => {
                    self.discard();
                    if let Some(mut running) = self.running {
                        running.process.kill().await;
                    }
                    return AgentExit::Stopped;
                }
                Event::Exited(status) => {
                    if let Some(running) = &mut self.running {
                        running.exited = Some(status);
                        running.mode.send_replace(ReadMode::Drain);
                    }
                    self.settle().await;
                }
                Event::Closed => self.output_closed().await,
            }
        }
    }

    /// Hands an input and all progress to the session.
    fn review(&mut self, input: Option<Input>) {
        let now = Instant::now();
        let (mut decoder, published) = self.recorder.review();
        if let Some(input) = input {
            self.session.handle(now, input, &mut decoder);
        }
        self.session.handle(now, Input::Progress { published }, &mut decoder);
    }

    async fn next(&mut self) -> Event {
        let (exit, reading) = match &mut self.running {
            Some(Running { process, reading, closed, exited, .. }) => {
                (exited.is_none().then_some(process), (!*closed).then_some(reading))
            }
            None => (None, None),
        };
        tokio::select! {
            biased;
            Some(()) = self.progressed.recv() => Event::Progress,
            control = self.control.next() => Event::Control(control),
            status = async { match exit {
                Some(process) => process.wait().await,
                None => std::future::pending().await,
            } } => Event::Exited(status),
            _ = async { match reading {
                Some(reading) => (&mut reading.0).await,
                None => std::future::pending().await,
            } } => Event::Closed,
            () = until(self.session.deadline()) => Event::Progress,
        }
    }

    /// Records a command, and carries it out.
    async fn carry_out(&mut self, head: CommandHead, bytes: Bytes) {
        let CommandHead { action, meaning, .. } = head;
        // Before the process gets the command: what it writes in answer is decoded after the record.
        if matches!(meaning, CommandMeaning::Void { .. } | CommandMeaning::Start { .. }) {
            // Only these have events.
            self.publish(Record::Command(meaning)).await;
        } else {
            self.recorder.record(Record::Command(meaning));
        }
        match (action, &mut self.running) {
            (Action::Write, Some(running)) => running.process.write(bytes.into()),
            (Action::Start { further, close }, None) => self.start(&further, bytes, close),
            (Action::End { force: true }, Some(running)) => running.process.kill().await,
            (Action::End { force: false }, Some(running)) => {
                let limits = &self.agent.config().limits;
                terminate(&mut running.process, &mut Deferring(&mut self.control), limits).await;
            }
            // The process that the command was meant for is gone, which its exit record shows.
            (Action::Note | Action::Write | Action::End { .. }, _) | (Action::Start { .. }, Some(_)) => {}
        }
    }

    fn start(&mut self, arguments: &[String], bytes: Bytes, close: bool) {
        let config = self.agent.config();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let started = Process::start(&config.command_config(&self.chat), &arguments, self.agent.mark());
        let (mut process, output) = match started {
            Ok(started) => started,
            Err(error) => {
                self.recorder.record(Record::SpawnFailed(SpawnFailure::Other));
                self.spawn_error = Some(error);
                return;
            }
        };
        let (mode, watched) = watch::channel(ReadMode::Live);
        let reader = Reader::new(
            self.recorder.clone(),
            config.dialect.framing(),
            process.input(),
            watched,
            config.limits.clone(),
        );
        let reading = Owned(tokio::spawn(reader.run(output)));
        process.write(bytes.into());
        if close {
            process.close_input();
        }
        self.running = Some(Running { process, reading, mode, closed: false, exited: None });
    }

    async fn output_closed(&mut self) {
        let Some(running) = &mut self.running else { return };
        running.closed = true;
        if running.exited.is_none() {
            self.recorder.record(Record::OutputClosed);
        }
        self.settle().await;
    }

    /// Records the exit of a process that has exited and whose output was read to the end.
    async fn settle(&mut self) {
        let Some(mut running) = self.running.take_if(|running| running.closed && running.exited.is_some())
        else {
            return;
        };
        // Kills the descendants as well.
        running.process.kill().await;
        let status = running.exited.flatten();
        let exited = Exited {
            code: status.and_then(|status| status.code()),
            signal: status.and_then(|status| status.signal()),
            stderr: running.process.stderr_tail().await,
        };
        self.publish(Record::Exited(exited)).await;
    }

    /// Decodes the next record and sends its events, unless a stop or kill comes first: then nobody wants them.
    async fn publish(&mut self, record: Record<'_>) {
        tokio::select! {
            biased;
            () = self.recorder.publish(record) => {}
            () = self.control.ending() => {}
        }
    }

    /// Discards further output: a gateway that ends its agent does not need it.
    fn discard(&self) {
        if let Some(running) = &self.running {
            running.mode.send_replace(ReadMode::Discard);
        }
    }

    async fn stop(mut self) -> AgentExit {
        if let Some(running) = &mut self.running {
            stop(&mut running.process, &mut self.control.source, &self.agent.config().limits).await;
        }
        AgentExit::Stopped
    }

    /// Ends a process that still runs, and adds the end of its standard error to the reason.
    async fn end(self, end: End) -> AgentExit {
        let mut exit = match (end, self.spawn_error) {
            (End::SpawnFailed(_), Some(error)) => self.agent.spawn_failed(&error),
            (end, _) => self.agent.exit(end),
        };
        if let Some(mut running) = self.running {
            running.process.kill().await;
            let words = running.process.report_last_words(&self.session.config().last_words).await;
            if let AgentExit::StartFailed(error) | AgentExit::Gone(error) = &mut exit {
                error.detail.push_str(&words);
            }
        }
        exit
    }
}
