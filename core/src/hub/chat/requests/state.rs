//! The open requests of a chat: what a request may be, its id, and which answers fit it.

use alloc::{
    collections::{BTreeMap, VecDeque},
    format,
    string::{String, ToString as _},
    vec::Vec,
};

use serde_json::Value;

use super::answers::check_answers;
use crate::{
    agent::PermissionAsk,
    hub::{
        chat::{
            bounds::NAME_BYTES,
            text::{boundary, cut, cut_value, is_short, json_size},
        },
        refusals::Refusal,
    },
    ids::{ChatId, Epoch, RequestId, TurnId},
    journal::{Change, ChatRecord},
    limits::Limits,
    wire::{
        Answer, ChatBody, ChatEvent, ControlEvent, ErrorCode, Frame, PermissionRequest, Question,
        QuestionItem, Resolution, input_sha256, is_exact,
    },
};

/// Longest event of a question, in bytes.
const QUESTION_BYTES: usize = 192 * 1024;

/// Requests remembered after they were closed, so that a late answer gets `already_resolved`.
const CLOSED_REQUESTS: usize = 64;

/// The requests of a chat.
#[derive(Debug, Default)]
pub(in crate::hub::chat) struct Requests {
    open: BTreeMap<RequestId, OpenRequest>,
    closed: VecDeque<RequestId>,
    /// How many requests the chat has had: the counter in the last request's id.
    last: u64,
}

#[derive(Debug)]
struct OpenRequest {
    /// The agent's own id.
    agent_id: RequestId,
    /// The turn in which the agent asked.
    turn_id: Option<TurnId>,
    content: RequestContent,
    /// The request's approximate size in memory and in the journal, its event included.
    bytes: usize,
}

#[derive(Debug)]
enum RequestContent {
    Permission {
        /// The whole input as JSON text. None for requests of earlier versions, which did not store the input.
        input: Option<String>,
        input_sha256: Option<String>,
        /// Whether the event contains the input truncated or inexactly, so that an answer must name the input's hash.
        needs_hash: bool,
    },
    Question(Vec<QuestionItem>),
}

/// A request of the agent that is not shown to a person.
#[derive(Debug)]
pub(in crate::hub::chat) struct Declined {
    /// The agent's id of the request, and the message for the agent with which it is denied. None if an answer could be
    /// taken for that to another request.
    pub(in crate::hub::chat) denial: Option<(RequestId, &'static str)>,
    /// What the agent did, for the chat's readers.
    pub(in crate::hub::chat) reason: String,
}

/// A person's valid answer to a request.
#[derive(Debug)]
pub(in crate::hub::chat) struct Resolved {
    pub(in crate::hub::chat) resolution: Resolution,
    pub(in crate::hub::chat) agent_id: RequestId,
    /// The answer for the agent.
    pub(in crate::hub::chat) answer: Answer,
}

impl Declined {
    /// A request that exceeds a limit. `alone`: it would exceed the limit even if no other request were open.
    fn too_large(agent_id: RequestId, what: &str, alone: bool) -> Self {
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
        Self { denial: Some((agent_id, message)), reason: format!("the agent asked for a {what} {why}") }
    }
}

impl Requests {
    /// Restores the open requests from the journal's record.
    pub(in crate::hub::chat) fn restore(record: &ChatRecord) -> Self {
        let mut open = BTreeMap::new();
        for request in &record.requests {
            let Ok(event) = serde_json::from_slice::<ChatEvent>(request.frame.bytes()) else { continue };
            let (agent_id, turn_id) = (request.agent_request_id.clone(), event.place.turn_id.clone());
            let Some(content) = RequestContent::restore(event, request.input.clone()) else { continue };
            let bytes = content.bytes(request.frame.len());
            open.insert(request.request_id.clone(), OpenRequest { agent_id, turn_id, content, bytes });
        }
        Self { open, closed: VecDeque::new(), last: record.last_request }
    }

    pub(in crate::hub::chat) fn len(&self) -> usize {
        self.open.len()
    }

    pub(in crate::hub::chat) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The chat's id of the open request that has this id at the agent.
    pub(in crate::hub::chat) fn of_agent(&self, agent_id: &RequestId) -> Option<RequestId> {
        self.open.iter().find(|(_, open)| open.agent_id == *agent_id).map(|(id, _)| id.clone())
    }

    /// The change that belongs to a request's event. If the request has been closed meanwhile, its `RequestClosed`
    /// follows later.
    pub(in crate::hub::chat) fn opened(
        &self,
        request_id: &RequestId,
        question: bool,
        frame: &Frame,
    ) -> Change {
        let open = self.open.get(request_id);
        let input = open.and_then(|open| match &open.content {
            RequestContent::Permission { input, .. } => input.clone(),
            RequestContent::Question(_) => None,
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

    /// Opens a permission request of the agent.
    ///
    /// # Errors
    /// If the request exceeds a limit, or the agent has an open request under its id.
    pub(in crate::hub::chat) fn ask_permission(
        &mut self,
        limits: &Limits,
        epoch: &Epoch,
        turn_id: Option<&TurnId>,
        ask: PermissionAsk,
    ) -> Result<ChatBody, Declined> {
        self.check_new(&ask.request_id)?;
        // A tool's name is never truncated: the person who allows its use must know the tool.
        if ask.input.len() > limits.open_request_bytes || !is_short(&ask.tool, NAME_BYTES) {
            return Err(Declined::too_large(ask.request_id, "permission", true));
        }
        let hash = input_sha256(&ask.input);
        let mut request = published_request(limits, &ask, hash.clone());
        let content = RequestContent::Permission {
            input: Some(ask.input),
            input_sha256: Some(hash),
            needs_hash: request.needs_hash(),
        };
        let bytes = content.bytes(json_size(&request));
        if self.bytes() + bytes > limits.open_request_bytes {
            let alone = bytes > limits.open_request_bytes;
            return Err(Declined::too_large(ask.request_id, "permission", alone));
        }
        let open = OpenRequest { agent_id: ask.request_id, turn_id: turn_id.cloned(), content, bytes };
        request.request_id = self.add(epoch, open);
        Ok(ChatBody::PermissionRequest(request))
    }

    /// Opens a question of the agent.
    ///
    /// # Errors
    /// If the question exceeds a limit, or the agent has an open request under its id.
    pub(in crate::hub::chat) fn ask_question(
        &mut self,
        limits: &Limits,
        epoch: &Epoch,
        turn_id: Option<&TurnId>,
        mut question: Question,
    ) -> Result<ChatBody, Declined> {
        self.check_new(&question.request_id)?;
        let content = RequestContent::Question(question.questions.clone());
        let event = json_size(&question);
        let bytes = content.bytes(event);
        // A question's text is the key of its answer, so it cannot be truncated.
        let alone = event > QUESTION_BYTES || bytes > limits.open_request_bytes;
        if alone || self.bytes() + bytes > limits.open_request_bytes {
            return Err(Declined::too_large(question.request_id, "question", alone));
        }
        let agent_id = question.request_id;
        let open = OpenRequest { agent_id, turn_id: turn_id.cloned(), content, bytes };
        question.request_id = self.add(epoch, open);
        Ok(ChatBody::Question(question))
    }

    /// Refuses a second request under an open id of the agent without an answer, because that could be taken for the
    /// answer to the first.
    fn check_new(&self, agent_id: &RequestId) -> Result<(), Declined> {
        if self.of_agent(agent_id).is_none() {
            return Ok(());
        }
        let reason = "the agent asked a second time under an id that is still open".into();
        Err(Declined { denial: None, reason })
    }

    /// Checks a person's answer to an open request.
    ///
    /// # Errors
    /// If the request is not open, or the answer does not fit it.
    pub(in crate::hub::chat) fn resolve(
        &self,
        request_id: &RequestId,
        answer: Answer,
    ) -> Result<Resolved, Refusal> {
        let open = self.find(request_id)?;
        let (resolution, answer) = open.content.resolve(answer)?;
        Ok(Resolved { resolution, agent_id: open.agent_id.clone(), answer })
    }

    /// A page of a permission's whole input, from `offset` in bytes on.
    ///
    /// # Errors
    /// If the request is not open or has no input, or the offset is not that of a page.
    pub(in crate::hub::chat) fn input_page(
        &self,
        limits: &Limits,
        chat_id: &ChatId,
        request_id: &RequestId,
        offset: u64,
    ) -> Result<ControlEvent, Refusal> {
        let RequestContent::Permission { input: Some(input), .. } = &self.find(request_id)?.content else {
            return Err(Refusal::new(ErrorCode::InvalidField, "this request has no input"));
        };
        let rest = usize::try_from(offset).ok().and_then(|offset| input.get(offset..));
        let Some(rest) = rest else {
            let detail = "offset is not 0 or the 'next' of an earlier page";
            return Err(Refusal::new(ErrorCode::InvalidField, detail));
        };
        let end = boundary(rest, limits.event_text_bytes);
        Ok(ControlEvent::RequestInput {
            chat_id: chat_id.clone(),
            request_id: request_id.clone(),
            offset,
            text: rest[..end].to_string(),
            next: (end < rest.len()).then_some(offset + end as u64),
            input_bytes: input.len() as u64,
            input_sha256: input_sha256(input),
        })
    }

    /// Closes a request. `false`: it is not open.
    pub(in crate::hub::chat) fn close(&mut self, request_id: &RequestId) -> bool {
        let open = self.open.remove(request_id).is_some();
        if open {
            self.closed.push_back(request_id.clone());
            if self.closed.len() > CLOSED_REQUESTS {
                self.closed.pop_front();
            }
        }
        open
    }

    /// The turn in which an open request was asked.
    pub(in crate::hub::chat) fn turn_of(&self, request_id: &RequestId) -> Option<&TurnId> {
        self.open.get(request_id)?.turn_id.as_ref()
    }

    /// Whether a request of this turn is open.
    pub(in crate::hub::chat) fn are_open_in(&self, turn_id: Option<&TurnId>) -> bool {
        self.open.values().any(|open| open.turn_id.as_ref() == turn_id)
    }

    /// The agent's ids of the open requests of this turn.
    pub(in crate::hub::chat) fn agent_ids_in(&self, turn_id: &TurnId) -> Vec<RequestId> {
        let asked = self.open.values().filter(|open| open.turn_id.as_ref() == Some(turn_id));
        asked.map(|open| open.agent_id.clone()).collect()
    }

    /// The ids of the open requests.
    pub(in crate::hub::chat) fn open_ids(&self) -> Vec<RequestId> {
        self.open.keys().cloned().collect()
    }

    fn add(&mut self, epoch: &Epoch, open: OpenRequest) -> RequestId {
        self.last += 1;
        let id =
            RequestId::parse(&format!("r{}.{epoch}", self.last)).expect("a number and an epoch are short");
        self.open.insert(id.clone(), open);
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

impl RequestContent {
    fn restore(event: ChatEvent, input: Option<String>) -> Option<Self> {
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
