//! What the agent asks for: leave to use a tool, answers to questions, and things that nobody grants.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};
use switchboard_core::{
    agent::{AgentEvent, PermissionAsk},
    ids::RequestId,
    wire::{NoticeLevel, Question},
};

use super::{
    ClaudeCodec, elicitation, questions,
    records::{ControlRequest, Line},
};
use crate::{
    codec::Decoded,
    limits::{QUESTION_INPUT_BYTES, REQUESTS},
};

/// A request that a person has not answered yet.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Pending {
    /// The agent's own id of it.
    pub(super) agent_id: String,
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
    pub(super) fn control_request(&mut self, position: u64, line: &Line<'_>, out: &mut Decoded) {
        let agent_id = line.request_id.as_deref().unwrap_or_default();
        let whole = line.request.map(RawValue::get).unwrap_or_default();
        let request: ControlRequest<'_> = serde_json::from_str(whole).unwrap_or_default();
        let tool = match (&*request.subtype, request.tool_name.as_deref(), request.input) {
            ("can_use_tool", Some(tool), Some(input)) => Some((tool, input.get())),
            (elicitation::SUBTYPE, ..) => None,
            _ => {
                // Not understood, so not granted: the agent gets an error, and decides what to do without.
                out.replies.push(refusal(agent_id, "this client does not serve such requests"));
                return out.alive();
            }
        };
        if self.state.pending.values().any(|pending| pending.agent_id == agent_id) {
            // Any line about this id could be taken for an answer to the first request.
            out.events.push(AgentEvent::Notice {
                level: NoticeLevel::Warning,
                code: "request_refused".into(),
                text: "the agent asked a second time under an id that is still open; this is not asked, and what \
                       it wanted is not done"
                    .into(),
            });
            return;
        }
        if self.state.pending.len() >= REQUESTS {
            out.replies.push(refusal(agent_id, "too many open requests"));
            return out.alive();
        }
        let id = RequestId::parse(agent_id)
            .or_else(|_| RequestId::parse(&format!("{}{position}", self.state.prefix)));
        let Ok(request_id) = id else { return };
        if self.state.pending.contains_key(request_id.as_str()) {
            out.replies.push(refusal(agent_id, "this id is taken by an open request"));
            return out.alive();
        }
        let input = tool.map_or(whole, |(_, input)| input);
        // What no value holds is shown as the text that it is.
        let value: Value = serde_json::from_str(input).unwrap_or_else(|_| input.into());
        if let Some((call_id, (tool, _))) = request.tool_use_id.as_deref().zip(tool) {
            self.tool_started(call_id, tool, value.clone(), out);
        }
        let questions = match tool {
            None => Some(elicitation::questions(input)),
            Some((questions::TOOL, _)) => Some(questions::read(&value)),
            Some(_) => None,
        };
        if questions.is_some() && self.question_bytes() + input.len() > QUESTION_INPUT_BYTES {
            out.replies.push(refusal(agent_id, "what is asked at once is too much to be kept"));
            out.events.push(AgentEvent::Notice {
                level: NoticeLevel::Warning,
                code: "request_refused".into(),
                text: "the agent asked a question that is too large, or too much at once; it was refused"
                    .into(),
            });
            return;
        }
        let pending = Pending {
            agent_id: agent_id.into(),
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

    /// The whole inputs of open questions, which this codec alone keeps.
    fn question_bytes(&self) -> usize {
        let open = self.state.pending.values().filter(|pending| pending.question);
        open.map(|pending| pending.input.len()).sum()
    }

    pub(super) fn withdrawn(&mut self, agent_id: &str, out: &mut Decoded) {
        let pending = self.state.pending.iter().find(|(_, pending)| pending.agent_id == agent_id);
        let Some(id) = pending.map(|(id, _)| id.clone()) else { return out.alive() };
        self.state.pending.remove(&id);
        if let Ok(request_id) = RequestId::parse(&id) {
            out.events.push(AgentEvent::Withdrawn { request_id });
        }
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
