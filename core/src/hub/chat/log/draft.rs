//! A transaction on its way to the journal: first a draft, then numbered and encoded events.

use alloc::{boxed::Box, string::String, vec::Vec};

use crate::{
    agent::AgentCommand,
    hub::chat::requests::Requests,
    ids::{ConnId, TurnId},
    journal::{AppendId, Change, Durability, LogEvent, Version},
    wire::{ChatBody, ChatEvent, ControlEvent, Frame, MessageAccepted, TurnOrigin},
};

/// Events, changes and effects that are about to be appended as one transaction.
#[derive(Debug, Default)]
pub(in crate::hub::chat) struct Draft {
    /// Whether the append creates the chat.
    pub(in crate::hub::chat) create: bool,
    /// All events are pieces that can be read again from the agent's spool: they are never merged.
    pub(in crate::hub::chat) spooled: bool,
    pub(in crate::hub::chat) events: Vec<(Owner, ChatBody)>,
    /// The tool use of the subagent whose events are being drafted.
    pub(in crate::hub::chat) parent_call_id: Option<String>,
    /// Changes that do not follow from the events.
    pub(in crate::hub::chat) changes: Vec<Change>,
    pub(in crate::hub::chat) effects: Vec<Effect>,
    pub(in crate::hub::chat) origin: Option<Origin>,
}

/// The turn that an event belongs to, and the tool use within it if the event is a subagent's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::hub::chat) struct Owner {
    pub(in crate::hub::chat) turn_id: Option<TurnId>,
    pub(in crate::hub::chat) parent_call_id: Option<String>,
}

/// The client whose frame caused the append. If the journal refuses the append, this client gets the error.
#[derive(Debug, Clone)]
pub(in crate::hub::chat) struct Origin {
    pub(in crate::hub::chat) conn: ConnId,
    /// The turn of a message; none for other requests, such as `new_chat` or `set_goal_state`.
    pub(in crate::hub::chat) turn_id: Option<TurnId>,
    /// Whether to attach the client to the chat once the journal has the append.
    pub(in crate::hub::chat) attach: bool,
}

/// A side effect that is carried out once the journal has the append.
#[derive(Debug)]
pub(in crate::hub::chat) enum Effect {
    /// Send the agent a command.
    SendCommand(AgentCommand),
    /// Send an event to all live readers of the chat.
    Fan(ControlEvent),
    /// Send an event to the chat's readers, the connections that list its principal's chats, and the connection `by`.
    Announce { by: ConnId, event: ControlEvent },
    /// Announce the new chat of a `new_chat`. The connection `by` is attached instead.
    AnnounceNew { by: ConnId },
    /// Send the sender of a `/stop` with a `turn_id` its `message_accepted`.
    Stopped { conn: ConnId, accepted: MessageAccepted },
    /// The journal has deleted the chat.
    Deleted,
    /// Send the sender of a repeated message the `message_accepted` of the first one.
    Repeat { conn: ConnId, accepted: MessageAccepted },
}

/// An append that the journal has not answered yet.
#[derive(Debug)]
pub(in crate::hub::chat) struct Pending {
    /// The append's id, and the chat's version with it. `None` before the append is given to the journal, as during
    /// a recovery.
    pub(super) given: Option<(AppendId, Version)>,
    /// The events are pieces that were published already, under numbers that stay.
    pub(in crate::hub::chat) shown: bool,
    pub(in crate::hub::chat) create: bool,
    pub(in crate::hub::chat) events: Vec<Staged>,
    pub(in crate::hub::chat) changes: Vec<Change>,
    pub(in crate::hub::chat) effects: Vec<Effect>,
    pub(in crate::hub::chat) origin: Option<Origin>,
}

/// An event that has its sequence number and is encoded.
#[derive(Debug)]
pub(in crate::hub::chat) struct Staged {
    pub(in crate::hub::chat) seq: u64,
    pub(in crate::hub::chat) owner: Owner,
    /// None for a delta, from which no change follows. A delta that is numbered again is decoded from its frame.
    body: Option<Box<ChatBody>>,
    frame: Frame,
}

impl Effect {
    /// The client that waits for the effect, as the answer to a frame of its own.
    pub(super) fn client(&self) -> Option<ConnId> {
        match self {
            Self::Announce { by: conn, .. }
            | Self::AnnounceNew { by: conn }
            | Self::Stopped { conn, .. }
            | Self::Repeat { conn, .. } => Some(*conn),
            Self::SendCommand(_) | Self::Fan(_) | Self::Deleted => None,
        }
    }
}

impl Draft {
    pub(in crate::hub::chat) fn new() -> Self {
        Self::default()
    }

    pub(in crate::hub::chat) fn push(&mut self, turn_id: Option<&TurnId>, body: ChatBody) {
        let owner = Owner { turn_id: turn_id.cloned(), parent_call_id: self.parent_call_id.clone() };
        self.events.push((owner, body));
    }

    /// Adds an event of an earlier epoch again, with its owner.
    pub(in crate::hub::chat) fn push_again(&mut self, ChatEvent { place, body }: ChatEvent) {
        let owner = Owner { turn_id: place.turn_id, parent_call_id: place.parent_call_id };
        self.events.push((owner, body));
    }

    /// Adds a command for the agent: sent once the journal has it.
    pub(in crate::hub::chat) fn command(&mut self, command: AgentCommand) {
        self.changes.push(Change::Command { command: command.clone() });
        self.effects.push(Effect::SendCommand(command));
    }

    /// Whether the draft has effects only, which need no append of their own.
    pub(in crate::hub::chat) fn has_effects_only(&self) -> bool {
        self.events.is_empty() && self.changes.is_empty() && !self.create
    }
}

impl Pending {
    /// Whether an event with this number is in the append.
    pub(super) fn contains(&self, seq: u64) -> bool {
        self.events.first().is_some_and(|first| first.seq <= seq)
            && self.events.last().is_some_and(|last| seq <= last.seq)
    }

    /// The size of the events' frames, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.events.iter().map(|event| event.frame.len()).sum()
    }

    /// The append's changes in order, those that follow from its events included. A turn is accepted before it starts.
    pub(super) fn all_changes(&self, requests: &Requests) -> Vec<Change> {
        let implied = self.events.iter().filter_map(|event| implied(requests, event));
        self.changes.iter().cloned().chain(implied).collect()
    }

    /// How durable the append must be, with all its changes. A decoder's checkpoint is always synced: once it is
    /// appended, the agent's host drops the records before it.
    pub(super) fn durability(&self, changes: &[Change]) -> Durability {
        let light = |event: &Staged| {
            let class = event.frame.kind().class();
            event.owner.turn_id.is_some()
                && class.is_some_and(|class| class.durability == Durability::Written)
        };
        let of_records = |change: &Change| {
            matches!(change, Change::AgentPosition { checkpoint: None, .. } | Change::OpenWork { .. })
        };
        if self.events.iter().all(light) && changes.iter().all(of_records) && !self.events.is_empty() {
            Durability::Written
        } else {
            Durability::Synced
        }
    }
}

impl Staged {
    pub(super) fn new(seq: u64, owner: Owner, body: Option<Box<ChatBody>>, frame: Frame) -> Self {
        Self { seq, owner, body, frame }
    }

    pub(in crate::hub::chat) fn body(&self) -> Option<&ChatBody> {
        self.body.as_deref()
    }

    pub(in crate::hub::chat) fn frame(&self) -> &Frame {
        &self.frame
    }

    /// The event's owner and body, to be numbered again.
    pub(super) fn unstage(self) -> (Owner, ChatBody) {
        let body = self.body.map_or_else(|| delta_of(&self.frame), |body| *body);
        (self.owner, body)
    }

    pub(super) fn log_event(&self) -> LogEvent {
        LogEvent { first_seq: self.seq, seq: self.seq, frame: self.frame.clone() }
    }
}

fn delta_of(frame: &Frame) -> ChatBody {
    let event: ChatEvent = serde_json::from_str(frame.as_str()).expect("it was encoded here");
    event.body
}

/// The change that follows from an event. It is derived here, so that log and state never disagree.
fn implied(requests: &Requests, event: &Staged) -> Option<Change> {
    match event.body()? {
        ChatBody::TurnStarted { origin: TurnOrigin::User, .. } => {
            Some(Change::TurnStarted { turn_id: event.owner.turn_id.clone()? })
        }
        ChatBody::TurnEnd { origin: TurnOrigin::User, outcome, .. } => {
            Some(Change::TurnEnded { turn_id: event.owner.turn_id.clone()?, outcome: *outcome })
        }
        ChatBody::PermissionRequest(request) => {
            Some(requests.opened(&request.request_id, false, &event.frame))
        }
        ChatBody::Question(question) => Some(requests.opened(&question.request_id, true, &event.frame)),
        ChatBody::RequestResolved { request_id, .. } => {
            Some(Change::RequestClosed { request_id: request_id.clone() })
        }
        ChatBody::GoalState { goal_state } => Some(Change::Goal { goal_state: goal_state.clone() }),
        // `TurnAccepted`, `AgentTurn` and `Tasks` have more than the event.
        ChatBody::UserMessage { .. }
        | ChatBody::TurnStarted { origin: TurnOrigin::Agent, .. }
        | ChatBody::TurnEnd { origin: TurnOrigin::Agent, .. }
        | ChatBody::Delta { .. }
        | ChatBody::StreamEnd { .. }
        | ChatBody::ReasoningDelta { .. }
        | ChatBody::ReasoningEnd { .. }
        | ChatBody::Message { .. }
        | ChatBody::ToolEvent { .. }
        | ChatBody::FileEdit { .. }
        | ChatBody::Task(_)
        | ChatBody::Notice { .. } => None,
    }
}
