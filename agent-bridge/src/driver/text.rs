//! An agent instance in dialect `text`: one process per prompt.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use switchboard_core::{
    agent::{AgentCommand, AgentEvent, AgentExit, AgentRecords},
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
    reader::{Decoder, ReadMode, Reader, RecordTooLong},
    stop::{stop, terminate},
};
use crate::codec::{Decoded, TextCodec};

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
            AgentControl::Command(AgentCommand::Prompt { text, turn_id, .. }) => {
                answers += 1;
                let prompt = Prompt { turn_id, text, stream: format!("{}-{answers}", life.instance.0) };
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
    text: String,
    /// Id of the answer's text stream.
    stream: String,
}

struct ReadDecoder {
    codec: TextCodec,
    position: u64,
}

impl Decoder for ReadDecoder {
    fn decode(&mut self, read: &mut BytesMut, out: &mut Decoded) -> Result<(), RecordTooLong> {
        self.position += 1;
        self.codec.decode(&read.split(), out);
        Ok(())
    }

    fn end(&mut self, out: &mut Decoded) {
        self.position += 1;
        self.codec.end(out);
    }

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
    let (mut process, output) =
        Process::start(&agent.config, &[], agent.mark()).map_err(|error| agent.spawn_failed(&error))?;
    agent.backoff.succeeded();
    let decoder = ReadDecoder { codec: TextCodec::new(&prompt.stream), position: *position };
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
    process.write(prompt.text.into_bytes());
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
    let succeeded = status.is_some_and(|status| status.success());
    let (outcome, error) = match (cancelled, succeeded) {
        (true, _) => (Outcome::Cancelled, None),
        (false, true) => (Outcome::Completed, None),
        (false, false) => {
            let words = process.report_last_words(&agent.config).await;
            let detail = format!("The command {}.{words}", how_it_ended(status));
            (Outcome::Failed, Some(TurnError { code: "agent_exited".into(), detail }))
        }
    };
    *position = decoder.lock().unwrap_or_else(PoisonError::into_inner).position;
    end_turn(life, outcome, error, position).await;
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
                    end_turn(life, Outcome::Cancelled, None, position).await;
                    return Ok(false);
                }
            }
            () = until(due) => break,
        }
    }
    Ok(true)
}

async fn end_turn<O, S: RecordSink>(
    life: &AgentInstance<O, S>,
    outcome: Outcome,
    error: Option<TurnError>,
    position: &mut u64,
) {
    *position += 1;
    let ended = AgentEvent::TurnEnded { outcome, error, usage: None, cost: None };
    let records = AgentRecords { position: *position, events: vec![ended], checkpoint: None };
    // If the gateway is gone, the next control message is `Stop`.
    let _ = life.records.send(records).await;
}
