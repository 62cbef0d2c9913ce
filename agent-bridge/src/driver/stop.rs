//! Ending a process in good order: close its input, wait, SIGTERM, wait, kill the tree.

use std::time::Duration;

use switchboard_runtime::AgentControl;

use super::{ends::ControlSource, process::Process};
use crate::limits::BridgeLimits;

/// Stops the process and everything that it started; by force at once if that is ordered meanwhile.
pub(crate) async fn stop(process: &mut Process, control: &mut impl ControlSource, limits: &BridgeLimits) {
    process.note_descendants();
    // Where the input has ended long ago, as in dialect `text`, its end tells the process nothing new.
    let told = process.close_input();
    let exited = if told { exits(process, control, limits.stop_eof).await } else { Waited::TimedOut };
    if exited == Waited::TimedOut {
        process.terminate();
        exits(process, control, limits.stop_term).await;
    }
    // Also after a clean exit: what it started may still run.
    process.kill().await;
}

/// Ends a process whose turn was cancelled: SIGTERM, wait, kill the tree.
pub(crate) async fn terminate(
    process: &mut Process,
    control: &mut impl ControlSource,
    limits: &BridgeLimits,
) {
    process.terminate();
    exits(process, control, limits.stop_term).await;
    process.kill().await;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waited {
    Exited,
    TimedOut,
    Killed,
}

async fn exits(process: &mut Process, control: &mut impl ControlSource, longest: Duration) -> Waited {
    let deadline = tokio::time::sleep(longest);
    tokio::pin!(deadline);
    // A source without a sender says `Stop` for ever; only the first one is worth listening to.
    let mut listening = true;
    loop {
        tokio::select! {
            biased;
            _ = process.wait() => return Waited::Exited,
            () = &mut deadline => return Waited::TimedOut,
            order = control.next(), if listening => match order {
                AgentControl::Kill => return Waited::Killed,
                AgentControl::Stop => listening = false,
                AgentControl::Command(_) => {}
            },
        }
    }
}
