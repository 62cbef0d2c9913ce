//! The log: events are staged, appended, and published to readers once the journal has them.

use alloc::{boxed::Box, collections::VecDeque, sync::Arc, vec::Vec};

use super::{
    chat::{Chat, Phase},
    context::{Context, DeferredAction},
    io::{Output, Recipients},
    requests::Requests,
};
use crate::{
    agent::AgentCommand,
    ids::{ConnId, Cursor, TurnId},
    journal::{Append, AppendId, Change, Durability, EventClass, LogEvent},
    time::Moment,
    wire::{
        ChatBody, ChatEvent, ChatKind, ControlEvent, DeltaBatch, EventPosition, Frame, MessageAccepted,
        encode_chat, encode_control,
    },
};

/// Events, changes and effects that are about to be appended as one transaction.
#[derive(Debug)]
pub(super) struct Draft {
    /// Whether the append creates the chat.
    pub(super) create: bool,
    pub(super) events: Vec<(Option<TurnId>, ChatBody)>,
    /// Changes that do not follow from the events.
    pub(super) changes: Vec<Change>,
    pub(super) effects: Vec<Effect>,
    pub(super) origin: Option<Origin>,
}

/// The client whose frame caused the append. If the journal refuses the append, this client gets the error.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) conn: ConnId,
    /// The turn of a message; none for other requests, such as `new_chat` or `set_goal_state`.
    pub(super) turn_id: Option<TurnId>,
    /// Whether to attach the client to the chat once the journal has the append.
    pub(super) attach: bool,
}

/// A side effect that is carried out once the journal has the append.
#[derive(Debug)]
pub(super) enum Effect {
    /// Send the agent a command.
    SendCommand(AgentCommand),
    /// Send an event to all live readers of the chat.
    Fan(ControlEvent),
    /// Send an event to the chat's readers, the connections that list its principal's chats, and the connection `by`.
    Announce { by: ConnId, event: ControlEvent },
    /// Announce the new chat of a `new_chat`. The connection `by` is attached instead.
    Made { by: ConnId },
    /// Send the sender of a `/stop` with a `turn_id` its `message_accepted`.
    Stopped { conn: ConnId, accepted: MessageAccepted },
    /// The journal has deleted the chat.
    Deleted,
    /// Send the sender of a repeated message the `message_accepted` of the first one.
    Repeat { conn: ConnId, accepted: MessageAccepted },
}

/// An append that the journal has not answered yet.
#[derive(Debug)]
pub(super) struct Pending {
    id: AppendId,
    pub(super) create: bool,
    pub(super) events: Vec<Staged>,
    pub(super) changes: Vec<Change>,
    pub(super) effects: Vec<Effect>,
    pub(super) origin: Option<Origin>,
    /// The size of the events' frames, in bytes.
    pub(super) bytes: usize,
}

/// An event that has its sequence number and is encoded.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) seq: u64,
    pub(super) turn_id: Option<TurnId>,
    /// None for a delta, from which no change follows. A delta that is numbered again is decoded from its frame.
    body: Option<Box<ChatBody>>,
    frame: Frame,
}

impl Draft {
    pub(super) fn new() -> Self {
        Self { create: false, events: Vec::new(), changes: Vec::new(), effects: Vec::new(), origin: None }
    }

    pub(super) fn push(&mut self, turn_id: Option<&TurnId>, body: ChatBody) {
        self.events.push((turn_id.cloned(), body));
    }

    /// Adds a command for the agent: sent once the journal has it.
    pub(super) fn command(&mut self, command: AgentCommand) {
        self.changes.push(Change::Command { command: command.clone() });
        self.effects.push(Effect::SendCommand(command));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.changes.is_empty() && self.effects.is_empty() && !self.create
    }
}

/// How durable an append must be. A decoder's checkpoint is always synced: once it is appended, the agent's host drops
/// the records before it.
fn durability(events: &[Staged], changes: &[Change]) -> Durability {
    let light = |event: &Staged| event.turn_id.is_some() && event.class().durability == Durability::Written;
    let of_records = |change: &Change| {
        matches!(change, Change::AgentPosition { checkpoint: None, .. } | Change::OpenWork { .. })
    };
    if events.iter().all(light) && changes.iter().all(of_records) && !events.is_empty() {
        Durability::Written
    } else {
        Durability::Synced
    }
}

/// The change that follows from an event. It is derived here, so that log and state never disagree.
fn implied(requests: &Requests, event: &Staged) -> Option<Change> {
    match event.body()? {
        ChatBody::TurnStarted { .. } => Some(Change::TurnStarted { turn_id: event.turn_id.clone()? }),
        ChatBody::TurnEnd { outcome, .. } => {
            Some(Change::TurnEnded { turn_id: event.turn_id.clone()?, outcome: *outcome })
        }
        ChatBody::PermissionRequest(request) => {
            Some(requests.opened(&request.request_id, false, &event.frame))
        }
        ChatBody::Question(question) => Some(requests.opened(&question.request_id, true, &event.frame)),
        ChatBody::RequestResolved { request_id, .. } => {
            Some(Change::RequestClosed { request_id: request_id.clone() })
        }
        ChatBody::GoalState { goal_state } => Some(Change::Goal { goal_state: goal_state.clone() }),
        // `TurnAccepted` has more than the event: the message's hash and number.
        ChatBody::UserMessage { .. }
        | ChatBody::Delta { .. }
        | ChatBody::StreamEnd { .. }
        | ChatBody::ReasoningDelta { .. }
        | ChatBody::ReasoningEnd { .. }
        | ChatBody::Message { .. }
        | ChatBody::ToolEvent { .. }
        | ChatBody::FileEdit { .. }
        | ChatBody::Notice { .. } => None,
    }
}

impl Chat {
    /// Numbers, encodes and appends a draft.
    pub(super) fn stage(&mut self, cx: &mut Context, draft: Draft) {
        if draft.is_empty() {
            return;
        }
        let Draft { create, events, changes, effects, origin } = draft;
        if events.is_empty() && changes.is_empty() && !create {
            match self.pending.back_mut() {
                Some(last) => last.effects.extend(effects),
                None => effects.into_iter().for_each(|effect| self.effect(cx, effect)),
            }
            return;
        }
        let events = self.number(events);
        self.append(cx, Pending { id: AppendId(0), create, events, changes, effects, origin, bytes: 0 });
    }

    /// Gives events their sequence numbers and encodes them.
    pub(super) fn number(&mut self, events: Vec<(Option<TurnId>, ChatBody)>) -> Vec<Staged> {
        let mut place = EventPosition {
            chat_id: self.key.chat.clone(),
            epoch: self.epoch.clone(),
            first_seq: None,
            seq: self.staged,
            turn_id: None,
        };
        let mut deltas = DeltaBatch::default();
        let mut other = VecDeque::new();
        let mut numbered = Vec::with_capacity(events.len());
        for (turn_id, body) in events {
            place.seq += 1;
            place.turn_id = turn_id;
            let is_delta = deltas.push(&place, &body);
            if !is_delta {
                other.push_back((encode_chat(&place, &body), Box::new(body)));
            }
            numbered.push((place.seq, place.turn_id.take(), is_delta));
        }
        self.staged = place.seq;
        let mut deltas = deltas.finish();
        let staged = |(seq, turn_id, is_delta)| {
            let (frame, body) = if is_delta {
                (deltas.next().expect("each delta has its frame"), None)
            } else {
                let (frame, body) = other.pop_front().expect("each other event was encoded");
                (frame, Some(body))
            };
            Staged { seq, turn_id, body, frame }
        };
        numbered.into_iter().map(staged).collect()
    }

    /// Appends numbered events, or only queues them in `pending` during the recovery from a refused append.
    pub(super) fn append(&mut self, cx: &mut Context, mut pending: Pending) {
        pending.bytes = pending.events.iter().map(|event| event.frame.len()).sum();
        self.pending_bytes += pending.bytes;
        if self.append_failed.is_none() {
            pending.id = cx.next_append(self.reference);
            let changes: Vec<Change> =
                // A turn is accepted before it starts.
                pending.changes.iter().cloned().chain(pending.events.iter().filter_map(|event| implied(&self.requests, event))).collect();
            let append = Append {
                id: pending.id,
                chat: self.key.clone(),
                durability: durability(&pending.events, &changes),
                create: pending.create.then(|| self.epoch.clone()),
                events: pending.events.iter().map(Staged::log_event).collect(),
                changes,
                at_ms: cx.now.unix_ms,
            };
            cx.output(Output::Append(append));
        }
        self.pending.push_back(pending);
        self.pause_or_resume(cx);
    }

    /// The journal has the oldest pending append: publishes its events.
    pub(super) fn appended(&mut self, cx: &mut Context, id: AppendId) {
        let Some(pending) = self.pending.pop_front() else { return };
        assert_eq!(pending.id, id, "a chat's appends are answered in order");
        let created = pending.create;
        self.publish(cx, pending);
        self.pause_or_resume(cx);
        cx.deferred.push_back(DeferredAction::Settle(self.reference));
        if created {
            self.take_intake(cx);
        }
    }

    /// Publishes the events of a committed append to readers and carries out its effects.
    pub(super) fn publish(&mut self, cx: &mut Context, pending: Pending) {
        self.pending_bytes -= pending.bytes;
        // A chat that the journal lost and that is created again existed all the time, and may be `Deleting`.
        if pending.create && self.phase == Phase::Creating {
            self.phase = Phase::Ready;
        }
        if let Some(origin) = pending.origin.as_ref().filter(|origin| origin.attach) {
            self.expect_no_more(cx, origin.conn);
            if cx.conns.contains_key(&origin.conn) && !self.subs.contains(origin.conn) {
                self.subscribe(cx, origin.conn, None);
            }
        }
        for event in pending.events {
            if let Some(body) = event.body() {
                self.durable.apply(event.turn_id.as_ref(), body, &event.frame);
            }
            self.head = event.seq;
            self.ring.push(event.seq, event.frame.clone(), cx.limits.ring_bytes);
            match (event.body(), &pending.origin) {
                (Some(ChatBody::UserMessage { .. }), Some(origin)) => {
                    self.publish_message(cx, &event, origin.conn)
                }
                _ => self.offer_live(cx, event.seq, event.frame, None),
            }
        }
        self.note_named(cx, &pending.changes);
        self.note_received(pending.changes);
        for effect in pending.effects {
            self.effect(cx, effect);
        }
    }

    /// Remembers the agent's position and checkpoint, to append them again should the journal lose them.
    pub(super) fn note_received(&mut self, changes: Vec<Change>) {
        for change in changes {
            if let Change::AgentPosition { instance, position, checkpoint } = change {
                let earlier = self.received.take().filter(|(heard, ..)| *heard == instance);
                self.received =
                    Some((instance, position, checkpoint.or(earlier.and_then(|(.., earlier)| earlier))));
            }
        }
    }

    /// Publishes a `user_message`. Its sender gets `message_accepted` instead.
    fn publish_message(&mut self, cx: &mut Context, event: &Staged, sender: ConnId) {
        let (Some(turn_id), Some(ChatBody::UserMessage { starts_turn, active_turn_id, created_at_ms, .. })) =
            (&event.turn_id, event.body())
        else {
            return;
        };
        let accepted = MessageAccepted {
            chat_id: self.key.chat.clone(),
            turn_id: turn_id.clone(),
            starts_turn: *starts_turn,
            active_turn_id: active_turn_id.clone(),
            started_at: starts_turn.then(|| Moment::unix_seconds(*created_at_ms)),
            duplicate: false,
            epoch: self.epoch.clone(),
            seq: event.seq,
        };
        self.offer_live(cx, event.seq, event.frame.clone(), Some(sender));
        if !self.subs.contains(sender) {
            // The sender has detached: it gets an answer that moves no cursor.
            let accepted = MessageAccepted { duplicate: true, ..accepted };
            cx.deliver(sender, &ControlEvent::MessageAccepted(accepted));
            return;
        }
        let live = self.subs.is_live(sender);
        if live {
            let frame = encode_control(&ControlEvent::MessageAccepted(accepted.clone()));
            cx.offer(self.reference, event.seq, frame, Recipients::One(sender));
        }
        // The outbox of a live reader may refuse the event too.
        self.subs.remember_own(cx, sender, event.seq, accepted, live);
    }

    /// Offers an event to all live readers except one.
    fn offer_live(&mut self, cx: &mut Context, seq: u64, frame: Frame, except: Option<ConnId>) {
        let live = self.subs.live();
        let to = match except {
            Some(one) if live.binary_search(&one).is_ok() => {
                Arc::new(live.iter().copied().filter(|conn| *conn != one).collect())
            }
            _ => live,
        };
        match to.as_slice() {
            [] => {}
            [one] => cx.offer(self.reference, seq, frame, Recipients::One(*one)),
            _ => cx.offer(self.reference, seq, frame, Recipients::Many(to)),
        }
    }

    /// Carries out an effect of a committed append.
    pub(super) fn effect(&mut self, cx: &mut Context, effect: Effect) {
        match effect {
            Effect::SendCommand(command) => self.send_command(cx, command),
            Effect::Fan(event) => self.fan(cx, &event),
            Effect::Announce { by, event } => self.announce(cx, Some(by), &event),
            Effect::Made { by } => self.announce_made(cx, by),
            Effect::Stopped { conn, accepted } => {
                let frame = encode_control(&ControlEvent::MessageAccepted(accepted));
                self.deliver_after_join(cx, conn, frame);
            }
            Effect::Deleted => self.deleted(cx),
            Effect::Repeat { conn, accepted } => {
                self.expect_no_more(cx, conn);
                if cx.conns.contains_key(&conn) {
                    if !self.subs.contains(conn) {
                        self.subscribe(cx, conn, None);
                    }
                    let frame = encode_control(&ControlEvent::MessageAccepted(accepted));
                    self.deliver_after_join(cx, conn, frame);
                }
            }
        }
    }

    /// Delivers an event that is not logged to all live readers.
    pub(super) fn fan(&mut self, cx: &mut Context, event: &ControlEvent) {
        let frame = encode_control(event);
        for conn in self.subs.live().iter() {
            cx.deliver_frame(*conn, frame.clone());
        }
    }

    /// Whether no turn is open, the journal has answered every append, and no message waits for a lookup of its turn.
    pub(super) fn is_settled(&self) -> bool {
        self.turns.is_empty() && self.is_committed() && !self.looking_up
    }

    /// Whether the chat is loaded and the journal has answered all its appends.
    pub(super) fn is_committed(&self) -> bool {
        self.pending.is_empty() && self.phase != Phase::Loading
    }

    /// The cursor of this sequence number in the current epoch.
    pub(super) fn cursor(&self, seq: u64) -> Cursor {
        Cursor { epoch: self.epoch.clone(), seq }
    }
}

impl Pending {
    /// Whether an event with this number is in here.
    pub(super) fn contains(&self, seq: u64) -> bool {
        self.events.first().is_some_and(|first| first.seq <= seq)
            && self.events.last().is_some_and(|last| seq <= last.seq)
    }
}

impl Staged {
    pub(super) fn body(&self) -> Option<&ChatBody> {
        self.body.as_deref()
    }

    pub(super) fn frame(&self) -> &Frame {
        &self.frame
    }

    /// The turn and the event's body, to be numbered again.
    pub(super) fn unstage(self) -> (Option<TurnId>, ChatBody) {
        let body = self.body.map_or_else(|| delta_of(&self.frame), |body| *body);
        (self.turn_id, body)
    }

    fn class(&self) -> EventClass {
        // A delta has no body.
        self.body().map_or(ChatKind::Delta.class(), ChatBody::class)
    }

    fn log_event(&self) -> LogEvent {
        LogEvent { first_seq: self.seq, seq: self.seq, frame: self.frame.clone() }
    }
}

fn delta_of(frame: &Frame) -> ChatBody {
    let event: ChatEvent = serde_json::from_str(frame.as_str()).expect("it was encoded here");
    event.body
}
