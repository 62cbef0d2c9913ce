//! A chat: its state, and how it handles the requests of clients in order.

use alloc::{boxed::Box, collections::VecDeque, string::String};

use bytes::Bytes;

use super::{
    connection::{shutting_down, too_many_chats},
    context::{Asked, Context, DeferredAction, Refusal},
    default_chat,
    deletion::Deletion,
    durable_state::DurableState,
    io::ChatRef,
    log::{Draft, Effect, Origin, Pending},
    requests::Requests,
    resync::AppendFailed,
    ring::Ring,
    slot::SlotState,
    subscription::Subscriptions,
    turn::{ActiveTurn, Turn},
};
use crate::{
    agent::{AgentInstanceId, CommandId},
    ids::{ChatKey, ConnId, Cursor, Epoch, RequestId, TurnId},
    journal::{Change, ChatRecord, PageStart, Query},
    wire::{
        AgentState, Answer, ChatBody, ControlEvent, ErrorCode, Frame, GoalState, UpdateScope, encode_control,
    },
};

/// A chat in memory.
pub(super) struct Chat {
    pub(super) key: ChatKey,
    pub(super) reference: ChatRef,
    pub(super) phase: Phase,
    pub(super) epoch: Epoch,
    /// The last sequence number given to an event, which the journal may not have yet.
    pub(super) staged: u64,
    /// The last sequence number that the journal has and that was published to readers.
    pub(super) head: u64,
    /// There are events under earlier epochs: the chat is not new, even if `head` is 0.
    pub(super) earlier_epochs: bool,
    /// Appends that the journal has not answered yet, oldest first.
    pub(super) pending: VecDeque<Pending>,
    /// The size of the events in `pending`, in bytes.
    pub(super) pending_bytes: usize,
    /// Set while the chat recovers from a refused append.
    pub(super) append_failed: Option<AppendFailed>,
    pub(super) ring: Ring,
    pub(super) subs: Subscriptions,
    pub(super) durable: DurableState,
    /// The open turns in the order of their messages. The first one is `active` once it has started.
    pub(super) turns: VecDeque<Turn>,
    pub(super) active: Option<ActiveTurn>,
    pub(super) requests: Requests,
    pub(super) goal: GoalState,
    pub(super) title: Option<String>,
    /// The name of the model that the agent uses, as the agent reported it.
    pub(super) model: Option<String>,
    /// The encoded `agent_state` event, cached from the first attach on.
    agent_state: Option<Frame>,
    /// The agent's own id for the conversation.
    pub(super) session: Option<String>,
    /// The id of the last command to an agent of this chat.
    pub(super) last_command: u64,
    pub(super) slot: SlotState,
    /// The agent instance, the position of its last record in the journal, and the decoder's checkpoint there.
    pub(super) received: Option<(AgentInstanceId, u64, Option<Bytes>)>,
    /// The chat's key in `AgentPool::waiting`, while it waits for an agent slot.
    pub(super) waiting_number: Option<u64>,
    /// Since when the agent has been without a turn, on the clock of `Moment::ticks_ms`.
    pub(super) idle_since: Option<u64>,
    /// Requests that wait, in the order in which they came.
    pub(super) intake: VecDeque<(ConnId, ChatRequest)>,
    /// The journal was asked whether it knows the `turn_id` of the first message in `intake`.
    pub(super) looking_up: bool,
    /// When the chat's timer fires, on the clock of `Moment::ticks_ms`.
    pub(super) timer: Option<u64>,
    /// The chat has open turns from an earlier gateway process, so loading it is retried until it succeeds.
    pub(super) recover: bool,
    /// An agent slot is reserved for the agent that the chat may have from an earlier gateway process.
    pub(super) agent_expected: bool,
    /// The turn for which the agent of an earlier gateway process was adopted: all its records belong to that turn.
    pub(super) adopted_for: Option<TurnId>,
    /// When to load the chat from the journal again after a failure.
    pub(super) reload_at_ms: Option<u64>,
    pub(super) deletion: Option<Deletion>,
}

/// Whether the chat exists, as far as the hub knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The journal was asked for the chat and has not answered. Requests wait in `Chat::intake`.
    Loading,
    /// The journal has no chat with this key.
    Absent,
    /// The chat's creation is appended and not answered yet. Further requests wait for the answer.
    Creating,
    /// The chat exists.
    Ready,
    /// A client asked to delete the chat. Further requests wait for the outcome.
    Deleting,
    /// The chat was deleted. Its id is never used again.
    Deleted,
}

/// A client's request that concerns one chat.
pub(super) enum ChatRequest {
    Attach {
        after: Option<Cursor>,
    },
    Detach,
    Message {
        content: String,
        turn_id: Option<TurnId>,
    },
    Cancel {
        turn_id: Option<TurnId>,
    },
    /// A `/stop` message. The id is that of the message, not of the turn to stop.
    Stop {
        turn_id: Option<TurnId>,
    },
    Respond {
        request_id: RequestId,
        answer: Answer,
    },
    RequestInput {
        request_id: RequestId,
        offset: u64,
    },
    SetGoal {
        goal_state: GoalState,
    },
    History {
        before: Option<String>,
        limit: Option<u32>,
    },
    Rename {
        title: String,
    },
    Delete,
}

impl Chat {
    pub(super) fn new(key: ChatKey, reference: ChatRef, phase: Phase, epoch: Epoch) -> Self {
        Self {
            key,
            reference,
            phase,
            epoch,
            staged: 0,
            head: 0,
            earlier_epochs: false,
            pending: VecDeque::new(),
            pending_bytes: 0,
            append_failed: None,
            ring: Ring::default(),
            subs: Subscriptions::default(),
            durable: DurableState::default(),
            turns: VecDeque::new(),
            active: None,
            requests: Requests::default(),
            goal: GoalState::default(),
            title: None,
            model: None,
            agent_state: None,
            session: None,
            last_command: 0,
            slot: SlotState::Empty,
            received: None,
            waiting_number: None,
            idle_since: None,
            intake: VecDeque::new(),
            looking_up: false,
            timer: None,
            recover: false,
            agent_expected: false,
            adopted_for: None,
            reload_at_ms: None,
            deletion: None,
        }
    }

    /// Whether the chat can be unloaded from memory without losing anything.
    pub(super) fn is_idle(&self) -> bool {
        !matches!(self.phase, Phase::Loading | Phase::Deleting)
            && self.subs.is_empty()
            && self.pending.is_empty()
            && self.append_failed.is_none()
            && self.turns.is_empty()
            && self.intake.is_empty()
            && !self.looking_up
            && matches!(self.slot, SlotState::Empty)
    }

    pub(super) fn loaded(&mut self, cx: &mut Context, record: Option<Box<ChatRecord>>) {
        self.stop_expecting_agent(cx);
        match record {
            None => self.phase = Phase::Absent,
            Some(record) => {
                self.phase = Phase::Ready;
                self.restore(cx, *record);
                if cx.shutting_down && !cx.leaving {
                    self.shut_down(cx);
                }
            }
        }
        self.take_intake(cx);
    }

    /// The journal answers that the chat was deleted.
    pub(super) fn found_deleted(&mut self, cx: &mut Context) {
        self.phase = Phase::Deleted;
        self.recover = false;
        self.stop_expecting_agent(cx);
        self.take_intake(cx);
    }

    /// Asks the journal for the chat's durable state.
    pub(super) fn load(&mut self, cx: &mut Context) {
        self.reload_at_ms = None;
        cx.ask(Query::Chat { chat: self.key.clone() }, Asked::Load(self.reference));
    }

    /// The journal could not read the chat: the waiting requests are refused.
    pub(super) fn load_failed(&mut self, cx: &mut Context, refusal: &Refusal) {
        self.stop_expecting_agent(cx);
        self.phase = Phase::Absent;
        for (conn, wanted) in core::mem::take(&mut self.intake) {
            cx.refuse(conn, refusal.clone().chat(&self.key.chat).turn(wanted.turn_id()));
        }
        if !refusal.is_retryable() {
            self.recover = false;
        }
        if self.recover {
            self.phase = Phase::Loading;
            self.reload_at_ms = Some(cx.now.ticks_ms + cx.limits.journal_retry_ms);
            self.rearm(cx);
            return;
        }
        // Whether the chat exists is still unknown, so unload it: the next request loads it again.
        cx.deferred.push_back(DeferredAction::Settle(self.reference));
    }

    pub(super) fn take(&mut self, cx: &mut Context, conn: ConnId, wanted: ChatRequest) {
        match wanted {
            ChatRequest::Detach => {
                self.unsubscribe(cx, conn);
                return;
            }
            ChatRequest::Attach { after }
                if self.phase == Phase::Ready || self.is_default(cx, conn, after.as_ref()) =>
            {
                self.attach(cx, conn, after);
                return;
            }
            _ if matches!(self.phase, Phase::Absent | Phase::Deleted) => {
                let refusal = Refusal::new(ErrorCode::UnknownChat, "no such chat");
                cx.refuse(conn, refusal.chat(&self.key.chat).turn(wanted.turn_id()));
                return;
            }
            ChatRequest::Attach { .. }
            | ChatRequest::Message { .. }
            | ChatRequest::Cancel { .. }
            | ChatRequest::Stop { .. }
            | ChatRequest::Respond { .. }
            | ChatRequest::RequestInput { .. }
            | ChatRequest::SetGoal { .. }
            | ChatRequest::History { .. }
            | ChatRequest::Rename { .. }
            | ChatRequest::Delete => {}
        }
        let turn_id = wanted.turn_id().cloned();
        let result = match wanted {
            ChatRequest::Cancel { turn_id } => self.cancel(cx, turn_id.as_ref()),
            ChatRequest::Stop { turn_id } => self.stop(cx, conn, turn_id),
            ChatRequest::Respond { request_id, answer } => {
                self.respond(cx, conn, &request_id, answer).map_err(|refusal| refusal.request(&request_id))
            }
            ChatRequest::RequestInput { request_id, offset } => self
                .request_input(cx, conn, &request_id, offset)
                .map_err(|refusal| refusal.request(&request_id)),
            ChatRequest::SetGoal { goal_state } => self.set_goal(cx, conn, goal_state),
            ChatRequest::History { before, limit } => self.history(cx, conn, before, limit),
            ChatRequest::Rename { title } => self.rename(cx, conn, title),
            ChatRequest::Delete => self.delete(cx, conn),
            ChatRequest::Attach { .. } | ChatRequest::Detach | ChatRequest::Message { .. } => Ok(()),
        };
        if let Err(refusal) = result {
            cx.refuse(conn, refusal.chat(&self.key.chat).turn(turn_id.as_ref()));
        }
    }

    /// Whether this absent chat may be attached to because a `ready` frame named it as the default chat: that of this
    /// connection, or that of an earlier connection, if the client has no events of the chat.
    fn is_default(&self, cx: &Context, conn: ConnId, after: Option<&Cursor>) -> bool {
        let own = cx.conns.get(&conn).is_some_and(|c| c.default_chat.0 == self.key.chat);
        let has_nothing = after.is_none_or(|cursor| cursor.seq == 0);
        self.phase == Phase::Absent && (own || (has_nothing && default_chat::is_default(&self.key)))
    }

    fn attach(&mut self, cx: &mut Context, conn: ConnId, after: Option<Cursor>) {
        if !self.subs.contains(conn) && self.finds_full(cx, conn) {
            cx.refuse(conn, too_many_chats().chat(&self.key.chat));
            return;
        }
        self.subscribe(cx, conn, after.as_ref());
    }

    /// The description of the chat's agent, which is the same for all chats.
    pub(super) fn agent<'a>(&self, cx: &'a Context) -> Option<&'a AgentState> {
        cx.agent.as_ref()
    }

    /// The same as an `agent_state` event, encoded once.
    pub(super) fn agent_state(&mut self, cx: &Context) -> Option<Frame> {
        if self.agent_state.is_none() {
            let event = |agent: &AgentState| ControlEvent::AgentState {
                chat_id: self.key.chat.clone(),
                agent: agent.clone(),
            };
            self.agent_state = self.agent(cx).map(|agent| encode_control(&event(agent)));
        }
        self.agent_state.clone()
    }

    fn history(
        &mut self,
        cx: &mut Context,
        conn: ConnId,
        before: Option<String>,
        limit: Option<u32>,
    ) -> Result<(), Refusal> {
        let most = cx.limits.history_events;
        let before = before.map_or(PageStart::At(self.head), PageStart::Opaque);
        let query = Query::Before {
            chat: self.key.clone(),
            before,
            events: limit.unwrap_or(most).min(most),
            bytes: cx.limits.page_bytes,
        };
        cx.ask_page(conn, query, Asked::History { conn, chat_id: self.key.chat.clone() })
    }

    /// Creates the chat for `new_chat`. The client is attached once the journal has the chat.
    pub(super) fn create_empty(&mut self, cx: &mut Context, conn: ConnId) {
        self.phase = Phase::Creating;
        let mut draft = Draft::new();
        draft.create = true;
        self.expect_reader(cx, conn);
        draft.origin = Some(Origin { conn, turn_id: None, attach: true });
        draft.effects.push(Effect::Made { by: conn });
        self.stage(cx, draft);
    }

    fn set_goal(&mut self, cx: &mut Context, conn: ConnId, goal_state: GoalState) -> Result<(), Refusal> {
        self.refuse_while_broken()?;
        // Each goal state is stored in the log like a message, so it counts for the same rate limit.
        cx.take_write(&self.key.principal, "messages and goals a minute")?;
        self.goal = goal_state.clone();
        let mut draft = Draft::new();
        draft.push(self.active_turn_id().as_ref(), ChatBody::GoalState { goal_state });
        draft.origin = Some(Origin { conn, turn_id: None, attach: false });
        self.stage(cx, draft);
        Ok(())
    }

    /// Sets the title. The first message sets one only if the chat has none, so a title from a person stays.
    fn rename(&mut self, cx: &mut Context, conn: ConnId, title: String) -> Result<(), Refusal> {
        if cx.shutting_down {
            return Err(shutting_down());
        }
        self.refuse_while_broken()?;
        // Each title is stored and announced to other connections, so it counts for the messages' rate limit.
        cx.take_write(&self.key.principal, "messages and titles a minute")?;
        self.title = Some(title.clone());
        let mut draft = Draft::new();
        draft.changes.push(Change::Title { title: title.clone() });
        let chat_id = self.key.chat.clone();
        let event =
            ControlEvent::SessionUpdated { chat_id, scope: UpdateScope::Metadata, title: Some(title) };
        draft.effects.push(Effect::Announce { by: conn, event });
        draft.origin = Some(Origin { conn, turn_id: None, attach: false });
        self.stage(cx, draft);
        Ok(())
    }

    pub(super) fn next_command(&mut self) -> CommandId {
        self.last_command += 1;
        CommandId(self.last_command)
    }
}

impl ChatRequest {
    pub(super) fn turn_id(&self) -> Option<&TurnId> {
        match self {
            Self::Message { turn_id, .. } | Self::Cancel { turn_id } | Self::Stop { turn_id } => {
                turn_id.as_ref()
            }
            Self::Attach { .. }
            | Self::Detach
            | Self::Respond { .. }
            | Self::RequestInput { .. }
            | Self::SetGoal { .. }
            | Self::History { .. }
            | Self::Rename { .. }
            | Self::Delete => None,
        }
    }
}

pub(super) fn unavailable() -> Refusal {
    Refusal::new(ErrorCode::Unavailable, "the gateway cannot store this at the moment; try again shortly")
}

pub(super) fn unreadable() -> Refusal {
    Refusal::new(ErrorCode::Unavailable, "the gateway cannot read this at the moment; try again shortly")
}

pub(super) fn damaged() -> Refusal {
    let detail = "what was stored of this is damaged on the gateway's disk and cannot be used; other chats are not \
                  affected; there, `switchboard doctor` says what is damaged, and a backup can be restored";
    Refusal::new(ErrorCode::Damaged, detail)
}

impl Chat {
    /// Whether the connection is attached to as many chats as it may be. The caller checks that this chat is not one.
    pub(super) fn finds_full(&self, cx: &Context, conn: ConnId) -> bool {
        let conn = cx.conns.get(&conn);
        conn.is_some_and(|conn| !conn.coming.contains(&self.reference) && conn.is_full(&cx.limits))
    }

    /// Counts this chat among the connection's chats already now: the connection is attached once the journal has the
    /// frame that it sent.
    pub(super) fn expect_reader(&self, cx: &mut Context, conn: ConnId) {
        if !self.subs.contains(conn)
            && let Some(conn) = cx.conns.get_mut(&conn)
        {
            conn.coming.insert(self.reference);
        }
    }

    /// Undoes [`expect_reader`](Self::expect_reader) once the append is answered.
    pub(super) fn expect_no_more(&self, cx: &mut Context, conn: ConnId) {
        if let Some(conn) = cx.conns.get_mut(&conn) {
            conn.coming.remove(&self.reference);
        }
    }
}
