//! One journal behaves as the other: random appends and questions, every answer compared.

use std::collections::BTreeMap;

use bytes::Bytes;
use switchboard_core::{
    agent::{AgentCommand, AgentInstanceId, CommandId},
    ids::{ChatKey, Cursor, Epoch, RequestId},
    journal::{
        Ask, AskId, Change, Durability, JournalAnswer, OpenAgentTurn, OpenStream, OpenTool, OpenWork,
        PageStart, Query, Version,
    },
    wire::{Answer, ChatBody, GoalState, Outcome, Task, TaskKind, TaskStatus, TurnError, TurnReason},
};
use switchboard_runtime::{Journal, Memory, Request, SqliteOptions};
use switchboard_test_support::Rng;

use crate::{
    desk::{Desk, open_with},
    make::{Scribe, show, turn},
};

const STEPS: u64 = 1_500;

#[derive(Default)]
struct ChatState {
    open: Vec<(String, bool)>,
    turns: u64,
    requests: Vec<u64>,
    next_request: u64,
    commands: u64,
    instance: Option<AgentInstanceId>,
    position: u64,
}

struct World {
    rng: Rng,
    chats: Vec<(Scribe, ChatState)>,
    now_ms: u64,
    cursors: Vec<String>,
    deleted: Vec<ChatKey>,
}

impl World {
    fn new(seed: u64) -> Self {
        let scribe = |n: usize| Scribe::new(["owner", "ann", "bob"][n % 3], &format!("chat{n}"));
        let chats = (0..7).map(|n| (scribe(n), ChatState::default())).collect();
        Self {
            rng: Rng(seed),
            chats,
            now_ms: 1_000,
            cursors: vec!["x~1".into(), "nonsense".into()],
            deleted: Vec::new(),
        }
    }

    fn append(&mut self, id: u64) -> Request {
        self.now_ms += [0, 1, 2, 400][self.rng.below(4) as usize];
        let at = self.now_ms - self.rng.below(2);
        let which = self.rng.below(7) as usize;
        let durability = if self.rng.below(2) == 0 { Durability::Written } else { Durability::Synced };
        let (scribe, state) = &mut self.chats[which];
        if scribe.version != Version::default() && self.rng.below(60) == 0 {
            let (principal, place) = (scribe.key.principal.clone(), self.deleted.len());
            let next = Scribe::new(principal.as_str(), &format!("chat{which}-{place}"));
            let mut last = std::mem::replace(scribe, next);
            *state = ChatState::default();
            self.deleted.push(last.key.clone());
            return Request::Append(last.change(Change::Deleted).append(id, durability, at));
        }
        for _ in 0..=self.rng.below(3) {
            step(&mut self.rng, scribe, state);
        }
        Request::Append(scribe.append(id, durability, at))
    }

    fn query(&mut self) -> Query {
        let which = self.rng.below(8) as usize;
        let unknown = Scribe::new("owner", "nobody");
        let scribe = self.chats.get(which).map_or(&unknown, |(scribe, _)| scribe);
        let mut chat = scribe.key.clone();
        if let Some(gone) = self.deleted.last().filter(|_| self.rng.below(10) == 0) {
            chat = gone.clone();
        }
        let seq = self.rng.below(scribe.head + 3);
        let bytes = [0, 1, 300, 5_000, 1 << 20][self.rng.below(5) as usize];
        match self.rng.below(6) {
            0 => Query::Chat { chat, term: None },
            1 => Query::Turn { chat, turn_id: turn(&format!("t{}", self.rng.below(40))) },
            2 => {
                let odd = Epoch::parse("other").expect("an epoch");
                let epoch = if self.rng.below(8) == 0 { odd } else { scribe.epoch.clone() };
                Query::After { chat, after: Cursor { epoch, seq }, bytes }
            }
            3 => {
                let limit = 1 + self.rng.below(4) as u32;
                let principal = chat.principal;
                let before = if self.rng.below(2) == 0 { None } else { Some(self.cursor()) };
                Query::Chats { principal, before, limit }
            }
            _ => {
                let events = 1 + self.rng.below(12) as u32;
                let before = if self.rng.below(2) == 0 {
                    PageStart::At(seq)
                } else {
                    PageStart::Opaque(self.cursor())
                };
                Query::Before { chat, before, events, bytes }
            }
        }
    }

    /// One that an earlier page gave, perhaps of another chat.
    fn cursor(&mut self) -> String {
        let at = self.rng.below(self.cursors.len() as u64) as usize;
        self.cursors[at].clone()
    }

    fn learn(&mut self, answer: &JournalAnswer) {
        use switchboard_core::journal::Found;
        let JournalAnswer::Found(_, found) = answer else { return };
        let before = match found {
            Found::Before(Some(page)) => &page.before,
            Found::Chats(Some(page)) => &page.before,
            Found::Before(None)
            | Found::Chats(None)
            | Found::Chat(_)
            | Found::Deleted
            | Found::Fenced
            | Found::Turn(_)
            | Found::After(_) => &None,
        };
        if let Some(before) = before {
            self.cursors.push(before.clone());
            if self.cursors.len() > 40 {
                self.cursors.remove(2);
            }
        }
    }
}

#[allow(clippy::too_many_lines, reason = "a case for each kind")]
fn step(rng: &mut Rng, scribe: &mut Scribe, state: &mut ChatState) {
    let running = state.open.first().filter(|(_, started)| *started).map(|(id, _)| id.clone());
    match (rng.below(14), running) {
        (0 | 1, _) => {
            let id = format!("t{}", state.turns);
            state.turns += 1;
            let text = format!("message {id} ü");
            scribe.message(&id, &text);
            let at_once = state.open.is_empty() && rng.below(2) == 0;
            if at_once {
                state.commands += 1;
                let turn_id = turn(&id);
                scribe.start(&id);
                let command = AgentCommand::Prompt { id: CommandId(state.commands), turn_id, text };
                scribe.change(Change::Command { command });
            }
            state.open.push((id, at_once));
        }
        (2, None) if !state.open.is_empty() => {
            let id = state.open[0].0.clone();
            state.commands += 1;
            // As the turn says it, or otherwise.
            let text = [format!("message {id} ü"), "do".to_owned()][rng.below(2) as usize].clone();
            let prompt = AgentCommand::Prompt { id: CommandId(state.commands), turn_id: turn(&id), text };
            if state.instance.is_none() {
                let instance = AgentInstanceId(rng.next());
                (state.instance, state.position) = (Some(instance), 0);
                scribe.change(Change::AgentStarted { instance });
            }
            scribe.change(Change::Command { command: prompt });
            scribe.start(&id);
            state.open[0].1 = true;
        }
        (3, _) if !state.open.is_empty() => {
            let at = rng.below(state.open.len() as u64) as usize;
            let (id, _) = state.open.remove(at);
            let outcomes = [Outcome::Completed, Outcome::Cancelled, Outcome::Failed, Outcome::Interrupted];
            scribe.end(&id, outcomes[rng.below(4) as usize]);
        }
        (4, Some(id)) => {
            let silent = TurnError { code: "silent".into(), detail: "a \"detail\"".into() };
            let reason = [None, Some(silent)][rng.below(2) as usize].clone();
            scribe.change(Change::CancelRequested { turn_id: turn(&id), reason });
            state.commands += 1;
            let command = AgentCommand::Cancel { id: CommandId(state.commands), turn_id: turn(&id) };
            scribe.change(Change::Command { command });
        }
        (5, Some(id)) => {
            state.next_request += 1;
            let request_id = RequestId::parse(&format!("r{}", state.next_request)).expect("an id");
            scribe.event(Some(&id), 1, &ChatBody::Delta { stream_id: "ask".into(), text: "?".into() });
            let frame = encode(scribe);
            let question = rng.below(2) == 0;
            scribe.change(Change::RequestOpened {
                agent_request_id: RequestId::parse(&format!("agent-{}", rng.below(9))).expect("an id"),
                request_id,
                last_request: state.next_request,
                question,
                input: (!question).then(|| format!("{{\"command\":{}}}", rng.below(1000))),
                frame,
            });
            state.requests.push(state.next_request);
        }
        (6, _) if !state.requests.is_empty() => {
            let at = rng.below(state.requests.len() as u64) as usize;
            let request_id = RequestId::parse(&format!("r{}", state.requests.remove(at))).expect("an id");
            state.commands += 1;
            let answer = Answer::Deny { message: Some("no".into()) };
            let id = CommandId(state.commands);
            let command = AgentCommand::Answer { id, request_id: request_id.clone(), answer };
            scribe.change(Change::Command { command }).change(Change::RequestClosed { request_id });
        }
        (7, _) => about(rng, scribe, state),
        (12, _) => {
            let turn_id = turn(&format!("~{}", state.turns));
            state.turns += 1;
            let mut begun = OpenAgentTurn::new(turn_id.clone(), TurnReason::Background, 5);
            if rng.below(2) == 0 {
                begun.cancel_requested = true;
                begun.cancel_reason = Some(TurnError { code: "silent".into(), detail: "too long".into() });
                state.commands += 1;
                let command = AgentCommand::Cancel { id: CommandId(state.commands), turn_id };
                scribe.change(Change::Command { command });
            }
            let turn = (rng.below(3) > 0).then_some(begun);
            scribe.change(Change::AgentTurn { turn });
            let task = |n: u64| Task {
                task_id: format!("b{n}"),
                kind: TaskKind::Shell,
                title: "make \"all\"".into(),
                status: TaskStatus::Running,
                parent_call_id: None,
            };
            scribe.change(Change::Tasks { tasks: (0..rng.below(3)).map(task).collect() });
        }
        (8, Some(id)) => {
            scribe.event(
                Some(&id),
                1 + rng.below(4),
                &ChatBody::ReasoningDelta { stream_id: "r".into(), text: "thinking \"hard\"\n".into() },
            );
            let some = |name: &str, rng: &mut Rng| vec![name.to_owned(); rng.below(3) as usize];
            let work = OpenWork {
                answers: some("s1", rng).into_iter().map(open_stream).collect(),
                reasoning: some("r", rng).into_iter().map(open_stream).collect(),
                tools: some("a \"tool\"", rng).into_iter().map(open_tool).collect(),
            };
            scribe.change(Change::OpenWork { work });
            go_on(rng, scribe, state);
        }
        (_, running) => {
            let id = running.unwrap_or_else(|| "t0".into());
            for _ in 0..rng.below(30) {
                let stream = if rng.below(20) == 0 { "s2" } else { "s1" };
                let long = rng.below(50) == 0;
                scribe.delta(
                    &id,
                    stream,
                    if long { "long text ".repeat(900) } else { "wörd ".into() }.as_str(),
                );
            }
            go_on(rng, scribe, state);
        }
    }
}

fn open_stream(stream_id: String) -> OpenStream {
    OpenStream { stream_id, parent_call_id: Some("k0".into()), spooled: true }
}

fn open_tool(call_id: String) -> OpenTool {
    OpenTool { call_id, name: "Bash".into(), parent_call_id: Some("k0".into()) }
}

/// The agent may have come further.
fn go_on(rng: &mut Rng, scribe: &mut Scribe, state: &mut ChatState) {
    if let Some(instance) = state.instance.filter(|_| rng.below(2) == 0) {
        state.position += 1 + rng.below(9);
        let position = state.position;
        scribe.change(Change::AgentPosition { instance, position, checkpoint: None });
    }
}

fn about(rng: &mut Rng, scribe: &mut Scribe, state: &mut ChatState) {
    match (rng.below(5), state.instance) {
        (0, _) => scribe.change(Change::Title { title: format!("title {}", rng.below(9)) }),
        (1, _) => scribe.change(Change::Session { token: format!("session {}", rng.below(9)) }),
        (2, _) => {
            let objective = Some(format!("goal {}", rng.below(9)));
            scribe.change(Change::Goal {
                goal_state: GoalState { active: true, objective, ..GoalState::default() },
            })
        }
        (3, Some(instance)) => {
            state.instance = None;
            scribe.change(Change::AgentEnded { instance })
        }
        (_, instance) => {
            state.position += 1 + rng.below(9);
            let checkpoint = (rng.below(3) == 0).then(|| Bytes::from(vec![1; rng.below(50) as usize]));
            let instance = instance.unwrap_or(AgentInstanceId(1));
            scribe.change(Change::AgentPosition { instance, position: state.position, checkpoint })
        }
    };
}

fn encode(scribe: &Scribe) -> switchboard_core::wire::Frame {
    let json = format!("{{\"event\":\"question\",\"seq\":{}}}", scribe.head);
    switchboard_core::wire::Frame::new(json.into()).expect("a frame")
}

/// The answers to a batch, by what they answer.
fn answers<J: Journal>(desk: &mut Desk<J>, batch: Vec<Request>) -> BTreeMap<String, JournalAnswer> {
    let count = batch.len();
    desk.submit(batch);
    (0..count)
        .map(|_| {
            let answer = desk.answer();
            let about = match &answer {
                JournalAnswer::Appended(id) | JournalAnswer::Refused(id) | JournalAnswer::Conflict(id, _) => {
                    format!("append {}", id.0)
                }
                JournalAnswer::Found(id, _) | JournalAnswer::Failed(id) | JournalAnswer::Damaged(id) => {
                    format!("ask {}", id.0)
                }
            };
            (about, answer)
        })
        .collect()
}

fn copy(request: &Request) -> Request {
    match request {
        Request::Append(append) => Request::Append(append.clone()),
        Request::Ask(ask) => Request::Ask(ask.clone()),
    }
}

/// The model does not join; what joining does to answers has tests of its own.
fn never_joining() -> SqliteOptions {
    let mut options = SqliteOptions::default();
    options.compact_after = None;
    options
}

#[test]
fn answers_as_the_model_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let Rng(seed) = Rng::for_test("the journal");
    let mut world = World::new(seed);
    let mut model = Desk::new(Memory::new());
    let (mut tried, _) = open_with(folder.path(), never_joining()).expect("it opens");
    for step in 0..STEPS {
        if world.rng.below(200) == 0 {
            drop(tried);
            tried = open_with(folder.path(), never_joining()).expect("it opens again").0;
        }
        // Questions see what was answered before, so the two do not come in one batch.
        let ask = world.rng.below(3) > 0;
        let batch: Vec<Request> = (0..=world.rng.below(5))
            .map(|n| {
                let id = step * 10 + n;
                if ask { Request::Ask(Ask { id: AskId(id), query: world.query() }) } else { world.append(id) }
            })
            .collect();
        let asked: Vec<String> = batch.iter().map(|request| format!("{request:?}")).collect();
        let expected = answers(&mut model, batch.iter().map(copy).collect());
        let got = answers(&mut tried, batch);
        for (about, answer) in &expected {
            assert_eq!(show(&got[about]), show(answer), "seed {seed}, step {step}: {about} of {asked:#?}");
            world.learn(answer);
        }
    }
}
