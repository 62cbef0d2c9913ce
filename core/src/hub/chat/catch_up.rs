//! How a chat is taken up of which pieces may have been shown that the journal does not have.
//!
//! What the agent has said is read again, so that these pieces get their numbers again. Until then nothing else is
//! numbered: requests and deadlines wait. If not all can be read again, the numbers may have been used for other pieces,
//! and the chat goes on in a new epoch. Its readers get a snapshot there.

use super::{Chat, Phase, log::Draft};
use crate::{agent::AgentInstanceId, hub::context::Context};

/// How long a chat waits for what its agent has said, in milliseconds.
const LONGEST_MS: u64 = 10_000;

impl Chat {
    /// Begins to wait for what the agent has said, if pieces of it may have been shown. Returns whether it does.
    pub(super) fn begin_catching_up(&mut self, cx: &mut Context) -> bool {
        let waits = self.turns.has_spooled_streams() && self.agent.is_alive();
        if waits {
            self.phase = Phase::CatchingUp { until_ms: cx.now.ticks_ms + LONGEST_MS };
            self.rearm(cx);
        }
        waits
    }

    /// The agent's output was read up to where it ended when the agent was taken over. `complete`: all of it.
    pub(in crate::hub) fn caught_up(&mut self, cx: &mut Context, instance: AgentInstanceId, complete: bool) {
        let waits = matches!(self.phase, Phase::CatchingUp { .. });
        if !waits || !self.agent.accepts_records_of(instance) || cx.leaving {
            return;
        }
        if complete { self.end_catching_up(cx) } else { self.give_up_catching_up(cx) }
    }

    /// What was shown cannot be read again, or not in time: a new epoch begins. Nobody reads the chat yet, so what is
    /// numbered in the old one meanwhile is not seen under these numbers.
    pub(super) fn give_up_catching_up(&mut self, cx: &mut Context) {
        if matches!(self.phase, Phase::CatchingUp { .. }) {
            self.phase = Phase::RenewingEpoch { appended: false };
            self.flush(cx);
            self.pause_or_resume(cx);
            self.go_on_renewing(cx);
        }
    }

    /// Appends the new epoch once the journal has all of the old one, and goes on once the journal has it too.
    pub(super) fn go_on_renewing(&mut self, cx: &mut Context) {
        let Phase::RenewingEpoch { appended } = self.phase else { return };
        if !self.log.is_committed() || self.log.is_recovering() {
            return;
        }
        if appended {
            self.end_catching_up(cx);
        } else {
            self.phase = Phase::RenewingEpoch { appended: true };
            self.log.begin_epoch(cx.new_epoch());
            self.turns.forget_numbers();
            self.stage(cx, Draft { create: true, ..Draft::new() });
        }
    }

    fn end_catching_up(&mut self, cx: &mut Context) {
        self.phase = Phase::Ready;
        self.pause_or_resume(cx);
        self.try_start(cx);
        self.review_slot(cx);
        self.take_intake(cx);
    }

    /// Whether the chat catches up, or its new epoch begins. Gives up if the time is over.
    pub(super) fn is_taken_up(&mut self, cx: &mut Context) -> bool {
        if let Phase::CatchingUp { until_ms } = self.phase
            && until_ms <= cx.now.ticks_ms
        {
            self.give_up_catching_up(cx);
        }
        matches!(self.phase, Phase::CatchingUp { .. } | Phase::RenewingEpoch { .. })
    }
}
