//! The hub: the whole protocol as one state machine without I/O.

mod agent_pool;
mod chat;
mod connection;
mod context;
mod default_chat;
mod io;
mod rate;

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use core::fmt;

pub use io::{ChatRef, Close, Deadline, DeadlineReason, Input, Offered, Output, Peer, Recipients};

use self::{
    chat::{Chat, SnapshotRequest},
    connection::shutting_down,
    context::{Asked, Context, DeferredAction, Refusal},
};
use crate::{
    ids::{ChatId, ChatKey, ConnId, Epoch},
    journal::{AskId, Found, HistoryPage, JournalAnswer},
    limits::Limits,
    time::Moment,
    wire::{AgentState, CloseCode, ControlEvent, ErrorCode, Frame},
};

/// The state machine behind a gateway: connections, chats, turns, and how far each connection has read each chat.
///
/// Drive the hub like this: give it each [`Input`] with [`handle`](Self::handle), then carry out all outputs of
/// [`poll_output`](Self::poll_output) before the next input, except that an outbox that refuses an
/// [`Output::Offer`] is reported with [`Input::OutboxFull`] at once. Give it [`Input::Tick`] when
/// [`next_deadline`](Self::next_deadline) has passed. The hub reads no clock and takes its randomness from its seed
/// only: the same inputs give the same outputs.
///
/// ```
/// use switchboard_core::{Hub, Input, Limits, Moment, Output, Peer, ids::{ConnId, Principal}};
///
/// let mut now = Moment { ticks_ms: 0, unix_ms: 1_700_000_000_000 };
/// let mut hub = Hub::new(Limits::default(), [7; 32], now);
/// let peer = Peer { principal: Principal::owner(), client_id: Some("docs".into()) };
/// hub.handle(now, Input::Opened { conn: ConnId(1), peer });
/// while let Some(output) = hub.poll_output() {
///     match output {
///         Output::Deliver { conn, frame } => println!("to {conn}: {}", frame.as_str()),
///         other => println!("to be done: {other:?}"),
///     }
/// }
/// if let Some(deadline) = hub.next_deadline() {
///     now.ticks_ms = deadline.at_ms;
///     hub.handle(now, Input::Tick);
/// }
/// ```
pub struct Hub {
    cx: Context,
    chats: BTreeMap<ChatRef, Chat>,
    by_key: BTreeMap<ChatKey, ChatRef>,
    /// Idle chats in memory by the number of their last use, least recently used first.
    unused: BTreeSet<(u64, ChatRef)>,
    unused_since: BTreeMap<ChatRef, u64>,
    last_chat: u64,
    uses: u64,
    /// After a shutdown began: when to close the connections, whatever is unfinished.
    hang_up_at_ms: Option<u64>,
    finished: bool,
}

impl Hub {
    /// Creates a hub without connections or chats. The seed must come from the system's entropy: the hub derives chat
    /// ids from it, and chat ids must not be guessable.
    pub fn new(limits: Limits, seed: [u8; 32], now: Moment) -> Self {
        Self {
            cx: Context::new(limits, seed, now),
            chats: BTreeMap::new(),
            by_key: BTreeMap::new(),
            unused: BTreeSet::new(),
            unused_since: BTreeMap::new(),
            last_chat: 0,
            uses: 0,
            hang_up_at_ms: None,
            finished: false,
        }
    }

    /// Sets the description of the agents that clients get in `ready` and, for each chat that they attach to, in
    /// `agent_state`.
    #[must_use]
    pub fn with_agent(mut self, agent: Option<AgentState>) -> Self {
        self.cx.agent = agent;
        self
    }

    /// Processes one input. Never fails: a peer's mistake becomes an output.
    pub fn handle(&mut self, now: Moment, input: Input) {
        // The hub's clock never goes back, even if the caller's does.
        let ticks_ms = now.ticks_ms.max(self.cx.now.ticks_ms);
        self.cx.now = Moment { ticks_ms, unix_ms: now.unix_ms };
        if !matches!(input, Input::OutboxFull { .. }) {
            self.cx.inputs += 1;
        }
        match input {
            Input::Opened { conn, peer } => self.opened(conn, peer),
            Input::Envelope { conn, envelope } => self.envelope(conn, envelope),
            Input::Malformed { conn, error } => self.malformed(conn, error),
            Input::OutboxFull { conn, chat, first_seq } => {
                self.with_chat(chat, |chat, cx| chat.outbox_full(cx, conn, first_seq));
            }
            Input::OutboxDrained { conn } => self.drained(conn),
            Input::ReaderStalled { conn } => {
                let refusal = Refusal::new(
                    ErrorCode::TooSlow,
                    "nothing was read for too long; connect again and resume with your cursor",
                );
                self.cx.hang_up(conn, CloseCode::TooSlow, refusal);
            }
            Input::Gone { conn } => self.gone(conn),
            Input::AgentRecords { chat, instance, records } => {
                if let Some(chat) = self.by_key.get(&chat).copied() {
                    self.with_chat(chat, |chat, cx| chat.records(cx, instance, records));
                }
            }
            Input::AgentExited { chat, instance, exit } => {
                if let Some(chat) = self.by_key.get(&chat).copied() {
                    self.with_chat(chat, |chat, cx| chat.agent_exited(cx, instance, exit));
                }
            }
            Input::Recover { chat } => {
                let known = self.by_key.get(&chat).copied();
                let chat = known.unwrap_or_else(|| self.load(chat, None));
                self.with_chat(chat, Chat::expect_agent);
            }
            Input::Journal(answer) => self.journal(answer),
            Input::Degraded { why } => self.degraded(why),
            Input::Tick => {}
            Input::Shutdown => self.shut_down(false),
            Input::Leave => self.shut_down(true),
        }
        self.fire_timers();
        self.run_deferred();
        self.finish_shutdown();
    }

    /// The next side effect for the shell, or `None` when there is none until the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.cx.poll()
    }

    /// When to give the hub [`Input::Tick`] if no other input comes before. `None`: no deadline is set.
    pub fn next_deadline(&self) -> Option<Deadline> {
        let shutdown = self.hang_up_at_ms.filter(|_| !self.finished).map(|at_ms| {
            let over = at_ms <= self.cx.now.ticks_ms;
            let at_ms = if over { at_ms + self.cx.limits.reader_stall_ms } else { at_ms };
            Deadline { at_ms, why: DeadlineReason::Shutdown }
        });
        self.cx.next_deadline().into_iter().chain(shutdown).min_by_key(|deadline| deadline.at_ms)
    }

    /// The limits that this hub enforces.
    pub fn limits(&self) -> &Limits {
        &self.cx.limits
    }

    /// How many connections, chats in memory and agent slots in use there are.
    pub fn counts(&self) -> Counts {
        Counts { connections: self.cx.conns.len(), chats: self.chats.len(), agents: self.cx.agents.in_use() }
    }

    fn with_chat(&mut self, chat: ChatRef, f: impl FnOnce(&mut Chat, &mut Context)) {
        if let Some(chat) = self.chats.get_mut(&chat) {
            f(chat, &mut self.cx);
        }
    }

    /// Adds a chat that does not exist yet, as far as the hub knows.
    fn add_chat(&mut self, key: ChatKey, epoch: Epoch) -> ChatRef {
        self.last_chat += 1;
        let reference = ChatRef(self.last_chat);
        self.by_key.insert(key.clone(), reference);
        self.chats.insert(reference, Chat::new(key, reference, epoch));
        reference
    }

    fn load(&mut self, key: ChatKey, reserved: Option<Epoch>) -> ChatRef {
        let epoch = reserved.unwrap_or_else(|| self.cx.new_epoch());
        let reference = self.add_chat(key, epoch);
        self.with_chat(reference, Chat::load);
        reference
    }

    fn drained(&mut self, conn: ConnId) {
        let Some(state) = self.cx.conns.get_mut(&conn) else { return };
        state.watching = false;
        self.feed(conn);
    }

    /// Shares half an outbox among the chats that the connection lags in. A different chat comes first each time.
    fn feed(&mut self, conn: ConnId) {
        self.cx.fetch_page(conn);
        let Some(state) = self.cx.conns.get(&conn) else { return };
        let (before, after): (Vec<ChatRef>, Vec<ChatRef>) =
            state.chats.iter().partition(|chat| state.fed.is_some_and(|fed| **chat <= fed));
        let mut room = self.cx.limits.outbox_bytes / 2;
        for chat in after.into_iter().chain(before) {
            if room == 0 {
                self.cx.watch_drain(conn);
                return;
            }
            if let Some(state) = self.cx.conns.get_mut(&conn) {
                state.fed = Some(chat);
            }
            if let Some(chat) = self.chats.get_mut(&chat) {
                room = chat.feed(&mut self.cx, conn, room);
            }
        }
    }

    fn journal(&mut self, answer: JournalAnswer) {
        match answer {
            JournalAnswer::Appended(id) => self.appended(id),
            JournalAnswer::Refused(id) => {
                if let Some(chat) = self.cx.appends.remove(&id) {
                    self.with_chat(chat, |chat, cx| chat.refused(cx));
                }
            }
            JournalAnswer::Found(id, found) => {
                if let Some(asked) = self.cx.asked.remove(&id) {
                    self.found(asked, found);
                }
            }
            JournalAnswer::Failed(id) => self.failed(id, chat::unreadable()),
            JournalAnswer::Damaged(id) => self.failed(id, chat::damaged()),
        }
    }

    fn appended(&mut self, id: crate::journal::AppendId) {
        if let Some(chat) = self.cx.appends.remove(&id) {
            self.with_chat(chat, |chat, cx| chat.committed(cx, id));
        }
    }

    fn found(&mut self, asked: Asked, found: Found) {
        match (asked, found) {
            (Asked::Load(chat), Found::Chat(record)) => {
                self.with_chat(chat, |chat, cx| chat.loaded(cx, record));
            }
            (Asked::Resync(chat), Found::Chat(record)) => {
                self.with_chat(chat, |chat, cx| chat.resync(cx, record));
            }
            (Asked::Load(chat), Found::Deleted) => self.with_chat(chat, Chat::found_deleted),
            (Asked::Resync(chat), Found::Deleted) => self.with_chat(chat, Chat::resync_deleted),
            (Asked::Turn(chat), Found::Turn(record)) => {
                self.with_chat(chat, |chat, cx| chat.turn_found(cx, Ok(record)));
            }
            (Asked::Page { chat, next, numbering }, Found::After(page)) => {
                self.with_chat(chat, |chat, cx| chat.page_found(cx, (next, numbering), Ok(page.as_deref())));
            }
            (Asked::Snapshot(request), Found::Before(page)) => {
                self.snapshot_found(request, page.ok_or_else(chat::unreadable));
            }
            (Asked::History { conn, chat_id }, Found::Before(page)) => {
                self.history_found(conn, chat_id, page);
            }
            (Asked::Chats { conn }, Found::Chats(page)) => self.chats_found(conn, page),
            // The journal answers another question. What asked cannot tell that from an answer that does not come.
            (asked, _) => self.not_found(asked, chat::unreadable()),
        }
    }

    fn failed(&mut self, id: AskId, refusal: Refusal) {
        if let Some(asked) = self.cx.asked.remove(&id) {
            self.not_found(asked, refusal);
        }
    }

    /// The journal could not answer a question: the requests that need the answer get this refusal.
    fn not_found(&mut self, asked: Asked, refusal: Refusal) {
        match asked {
            Asked::Load(chat) => self.with_chat(chat, |chat, cx| chat.load_failed(cx, &refusal)),
            Asked::Resync(chat) => self.with_chat(chat, |chat, cx| chat.resync_failed(cx, &refusal)),
            Asked::Turn(chat) => self.with_chat(chat, |chat, cx| chat.turn_found(cx, Err(refusal))),
            Asked::Page { chat, next, numbering } => {
                self.with_chat(chat, |chat, cx| chat.page_found(cx, (next, numbering), Err(&refusal)));
            }
            Asked::Snapshot(request) => self.snapshot_found(request, Err(refusal)),
            Asked::History { conn, chat_id } => {
                self.cx.refuse(conn, refusal.chat(&chat_id));
                self.cx.fetched(conn);
            }
            Asked::Chats { conn } => {
                self.cx.refuse(conn, refusal);
                self.cx.fetched(conn);
            }
        }
    }

    fn fire_timers(&mut self) {
        while let Some(chat) = self.cx.next_due() {
            self.with_chat(chat, Chat::timer_fired);
        }
    }

    fn run_deferred(&mut self) {
        while let Some(action) = self.cx.next_deferred() {
            match action {
                DeferredAction::ServeWaitingChats => self.serve_waiting_chats(),
                DeferredAction::Settle(chat) => self.settle(chat),
            }
        }
    }

    fn snapshot_found(&mut self, request: SnapshotRequest, page: Result<HistoryPage, Refusal>) {
        let conn = request.conn();
        let chat = self.chats.get_mut(&request.chat());
        let more = chat.is_some_and(|chat| chat.snapshot_found(&mut self.cx, request, page));
        // A snapshot in several parts reports `fetched` with its last part.
        if !more {
            self.cx.fetched(conn);
        }
    }

    fn history_found(&mut self, conn: ConnId, chat_id: ChatId, page: Option<HistoryPage>) {
        if let Some(page) = page {
            let events = page.events.iter().map(Frame::to_raw).collect();
            self.cx.deliver(conn, &ControlEvent::History { chat_id, events, before: page.before });
        } else {
            let refusal = Refusal::new(ErrorCode::InvalidField, "before is no cursor of this chat");
            self.cx.refuse(conn, refusal.chat(&chat_id));
        }
        self.cx.fetched(conn);
    }

    /// Gives free slots to the chats that have waited longest, and stops idle agents to free slots for the others.
    fn serve_waiting_chats(&mut self) {
        if self.cx.leaving {
            return;
        }
        while let Some(next) = self.cx.agents.next_to_serve(self.cx.limits.agents) {
            self.with_chat(next, Chat::slot_offered);
        }
        while let Some(idle) = self.cx.agents.next_to_stop(self.cx.limits.agents) {
            self.with_chat(idle, |chat, cx| chat.stop_agent(cx, false));
        }
    }

    /// Puts an idle chat into the cache of idle chats, and unloads the least recently used one if the cache is full.
    fn settle(&mut self, reference: ChatRef) {
        if let Some(since) = self.unused_since.remove(&reference) {
            self.unused.remove(&(since, reference));
        }
        let Some(chat) = self.chats.get(&reference) else { return };
        if !chat.is_idle() {
            return;
        }
        if chat.is_gone() {
            self.forget(reference);
            return;
        }
        self.uses += 1;
        self.unused.insert((self.uses, reference));
        self.unused_since.insert(reference, self.uses);
        if self.unused.len() > self.cx.limits.idle_chats
            && let Some((_, oldest)) = self.unused.pop_first()
        {
            self.unused_since.remove(&oldest);
            self.forget(oldest);
        }
    }

    fn forget(&mut self, reference: ChatRef) {
        if let Some(chat) = self.chats.remove(&reference) {
            self.by_key.remove(chat.key());
            if let Some(timer) = chat.timer() {
                self.cx.stop_timer(timer, reference);
            }
        }
    }

    fn shut_down(&mut self, leave: bool) {
        if self.cx.shutting_down {
            return;
        }
        self.cx.shutting_down = true;
        self.cx.leaving = leave;
        self.hang_up_at_ms = Some(self.cx.now.ticks_ms + self.cx.limits.shutdown_ms);
        if leave {
            return;
        }
        for chat in self.chats.values_mut() {
            chat.shut_down(&mut self.cx);
        }
    }

    /// Closes the connections once the journal has the end of every turn and every agent is gone, then gives
    /// [`Output::Finished`]. A journal, an agent or a transport that never answers delays this by a limited time.
    fn finish_shutdown(&mut self) {
        let Some(hang_up_at_ms) = self.hang_up_at_ms.filter(|_| !self.finished) else { return };
        let now_ms = self.cx.now.ticks_ms;
        let settled = if self.cx.leaving {
            self.chats.values().all(Chat::is_committed)
        } else {
            self.cx.agents.in_use() == 0 && self.chats.values().all(Chat::is_settled)
        };
        if !settled && now_ms < hang_up_at_ms {
            return;
        }
        let conns: Vec<ConnId> = self.cx.conns.keys().copied().collect();
        for conn in conns {
            self.cx.hang_up(conn, CloseCode::ServiceRestart, shutting_down());
        }
        if self.cx.conns.is_empty() || now_ms >= hang_up_at_ms + self.cx.limits.reader_stall_ms {
            self.finished = true;
            self.cx.output(Output::Finished);
        }
    }
}

/// Sizes of the hub's state, from [`Hub::counts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Open connections.
    pub connections: usize,
    /// Chats in memory.
    pub chats: usize,
    /// Agent slots in use: agents that are reserved, alive or stopping.
    pub agents: usize,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("counts", &self.counts()).finish_non_exhaustive()
    }
}
