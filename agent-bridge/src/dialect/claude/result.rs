//! The end of a turn: outcome, error, usage and cost.

use switchboard_core::{
    agent::AgentEvent,
    wire::{Cost, NoticeLevel, Outcome, TurnError, Usage},
};

use super::{
    blocks::MessageEnd,
    budget::budget,
    notices::{SIGN_IN, needs_sign_in},
    records::TurnResult,
    state::ClaudeCodec,
    turns::Ends,
};
use crate::{
    dialect::{
        Decoded, TurnEnding,
        sanitize::{length, lines, sentence},
    },
    limits::NOTICE_BYTES,
};

/// Reasons for the end of a turn that are failures, whatever else the result says.
const FAILURES: [&str; 3] = ["api_error", "model_error", "image_error"];

const CONTEXT: &str =
    "The conversation no longer fits the model's context: shorten it with /compact, or begin a new chat.";

impl ClaudeCodec {
    /// Handles a result. `lost` is the length of its line in bytes, if that was too long for the answer to be kept.
    pub(super) fn turn_result(&mut self, result: &TurnResult, lost: Option<u64>, out: &mut Decoded) {
        if unknown_session(result) {
            out.unknown_session = true;
            return out.alive();
        }
        if let (Some(message), Some(text)) = (&mut self.state.output.message, &result.result) {
            message.complete(text, &mut out.events);
        }
        self.finish_message(MessageEnd::Stands, None, out);
        self.notices_of_result(result, out);
        let cost = self.cost(result);
        let ends = self.ends(result);
        if !ends.agent && !ends.prompt {
            return self.result_of_no_turn(result, lost, out);
        }
        // An interrupt for a prompt that waits stops the agent's turn, too.
        let cancelled = self.state.agent_turn.as_ref().is_some_and(|turn| turn.cancelled)
            || self.state.cancel.interrupts();
        let mut outcome = outcome(result, cancelled);
        let mut failure = (outcome == Outcome::Failed).then(|| error(result));
        if outcome == Outcome::Completed && !self.last_words(result, out) {
            (outcome, failure) = match lost {
                _ if cancelled => (Outcome::Cancelled, None),
                Some(bytes) => (Outcome::Failed, Some(answer_too_long(bytes))),
                None => self.outcome_without_text(result, ends.prompt, out),
            };
        }
        self.close_turn(out);
        let ending = TurnEnding { outcome, error: failure, usage: usage(result), cost };
        match ends {
            Ends { agent: true, prompt: false } => {
                self.agent_turn_ended(ending, out);
                self.passed_by(out);
            }
            Ends { agent: true, prompt: true } => {
                // The prompt was answered within the agent's turn: the tokens and the cost are those of both.
                let folded = TurnEnding { usage: None, cost: None, ..ending.clone() };
                self.agent_turn_ended(ending, out);
                self.prompt_ended(folded, out);
            }
            Ends { agent: false, .. } => self.prompt_ended(ending, out),
        }
    }

    /// Handles a result that ends no turn. What it says beyond the turns is sent as a notice, once.
    fn result_of_no_turn(&mut self, result: &TurnResult, lost: Option<u64>, out: &mut Decoded) {
        let said = result.result.as_deref().filter(|text| !text.is_empty() && !self.state.output.spoke);
        if let Some(text) = said.filter(|text| !self.state.output.texts.has(text)) {
            out.notice(NoticeLevel::Info, "last_words", lines(text, NOTICE_BYTES), None);
        }
        if let Some(bytes) = lost.filter(|_| !self.state.output.spoke) {
            out.skipped(bytes);
        }
        self.state.output.spoke = false;
        self.passed_by(out);
        out.alive();
    }

    /// Sends the text of a turn that had no other text. Returns whether the turn had any.
    fn last_words(&mut self, result: &TurnResult, out: &mut Decoded) -> bool {
        if self.state.output.spoke {
            return true;
        }
        let synthetic = self.state.output.synthetic.take();
        let text = result.result.clone().filter(|text| !text.is_empty()).or(synthetic);
        let text = text.filter(|text| !text.is_empty());
        let Some(text) = text else { return false };
        self.state.output.texts.came_whole(&text, None);
        out.events.push(AgentEvent::Message { text });
        true
    }

    /// The outcome of a turn that had no text: a failure if a prompt has no answer and the agent used no tool, otherwise
    /// the turn is complete, and a notice says that it had no text.
    fn outcome_without_text(
        &self,
        result: &TurnResult,
        prompt: bool,
        out: &mut Decoded,
    ) -> (Outcome, Option<TurnError>) {
        let is_command = result.num_turns == Some(0);
        if !prompt || self.state.output.worked || is_command {
            out.notice(NoticeLevel::Info, "other", "The agent ended its turn without a word.", None);
            return (Outcome::Completed, None);
        }
        let detail = match result.stop_reason.as_deref() {
            Some("refusal") => "The model declined to answer.",
            Some("max_tokens") => "The model reached its limit of output before it said a word.",
            Some("model_context_window_exceeded") => CONTEXT,
            _ => "The agent ended its turn without an answer.",
        };
        (Outcome::Failed, Some(TurnError { code: "no_answer".into(), detail: detail.into() }))
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

fn answer_too_long(bytes: u64) -> TurnError {
    let detail = format!("The agent's answer of {} was too long to be kept.", length(bytes));
    TurnError { code: "no_answer".into(), detail }
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

/// The outcome from what the result says and whether the turn was to be stopped. Versions of the agent set different
/// members.
fn outcome(result: &TurnResult, cancelled: bool) -> Outcome {
    let reason = result.terminal_reason.as_deref().unwrap_or_default();
    let is_error = result.is_error == Some(true) || result.subtype.starts_with("error");
    let stopped_short = limit(result).is_some() || FAILURES.contains(&reason);
    if reason.starts_with("aborted") || cancelled && is_error && !stopped_short {
        Outcome::Cancelled
    } else if is_error || stopped_short {
        Outcome::Failed
    } else {
        Outcome::Completed
    }
}

fn error(result: &TurnResult) -> TurnError {
    if let Some(detail) = limit(result) {
        return TurnError { code: "agent_limit".into(), detail };
    }
    let is_api = result.terminal_reason.as_deref() == Some("api_error");
    let code = if is_api { "agent_api_error" } else { "agent_error" };
    if needs_sign_in(result) {
        return TurnError { code: code.into(), detail: SIGN_IN.into() };
    }
    let errors = result.errors.iter().flatten().map(String::as_str);
    let mut said = result.result.as_deref().into_iter().chain(errors);
    // Diagnostics of the agent's own program say nothing to people.
    let said = said.find(|text| !text.is_empty() && !text.contains("_diagnostic] ")).map(sentence);
    let detail = said.filter(|text| !text.is_empty());
    TurnError { code: code.into(), detail: detail.unwrap_or_else(|| "The agent reported an error.".into()) }
}

/// The sentence that names the limit at which the agent stopped.
fn limit(result: &TurnResult) -> Option<String> {
    let steps = result.num_turns.map(|steps| format!(", after {steps}")).unwrap_or_default();
    let reason = result.terminal_reason.as_deref().unwrap_or_default();
    Some(match (result.subtype.strip_prefix("error_max_"), reason) {
        (Some("turns"), _) | (None, "max_turns") => {
            format!("The agent stopped at its limit of steps{steps}.")
        }
        (Some("budget_usd"), _) | (None, "budget_exhausted") => {
            format!("The agent stopped at its limit of cost{}.", budget(result))
        }
        (Some(other), _) => {
            format!("The agent stopped at its limit of {}.", sentence(&other.replace('_', " ")))
        }
        (None, "prompt_too_long" | "blocking_limit") => CONTEXT.into(),
        (None, _) => return None,
    })
}
