//! The state that all chats share: limits, the clock, outputs, connections, quotas and the agent pool.

use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    format,
    string::String,
    vec::Vec,
};
use core::fmt::Write as _;

use rand_chacha::{
    ChaCha12Rng,
    rand_core::{Rng as _, SeedableRng as _},
};

use super::{
    agent_pool::AgentPool,
    asked::Asked,
    connection::Connection,
    default_chat,
    grants::Grants,
    io::{ChatRef, Close, Deadline, DeadlineReason, Offered, Output, Recipients},
    rate::Bucket,
    refusals::Refusal,
};
use crate::{
    agent::AgentInstanceId,
    ids::{ChatId, ConnId, Epoch, Principal, TurnId},
    journal::{AppendId, Ask, AskId, Query},
    limits::Limits,
    time::Moment,
    wire::{AgentState, CloseCode, ControlEvent, ErrorCode, Frame, encode_control},
};

/// Capacity that the queue of outputs retains. A burst's capacity beyond it is freed.
const KEPT_OUTPUTS: usize = 1024;

pub(super) struct Context {
    pub(super) limits: Limits,
    /// The description of the agents, for `ready` and `agent_state`.
    pub(super) agent: Option<AgentState>,
    pub(super) now: Moment,
    rng: ChaCha12Rng,
    outputs: VecDeque<Output>,
    pub(super) conns: BTreeMap<ConnId, Connection>,
    pub(super) quotas: BTreeMap<Principal, Quota>,
    /// The connections that have asked for a list of chats, by principal. They get the changes of all chats of the
    /// principal.
    pub(super) lists: BTreeMap<Principal, BTreeSet<ConnId>>,
    asked: BTreeMap<AskId, Asked>,
    /// The notice for new connections while messages cannot be stored.
    pub(super) degraded: Option<Frame>,
    appends: BTreeMap<AppendId, ChatRef>,
    /// The timers of the chats, by their times in milliseconds.
    timers: BTreeMap<(u64, ChatRef), DeadlineReason>,
    pub(super) agents: AgentPool,
    pub(super) grants: Grants,
    /// Actions to carry out after the present input, when no chat is borrowed.
    deferred: VecDeque<DeferredAction>,
    pub(super) shutting_down: bool,
    /// This gateway process stops and leaves turns and agents to the next process.
    pub(super) leaving: bool,
    /// Counts inputs. [`Input::OutboxFull`](super::Input::OutboxFull) does not count: it belongs to the input before.
    pub(super) inputs: u64,
    last_append: u64,
    last_ask: u64,
    last_instance: u64,
    last_subscription: u64,
}

/// The use of rate limits and connections by one principal.
#[derive(Debug, Default)]
pub(super) struct Quota {
    pub(super) connections: usize,
    pub(super) messages: Bucket,
    pub(super) new_chats: Bucket,
}

/// An action that a chat defers, because it concerns other chats or unloads the chat itself.
#[derive(Debug, Clone, Copy)]
pub(super) enum DeferredAction {
    /// Give free agent slots to waiting chats, or stop idle agents.
    ServeWaitingChats,
    /// Unload this chat, or mark it as idle, if it is not needed.
    Settle(ChatRef),
}

impl Context {
    pub(super) fn new(limits: Limits, seed: [u8; 32], now: Moment) -> Self {
        let mut rng = ChaCha12Rng::from_seed(seed);
        // Instance ids should differ between gateway processes, so the first one is random.
        let last_instance = u64::from(rng.next_u32());
        Self {
            limits,
            agent: None,
            now,
            rng,
            outputs: VecDeque::new(),
            conns: BTreeMap::new(),
            quotas: BTreeMap::new(),
            lists: BTreeMap::new(),
            asked: BTreeMap::new(),
            degraded: None,
            appends: BTreeMap::new(),
            timers: BTreeMap::new(),
            agents: AgentPool::default(),
            grants: Grants::default(),
            deferred: VecDeque::new(),
            shutting_down: false,
            leaving: false,
            inputs: 0,
            last_append: 0,
            last_ask: 0,
            last_instance,
            last_subscription: 0,
        }
    }

    /// Defers an action until the present input is handled.
    pub(super) fn defer(&mut self, action: DeferredAction) {
        self.deferred.push_back(action);
    }

    pub(super) fn next_deferred(&mut self) -> Option<DeferredAction> {
        self.deferred.pop_front()
    }

    pub(super) fn set_timer(&mut self, deadline: Deadline, chat: ChatRef) {
        self.timers.insert((deadline.at_ms, chat), deadline.why);
    }

    pub(super) fn stop_timer(&mut self, deadline: Deadline, chat: ChatRef) {
        self.timers.remove(&(deadline.at_ms, chat));
    }

    /// The earliest deadline of a chat.
    pub(super) fn next_deadline(&self) -> Option<Deadline> {
        self.timers.first_key_value().map(|((at_ms, _), why)| Deadline { at_ms: *at_ms, why: *why })
    }

    /// Takes out the chat with the earliest timer, if that is due.
    pub(super) fn next_due(&mut self) -> Option<ChatRef> {
        let timer = self.timers.first_entry().filter(|timer| timer.key().0 <= self.now.ticks_ms)?;
        Some(timer.remove_entry().0.1)
    }

    pub(super) fn output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(super) fn poll(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        if output.is_none() && self.outputs.capacity() > KEPT_OUTPUTS {
            self.outputs = VecDeque::new();
        }
        output
    }

    pub(super) fn deliver(&mut self, conn: ConnId, event: &ControlEvent) {
        if self.conns.contains_key(&conn) {
            self.deliver_frame(conn, encode_control(event));
        }
    }

    pub(super) fn deliver_frame(&mut self, conn: ConnId, frame: Frame) {
        if self.conns.get(&conn).is_some_and(|conn| !conn.is_closing()) {
            self.output(Output::Deliver { conn, frame });
        }
    }

    /// Offers an event. Consecutive events for the same recipients become one output.
    pub(super) fn offer(&mut self, chat: ChatRef, first_seq: u64, frame: Frame, to: Recipients) {
        let offered = Offered { first_seq, frame };
        match self.outputs.back_mut() {
            Some(Output::Offer { chat: same, events, to: likewise }) if *same == chat && likewise.is(&to) => {
                events.push(offered);
            }
            _ => self.output(Output::Offer { chat, events: alloc::vec![offered], to }),
        }
    }

    pub(super) fn refuse(&mut self, conn: ConnId, refusal: Refusal) {
        self.deliver(conn, &ControlEvent::Error(refusal.event()));
    }

    pub(super) fn hang_up(&mut self, conn: ConnId, code: CloseCode, refusal: Refusal) {
        if !self.conns.get_mut(&conn).is_some_and(Connection::close) {
            return;
        }
        let mut event = refusal.event();
        event.close = Some(code.number());
        let reason = event.detail.clone();
        let frame = encode_control(&ControlEvent::Error(event));
        // The outbox of a connection to a stopping gateway has the turns' ends.
        let drain = code == CloseCode::ServiceRestart;
        self.output(Output::HangUp { conn, close: Close { code, frame, reason, drain } });
    }

    /// The chat no longer counts among the connection's chats before the connection is attached to it.
    pub(super) fn stop_expecting(&mut self, chat: ChatRef, conn: ConnId) {
        if let Some(conn) = self.conns.get_mut(&conn) {
            conn.stop_expecting(chat);
        }
    }

    /// Asks the shell to report when the connection's outbox is at most half full.
    pub(super) fn watch_drain(&mut self, conn: ConnId) {
        if self.conns.get_mut(&conn).is_some_and(Connection::watch) {
            self.output(Output::WatchDrain { conn });
        }
    }

    pub(super) fn ask(&mut self, query: Query, asked: Asked) {
        self.last_ask += 1;
        let id = AskId(self.last_ask);
        self.asked.insert(id, asked);
        self.output(Output::Ask(Ask { id, query }));
    }

    /// Queues a page for this connection. The journal is asked for it once the connection's earlier pages are sent.
    ///
    /// # Errors
    /// If the connection has too many outstanding pages.
    pub(super) fn ask_page(&mut self, conn: ConnId, query: Query, asked: Asked) -> Result<(), Refusal> {
        let Some(state) = self.conns.get_mut(&conn) else { return Ok(()) };
        if !state.queue_page(query, asked) {
            return Err(Refusal::new(
                ErrorCode::Unavailable,
                "too many pages were asked for that have not gone out; read them first",
            ));
        }
        self.watch_drain(conn);
        Ok(())
    }

    /// Asks the journal for the connection's next page, unless a page or a snapshot is already being fetched.
    pub(super) fn fetch_page(&mut self, conn: ConnId) {
        if let Some((query, asked)) = self.conns.get_mut(&conn).and_then(Connection::next_page) {
            self.ask(query, asked);
        }
    }

    /// A page or a snapshot was sent or given up: the next one may follow once the outbox has drained.
    pub(super) fn fetched(&mut self, conn: ConnId) {
        if let Some(state) = self.conns.get_mut(&conn) {
            state.set_fetching(false);
            self.watch_drain(conn);
        }
    }

    /// Makes the id of an append. Its answer goes to this chat.
    pub(super) fn next_append(&mut self, chat: ChatRef) -> AppendId {
        self.last_append += 1;
        let id = AppendId(self.last_append);
        self.appends.insert(id, chat);
        id
    }

    /// Takes out the chat of an append that is answered now.
    pub(super) fn take_append(&mut self, id: AppendId) -> Option<ChatRef> {
        self.appends.remove(&id)
    }

    /// Takes out for what a question that is answered now was asked.
    pub(super) fn take_asked(&mut self, id: AskId) -> Option<Asked> {
        self.asked.remove(&id)
    }

    pub(super) fn next_instance(&mut self) -> AgentInstanceId {
        self.last_instance += 1;
        AgentInstanceId(self.last_instance)
    }

    pub(super) fn next_subscription(&mut self) -> u64 {
        self.last_subscription += 1;
        self.last_subscription
    }

    fn random_hex(&mut self, bytes: usize) -> String {
        let mut raw: Vec<u8> = alloc::vec![0; bytes];
        self.rng.fill_bytes(&mut raw);
        let mut text = String::with_capacity(bytes * 2);
        for byte in raw {
            write!(text, "{byte:02x}").expect("a String takes any text");
        }
        text
    }

    /// Makes a chat id of 128 random bits, so that it cannot be guessed.
    pub(super) fn new_chat_id(&mut self) -> ChatId {
        ChatId::parse(&self.random_hex(16)).expect("hex is a chat id")
    }

    /// Makes an id that can be recognised as that of a default chat of this principal.
    pub(super) fn new_default_chat_id(&mut self, principal: &Principal) -> ChatId {
        let random = self.random_hex(default_chat::RANDOM_BYTES);
        default_chat::id(principal, random)
    }

    pub(super) fn new_turn_id(&mut self) -> TurnId {
        TurnId::parse(&self.random_hex(16)).expect("hex is a turn id")
    }

    pub(super) fn new_epoch(&mut self) -> Epoch {
        Epoch::parse(&self.random_hex(6)).expect("hex is an epoch")
    }

    pub(super) fn anonymous_client_id(&mut self) -> String {
        format!("anon-{}", self.random_hex(6))
    }

    /// Counts a message for the principal's rate limit and, if it creates a chat, also for that of new chats: both or
    /// none.
    ///
    /// # Errors
    /// If the principal is over one of the limits.
    pub(super) fn take_message(&mut self, principal: &Principal, makes_chat: bool) -> Result<(), Refusal> {
        let messages = self.quotas.entry(principal.clone()).or_default().messages;
        self.take_write(principal, "messages a minute")?;
        let taken = if makes_chat { self.take_new_chat(principal) } else { Ok(()) };
        if taken.is_err() {
            self.quotas.entry(principal.clone()).or_default().messages = messages;
        }
        taken
    }

    /// Counts a write, such as a message or a title, for the principal's rate limit of messages. `of` names the limit
    /// in the error.
    ///
    /// # Errors
    /// If the principal is over the limit.
    pub(super) fn take_write(&mut self, principal: &Principal, of: &str) -> Result<(), Refusal> {
        let Some(count) = self.limits.messages_per_minute else { return Ok(()) };
        let quota = self.quotas.entry(principal.clone()).or_default();
        quota
            .messages
            .take(self.now.ticks_ms, count, 60_000, count)
            .map_err(|wait| Refusal::rate(wait, count, of))
    }

    /// Counts a new chat for the principal's rate limit of new chats.
    ///
    /// # Errors
    /// If the principal is over the limit.
    pub(super) fn take_new_chat(&mut self, principal: &Principal) -> Result<(), Refusal> {
        let Some(count) = self.limits.new_chats_per_minute else { return Ok(()) };
        let quota = self.quotas.entry(principal.clone()).or_default();
        quota
            .new_chats
            .take(self.now.ticks_ms, count, 60_000, count)
            .map_err(|wait| Refusal::rate(wait, count, "new chats a minute"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_burst_of_outputs_is_freed() {
        let mut cx = Context::new(Limits::default(), [7; 32], Moment { ticks_ms: 0, boot_ms: 0, unix_ms: 0 });
        for conn in 0..10_000 {
            cx.output(Output::WatchDrain { conn: ConnId(conn) });
        }
        assert!(cx.outputs.capacity() >= 10_000);
        while cx.poll().is_some() {}
        assert!(cx.outputs.capacity() <= KEPT_OUTPUTS, "{}", cx.outputs.capacity());
    }
}
