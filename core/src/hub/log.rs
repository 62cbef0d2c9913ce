//! The log: events are staged, appended, and shown once the journal has them.

use alloc::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    vec::Vec,
};

use super::{
    chat::{Chat, Phase, unavailable},
    context::{Asked, Context, Errand},
    io::{Output, Recipients},
};
use crate::{
    agent::AgentCommand,
    ids::{ConnId, Cursor, TurnId},
    journal::{Append, AppendId, Change, ChatRecord, Durability, LogEvent, Query},
    time::Moment,
    wire::{ChatBody, ControlEvent, Frame, MessageAccepted, Place, encode_chat, encode_control},
};

/// What is about to be appended, as one transaction.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) create: bool,
    pub(super) events: Vec<(Option<TurnId>, ChatBody)>,
    /// Changes that do not follow from the events.
    pub(super) changes: Vec<Change>,
    pub(super) effects: Vec<Effect>,
    pub(super) origin: Option<Origin>,
}

/// The client whose frame this is, and who is told if it cannot be kept.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) conn: ConnId,
    /// The turn, for a message; none for `new_chat`.
    pub(super) turn_id: Option<TurnId>,
    pub(super) attach: bool,
}

/// What happens once the journal has it.
#[derive(Debug)]
pub(super) enum Effect {
    /// The agent is told.
    Tell(AgentCommand),
    /// Everybody who is up to date is told.
    Fan(ControlEvent),
    /// The sender of a repeated message gets the first answer again.
    Repeat { conn: ConnId, accepted: MessageAccepted },
}

/// An append that the journal has not answered for.
#[derive(Debug)]
pub(super) struct Pending {
    id: AppendId,
    create: bool,
    events: Vec<Staged>,
    changes: Vec<Change>,
    pub(super) effects: Vec<Effect>,
    origin: Option<Origin>,
    bytes: usize,
}

#[derive(Debug)]
struct Staged {
    seq: u64,
    turn_id: Option<TurnId>,
    body: ChatBody,
    frame: Frame,
}

/// The journal refused an append: nothing is sent to it until its state was read again.
#[derive(Debug)]
pub(super) struct Broken {
    /// Appends that are out and not yet answered.
    outstanding: usize,
    /// When the state is asked for.
    pub(super) retry_at_ms: u64,
    asked: bool,
}

impl Draft {
    pub(super) fn new() -> Self {
        Self { create: false, events: Vec::new(), changes: Vec::new(), effects: Vec::new(), origin: None }
    }

    pub(super) fn push(&mut self, turn_id: Option<&TurnId>, body: ChatBody) {
        self.events.push((turn_id.cloned(), body));
    }

    /// A command: durable first, then told.
    pub(super) fn command(&mut self, command: AgentCommand) {
        self.changes.push(Change::Command { command: command.clone() });
        self.effects.push(Effect::Tell(command));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.changes.is_empty() && self.effects.is_empty() && !self.create
    }
}

/// Deltas wait for the process's own crash to be harmless; what a turn hangs on waits for the disk.
fn durability(events: &[Staged], changes: &[Change]) -> Durability {
    let light = |event: &Staged| {
        event.turn_id.is_some()
            && matches!(
                event.body,
                ChatBody::Delta { .. }
                    | ChatBody::StreamEnd { .. }
                    | ChatBody::ReasoningDelta { .. }
                    | ChatBody::ReasoningEnd { .. }
                    | ChatBody::Message { .. }
                    | ChatBody::ToolEvent { .. }
                    | ChatBody::FileEdit { .. }
            )
    };
    let position_only = |change: &Change| matches!(change, Change::AgentPosition { .. });
    if events.iter().all(light) && changes.iter().all(position_only) && !events.is_empty() {
        Durability::Written
    } else {
        Durability::Synced
    }
}

/// The changes that follow from events, so that the two can never disagree.
fn implied(event: &Staged) -> Option<Change> {
    match (&event.body, &event.turn_id) {
        (ChatBody::TurnStarted { .. }, Some(turn_id)) => {
            Some(Change::TurnStarted { turn_id: turn_id.clone() })
        }
        (ChatBody::TurnEnd { outcome, .. }, Some(turn_id)) => {
            Some(Change::TurnEnded { turn_id: turn_id.clone(), outcome: *outcome })
        }
        (ChatBody::PermissionRequest(request), _) => Some(Change::RequestOpened {
            request_id: request.request_id.clone(),
            question: false,
            frame: event.frame.clone(),
        }),
        (ChatBody::Question(question), _) => Some(Change::RequestOpened {
            request_id: question.request_id.clone(),
            question: true,
            frame: event.frame.clone(),
        }),
        (ChatBody::RequestResolved { request_id, .. }, _) => {
            Some(Change::RequestClosed { request_id: request_id.clone() })
        }
        (ChatBody::GoalState { goal_state }, _) => Some(Change::Goal { goal_state: goal_state.clone() }),
        _ => None,
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
        let events = events.into_iter().map(|(turn_id, body)| self.number(turn_id, body)).collect();
        self.append(cx, Pending { id: AppendId(0), create, events, changes, effects, origin, bytes: 0 });
    }

    fn number(&mut self, turn_id: Option<TurnId>, body: ChatBody) -> Staged {
        self.staged += 1;
        let place = Place {
            chat_id: self.key.chat.clone(),
            epoch: self.epoch.clone(),
            first_seq: None,
            seq: self.staged,
            turn_id,
        };
        let frame = encode_chat(&place, &body);
        Staged { seq: self.staged, turn_id: place.turn_id, body, frame }
    }

    fn append(&mut self, cx: &mut Context, mut pending: Pending) {
        pending.bytes = pending.events.iter().map(|event| event.frame.len()).sum();
        self.pending_bytes += pending.bytes;
        if self.broken.is_none() {
            pending.id = cx.next_append(self.reference);
            let changes: Vec<Change> =
                pending.events.iter().filter_map(implied).chain(pending.changes.iter().cloned()).collect();
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
        self.hold(cx);
    }

    /// The journal has the oldest append: show it.
    pub(super) fn appended(&mut self, cx: &mut Context, id: AppendId) {
        let Some(pending) = self.pending.pop_front() else { return };
        assert_eq!(pending.id, id, "a chat's appends are answered in order");
        self.show(cx, pending);
        self.hold(cx);
        cx.errands.push_back(Errand::Settle(self.reference));
    }

    fn show(&mut self, cx: &mut Context, pending: Pending) {
        self.pending_bytes -= pending.bytes;
        if let Some(origin) = pending.origin.as_ref().filter(|origin| origin.attach) {
            if cx.conns.contains_key(&origin.conn) && !self.subs.contains(origin.conn) {
                self.subscribe(cx, origin.conn, None);
            }
        }
        for event in pending.events {
            self.view.apply(event.turn_id.as_ref(), &event.body, &event.frame);
            self.head = event.seq;
            self.ring.push(event.seq, event.frame.clone(), cx.limits.ring_bytes);
            match (&event.body, &pending.origin) {
                (ChatBody::UserMessage { .. }, Some(origin)) => self.show_message(cx, &event, origin.conn),
                _ => self.offer_live(cx, event.seq, event.frame, None),
            }
        }
        for effect in pending.effects {
            self.effect(cx, effect);
        }
    }

    /// The sender hears `message_accepted` in place of its own words.
    fn show_message(&mut self, cx: &mut Context, event: &Staged, sender: ConnId) {
        let (Some(turn_id), ChatBody::UserMessage { starts_turn, active_turn_id, created_at_ms, .. }) =
            (&event.turn_id, &event.body)
        else {
            return;
        };
        let accepted = encode_control(&ControlEvent::MessageAccepted(MessageAccepted {
            chat_id: self.key.chat.clone(),
            turn_id: turn_id.clone(),
            starts_turn: *starts_turn,
            active_turn_id: active_turn_id.clone(),
            started_at: starts_turn.then(|| Moment::unix_seconds(*created_at_ms)),
            duplicate: false,
            epoch: self.epoch.clone(),
            seq: event.seq,
        }));
        self.offer_live(cx, event.seq, event.frame.clone(), Some(sender));
        if self.subs.is_live(sender) {
            cx.offer(self.reference, event.seq, accepted, Recipients::One(sender));
        } else if !self.subs.remember_own(sender, event.seq, accepted.clone()) {
            cx.deliver_frame(sender, accepted);
        }
    }

    fn offer_live(&mut self, cx: &mut Context, seq: u64, frame: Frame, except: Option<ConnId>) {
        let live = self.subs.live();
        let to = match except {
            Some(one) if live.contains(&one) => {
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

    pub(super) fn effect(&mut self, cx: &mut Context, effect: Effect) {
        match effect {
            Effect::Tell(command) => self.tell(cx, command),
            Effect::Fan(event) => self.fan(cx, &event),
            Effect::Repeat { conn, accepted } => {
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

    /// Tells everybody who is up to date something about the present moment.
    pub(super) fn fan(&mut self, cx: &mut Context, event: &ControlEvent) {
        let frame = encode_control(event);
        for conn in self.subs.live().iter() {
            cx.deliver_frame(*conn, frame.clone());
        }
    }

    /// The journal refused an append. Those behind it will be refused too.
    pub(super) fn refused(&mut self, cx: &mut Context) {
        let retry_at_ms = cx.now.ticks_ms + cx.limits.journal_retry_ms;
        let outstanding = self.pending.len();
        let broken = self.broken.get_or_insert(Broken { outstanding, retry_at_ms, asked: false });
        broken.outstanding = broken.outstanding.saturating_sub(1);
        self.hold(cx);
        self.try_resync(cx);
        self.rearm(cx);
    }

    /// When it is time and every answer is in: asks what the journal has.
    pub(super) fn try_resync(&mut self, cx: &mut Context) {
        let Some(broken) = &mut self.broken else { return };
        if broken.outstanding == 0 && !broken.asked && broken.retry_at_ms <= cx.now.ticks_ms {
            broken.asked = true;
            cx.ask(Query::Chat { chat: self.key.clone() }, Asked::Resync(self.reference));
        }
    }

    pub(super) fn resync_failed(&mut self, cx: &mut Context) {
        if let Some(broken) = &mut self.broken {
            broken.asked = false;
            broken.retry_at_ms = cx.now.ticks_ms + cx.limits.journal_retry_ms;
        }
        self.rearm(cx);
    }

    /// The journal's state is known again: what it has is shown, messages that it has not are refused,
    /// everything else is appended anew.
    pub(super) fn resync(&mut self, cx: &mut Context, record: Option<&ChatRecord>) {
        self.broken = None;
        let durable = record.map_or(0, |record| record.head.seq);
        let mut refused_turns = BTreeSet::new();
        let waiting = core::mem::take(&mut self.pending);
        self.staged = durable.max(self.head);
        let mut again: VecDeque<Pending> = VecDeque::new();
        for pending in waiting {
            let kept = match pending.events.last() {
                Some(last) => last.seq <= durable,
                None => pending.create && record.is_some(),
            };
            if kept && again.is_empty() && refused_turns.is_empty() {
                self.show(cx, pending);
                continue;
            }
            self.pending_bytes -= pending.bytes;
            match &pending.origin {
                Some(origin) => self.refuse_pending(cx, &mut refused_turns, origin.clone(), pending),
                None => again.push_back(pending),
            }
        }
        if record.is_none() && self.head == 0 {
            self.phase = Phase::Absent;
        }
        for pending in again {
            self.append_again(cx, &refused_turns, pending);
        }
        self.hold(cx);
        self.rearm(cx);
        self.try_start(cx);
        cx.errands.push_back(Errand::Settle(self.reference));
    }

    fn refuse_pending(
        &mut self,
        cx: &mut Context,
        refused_turns: &mut BTreeSet<TurnId>,
        origin: Origin,
        pending: Pending,
    ) {
        cx.refuse(origin.conn, unavailable().chat(&self.key.chat).turn(origin.turn_id.as_ref()));
        for effect in pending.effects {
            if let Effect::Repeat { conn, accepted } = effect {
                cx.refuse(conn, unavailable().chat(&self.key.chat).turn(Some(&accepted.turn_id)));
            }
        }
        if pending.changes.iter().any(|change| matches!(change, Change::Title { .. })) {
            self.title = None;
        }
        if let Some(turn_id) = origin.turn_id {
            self.forget_turn(cx, &turn_id);
            refused_turns.insert(turn_id);
        }
    }

    fn append_again(&mut self, cx: &mut Context, refused_turns: &BTreeSet<TurnId>, mut pending: Pending) {
        let about_refused = |turn_id: Option<&TurnId>| turn_id.is_some_and(|id| refused_turns.contains(id));
        pending.events.retain(|event| !about_refused(event.turn_id.as_ref()));
        pending.changes.retain(|change| !about_refused(turn_of(change)));
        pending.effects.retain(|effect| match effect {
            Effect::Tell(command) => !about_refused(command_turn(command)),
            Effect::Fan(_) | Effect::Repeat { .. } => true,
        });
        if pending.events.is_empty() && pending.changes.is_empty() {
            for effect in pending.effects {
                self.effect(cx, effect);
            }
            return;
        }
        let events = core::mem::take(&mut pending.events);
        pending.events = events.into_iter().map(|event| self.number(event.turn_id, event.body)).collect();
        self.append(cx, pending);
    }

    /// Whether no turn is open and the journal has answered for everything.
    pub(super) fn is_settled(&self) -> bool {
        self.turns.is_empty() && self.pending.is_empty()
    }

    /// Where the log stands.
    pub(super) fn cursor(&self, seq: u64) -> Cursor {
        Cursor { epoch: self.epoch.clone(), seq }
    }
}

impl Staged {
    fn log_event(&self) -> LogEvent {
        LogEvent { first_seq: self.seq, seq: self.seq, frame: self.frame.clone() }
    }
}

fn turn_of(change: &Change) -> Option<&TurnId> {
    match change {
        Change::TurnAccepted { turn_id, .. }
        | Change::TurnStarted { turn_id }
        | Change::CancelRequested { turn_id }
        | Change::TurnEnded { turn_id, .. } => Some(turn_id),
        Change::Command { command } => command_turn(command),
        Change::RequestOpened { .. }
        | Change::RequestClosed { .. }
        | Change::AgentPosition { .. }
        | Change::Session { .. }
        | Change::Title { .. }
        | Change::Goal { .. } => None,
    }
}

fn command_turn(command: &AgentCommand) -> Option<&TurnId> {
    match command {
        AgentCommand::Prompt { turn_id, .. } | AgentCommand::Cancel { turn_id, .. } => Some(turn_id),
        AgentCommand::Answer { .. } => None,
    }
}

/// Recent events of a chat, for readers that are a little behind.
#[derive(Debug, Default)]
pub(super) struct Ring {
    entries: VecDeque<RingEntry>,
    bytes: usize,
    /// Bytes ever pushed: the difference of two is how far apart two places are.
    total: u64,
}

#[derive(Debug)]
struct RingEntry {
    seq: u64,
    frame: Frame,
    /// `total` before this entry.
    before: u64,
}

impl Ring {
    fn push(&mut self, seq: u64, frame: Frame, limit: usize) {
        self.bytes += frame.len();
        let before = self.total;
        self.total += frame.len() as u64;
        self.entries.push_back(RingEntry { seq, frame, before });
        while self.bytes > limit {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.frame.len();
        }
    }

    /// The events from `seq` on, or nothing if that one has left the ring.
    pub(super) fn from(&self, seq: u64) -> Option<impl Iterator<Item = (u64, &Frame)>> {
        let first = self.entries.front()?.seq;
        let skip = usize::try_from(seq.checked_sub(first)?).ok()?;
        (skip < self.entries.len()).then(|| self.entries.range(skip..).map(|entry| (entry.seq, &entry.frame)))
    }

    /// How many bytes lie from `seq` to the end; everything there ever was if it has left the ring.
    pub(super) fn bytes_from(&self, seq: u64) -> u64 {
        match self.entries.front() {
            Some(first) if seq >= first.seq => {
                let skip = usize::try_from(seq - first.seq).unwrap_or(usize::MAX);
                self.entries.get(skip).map_or(0, |entry| self.total - entry.before)
            }
            _ => self.total,
        }
    }
}
