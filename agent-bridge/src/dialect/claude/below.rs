//! What is below a tool use that runs a subagent: the subagent's events, and what the use has as its result.

use std::mem;

use serde::Deserialize;
use switchboard_core::agent::AgentEvent;

use super::records::{ToolReport, lenient_text, parse};
use crate::dialect::Decoded;

/// How the agent's instructions to itself begin, in the result of a tool use that runs a subagent.
const LAUNCHED: &str = "Async agent launched successfully.";
const HAND_BACK: &str = "[Subagent hand-back]";
const REPORT_FOLLOWS: &str = "The report follows:\n";

/// A part of what a subagent reports.
#[derive(Deserialize, Default)]
#[serde(default)]
struct ReportPart {
    #[serde(deserialize_with = "lenient_text")]
    text: String,
}

/// Puts the events from index `from` on below the tool use `parent`, if there is one.
pub(super) fn put_below(parent: Option<&str>, from: usize, out: &mut Decoded) {
    let Some(parent) = parent else { return };
    for event in &mut out.events[from..] {
        if is_of_subagent(event) {
            let inner = mem::replace(event, AgentEvent::Alive);
            *event = AgentEvent::Subagent { parent_call_id: parent.into(), event: Box::new(inner) };
        }
    }
}

fn is_of_subagent(event: &AgentEvent) -> bool {
    matches!(
        event,
        AgentEvent::Text { .. }
            | AgentEvent::TextEnd { .. }
            | AgentEvent::Reasoning { .. }
            | AgentEvent::ReasoningEnd { .. }
            | AgentEvent::Message { .. }
            | AgentEvent::ToolStarted { .. }
            | AgentEvent::ToolUpdated { .. }
            | AgentEvent::ToolEnded { .. }
            | AgentEvent::FileEdit { .. }
            | AgentEvent::Permission(_)
            | AgentEvent::Question(_)
    )
}

/// What a subagent reported, without the agent's instructions to itself around it. `text` is the result of the tool use
/// that runs the subagent, `report` the agent's own report on it. `None` if the result is not of that kind.
pub(super) fn handed_back(text: &str, report: Option<&ToolReport<'_>>) -> Option<String> {
    if report.is_some_and(|report| report.status == "async_launched") || text.starts_with(LAUNCHED) {
        return Some("The subagent works in the background.".into());
    }
    let (_, framed) = text.split_once(HAND_BACK)?;
    if let Some(parts) = report.and_then(|report| parse::<Vec<ReportPart>>(report.content)) {
        let parts = parts.into_iter().map(|part| part.text);
        let said: Vec<String> =
            parts.filter(|text| !text.starts_with("<tools-used-before-summary>")).collect();
        return Some(said.join("\n"));
    }
    // The agent indents each line of the report.
    let (_, said) = framed.split_once(REPORT_FOLLOWS)?;
    let lines = said.lines().take_while(|line| line.is_empty() || line.starts_with("  "));
    let said: Vec<&str> = lines.map(|line| line.strip_prefix("  ").unwrap_or_default()).collect();
    Some(said.join("\n"))
}
