//! Requests of the agent: permission to use a tool, questions, forms, and requests that are always refused.

use std::collections::BTreeSet;

use serde_json::{json, value::RawValue};
use switchboard_core::{
    agent::{AgentEvent, PermissionAsk},
    ids::RequestId,
    wire::{NoticeLevel, Question},
};

use super::{
    below::put_below,
    elicitation::{self, Members},
    questions,
    records::{self, ControlRequest, Line},
    state::{ClaudeCodec, Pending},
    tools::UsedIn,
};
use crate::{
    dialect::Decoded,
    limits::{QUESTION_INPUT_BYTES, REQUESTS},
};

/// Why a request is refused: the error for the agent, and the text of the notice for clients.
type Refused = (&'static str, &'static str);

const UNREADABLE: Refused = (
    "this request cannot be read: a member is missing, or is there twice",
    "the agent asked for something that cannot be read; it was refused, and what it wanted is not done",
);
const UNSERVED: Refused = (
    "this client does not serve such requests",
    "the agent asked for something that no person can be asked here; it was refused",
);
const TOO_MANY: Refused = (
    "too many open requests",
    "the agent has too many open requests; a further one was refused, and what it wanted is not done",
);
const TOO_LARGE: Refused = (
    "what is asked at once is too much to be kept",
    "the agent asked a question that is too large, or too much at once; it was refused",
);
const AMBIGUOUS: Refused = (
    "two of these questions have the same text, so that an answer could be for either; ask again with other texts",
    "the agent asked two questions with the same text at once; they were refused, as an answer could be for either",
);

impl Pending {
    /// Whether consent to an input with this hash is consent to this input. Earlier gateways send no hash.
    pub(super) fn is_allowed_by(&self, input_sha256: Option<&str>) -> bool {
        !self.question
            && input_sha256.is_none_or(|hash| hash == switchboard_core::wire::input_sha256(&self.input))
    }
}

impl ClaudeCodec {
    pub(super) fn control_request(&mut self, position: u64, nth: usize, line: &Line<'_>, out: &mut Decoded) {
        let agent_id = line.request_id.as_deref().unwrap_or_default();
        let whole = line.request.map(RawValue::get).unwrap_or_default();
        let Ok(request) = serde_json::from_str::<ControlRequest<'_>>(whole) else {
            return self.refuse(agent_id, UNREADABLE, out);
        };
        if let Some(call_id) = request.tool_use_id.as_deref() {
            self.note_decided(call_id);
        }
        let tool = match (&*request.subtype, request.tool_name.as_deref(), request.input) {
            ("can_use_tool", Some(tool), Some(input)) => Some((tool, input.get())),
            ("can_use_tool", ..) => return self.refuse(agent_id, UNREADABLE, out),
            (elicitation::SUBTYPE, ..) => None,
            _ => return self.refuse(agent_id, UNSERVED, out),
        };
        if self.is_open(agent_id) || self.state.pending.len() >= REQUESTS {
            return self.refuse(agent_id, TOO_MANY, out);
        }
        let Some(request_id) = self.request_id(position, nth) else { return };
        let parent = self.asking(request.agent_id.as_deref(), request.tool_use_id.as_deref());
        let from = out.events.len();
        let input = tool.map_or(whole, |(_, input)| input);
        let value = records::value(input);
        if let Some((call_id, (tool, _))) = request.tool_use_id.as_deref().zip(tool) {
            let place = UsedIn { parent: parent.as_deref(), message: "" };
            self.tool_started(place, call_id, tool, value.clone(), out);
        }
        let questions = match tool {
            None => Some(elicitation::questions(input)),
            Some((questions::TOOL, _)) => {
                let questions = questions::read(&value);
                if questions::are_ambiguous(&questions) {
                    return self.refuse(agent_id, AMBIGUOUS, out);
                }
                Some(questions)
            }
            Some(_) => None,
        };
        if questions.is_some() && self.question_bytes() + input.len() > QUESTION_INPUT_BYTES {
            return self.refuse(agent_id, TOO_LARGE, out);
        }
        let pending = Pending {
            agent_id: agent_id.into(),
            position,
            input: input.into(),
            question: questions.is_some(),
            form: tool.is_none(),
            parent: parent.clone(),
        };
        self.state.pending.insert(request_id.as_str().into(), pending);
        out.events.push(match questions {
            Some(questions) => AgentEvent::Question(Question { request_id, questions }),
            None => AgentEvent::Permission(PermissionAsk {
                request_id,
                tool: tool.map(|(name, _)| name.into()).unwrap_or_default(),
                input: input.into(),
                description: request
                    .description
                    .as_deref()
                    .or(request.decision_reason.as_deref())
                    .map(Into::into),
                call_id: request.tool_use_id.as_deref().map(Into::into),
            }),
        });
        put_below(parent.as_deref(), from, out);
    }

    /// The request id for the `nth` object of the line at `position`. The agent may reuse its own ids, and an answer
    /// may arrive after its request was withdrawn; this id never belongs to another request.
    fn request_id(&self, position: u64, nth: usize) -> Option<RequestId> {
        let nth = if nth == 0 { String::new() } else { format!(".{nth}") };
        RequestId::parse(&format!("{}{position}{nth}", self.state.prefix)).ok()
    }

    /// The open request that an answer with this request id belongs to.
    pub(super) fn find(&self, request_id: &RequestId) -> Option<(&String, &Pending)> {
        let asked_before = |(_, pending): &(&String, &Pending)| {
            pending.position <= self.published && pending.agent_id == request_id.as_str()
        };
        let pending = &self.state.pending;
        pending.get_key_value(request_id.as_str()).or_else(|| pending.iter().find(asked_before))
    }

    fn is_open(&self, agent_id: &str) -> bool {
        self.state.pending.values().any(|pending| pending.agent_id == agent_id)
    }

    /// Handles an object that is not a readable line, because a member occurs twice. A request must be refused, because
    /// the agent waits for an answer.
    pub(super) fn unreadable(&self, object: &str, out: &mut Decoded) {
        let members = Members::read(object);
        if members.text("type").as_deref() == Some("control_request") {
            self.refuse(&members.text("request_id").unwrap_or_default(), UNREADABLE, out);
        }
    }

    /// Refuses a request without asking a person, and sends a notice.
    fn refuse(&self, agent_id: &str, (error, said): Refused, out: &mut Decoded) {
        let mut said = said;
        if self.is_open(agent_id) {
            // The agent could take any line with this id for the answer to the open request.
            said = "the agent asked a second time under an id that is still open; this is not asked, and what it \
                    wanted is not done";
        } else {
            out.replies.push(refusal(agent_id, error));
        }
        out.notice(NoticeLevel::Warning, "request_refused", said, None);
    }

    /// Bytes of input of all open questions. Only this codec stores them.
    fn question_bytes(&self) -> usize {
        let open = self.state.pending.values().filter(|pending| pending.question);
        open.map(|pending| pending.input.len()).sum()
    }

    pub(super) fn withdrawn(&mut self, agent_id: &str, out: &mut Decoded) {
        let pending = self.state.pending.iter().find(|(_, pending)| pending.agent_id == agent_id);
        let Some(id) = pending.map(|(id, _)| id.clone()) else { return out.alive() };
        self.state.pending.remove(&id);
        // A gateway of an earlier version may have named the request by the agent's id. Each request has only one of
        // the two ids, so one of the events withdraws nothing. Both are always sent, because the same records must give
        // the same events.
        let ids: BTreeSet<&str> = [id.as_str(), agent_id].into();
        let ids = ids.into_iter().filter_map(|id| RequestId::parse(id).ok());
        out.events.extend(ids.map(|request_id| AgentEvent::Withdrawn { request_id }));
    }
}

fn refusal(request_id: &str, error: &str) -> Vec<u8> {
    let response = json!({"subtype": "error", "request_id": request_id, "error": error});
    json!({"type": "control_response", "response": response}).to_string().into_bytes()
}

/// JSON text that is written into a line unchanged.
pub(super) fn raw(json: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(json.into()).ok()
}
