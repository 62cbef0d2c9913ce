//! Who moves the agent's output to the spool: the connected gateway, else this host.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    super::{
        link::GatewayMessage,
        mover::Mover,
        pipe,
        protocol::{Kind, ToHost, host_frame},
        running_output::RunningOutput,
    },
    Supervisor,
};
use crate::exec::process::{Owned, until};

/// How long a gateway may take to return the pipe when its agent was ended.
const RETURN: Duration = Duration::from_secs(1);

impl Supervisor {
    /// Begins to move the output of the running process, unless that is done already. No gateway may be moving it.
    pub(super) fn take_up(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        if running.output.is_handed_over() {
            let moving = self.mover(&running.output);
            running.output.take_up(moving);
        }
        self.running = Some(running);
    }

    /// Starts to move an output, behind what a gateway has moved.
    pub(super) fn mover(&self, output: &RunningOutput) -> io::Result<Owned<()>> {
        self.spool.output.range()?;
        let (spool, framing) = (Arc::clone(&self.spool.output), self.framing.clone());
        let (mode, limits) = (output.mode.subscribe(), self.config.limits.clone());
        let mover = Mover::new(output.pipe().try_clone()?, spool, framing, mode, limits)?;
        Ok(Owned(tokio::spawn(mover.run())))
    }

    /// Lets the connected gateway move the output of the running process, if there is more to come.
    pub(super) fn hand_over(&mut self) {
        let Some(running) = self.running.as_mut().filter(|running| running.exited.is_none()) else { return };
        if !self.peers.is_connected() || running.output.moving().is_none() {
            return;
        }
        let frame =
            pipe::describe(running.output.pipe()).map(|pipe| serde_json::to_vec(&pipe).unwrap_or_default());
        if let Ok(frame) = frame {
            // Ends the task of this host.
            running.output.hand_over();
            self.peers.send(host_frame(Kind::Pipe, &frame));
        }
    }

    /// The gateway, which may have been moving output, is gone.
    pub(super) fn gateway_gone(&mut self) {
        self.peers.disconnected();
        self.take_up();
        // It may have gone before it reported the end of the turn.
        if self.peers.turn_open {
            self.peers.turn_open = !self.spool.output.may_end_turn(&self.framing, self.turn_offset);
        }
    }

    /// Asks the gateway to return the pipe, and waits for a limited time. Returns whether no gateway moves output any
    /// more. Otherwise what it may still move does not count: the agent has exited, and the note of that is in front of it.
    pub(super) async fn recall(&mut self) -> bool {
        self.peers.say(Kind::Recall);
        let deadline = Instant::now() + RETURN;
        let mut later = VecDeque::new();
        let mut returned = false;
        loop {
            tokio::select! {
                received = self.peers.receive() => match received {
                    Some(GatewayMessage::Message(ToHost::Return)) | None => returned = true,
                    Some(GatewayMessage::Gone) => {
                        self.peers.disconnected();
                        returned = true;
                    }
                    Some(other) => later.push_back(other),
                },
                () = until(Some(deadline)) => break,
            }
            if returned {
                break;
            }
        }
        later.append(&mut self.peers.later);
        self.peers.later = later;
        returned
    }
}
