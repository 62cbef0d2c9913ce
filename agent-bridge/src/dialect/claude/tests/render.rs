//! Renders events as text for tests, because their `Debug` output hides the agent's text.

use switchboard_core::{
    agent::{AgentEvent, ToolInput},
    wire::{Cost, FileEdit, Outcome, Source, TurnError, Usage},
};

use crate::dialect::Decoded;

/// Renders one line per event, with the record's position in front. `Alive` is rendered as a dot.
pub(super) fn render(position: usize, out: &Decoded) -> String {
    let mut lines: Vec<String> = out.events.iter().map(event).collect();
    lines.extend(out.replies.iter().map(|reply| format!("reply {}", String::from_utf8_lossy(reply))));
    for (flag, name) in
        [(out.ready, "ready"), (out.unknown_session, "unknown session"), (out.turn_ended, "turn ended")]
    {
        if flag {
            lines.push(format!("({name})"));
        }
    }
    lines.iter().map(|line| format!("{position:>3} {line}\n")).collect()
}

fn event(rendered: &AgentEvent) -> String {
    match rendered {
        AgentEvent::Text { stream, text } => format!("text {stream} {text:?}"),
        AgentEvent::AgentTurnStarted { reason } => format!("agent_turn {reason:?}"),
        AgentEvent::AgentTurnEnded { outcome, error, usage, cost } => {
            format!("agent_{}", turn_ended(*outcome, error.as_ref(), usage.as_ref(), cost.as_ref()))
        }
        AgentEvent::Subagent { parent_call_id, event: inner } => {
            format!("under {parent_call_id}: {}", event(inner))
        }
        AgentEvent::TextEnd { stream, text, void, sources } => {
            format!("text_end {stream}{}{}{}", optional(text), flag(*void, " VOID"), cited(sources))
        }
        AgentEvent::Reasoning { stream, text } => format!("reasoning {stream} {text:?}"),
        AgentEvent::ReasoningEnd { stream, void } => {
            format!("reasoning_end {stream}{}", flag(*void, " VOID"))
        }
        AgentEvent::Message { text } => format!("message {text:?}"),
        AgentEvent::Progress { text } => format!("progress {text:?}"),
        AgentEvent::Alive => ".".into(),
        AgentEvent::ToolStarted { call_id, name, input } => {
            format!("tool {call_id} {name}{}", tool_input(input))
        }
        AgentEvent::ToolUpdated { call_id, name, input, output } => {
            let input = input.as_ref().map(tool_input).unwrap_or_default();
            format!("tool_update {call_id} {name}{input}{}", optional(output))
        }
        AgentEvent::ToolEnded { call_id, name, result, truncated, media, sources } => {
            let media: String =
                media.iter().map(|medium| format!(" [{} {}]", medium.media_type, medium.bytes)).collect();
            let truncated = flag(*truncated, " TRUNCATED");
            format!("tool_end {call_id} {name} {result:?}{truncated}{media}{}", cited(sources))
        }
        AgentEvent::Task(task) => {
            let parent = optional(&task.parent_call_id);
            format!("task {} {:?} {:?} {:?}{parent}", task.task_id, task.kind, task.title, task.status)
        }
        AgentEvent::FileEdit { edits } => edits.iter().map(file_edit).collect::<Vec<_>>().join("\n"),
        AgentEvent::Permission(ask) => format!(
            "permission {} {} {}{}{}",
            ask.request_id,
            ask.tool,
            ask.input,
            optional(&ask.description),
            optional(&ask.call_id)
        ),
        AgentEvent::Notice { level, code, text, data } => {
            let data = data.as_ref().map(|data| format!(" {data}")).unwrap_or_default();
            format!("notice {level:?} {code} {text:?}{data}")
        }
        AgentEvent::Question(question) => format!("question {}", serde_json::to_string(question).unwrap()),
        AgentEvent::Withdrawn { request_id } => format!("withdrawn {request_id}"),
        AgentEvent::Model { name } => format!("model {name}"),
        AgentEvent::Session { token } => format!("session {token}"),
        AgentEvent::TurnEnded { outcome, error, usage, cost } => {
            turn_ended(*outcome, error.as_ref(), usage.as_ref(), cost.as_ref())
        }
    }
}

fn tool_input(input: &ToolInput) -> String {
    let ToolInput { arguments, partial, title, locations } = input;
    let places: String = locations.iter().map(|place| format!(" @{}", place.path)).collect();
    format!(" {arguments}{}{}{places}", flag(*partial, "…"), optional(title))
}

fn file_edit(edit: &FileEdit) -> String {
    format!(
        "file_edit {} {} {} +{} -{}{}{}",
        edit.call_id,
        edit.tool,
        edit.path,
        edit.added,
        edit.deleted,
        optional(&edit.diff),
        flag(edit.diff_truncated, " TRUNCATED")
    )
}

fn turn_ended(
    outcome: Outcome,
    error: Option<&TurnError>,
    usage: Option<&Usage>,
    cost: Option<&Cost>,
) -> String {
    let usage = usage.map(|usage| {
        format!(
            " in {} out {} cached {}+{}",
            usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens
        )
    });
    let cost = cost.map(|cost| format!(" ${:.5}", cost.usd));
    let error = error.map(|error| format!(" {}: {}", error.code, error.detail));
    format!(
        "turn_ended {outcome:?}{}{}{}",
        error.unwrap_or_default(),
        usage.unwrap_or_default(),
        cost.unwrap_or_default()
    )
}

fn cited(sources: &[Source]) -> String {
    sources.iter().map(|source| format!(" <{}>{}", source.url, optional(&source.title))).collect()
}

fn optional(text: &Option<String>) -> String {
    text.as_ref().map(|text| format!(" {text:?}")).unwrap_or_default()
}

fn flag(set: bool, name: &str) -> &str {
    if set { name } else { "" }
}
