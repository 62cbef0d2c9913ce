//! What the agent asks for: leave to use a tool, answers to questions, and things that nobody grants.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};
use switchboard_core::{
    agent::{AgentEvent, PermissionAsk},
    ids::RequestId,
    wire::{NoticeLevel, Question, QuestionItem, QuestionOption},
};

use super::{
    ClaudeCodec,
    records::{ControlRequest, Line, Questions},
};
use crate::{codec::Decoded, limits::REQUESTS};

/// A request that a person has not answered yet.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Pending {
    /// The agent's own id of it.
    pub(super) agent_id: String,
    /// The tool's input, as the agent wrote it: leave is given for exactly this.
    pub(super) input: String,
    pub(super) question: bool,
}

impl Pending {
    /// Whether leave for an input with this hash is leave for this one. Earlier gateways name no hash.
    pub(super) fn is_allowed_by(&self, input_sha256: Option<&str>) -> bool {
        input_sha256.is_none_or(|hash| hash == switchboard_core::wire::input_sha256(&self.input))
    }
}

impl ClaudeCodec {
    pub(super) fn control_request(&mut self, position: u64, line: &Line<'_>, out: &mut Decoded) {
        let agent_id = line.request_id.as_deref().unwrap_or_default();
        let request = line.request.and_then(|raw| serde_json::from_str::<ControlRequest<'_>>(raw.get()).ok());
        let request = request.filter(|request| request.subtype == "can_use_tool");
        let tool = request.as_ref().and_then(|request| request.tool_name.as_deref().zip(request.input));
        let (Some(request), Some((tool, raw))) = (&request, tool) else {
            // Not understood, so not granted: the agent is told, and decides what to do without.
            out.replies.push(refusal(agent_id, "this client does not serve such requests"));
            return out.alive();
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
        // What no value holds is shown as the text that it is.
        let input: Value = serde_json::from_str(raw.get()).unwrap_or_else(|_| raw.get().into());
        let call_id = request.tool_use_id.as_deref();
        if let Some(call_id) = call_id {
            self.tool_started(call_id, tool, input.clone(), out);
        }
        let questions = if tool == "AskUserQuestion" { questions(&input) } else { None };
        let pending =
            Pending { agent_id: agent_id.into(), input: raw.get().into(), question: questions.is_some() };
        self.state.pending.insert(request_id.as_str().into(), pending);
        out.events.push(match questions {
            Some(questions) => AgentEvent::Question(Question { request_id, questions }),
            None => AgentEvent::Permission(PermissionAsk {
                request_id,
                tool: tool.into(),
                input: raw.get().into(),
                description: request
                    .description
                    .as_deref()
                    .or(request.decision_reason.as_deref())
                    .map(Into::into),
                call_id: call_id.map(Into::into),
            }),
        });
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

/// The questions of an `AskUserQuestion`. None: not understood, so it is asked as a permission.
fn questions(input: &Value) -> Option<Vec<QuestionItem>> {
    let asked = Questions::deserialize(input).ok()?.questions;
    let items = asked.into_iter().map(|asked| QuestionItem {
        question: asked.question,
        header: asked.header,
        multi_select: asked.multi_select,
        options: asked
            .options
            .into_iter()
            .map(|option| QuestionOption { label: option.label, description: option.description })
            .collect(),
    });
    let items: Vec<QuestionItem> = items.collect();
    (!items.is_empty()).then_some(items)
}

fn refusal(request_id: &str, error: &str) -> Vec<u8> {
    let response = json!({"subtype": "error", "request_id": request_id, "error": error});
    json!({"type": "control_response", "response": response}).to_string().into_bytes()
}

/// A tool's input with the answers of a person in it.
pub(super) fn with_answers(input: &str, answers: &std::collections::BTreeMap<String, Vec<String>>) -> Value {
    let mut input: Value = serde_json::from_str(input).unwrap_or_default();
    if let Value::Object(fields) = &mut input {
        // Several choices for one question go as one text: the tool's schema knows strings only.
        let answers = answers.iter().map(|(question, chosen)| (question.clone(), chosen.join(", ").into()));
        fields.insert("answers".into(), Value::Object(answers.collect()));
    }
    input
}

/// JSON text as it was, for a line that is made here.
pub(super) fn raw(json: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(json.into()).ok()
}
