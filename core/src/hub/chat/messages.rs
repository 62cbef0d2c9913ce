//! How a client's message is accepted, repeated or refused, and how requests wait for the journal.

use alloc::{string::String, vec::Vec};

use sha2::{Digest as _, Sha256};

use super::{
    Chat, Phase,
    intake::ChatRequest,
    log::{Draft, Effect, Origin},
    turns::Turn,
};
use crate::{
    hub::{
        asked::Asked,
        context::{Context, DeferredAction},
        refusals::{Refusal, shutting_down},
    },
    ids::{ConnId, TurnId},
    journal::{Change, Query, TurnRecord},
    wire::{ChatBody, ErrorCode, MessageAccepted, NoticeLevel},
};

/// Maximum length of a title made from a message, in characters.
const TITLE_CHARS: usize = 80;

impl Chat {
    /// Takes a client's request. It waits while earlier ones do.
    pub(in crate::hub) fn take_request(&mut self, cx: &mut Context, conn: ConnId, request: ChatRequest) {
        if self.intake.is_full() {
            let refusal = Refusal::new(ErrorCode::Unavailable, "too much waits for this chat; try again");
            cx.refuse(conn, refusal.chat(self.log.chat_id()).turn(request.turn_id()));
            return;
        }
        self.intake.push(conn, request);
        self.take_intake(cx);
    }

    /// Handles the waiting requests in order, up to the first one that has to wait for the journal.
    pub(super) fn take_intake(&mut self, cx: &mut Context) {
        while matches!(self.phase, Phase::Absent | Phase::Ready | Phase::Deleted) {
            let Some((conn, request)) = self.intake.pop() else { break };
            if !cx.conns.contains_key(&conn) && !matches!(request, ChatRequest::Message { .. }) {
                continue;
            }
            if self.phase != Phase::Deleted
                && let ChatRequest::Message { content, turn_id } = request
            {
                self.take_message(cx, conn, content, turn_id);
            } else {
                self.take(cx, conn, request);
            }
        }
        cx.defer(DeferredAction::Settle(self.log.reference()));
    }

    fn take_message(&mut self, cx: &mut Context, conn: ConnId, content: String, turn_id: Option<TurnId>) {
        // The journal must say whether it knows the id, unless the hub can.
        let unknown = turn_id.as_ref().filter(|id| self.turn_in_memory(id).is_none());
        match unknown.filter(|_| self.phase != Phase::Absent) {
            None => self.message(cx, conn, content, turn_id, None),
            Some(id) => {
                let query = Query::Turn { chat: self.key().clone(), turn_id: id.clone() };
                cx.ask(query, Asked::Turn(self.log.reference()));
                self.intake.look_up(conn, ChatRequest::Message { content, turn_id });
            }
        }
    }

    /// The journal answered whether it knows the `turn_id` of the first message that waits.
    pub(in crate::hub) fn turn_found(
        &mut self,
        cx: &mut Context,
        found: Result<Option<TurnRecord>, Refusal>,
    ) {
        if let Some((conn, ChatRequest::Message { content, turn_id })) = self.intake.looked_up() {
            match found {
                Ok(record) => self.message(cx, conn, content, turn_id, record),
                Err(refusal) => cx.refuse(conn, refusal.chat(self.log.chat_id()).turn(turn_id.as_ref())),
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
            cx.refuse(conn, refusal.chat(self.log.chat_id()).turn(given.as_ref()));
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
            return self.repeat(cx, conn, id, record, hash);
        }
        if cx.shutting_down {
            return Err(shutting_down());
        }
        self.log.writable()?;
        if self.turns.len() > cx.limits.queued_turns {
            return Err(Refusal::new(ErrorCode::QueueFull, "too many messages wait in this chat"));
        }
        self.check_attachable(cx, conn)?;
        let attach = !self.readers.contains(conn);
        cx.take_message(&self.key().principal, self.phase == Phase::Absent)?;
        let turn_id = turn_id.unwrap_or_else(|| cx.new_turn_id());
        self.accept(cx, Origin { conn, turn_id: Some(turn_id.clone()), attach }, turn_id, content, hash);
        Ok(())
    }

    /// A `/stop` message: cancels the same turns as `cancel` without a turn. If the message has an id, its sender gets a
    /// `message_accepted` once the journal has the cancellation. It names the stopped turn as the active one: a person's,
    /// or the agent's own if no other is open.
    pub(super) fn stop(
        &mut self,
        cx: &mut Context,
        conn: ConnId,
        turn_id: Option<TurnId>,
    ) -> Result<(), Refusal> {
        let of_person = self.turns.first().map(|turn| turn.id());
        let stopped = of_person.or(self.turns.agent_turn()).cloned();
        self.cancel(cx, None)?;
        let Some(turn_id) = turn_id else { return Ok(()) };
        let accepted = MessageAccepted {
            chat_id: self.log.chat_id().clone(),
            turn_id,
            starts_turn: false,
            active_turn_id: stopped,
            started_at: None,
            // A `/stop` is not logged, so its answer must move no cursor.
            duplicate: true,
            epoch: self.log.epoch().clone(),
            seq: self.log.head(),
        };
        let mut draft = Draft::new();
        draft.effects.push(Effect::Stopped { conn, accepted });
        self.stage(cx, draft);
        Ok(())
    }

    /// Finds a turn that is open, or whose end or message the journal has not committed yet.
    fn turn_in_memory(&self, id: &TurnId) -> Option<TurnRecord> {
        let open = self.turns.find(id).and_then(|turn| turn.record(self.log.epoch()));
        open.or_else(|| self.log.pending_turn(id)).or_else(|| self.log.durable().turn_record(id))
    }

    /// Answers a repeated message like the first one.
    ///
    /// # Errors
    /// If the `turn_id` was used for another message, or the connection has too many chats.
    fn repeat(
        &mut self,
        cx: &mut Context,
        conn: ConnId,
        turn_id: &TurnId,
        first: TurnRecord,
        hash: [u8; 32],
    ) -> Result<(), Refusal> {
        if first.hash != hash {
            return Err(Refusal::new(
                ErrorCode::TurnConflict,
                "this turn_id was used for another message; make a new one",
            ));
        }
        self.check_attachable(cx, conn)?;
        let TurnRecord { place, starts_turn, .. } = first;
        let accepted = MessageAccepted {
            chat_id: self.log.chat_id().clone(),
            turn_id: turn_id.clone(),
            starts_turn,
            active_turn_id: None,
            started_at: None,
            duplicate: true,
            epoch: place.epoch.clone(),
            seq: place.seq,
        };
        // The repeat is accepted or refused together with the message.
        match self.log.after_event(&place, Effect::Repeat { conn, accepted }) {
            None => self.readers.expect(cx, self.log.reference(), conn),
            Some(effect) => self.effect(cx, effect),
        }
        Ok(())
    }

    /// Replaces the connection's reserved epoch, which is used now. Should the journal lose this chat, the next chat
    /// with its id gets another epoch.
    fn use_reservation(&self, cx: &mut Context, conn: ConnId) {
        let epoch = cx.new_epoch();
        if let Some(conn) = cx.conns.get_mut(&conn) {
            conn.reserve_epoch(&self.key().chat, epoch);
        }
    }

    fn accept(&mut self, cx: &mut Context, origin: Origin, turn_id: TurnId, content: String, hash: [u8; 32]) {
        let starts_turn = self.turns.first().is_none() && self.agent.acquire_slot(cx);
        let mut draft = Draft::new();
        if self.phase == Phase::Absent {
            draft.create = true;
            self.phase = Phase::Creating;
            self.use_reservation(cx, origin.conn);
        }
        let seq = self.log.next_seq();
        let client_id = cx.conns.get(&origin.conn).map(|conn| conn.client_id().clone());
        draft.push(
            Some(&turn_id),
            ChatBody::UserMessage {
                text: content.clone(),
                starts_turn,
                active_turn_id: self.turns.first().map(|turn| turn.id().clone()),
                created_at_ms: cx.now.unix_ms,
                client_id,
            },
        );
        if self.agent.is_stopping() {
            let text = "The agent is still stopping. It is started again for this message.".into();
            let (level, code) = (NoticeLevel::Info, "agent_stopped".into());
            draft.push(Some(&turn_id), ChatBody::Notice { level, code, text, data: None });
        }
        draft.changes.push(Change::TurnAccepted {
            turn_id: turn_id.clone(),
            hash,
            seq,
            text: content.clone(),
            starts_turn,
        });
        if self.profile.title().is_none() {
            self.set_title(&mut draft, origin.conn, title_of(&content));
        }
        self.turns.push(Turn::new(turn_id, content, hash, seq, starts_turn, cx.now));
        if starts_turn {
            self.start_into(cx, &mut draft);
        }
        self.review_slot(cx);
        if origin.attach {
            self.readers.expect(cx, self.log.reference(), origin.conn);
        }
        draft.origin = Some(origin);
        self.stage(cx, draft);
    }
}

/// Makes a title: the message's first line that is not blank, truncated to [`TITLE_CHARS`].
fn title_of(content: &str) -> String {
    let line = content.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("");
    let chars: Vec<char> = line.chars().filter(|c| !c.is_control()).take(TITLE_CHARS + 1).collect();
    if chars.len() > TITLE_CHARS {
        let mut cut: String = chars.into_iter().take(TITLE_CHARS - 1).collect();
        cut.push('…');
        cut
    } else {
        chars.into_iter().collect()
    }
}
