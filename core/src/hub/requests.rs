//! An agent's requests to a person: permissions and questions, from the request to the answer.
//!
//! A request's id in the chat is made of a counter, which continues across restarts and epochs, and the epoch. If the
//! journal loses the counter's state, the chat gets another epoch, so an id never names two requests. The agent's own
//! id is not sent to clients. The whole input of a permission is stored with the open request, and an answer allows
//! exactly that input.

use alloc::{
    collections::{BTreeMap, VecDeque},
    format,
    string::{String, ToString as _},
    vec::Vec,
};

use serde::Serialize;
use serde_json::Value;

use super::{
    bounds::{NAME_BYTES, is_short},
    chat::Chat,
    context::{Context, Refusal},
    log::Draft,
    records::{boundary, cut, cut_value},
};
use crate::{
    agent::{AgentCommand, PermissionAsk},
    ids::{ConnId, Epoch, RequestId},
    journal::{Change, ChatRecord},
    limits::Limits,
    wire::{
        Answer, AnswerFormat, ChatBody, ChatEvent, ControlEvent, ErrorCode, Frame, NoticeLevel,
        PermissionRequest, Question, QuestionItem, Resolution, input_sha256, is_exact,
    },
};

/// Longest event of a question, in bytes.
const QUESTION_BYTES: usize = 192 * 1024;

/// Requests remembered after they were closed, so that a late answer gets `already_resolved`.
const CLOSED_REQUESTS: usize = 64;

/// The requests of a chat.
#[derive(Debug, Default)]
pub(super) struct Requests {
    open: BTreeMap<RequestId, OpenRequest>,
    closed: VecDeque<RequestId>,
    /// How many requests the chat has had: the counter in the last request's id.
    last: u64,
}

#[derive(Debug)]
struct OpenRequest {
    /// The agent's own id.
    agent_id: RequestId,
    asked: Asked,
    /// The request's approximate size in memory and in the journal, its event included.
    bytes: usize,
}

#[derive(Debug)]
enum Asked {
    Permission {
        /// The whole input as JSON text. None for requests of earlier versions, which did not store the input.
        input: Option<String>,
        input_sha256: Option<String>,
        /// Whether the event contains the input truncated or inexactly, so that an answer must name the input's hash.
        needs_hash: bool,
    },
    Question(Vec<QuestionItem>),
}

impl Requests {
    /// Restores the open requests from the journal's record.
    pub(super) fn restore(record: &ChatRecord) -> Self {
        let mut open = BTreeMap::new();
        for request in &record.requests {
            let Some(asked) = Asked::restore(&request.frame, request.input.clone()) else { continue };
            let agent_id = request.agent_request_id.clone();
            let bytes = asked.bytes(request.frame.len());
            open.insert(request.request_id.clone(), OpenRequest { agent_id, asked, bytes });
        }
        Self { open, closed: VecDeque::new(), last: record.last_request }
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The chat's id of the open request that has this id at the agent.
    pub(super) fn of_agent(&self, agent_id: &RequestId) -> Option<RequestId> {
        self.open.iter().find(|(_, open)| open.agent_id == *agent_id).map(|(id, _)| id.clone())
    }

    /// The change that belongs to a request's event. If the request has been closed meanwhile, its `RequestClosed`
    /// follows later.
    pub(super) fn opened(&self, request_id: &RequestId, question: bool, frame: &Frame) -> Change {
        let open = self.open.get(request_id);
        let input = open.and_then(|open| match &open.asked {
            Asked::Permission { input, .. } => input.clone(),
            Asked::Question(_) => None,
        });
        Change::RequestOpened {
            request_id: request_id.clone(),
            agent_request_id: open.map_or(request_id, |open| &open.agent_id).clone(),
            last_request: self.last,
            question,
            input,
            frame: frame.clone(),
        }
    }

    fn add(&mut self, epoch: &Epoch, agent_id: RequestId, asked: Asked, bytes: usize) -> RequestId {
        self.last += 1;
        let id =
            RequestId::parse(&format!("r{}.{epoch}", self.last)).expect("a number and an epoch are short");
        self.open.insert(id.clone(), OpenRequest { agent_id, asked, bytes });
        id
    }

    /// The size of all open requests, in bytes.
    fn bytes(&self) -> usize {
        self.open.values().map(|open| open.bytes).sum()
    }

    fn find(&self, request_id: &RequestId) -> Result<&OpenRequest, Refusal> {
        self.open.get(request_id).ok_or_else(|| {
            if self.closed.contains(request_id) {
                Refusal::new(ErrorCode::AlreadyResolved, "this request is already resolved")
            } else {
                Refusal::new(ErrorCode::UnknownRequest, "no such request in this chat")
            }
        })
    }
}

impl Asked {
    fn restore(event: &Frame, input: Option<String>) -> Option<Self> {
        let event: ChatEvent = serde_json::from_slice(event.bytes()).ok()?;
        if let ChatBody::Question(question) = event.body {
            return Some(Self::Question(question.questions));
        }
        let ChatBody::PermissionRequest(request) = event.body else { return None };
        let needs_hash = request.needs_hash();
        Some(Self::Permission { input, input_sha256: request.input_sha256, needs_hash })
    }

    /// A request's approximate size: its event of `event` bytes, plus the whole input, or the questions again.
    fn bytes(&self, event: usize) -> usize {
        event
            + match self {
                Self::Permission { input, .. } => input.as_ref().map_or(0, String::len),
                Self::Question(_) => event,
            }
    }

    /// Checks an answer. Returns the request's resolution, and the answer for the agent.
    fn resolve(&self, answer: Answer) -> Result<(Resolution, Answer), Refusal> {
        match (self, answer) {
            (_, answer @ Answer::Deny { .. }) => Ok((Resolution::Denied, answer)),
            (Self::Permission { input, input_sha256, needs_hash }, Answer::Allow { input_sha256: given }) => {
                if input.is_none() {
                    let detail = "this was asked before an upgrade and its whole input was not kept; deny it, \
                                  and the agent can ask again";
                    return Err(Refusal::new(ErrorCode::InputUnseen, detail));
                }
                if given.is_some() && given != *input_sha256 {
                    let detail = "this is not the hash of the request's input; read it with 'request_input'";
                    return Err(Refusal::new(ErrorCode::InputUnseen, detail));
                }
                if given.is_none() && *needs_hash {
                    let detail = "the request does not show all of its input; read it with 'request_input' and \
                                  answer with its 'input_sha256'";
                    return Err(Refusal::new(ErrorCode::InputUnseen, detail));
                }
                Ok((Resolution::Allowed, Answer::Allow { input_sha256: input_sha256.clone() }))
            }
            (Self::Question(questions), Answer::Answer { answers }) => {
                check_answers(questions, &answers)?;
                Ok((Resolution::Answered, Answer::Answer { answers }))
            }
            (Self::Question(_), Answer::Allow { .. }) => {
                Err(Refusal::new(ErrorCode::InvalidField, "a question takes 'answer' or 'deny'"))
            }
            (Self::Permission { .. }, Answer::Answer { .. }) => {
                Err(Refusal::new(ErrorCode::InvalidField, "a permission takes 'allow' or 'deny'"))
            }
        }
    }
}

/// Checks that each question that is not optional is answered, all in the right format, and that no other is.
fn check_answers(questions: &[QuestionItem], answers: &BTreeMap<String, Vec<String>>) -> Result<(), Refusal> {
    let refused = |detail| Err(Refusal::new(ErrorCode::InvalidField, detail));
    if answers.keys().any(|asked| !questions.iter().any(|item| item.question == *asked)) {
        return refused("there is an answer to a question that was not asked");
    }
    if !questions.is_empty() && answers.values().all(Vec::is_empty) {
        return refused("the answer answers nothing; 'deny' declines");
    }
    for item in questions {
        let texts = answers.get(&item.question).map(Vec::as_slice).unwrap_or_default();
        if texts.is_empty() && !item.optional {
            return refused("each question needs an answer, and one has none");
        }
        if texts.iter().any(|text| text.trim().is_empty()) {
            return refused("each question needs an answer, and one is empty");
        }
        if texts.len() > 1 && !item.multi_select {
            return refused("a question that takes one answer has several");
        }
        if texts.iter().any(|text| !item.accepts(text)) {
            return refused(match item.format {
                Some(AnswerFormat::Boolean) => {
                    "a question takes 'true' or 'false', and its answer is another"
                }
                Some(AnswerFormat::Integer) => "a question takes a whole number, and its answer is none",
                Some(AnswerFormat::Number) => "a question takes a number, and its answer is none",
                Some(AnswerFormat::Option) | None => {
                    "a question takes its options only, and its answer is none"
                }
            });
        }
        if !texts.is_empty() && !item.bounds(texts) {
            return refused("an answer is below or above what its question allows");
        }
    }
    Ok(())
}

impl Chat {
    /// The agent asks for permission to use a tool.
    pub(super) fn permission_asked(&mut self, cx: &Context, draft: &mut Draft, ask: PermissionAsk) {
        if self.asks_again(draft, &ask.request_id) {
            return;
        }
        // A tool's name is never truncated: the person who allows its use must know the tool.
        if ask.input.len() > cx.limits.open_request_bytes || !is_short(&ask.tool, NAME_BYTES) {
            self.refuse_to_agent(draft, ask.request_id, "permission", true);
            return;
        }
        let hash = input_sha256(&ask.input);
        let mut request = published_request(&cx.limits, &ask, hash.clone());
        let asked = Asked::Permission {
            input: Some(ask.input),
            input_sha256: Some(hash),
            needs_hash: request.needs_hash(),
        };
        let bytes = asked.bytes(json_size(&request));
        if self.requests.bytes() + bytes > cx.limits.open_request_bytes {
            let alone = bytes > cx.limits.open_request_bytes;
            self.refuse_to_agent(draft, ask.request_id, "permission", alone);
            return;
        }
        request.request_id = self.requests.add(&self.epoch, ask.request_id, asked, bytes);
        self.push(draft, ChatBody::PermissionRequest(request));
    }

    /// The agent asks a person a question.
    pub(super) fn question_asked(&mut self, cx: &Context, draft: &mut Draft, mut question: Question) {
        if self.asks_again(draft, &question.request_id) {
            return;
        }
        let asked = Asked::Question(question.questions.clone());
        let event = json_size(&question);
        let bytes = asked.bytes(event);
        // A question's text is the key of its answer, so it cannot be truncated.
        let alone = event > QUESTION_BYTES || bytes > cx.limits.open_request_bytes;
        if alone || self.requests.bytes() + bytes > cx.limits.open_request_bytes {
            self.refuse_to_agent(draft, question.request_id, "question", alone);
            return;
        }
        question.request_id = self.requests.add(&self.epoch, question.request_id, asked, bytes);
        self.push(draft, ChatBody::Question(question));
    }

    /// Whether the agent already has an open request under this id. The second request is then refused, because the
    /// answer to the first could be taken for its answer.
    fn asks_again(&self, draft: &mut Draft, agent_id: &RequestId) -> bool {
        let open = self.requests.of_agent(agent_id).is_some();
        if open {
            self.push(draft, request_refused("the agent asked a second time under an id that is still open"));
        }
        open
    }

    /// Denies a request that exceeds a limit, without asking a person. `alone`: it would exceed the limit even if no
    /// other request were open.
    fn refuse_to_agent(&mut self, draft: &mut Draft, agent_id: RequestId, what: &str, alone: bool) {
        let (message, why) = if alone {
            (
                "This is too large to be shown to a person, so that nobody could answer it.",
                "that is too large to be shown",
            )
        } else {
            (
                "This was not shown to a person, for what is open already is too much together. Ask again once that \
                 is answered.",
                "while what it has asked before is too much together",
            )
        };
        let answer = Answer::Deny { message: Some(message.into()) };
        draft.command(AgentCommand::Answer { id: self.next_command(), request_id: agent_id, answer });
        self.push(draft, request_refused(&format!("the agent asked for a {what} {why}")));
    }

    pub(super) fn respond(
        &mut self,
        cx: &mut Context,
        conn: ConnId,
        request_id: &RequestId,
        answer: Answer,
    ) -> Result<(), Refusal> {
        let open = self.requests.find(request_id)?;
        let (resolution, answer) = open.asked.resolve(answer)?;
        let agent_id = open.agent_id.clone();
        self.refuse_while_broken()?;
        let mut draft = Draft::new();
        let client_id = cx.conns.get(&conn).map(|conn| conn.client_id.clone());
        self.close_request(cx, &mut draft, request_id, resolution, client_id);
        draft.command(AgentCommand::Answer { id: self.next_command(), request_id: agent_id, answer });
        self.stage(cx, draft);
        Ok(())
    }

    /// Sends a page of a permission's whole input, from `offset` in bytes on.
    pub(super) fn request_input(
        &self,
        cx: &mut Context,
        conn: ConnId,
        request_id: &RequestId,
        offset: u64,
    ) -> Result<(), Refusal> {
        let Asked::Permission { input: Some(input), .. } = &self.requests.find(request_id)?.asked else {
            return Err(Refusal::new(ErrorCode::InvalidField, "this request has no input"));
        };
        let rest = usize::try_from(offset).ok().and_then(|offset| input.get(offset..));
        let Some(rest) = rest else {
            let detail = "offset is not 0 or the 'next' of an earlier page";
            return Err(Refusal::new(ErrorCode::InvalidField, detail));
        };
        let end = boundary(rest, cx.limits.event_text_bytes);
        let event = ControlEvent::RequestInput {
            chat_id: self.key.chat.clone(),
            request_id: request_id.clone(),
            offset,
            text: rest[..end].to_string(),
            next: (end < rest.len()).then_some(offset + end as u64),
            input_bytes: input.len() as u64,
            input_sha256: input_sha256(input),
        };
        cx.deliver(conn, &event);
        Ok(())
    }

    /// Closes an open request within a draft. The turn's clock of silence starts again.
    pub(super) fn close_request(
        &mut self,
        cx: &Context,
        draft: &mut Draft,
        request_id: &RequestId,
        resolution: Resolution,
        client_id: Option<String>,
    ) {
        if self.requests.open.remove(request_id).is_none() {
            return;
        }
        self.requests.closed.push_back(request_id.clone());
        if self.requests.closed.len() > CLOSED_REQUESTS {
            self.requests.closed.pop_front();
        }
        if let Some(active) = &mut self.active {
            active.progress(cx.now.ticks_ms);
        }
        let body = ChatBody::RequestResolved { request_id: request_id.clone(), resolution, client_id };
        draft.push(self.active_turn_id().as_ref(), body);
    }

    /// Closes all open requests within a draft.
    pub(super) fn close_requests(&mut self, cx: &Context, draft: &mut Draft, resolution: Resolution) {
        let open: Vec<RequestId> = self.requests.open.keys().cloned().collect();
        for request_id in open {
            self.close_request(cx, draft, &request_id, resolution, None);
        }
    }

    /// Closes all open requests as withdrawn: the agent is gone or stopping and takes no answer any more.
    pub(super) fn withdraw_requests(&mut self, cx: &mut Context) {
        let mut draft = Draft::new();
        self.close_requests(cx, &mut draft, Resolution::Withdrawn);
        self.stage(cx, draft);
    }
}

fn json_size(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |json| json.len())
}

/// The request for the event, with long parts truncated. `request_id` is still the driver's id.
fn published_request(limits: &Limits, ask: &PermissionAsk, input_sha256: String) -> PermissionRequest {
    let raw = !is_exact(&ask.input);
    let value = if raw { None } else { serde_json::from_str(&ask.input).ok() };
    let value = value.unwrap_or_else(|| Value::String(ask.input.clone()));
    let (input, truncated) = cut_value(value, limits.event_text_bytes);
    let description = ask.description.clone().map(|text| cut(text, limits.request_description_bytes));
    let (description, description_truncated) = description.unzip();
    PermissionRequest {
        request_id: ask.request_id.clone(),
        tool: ask.tool.clone(),
        input,
        input_bytes: Some(ask.input.len() as u64),
        input_sha256: Some(input_sha256),
        description,
        description_truncated: description_truncated.unwrap_or_default(),
        call_id: ask.call_id.clone(),
        truncated,
        raw,
    }
}

fn request_refused(text: &str) -> ChatBody {
    let text = format!("{text}; it was refused, and what it wanted is not done");
    ChatBody::Notice { level: NoticeLevel::Warning, code: "request_refused".into(), text }
}
