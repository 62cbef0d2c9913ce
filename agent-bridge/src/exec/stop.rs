//! Stops a process gracefully: closes its input, waits, sends SIGTERM, waits, and kills it with all its descendants.

use std::time::Duration;

use switchboard_runtime::AgentControl;

use super::{ports::ControlSource, process::Process};
use crate::limits::BridgeLimits;

/// Stops the process and all its descendants. [`AgentControl::Kill`] skips the rest of a wait.
pub(crate) async fn stop(process: &mut Process, control: &mut impl ControlSource, limits: &BridgeLimits) {
    process.note_descendants();
    // In dialect `text` the input has been closed long ago, so waiting for its effect would be in vain.
    let closed = process.close_input();
    let exited = if closed { exits(process, control, limits.stop_eof).await } else { Waited::TimedOut };
    if exited == Waited::TimedOut {
        process.terminate();
        exits(process, control, limits.stop_term).await;
    }
    // Also after a clean exit, because descendants may still run.
    process.kill().await;
}

/// Ends a process whose turn was cancelled: SIGTERM, a wait, then the process and its descendants are killed.
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
    // A source whose sender is gone returns `Stop` at once, every time: only the first one is received.
    let mut listening = true;
    loop {
        tokio::select! {
            biased;
            _ = process.wait() => return Waited::Exited,
            () = &mut deadline => return Waited::TimedOut,
            message = control.next(), if listening => match message {
                AgentControl::Kill => return Waited::Killed,
                AgentControl::Stop => listening = false,
                AgentControl::Command(_) => {}
            },
        }
    }
}
