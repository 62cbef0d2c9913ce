//! What waits to be written to an agent, bounded: one that asks without end and never reads must not grow us.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::AsyncWriteExt as _,
    process::ChildStdin,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, WeakUnboundedSender, unbounded_channel},
};

/// How much waits for one agent.
#[derive(Debug)]
struct Gauge {
    waiting: AtomicUsize,
    limit: usize,
    /// The group that is ended where too much waits.
    group: Option<Pid>,
    over: AtomicBool,
}

impl Gauge {
    /// Counts bytes that are to wait. False: too much would, and the agent is being killed for it.
    fn takes(&self, bytes: usize) -> bool {
        let waiting = self.waiting.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if waiting <= self.limit {
            return true;
        }
        if !self.over.swap(true, Ordering::Relaxed) {
            tracing::warn!(waiting, "an agent that does not read its input is killed");
            if let Some(group) = self.group {
                // It may have gone already.
                let _ = kill_process_group(group, Signal::KILL);
            }
        }
        false
    }
}

/// The end that keeps an agent's input open.
#[derive(Debug)]
pub(super) struct Input {
    queue: UnboundedSender<Vec<u8>>,
    gauge: Arc<Gauge>,
}

/// An end that does not.
#[derive(Debug, Clone)]
pub(crate) struct WeakInput(Option<(WeakUnboundedSender<Vec<u8>>, Arc<Gauge>)>);

/// Where what waits comes out.
#[derive(Debug)]
pub(super) struct Waiting {
    queue: UnboundedReceiver<Vec<u8>>,
    gauge: Arc<Gauge>,
}

/// An input of which at most `limit` bytes wait. Beyond that the process group is killed.
pub(super) fn input(limit: usize, group: Option<Pid>) -> (Input, Waiting) {
    let (sender, receiver) = unbounded_channel();
    let gauge = Arc::new(Gauge { waiting: AtomicUsize::new(0), limit, group, over: AtomicBool::new(false) });
    (Input { queue: sender, gauge: Arc::clone(&gauge) }, Waiting { queue: receiver, gauge })
}

impl Input {
    /// Has these bytes written, as soon as the agent reads.
    pub(super) fn send(&self, bytes: Vec<u8>) {
        if self.gauge.takes(bytes.len()) {
            // A closed input means that the agent is going; its exit says so.
            let _ = self.queue.send(bytes);
        }
    }

    pub(super) fn downgrade(&self) -> WeakInput {
        WeakInput(Some((self.queue.downgrade(), Arc::clone(&self.gauge))))
    }
}

impl WeakInput {
    /// An input that is closed.
    pub(super) fn closed() -> Self {
        Self(None)
    }

    /// Has these bytes written if the input is still open.
    pub(crate) fn send(&self, bytes: Vec<u8>) {
        if let Some((queue, gauge)) = &self.0
            && let Some(queue) = queue.upgrade()
        {
            Input { queue, gauge: Arc::clone(gauge) }.send(bytes);
        }
    }
}

impl Waiting {
    /// Writes what waits until nothing more will come, or the agent takes nothing more.
    pub(super) async fn write_to(mut self, mut stdin: ChildStdin) {
        while let Some(bytes) = self.queue.recv().await {
            if stdin.write_all(&bytes).await.is_err() {
                return;
            }
            self.gauge.waiting.fetch_sub(bytes.len(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_waits_than_may() {
        let (input, mut waiting) = input(10, None);
        input.send(vec![0; 10]);
        input.downgrade().send(vec![0; 1]);
        assert_eq!(waiting.queue.try_recv().unwrap().len(), 10);
        assert!(waiting.queue.try_recv().is_err(), "one byte more is not kept");
    }
}
