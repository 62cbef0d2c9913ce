//! A budget in money that an agent has used up.

use super::records::TurnResult;
use crate::dialect::sanitize::line;

/// The agent's budget in the agent's own words, as the end of a sentence. Empty if the result does not name it.
pub(super) fn budget(result: &TurnResult) -> String {
    let named = |error: &String| Some(line(error.split_once('(')?.1.split_once(')')?.0, 64));
    let budget = result.errors.iter().flatten().find_map(named).filter(|budget| budget.starts_with('$'));
    budget.map(|budget| format!(", {budget}")).unwrap_or_default()
}

/// The sentence that the agent's budget is used up, if the result says so: the agent's process answers nothing more.
pub(super) fn used_up(result: &TurnResult) -> Option<String> {
    let is_used_up = result.subtype == "error_max_budget_usd"
        || result.terminal_reason.as_deref() == Some("budget_exhausted");
    is_used_up.then(|| {
        format!(
            "The agent has used up its budget{}. It answers no more until it is started again.",
            budget(result)
        )
    })
}
