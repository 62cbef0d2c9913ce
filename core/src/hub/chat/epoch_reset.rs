//! The reset to another epoch after the journal has lost published events. State that the hub still has in memory,
//! such as open turns, requests, title and goal, is logged again in that epoch. Readers get a snapshot of the events
//! that the journal still has. Lost output of an agent stays lost.

use alloc::collections::VecDeque;

use sha2::{Digest as _, Sha256};

use super::{
    Chat, Phase,
    log::{Draft, DurableState, DurableTurn, Effect, Pending, Ring, Staged},
};
use crate::{
    agent::AgentCommand,
    hub::context::Context,
    ids::{Epoch, TurnId},
    journal::{Change, ChatRecord, OpenAgentTurn, OpenTurn},
    wire::{
        AgentTurn, ChatBody, ChatEvent, ChatKind, ControlEvent, Frame, FrameKind, MessageAccepted, Outcome,
        Resolution, Task, TaskStatus, TurnError, TurnOrigin, TurnReason, UpdateScope, encode_control,
    },
};

impl Chat {
    /// Switches to the journal's epoch, or to a new one if the journal has nothing of the chat any more. `committed`:
    /// appends that the journal has and the hub has not published.
    pub(super) fn reset_epoch(
        &mut self,
        cx: &mut Context,
        record: Option<&ChatRecord>,
        committed: VecDeque<Pending>,
    ) {
        let (epoch, durable, ring) = self.log.reset_epoch(cx, record);
        self.turns.forget_numbers();
        self.readers.restart();
        for conn in self.readers.connections() {
            self.unsubscribe(cx, conn);
            self.readers.subscribe_anew(cx, &self.log, &self.profile, conn);
        }
        for pending in committed {
            self.settle(cx, &epoch, pending);
        }
        self.log_ends(cx, &durable, &ring, record);
        self.log_lost_state(cx, &durable, &ring, record);
    }

    /// Answers the client and carries out the effects of a committed append of the earlier epoch.
    fn settle(&mut self, cx: &mut Context, epoch: &Epoch, pending: Pending) {
        if pending.create {
            self.phase = Phase::Ready;
        }
        if let Some(origin) = &pending.origin {
            if origin.attach {
                self.attach_sender(cx, origin.conn);
            }
            for event in &pending.events {
                if let Some(frame) = accepted_late(self, epoch, event) {
                    self.readers.deliver_after_replay(cx, origin.conn, frame);
                }
            }
        }
        self.note_named(cx, &pending.changes);
        for effect in pending.effects {
            self.effect(cx, effect);
        }
    }

    /// Logs the ends of turns and requests that are open in the journal, but that the hub has already ended.
    fn log_ends(&mut self, cx: &mut Context, had: &DurableState, ring: &Ring, record: Option<&ChatRecord>) {
        let Some(record) = record else { return };
        let mut draft = Draft::new();
        for open in &record.requests {
            if had.requests().iter().any(|(id, _)| *id == open.request_id) {
                continue;
            }
            let lost = lost(
                ring,
                ChatKind::RequestResolved,
                |event| matches!(&event.body, ChatBody::RequestResolved { request_id, .. } if *request_id == open.request_id),
            );
            let unknown = ChatBody::RequestResolved {
                request_id: open.request_id.clone(),
                resolution: Resolution::Withdrawn,
                client_id: None,
            };
            let turn_id = event_of(&open.frame).and_then(|event| event.place.turn_id);
            draft.push(turn_id.as_ref(), lost.unwrap_or(unknown));
        }
        for turn in &record.turns {
            if had.open_turns().any(|open| *open.turn_id == turn.turn_id) {
                continue;
            }
            let lost =
                lost(ring, ChatKind::TurnEnd, |event| event.place.turn_id.as_ref() == Some(&turn.turn_id));
            draft.push(
                Some(&turn.turn_id),
                lost.unwrap_or_else(|| unknown_end(cx, TurnOrigin::User, turn.accepted_at_ms)),
            );
        }
        let had_turn = had.agent_turn().map(|turn| &turn.turn_id);
        if let Some(open) = record.agent_turn.as_ref().filter(|open| had_turn != Some(&open.turn_id)) {
            let lost =
                lost(ring, ChatKind::TurnEnd, |event| event.place.turn_id.as_ref() == Some(&open.turn_id));
            let unknown = || unknown_end(cx, TurnOrigin::Agent, open.started_at_ms);
            draft.push(Some(&open.turn_id), lost.unwrap_or_else(unknown));
            draft.changes.push(Change::AgentTurn { turn: None });
        }
        // A turn's end must be committed together with its agent's end or position. Otherwise the next gateway process
        // would read the agent's records of this turn again and take them for the answer to the next one.
        draft.changes.extend(self.agent.changes_since(record.agent.as_ref()));
        self.stage(cx, draft);
    }

    /// Logs the open turns, requests, goal and other state that the journal has lost.
    fn log_lost_state(
        &mut self,
        cx: &mut Context,
        had: &DurableState,
        ring: &Ring,
        record: Option<&ChatRecord>,
    ) {
        let mut draft = Draft::new();
        draft.create = record.is_none();
        for DurableTurn { turn_id, message, started_at_ms } in had.open_turns() {
            let known = record.and_then(|record| record.turns.iter().find(|open| open.turn_id == *turn_id));
            if known.is_none() {
                self.log_message(&mut draft, turn_id, message);
            }
            if let Some(started_at_ms) = started_at_ms
                && known.is_none_or(|known| known.started_at_ms.is_none())
            {
                draft.push(
                    Some(turn_id),
                    ChatBody::TurnStarted { origin: TurnOrigin::User, reason: None, started_at_ms },
                );
            }
        }
        self.log_agent_turn(&mut draft, had, record);
        log_tasks(&mut draft, had, ring, record);
        let running = had.turn().map(|turn| turn.turn_id.clone());
        for (request_id, frame) in had.requests() {
            let known = record
                .is_some_and(|record| record.requests.iter().any(|open| open.request_id == *request_id));
            if let Some(event) = event_of(frame).filter(|_| !known) {
                draft.push_again(event);
            }
        }
        if record.map_or_else(Default::default, |record| record.goal_state.clone()) != *had.goal() {
            draft.push(running.as_ref(), ChatBody::GoalState { goal_state: had.goal().clone() });
        }
        self.log_changes(&mut draft, running.as_ref(), record);
        self.stage(cx, draft);
    }

    /// Logs the start of the agent's turn if the journal has lost it.
    fn log_agent_turn(&self, draft: &mut Draft, had: &DurableState, record: Option<&ChatRecord>) {
        let known_turn = record.and_then(|record| record.agent_turn.as_ref()).map(|open| &open.turn_id);
        if let Some(AgentTurn { turn_id, started_at_ms, reason }) = had.agent_turn()
            && known_turn != Some(turn_id)
        {
            let (origin, reason, started_at_ms) = (TurnOrigin::Agent, Some(*reason), *started_at_ms);
            draft.push(Some(turn_id), ChatBody::TurnStarted { origin, reason, started_at_ms });
            // If the turn has ended since, its end follows with a later append.
            let open =
                OpenAgentTurn::new(turn_id.clone(), reason.unwrap_or(TurnReason::Other), started_at_ms);
            let now = self.turns.agent_turn_record().filter(|now| now.turn_id == *turn_id);
            draft.changes.push(Change::AgentTurn { turn: Some(now.unwrap_or(open)) });
        }
    }

    fn log_message(&mut self, draft: &mut Draft, turn_id: &TurnId, message: &Frame) {
        let Some(ChatEvent {
            body: ChatBody::UserMessage { text, starts_turn, active_turn_id, created_at_ms, client_id },
            ..
        }) = event_of(message)
        else {
            return;
        };
        let seq = self.log.next_seq() + draft.events.len() as u64;
        self.turns.renumber(turn_id, seq);
        draft.changes.push(Change::TurnAccepted {
            turn_id: turn_id.clone(),
            hash: Sha256::digest(text.as_bytes()).into(),
            seq,
            text: text.clone(),
            starts_turn,
        });
        let body = ChatBody::UserMessage { text, starts_turn, active_turn_id, created_at_ms, client_id };
        draft.push(Some(turn_id), body);
    }

    fn log_changes(&mut self, draft: &mut Draft, running: Option<&TurnId>, record: Option<&ChatRecord>) {
        if let Some(title) = self.profile.title()
            && record.and_then(|record| record.title.as_ref()) != Some(title)
        {
            draft.changes.push(Change::Title { title: title.clone() });
            draft.effects.push(Effect::Fan(self.profile.updated(self.log.chat_id(), UpdateScope::Metadata)));
        }
        if let Some(token) = self.agent.session()
            && record.and_then(|record| record.session.as_ref()) != Some(token)
        {
            draft.changes.push(Change::Session { token: token.clone() });
        }
        if record.is_none() {
            draft.changes.extend(self.agent.changes_since(None));
        }
        self.turns.append_work_again();
        draft.changes.extend(self.turns.changed_work().map(|work| Change::OpenWork { work }));
        if let Some(turn_id) = running {
            self.log_prompt(draft, turn_id, record);
        }
    }

    /// Adds the running turn's prompt and cancellation, for a later gateway process that adopts the agent.
    fn log_prompt(&mut self, draft: &mut Draft, running: &TurnId, record: Option<&ChatRecord>) {
        if self.turns.started().is_none() {
            return;
        }
        let known = |open: &OpenTurn| open.turn_id == *running && open.cancel_requested;
        if self.turns.is_cancelling() && !record.is_some_and(|record| record.turns.iter().any(known)) {
            let reason = self.turns.cancel_reason().cloned();
            draft.changes.push(Change::CancelRequested { turn_id: running.clone(), reason });
        }
        let prompts = |command: &AgentCommand| matches!(command, AgentCommand::Prompt { turn_id, .. } if turn_id == running);
        if record.is_some_and(|record| record.commands.iter().any(prompts)) {
            return;
        }
        let prompt = if self.turns.prompted().is_some() {
            let text = self.turns.find(running).map(|turn| turn.text().into());
            text.map(|text| AgentCommand::Prompt {
                id: self.agent.next_command(),
                turn_id: running.clone(),
                text,
            })
        } else {
            self.turns.undelivered().cloned()
        };
        draft.changes.extend(prompt.map(|command| Change::Command { command }));
    }
}

/// Logs the ends of background tasks that run in the journal only, and the tasks that the journal has lost.
fn log_tasks(draft: &mut Draft, had: &DurableState, ring: &Ring, record: Option<&ChatRecord>) {
    let known = record.map_or(&[][..], |record| &record.tasks);
    if had.tasks() == known {
        return;
    }
    for task in known.iter().filter(|task| had.tasks().iter().all(|had| had.task_id != task.task_id)) {
        let is_end = |said: &Task| said.task_id == task.task_id && said.status != TaskStatus::Running;
        let lost =
            lost(ring, ChatKind::Task, |event| matches!(&event.body, ChatBody::Task(said) if is_end(said)));
        let unknown = || ChatBody::Task(Task { status: TaskStatus::Stopped, ..task.clone() });
        draft.push(None, lost.unwrap_or_else(unknown));
    }
    for task in had.tasks().iter().filter(|task| !known.contains(task)) {
        draft.push(None, ChatBody::Task(task.clone()));
    }
    draft.changes.push(Change::Tasks { tasks: had.tasks().to_vec() });
}

/// The `message_accepted` for a committed message of the earlier epoch. It is marked as a duplicate, so that its
/// sequence number moves no cursor.
fn accepted_late(chat: &Chat, epoch: &Epoch, event: &Staged) -> Option<Frame> {
    let (Some(ChatBody::UserMessage { starts_turn, .. }), Some(turn_id)) =
        (event.body(), &event.owner.turn_id)
    else {
        return None;
    };
    Some(encode_control(&ControlEvent::MessageAccepted(MessageAccepted {
        chat_id: chat.log.chat_id().clone(),
        turn_id: turn_id.clone(),
        starts_turn: *starts_turn,
        active_turn_id: None,
        started_at: None,
        duplicate: true,
        epoch: epoch.clone(),
        seq: event.seq,
    })))
}

fn event_of(frame: &Frame) -> Option<ChatEvent> {
    serde_json::from_slice(frame.bytes()).ok()
}

/// Finds an event that the journal has lost in the ring of recent events.
fn lost(ring: &Ring, kind: ChatKind, is_it: impl Fn(&ChatEvent) -> bool) -> Option<ChatBody> {
    let frames = ring.frames().filter(|frame| frame.kind() == FrameKind::Chat(kind));
    frames.filter_map(event_of).find(is_it).map(|event| event.body)
}

fn unknown_end(cx: &Context, origin: TurnOrigin, since_ms: u64) -> ChatBody {
    let detail = "the turn is over, and how it ended was lost by the journal";
    ChatBody::TurnEnd {
        origin,
        outcome: Outcome::Interrupted,
        latency_ms: cx.now.unix_ms.saturating_sub(since_ms),
        usage: None,
        cost: None,
        model: None,
        error: Some(TurnError { code: "journal_lost".into(), detail: detail.into() }),
        goal_state: None,
    }
}
