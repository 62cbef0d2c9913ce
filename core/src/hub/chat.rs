//! A chat: what it holds, and the order in which it takes what clients want of it.

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

pub(super) struct Chat {
    pub(super) key: ChatKey,
    pub(super) reference: ChatRef,
    pub(super) phase: Phase,
    pub(super) epoch: Epoch,
    /// The last number given to an event.
    pub(super) staged: u64,
    /// The last number that the journal has, and that was shown.
    pub(super) head: u64,
    /// There are events under earlier epochs: the chat is not new, whatever its head says.
    pub(super) earlier_epochs: bool,
    pub(super) pending: VecDeque<Pending>,
    pub(super) pending_bytes: usize,
    pub(super) append_failed: Option<AppendFailed>,
    pub(super) ring: Ring,
    pub(super) subs: Subscriptions,
    pub(super) durable: DurableState,
    pub(super) turns: VecDeque<Turn>,
    pub(super) active: Option<ActiveTurn>,
    pub(super) requests: Requests,
    pub(super) goal: GoalState,
    pub(super) title: Option<String>,
    pub(super) model: Option<String>,
    /// The `agent_state` that everybody gets who attaches, once somebody has.
    agent_state: Option<Frame>,
    pub(super) session: Option<String>,
    pub(super) last_command: u64,
    pub(super) slot: SlotState,
    /// How far its agent was heard, as far as the journal had it.
    pub(super) received: Option<(AgentInstanceId, u64, Option<Bytes>)>,
    /// Its place in the line for agents' places.
    pub(super) waiting_number: Option<u64>,
    /// Since when its agent has nothing to do.
    pub(super) idle_since: Option<u64>,
    pub(super) intake: VecDeque<(ConnId, ChatRequest)>,
    pub(super) looking_up: bool,
    pub(super) timer: Option<u64>,
    /// It has open turns of an earlier life, so that it must be loaded in the end.
    pub(super) recover: bool,
    /// A place is kept for the agent that it may have.
    pub(super) agent_expected: bool,
    /// The turn for which its agent of an earlier gateway was taken up: everything that this agent says is of that turn.
    pub(super) adopted_for: Option<TurnId>,
    /// When to ask for it again.
    pub(super) reload_at_ms: Option<u64>,
    pub(super) deletion: Option<Deletion>,
}

/// How much is known of a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The journal was asked.
    Loading,
    /// The journal has nothing under this key.
    Absent,
    /// Its creation is on the way to the journal: whatever else is wanted waits for the answer.
    Creating,
    /// It exists.
    Ready,
    /// Somebody deletes it: whatever else is wanted waits for the outcome.
    Deleting,
    /// It did exist. Nothing under this key ever will again.
    Deleted,
}

/// What a client wants of a chat.
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
    /// A message that says so; the id is the message's own.
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

    /// Whether nothing is lost by forgetting what is in memory.
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

    /// The journal had it once.
    pub(super) fn found_deleted(&mut self, cx: &mut Context) {
        self.phase = Phase::Deleted;
        self.recover = false;
        self.stop_expecting_agent(cx);
        self.take_intake(cx);
    }

    /// Asks the journal for it.
    pub(super) fn load(&mut self, cx: &mut Context) {
        self.reload_at_ms = None;
        cx.ask(Query::Chat { chat: self.key.clone() }, Asked::Load(self.reference));
    }

    /// The journal could not say: what was wanted is refused.
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
        // Whether it exists is still unknown, so it must be asked for anew.
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

    /// Whether a `ready` named this chat as the default one: that of this connection, or an earlier one whose client
    /// has nothing of the chat. It need not exist.
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

    /// What its agent is: all chats have the same one.
    pub(super) fn agent<'a>(&self, cx: &'a Context) -> Option<&'a AgentState> {
        cx.agent.as_ref()
    }

    /// The same as an event, encoded once.
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

    /// Makes the chat for `new_chat`: durable before the client hears of it.
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
        // Each is kept in the log, as a message is.
        cx.take_write(&self.key.principal, "messages and goals a minute")?;
        self.goal = goal_state.clone();
        let mut draft = Draft::new();
        draft.push(self.active_turn_id().as_ref(), ChatBody::GoalState { goal_state });
        draft.origin = Some(Origin { conn, turn_id: None, attach: false });
        self.stage(cx, draft);
        Ok(())
    }

    /// A title that a person gave stands from then on: the first message makes one only where there is none.
    fn rename(&mut self, cx: &mut Context, conn: ConnId, title: String) -> Result<(), Refusal> {
        if cx.shutting_down {
            return Err(shutting_down());
        }
        self.refuse_while_broken()?;
        // Each is kept, and announced to everybody who lists chats.
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
    /// Whether the connection has no room for this chat, to which it is not attached.
    pub(super) fn finds_full(&self, cx: &Context, conn: ConnId) -> bool {
        let conn = cx.conns.get(&conn);
        conn.is_some_and(|conn| !conn.coming.contains(&self.reference) && conn.is_full(&cx.limits))
    }

    /// Keeps room for a connection that will be attached once the journal has what it sent.
    pub(super) fn expect_reader(&self, cx: &mut Context, conn: ConnId) {
        if !self.subs.contains(conn)
            && let Some(conn) = cx.conns.get_mut(&conn)
        {
            conn.coming.insert(self.reference);
        }
    }

    /// The journal has it, or will not.
    pub(super) fn expect_no_more(&self, cx: &mut Context, conn: ConnId) {
        if let Some(conn) = cx.conns.get_mut(&conn) {
            conn.coming.remove(&self.reference);
        }
    }
}
