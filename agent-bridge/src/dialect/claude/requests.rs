//! Requests of the agent: permission to use a tool, questions, forms, and requests that are always refused.

use std::{collections::BTreeSet, mem};

use serde_json::{json, value::RawValue};
use switchboard_core::{
    agent::{AgentEvent, PermissionAsk},
    ids::RequestId,
    wire::{NoticeLevel, Question, QuestionItem},
};

use super::{
    below::put_below,
    elicitation::{self, Members},
    questions,
    records::{self, ControlRequest, Line},
    state::{ClaudeCodec, Pending},
    tools::{UsedIn, parent_of},
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
    /// Handles a request, the `nth` object of the line at `position`.
    pub(super) fn control_request(&mut self, position: u64, nth: usize, line: &Line<'_>, out: &mut Decoded) {
        let agent_id = line.request_id.as_deref().unwrap_or_default();
        let whole = line.request.map(RawValue::get).unwrap_or_default();
        let Some(request_id) = self.request_id(position, nth) else { return };
        let asked = match serde_json::from_str(whole) {
            Ok(request) => self.ask(agent_id, &request, whole, (position, request_id), out),
            Err(_) => Err(UNREADABLE),
        };
        if let Err(refused) = asked {
            self.refuse(agent_id, refused, out);
        }
    }

    /// Asks people for what the agent requests. `whole` is the request as JSON.
    fn ask(
        &mut self,
        agent_id: &str,
        request: &ControlRequest<'_>,
        whole: &str,
        (position, request_id): (u64, RequestId),
        out: &mut Decoded,
    ) -> Result<(), Refused> {
        let call_id = request.tool_use_id.as_deref();
        if let Some(call_id) = call_id {
            self.note_decided(call_id);
        }
        let tool = requested_tool(request)?;
        if self.is_open(agent_id) || self.state.pending.len() >= REQUESTS {
            return Err(TOO_MANY);
        }
        let parent = self.asking(request.agent_id.as_deref(), call_id);
        let input = tool.map_or(whole, |(_, input)| input);
        let value = records::value(input);
        let questions = match tool {
            None => Some(elicitation::questions(input)),
            Some((questions::TOOL, _)) => Some(questions::read(&value)),
            Some(_) => None,
        };
        if let Some((call_id, (tool, _))) = call_id.zip(tool) {
            let from = out.events.len();
            let place = UsedIn { parent: parent.as_deref(), message: "" };
            self.tool_started(place, call_id, tool, value, out);
            put_below(parent.as_deref(), from, out);
        }
        if let Some(questions) = &questions {
            self.check_questions(questions, input)?;
        }
        let pending = Pending {
            agent_id: agent_id.into(),
            position,
            input: input.into(),
            question: questions.is_some(),
            form: tool.is_none(),
            of_subagent: request.agent_id.is_some(),
            parent: parent.clone(),
            call_id: call_id.map(Into::into),
        };
        self.state.pending.insert(request_id.as_str().into(), pending);
        let from = out.events.len();
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
                call_id: call_id.map(Into::into),
            }),
        });
        put_below(parent.as_deref(), from, out);
        Ok(())
    }

    /// Checks that answers to these questions can be assigned to them, and that the codec can store their input.
    fn check_questions(&self, questions: &[QuestionItem], input: &str) -> Result<(), Refused> {
        if questions::are_ambiguous(questions) {
            return Err(AMBIGUOUS);
        }
        if self.question_bytes() + input.len() > QUESTION_INPUT_BYTES {
            return Err(TOO_LARGE);
        }
        Ok(())
    }

    /// Denies what is still asked when the turn ends, because nobody can answer it any more: a subagent in the
    /// background would wait for ever. A request whose asker has ended with the turn is only forgotten, because the
    /// agent may take an unexpected answer for the answer to its next request.
    pub(super) fn deny_unanswered(&mut self, out: &mut Decoded) {
        let unanswered = mem::take(&mut self.state.pending);
        let waiting = unanswered.values().filter(|pending| self.waits_beyond_turn(pending));
        let before = out.replies.len();
        out.replies.extend(waiting.filter_map(Pending::denial_at_the_end));
        if out.replies.len() > before {
            let text = "The turn ended before somebody answered what a subagent had asked; it was denied, and what \
                        it wanted is not done.";
            out.notice(NoticeLevel::Warning, "request_refused", text, None);
        }
    }

    /// Whether the asker of this request may go on when the turn ends. While subagents work in the background, a request
    /// of which nobody knows who asked may be one of theirs.
    fn waits_beyond_turn(&self, pending: &Pending) -> bool {
        let place = UsedIn { parent: pending.parent.as_deref(), message: "" };
        if let Some(call_id) = &pending.call_id {
            if self.has_ended(place, call_id) {
                return false;
            }
            let tool = self.running_use(place, call_id).and_then(|key| self.state.tools.get_key_value(&key));
            // The agent announces its own uses before it asks.
            if tool.is_some_and(|(key, tool)| parent_of(key).is_none() && !tool.message.is_empty()) {
                return false;
            }
        }
        match &pending.parent {
            Some(parent) => !self.ends_with_turn(parent),
            None => pending.of_subagent || self.has_background_agents(),
        }
    }

    /// The request id for the `nth` object of the line at `position`. The agent may reuse its own ids, and an answer
    /// may arrive after its request was withdrawn; this id never belongs to another request.
    fn request_id(&self, position: u64, nth: usize) -> Option<RequestId> {
        RequestId::parse(&self.id(position, nth)).ok()
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

/// The tool that the agent asks to use, and its input as JSON. `None` for a form.
fn requested_tool<'a>(request: &'a ControlRequest<'_>) -> Result<Option<(&'a str, &'a str)>, Refused> {
    match (&*request.subtype, request.tool_name.as_deref(), request.input) {
        ("can_use_tool", Some(tool), Some(input)) => Ok(Some((tool, input.get()))),
        ("can_use_tool", ..) => Err(UNREADABLE),
        (elicitation::SUBTYPE, ..) => Ok(None),
        _ => Err(UNSERVED),
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
