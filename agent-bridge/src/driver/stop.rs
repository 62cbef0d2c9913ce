//! Ending a process in good order: close its input, wait, SIGTERM, wait, kill the tree.

use std::time::Duration;

use switchboard_runtime::Order;

use super::{ends::OrderSource, process::Process};
use crate::limits::BridgeLimits;

/// Stops the process and everything that it started; by force at once if that is ordered meanwhile.
pub(crate) async fn stop(process: &mut Process, orders: &mut impl OrderSource, limits: &BridgeLimits) {
    process.look_around();
    // Where the input has ended long ago, as in dialect `text`, its end tells the process nothing new.
    let told = process.close_input();
    let exited = if told { exits(process, orders, limits.stop_eof).await } else { Waited::TimedOut };
    if exited == Waited::TimedOut {
        process.terminate();
        exits(process, orders, limits.stop_term).await;
    }
    // Also after a clean exit: what it started may still run.
    process.kill().await;
}

/// Ends a process whose turn was cancelled: SIGTERM, wait, kill the tree.
pub(crate) async fn terminate(process: &mut Process, orders: &mut impl OrderSource, limits: &BridgeLimits) {
    process.terminate();
    exits(process, orders, limits.stop_term).await;
    process.kill().await;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waited {
    Exited,
    TimedOut,
    Killed,
}

async fn exits(process: &mut Process, orders: &mut impl OrderSource, longest: Duration) -> Waited {
    let deadline = tokio::time::sleep(longest);
    tokio::pin!(deadline);
    // A source without a sender says `Stop` for ever; only the first one is worth listening to.
    let mut listening = true;
    loop {
        tokio::select! {
            biased;
            _ = process.wait() => return Waited::Exited,
            () = &mut deadline => return Waited::TimedOut,
            order = orders.next(), if listening => match order {
                Order::Kill => return Waited::Killed,
                Order::Stop => listening = false,
                Order::Command(_) => {}
            },
        }
    }
}
