//! An agent instance without a host: it waits for its first prompt and for the end of a backoff.

use switchboard_core::{
    agent::{AgentCommand, AgentEvent, AgentRecords},
    wire::Outcome,
};
use switchboard_runtime::AgentControl;
use tokio::time::Instant;

use crate::driver::{ControlSource, RecordSink, backoff::Backoff, is_end, process::until};

/// Waits for the first prompt and until a start is due. Returns the prompt and the position before the host's first
/// record; `None` if the instance ends before.
pub(super) async fn first_prompt<O: ControlSource, S: RecordSink>(
    control: &mut O,
    records: &S,
    backoff: &Backoff,
) -> Option<(AgentCommand, u64)> {
    let mut waiting = None;
    let mut position = 0;
    loop {
        let due = backoff.not_before().filter(|due| *due > Instant::now());
        if due.is_none()
            && let Some(prompt) = waiting.take()
        {
            return Some((prompt, position));
        }
        tokio::select! {
            biased;
            order = control.next() => match order {
                order if is_end(&order) => return None,
                AgentControl::Command(prompt @ AgentCommand::Prompt { .. }) => waiting = Some(prompt),
                AgentControl::Command(AgentCommand::Cancel { turn_id, .. }) => {
                    let waits = matches!(&waiting, Some(AgentCommand::Prompt { turn_id: waits, .. }) if *waits == turn_id);
                    if waits {
                        waiting = None;
                        position += 1;
                        // If the gateway is gone, the next control message is `Stop`.
                        let _ = records.send(cancelled(position)).await;
                    }
                }
                // The command belongs to an earlier instance.
                AgentControl::Command(AgentCommand::Answer { .. }) | AgentControl::Stop | AgentControl::Kill => {}
            },
            () = until(due), if waiting.is_some() => {}
        }
    }
}

fn cancelled(position: u64) -> AgentRecords {
    let ended = AgentEvent::TurnEnded { outcome: Outcome::Cancelled, error: None, usage: None, cost: None };
    AgentRecords { position, events: vec![ended], checkpoint: None }
}
