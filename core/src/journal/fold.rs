//! How appends change the durable state of a chat. Every journal must come to the state that this fold comes to.

use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;

use super::{
    Append, Change, ChatRecord, LogEvent, OpenRequest, OpenTurn, OpenWork, RecordedAgent, Term, TurnRecord,
    Version,
};
use crate::{
    agent::AgentInstanceId,
    ids::{ChatId, Cursor, Epoch, TurnId},
    wire::{ChatSummary, GoalState},
};

/// What a journal stores of an append beside its events and the chat's state, in the same transaction.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Effects {
    /// The accepted messages. The journal stores them as long as the chat exists.
    pub accepted: Vec<(TurnId, TurnRecord)>,
    /// Whether the chat is deleted.
    pub deletes: bool,
}

/// How an append contradicts what the journal has of the chat. Nothing of such an append is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    /// The journal has granted the chat to another owner since.
    Fenced {
        /// The newest term.
        newest: Term,
    },
    /// The chat has another version than the append expects: an earlier append is missing, or this one was committed
    /// before.
    Version {
        /// The chat's version.
        stored: Version,
    },
    /// The chat was deleted.
    Deleted,
    /// The events do not follow the chat's last event.
    Sequence,
    /// A message with this turn id was accepted before.
    TurnExists,
    /// The append starts, cancels or ends a turn that is not open.
    TurnNotOpen,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fenced { newest } => write!(f, "the chat has another owner, under term {}", newest.0),
            Self::Version { stored } => {
                write!(f, "the chat has version {}, and not the expected one", stored.0)
            }
            Self::Deleted => f.write_str("the chat was deleted"),
            Self::Sequence => f.write_str("its events do not follow the chat's last event"),
            Self::TurnExists => f.write_str("a message with this turn id was accepted before"),
            Self::TurnNotOpen => f.write_str("it changes a turn that is not open"),
        }
    }
}

impl core::error::Error for Conflict {}

impl Append {
    /// Checks whether the append comes from the chat's present owner. `newest`: the newest term under which the journal
    /// granted the chat. A journal checks the term first, and in the transaction that commits the append.
    ///
    /// # Errors
    /// [`Conflict::Fenced`] if the append has another term.
    pub fn check_term(&self, newest: Term) -> Result<(), Conflict> {
        if self.term == newest { Ok(()) } else { Err(Conflict::Fenced { newest }) }
    }

    /// Checks whether the append follows from what a journal has of the chat: its `version`, and `head`, the number of
    /// its newest event, both 0 for a chat that does not exist. `turn` looks a turn up: `None` for one that was never
    /// accepted, else whether it is open.
    ///
    /// # Errors
    /// The conflict that the append is, or the first error of `turn`.
    pub fn check<E: From<Conflict>>(
        &self,
        version: Version,
        head: u64,
        mut turn: impl FnMut(&TurnId) -> Result<Option<bool>, E>,
    ) -> Result<(), E> {
        if self.expect != version {
            return Err(Conflict::Version { stored: version }.into());
        }
        let mut next = if self.begins_epoch() { 1 } else { head + 1 };
        for event in &self.events {
            if event.first_seq != next || event.seq < event.first_seq {
                return Err(Conflict::Sequence.into());
            }
            next = event.seq + 1;
        }
        // The turns that the append has accepted so far, and those that it has ended.
        let (mut accepted, mut ended) = (Vec::new(), Vec::new());
        for change in &self.changes {
            match change {
                Change::TurnAccepted { turn_id, seq, .. } => {
                    if accepted.contains(&turn_id) || turn(turn_id)?.is_some() {
                        return Err(Conflict::TurnExists.into());
                    }
                    message(self, *seq).ok_or(Conflict::Sequence)?;
                    accepted.push(turn_id);
                }
                Change::TurnStarted { turn_id }
                | Change::CancelRequested { turn_id, .. }
                | Change::TurnEnded { turn_id, .. } => {
                    let is_open = accepted.contains(&turn_id) || turn(turn_id)? == Some(true);
                    if ended.contains(&turn_id) || !is_open {
                        return Err(Conflict::TurnNotOpen.into());
                    }
                    if matches!(change, Change::TurnEnded { .. }) {
                        ended.push(turn_id);
                    }
                }
                Change::RequestOpened { .. }
                | Change::RequestClosed { .. }
                | Change::Command { .. }
                | Change::AgentStarted { .. }
                | Change::AgentEnded { .. }
                | Change::AgentPosition { .. }
                | Change::AgentTurn { .. }
                | Change::Tasks { .. }
                | Change::OpenWork { .. }
                | Change::Session { .. }
                | Change::Title { .. }
                | Change::Goal { .. }
                | Change::Deleted => {}
            }
        }
        Ok(())
    }
}

impl ChatRecord {
    /// The state before the append that creates the chat.
    pub fn new(chat: ChatId, epoch: Epoch) -> Self {
        Self {
            chat,
            version: Version::default(),
            head: Cursor { epoch, seq: 0 },
            updated_at_ms: 0,
            title: None,
            goal_state: GoalState::default(),
            session: None,
            turns: Vec::new(),
            agent_turn: None,
            tasks: Vec::new(),
            requests: Vec::new(),
            open_work: OpenWork::default(),
            last_command: 0,
            last_request: 0,
            agent: None,
            commands: Vec::new(),
            earlier: None,
        }
    }

    /// Applies an append.
    ///
    /// # Errors
    /// If the append contradicts the state, which is then unchanged. [`Conflict::Deleted`] and
    /// [`Conflict::TurnExists`] are for the journal to find: a deleted chat has no state, and the state has the open
    /// turns only.
    pub fn apply(&mut self, append: &Append) -> Result<Effects, Conflict> {
        append.check(self.version, self.head.seq, |turn_id| {
            Ok::<_, Conflict>(self.turns.iter().any(|turn| turn.turn_id == *turn_id).then_some(true))
        })?;
        if let Some(epoch) = append.create.as_ref().filter(|_| append.begins_epoch()) {
            self.reset_epoch(epoch.clone());
        }
        self.version = self.version.next();
        if let Some(last) = append.events.last() {
            self.head.seq = last.seq;
        }
        if append.is_activity() {
            self.updated_at_ms = self.updated_at_ms.max(append.at_ms);
        }
        let mut effects = Effects::default();
        for change in &append.changes {
            self.change(change, append, &mut effects);
        }
        Ok(effects)
    }

    /// Begins a new epoch, as a journal does that may have lost events of the chat, or an append of a hub that may have
    /// shown others.
    pub fn reset_epoch(&mut self, epoch: Epoch) {
        let ended = core::mem::replace(&mut self.head, Cursor { epoch, seq: 0 });
        if ended.seq > 0 {
            self.earlier = Some(ended);
        }
        self.turns.iter_mut().for_each(|turn| turn.seq = 0);
    }

    /// How a list of chats shows the chat.
    pub fn summary(&self) -> ChatSummary {
        ChatSummary {
            chat_id: self.chat.clone(),
            title: self.title.clone(),
            updated_at_ms: self.updated_at_ms,
            running: self.agent_turn.is_some() || self.turns.iter().any(OpenTurn::has_started),
            waiting: !self.requests.is_empty(),
            head: self.head.clone(),
        }
    }

    fn change(&mut self, change: &Change, append: &Append, effects: &mut Effects) {
        match change {
            Change::TurnAccepted { .. } => self.accept(change, append, effects),
            Change::TurnStarted { turn_id } => {
                self.open_turn(turn_id, |turn| turn.started_at_ms = Some(append.at_ms));
            }
            Change::CancelRequested { turn_id, reason } => self.open_turn(turn_id, |turn| {
                turn.cancel_requested = true;
                turn.cancel_reason.clone_from(reason);
            }),
            Change::TurnEnded { turn_id, .. } => {
                let had_started =
                    self.turns.iter().any(|turn| turn.turn_id == *turn_id && turn.has_started());
                self.turns.retain(|turn| turn.turn_id != *turn_id);
                if had_started {
                    self.drop_commands(turn_id);
                }
            }
            Change::AgentTurn { turn } => {
                let earlier = core::mem::replace(&mut self.agent_turn, turn.clone());
                if let (Some(ended), None) = (earlier, turn) {
                    self.drop_commands(&ended.turn_id);
                }
            }
            Change::Tasks { tasks } => self.tasks.clone_from(tasks),
            Change::RequestOpened { .. } => self.open_request(change),
            Change::RequestClosed { request_id } => {
                self.requests.retain(|request| request.request_id != *request_id);
            }
            Change::Command { command } => {
                self.last_command = self.last_command.max(command.id().0);
                self.commands.push(command.clone());
            }
            Change::AgentStarted { instance } => {
                self.agent = Some(RecordedAgent { instance: *instance, position: 0, checkpoint: None });
            }
            Change::AgentEnded { instance } => {
                self.agent.take_if(|agent| agent.instance == *instance);
            }
            Change::AgentPosition { instance, position, checkpoint } => {
                self.move_agent(*instance, *position, checkpoint.as_ref());
            }
            Change::OpenWork { work } => self.open_work.clone_from(work),
            Change::Session { token } => self.session = Some(token.clone()),
            Change::Title { title } => self.title = Some(title.clone()),
            Change::Goal { goal_state } => self.goal_state.clone_from(goal_state),
            Change::Deleted => effects.deletes = true,
        }
    }

    fn accept(&mut self, change: &Change, append: &Append, effects: &mut Effects) {
        let Change::TurnAccepted { turn_id, hash, seq, text, starts_turn } = change else { return };
        let Some(message) = message(append, *seq) else { return };
        let place = Cursor { epoch: self.head.epoch.clone(), seq: *seq };
        let record = TurnRecord { hash: *hash, place, starts_turn: *starts_turn };
        effects.accepted.push((turn_id.clone(), record));
        self.turns.push(OpenTurn {
            turn_id: turn_id.clone(),
            text: text.clone(),
            hash: *hash,
            seq: *seq,
            frame: message.frame.clone(),
            accepted_at_ms: append.at_ms,
            started_at_ms: None,
            cancel_requested: false,
            cancel_reason: None,
        });
    }

    fn open_request(&mut self, change: &Change) {
        let Change::RequestOpened { request_id, agent_request_id, last_request, question, input, frame } =
            change
        else {
            return;
        };
        self.last_request = self.last_request.max(*last_request);
        self.requests.push(OpenRequest {
            request_id: request_id.clone(),
            agent_request_id: agent_request_id.clone(),
            question: *question,
            input: input.clone(),
            frame: frame.clone(),
        });
    }

    fn move_agent(&mut self, instance: AgentInstanceId, position: u64, checkpoint: Option<&Bytes>) {
        if let Some(agent) = self.agent.as_mut().filter(|agent| agent.instance == instance) {
            agent.position = position;
            agent.checkpoint = checkpoint.cloned().or(agent.checkpoint.take());
        }
    }

    fn open_turn(&mut self, turn_id: &TurnId, change: impl FnOnce(&mut OpenTurn)) {
        if let Some(turn) = self.turns.iter_mut().find(|turn| turn.turn_id == *turn_id) {
            change(turn);
        }
    }

    /// Drops the commands of a turn that has ended. Answers belong to no turn and go with the last one that runs.
    fn drop_commands(&mut self, turn_id: &TurnId) {
        self.commands.retain(|command| command.turn_id() != Some(turn_id));
        if self.agent_turn.is_none() && !self.turns.iter().any(OpenTurn::has_started) {
            self.commands.clear();
        }
    }
}

/// The event of an accepted message.
fn message(append: &Append, seq: u64) -> Option<&LogEvent> {
    append.events.iter().find(|event| event.seq == seq)
}
