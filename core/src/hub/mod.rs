//! The hub: the whole protocol as one state machine without I/O.

mod agent_pool;
mod answers;
mod asked;
mod chat;
mod connection;
mod context;
mod default_chat;
mod frames;
mod grants;
mod io;
mod ownership;
mod rate;
mod refusals;

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use core::fmt;

pub use io::{ChatRef, Close, Deadline, DeadlineReason, Input, Offered, Output, Peer, Recipients};

use self::{
    chat::Chat,
    connection::Connection,
    context::{Context, DeferredAction},
    refusals::{Refusal, shutting_down},
};
use crate::{
    ids::{ChatKey, ConnId, Epoch},
    limits::Limits,
    time::Moment,
    wire::{AgentState, CloseCode, ErrorCode},
};

/// The state machine behind a gateway: connections, chats, turns, and how far each connection has read each chat.
///
/// # Driving the hub
///
/// The caller, called the shell, owns all sockets, agents, clocks and the journal. The hub has what to do as outputs:
///
/// ```text
///   +--> wait for an input; when next_deadline() has passed, the input is Tick
///   |        |
///   |        v
///   |    handle(now, input) <--------------------------------------------+
///   |        |                                                           |
///   |        v                                                           |
///   |    poll_output() --Some(output)--> carry it out, and poll again    |
///   |        |                                                           |
///   |      None                                                          |
///   |        |                                                           |
///   |        v                                                           |
///   |    has an outbox refused an event? --yes--> Input::OutboxFull -----+
///   |        |
///   +-------no
/// ```
///
/// 1. After each [`handle`](Self::handle), take the outputs until [`poll_output`](Self::poll_output) gives `None`, and
///    carry them out in this order. Nothing that an output causes is given to the hub meanwhile.
/// 2. Then report each event of an [`Output::Offer`] that an outbox refused with [`Input::OutboxFull`], before any
///    other input. It is the answer to an output, and the only one that cannot wait: the hub counts an offered event as
///    received, and has to know which readers lag before another input makes it offer the next event to them.
///    All other inputs may come in any order, as far as their own documentation does not say otherwise: the journal
///    answers a chat's appends in their order, and each append and each question once.
/// 3. Give the hub [`Input::Tick`] when [`next_deadline`](Self::next_deadline) has passed. Ask for the deadline anew
///    after each input. A late tick delays what is due; an early one does nothing.
/// 4. Ids that the shell makes are never used again: a [`ConnId`] after [`Input::Gone`], an agent's instance after
///    [`Input::AgentExited`].
/// 5. [`Output::Finished`] is the last output. Drop the hub then.
///
/// [`handle`](Self::handle) never fails: a peer's mistake becomes an output. The shell's own mistakes, such as a
/// connection id that is used twice, panic. The hub reads no clock and takes its randomness from its seed only, so that
/// the same inputs give the same outputs.
///
/// A shell with one thread, which takes its inputs from a channel. `examples/bare-core` carries out all outputs.
///
/// ```
/// use std::{
///     collections::VecDeque,
///     sync::mpsc::{Receiver, RecvTimeoutError, channel},
///     time::{Duration, Instant},
/// };
/// use switchboard_core::{Hub, Input, Limits, Moment, Output, Peer, ids::{ConnId, Principal}};
///
/// fn drive(
///     mut hub: Hub,
///     from_outside: &Receiver<Input>,
///     clock: impl Fn() -> Moment,
///     mut carry_out: impl FnMut(Output) -> Option<Input>,
/// ) {
///     let mut next = VecDeque::new();
///     loop {
///         let input = next.pop_front().unwrap_or_else(|| {
///             let due_ms = hub.next_deadline().map_or(u64::MAX, |deadline| deadline.at_ms);
///             let wait_ms = due_ms.saturating_sub(clock().ticks_ms).min(60_000);
///             match from_outside.recv_timeout(Duration::from_millis(wait_ms)) {
///                 Ok(input) => input,
///                 Err(RecvTimeoutError::Timeout) => Input::Tick,
///                 Err(RecvTimeoutError::Disconnected) => Input::Shutdown,
///             }
///         });
///         hub.handle(clock(), input);
///         while let Some(output) = hub.poll_output() {
///             if matches!(output, Output::Finished) {
///                 return;
///             }
///             match carry_out(output) {
///                 Some(refused @ Input::OutboxFull { .. }) => next.push_front(refused),
///                 input => next.extend(input),
///             }
///         }
///     }
/// }
///
/// let began = Instant::now();
/// let clock = || {
///     let ms = began.elapsed().as_millis() as u64;
///     Moment { ticks_ms: ms, boot_ms: ms, unix_ms: 1_790_000_000_000 }
/// };
/// let hub = Hub::new(Limits::default(), [7; 32], clock()); // in earnest, the seed is the system's entropy
/// let (to_hub, from_outside) = channel();
/// let peer = Peer { principal: Principal::owner(), client_id: Some("docs".into()) };
/// to_hub.send(Input::Opened { conn: ConnId(1), peer }).unwrap();
/// drop(to_hub); // there will be no other input
/// let mut received = Vec::new();
/// drive(hub, &from_outside, clock, |output| match output {
///     Output::Deliver { frame, .. } => {
///         received.push(frame.kind());
///         None
///     }
///     Output::HangUp { conn, .. } => Some(Input::Gone { conn }),
///     other => unreachable!("nobody asked for {other:?}"),
/// });
/// # use switchboard_core::wire::{ControlKind, FrameKind};
/// assert_eq!(received, [FrameKind::Control(ControlKind::Ready)]);
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
        let boot_ms = now.boot_ms.max(self.cx.now.boot_ms);
        self.cx.now = Moment { ticks_ms, boot_ms, unix_ms: now.unix_ms };
        if !matches!(input, Input::OutboxFull { .. }) {
            self.cx.inputs += 1;
        }
        self.give_up_ended_grants();
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
                    self.with_chat(chat, |chat, cx| chat.records(cx, instance, records, false));
                }
            }
            Input::AgentPieces { chat, instance, records } => {
                if let Some(chat) = self.by_key.get(&chat).copied() {
                    self.with_chat(chat, |chat, cx| chat.records(cx, instance, records, true));
                }
            }
            Input::CaughtUp { chat, instance, complete } => {
                if let Some(chat) = self.by_key.get(&chat).copied() {
                    self.with_chat(chat, |chat, cx| chat.caught_up(cx, instance, complete));
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
            Input::Owned { chat, grant } => self.owned(chat, grant),
            Input::Lost { chat } => self.lost(&chat),
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
        let deadlines = self.cx.next_deadline().into_iter().chain(self.cx.grants.next_end(self.cx.now));
        deadlines.chain(shutdown).min_by_key(|deadline| deadline.at_ms)
    }

    /// The limits that this hub enforces.
    pub fn limits(&self) -> &Limits {
        &self.cx.limits
    }

    /// How many connections, chats in memory, agent slots in use and chats in recovery there are.
    pub fn counts(&self) -> Counts {
        let (connections, chats) = (self.cx.conns.len(), self.chats.len());
        Counts { connections, chats, agents: self.cx.agents.in_use(), recoveries: self.cx.agents.expected() }
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
        if let Some(state) = self.cx.conns.get_mut(&conn) {
            state.drained();
            self.feed(conn);
        }
    }

    /// Shares half an outbox among the chats that the connection lags in. A different chat comes first each time.
    fn feed(&mut self, conn: ConnId) {
        self.cx.fetch_page(conn);
        let chats = self.cx.conns.get(&conn).map(Connection::chats_to_feed).unwrap_or_default();
        let mut room = self.cx.limits.outbox_bytes / 2;
        for chat in chats {
            if room == 0 {
                self.cx.watch_drain(conn);
                return;
            }
            if let Some(state) = self.cx.conns.get_mut(&conn) {
                state.fed(chat);
            }
            if let Some(chat) = self.chats.get_mut(&chat) {
                room = chat.feed(&mut self.cx, conn, room);
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

    /// Gives free slots to the chats that have waited longest, and stops idle agents to free slots for the others.
    fn serve_waiting_chats(&mut self) {
        if self.cx.leaving {
            return;
        }
        while let Some(next) = self.cx.agents.next_to_serve(self.cx.limits.agents) {
            self.with_chat(next, Chat::slot_offered);
        }
        while let Some(idle) = self.cx.agents.next_to_stop(self.cx.limits.agents) {
            self.with_chat(idle, |chat, cx| chat.stop_idle_agent(cx));
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

    /// Unloads a chat from memory, and releases it.
    fn forget(&mut self, reference: ChatRef) {
        let Some(mut chat) = self.chats.remove(&reference) else { return };
        self.by_key.remove(chat.key());
        if let Some(since) = self.unused_since.remove(&reference) {
            self.unused.remove(&(since, reference));
        }
        chat.release(&mut self.cx);
        if let Some(timer) = chat.timer() {
            self.cx.stop_timer(timer, reference);
        }
    }

    fn shut_down(&mut self, leave: bool) {
        if self.cx.shutting_down {
            return;
        }
        self.cx.shutting_down = true;
        self.cx.leaving = leave;
        self.hang_up_at_ms = Some(self.cx.now.ticks_ms + self.cx.limits.shutdown_ms);
        for chat in self.chats.values_mut() {
            chat.flush(&mut self.cx);
            if !leave {
                chat.shut_down(&mut self.cx);
            }
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
            for chat in self.chats.values_mut() {
                chat.release(&mut self.cx);
            }
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
    /// Chats of [`Input::Recover`] that the journal has neither granted nor read yet. A shell that has many chats to
    /// recover gives the hub the next one when this is small.
    pub recoveries: usize,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("counts", &self.counts()).finish_non_exhaustive()
    }
}
