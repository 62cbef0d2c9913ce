//! The queue of a chat's requests, handled in order, and how a message is accepted.

use alloc::{string::String, vec::Vec};

use sha2::{Digest as _, Sha256};

use super::{
    chat::{Chat, ChatRequest, Phase},
    connection::{shutting_down, too_many_chats},
    context::{Asked, Context, DeferredAction, Refusal},
    log::{Draft, Effect, Origin},
    turn::Turn,
};
use crate::{
    ids::{ConnId, Cursor, TurnId},
    journal::{Change, Query, TurnRecord},
    wire::{ChatBody, ChatEvent, ControlEvent, ErrorCode, MessageAccepted, UpdateScope},
};

/// Maximum length of a title made from a message, in characters.
const TITLE_CHARS: usize = 80;
/// Maximum number of requests that wait for one chat. Each of them has passed its connection's rate limit.
const INTAKE: usize = 1024;

impl Chat {
    pub(super) fn take_request(&mut self, cx: &mut Context, conn: ConnId, wanted: ChatRequest) {
        if self.intake.len() >= INTAKE {
            let refusal = Refusal::new(ErrorCode::Unavailable, "too much waits for this chat; try again");
            cx.refuse(conn, refusal.chat(&self.key.chat).turn(wanted.turn_id()));
            return;
        }
        self.intake.push_back((conn, wanted));
        self.take_intake(cx);
    }

    /// Handles the waiting requests in order, up to the first one that has to wait for the journal.
    pub(super) fn take_intake(&mut self, cx: &mut Context) {
        while matches!(self.phase, Phase::Absent | Phase::Ready | Phase::Deleted) && !self.looking_up {
            let Some((conn, wanted)) = self.intake.pop_front() else { break };
            if !cx.conns.contains_key(&conn) && !matches!(wanted, ChatRequest::Message { .. }) {
                continue;
            }
            if self.phase == Phase::Deleted {
                self.take(cx, conn, wanted);
                continue;
            }
            let ChatRequest::Message { content, turn_id } = wanted else {
                self.take(cx, conn, wanted);
                continue;
            };
            let known_here = self.phase == Phase::Absent
                || turn_id.as_ref().is_none_or(|id| self.turn_in_memory(id).is_some());
            if known_here {
                self.message(cx, conn, content, turn_id, None);
            } else if let Some(id) = &turn_id {
                let query = Query::Turn { chat: self.key.clone(), turn_id: id.clone() };
                self.looking_up = true;
                cx.ask(query, Asked::Turn(self.reference));
                self.intake.push_front((conn, ChatRequest::Message { content, turn_id }));
            }
        }
        cx.deferred.push_back(DeferredAction::Settle(self.reference));
    }

    /// The journal answered whether it knows the `turn_id` of the message at the front of the intake.
    pub(super) fn turn_found(&mut self, cx: &mut Context, found: Result<Option<TurnRecord>, Refusal>) {
        self.looking_up = false;
        if let Some((conn, ChatRequest::Message { content, turn_id })) = self.intake.pop_front() {
            match found {
                Ok(record) => self.message(cx, conn, content, turn_id, record),
                Err(refusal) => cx.refuse(conn, refusal.chat(&self.key.chat).turn(turn_id.as_ref())),
            }
        }
        self.take_intake(cx);
    }

    fn message(
        &mut self,
        cx: &mut Context,
        conn: ConnId,
        content: String,
        turn_id: Option<TurnId>,
        record: Option<TurnRecord>,
    ) {
        let given = turn_id.clone();
        if let Err(refusal) = self.try_message(cx, conn, content, turn_id, record) {
            cx.refuse(conn, refusal.chat(&self.key.chat).turn(given.as_ref()));
        }
    }

    fn try_message(
        &mut self,
        cx: &mut Context,
        conn: ConnId,
        content: String,
        turn_id: Option<TurnId>,
        record: Option<TurnRecord>,
    ) -> Result<(), Refusal> {
        let hash: [u8; 32] = Sha256::digest(content.as_bytes()).into();
        if let Some(id) = &turn_id
            && let Some(record) = self.turn_in_memory(id).or(record)
        {
            return self.repeat(cx, conn, id, record.place, record.starts_turn, record.hash == hash);
        }
        if cx.shutting_down {
            return Err(shutting_down());
        }
        self.refuse_while_broken()?;
        if self.turns.len() > cx.limits.queued_turns {
            return Err(Refusal::new(ErrorCode::QueueFull, "too many messages wait in this chat"));
        }
        let attach = !self.subs.contains(conn);
        if attach && self.finds_full(cx, conn) {
            return Err(too_many_chats());
        }
        cx.take_message(&self.key.principal, self.phase == Phase::Absent)?;
        let turn_id = turn_id.unwrap_or_else(|| cx.new_turn_id());
        self.accept(cx, Origin { conn, turn_id: Some(turn_id.clone()), attach }, turn_id, content, hash);
        Ok(())
    }

    /// A `/stop` message: cancels the same turn as `cancel` without a turn. If the message has an id, its sender gets a
    /// `message_accepted` that names the stopped turn as the active one, once the journal has the cancellation.
    pub(super) fn stop(
        &mut self,
        cx: &mut Context,
        conn: ConnId,
        turn_id: Option<TurnId>,
    ) -> Result<(), Refusal> {
        let stopped = self.turns.front().map(|turn| turn.id.clone());
        self.cancel(cx, None)?;
        let Some(turn_id) = turn_id else { return Ok(()) };
        let accepted = MessageAccepted {
            chat_id: self.key.chat.clone(),
            turn_id,
            starts_turn: false,
            active_turn_id: stopped,
            started_at: None,
            // A `/stop` is not logged, so its answer must move no cursor.
            duplicate: true,
            epoch: self.epoch.clone(),
            seq: self.head,
        };
        let effect = Effect::Stopped { conn, accepted };
        match self.pending.back_mut() {
            Some(pending) => pending.effects.push(effect),
            None => self.effect(cx, effect),
        }
        Ok(())
    }

    /// Finds a turn that is open, or whose end or message the journal has not committed yet.
    fn turn_in_memory(&self, id: &TurnId) -> Option<TurnRecord> {
        if let Some(turn) = self.turns.iter().find(|turn| turn.id == *id && turn.seq > 0) {
            let place = self.cursor(turn.seq);
            return Some(TurnRecord { hash: turn.hash, place, starts_turn: turn.starts_turn });
        }
        let mut changes = self.pending.iter().flat_map(|pending| &pending.changes);
        let on_the_way = changes.find_map(|change| {
            let Change::TurnAccepted { turn_id, hash, seq, starts_turn, .. } = change else { return None };
            let record = TurnRecord { hash: *hash, place: self.cursor(*seq), starts_turn: *starts_turn };
            (turn_id == id).then_some(record)
        });
        on_the_way.or_else(|| self.turn_in_view(id))
    }

    /// Finds a turn whose end is not committed yet, or whose message is in an earlier epoch.
    fn turn_in_view(&self, id: &TurnId) -> Option<TurnRecord> {
        let open = self.durable.open_turns();
        let (_, message, _) = open.into_iter().find(|(open, ..)| *open == id)?;
        let event: ChatEvent = serde_json::from_slice(message.bytes()).ok()?;
        let place = Cursor { epoch: event.place.epoch, seq: event.place.seq };
        let ChatBody::UserMessage { text, starts_turn, .. } = event.body else { return None };
        Some(TurnRecord { hash: Sha256::digest(text.as_bytes()).into(), place, starts_turn })
    }

    /// Answers a repeated message like the first one.
    ///
    /// # Errors
    /// If the `turn_id` was used for another message (`same` is false), or the connection has too many chats.
    fn repeat(
        &mut self,
        cx: &mut Context,
        conn: ConnId,
        turn_id: &TurnId,
        place: Cursor,
        starts_turn: bool,
        same: bool,
    ) -> Result<(), Refusal> {
        if !same {
            return Err(Refusal::new(
                ErrorCode::TurnConflict,
                "this turn_id was used for another message; make a new one",
            ));
        }
        if !self.subs.contains(conn) && self.finds_full(cx, conn) {
            return Err(too_many_chats());
        }
        let accepted = MessageAccepted {
            chat_id: self.key.chat.clone(),
            turn_id: turn_id.clone(),
            starts_turn,
            active_turn_id: None,
            started_at: None,
            duplicate: true,
            epoch: place.epoch.clone(),
            seq: place.seq,
        };
        let mine = place.epoch == self.epoch;
        let on_the_way = self.pending.iter_mut().find(|pending| mine && pending.contains(place.seq));
        let effect = Effect::Repeat { conn, accepted };
        match on_the_way {
            // The repeat is accepted or refused together with the message.
            Some(pending) => {
                pending.effects.push(effect);
                self.expect_reader(cx, conn);
            }
            None => self.effect(cx, effect),
        }
        Ok(())
    }

    /// Replaces the connection's reserved epoch, which is used now. Should the journal lose this chat, the next chat
    /// with its id gets another epoch.
    fn use_reservation(&self, cx: &mut Context, conn: ConnId) {
        let epoch = cx.new_epoch();
        if let Some(conn) = cx.conns.get_mut(&conn).filter(|conn| conn.default_chat.0 == self.key.chat) {
            conn.default_chat.1 = epoch;
        }
    }

    fn accept(&mut self, cx: &mut Context, origin: Origin, turn_id: TurnId, content: String, hash: [u8; 32]) {
        let starts_turn = self.turns.is_empty() && self.acquire_slot(cx);
        let mut draft = Draft::new();
        if self.phase == Phase::Absent {
            draft.create = true;
            self.phase = Phase::Creating;
            self.use_reservation(cx, origin.conn);
        }
        let seq = self.staged + 1;
        let client_id = cx.conns.get(&origin.conn).map(|conn| conn.client_id.clone());
        draft.push(
            Some(&turn_id),
            ChatBody::UserMessage {
                text: content.clone(),
                starts_turn,
                active_turn_id: self.turns.front().map(|turn| turn.id.clone()),
                created_at_ms: cx.now.unix_ms,
                client_id,
            },
        );
        draft.changes.push(Change::TurnAccepted {
            turn_id: turn_id.clone(),
            hash,
            seq,
            text: content.clone(),
            starts_turn,
        });
        if self.title.is_none() {
            let title = title_of(&content);
            draft.changes.push(Change::Title { title: title.clone() });
            let event = ControlEvent::SessionUpdated {
                chat_id: self.key.chat.clone(),
                scope: UpdateScope::Metadata,
                title: Some(title.clone()),
            };
            draft.effects.push(Effect::Announce { by: origin.conn, event });
            self.title = Some(title);
        }
        self.turns.push_back(Turn::new(turn_id, content, hash, seq, starts_turn, cx.now));
        if starts_turn {
            self.start_into(cx, &mut draft);
        }
        self.review_slot(cx);
        if origin.attach {
            self.expect_reader(cx, origin.conn);
        }
        draft.origin = Some(origin);
        self.stage(cx, draft);
    }
}

/// Makes a title: the message's first line that is not blank, truncated to [`TITLE_CHARS`].
fn title_of(content: &str) -> String {
    let line = content.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("");
    let shown: Vec<char> = line.chars().filter(|c| !c.is_control()).take(TITLE_CHARS + 1).collect();
    if shown.len() > TITLE_CHARS {
        let mut cut: String = shown.into_iter().take(TITLE_CHARS - 1).collect();
        cut.push('…');
        cut
    } else {
        shown.into_iter().collect()
    }
}
