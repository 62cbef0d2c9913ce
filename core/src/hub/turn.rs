//! The state machine of a turn, with all its transitions.
//!
//! | from | on | to | what is logged |
//! |---|---|---|---|
//! | none | a message, no turn runs, an agent slot is free | started | `user_message`, `turn_started` |
//! | none | any other message | queued | `user_message` |
//! | queued | the turn is first and an agent slot is free | started | `turn_started` |
//! | queued | `cancel` | ended | `turn_end cancelled` |
//! | started | the agent ends the turn | ended | `turn_end` with the agent's outcome |
//! | started | `cancel`, or no progress for too long | cancelling | |
//! | started | `cancel` before the prompt was sent | ended | `turn_end cancelled` |
//! | started | the agent exits | ended | `turn_end failed` or `interrupted` |
//! | cancelling | the agent ends the turn or exits | ended | `turn_end cancelled`, or `completed` if the agent did |
//! | cancelling | the grace time is over: the agent is killed | ended | `turn_end cancelled` |
//! | any | shutdown | ended | `turn_end interrupted` |
//! | any | the chat is deleted | ended | `turn_end cancelled` |
//! | queued, started | the journal refused its message | none | |

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use serde::Deserialize;

use super::{
    chat::Chat,
    context::{Context, Refusal},
    deletion::Deletion,
    durable_state::DurableState,
    log::{Draft, Effect},
    requests::Requests,
    resync::AppendFailed,
    slot::SlotState,
};
use crate::{
    agent::{AgentCommand, CommandId, StreamId},
    ids::TurnId,
    journal::{Change, ChatRecord, OpenWork},
    time::Moment,
    wire::{
        ChatBody, ControlEvent, Cost, ErrorCode, Frame, Outcome, Resolution, RunStatus, TurnError,
        UpdateScope, Usage,
    },
};

/// A queued or started turn.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) id: TurnId,
    text: String,
    pub(super) hash: [u8; 32],
    /// The sequence number of its `user_message`; 0 if that event is in an earlier epoch.
    pub(super) seq: u64,
    pub(super) starts_turn: bool,
    /// When this gateway process accepted the turn, or restored it from the journal, on the clock of ticks.
    taken_at_ms: u64,
    /// The turn's age at `taken_at_ms`, in milliseconds; 0 unless it was restored.
    aged_ms: u64,
}

/// The started turn, which is the first of the chat's turns.
#[derive(Debug, Default)]
pub(super) struct ActiveTurn {
    /// Whether the agent was sent the prompt, by this gateway process or an earlier one.
    pub(super) prompted: bool,
    /// The id of the prompt, if this gateway process sent it.
    pub(super) prompt: Option<CommandId>,
    /// The prompt, while it waits until the journal has the agent's `AgentStarted`.
    pub(super) undelivered: Option<AgentCommand>,
    /// When the agent's silence began: at its last progress, prompt or resume, or when its last request was closed.
    progress_at_ms: u64,
    stalled: bool,
    /// The turn is being cancelled: the agent is killed at this time if the turn has not ended by then.
    pub(super) cancel_by_ms: Option<u64>,
    /// Why the gateway itself cancels the turn; none if a client asked for it.
    pub(super) cancel_reason: Option<TurnError>,
    pub(super) streams: BTreeMap<StreamId, StreamKind>,
    pub(super) tools: Vec<String>,
    /// The open streams and tools differ from the journal's `OpenWork`.
    pub(super) work_changed: bool,
}

/// What a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamKind {
    Answer,
    Reasoning,
}

/// How a turn ends, as reported by the agent or decided by the hub.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) outcome: Outcome,
    pub(super) error: Option<TurnError>,
    pub(super) usage: Option<Usage>,
    pub(super) cost: Option<Cost>,
}

impl Turn {
    pub(super) fn new(
        id: TurnId,
        text: String,
        hash: [u8; 32],
        seq: u64,
        starts_turn: bool,
        now: Moment,
    ) -> Self {
        Self { id, text, hash, seq, starts_turn, taken_at_ms: now.ticks_ms, aged_ms: 0 }
    }

    /// Sets the age of a turn that an earlier gateway process accepted, in milliseconds of Unix time. If the system
    /// clock was set back since, the age is 0.
    fn aged(mut self, accepted_at_ms: u64, now: Moment) -> Self {
        self.aged_ms = now.unix_ms.saturating_sub(accepted_at_ms);
        self
    }

    fn latency_ms(&self, now: Moment) -> u64 {
        self.aged_ms + now.ticks_ms.saturating_sub(self.taken_at_ms)
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

impl ActiveTurn {
    fn new(now_ms: u64) -> Self {
        Self { progress_at_ms: now_ms, ..Self::default() }
    }

    /// The open streams and tools, if they changed since the last call and so have to be appended.
    pub(super) fn changed_work(&mut self) -> Option<OpenWork> {
        if !core::mem::take(&mut self.work_changed) {
            return None;
        }
        let streams = |kind| {
            let of_kind = self.streams.iter().filter(move |(_, is)| **is == kind);
            of_kind.map(|(stream, _)| String::from(&**stream)).collect()
        };
        Some(OpenWork {
            answers: streams(StreamKind::Answer),
            reasoning: streams(StreamKind::Reasoning),
            tools: self.tools.clone(),
        })
    }

    /// Restores the open streams and tools that an earlier gateway process recorded.
    fn restore_work(&mut self, work: OpenWork) {
        let answers = work.answers.into_iter().map(|stream| (StreamId::from(stream), StreamKind::Answer));
        let reasoning =
            work.reasoning.into_iter().map(|stream| (StreamId::from(stream), StreamKind::Reasoning));
        self.streams = answers.chain(reasoning).collect();
        self.tools = work.tools;
    }

    /// Restarts the turn's clock of silence: the agent made progress, or its request was closed.
    pub(super) fn progress(&mut self, now_ms: u64) {
        self.progress_at_ms = now_ms;
        self.stalled = false;
    }

    /// The number of streams and tool uses that the agent has begun and not ended.
    pub(super) fn open_work(&self) -> usize {
        self.streams.len() + self.tools.len()
    }

    fn silent_limit_ms(&self, cx: &Context) -> u64 {
        if self.tools.is_empty() { cx.limits.silent_turn_ms } else { cx.limits.silent_tool_ms }
    }
}

impl Chat {
    pub(super) fn active_turn_id(&self) -> Option<TurnId> {
        self.active.as_ref()?;
        self.turns.front().map(|turn| turn.id.clone())
    }

    /// The turn whose prompt the agent was sent. The agent's records belong to it.
    pub(super) fn answered_turn_id(&self) -> Option<TurnId> {
        if self.active.as_ref()?.prompted { self.active_turn_id() } else { None }
    }

    /// queued to started, within a draft. The chat already has an agent slot.
    pub(super) fn start_into(&mut self, cx: &Context, draft: &mut Draft) {
        let id = self.next_command();
        let Some(turn) = self.turns.front() else { return };
        self.active = Some(ActiveTurn::new(cx.now.ticks_ms));
        draft.push(Some(&turn.id), ChatBody::TurnStarted { started_at_ms: cx.now.unix_ms });
        draft.effects.push(Effect::Fan(ControlEvent::GoalStatus {
            chat_id: self.key.chat.clone(),
            status: RunStatus::Running,
            started_at: Some(Moment::unix_seconds(cx.now.unix_ms)),
            turn_id: Some(turn.id.clone()),
        }));
        if let SlotState::Reserved { instance, .. } = self.slot {
            draft.changes.push(Change::AgentStarted { instance });
        }
        draft.command(AgentCommand::Prompt { id, turn_id: turn.id.clone(), text: turn.text.clone() });
    }

    /// queued to started, if no turn runs and an agent slot is free.
    pub(super) fn try_start(&mut self, cx: &mut Context) {
        let may = self.active.is_none() && !self.turns.is_empty() && self.append_failed.is_none();
        if may && !cx.shutting_down && self.acquire_slot(cx) {
            let mut draft = Draft::new();
            self.start_into(cx, &mut draft);
            self.stage(cx, draft);
        }
    }

    /// queued to ended, or started to cancelling.
    pub(super) fn cancel(&mut self, cx: &mut Context, turn_id: Option<&TurnId>) -> Result<(), Refusal> {
        let place = match turn_id {
            Some(id) => self.turns.iter().position(|turn| turn.id == *id),
            None => (!self.turns.is_empty()).then_some(0),
        };
        match place {
            None => Err(Refusal::new(ErrorCode::UnknownTurn, "no such turn is open in this chat")),
            Some(0) if self.active.as_ref().is_some_and(|active| !active.prompted) => {
                // The agent has not been sent the prompt, and now never is.
                self.end_turn(cx, Outcome::Cancelled, None);
                self.try_start(cx);
                Ok(())
            }
            Some(0) if self.active.is_some() => {
                self.cancel_active(cx, None);
                Ok(())
            }
            Some(queued) => {
                self.end_queued(cx, queued, Outcome::Cancelled);
                Ok(())
            }
        }
    }

    /// started to cancelling. `reason`: why the gateway itself cancels the turn.
    fn cancel_active(&mut self, cx: &mut Context, reason: Option<TurnError>) {
        let Some(turn_id) = self.active_turn_id() else { return };
        let Some(active) = self.active.as_mut().filter(|active| active.cancel_by_ms.is_none()) else {
            return;
        };
        active.cancel_by_ms = Some(cx.now.ticks_ms + cx.limits.cancel_grace_ms);
        active.cancel_reason.clone_from(&reason);
        let mut draft = Draft::new();
        draft.changes.push(Change::CancelRequested { turn_id: turn_id.clone(), reason });
        draft.command(AgentCommand::Cancel { id: self.next_command(), turn_id });
        self.stage(cx, draft);
        self.rearm(cx);
    }

    fn end_queued(&mut self, cx: &mut Context, place: usize, outcome: Outcome) {
        let Some(turn) = self.turns.remove(place) else { return };
        let mut draft = Draft::new();
        let ending = Ending { outcome, error: None, usage: None, cost: None };
        draft.push(Some(&turn.id), self.turn_end(cx, &turn, ending));
        draft.effects.push(self.thread_updated());
        self.stage(cx, draft);
        self.review_slot(cx);
    }

    /// started or cancelling to ended, by the hub's decision.
    pub(super) fn end_turn(&mut self, cx: &mut Context, outcome: Outcome, error: Option<TurnError>) {
        let mut draft = Draft::new();
        self.end_into(cx, &mut draft, Ending { outcome, error, usage: None, cost: None });
        self.stage(cx, draft);
        self.rearm(cx);
    }

    /// started or cancelling to ended, within a draft.
    pub(super) fn end_into(&mut self, cx: &mut Context, draft: &mut Draft, mut ending: Ending) {
        let Some(turn_id) = self.active_turn_id() else { return };
        self.close_requests(cx, draft, Resolution::TurnEnded);
        let (Some(turn), Some(active)) = (self.turns.pop_front(), self.active.take()) else { return };
        for (stream, kind) in active.streams {
            let stream_id = (*stream).into();
            draft.push(
                Some(&turn_id),
                match kind {
                    StreamKind::Answer => ChatBody::StreamEnd { stream_id, text: None, void: false },
                    StreamKind::Reasoning => ChatBody::ReasoningEnd { stream_id, void: false },
                },
            );
        }
        if active.cancel_by_ms.is_some() && ending.outcome != Outcome::Completed {
            ending.outcome = Outcome::Cancelled;
            ending.error = active.cancel_reason;
        }
        draft.push(Some(&turn_id), self.turn_end(cx, &turn, ending));
        draft.effects.push(self.thread_updated());
        draft.effects.push(Effect::Fan(ControlEvent::GoalStatus {
            chat_id: self.key.chat.clone(),
            status: RunStatus::Idle,
            started_at: None,
            turn_id: Some(turn_id),
        }));
        self.review_slot(cx);
    }

    fn turn_end(&self, cx: &Context, turn: &Turn, ending: Ending) -> ChatBody {
        ChatBody::TurnEnd {
            outcome: ending.outcome,
            latency_ms: turn.latency_ms(cx.now),
            usage: ending.usage,
            cost: ending.cost,
            error: ending.error,
            goal_state: Some(self.goal.clone()).filter(|goal| goal.active),
        }
    }

    fn thread_updated(&self) -> Effect {
        Effect::Fan(ControlEvent::SessionUpdated {
            chat_id: self.key.chat.clone(),
            scope: UpdateScope::Thread,
            title: self.title.clone(),
        })
    }

    /// Removes a turn whose message the journal refused. Nothing is logged of it.
    pub(super) fn forget_turn(&mut self, cx: &mut Context, turn_id: &TurnId) {
        if self.active_turn_id().as_ref() == Some(turn_id) {
            self.active = None;
        }
        self.turns.retain(|turn| turn.id != *turn_id);
        self.review_slot(cx);
    }

    /// any to ended. The agent is stopped as well.
    pub(super) fn shut_down(&mut self, cx: &mut Context) {
        let detail = "the gateway was stopped before the answer was complete";
        let error = TurnError { code: "gateway_stopped".into(), detail: detail.into() };
        self.stop_agent(cx, false);
        self.end_turns(cx, Outcome::Interrupted, Some(error));
    }

    /// any to ended, the queued turns first. The error is for the started turn only.
    pub(super) fn end_turns(&mut self, cx: &mut Context, outcome: Outcome, error: Option<TurnError>) {
        while self.turns.len() > usize::from(self.active.is_some()) {
            self.end_queued(cx, self.turns.len() - 1, outcome);
        }
        if self.active.is_some() {
            self.end_turn(cx, outcome, error);
        }
    }

    /// Handles every deadline of the chat that has passed.
    pub(super) fn timer_fired(&mut self, cx: &mut Context) {
        self.timer = None;
        if self.reload_at_ms.is_some_and(|due| due <= cx.now.ticks_ms) {
            self.load(cx);
        }
        self.try_resync(cx);
        self.pause_or_resume(cx);
        self.check_active(cx);
        if let SlotState::Stopping { kill_at_ms, killed: false, .. } = self.slot
            && kill_at_ms <= cx.now.ticks_ms
        {
            self.stop_agent(cx, true);
        }
        self.go_on_deleting(cx);
        if self.idle_due(cx).is_some_and(|due| due <= cx.now.ticks_ms) {
            self.stop_agent(cx, false);
        }
        self.rearm(cx);
    }

    /// Ends, cancels or reports a started turn whose time is over.
    fn check_active(&mut self, cx: &mut Context) {
        let now = cx.now.ticks_ms;
        let Some(active) = &self.active else { return };
        if active.cancel_by_ms.is_some_and(|due| due <= now) {
            self.stop_agent(cx, true);
            self.end_turn(cx, Outcome::Cancelled, None);
            self.try_start(cx);
            return;
        }
        let Some(due) = self.watch_due(cx) else { return };
        if due > now {
            return;
        }
        let idle_ms = now - active.progress_at_ms;
        if idle_ms >= active.silent_limit_ms(cx) {
            let detail = "the agent made no progress for too long and was stopped";
            self.cancel_active(cx, Some(TurnError { code: "agent_silent".into(), detail: detail.into() }));
        } else if let (Some(turn_id), Some(active)) = (self.active_turn_id(), self.active.as_mut()) {
            active.stalled = true;
            let chat_id = self.key.chat.clone();
            self.fan(cx, &ControlEvent::TurnStalled { chat_id, turn_id, idle_ms });
        }
    }

    /// When to check the started turn for silence. `None` while a request to a person is open, while the gateway
    /// itself pauses the agent, and while the turn is being cancelled.
    fn watch_due(&self, cx: &Context) -> Option<u64> {
        let active = self.active.as_ref()?;
        let watched =
            active.prompted && self.requests.is_empty() && !self.is_paused() && active.cancel_by_ms.is_none();
        let after = if active.stalled { active.silent_limit_ms(cx) } else { cx.limits.stalled_after_ms };
        watched.then(|| active.progress_at_ms + after.min(active.silent_limit_ms(cx)))
    }

    fn idle_due(&self, cx: &Context) -> Option<u64> {
        Some(self.idle_since? + cx.limits.agent_idle_ms)
    }

    /// Sets the chat's only timer to its earliest deadline.
    pub(super) fn rearm(&mut self, cx: &mut Context) {
        let now = cx.now.ticks_ms;
        let due = [
            self.append_failed.as_ref().and_then(AppendFailed::due_ms).map(|due| due.max(now + 1)),
            self.active.as_ref().and_then(|active| active.cancel_by_ms),
            self.reload_at_ms,
            self.deletion.as_ref().filter(|_| self.append_failed.is_none()).and_then(Deletion::due_ms),
            self.watch_due(cx),
            self.idle_due(cx),
            self.is_paused().then(|| now + cx.limits.reader_active_ms),
            match self.slot {
                SlotState::Stopping { kill_at_ms, killed: false, .. } => Some(kill_at_ms),
                SlotState::Stopping { .. }
                | SlotState::Empty
                | SlotState::Reserved { .. }
                | SlotState::Alive { .. } => None,
            },
        ];
        let due = due.into_iter().flatten().min();
        if due == self.timer {
            return;
        }
        // An earlier timer may stay: when it fires, all deadlines are checked and the timer is set again.
        if let (Some(set), Some(due)) = (self.timer, due)
            && set <= due
        {
            return;
        }
        if let Some(set) = self.timer.take() {
            cx.timers.remove(&(set, self.reference));
        }
        if let Some(due) = due {
            cx.timers.insert((due, self.reference));
            self.timer = Some(due);
        }
    }

    /// Restores the chat from the journal's record.
    pub(super) fn restore(&mut self, cx: &mut Context, record: ChatRecord) {
        self.durable = DurableState::of(&record);
        self.requests = Requests::restore(&record);
        self.received = record.agent.clone().map(|agent| (agent.instance, agent.position, agent.checkpoint));
        self.epoch = record.head.epoch;
        self.head = record.head.seq;
        self.staged = record.head.seq;
        self.earlier_epochs = record.earlier.is_some();
        self.title = record.title;
        self.goal = record.goal_state.clone();
        self.session = record.session;
        self.last_command = record.last_command;
        let mut running = record.turns.iter().filter(|open| open.started_at_ms.is_some());
        let cancelled = running.find(|open| open.cancel_requested).map(|open| open.cancel_reason.clone());
        let started = self.durable.turn().is_some();
        let orphaned = record.agent.is_none();
        if let Some(agent) = record.agent {
            let turn = record.turns.first().map(|open| open.turn_id.clone());
            self.adopt_agent(cx, agent, turn, record.commands);
        }
        for open in record.turns {
            let starts_turn = starts_turn(&open.frame);
            let turn = Turn::new(open.turn_id, open.text, open.hash, open.seq, starts_turn, cx.now);
            self.turns.push_back(turn.aged(open.accepted_at_ms, cx.now));
        }
        if started {
            let mut active = ActiveTurn::new(cx.now.ticks_ms);
            active.prompted = true;
            active.restore_work(record.open_work);
            if let Some(reason) = cancelled {
                active.cancel_by_ms = Some(cx.now.ticks_ms + cx.limits.cancel_grace_ms);
                active.cancel_reason = reason;
            }
            self.active = Some(active);
        }
        if orphaned {
            self.withdraw_requests(cx);
        }
        if started && orphaned {
            let detail = "the gateway was restarted before the answer was complete";
            let error = TurnError { code: "gateway_restarted".into(), detail: detail.into() };
            self.end_turn(cx, Outcome::Interrupted, Some(error));
        }
        self.try_start(cx);
        self.review_slot(cx);
    }
}

/// The `starts_turn` of a logged `user_message`, which the answer to a repeat of the message contains again.
fn starts_turn(user_message: &Frame) -> bool {
    #[derive(Deserialize)]
    struct UserMessage {
        starts_turn: bool,
    }
    serde_json::from_slice(user_message.bytes()).is_ok_and(|message: UserMessage| message.starts_turn)
}
