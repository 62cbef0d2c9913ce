//! What every chat works with: limits, the moment, outputs, connections, quotas and the agents' places.

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
    connection::Conn,
    default_chat,
    io::{ChatRef, Close, Offered, Output, Recipients},
    join::SnapshotRequest,
    rate::Bucket,
    slot::AgentPool,
};
use crate::{
    agent::AgentInstanceId,
    ids::{ChatId, ConnId, Epoch, Principal, TurnId},
    journal::{AppendId, Ask, AskId, Query},
    limits::Limits,
    time::Moment,
    wire::{AgentState, ControlEvent, ErrorCode, ErrorEvent, Frame, encode_control},
};

/// The close code of a stopping gateway: its last events, such as how turns ended, still go out.
const RESTART: u16 = 1012;

/// Outputs for which room is kept: what a burst took beyond it is given back.
const KEPT_OUTPUTS: usize = 1024;
/// Pages of history and of chats that one connection may have asked for at once.
const PAGES: usize = 64;

pub(super) struct Context {
    pub(super) limits: Limits,
    /// What `ready` says of the agents, and `agent_state` of the one of each chat.
    pub(super) agent: Option<AgentState>,
    pub(super) now: Moment,
    rng: ChaCha12Rng,
    outputs: VecDeque<Output>,
    pub(super) conns: BTreeMap<ConnId, Conn>,
    pub(super) quotas: BTreeMap<Principal, Quota>,
    /// The connections that have asked for a list of chats: they hear of changes to any chat of theirs.
    pub(super) lists: BTreeMap<Principal, BTreeSet<ConnId>>,
    pub(super) asked: BTreeMap<AskId, Asked>,
    /// The notice for those who connect while nothing can be kept.
    pub(super) degraded: Option<Frame>,
    pub(super) appends: BTreeMap<AppendId, ChatRef>,
    pub(super) timers: BTreeSet<(u64, ChatRef)>,
    pub(super) agents: AgentPool,
    /// What other chats are to do, once the present one is done.
    pub(super) deferred: VecDeque<DeferredAction>,
    pub(super) shutting_down: bool,
    /// Turns and agents are left to the next gateway: what they still do is its business.
    pub(super) leaving: bool,
    /// Counts inputs, apart from refusals of outboxes: those belong to the input before.
    pub(super) inputs: u64,
    last_append: u64,
    last_ask: u64,
    last_instance: u64,
    last_subscription: u64,
}

/// What one principal has used.
#[derive(Debug, Default)]
pub(super) struct Quota {
    pub(super) connections: usize,
    pub(super) messages: Bucket,
    pub(super) new_chats: Bucket,
}

/// What to do with an answer of the journal.
#[derive(Debug)]
pub(super) enum Asked {
    /// Go on with the chat.
    Load(ChatRef),
    /// Take up appending again.
    Resync(ChatRef),
    /// Decide about the message at the front of the chat's intake.
    Turn(ChatRef),
    /// Feed the readers that stand there, if the numbers are still the same ones.
    Page { chat: ChatRef, next: u64, numbering: u64 },
    /// Send the snapshot.
    Snapshot(SnapshotRequest),
    /// Answer `history`.
    History { conn: ConnId, chat_id: ChatId },
    /// Answer `list_chats`.
    Chats { conn: ConnId },
}

/// Work that one chat leaves to another.
#[derive(Debug, Clone, Copy)]
pub(super) enum DeferredAction {
    /// A place for an agent may be free, or may have to be made.
    ServeWaitingChats,
    /// See whether this chat is still needed in memory.
    Settle(ChatRef),
}

impl Context {
    pub(super) fn new(limits: Limits, seed: [u8; 32], now: Moment) -> Self {
        Self {
            limits,
            agent: None,
            now,
            rng: ChaCha12Rng::from_seed(seed),
            outputs: VecDeque::new(),
            conns: BTreeMap::new(),
            quotas: BTreeMap::new(),
            lists: BTreeMap::new(),
            asked: BTreeMap::new(),
            degraded: None,
            appends: BTreeMap::new(),
            timers: BTreeSet::new(),
            agents: AgentPool::default(),
            deferred: VecDeque::new(),
            shutting_down: false,
            leaving: false,
            inputs: 0,
            last_append: 0,
            last_ask: 0,
            // Runs must differ between lives of the gateway, so they begin at a random place.
            last_instance: 0,
            last_subscription: 0,
        }
        .with_random_instance()
    }

    fn with_random_instance(mut self) -> Self {
        self.last_instance = u64::from(self.rng.next_u32());
        self
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
        if self.conns.get(&conn).is_some_and(|c| !c.closing) {
            self.output(Output::Deliver { conn, frame });
        }
    }

    /// Offers an event; those that go to the same recipients one after another go together.
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

    pub(super) fn hang_up(&mut self, conn: ConnId, code: u16, refusal: Refusal) {
        let Some(state) = self.conns.get_mut(&conn) else { return };
        if state.closing {
            return;
        }
        state.closing = true;
        let mut event = refusal.event();
        event.close = Some(code);
        let reason = event.detail.clone();
        let frame = encode_control(&ControlEvent::Error(event));
        self.output(Output::HangUp { conn, close: Close { code, frame, reason, drain: code == RESTART } });
    }

    /// Asks to be told when the connection has room for at least half an outbox.
    pub(super) fn watch_drain(&mut self, conn: ConnId) {
        let Some(state) = self.conns.get_mut(&conn) else { return };
        if !state.watching && !state.closing {
            state.watching = true;
            self.output(Output::WatchDrain { conn });
        }
    }

    pub(super) fn ask(&mut self, query: Query, asked: Asked) {
        self.last_ask += 1;
        let id = AskId(self.last_ask);
        self.asked.insert(id, asked);
        self.output(Output::Ask(Ask { id, query }));
    }

    /// Asks for a page that is sent to this connection, once what it asked for before has gone out.
    pub(super) fn ask_page(&mut self, conn: ConnId, query: Query, asked: Asked) -> Result<(), Refusal> {
        let Some(state) = self.conns.get_mut(&conn) else { return Ok(()) };
        if state.pages.len() >= PAGES {
            return Err(Refusal::new(
                ErrorCode::Unavailable,
                "too many pages were asked for that have not gone out; read them first",
            ));
        }
        state.pages.push_back((query, asked));
        self.watch_drain(conn);
        Ok(())
    }

    /// Asks the journal for the next page of this connection, unless it waits for something large already.
    pub(super) fn fetch_page(&mut self, conn: ConnId) {
        let Some(state) = self.conns.get_mut(&conn).filter(|state| !state.fetching) else { return };
        if let Some((query, asked)) = state.pages.pop_front() {
            state.fetching = true;
            self.ask(query, asked);
        }
    }

    /// A page or a snapshot was sent, or never will be: the next one may follow once it has gone out.
    pub(super) fn fetched(&mut self, conn: ConnId) {
        if let Some(state) = self.conns.get_mut(&conn) {
            state.fetching = false;
            self.watch_drain(conn);
        }
    }

    /// The next append's id; its answer goes to this chat.
    pub(super) fn next_append(&mut self, chat: ChatRef) -> AppendId {
        self.last_append += 1;
        let id = AppendId(self.last_append);
        self.appends.insert(id, chat);
        id
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

    /// 128 random bits: not to be guessed.
    pub(super) fn new_chat_id(&mut self) -> ChatId {
        ChatId::parse(&self.random_hex(16)).expect("hex is a chat id")
    }

    /// An id that shows by itself that it names a default chat of this principal.
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

    /// Takes a message from the principal's allowance, and where it makes a chat, that as well: both or nothing.
    pub(super) fn take_message(&mut self, principal: &Principal, makes_chat: bool) -> Result<(), Refusal> {
        let messages = self.quotas.entry(principal.clone()).or_default().messages;
        self.take_write(principal, "messages a minute")?;
        let taken = if makes_chat { self.take_new_chat(principal) } else { Ok(()) };
        if taken.is_err() {
            self.quotas.entry(principal.clone()).or_default().messages = messages;
        }
        taken
    }

    /// Takes from the allowance for messages what is kept and announced as they are.
    pub(super) fn take_write(&mut self, principal: &Principal, of: &str) -> Result<(), Refusal> {
        let Some(count) = self.limits.messages_per_minute else { return Ok(()) };
        let quota = self.quotas.entry(principal.clone()).or_default();
        quota
            .messages
            .take(self.now.ticks_ms, count, 60_000, count)
            .map_err(|wait| Refusal::rate(wait, count, of))
    }

    /// Takes a new chat from the principal's allowance.
    pub(super) fn take_new_chat(&mut self, principal: &Principal) -> Result<(), Refusal> {
        let Some(count) = self.limits.new_chats_per_minute else { return Ok(()) };
        let quota = self.quotas.entry(principal.clone()).or_default();
        quota
            .new_chats
            .take(self.now.ticks_ms, count, 60_000, count)
            .map_err(|wait| Refusal::rate(wait, count, "new chats a minute"))
    }
}

/// A refusal on its way to becoming an `error` event.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    event: ErrorEvent,
}

impl Refusal {
    pub(super) fn new(code: ErrorCode, detail: &str) -> Self {
        Self {
            event: ErrorEvent {
                code,
                detail: detail.into(),
                retryable: code.is_retryable(),
                chat_id: None,
                turn_id: None,
                request_id: None,
                retry_after_ms: None,
                close: None,
            },
        }
    }

    /// Says which limit it is, such as `600` `messages a minute`, and when to come again.
    pub(super) fn rate(retry_after_ms: u64, count: u32, of: &str) -> Self {
        let seconds = retry_after_ms.div_ceil(1000);
        let detail = format!("the limit is {count} {of}; try again in {seconds} s");
        let mut refusal = Self::new(ErrorCode::RateLimited, &detail);
        refusal.event.retry_after_ms = Some(retry_after_ms);
        refusal
    }

    pub(super) fn chat(mut self, chat_id: &ChatId) -> Self {
        self.event.chat_id = Some(chat_id.clone());
        self
    }

    pub(super) fn turn(mut self, turn_id: Option<&TurnId>) -> Self {
        self.event.turn_id = turn_id.cloned();
        self
    }

    pub(super) fn request(mut self, request_id: &crate::ids::RequestId) -> Self {
        self.event.request_id = Some(request_id.clone());
        self
    }

    pub(super) fn is_retryable(&self) -> bool {
        self.event.retryable
    }

    pub(super) fn event(self) -> ErrorEvent {
        self.event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_burst_of_outputs_took_is_given_back() {
        let mut cx = Context::new(Limits::default(), [7; 32], Moment { ticks_ms: 0, unix_ms: 0 });
        for conn in 0..10_000 {
            cx.output(Output::WatchDrain { conn: ConnId(conn) });
        }
        assert!(cx.outputs.capacity() >= 10_000);
        while cx.poll().is_some() {}
        assert!(cx.outputs.capacity() <= KEPT_OUTPUTS, "{}", cx.outputs.capacity());
    }
}
