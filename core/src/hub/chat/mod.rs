//! A chat. [`Chat`] owns the parts of the state, each of which is private to its module, and coordinates them.
//!
//! | Module | State, or what flows through all parts |
//! |---|---|
//! | `ownership` | how a chat is claimed, released, and lost to another gateway |
//! | `log` | numbering, appends under way, recent events, durable state, the recovery from a refused append |
//! | `turns` | the open turns, the state machine of a turn, how turns start, are cancelled and end |
//! | `tasks` | the running background tasks of the agent |
//! | `agent` | the agent's slot and commands, how its instance starts, is paused, stops and exits |
//! | `readers` | subscriptions, and how far each reader is |
//! | `requests` | the agent's requests to people: opened, answered, withdrawn |
//! | `intake` | the clients' requests that wait |
//! | `profile` | title, goal, model |
//! | `deletion` | a deletion under way, and how a chat is deleted |
//! | `messages` | how a message is accepted, repeated or refused |
//! | `records` | how an agent's events become events of the log |
//! | `commit` | how drafts are appended, and what follows once the journal has them |
//! | `resync`, `epoch_reset` | how a chat goes on after a refused append, and after the journal has lost events |
//! | `catch_up` | how a chat is taken up whose agent's output was shown before the journal had it |
//! | `deadlines` | what happens when time has passed |
//!
//! In `turns`, `tasks`, `agent`, `requests` and `deletion`, `state` has the state, private to that file, and
//! `lifecycle` the methods of [`Chat`] that change it and carry out what follows for the other parts.

mod agent;
mod bounds;
mod catch_up;
mod commit;
mod deadlines;
mod deletion;
mod epoch_reset;
mod intake;
mod log;
mod messages;
mod ownership;
mod profile;
mod readers;
mod records;
mod requests;
mod resync;
mod tasks;
mod text;
mod tool_use;
mod turns;

use alloc::{boxed::Box, string::String};

pub(super) use self::intake::ChatRequest;
use self::{
    agent::Agent,
    deletion::Deletion,
    intake::Intake,
    log::{Activity, Draft, Effect, Log, Origin},
    profile::Profile,
    readers::Readers,
    requests::Requests,
    tasks::Tasks,
    turns::{Ending, Turns},
};
use super::{
    asked::{Asked, PageKey, ReaderKey},
    connection::Connection,
    context::{Context, DeferredAction},
    default_chat,
    io::{ChatRef, Deadline},
    refusals::{Refusal, shutting_down, too_many_chats, unknown_chat},
};
use crate::{
    ids::{ChatKey, ConnId, Cursor, Epoch},
    journal::{Change, ChatRecord, HistoryPage, LogEvent, PageStart, Query},
    wire::{ChatBody, GoalState, Outcome, TurnError, UpdateScope},
};

/// A chat in memory.
pub(super) struct Chat {
    phase: Phase,
    log: Log,
    turns: Turns,
    tasks: Tasks,
    agent: Agent,
    readers: Readers,
    requests: Requests,
    intake: Intake,
    profile: Profile,
    /// What the list of chats says of the chat.
    listed: Activity,
    deletion: Option<Deletion>,
    /// The chat has open turns from an earlier gateway process, so loading it is retried until it succeeds.
    recover: bool,
    /// When to load the chat from the journal again after a failure, on the clock of `Moment::ticks_ms`.
    reload_at_ms: Option<u64>,
    /// When the chat's timer fires.
    timer: Option<Deadline>,
}

/// Whether the chat exists, as far as the hub knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The chat is claimed from the journal, which has not answered. Requests wait.
    Claiming {
        /// The connection whose `new_chat` makes the chat. None: the chat is loaded.
        creator: Option<ConnId>,
    },
    /// The journal was asked for the chat and has not answered. Requests wait.
    Loading,
    /// The journal has no chat with this key, or could not read it. In the latter case the chat takes no request: it is
    /// unloaded within the same input.
    Absent,
    /// The chat's creation is appended and not answered yet. Further requests wait for the answer.
    Creating,
    /// The chat exists.
    Ready,
    /// The chat exists, and what its agent has said is read again. Requests and deadlines wait, until this time on the
    /// clock of `Moment::ticks_ms`.
    CatchingUp { until_ms: u64 },
    /// The chat exists, and a new epoch begins once the journal has all of the old one. Requests and deadlines wait, and
    /// the agent is paused. `appended`: the beginning is appended.
    RenewingEpoch { appended: bool },
    /// A client asked to delete the chat. Further requests wait for the outcome.
    Deleting,
    /// The chat was deleted. Its id is never used again.
    Deleted,
}

impl Chat {
    /// A chat that does not exist. Until it is created or loaded, it has this epoch.
    pub(super) fn new(key: ChatKey, reference: ChatRef, epoch: Epoch) -> Self {
        Self {
            phase: Phase::Absent,
            log: Log::new(key, reference, epoch),
            turns: Turns::default(),
            tasks: Tasks::default(),
            agent: Agent::new(reference),
            readers: Readers::default(),
            requests: Requests::default(),
            intake: Intake::default(),
            profile: Profile::default(),
            listed: Activity::default(),
            deletion: None,
            recover: false,
            reload_at_ms: None,
            timer: None,
        }
    }

    pub(super) fn key(&self) -> &ChatKey {
        self.log.key()
    }

    /// When the chat's timer fires.
    pub(super) fn timer(&self) -> Option<Deadline> {
        self.timer
    }

    /// Whether the journal does not have the chat.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self.phase, Phase::Absent | Phase::Deleted)
    }

    /// Whether the chat can be unloaded from memory without losing anything.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_loading()
            && !matches!(self.phase, Phase::Deleting | Phase::CatchingUp { .. } | Phase::RenewingEpoch { .. })
            && self.readers.is_empty()
            && self.log.is_committed()
            && !self.log.is_recovering()
            && self.turns.is_empty()
            && self.intake.is_empty()
            && !self.intake.is_looking_up()
            && self.agent.is_gone()
    }

    /// Whether no turn is open, the journal has answered every append, and no message waits for a lookup of its turn.
    pub(super) fn is_settled(&self) -> bool {
        self.turns.is_empty() && self.is_committed() && !self.intake.is_looking_up()
    }

    /// Whether the chat is loaded and the journal has answered all its appends.
    pub(super) fn is_committed(&self) -> bool {
        self.log.is_committed() && !self.is_loading()
    }

    /// Whether it is not known yet what the journal has of the chat.
    fn is_loading(&self) -> bool {
        matches!(self.phase, Phase::Claiming { .. } | Phase::Loading)
    }
}

/// Loading, and the stop of the gateway.
impl Chat {
    /// Asks the journal for the chat's durable state. The chat is claimed first.
    pub(super) fn load(&mut self, cx: &mut Context) {
        self.reload_at_ms = None;
        let term @ Some(_) = self.log.term() else { return self.claim(cx) };
        self.phase = Phase::Loading;
        let query = Query::Chat { chat: self.key().clone(), term };
        cx.ask(query, Asked::Load(self.log.reference()));
    }

    /// The chat has open turns from an earlier gateway process. Reserves a slot until the journal says whether the chat
    /// has an agent.
    pub(super) fn expect_agent(&mut self, cx: &mut Context) {
        self.recover = true;
        if self.is_loading() {
            self.agent.expect(cx);
        }
    }

    pub(super) fn loaded(&mut self, cx: &mut Context, record: Option<Box<ChatRecord>>) {
        self.agent.stop_expecting(cx);
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
        self.agent.stop_expecting(cx);
        self.take_intake(cx);
    }

    /// The journal could not read the chat: the waiting requests are refused.
    pub(super) fn load_failed(&mut self, cx: &mut Context, refusal: &Refusal) {
        self.agent.stop_expecting(cx);
        for (conn, request) in self.intake.take_all() {
            cx.refuse(conn, refusal.clone().chat(self.log.chat_id()).turn(request.turn_id()));
        }
        if !refusal.is_retryable() {
            self.recover = false;
        }
        if self.recover {
            self.reload_at_ms = Some(cx.now.ticks_ms + cx.limits.journal_retry_ms);
            self.rearm(cx);
            return;
        }
        // Whether the chat exists is still unknown, so unload it: the next request loads it again.
        self.phase = Phase::Absent;
        cx.defer(DeferredAction::Settle(self.log.reference()));
    }

    fn restore(&mut self, cx: &mut Context, record: ChatRecord) {
        self.log.restore(&record);
        self.listed = self.log.durable().activity();
        self.requests = Requests::restore(&record);
        self.agent.restore(&record);
        self.profile = Profile::new(record.title, record.goal_state);
        let orphaned = record.agent.is_none();
        if let Some(agent) = record.agent {
            let turn = record.turns.first().map(|open| open.turn_id.clone());
            self.agent.adopt(cx, self.log.key(), agent, turn, record.commands);
        }
        self.turns.restore(record.turns, record.agent_turn, record.open_work, cx.now, &cx.limits);
        self.tasks = Tasks::restore(record.tasks);
        if orphaned {
            let detail = "the gateway was restarted before the answer was complete";
            let error = TurnError { code: "gateway_restarted".into(), detail: detail.into() };
            self.close_work_of_agent(cx, Ending::new(Outcome::Interrupted, Some(error.clone())));
            self.end_turn(cx, Outcome::Interrupted, Some(error));
        }
        if !self.begin_catching_up(cx) {
            self.try_start(cx);
            self.review_slot(cx);
        }
    }

    /// The gateway stops: ends all turns and stops the agent.
    pub(in crate::hub) fn shut_down(&mut self, cx: &mut Context) {
        self.give_up_catching_up(cx);
        let detail = "the gateway was stopped before the answer was complete";
        let error = TurnError { code: "gateway_stopped".into(), detail: detail.into() };
        self.stop_agent(cx, false, Ending::new(Outcome::Interrupted, Some(error.clone())));
        self.end_turns(cx, Outcome::Interrupted, Some(error));
    }
}

/// Requests of clients.
impl Chat {
    /// Carries out a request that is no message, or refuses a request to a chat that does not exist.
    fn take(&mut self, cx: &mut Context, conn: ConnId, request: ChatRequest) {
        let turn_id = request.turn_id().cloned();
        let attachable = self.phase == Phase::Ready
            || matches!(&request, ChatRequest::Attach { after } if self.is_default(cx, conn, after.as_ref()));
        let detaches = matches!(request, ChatRequest::Detach);
        let result = if self.is_gone() && !attachable && !detaches {
            Err(unknown_chat())
        } else {
            self.carry_out(cx, conn, request)
        };
        if let Err(refusal) = result {
            cx.refuse(conn, refusal.chat(self.log.chat_id()).turn(turn_id.as_ref()));
        }
    }

    fn carry_out(&mut self, cx: &mut Context, conn: ConnId, request: ChatRequest) -> Result<(), Refusal> {
        match request {
            ChatRequest::Attach { after } => self.attach(cx, conn, after.as_ref()),
            ChatRequest::Detach => {
                self.unsubscribe(cx, conn);
                Ok(())
            }
            ChatRequest::Cancel { turn_id } => self.cancel(cx, turn_id.as_ref()),
            ChatRequest::Stop { turn_id } => self.stop(cx, conn, turn_id),
            ChatRequest::Respond { request_id, answer } => {
                self.respond(cx, conn, &request_id, answer).map_err(|refusal| refusal.request(&request_id))
            }
            ChatRequest::RequestInput { request_id, offset } => {
                let page = self.requests.input_page(&cx.limits, self.log.chat_id(), &request_id, offset);
                cx.deliver(conn, &page.map_err(|refusal| refusal.request(&request_id))?);
                Ok(())
            }
            ChatRequest::SetGoal { goal_state } => self.set_goal(cx, conn, goal_state),
            ChatRequest::History { before, limit } => self.history(cx, conn, before, limit),
            ChatRequest::Rename { title } => self.rename(cx, conn, title),
            ChatRequest::Delete => self.delete(cx, conn),
            // The intake accepts messages.
            ChatRequest::Message { .. } => Ok(()),
        }
    }

    /// Whether this absent chat may be attached to because a `ready` frame named it as the default chat: that of this
    /// connection, or that of an earlier connection, if the client has no events of the chat.
    fn is_default(&self, cx: &Context, conn: ConnId, after: Option<&Cursor>) -> bool {
        let own = cx.conns.get(&conn).is_some_and(|conn| *conn.default_chat() == self.key().chat);
        let has_nothing = after.is_none_or(|cursor| cursor.seq == 0);
        self.phase == Phase::Absent && (own || (has_nothing && default_chat::is_default(self.key())))
    }

    fn attach(&mut self, cx: &mut Context, conn: ConnId, after: Option<&Cursor>) -> Result<(), Refusal> {
        self.check_attachable(cx, conn)?;
        self.readers.subscribe(cx, &self.log, &self.profile, conn, after);
        Ok(())
    }

    /// # Errors
    /// If the connection is not attached to this chat, and to as many other chats as it may be.
    fn check_attachable(&self, cx: &Context, conn: ConnId) -> Result<(), Refusal> {
        let may = |conn: &Connection| conn.may_attach(self.log.reference(), &cx.limits);
        let may = self.readers.contains(conn) || cx.conns.get(&conn).is_none_or(may);
        if may { Ok(()) } else { Err(too_many_chats()) }
    }

    fn history(
        &mut self,
        cx: &mut Context,
        conn: ConnId,
        before: Option<String>,
        limit: Option<u32>,
    ) -> Result<(), Refusal> {
        self.flush(cx);
        let most = cx.limits.history_events;
        let before = before.map_or(PageStart::At(self.log.head()), PageStart::Opaque);
        let query = Query::Before {
            chat: self.key().clone(),
            before,
            events: limit.unwrap_or(most).min(most),
            bytes: cx.limits.page_bytes,
        };
        cx.ask_page(conn, query, Asked::History { conn, chat_id: self.log.chat_id().clone() })
    }

    fn set_goal(&mut self, cx: &mut Context, conn: ConnId, goal_state: GoalState) -> Result<(), Refusal> {
        self.log.writable()?;
        // Each goal state is stored in the log like a message, so it counts for the same rate limit.
        cx.take_write(&self.key().principal, "messages and goals a minute")?;
        self.profile.set_goal(goal_state.clone());
        let mut draft = Draft::new();
        draft.push(self.turns.started(), ChatBody::GoalState { goal_state });
        draft.origin = Some(Origin { conn, turn_id: None, attach: false });
        self.stage(cx, draft);
        Ok(())
    }

    /// Sets the title. The first message sets one only if the chat has none, so a title from a person stays.
    fn rename(&mut self, cx: &mut Context, conn: ConnId, title: String) -> Result<(), Refusal> {
        if cx.shutting_down {
            return Err(shutting_down());
        }
        self.log.writable()?;
        // Each title is stored and announced to other connections, so it counts for the messages' rate limit.
        cx.take_write(&self.key().principal, "messages and titles a minute")?;
        let mut draft = Draft::new();
        self.set_title(&mut draft, conn, title);
        draft.origin = Some(Origin { conn, turn_id: None, attach: false });
        self.stage(cx, draft);
        Ok(())
    }

    /// Sets the title within a draft, and announces it.
    fn set_title(&mut self, draft: &mut Draft, by: ConnId, title: String) {
        self.profile.set_title(Some(title.clone()));
        draft.changes.push(Change::Title { title });
        let event = self.profile.updated(self.log.chat_id(), UpdateScope::Metadata);
        draft.effects.push(Effect::Announce { by, event });
    }
}

/// Readers.
impl Chat {
    /// Ends a connection's subscription.
    pub(super) fn unsubscribe(&mut self, cx: &mut Context, conn: ConnId) {
        if self.readers.unsubscribe(cx, self.log.reference(), conn) {
            self.pause_or_resume(cx);
        }
    }

    /// The outbox of a connection refused this event and those after it.
    pub(super) fn outbox_full(&mut self, cx: &mut Context, conn: ConnId, first_seq: u64) {
        self.readers.outbox_full(cx, conn, first_seq);
    }

    /// Feeds a connection whose outbox is at most half full, with at most `room` bytes. Returns what is left.
    pub(super) fn feed(&mut self, cx: &mut Context, conn: ConnId, room: usize) -> usize {
        let left = self.readers.feed(cx, &self.log, &self.profile, conn, room);
        if self.agent.is_paused() {
            self.pause_or_resume(cx);
        }
        left
    }

    /// The journal answered with a page for the readers that wait for it, or could not read the page.
    pub(super) fn page_found(
        &mut self,
        cx: &mut Context,
        asked: PageKey,
        page: Result<Option<&[LogEvent]>, &Refusal>,
    ) {
        self.with_readers(cx, |readers, cx, log, profile| match page {
            Ok(page) => readers.page_found(cx, log, profile, asked, page),
            Err(refusal) => readers.page_failed(cx, log, asked, refusal),
        });
    }

    /// The journal answered with the events of the snapshot for this reader, or could not read them. Returns whether
    /// further parts of the snapshot are to be sent.
    pub(super) fn snapshot_found(
        &mut self,
        cx: &mut Context,
        reader: ReaderKey,
        page: Result<HistoryPage, Refusal>,
    ) -> bool {
        self.with_readers(cx, |readers, cx, log, profile| {
            readers.snapshot_found(cx, log, profile, reader, page)
        })
    }

    /// Lets the readers handle something, which may drop some of them.
    fn with_readers<R>(
        &mut self,
        cx: &mut Context,
        f: impl FnOnce(&mut Readers, &mut Context, &Log, &Profile) -> R,
    ) -> R {
        let before = self.readers.len();
        let result = f(&mut self.readers, cx, &self.log, &self.profile);
        if self.readers.len() < before {
            self.pause_or_resume(cx);
        }
        result
    }
}
