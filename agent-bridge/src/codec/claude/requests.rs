//! What the agent asks for: leave to use a tool, answers to questions, and things that nobody grants.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};
use switchboard_core::{
    agent::{AgentEvent, PermissionAsk},
    ids::RequestId,
    wire::{NoticeLevel, Question},
};

use super::{
    ClaudeCodec,
    elicitation::{self, Members},
    questions,
    records::{ControlRequest, Line},
};
use crate::{
    codec::Decoded,
    limits::{QUESTION_INPUT_BYTES, REQUESTS},
};

/// Why a request is refused: what the agent gets, and what the notice says.
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

/// A request that a person has not answered yet.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Pending {
    /// The agent's own id of it.
    pub(super) agent_id: String,
    /// The record that asked. Checkpoints of earlier versions have none, and the agent's id as the request's identity.
    #[serde(default)]
    position: u64,
    /// The tool's input, or the whole request of a form, as the agent wrote it: leave is given for exactly this.
    pub(super) input: String,
    pub(super) question: bool,
    #[serde(default)]
    pub(super) form: bool,
}

impl Pending {
    /// Whether leave for an input with this hash is leave for this one. Earlier gateways name no hash.
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
        let input = tool.map_or(whole, |(_, input)| input);
        // What no value holds is shown as the text that it is.
        let value: Value = serde_json::from_str(input).unwrap_or_else(|_| input.into());
        if let Some((call_id, (tool, _))) = request.tool_use_id.as_deref().zip(tool) {
            self.tool_started(call_id, tool, value.clone(), out);
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
    }

    /// The identity of the request that a record asks, the `nth` object on its line. The agent may use an id again,
    /// and an answer may come after its request was withdrawn: this one is never another request's.
    fn request_id(&self, position: u64, nth: usize) -> Option<RequestId> {
        let nth = if nth == 0 { String::new() } else { format!(".{nth}") };
        RequestId::parse(&format!("{}{position}{nth}", self.state.prefix)).ok()
    }

    /// The open request that an answer is for.
    pub(super) fn find(&self, request_id: &RequestId) -> Option<(&String, &Pending)> {
        let asked_before = |(_, pending): &(&String, &Pending)| {
            pending.position <= self.known && pending.agent_id == request_id.as_str()
        };
        let pending = &self.state.pending;
        pending.get_key_value(request_id.as_str()).or_else(|| pending.iter().find(asked_before))
    }

    fn is_open(&self, agent_id: &str) -> bool {
        self.state.pending.values().any(|pending| pending.agent_id == agent_id)
    }

    /// An object that is no line, for one of its members is there twice. The agent waits for an answer to a request.
    pub(super) fn unreadable(&self, object: &str, out: &mut Decoded) {
        let members = Members::read(object);
        if members.text("type").as_deref() == Some("control_request") {
            self.refuse(&members.text("request_id").unwrap_or_default(), UNREADABLE, out);
        }
    }

    /// Refuses a request without asking anybody, and says so.
    fn refuse(&self, agent_id: &str, (error, said): Refused, out: &mut Decoded) {
        let mut said = said;
        if self.is_open(agent_id) {
            // Any line about this id could be taken for an answer to the first request.
            said = "the agent asked a second time under an id that is still open; this is not asked, and what it \
                    wanted is not done";
        } else {
            out.replies.push(refusal(agent_id, error));
        }
        let (level, code) = (NoticeLevel::Warning, "request_refused".into());
        out.events.push(AgentEvent::Notice { level, code, text: said.into() });
    }

    /// The whole inputs of open questions, which this codec alone keeps.
    fn question_bytes(&self) -> usize {
        let open = self.state.pending.values().filter(|pending| pending.question);
        open.map(|pending| pending.input.len()).sum()
    }

    pub(super) fn withdrawn(&mut self, agent_id: &str, out: &mut Decoded) {
        let pending = self.state.pending.iter().find(|(_, pending)| pending.agent_id == agent_id);
        let Some(id) = pending.map(|(id, _)| id.clone()) else { return out.alive() };
        self.state.pending.remove(&id);
        // A gateway of an earlier version named it by the agent's id. No request has both, so that one of the two
        // withdraws nothing; which one must not depend on what is known here, as the same records give the same events.
        let ids: BTreeSet<&str> = [id.as_str(), agent_id].into();
        let ids = ids.into_iter().filter_map(|id| RequestId::parse(id).ok());
        out.events.extend(ids.map(|request_id| AgentEvent::Withdrawn { request_id }));
    }
}

fn refusal(request_id: &str, error: &str) -> Vec<u8> {
    let response = json!({"subtype": "error", "request_id": request_id, "error": error});
    json!({"type": "control_response", "response": response}).to_string().into_bytes()
}

/// JSON text as it was, for a line that is made here.
pub(super) fn raw(json: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(json.into()).ok()
}
