//! The session of the terminal client as a state machine without I/O: frames, lines and signals in, effects out.

use std::{
    collections::{HashSet, VecDeque},
    time::Instant,
};

use switchboard_core::{
    ids::{ChatId, Cursor, TurnId},
    wire::{ChatBody, ClientEnvelope, ErrorCode, ErrorEvent, Message, MessageAccepted, Outcome},
};

use self::outgoing::{BackgroundSends, Outgoing};
pub(super) use self::turns::{by_itself, task_line};
use super::{
    advice::explain,
    effect::Effect,
    frames::{Attached, Event, Frame},
    permissions::Permissions,
    requests::Requests,
    subagents::Subagents,
};

mod background_sends;
mod commands;
mod outgoing;
mod requests;
mod turns;

const TOO_LARGE: &str = "Not accepted: the message is longer than the gateway takes. Shorten it, or put the text into a file of the workspace.";

/// The state of one client over any number of consecutive connections.
#[derive(Debug)]
pub(super) struct Session {
    chat: Option<ChatId>,
    /// The id from `ready` under which the first message creates a new chat.
    default_chat: Option<ChatId>,
    /// Whether a new chat was requested and the gateway has not created it yet.
    awaits_new: bool,
    cursor: Option<Cursor>,
    title: Option<String>,
    /// The cursor of the next page of the list of chats, if there is one.
    more_chats: Option<String>,
    connected: bool,
    /// Messages for the current chat that were not accepted yet.
    outbox: VecDeque<Outgoing>,
    /// Messages for other chats that were not accepted yet.
    elsewhere: BackgroundSends,
    /// Turns of this client that were accepted and have not ended.
    open: Vec<TurnId>,
    /// The running turn of a message, of this or another client.
    running: Option<TurnId>,
    /// The running turn that the agent began by itself. A message's turn beside it waits.
    agent_turn: Option<TurnId>,
    /// The running background tasks, by their ids.
    tasks: HashSet<String>,
    subagents: Subagents,
    permissions: Permissions,
    requests: Requests,
    /// Whether a person sees the agent's requests and can answer them.
    answers: bool,
    /// The last printed description of the agent.
    agent: Option<String>,
    /// The turns that this client has cancelled and that have not ended.
    stopping: Vec<TurnId>,
    /// Whether the next line confirms or cancels the deletion of the chat.
    confirms_deletion: bool,
    /// In batch mode, the lines that are still to be sent, one after the other; `None` with a person at the terminal.
    batch: Option<VecDeque<String>>,
    input_ended: bool,
    /// The exit status in batch mode.
    status: u8,
    effects: VecDeque<Effect>,
}

impl Session {
    /// A session in `chat`, or in a new chat. With `batch`, standard input is no terminal: each message is sent after
    /// the turn before it has ended, and the program ends after the last turn.
    pub(super) fn new(chat: Option<ChatId>, batch: bool) -> Self {
        Self {
            chat,
            default_chat: None,
            awaits_new: false,
            cursor: None,
            title: None,
            more_chats: None,
            connected: false,
            outbox: VecDeque::new(),
            elsewhere: BackgroundSends::default(),
            open: Vec::new(),
            running: None,
            agent_turn: None,
            tasks: HashSet::new(),
            subagents: Subagents::default(),
            permissions: Permissions::default(),
            requests: Requests::default(),
            answers: !batch,
            agent: None,
            stopping: Vec::new(),
            confirms_deletion: false,
            batch: batch.then(VecDeque::new),
            input_ended: false,
            status: 0,
            effects: VecDeque::new(),
        }
    }

    /// The next effect to carry out; `None` if there is none.
    pub(super) fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Whether a person may write a message that starts a turn: nothing runs and nothing is asked.
    pub(super) fn awaits_message(&self) -> bool {
        let is_asked = self.confirms_deletion || self.requests.is_open();
        self.connected && self.batch.is_none() && !self.awaits_new && !is_asked && !self.is_busy()
    }

    /// Whether the connection is established: the gateway has sent `ready`.
    pub(super) fn is_connected(&self) -> bool {
        self.connected
    }

    /// Handles the loss of the connection.
    pub(super) fn handle_disconnect(&mut self) {
        self.connected = false;
        self.default_chat = None;
        for message in &mut self.outbox {
            message.sent = false;
        }
        self.elsewhere.handle_disconnect();
    }

    /// Handles the end of a connection because of a frame that was too long. Gives up the sent messages, which would
    /// end the next connection as well.
    pub(super) fn handle_too_large(&mut self) {
        while self.outbox.front().is_some_and(|message| message.sent) {
            self.give_up(0);
        }
        self.status = 1;
        self.note(TOO_LARGE);
    }

    /// Handles a line that was read at `read`. `turn_id` is a new id for the turn that the line may begin.
    pub(super) fn handle_line(&mut self, line: &str, read: Instant, turn_id: TurnId) {
        if let Some(batch) = &mut self.batch {
            if !line.trim().is_empty() {
                batch.push_back(line.to_owned());
            }
            self.next_of_batch(turn_id);
            return;
        }
        self.obey(line, read, turn_id);
    }

    /// Handles the end of standard input.
    pub(super) fn handle_input_end(&mut self) {
        self.input_ended = true;
        if self.batch.is_none() {
            self.quit();
        } else {
            self.finish_if_done();
        }
    }

    /// Handles Ctrl-C: the first one stops the running turn, the second one ends the program.
    pub(super) fn handle_interrupt(&mut self) {
        self.confirms_deletion = false;
        if !self.stopping.is_empty() || !self.is_busy() || !self.connected {
            self.effects.push_back(Effect::Quit(130));
            return;
        }
        if let Some(batch) = &mut self.batch {
            batch.clear();
            self.input_ended = true;
            self.status = 130;
        }
        self.stop();
    }

    /// Sends the messages that are still to be sent, as far as the connection allows.
    pub(super) fn flush(&mut self) {
        if !self.connected {
            return;
        }
        self.flush_elsewhere();
        if self.awaits_new {
            return;
        }
        for index in 0..self.outbox.len() {
            if self.outbox[index].sent {
                continue;
            }
            let Some(chat) = self.chat.clone().or_else(|| self.default_chat.take()) else {
                // The chat was deleted after it had used up this connection's id for a new chat.
                self.awaits_new = true;
                return self.send(&ClientEnvelope::NewChat {});
            };
            if self.chat.is_none() {
                self.chat = Some(chat.clone());
                self.store_message(index);
            }
            let message = &mut self.outbox[index];
            message.sent = true;
            let envelope = Message {
                chat_id: chat,
                content: message.content.clone(),
                turn_id: Some(message.turn_id.clone()),
            };
            self.send(&ClientEnvelope::Message(envelope));
        }
    }

    /// Handles a frame. `spare` is a new id for the turn of the next line of a batch.
    pub(super) fn handle_frame(&mut self, frame: Frame, spare: TurnId) {
        match frame {
            Frame::Ready { chat_id, agent } => {
                self.ready(chat_id);
                if let Some(agent) = agent {
                    self.introduced(&agent);
                }
            }
            Frame::Agent(agent) => self.introduced(&agent),
            Frame::Notice { text } => self.note(&text),
            Frame::InputPage(page) => self.input_page(&page),
            Frame::Attached(attached) => self.attached(attached),
            Frame::Snapshot(snapshot) => self.snapshot(snapshot),
            Frame::ReplayEnd { chat_id } if self.is_here(&chat_id) => self.replayed(),
            Frame::Accepted(accepted) => self.accepted(accepted),
            Frame::Event(event) => self.event(*event),
            Frame::Stalled { chat_id, idle_ms } if self.is_here(&chat_id) => {
                self.note(&format!("The agent has been silent for {} s.", idle_ms / 1000));
            }
            Frame::Chats { chats, before } => self.listed(chats, before),
            Frame::Updated { chat_id, deleted, title } if self.is_here(&chat_id) => {
                if deleted {
                    self.deleted();
                } else {
                    self.titled(title);
                }
            }
            Frame::Error(error) => self.error(&error),
            Frame::ReplayEnd { .. } | Frame::Stalled { .. } | Frame::Updated { .. } | Frame::Other => {}
        }
        self.next_of_batch(spare);
        self.finish_if_done();
    }

    fn ready(&mut self, default_chat: ChatId) {
        self.connected = true;
        self.default_chat = Some(default_chat);
        if self.awaits_new {
            self.send(&ClientEnvelope::NewChat {});
        } else if let Some(chat_id) = self.chat.clone() {
            self.send(&ClientEnvelope::Attach { chat_id, after: self.cursor.clone() });
        }
        self.flush();
    }

    fn attached(&mut self, attached: Attached) {
        if self.awaits_new {
            self.awaits_new = false;
            self.chat = Some(attached.chat_id.clone());
            self.note(&format!("New chat {}.", attached.chat_id));
            self.flush();
        }
        if !self.is_here(&attached.chat_id) {
            return;
        }
        self.title = attached.title;
        self.requests.reconnected();
        self.requests.resume();
        self.carry_out_steps();
        if attached.recovered && self.cursor.is_none() {
            self.cursor = Some(Cursor { epoch: attached.epoch, seq: attached.head });
        } else if !attached.recovered && self.cursor.take().is_some() {
            self.effects.push_back(Effect::Replaced);
        }
    }

    fn accepted(&mut self, accepted: MessageAccepted) {
        let MessageAccepted { chat_id, turn_id, duplicate, epoch, seq, starts_turn, .. } = accepted;
        if self.settled_elsewhere(&turn_id) {
            return;
        }
        if !self.is_here(&chat_id) {
            return;
        }
        if !duplicate {
            self.cursor = Some(Cursor { epoch, seq });
        }
        if !self.own_is_accepted(&turn_id) {
            return;
        }
        if !starts_turn && self.running.is_some() {
            self.note("Queued as a message: it is sent to the agent when the running turn ends.");
        } else if starts_turn && self.agent_turn.is_some() && self.batch.is_none() {
            self.note("The message waits until the agent is done with what it began by itself.");
        }
    }

    fn event(&mut self, event: Event) {
        let place = &event.chat.place;
        if !self.is_here(&place.chat_id) {
            return;
        }
        let known =
            self.cursor.as_ref().is_some_and(|cursor| cursor.epoch == place.epoch && place.seq <= cursor.seq);
        if known {
            return;
        }
        self.cursor = Some(Cursor { epoch: place.epoch.clone(), seq: place.seq });
        self.handle_event(event, true);
    }

    /// Handles an event that was not seen before. `live`: a request in the event is still open.
    fn handle_event(&mut self, event: Event, live: bool) {
        let Event { chat: event, request } = event;
        self.subagents.note(&event);
        let permission = self.permissions.note(&event);
        if let Some(request) = request.filter(|_| live) {
            return self.open_request(request, event.place.parent_call_id.as_deref());
        }
        let turn_id = event.place.turn_id.clone();
        let own = turn_id.as_ref().is_some_and(|turn_id| {
            self.open.contains(turn_id) || self.outbox.iter().any(|message| message.turn_id == *turn_id)
        });
        let mut asks_next = false;
        let interrupts = matches!(event.body, ChatBody::Notice { .. });
        match &event.body {
            // The acknowledgement was lost, but the message is in the log.
            ChatBody::UserMessage { .. } => {
                if turn_id.as_ref().is_some_and(|turn_id| self.own_is_accepted(turn_id)) {
                    return;
                }
            }
            ChatBody::TurnStarted { origin, .. } => self.turn_started(turn_id.as_ref(), *origin),
            ChatBody::TurnEnd { outcome, .. } => {
                self.turn_ended(turn_id.as_ref());
                if own && *outcome != Outcome::Completed && self.status == 0 {
                    self.status = 1;
                }
            }
            ChatBody::RequestResolved { request_id, .. } => {
                self.requests.resolved(request_id);
                asks_next = true;
            }
            ChatBody::Task(task) => self.note_task(task),
            ChatBody::Delta { .. }
            | ChatBody::StreamEnd { .. }
            | ChatBody::ReasoningDelta { .. }
            | ChatBody::ReasoningEnd { .. }
            | ChatBody::Message { .. }
            | ChatBody::Notice { .. }
            | ChatBody::ToolEvent { .. }
            | ChatBody::FileEdit { .. }
            | ChatBody::PermissionRequest(_)
            | ChatBody::Question(_)
            | ChatBody::GoalState { .. } => {}
        }
        self.effects.push_back(Effect::Print { event: Box::new(event), own, permission });
        if interrupts {
            self.requests.interrupted();
        }
        if asks_next || interrupts {
            self.carry_out_steps();
        }
    }

    fn error(&mut self, error: &ErrorEvent) {
        if self.refused_elsewhere(error) {
            return;
        }
        if let Some(request_id) = error.request_id.as_ref().filter(|_| error.turn_id.is_none()) {
            return self.answer_refused(request_id, error);
        }
        if error.turn_id.is_none() && self.input_refused() {
            return;
        }
        let refused = error.turn_id.as_ref();
        let message = self.outbox.iter().position(|message| Some(&message.turn_id) == refused);
        match (message, error.retry_after_ms) {
            (Some(message), Some(ms)) if error.retryable => {
                self.outbox[message].sent = false;
                self.note(&format!("{}; it is sent again in {} s.", error.detail, ms.div_ceil(1000)));
                self.effects.push_back(Effect::RetryAfter(ms));
            }
            (Some(message), _) => {
                self.give_up(message);
                self.status = 1;
                self.note(&format!("Not accepted: {}", explain(error)));
            }
            (None, _) if refused.is_some_and(|turn_id| self.stopping.contains(turn_id)) => {
                self.note(&explain(error));
                self.stop_refused(refused);
            }
            // The first message creates the chat.
            (None, _) if error.code == ErrorCode::UnknownChat => {
                self.cursor = None;
                self.note("There is no such chat yet; the first message begins it.");
            }
            (None, _)
                if error.code == ErrorCode::Damaged
                    && error.chat_id.as_ref().is_some_and(|chat| self.is_here(chat)) =>
            {
                self.lost_chat(&explain(error));
            }
            (None, _) => self.note(&explain(error)),
        }
    }

    /// Moves the message of an accepted turn out of the outbox. Returns whether the outbox contained it.
    fn own_is_accepted(&mut self, turn_id: &TurnId) -> bool {
        let Some(index) = self.outbox.iter().position(|message| message.turn_id == *turn_id) else {
            return false;
        };
        self.give_up(index);
        self.open.push(turn_id.clone());
        true
    }

    fn submit(&mut self, content: String, turn_id: TurnId) {
        self.outbox.push_back(Outgoing { turn_id, content, sent: false });
        if self.chat.is_some() || !self.connected || self.awaits_new {
            self.store_message(self.outbox.len() - 1);
        }
        if !self.connected {
            self.note("Not connected; it is sent as soon as the connection is back.");
        }
        self.flush();
    }

    fn next_of_batch(&mut self, turn_id: TurnId) {
        if !self.connected || !self.outbox.is_empty() || !self.open.is_empty() {
            return;
        }
        if let Some(line) = self.batch.as_mut().and_then(VecDeque::pop_front) {
            self.submit(line, turn_id);
        }
    }

    fn finish_if_done(&mut self) {
        let Some(batch) = &self.batch else { return };
        if self.input_ended && batch.is_empty() && self.outbox.is_empty() && self.open.is_empty() {
            self.effects.push_back(Effect::Quit(self.status));
        }
    }

    fn is_here(&self, chat: &ChatId) -> bool {
        self.chat.as_ref() == Some(chat)
    }

    fn is_busy(&self) -> bool {
        self.running.is_some()
            || self.agent_turn.is_some()
            || !self.open.is_empty()
            || !self.outbox.is_empty()
    }

    fn note(&mut self, text: &str) {
        self.effects.push_back(Effect::Note(text.to_owned()));
    }

    /// Sends an envelope that is not worth sending later: without a connection it is dropped with a note.
    fn send_now(&mut self, envelope: &ClientEnvelope) {
        if self.connected {
            self.send(envelope);
        } else if !self.awaits_new {
            self.note("Not connected.");
        }
    }

    fn send(&mut self, envelope: &ClientEnvelope) {
        let frame = serde_json::to_string(envelope).expect("an envelope of strings and numbers is JSON");
        self.effects.push_back(Effect::Send(frame));
    }
}

#[cfg(test)]
mod tests;
