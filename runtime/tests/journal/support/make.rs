//! Appends as the hub makes them, and answers as text that can be compared.

use std::fmt::Write as _;

use switchboard_core::{
    ids::{ChatId, ChatKey, Cursor, Epoch, Principal, TurnId},
    journal::{
        Append, AppendId, Change, ChatRecord, Durability, Found, JournalAnswer, LogEvent, Term, Version,
    },
    wire::{ChatBody, EventPosition, Outcome, TurnOrigin, encode_chat},
};

/// A chat's key.
pub fn key(principal: &str, chat: &str) -> ChatKey {
    ChatKey {
        principal: Principal::parse(principal).expect("a principal"),
        chat: ChatId::parse(chat).expect("a chat id"),
    }
}

/// A turn's id.
pub fn turn(id: &str) -> TurnId {
    TurnId::parse(id).expect("a turn id")
}

/// Writes one chat's log.
#[derive(Debug, Clone)]
pub struct Scribe {
    pub key: ChatKey,
    pub epoch: Epoch,
    pub head: u64,
    pub version: Version,
    draft: Vec<LogEvent>,
    changes: Vec<Change>,
}

impl Scribe {
    /// For a chat that does not exist yet.
    pub fn new(principal: &str, chat: &str) -> Self {
        let epoch = Epoch::parse(&format!("e-{chat}")).expect("an epoch");
        Self {
            key: key(principal, chat),
            epoch,
            head: 0,
            version: Version::default(),
            draft: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// Goes on where a chat stands.
    pub fn resume(&mut self, record: &ChatRecord) {
        (self.epoch, self.head) = (record.head.epoch.clone(), record.head.seq);
        self.version = record.version;
    }

    /// A place in its log.
    pub fn cursor(&self, seq: u64) -> Cursor {
        Cursor { epoch: self.epoch.clone(), seq }
    }

    /// Adds an event that covers `numbers` numbers.
    pub fn event(&mut self, turn_id: Option<&str>, numbers: u64, body: &ChatBody) -> &mut Self {
        let first_seq = self.head + 1;
        self.head += numbers;
        let place = EventPosition {
            chat_id: self.key.chat.clone(),
            epoch: self.epoch.clone(),
            first_seq: (numbers > 1).then_some(first_seq),
            seq: self.head,
            turn_id: turn_id.map(turn),
            parent_call_id: None,
        };
        self.draft.push(LogEvent { first_seq, seq: self.head, frame: encode_chat(&place, body) });
        self
    }

    /// Adds a piece of an answer.
    pub fn delta(&mut self, turn_id: &str, stream: &str, text: &str) -> &mut Self {
        let body = ChatBody::Delta { stream_id: stream.into(), text: text.into() };
        self.event(Some(turn_id), 1, &body)
    }

    /// Adds a message and its acceptance.
    pub fn message(&mut self, turn_id: &str, text: &str) -> &mut Self {
        let body = ChatBody::UserMessage {
            text: text.into(),
            starts_turn: false,
            active_turn_id: None,
            created_at_ms: 1,
            client_id: None,
        };
        self.event(Some(turn_id), 1, &body);
        let mut hash = [7; 32];
        hash[0] = u8::try_from(text.len() % 256).expect("a remainder");
        self.change(Change::TurnAccepted {
            turn_id: turn(turn_id),
            hash,
            seq: self.head,
            text: text.into(),
            starts_turn: false,
        })
    }

    /// Adds the start of a turn.
    pub fn start(&mut self, turn_id: &str) -> &mut Self {
        self.event(
            Some(turn_id),
            1,
            &ChatBody::TurnStarted { origin: TurnOrigin::User, reason: None, started_at_ms: 2 },
        );
        self.change(Change::TurnStarted { turn_id: turn(turn_id) })
    }

    /// Adds the end of a turn.
    pub fn end(&mut self, turn_id: &str, outcome: Outcome) -> &mut Self {
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
        self.event(Some(turn_id), 1, &body);
        self.change(Change::TurnEnded { turn_id: turn(turn_id), outcome })
    }

    /// Adds a change.
    pub fn change(&mut self, change: Change) -> &mut Self {
        self.changes.push(change);
        self
    }

    /// What was added, as one append.
    pub fn append(&mut self, id: u64, durability: Durability, at_ms: u64) -> Append {
        let expect = self.version;
        self.version = expect.next();
        Append {
            id: AppendId(id),
            chat: self.key.clone(),
            term: Term::default(),
            expect,
            durability,
            create: (expect == Version::default()).then(|| self.epoch.clone()),
            events: std::mem::take(&mut self.draft),
            changes: std::mem::take(&mut self.changes),
            at_ms,
        }
    }
}

/// Everything that an answer says.
pub fn show(answer: &JournalAnswer) -> String {
    match answer {
        JournalAnswer::Found(id, Found::Chat(Some(record))) => format!("{id:?} {}", show_chat(record)),
        JournalAnswer::Found(id, Found::After(Some(events))) => {
            let mut text = format!("{id:?} after");
            for event in events {
                write!(text, "\n  {}-{} {}", event.first_seq, event.seq, event.frame.as_str())
                    .expect("memory");
            }
            text
        }
        JournalAnswer::Found(id, Found::Before(Some(page))) => {
            let mut text = format!("{id:?} before, next {:?}", page.before);
            page.events.iter().for_each(|frame| write!(text, "\n  {}", frame.as_str()).expect("memory"));
            text
        }
        JournalAnswer::Found(..)
        | JournalAnswer::Appended(_)
        | JournalAnswer::Refused(_)
        | JournalAnswer::Conflict(..)
        | JournalAnswer::Failed(_)
        | JournalAnswer::Damaged(_) => format!("{answer:?}"),
    }
}

fn show_chat(record: &ChatRecord) -> String {
    let ChatRecord {
        chat,
        version,
        head,
        updated_at_ms,
        title,
        goal_state,
        session,
        turns,
        agent_turn,
        tasks,
        requests,
        open_work,
        last_command,
        last_request,
        agent,
        commands,
        earlier,
    } = record;
    let mut text = format!(
        "{chat:?} {version:?} {updated_at_ms} {head:?} {title:?} {goal_state:?} {session:?} {last_command} {last_request} {agent:?} {earlier:?} \
         {open_work:?} {agent_turn:?} {tasks:?}"
    );
    for turn in turns {
        let (started, cancelled) = (turn.started_at_ms, (turn.cancel_requested, &turn.cancel_reason));
        let (id, seq, at) = (&turn.turn_id, turn.seq, turn.accepted_at_ms);
        write!(text, "\n  turn {id} {seq} {at} {started:?} {cancelled:?} {:?} {:?}", turn.text, turn.hash)
            .and_then(|()| write!(text, " {}", turn.frame.as_str()))
            .expect("memory");
    }
    for request in requests {
        let (id, agent_id, question) = (&request.request_id, &request.agent_request_id, request.question);
        write!(text, "\n  request {id} {agent_id} {question} {:?} {}", request.input, request.frame.as_str())
            .expect("memory");
    }
    for command in commands {
        write!(text, "\n  command {command:?} {}", show_command(command)).expect("memory");
    }
    text
}

fn show_command(command: &switchboard_core::agent::AgentCommand) -> String {
    use switchboard_core::agent::AgentCommand;
    match command {
        AgentCommand::Prompt { turn_id, text, .. } => format!("{turn_id} {text}"),
        AgentCommand::Cancel { turn_id, .. } => turn_id.to_string(),
        AgentCommand::Answer { request_id, answer, .. } => {
            format!("{request_id} {}", serde_json::to_string(answer).expect("JSON"))
        }
    }
}
