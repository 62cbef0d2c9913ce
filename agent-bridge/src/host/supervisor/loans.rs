//! Decides when the agent's output is lent and when it is returned.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{process::ChildStdout, time::Instant};

use super::{
    super::{
        intake::{Backlog, IntakeEnd, may_end_turn},
        lending::{Ended, Loan},
        link::GatewayMessage,
        protocol::{CommandHead, Kind, ToHost, host_frame},
    },
    Supervisor,
};
use crate::{
    dialect::Framing,
    exec::process::{Owned, until},
};

/// How long a gateway may take to return the output when its agent is being ended.
const RETURN: Duration = Duration::from_secs(1);

impl Supervisor {
    /// Handles a gateway's request for the output. The gateway has all records before position `next`.
    pub(super) fn output_requested(&mut self, next: u64) {
        let gateway = self.peers.changes;
        if let Some(running) = &mut self.running
            && matches!(self.framing, Framing::Lines { .. })
            && running.loan.is_none()
        {
            running.asked = Some((next, gateway));
            running.pause.notify_one();
        }
    }

    /// Lends the output, which is not being read, to the gateway that has asked for it. If there are new records since
    /// then, the host goes on reading instead.
    pub(super) fn lend(&mut self, output: ChildStdout) {
        let Some(mut running) = self.running.take() else { return };
        let (_, next) = self.spool.range();
        let wanted = running.asked.take() == Some((next, self.peers.changes));
        let free = self.peers.connected && self.waiting.is_empty() && running.exited.is_none();
        if wanted && free {
            match Loan::new(output, &self.spool, next, self.peers.changes) {
                Ok(loan) => running.loan = Some(loan),
                Err(error) => running.intake = cannot_take_in(&error),
            }
        } else {
            let (mode, pause) = (running.mode.subscribe(), Arc::clone(&running.pause));
            running.intake = self.take_in(output, Backlog::new(), Bytes::new(), mode, pause);
        }
        self.running = Some(running);
    }

    pub(super) fn discard(&mut self, bytes: u64, before: u64) {
        let Some(running) = &mut self.running else { return };
        if let Some(loan) = &mut running.loan
            && loan.discard(&self.spool, bytes, before).is_err()
        {
            self.spool.send(host_frame(Kind::Recall, &[]));
        }
    }

    /// Reads the output again, if it is lent.
    pub(super) fn take_back(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        running.asked = None;
        if let Some(loan) = running.loan.take() {
            let Ended { output, backlog, begun } = loan.end(&self.spool);
            // The gateway may have gone before it reported the end of the turn. Output behind the last command is read
            // and examined as usual.
            for (kind, _, payload) in &backlog {
                if *kind == Kind::Command {
                    let opens =
                        serde_json::from_slice(payload).is_ok_and(|head: CommandHead| head.opens_turn);
                    self.peers.turn_open |= opens;
                } else if may_end_turn(&self.framing, payload) {
                    self.peers.turn_open = false;
                }
            }
            // An earlier request for the output is no longer valid.
            running.pause = Arc::default();
            let (mode, pause) = (running.mode.subscribe(), Arc::clone(&running.pause));
            running.intake = match output {
                Ok(output) => self.take_in(output, backlog, begun, mode, pause),
                Err(error) => cannot_take_in(&error),
            };
        }
        self.running = Some(running);
    }

    /// Takes the output back from a gateway that has disconnected.
    pub(super) fn end_stale_loan(&mut self) {
        let loan = self.running.as_ref().and_then(|running| running.loan.as_ref());
        if loan.is_some_and(|loan| loan.gateway() != self.peers.changes) {
            self.take_back();
        }
    }

    /// Asks the gateway to return the output, waits for a limited time, and reads the output again.
    pub(super) async fn recall(&mut self) {
        if self.running.as_ref().is_none_or(|running| running.loan.is_none()) {
            return;
        }
        self.spool.send(host_frame(Kind::Recall, &[]));
        let deadline = Instant::now() + RETURN;
        let mut later = VecDeque::new();
        loop {
            tokio::select! {
                received = self.peers.receive() => match received {
                    Some(GatewayMessage::Message(ToHost::Return)) | None => break,
                    Some(GatewayMessage::Message(message)) => later.push_back(GatewayMessage::Message(message)),
                    Some(GatewayMessage::Connected) => {
                        self.peers.connected();
                        break;
                    }
                    Some(GatewayMessage::Gone) => {
                        self.peers.disconnected();
                        break;
                    }
                },
                () = until(Some(deadline)) => break,
            }
        }
        later.append(&mut self.peers.later);
        self.peers.later = later;
        self.take_back();
    }
}

/// Handles the output as closed, because the system refuses to let it be read.
fn cannot_take_in(error: &io::Error) -> Owned<IntakeEnd<ChildStdout>> {
    tracing::error!(%error, "an agent's output cannot be read any more");
    Owned(tokio::spawn(std::future::ready(IntakeEnd::Closed)))
}
