//! A chat's agent: its place among the process's agents, its life, its commands, and when it is held.

use super::{
    chat::Chat,
    context::{Context, Errand},
    io::Output,
};
use crate::{
    agent::{AgentCommand, AgentExit, AgentRun},
    wire::{Outcome, TurnError},
};

/// Where a chat's agent is in its life. A place is taken from `Reserved` until the exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seat {
    Empty,
    /// A place is taken; the agent starts with its first command.
    Reserved,
    Alive {
        run: AgentRun,
        held: bool,
    },
    Stopping {
        run: AgentRun,
        kill_at_ms: u64,
        killed: bool,
    },
}

impl Chat {
    /// Takes a place for this chat's agent. False: none is free, and the chat is called when one is.
    pub(super) fn obtain_seat(&mut self, cx: &mut Context) -> bool {
        match self.seat {
            Seat::Reserved | Seat::Alive { .. } => {
                self.set_idle(cx, false);
                true
            }
            Seat::Stopping { .. } => false,
            Seat::Empty if cx.agents.taken < cx.limits.agents => {
                cx.agents.taken += 1;
                self.seat = Seat::Reserved;
                true
            }
            Seat::Empty => {
                if let Some((_, idle)) = cx.agents.idle.pop_first() {
                    cx.errands.push_back(Errand::StopIdleAgent(idle));
                }
                if !cx.agents.waiting.contains(&self.reference) {
                    cx.agents.waiting.push_back(self.reference);
                }
                false
            }
        }
    }

    /// Gives back a place that was never used.
    pub(super) fn release_reservation(&mut self, cx: &mut Context) {
        if self.seat == Seat::Reserved {
            self.vacate(cx);
        }
    }

    fn vacate(&mut self, cx: &mut Context) {
        self.seat = Seat::Empty;
        cx.agents.taken -= 1;
        if let Some(next) = cx.agents.waiting.pop_front() {
            cx.errands.push_back(Errand::TryStart(next));
        }
        cx.errands.push_back(Errand::Settle(self.reference));
    }

    /// Marks whether the agent has nothing to do, from now on.
    pub(super) fn set_idle(&mut self, cx: &mut Context, idle: bool) {
        let mine = self.reference;
        cx.agents.idle.retain(|(_, chat)| *chat != mine);
        if idle && matches!(self.seat, Seat::Alive { .. }) {
            cx.agents.idle.insert((cx.now.ticks_ms, mine));
            // Somebody waited while no agent was idle.
            if !cx.agents.waiting.is_empty() {
                cx.agents.idle.remove(&(cx.now.ticks_ms, mine));
                cx.errands.push_back(Errand::StopIdleAgent(mine));
            }
            self.rearm(cx);
        }
    }

    /// Tells the agent something that the journal has; a prompt starts the agent where it does not live.
    pub(super) fn tell(&mut self, cx: &mut Context, command: AgentCommand) {
        if let AgentCommand::Prompt { turn_id, .. } = &command {
            if self.active_turn_id().as_ref() != Some(turn_id) {
                return;
            }
            if self.seat == Seat::Reserved {
                let run = cx.next_run();
                self.seat = Seat::Alive { run, held: false };
                cx.output(Output::StartAgent { chat: self.key.clone(), run, session: self.session.clone() });
            }
            if let Some(active) = &mut self.active {
                active.prompted = true;
                active.progress(cx.now.ticks_ms);
            }
            self.rearm(cx);
        }
        if let Seat::Alive { run, .. } = self.seat {
            cx.output(Output::Command { run, command });
        }
    }

    pub(super) fn stop_agent(&mut self, cx: &mut Context, kill: bool) {
        match self.seat {
            Seat::Alive { run, .. } => {
                self.set_idle(cx, false);
                let kill_at_ms = cx.now.ticks_ms + 2 * cx.limits.cancel_grace_ms;
                self.seat = Seat::Stopping { run, kill_at_ms, killed: kill };
                cx.output(Output::StopAgent { run, kill });
                self.rearm(cx);
            }
            Seat::Reserved => self.release_reservation(cx),
            Seat::Stopping { run, kill_at_ms, killed: false } if kill => {
                self.seat = Seat::Stopping { run, kill_at_ms, killed: true };
                cx.output(Output::StopAgent { run, kill });
            }
            Seat::Stopping { .. } | Seat::Empty => {}
        }
    }

    /// Stops the agent if it still has nothing to do, to make room.
    pub(super) fn stop_if_idle(&mut self, cx: &mut Context) {
        if self.turns.is_empty() {
            self.stop_agent(cx, false);
        }
    }

    pub(super) fn agent_exited(&mut self, cx: &mut Context, run: AgentRun, exit: AgentExit) {
        let (Seat::Alive { run: mine, .. } | Seat::Stopping { run: mine, .. }) = self.seat else { return };
        if mine != run {
            return;
        }
        self.set_idle(cx, false);
        self.vacate(cx);
        if let Some(active) = &self.active {
            let cancelling = active.cancel_by_ms.is_some();
            let (outcome, error) = match exit {
                _ if cancelling => (Outcome::Cancelled, None),
                AgentExit::StartFailed(error) => (Outcome::Failed, Some(error)),
                AgentExit::Gone(error) => (Outcome::Interrupted, Some(error)),
                AgentExit::Stopped => (Outcome::Interrupted, Some(agent_stopped())),
            };
            self.end_turn(cx, outcome, error);
        }
        self.try_start(cx);
    }

    /// Whether records of this life count.
    pub(super) fn hears(&self, run: AgentRun) -> bool {
        matches!(self.seat, Seat::Alive { run: mine, .. } if mine == run)
    }

    /// Holds the agent while its readers or the journal are too far behind, and lets it go on after.
    pub(super) fn hold(&mut self, cx: &mut Context) {
        let Seat::Alive { run, held } = self.seat else { return };
        let behind = self.broken.is_some()
            || self.pending_bytes > cx.limits.pending_bytes
            || self.readers_far_behind(cx);
        if behind != held {
            self.seat = Seat::Alive { run, held: behind };
            cx.output(Output::HoldAgent { run, held: behind });
            if let Some(active) = self.active.as_mut().filter(|_| !behind) {
                active.progress(cx.now.ticks_ms);
            }
            self.rearm(cx);
        }
    }

    pub(super) fn is_held(&self) -> bool {
        matches!(self.seat, Seat::Alive { held: true, .. })
    }
}

fn agent_stopped() -> TurnError {
    TurnError {
        code: "agent_stopped".into(),
        detail: "the agent was stopped before its answer was complete".into(),
    }
}
