//! What connections bring: they open, send frames, of which each is for a chat, and close.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use super::{
    Hub,
    asked::Asked,
    chat::ChatRequest,
    connection::Connection,
    context::Context,
    io::Peer,
    refusals::{Refusal, shutting_down, too_many_chats},
};
use crate::{
    ids::{ChatId, ChatKey, ConnId, TurnId},
    journal::{ChatsPage, Query},
    wire::{
        ClientEnvelope, CloseCode, ControlEvent, DecodeError, ErrorCode, Message, NoticeLevel, PROTOCOL,
        WireLimits, encode_control,
    },
};

/// Maximum length of a `client_id`, in characters.
const CLIENT_ID_CHARS: usize = 128;

impl Hub {
    pub(super) fn opened(&mut self, id: ConnId, peer: Peer) {
        let cx = &mut self.cx;
        let quota = cx.quotas.entry(peer.principal.clone()).or_default();
        quota.connections += 1;
        let over = cx.limits.connections_per_principal.is_some_and(|limit| quota.connections > limit);
        let client_id = client_id(cx, peer.client_id.as_deref());
        let default_chat = (cx.new_default_chat_id(&peer.principal), cx.new_epoch());
        let conn = Connection::new(peer.principal, client_id.clone(), default_chat.clone());
        let earlier = cx.conns.insert(id, conn);
        assert!(earlier.is_none(), "the shell gives every connection an id of its own");
        if cx.shutting_down {
            cx.hang_up(id, CloseCode::ServiceRestart, shutting_down());
            return;
        }
        if over || cx.conns.len() > cx.limits.connections {
            let limit = if over { cx.limits.connections_per_principal } else { Some(cx.limits.connections) };
            let whose = if over { "yours" } else { "all users" };
            let detail = format!(
                "the limit is {} connections of {whose} at once; close another page or program",
                limit.unwrap_or_default()
            );
            cx.hang_up(id, CloseCode::TryAgainLater, Refusal::new(ErrorCode::LimitReached, &detail));
            return;
        }
        let limits = wire_limits(cx);
        let ready = ControlEvent::Ready {
            chat_id: default_chat.0,
            client_id,
            protocol: PROTOCOL.to_string(),
            limits,
            agent: cx.agent.clone(),
            stream: None,
        };
        cx.deliver(id, &ready);
        if let Some(notice) = cx.degraded.clone() {
            cx.deliver_frame(id, notice);
        }
    }

    /// Sends all connections a notice that messages cannot be stored, or can be again.
    pub(super) fn degraded(&mut self, why: Option<String>) {
        let well = why.is_none();
        if well && self.cx.degraded.is_none() {
            return;
        }
        let (level, text) = match why {
            Some(why) => (NoticeLevel::Error, format!("The gateway can keep nothing at the moment: {why}.")),
            None => (NoticeLevel::Info, "The gateway can keep what is sent again.".into()),
        };
        let frame = encode_control(&ControlEvent::Notice { level, code: "degraded".into(), text });
        self.cx.degraded = (!well).then(|| frame.clone());
        let conns: Vec<ConnId> = self.cx.conns.keys().copied().collect();
        for conn in conns {
            self.cx.deliver_frame(conn, frame.clone());
        }
    }

    pub(super) fn gone(&mut self, id: ConnId) {
        let Some(conn) = self.cx.conns.remove(&id) else { return };
        for chat in conn.chats() {
            self.with_chat(*chat, |chat, cx| chat.unsubscribe(cx, id));
        }
        if let Some(quota) = self.cx.quotas.get_mut(conn.principal()) {
            quota.connections -= 1;
        }
        if let Some(listing) = self.cx.lists.get_mut(conn.principal()) {
            listing.remove(&id);
            if listing.is_empty() {
                self.cx.lists.remove(conn.principal());
            }
        }
    }

    pub(super) fn malformed(&mut self, id: ConnId, error: DecodeError) {
        if self.admit_frame(id) {
            self.cx.deliver(id, &ControlEvent::Error(error.into_event()));
        }
    }

    pub(super) fn envelope(&mut self, id: ConnId, envelope: ClientEnvelope) {
        if !self.admit_frame(id) {
            return;
        }
        match envelope {
            // The transport has checked the credentials before it opened the connection.
            ClientEnvelope::Authenticate { .. } => {}
            ClientEnvelope::NewChat {} => self.new_chat(id),
            ClientEnvelope::Attach { chat_id, after } => {
                self.route_request(id, chat_id, ChatRequest::Attach { after })
            }
            ClientEnvelope::Detach { chat_id } => self.route_request(id, chat_id, ChatRequest::Detach),
            ClientEnvelope::Message(Message { chat_id, content, turn_id }) => {
                self.message(id, chat_id, content, turn_id);
            }
            ClientEnvelope::Legacy { content } => {
                let Some(conn) = self.cx.conns.get(&id) else { return };
                self.message(id, conn.default_chat().clone(), content, None);
            }
            ClientEnvelope::Cancel { chat_id, turn_id } => {
                self.route_request(id, chat_id, ChatRequest::Cancel { turn_id });
            }
            ClientEnvelope::Respond { chat_id, request_id, answer } => {
                self.route_request(id, chat_id, ChatRequest::Respond { request_id, answer });
            }
            ClientEnvelope::RequestInput { chat_id, request_id, offset } => {
                self.route_request(id, chat_id, ChatRequest::RequestInput { request_id, offset });
            }
            ClientEnvelope::SetGoalState { chat_id, goal_state } => {
                self.route_request(id, chat_id, ChatRequest::SetGoal { goal_state });
            }
            ClientEnvelope::History { chat_id, before, limit } => {
                self.route_request(id, chat_id, ChatRequest::History { before, limit });
            }
            ClientEnvelope::RenameChat { chat_id, title } => {
                self.route_request(id, chat_id, ChatRequest::Rename { title })
            }
            ClientEnvelope::DeleteChat { chat_id } => self.route_request(id, chat_id, ChatRequest::Delete),
            ClientEnvelope::ListChats { before, limit } => self.list_chats(id, before, limit),
            ClientEnvelope::Ping { nonce } => self.cx.deliver(id, &ControlEvent::Pong { nonce }),
        }
    }

    /// Counts a frame for the connection's rate limit. `false`: the frame is refused with an error. After many refused
    /// frames in a row the connection is closed.
    fn admit_frame(&mut self, id: ConnId) -> bool {
        let cx = &mut self.cx;
        let now = cx.now.ticks_ms;
        let Some(conn) = cx.conns.get_mut(&id).filter(|conn| !conn.is_closing()) else { return false };
        let Err((wait_ms, refused)) = conn.take_frame(now, &cx.limits) else { return true };
        let refusal = Refusal::rate(wait_ms, cx.limits.frames_per_second, "frames a second");
        if refused > cx.limits.frames_refused {
            cx.hang_up(id, CloseCode::PolicyViolation, refusal);
        } else {
            cx.refuse(id, refusal);
        }
        false
    }

    fn message(&mut self, id: ConnId, chat_id: ChatId, content: String, turn_id: Option<TurnId>) {
        if content.trim() == "/stop" {
            self.route_request(id, chat_id, ChatRequest::Stop { turn_id });
        } else {
            self.route_request(id, chat_id, ChatRequest::Message { content, turn_id });
        }
    }

    fn new_chat(&mut self, id: ConnId) {
        let Some(conn) = self.cx.conns.get(&id) else { return };
        let principal = conn.principal().clone();
        let has_room = conn.has_room(&self.cx.limits);
        let allowed = if self.cx.shutting_down {
            Err(shutting_down())
        } else if !has_room {
            Err(too_many_chats())
        } else {
            self.cx.take_new_chat(&principal)
        };
        if let Err(refusal) = allowed {
            self.cx.refuse(id, refusal);
            return;
        }
        let key = ChatKey { principal, chat: self.cx.new_chat_id() };
        let epoch = self.cx.new_epoch();
        let chat = self.add_chat(key, epoch);
        self.with_chat(chat, |chat, cx| chat.claim_new(cx, id));
    }

    /// Hands a request to its chat, which is loaded first if it is not in memory.
    fn route_request(&mut self, id: ConnId, chat_id: ChatId, request: ChatRequest) {
        let Some(conn) = self.cx.conns.get(&id) else { return };
        let key = ChatKey { principal: conn.principal().clone(), chat: chat_id };
        let reserved = conn.reserved_epoch(&key.chat);
        let chat = match self.by_key.get(&key) {
            Some(chat) => *chat,
            None => self.load(key, reserved),
        };
        self.with_chat(chat, |chat, cx| chat.take_request(cx, id, request));
    }

    fn list_chats(&mut self, id: ConnId, before: Option<String>, limit: Option<u32>) {
        let Some(conn) = self.cx.conns.get_mut(&id) else { return };
        conn.await_changes();
        let most = self.cx.limits.list_chats;
        let limit = limit.unwrap_or(most).min(most);
        let principal = conn.principal().clone();
        self.cx.lists.entry(principal.clone()).or_default().insert(id);
        let query = Query::Chats { principal, before, limit };
        if let Err(refusal) = self.cx.ask_page(id, query, Asked::Chats { conn: id }) {
            self.cx.refuse(id, refusal);
        }
    }

    pub(super) fn chats_found(&mut self, id: ConnId, page: Option<ChatsPage>) {
        if let Some(page) = page {
            self.cx.deliver(id, &ControlEvent::Chats { chats: page.chats, before: page.before });
        } else {
            self.cx.refuse(id, Refusal::new(ErrorCode::InvalidField, "before is no cursor of this list"));
        }
        self.cx.fetched(id);
    }
}

fn client_id(cx: &mut Context, given: Option<&str>) -> String {
    let shown: String =
        given.unwrap_or("").trim().chars().filter(|c| !c.is_control()).take(CLIENT_ID_CHARS).collect();
    if shown.is_empty() { cx.anonymous_client_id() } else { shown }
}

fn wire_limits(cx: &Context) -> WireLimits {
    WireLimits {
        frame_bytes: cx.limits.frame_bytes as u64,
        text_bytes: cx.limits.text_bytes as u64,
        chats_per_connection: cx.limits.chats_per_connection as u64,
        queued_turns: cx.limits.queued_turns as u64,
    }
}
