//! A bounded queue for the agent's standard input: an agent that causes replies but never reads must not exhaust the
//! gateway's memory.

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

/// Counts the bytes that are queued for one agent.
#[derive(Debug)]
struct Gauge {
    waiting: AtomicUsize,
    limit: usize,
    /// The process group to kill when the limit is exceeded.
    group: Option<Pid>,
    over: AtomicBool,
}

impl Gauge {
    /// Adds `bytes` to the count. Returns false if that exceeds the limit; the agent is then killed.
    fn takes(&self, bytes: usize) -> bool {
        let waiting = self.waiting.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if waiting <= self.limit {
            return true;
        }
        if !self.over.swap(true, Ordering::Relaxed) {
            tracing::warn!(waiting, "an agent that does not read its input is killed");
            if let Some(group) = self.group {
                // The process group may be gone already.
                let _ = kill_process_group(group, Signal::KILL);
            }
        }
        false
    }
}

/// A sender that keeps the agent's standard input open.
#[derive(Debug)]
pub(super) struct Input {
    queue: UnboundedSender<Vec<u8>>,
    gauge: Arc<Gauge>,
}

/// A sender that does not keep the agent's standard input open.
#[derive(Debug, Clone)]
pub(crate) struct WeakInput(Option<(WeakUnboundedSender<Vec<u8>>, Arc<Gauge>)>);

/// The receiving end of the queue.
#[derive(Debug)]
pub(super) struct Waiting {
    queue: UnboundedReceiver<Vec<u8>>,
    gauge: Arc<Gauge>,
}

/// Makes a queue of at most `limit` bytes. When more would be queued, the process group `group` is killed.
pub(super) fn input(limit: usize, group: Option<Pid>) -> (Input, Waiting) {
    let (sender, receiver) = unbounded_channel();
    let gauge = Arc::new(Gauge { waiting: AtomicUsize::new(0), limit, group, over: AtomicBool::new(false) });
    (Input { queue: sender, gauge: Arc::clone(&gauge) }, Waiting { queue: receiver, gauge })
}

impl Input {
    /// Queues bytes for the agent's standard input.
    pub(super) fn send(&self, bytes: Vec<u8>) {
        if self.gauge.takes(bytes.len()) {
            // A closed queue means that the agent is about to exit, and its exit is reported.
            let _ = self.queue.send(bytes);
        }
    }

    pub(super) fn downgrade(&self) -> WeakInput {
        WeakInput(Some((self.queue.downgrade(), Arc::clone(&self.gauge))))
    }
}

impl WeakInput {
    /// The sender of an input that is closed.
    pub(super) fn closed() -> Self {
        Self(None)
    }

    /// Queues bytes, if the input is still open.
    pub(crate) fn send(&self, bytes: Vec<u8>) {
        if let Some((queue, gauge)) = &self.0
            && let Some(queue) = queue.upgrade()
        {
            Input { queue, gauge: Arc::clone(gauge) }.send(bytes);
        }
    }
}

impl Waiting {
    /// Writes queued bytes until all senders are gone, or a write fails.
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
    fn input_beyond_the_limit_is_not_queued() {
        let (input, mut waiting) = input(10, None);
        input.send(vec![0; 10]);
        input.downgrade().send(vec![0; 1]);
        assert_eq!(waiting.queue.try_recv().unwrap().len(), 10);
        assert!(waiting.queue.try_recv().is_err(), "one byte more is not kept");
    }
}
