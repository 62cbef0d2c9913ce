//! An agent instance with one process per prompt.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use switchboard_core::{
    agent::{AgentCommand, AgentEvent, AgentExit, AgentRecords},
    ids::TurnId,
    wire::Outcome,
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
    reader::{Decoder, ReadMode, Reader, RecordTooLong},
    stop::{stop, terminate},
};
use crate::dialect::{Codec, Conversation, Decoded, Encoded, ProcessExit};

/// Serves a chat until a stop or kill arrives, or a process cannot be started.
pub(super) async fn serve<O: ControlSource, S: RecordSink>(
    agent: &ProcessAgent,
    mut life: AgentInstance<O, S>,
) -> AgentExit {
    let mut position = 0;
    let mut answers = 0_u64;
    loop {
        match life.control.next().await {
            AgentControl::Stop | AgentControl::Kill => return AgentExit::Stopped,
            AgentControl::Command(command @ AgentCommand::Prompt { .. }) => {
                answers += 1;
                let AgentCommand::Prompt { turn_id, .. } = &command else { continue };
                let prompt = Prompt { turn_id: turn_id.clone(), command, process: answers };
                if let Err(exit) = answer(agent, &mut life, prompt, &mut position).await {
                    return exit;
                }
            }
            // The turn that the command belongs to has ended.
            AgentControl::Command(AgentCommand::Cancel { .. } | AgentCommand::Answer { .. }) => {}
        }
    }
}

struct Prompt {
    turn_id: TurnId,
    command: AgentCommand,
    /// Number of the prompt's process.
    process: u64,
}

struct ReadDecoder {
    codec: Box<dyn Codec>,
    position: u64,
}

impl Decoder for ReadDecoder {
    fn decode(&mut self, read: &mut BytesMut, out: &mut Decoded) -> Result<(), RecordTooLong> {
        self.position += 1;
        self.codec.decode(self.position, &read.split(), out);
        Ok(())
    }

    fn end(&mut self, _: &mut Decoded) {}

    fn position(&self) -> u64 {
        self.position
    }

    fn checkpoint(&self) -> Option<Bytes> {
        None
    }
}

/// Answers one prompt. An error ends the instance.
async fn answer<O: ControlSource, S: RecordSink>(
    agent: &ProcessAgent,
    life: &mut AgentInstance<O, S>,
    prompt: Prompt,
    position: &mut u64,
) -> Result<(), AgentExit> {
    let limits = &agent.config.limits;
    if !backed_off(agent, life, &prompt.turn_id, position).await? {
        return Ok(());
    }
    let (mut process, output) = Process::start(&agent.config.command_config(), &[], agent.mark())
        .map_err(|error| agent.spawn_failed(&error))?;
    agent.backoff.succeeded();
    let codec = agent.config.dialect.codec(&Conversation {
        workspace: &agent.config.workspace,
        prefix: &format!("{}-", life.instance.0),
        session: None,
        process: prompt.process,
    });
    let input = codec.encode(&prompt.command);
    let decoder = ReadDecoder { codec, position: *position };
    let decoder = Arc::new(Mutex::new(decoder));
    let (mode, read_mode) = watch::channel(ReadMode::Live);
    let (signal, _signals) = mpsc::unbounded_channel();
    let reader = Reader {
        decoder: Arc::clone(&decoder),
        sink: life.records.clone(),
        replies: process.input(),
        signals: signal,
        mode: read_mode,
        limits: limits.clone(),
        speaking: Arc::default(),
    };
    let mut reading = Owned(tokio::spawn(reader.run(output)));
    if let Encoded::Write(bytes) = input {
        process.write(bytes);
    }
    process.close_input();

    let mut exited = None;
    let mut cancelled = false;
    // Ends when the process has exited and all its output is read.
    while exited.is_none() || !reading.0.is_finished() {
        tokio::select! {
            biased;
            order = life.control.next() => match order {
                AgentControl::Stop => {
                    mode.send_replace(ReadMode::Discard);
                    stop(&mut process, &mut life.control, limits).await;
                    return Err(AgentExit::Stopped);
                }
                AgentControl::Kill => {
                    mode.send_replace(ReadMode::Discard);
                    process.kill().await;
                    return Err(AgentExit::Stopped);
                }
                AgentControl::Command(AgentCommand::Cancel { turn_id, .. }) if turn_id == prompt.turn_id => {
                    cancelled = true;
                    terminate(&mut process, &mut life.control, limits).await;
                    exited = Some(None);
                    mode.send_replace(ReadMode::Drain);
                }
                AgentControl::Command(_) => {}
            },
            status = process.wait(), if exited.is_none() => {
                exited = Some(status);
                mode.send_replace(ReadMode::Drain);
            }
            _ = &mut reading.0, if !reading.0.is_finished() => {}
        }
    }
    process.kill().await;
    let status = exited.flatten();
    let failed = !cancelled && !status.is_some_and(|status| status.success());
    let last_words = if failed { process.report_last_words(&agent.config).await } else { String::new() };
    let exit = ProcessExit {
        code: status.and_then(|status| status.code()),
        cancelled,
        description: &how_it_ended(status),
        last_words: &last_words,
    };
    let mut out = Decoded::default();
    {
        let mut decoder = decoder.lock().unwrap_or_else(PoisonError::into_inner);
        decoder.codec.exited(&exit, &mut out);
        *position = decoder.position + 1;
    }
    let records = AgentRecords { position: *position, events: out.events, checkpoint: None };
    // If the gateway is gone, the next control message is `Stop`.
    let _ = life.records.send(records).await;
    Ok(())
}

/// Waits until the backoff after failed starts is over. Returns false if the turn was cancelled during the wait.
async fn backed_off<O: ControlSource, S: RecordSink>(
    agent: &ProcessAgent,
    life: &mut AgentInstance<O, S>,
    turn: &TurnId,
    position: &mut u64,
) -> Result<bool, AgentExit> {
    let due = agent.backoff.not_before();
    while due.is_some_and(|due| due > Instant::now()) {
        tokio::select! {
            order = life.control.next() => {
                if is_end(&order) {
                    return Err(AgentExit::Stopped);
                }
                if matches!(order, AgentControl::Command(AgentCommand::Cancel { turn_id, .. }) if turn_id == *turn) {
                    end_turn(life, position).await;
                    return Ok(false);
                }
            }
            () = until(due) => break,
        }
    }
    Ok(true)
}

async fn end_turn<O, S: RecordSink>(life: &AgentInstance<O, S>, position: &mut u64) {
    *position += 1;
    let ended = AgentEvent::TurnEnded { outcome: Outcome::Cancelled, error: None, usage: None, cost: None };
    let records = AgentRecords { position: *position, events: vec![ended], checkpoint: None };
    // If the gateway is gone, the next control message is `Stop`.
    let _ = life.records.send(records).await;
}
