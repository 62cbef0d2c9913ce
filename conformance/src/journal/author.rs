//! Makes appends as the hub makes them.

use bytes::Bytes;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};
use switchboard_core::{
    agent::{AgentCommand, AgentInstanceId, CommandId},
    ids::{ChatId, ChatKey, Epoch, Principal, RequestId, TurnId},
    journal::{
        Append, AppendId, Change, ChatRecord, Durability, LogEvent, OpenAgentTurn, OpenStream, OpenWork, Term,
    },
    wire::{
        Answer, ChatBody, EventPosition, Frame, GoalState, NoticeLevel, Outcome, Task, TaskKind, TaskStatus,
        TurnError, TurnOrigin, TurnReason, encode_chat,
    },
};

/// Makes appends that fit a chat's state.
pub(super) struct Author {
    random: ChaCha8Rng,
    now_ms: u64,
    /// The number of ids that were made, of appends and all else.
    ids: u64,
}

impl Author {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(seed), now_ms: 1_000, ids: 0 }
    }

    /// A random number below `bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.random.next_u64() % bound.max(1)
    }

    fn next_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    /// The append that creates a chat.
    pub(super) fn create(&mut self, key: &ChatKey) -> Append {
        let epoch = Epoch::parse(&format!("e{}", self.next_id())).expect("an epoch");
        let record = ChatRecord::new(key.chat.clone(), epoch.clone());
        Append { create: Some(epoch), ..self.empty(key, &record) }
    }

    /// An append without events and changes.
    pub(super) fn empty(&mut self, key: &ChatKey, record: &ChatRecord) -> Append {
        self.now_ms += self.below(700);
        let durability = if self.below(2) == 0 { Durability::Written } else { Durability::Synced };
        Append {
            id: AppendId(self.next_id()),
            chat: key.clone(),
            // The bench knows the term.
            term: Term::default(),
            expect: record.version,
            durability,
            create: None,
            events: Vec::new(),
            changes: Vec::new(),
            at_ms: self.now_ms,
        }
    }

    /// A random append to an existing chat. Some begin a new epoch.
    pub(super) fn append(&mut self, key: &ChatKey, record: &ChatRecord) -> Append {
        let mut draft = Draft::new(self.empty(key, record), record.clone());
        if self.below(20) == 0 {
            draft.append.create = self.create(key).create;
            draft.apply();
        }
        for _ in 0..=self.below(3) {
            self.step(&mut draft);
        }
        draft.append
    }

    fn step(&mut self, draft: &mut Draft) {
        let started = draft.record.turns.iter().find(|turn| turn.has_started());
        let started = started.map(|turn| turn.turn_id.clone());
        match (self.below(12), started) {
            (0 | 1, _) => self.message(draft),
            (2, None) => self.start(draft),
            (2 | 3, Some(turn_id)) => self.end(draft, &turn_id),
            (4, Some(turn_id)) => self.cancel(draft, &turn_id),
            (5, _) => self.ask(draft),
            (6, _) => self.answer(draft),
            (7, _) => self.agent(draft),
            (8, _) => self.agent_turn(draft),
            (9, _) => self.profile(draft),
            (10, _) => self.tasks_and_work(draft),
            _ => self.say(draft),
        }
    }

    /// Adds a message, perhaps with the start of its turn and its prompt.
    pub(super) fn message(&mut self, draft: &mut Draft) {
        let (id, at_once) = (self.next_id(), draft.record.turns.is_empty() && self.below(2) == 0);
        let (turn_id, text) = (turn_id(id), format!("message {id} with \"quotes\" and ü"));
        let body = ChatBody::UserMessage {
            text: text.clone(),
            starts_turn: at_once,
            active_turn_id: None,
            created_at_ms: self.now_ms,
            client_id: None,
        };
        draft.event(Some(&turn_id), &body);
        let hash = std::array::from_fn(|place| id.to_le_bytes()[place % 8]);
        let (seq, starts_turn) = (draft.record.head.seq, at_once);
        draft.change(Change::TurnAccepted { turn_id, hash, seq, text, starts_turn });
        if at_once {
            self.start(draft);
        }
    }

    fn start(&mut self, draft: &mut Draft) {
        let Some(turn) = draft.record.turns.first() else { return };
        let (turn_id, text) = (turn.turn_id.clone(), turn.text.clone());
        let body =
            ChatBody::TurnStarted { origin: TurnOrigin::User, reason: None, started_at_ms: self.now_ms };
        draft.event(Some(&turn_id), &body);
        draft.change(Change::TurnStarted { turn_id: turn_id.clone() });
        let id = CommandId(draft.record.last_command + 1);
        draft.change(Change::Command { command: AgentCommand::Prompt { id, turn_id, text } });
    }

    fn end(&mut self, draft: &mut Draft, turn_id: &TurnId) {
        let outcomes = [Outcome::Completed, Outcome::Cancelled, Outcome::Failed, Outcome::Interrupted];
        let outcome = outcomes[self.below(4) as usize];
        let body = ChatBody::TurnEnd {
            origin: TurnOrigin::User,
            outcome,
            latency_ms: 3,
            usage: None,
            cost: None,
            model: None,
            error: None,
            goal_state: None,
        };
        draft.event(Some(turn_id), &body);
        draft.change(Change::TurnEnded { turn_id: turn_id.clone(), outcome });
    }

    fn cancel(&mut self, draft: &mut Draft, turn_id: &TurnId) {
        let silent = TurnError { code: "agent_silent".into(), detail: "a \"detail\"".into() };
        let reason = (self.below(2) == 0).then_some(silent);
        draft.change(Change::CancelRequested { turn_id: turn_id.clone(), reason });
        let id = CommandId(draft.record.last_command + 1);
        draft.change(Change::Command { command: AgentCommand::Cancel { id, turn_id: turn_id.clone() } });
    }

    fn ask(&mut self, draft: &mut Draft) {
        let (number, question) = (draft.record.last_request + 1, self.below(2) == 0);
        let frame = Frame::new(format!("{{\"event\":\"question\",\"seq\":{number}}}").into());
        draft.change(Change::RequestOpened {
            request_id: request_id(number),
            agent_request_id: request_id(self.below(5)),
            last_request: number,
            question,
            input: (!question).then(|| format!("{{\"command\":{number}}}")),
            frame: frame.expect("an event"),
        });
    }

    fn answer(&mut self, draft: &mut Draft) {
        let Some(request) = draft.record.requests.first() else { return };
        let (request_id, id) = (request.request_id.clone(), CommandId(draft.record.last_command + 1));
        let answer = Answer::Deny { message: Some("no".into()) };
        let command = AgentCommand::Answer { id, request_id: request_id.clone(), answer };
        draft.change(Change::Command { command });
        draft.change(Change::RequestClosed { request_id });
    }

    fn agent(&mut self, draft: &mut Draft) {
        let instance = match &draft.record.agent {
            // An agent that the chat does not have changes nothing.
            Some(_) if self.below(6) == 0 => AgentInstanceId(u64::MAX),
            Some(agent) => agent.instance,
            None => {
                let instance = AgentInstanceId(self.random.next_u64());
                return draft.change(Change::AgentStarted { instance });
            }
        };
        if self.below(5) == 0 {
            return draft.change(Change::AgentEnded { instance });
        }
        let position = self.next_id();
        let checkpoint = (self.below(3) == 0).then(|| Bytes::from(position.to_le_bytes().to_vec()));
        draft.change(Change::AgentPosition { instance, position, checkpoint });
    }

    fn agent_turn(&mut self, draft: &mut Draft) {
        if draft.record.agent_turn.is_some() {
            return draft.change(Change::AgentTurn { turn: None });
        }
        let turn_id = TurnId::parse(&format!("~{}", self.next_id())).expect("a turn id");
        let mut turn = OpenAgentTurn::new(turn_id.clone(), TurnReason::Background, self.now_ms);
        turn.cancel_requested = self.below(2) == 0;
        draft.change(Change::AgentTurn { turn: Some(turn) });
        let id = CommandId(draft.record.last_command + 1);
        draft.change(Change::Command { command: AgentCommand::Cancel { id, turn_id } });
    }

    fn profile(&mut self, draft: &mut Draft) {
        let text = format!("text {}", self.below(9));
        draft.change(match self.below(3) {
            0 => Change::Title { title: text },
            1 => Change::Session { token: text },
            _ => Change::Goal {
                goal_state: GoalState { active: true, objective: Some(text), ..GoalState::default() },
            },
        });
    }

    fn tasks_and_work(&mut self, draft: &mut Draft) {
        let task = |n: u64| Task {
            task_id: format!("b{n}"),
            kind: TaskKind::Shell,
            title: "make \"all\"".into(),
            status: TaskStatus::Running,
            parent_call_id: None,
        };
        draft.change(Change::Tasks { tasks: (0..self.below(3)).map(task).collect() });
        let stream =
            |n: u64| OpenStream { stream_id: format!("s{n}"), parent_call_id: None, spooled: n == 1 };
        let answers = (0..self.below(3)).map(stream).collect();
        draft.change(Change::OpenWork { work: OpenWork { answers, ..OpenWork::default() } });
    }

    fn say(&mut self, draft: &mut Draft) {
        for _ in 0..=self.below(20) {
            let (stream_id, text) = (format!("s{}", self.below(2)), "wörd ".into());
            draft.event(None, &ChatBody::Delta { stream_id, text });
        }
        if let Some(agent) = &draft.record.agent {
            let (instance, position) = (agent.instance, agent.position + 1);
            draft.change(Change::AgentPosition { instance, position, checkpoint: None });
        }
    }
}

/// An append that is being made.
pub(super) struct Draft {
    pub(super) append: Append,
    /// The chat's state before the append.
    before: ChatRecord,
    /// The chat's state with the append as it is so far.
    pub(super) record: ChatRecord,
}

impl Draft {
    pub(super) fn new(append: Append, before: ChatRecord) -> Self {
        Self { append, record: before.clone(), before }
    }

    /// Adds an event.
    pub(super) fn event(&mut self, turn_id: Option<&TurnId>, body: &ChatBody) {
        let event = event(&self.record, self.record.head.seq + 1, turn_id, body);
        self.append.events.push(event);
        self.apply();
    }

    /// Adds a change.
    pub(super) fn change(&mut self, change: Change) {
        self.append.changes.push(change);
        self.apply();
    }

    fn apply(&mut self) {
        self.record = self.before.clone();
        self.record.apply(&self.append).expect("what the author adds fits the chat's state");
    }
}

/// An encoded event of a chat.
pub(super) fn event(record: &ChatRecord, seq: u64, turn_id: Option<&TurnId>, body: &ChatBody) -> LogEvent {
    let place = EventPosition {
        chat_id: record.chat.clone(),
        epoch: record.head.epoch.clone(),
        first_seq: None,
        seq,
        turn_id: turn_id.cloned(),
        parent_call_id: None,
    };
    LogEvent { first_seq: seq, seq, frame: encode_chat(&place, body) }
}

/// The body of an event that is never merged with its neighbours.
pub(super) fn notice(text: &str) -> ChatBody {
    ChatBody::Notice { level: NoticeLevel::Info, code: "other".into(), text: text.into(), data: None }
}

pub(super) fn key(principal: &str, chat: &str) -> ChatKey {
    let principal = Principal::parse(principal).expect("a principal");
    ChatKey { principal, chat: ChatId::parse(chat).expect("a chat id") }
}

fn turn_id(number: u64) -> TurnId {
    TurnId::parse(&format!("t{number}")).expect("a turn id")
}

fn request_id(number: u64) -> RequestId {
    RequestId::parse(&format!("r{number}")).expect("a request id")
}
