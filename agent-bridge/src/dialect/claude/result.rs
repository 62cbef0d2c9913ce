//! The end of a turn: outcome, error, usage and cost.

use switchboard_core::{
    agent::AgentEvent,
    wire::{Cost, Outcome, TurnError, Usage},
};

use super::{
    blocks::MessageEnd,
    notices::{SIGN_IN, needs_sign_in},
    records::TurnResult,
    state::{Cancel, ClaudeCodec},
};
use crate::dialect::{Decoded, sanitize::sentence};

impl ClaudeCodec {
    pub(super) fn result(&mut self, text: &str, out: &mut Decoded) {
        let result: TurnResult = serde_json::from_str(text).unwrap_or_default();
        if unknown_session(&result) {
            out.unknown_session = true;
            return out.alive();
        }
        self.finish_message(MessageEnd::Stands, out);
        self.said_at_the_end(&result, out);
        let outcome = self.outcome(&result);
        let cost = self.cost(&result);
        self.last_words(&result, outcome, out);
        self.state.tools.clear();
        self.state.ended_uses.clear();
        self.state.unconfirmed.clear();
        if !self.is_ours(&result) {
            return out.alive();
        }
        let error = (outcome == Outcome::Failed).then(|| error(&result));
        self.turn_ended(AgentEvent::TurnEnded { outcome, error, usage: usage(&result), cost }, out);
    }

    /// Ends a turn for which the agent sends no result, because it dropped the prompt or answered it in an earlier
    /// agent instance.
    pub(super) fn ended_without_result(&mut self, outcome: Outcome, out: &mut Decoded) {
        let error = (outcome == Outcome::Failed).then(|| TurnError {
            code: "agent_error".into(),
            detail: "The agent has been given this message before and does not answer it again.".into(),
        });
        self.turn_ended(AgentEvent::TurnEnded { outcome, error, usage: None, cost: None }, out);
    }

    fn turn_ended(&mut self, ended: AgentEvent, out: &mut Decoded) {
        self.state.turn = None;
        self.state.cancel = Cancel::None;
        self.state.pending.clear();
        out.turn_ended = true;
        out.events.push(ended);
    }

    /// Sends the text of a turn that had no other text.
    fn last_words(&mut self, result: &TurnResult, outcome: Outcome, out: &mut Decoded) {
        let spoke = std::mem::take(&mut self.state.spoke);
        let synthetic = self.state.synthetic.take();
        if spoke || outcome != Outcome::Completed {
            return;
        }
        let text = result.result.clone().filter(|text| !text.is_empty()).or(synthetic);
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            out.events.push(AgentEvent::Message { text });
        }
    }

    /// Whether the result is for the prompt that was sent last. The agent may also run turns of its own.
    fn is_ours(&self, result: &TurnResult) -> bool {
        let Some(turn) = &self.state.turn else { return true };
        match &result.user_message_uuids {
            Some(uuids) if !uuids.is_empty() => uuids.contains(&turn.uuid),
            _ => !turn.queued,
        }
    }

    fn outcome(&self, result: &TurnResult) -> Outcome {
        let reason = result.terminal_reason.as_deref();
        // Some versions of the agent set only one of the two.
        let failed = result.is_error == Some(true) || result.subtype.starts_with("error");
        let aborted = match reason {
            Some(reason) => reason.starts_with("aborted"),
            None => self.state.cancel != Cancel::None && failed,
        };
        match failed {
            _ if aborted => Outcome::Cancelled,
            true => Outcome::Failed,
            false => Outcome::Completed,
        }
    }

    /// The cost of this turn: reported by newer versions of the agent, otherwise the growth of the session's total.
    fn cost(&mut self, result: &TurnResult) -> Option<Cost> {
        let total = result.total_cost_usd;
        let before = self.state.total_usd;
        self.state.total_usd = total.or(before);
        let outright = result.model_usage_since_last_result.as_ref();
        let outright = outright.map(|models| models.values().fold(0.0, |sum, model| sum + model.cost_usd));
        let usd: f64 = outright.or_else(|| Some(total? - before?))?;
        (usd.is_finite() && usd >= 0.0).then_some(Cost { usd })
    }
}

fn unknown_session(result: &TurnResult) -> bool {
    let errors = result.errors.as_deref().unwrap_or_default();
    result.num_turns == Some(0) && errors.iter().any(|error| error.starts_with("No conversation found"))
}

fn usage(result: &TurnResult) -> Option<Usage> {
    if let Some(models) = result.model_usage_since_last_result.as_ref().filter(|models| !models.is_empty()) {
        let sum = |count: fn(&super::records::ModelUsage) -> u64| {
            models.values().map(count).fold(0, u64::saturating_add)
        };
        return Some(Usage {
            input_tokens: sum(|model| model.input_tokens),
            output_tokens: sum(|model| model.output_tokens),
            cache_read_tokens: sum(|model| model.cache_read_input_tokens),
            cache_write_tokens: sum(|model| model.cache_creation_input_tokens),
        });
    }
    result.usage.as_ref().map(|usage| Usage {
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens,
        cache_read_tokens: usage.cache_read_input_tokens,
        cache_write_tokens: usage.cache_creation_input_tokens,
    })
}

fn error(result: &TurnResult) -> TurnError {
    let code = match (result.terminal_reason.as_deref(), result.subtype.as_str()) {
        (Some("api_error"), _) => "agent_api_error",
        (_, subtype) if subtype.starts_with("error_max") => "agent_limit",
        _ => "agent_error",
    };
    if needs_sign_in(result) {
        return TurnError { code: code.into(), detail: SIGN_IN.into() };
    }
    let errors = result.errors.as_deref().unwrap_or_default();
    let said = result.result.as_deref().filter(|text| !text.is_empty());
    let said = said.or(errors.first().map(String::as_str)).map(sentence);
    let detail = said.filter(|text| !text.is_empty()).or_else(|| limit(result));
    TurnError { code: code.into(), detail: detail.unwrap_or_else(|| "The agent reported an error.".into()) }
}

/// The sentence that names the limit at which the agent stopped.
fn limit(result: &TurnResult) -> Option<String> {
    let steps = result.num_turns.map(|steps| format!(", after {steps}")).unwrap_or_default();
    Some(match result.subtype.strip_prefix("error_max_")? {
        "turns" => format!("The agent stopped at its limit of steps{steps}."),
        "budget_usd" => "The agent stopped at its limit of cost.".into(),
        other => format!("The agent stopped at its limit of {}.", sentence(&other.replace('_', " "))),
    })
}
