//! An agent instance without a host: it waits for its first prompt and for the end of a backoff.

use switchboard_core::agent::AgentRecords;
use switchboard_runtime::AgentControl;
use tokio::time::Instant;

use crate::{
    exec::{
        ports::{ControlSource, RecordSink},
        process::until,
    },
    session::{DecodedBatch, Input, Output, Record, RecordDecoder, Session},
};

/// Waits until a host is to be started for a prompt. Returns false if the instance ends before. The records that are
/// decoded meanwhile are those before the host's first one.
pub(super) async fn for_prompt<O: ControlSource, S: RecordSink>(
    session: &mut Session,
    decoder: &mut RecordDecoder,
    control: &mut O,
    records: &S,
) -> bool {
    let mut input = None;
    loop {
        let published = decoder.state().position;
        session.handle(Instant::now(), input.take().unwrap_or(Input::Progress { published }), decoder);
        while let Some(output) = session.poll_output() {
            match output {
                Output::Command { head, .. } => {
                    let mut batch = DecodedBatch::default();
                    let position = decoder.state().position + 1;
                    decoder.record(position, Record::Command(head.meaning), &mut batch);
                    let records_of = AgentRecords { position, events: batch.events, checkpoint: None };
                    // If the gateway is gone, the next control message is `Stop`.
                    let _ = records.send(records_of).await;
                }
                Output::Idle => {}
                Output::Stop | Output::Retire { .. } | Output::End(_) => return false,
            }
        }
        if session.wants_process(Instant::now()) {
            return true;
        }
        tokio::select! {
            biased;
            message = control.next() => match message {
                AgentControl::Command(command) => input = Some(Input::Command(command)),
                AgentControl::Stop | AgentControl::Kill => return false,
            },
            () = until(session.deadline()) => {}
        }
    }
}
