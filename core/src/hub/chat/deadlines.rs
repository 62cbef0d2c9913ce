//! What happens to a chat when time has passed. A chat has one timer, set to its earliest deadline.

use super::{
    Chat, Phase,
    agent::agent_stopped,
    deletion::Deletion,
    turns::{Ending, Place},
};
use crate::{
    hub::{
        context::Context,
        io::{Deadline, DeadlineReason},
    },
    wire::{ControlEvent, NoticeLevel, Outcome, TurnError},
};

impl Chat {
    /// Handles every deadline of the chat that has passed.
    pub(in crate::hub) fn timer_fired(&mut self, cx: &mut Context) {
        let now_ms = cx.now.ticks_ms;
        self.timer = None;
        if self.reload_at_ms.is_some_and(|due| due <= now_ms) {
            self.load(cx);
        }
        self.log.flush_due(cx, &self.requests);
        self.log.ask_resync(cx);
        self.pause_or_resume(cx);
        if self.is_taken_up(cx) {
            return self.rearm(cx);
        }
        self.check_started_turn(cx);
        if self.agent.kill_due_ms().is_some_and(|due| due <= now_ms) {
            self.stop_agent(cx, true, Ending::new(Outcome::Interrupted, Some(agent_stopped())));
        }
        self.go_on_deleting(cx);
        if self.agent.idle_due_ms(&cx.limits).is_some_and(|due| due <= now_ms) {
            self.stop_idle_agent(cx);
        }
        if self.agent.background_due_ms(&cx.limits).is_some_and(|due| due <= now_ms) {
            let text = "The agent worked on in the background for longer than this gateway allows (`background_ms`) \
                        without a person, so it was stopped. The next message starts it again.";
            self.log_agent_stopped(cx, NoticeLevel::Warning, text);
            self.stop_idle_agent(cx);
        }
        self.rearm(cx);
    }

    /// Ends, cancels or reports a started turn whose time is over.
    fn check_started_turn(&mut self, cx: &mut Context) {
        let now_ms = cx.now.ticks_ms;
        if self.turns.kill_due_ms().is_some_and(|due| due <= now_ms) {
            // A prompt may wait for the cancelled turn of the agent's.
            let outcome = if self.turns.is_cancelling() { Outcome::Cancelled } else { Outcome::Interrupted };
            self.stop_agent(cx, true, Ending::new(Outcome::Interrupted, Some(agent_stopped())));
            let error = (outcome == Outcome::Interrupted).then(agent_stopped);
            self.end_turn(cx, outcome, error);
            self.try_start(cx);
            return;
        }
        if self.silence_due_ms(cx).is_none_or(|due| due > now_ms) {
            return;
        }
        let silence = self.turns.note_silence(now_ms, &cx.limits);
        let may_go_on = !silence.too_long && self.turns.has_tools();
        if self.turns.is_agent_turn_implied() && !may_go_on {
            // The agent did not say that it works, so its silence is no fault of it.
            self.end_agent_turn(cx, Outcome::Completed, None);
        } else if silence.too_long {
            let detail = "the agent made no progress for too long and was stopped";
            let place = if self.turns.agent_turn().is_some() { Place::Agent } else { Place::User(0) };
            self.cancel_at(cx, place, Some(TurnError { code: "agent_silent".into(), detail: detail.into() }));
        } else if let Some(turn_id) = self.turns.current().cloned() {
            let (chat_id, idle_ms) = (self.log.chat_id().clone(), silence.silent_ms);
            self.readers.deliver_live(cx, &ControlEvent::TurnStalled { chat_id, turn_id, idle_ms });
        }
    }

    /// When to check the started turn for silence. `None` while a request to a person is open, and while the gateway
    /// itself pauses the agent.
    fn silence_due_ms(&self, cx: &Context) -> Option<u64> {
        let watched = self.requests.is_empty() && !self.agent.is_paused();
        self.turns.silence_due_ms(&cx.limits).filter(|_| watched)
    }

    /// Sets the chat's timer to its earliest deadline.
    pub(super) fn rearm(&mut self, cx: &mut Context) {
        let now_ms = cx.now.ticks_ms;
        let deletion = self.deletion.as_ref().filter(|_| !self.log.is_recovering());
        let until_ms = match self.phase {
            Phase::CatchingUp { until_ms } => Some(Some(until_ms)),
            Phase::RenewingEpoch { .. } => Some(None),
            Phase::Claiming { .. }
            | Phase::Loading
            | Phase::Absent
            | Phase::Creating
            | Phase::Ready
            | Phase::Deleting
            | Phase::Deleted => None,
        };
        if let Some(until_ms) = until_ms {
            let due = [
                (self.log.resync_due_ms().map(|due| due.max(now_ms + 1)), DeadlineReason::Resync),
                (self.log.flush_due_ms(), DeadlineReason::Flush),
                (until_ms, DeadlineReason::CatchingUp),
            ];
            return self.set_timer(cx, due);
        }
        let due = [
            (self.log.resync_due_ms().map(|due| due.max(now_ms + 1)), DeadlineReason::Resync),
            (self.log.flush_due_ms(), DeadlineReason::Flush),
            (self.reload_at_ms, DeadlineReason::Reload),
            (self.turns.kill_due_ms(), DeadlineReason::CancelGrace),
            (self.silence_due_ms(cx), DeadlineReason::SilentTurn),
            (self.agent.kill_due_ms(), DeadlineReason::StoppingAgent),
            (self.agent.idle_due_ms(&cx.limits), DeadlineReason::IdleAgent),
            (self.agent.background_due_ms(&cx.limits), DeadlineReason::BackgroundWork),
            (
                self.agent.is_paused().then(|| now_ms + cx.limits.reader_active_ms.max(1)),
                DeadlineReason::PausedAgent,
            ),
            (deletion.and_then(Deletion::due_ms), DeadlineReason::Deletion),
        ];
        self.set_timer(cx, due);
    }

    fn set_timer<const N: usize>(&mut self, cx: &mut Context, due: [(Option<u64>, DeadlineReason); N]) {
        let due = due.into_iter().filter_map(|(due, why)| Some(Deadline { at_ms: due?, why })).min();
        // An earlier timer may stay: when it fires, all deadlines are checked and the timer is set again.
        if let (Some(set), Some(due)) = (self.timer, due)
            && set.at_ms <= due.at_ms
        {
            return;
        }
        if let Some(set) = self.timer.take() {
            cx.stop_timer(set, self.log.reference());
        }
        if let Some(due) = due {
            cx.set_timer(due, self.log.reference());
            self.timer = Some(due);
        }
    }
}
