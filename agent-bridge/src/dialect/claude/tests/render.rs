//! Renders events as text for tests, because their `Debug` output hides the agent's text.

use switchboard_core::agent::AgentEvent;

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

fn event(event: &AgentEvent) -> String {
    match event {
        AgentEvent::Text { stream, text } => format!("text {stream} {text:?}"),
        AgentEvent::TextEnd { stream, text, void } => {
            format!("text_end {stream}{}{}", optional(text), flag(*void, " VOID"))
        }
        AgentEvent::Reasoning { stream, text } => format!("reasoning {stream} {text:?}"),
        AgentEvent::ReasoningEnd { stream, void } => {
            format!("reasoning_end {stream}{}", flag(*void, " VOID"))
        }
        AgentEvent::Message { text } => format!("message {text:?}"),
        AgentEvent::Progress { text } => format!("progress {text:?}"),
        AgentEvent::Alive => ".".into(),
        AgentEvent::ToolStarted { call_id, name, arguments } => format!("tool {call_id} {name} {arguments}"),
        AgentEvent::ToolEnded { call_id, name, result, truncated } => {
            format!("tool_end {call_id} {name} {result:?}{}", flag(*truncated, " TRUNCATED"))
        }
        AgentEvent::FileEdit { edits } => edits
            .iter()
            .map(|edit| {
                format!(
                    "file_edit {} {} {} +{} -{}{}",
                    edit.call_id,
                    edit.tool,
                    edit.path,
                    edit.added,
                    edit.deleted,
                    optional(&edit.diff)
                )
            })
            .collect::<Vec<_>>()
            .join("\n"),
        AgentEvent::Permission(ask) => format!(
            "permission {} {} {}{}{}",
            ask.request_id,
            ask.tool,
            ask.input,
            optional(&ask.description),
            optional(&ask.call_id)
        ),
        AgentEvent::Notice { level, code, text } => format!("notice {level:?} {code} {text:?}"),
        AgentEvent::Question(question) => format!("question {}", serde_json::to_string(question).unwrap()),
        AgentEvent::Withdrawn { request_id } => format!("withdrawn {request_id}"),
        AgentEvent::Model { name } => format!("model {name}"),
        AgentEvent::Session { token } => format!("session {token}"),
        AgentEvent::TurnEnded { outcome, error, usage, cost } => {
            let usage = usage.as_ref().map(|usage| {
                format!(
                    " in {} out {} cached {}+{}",
                    usage.input_tokens,
                    usage.output_tokens,
                    usage.cache_read_tokens,
                    usage.cache_write_tokens
                )
            });
            let cost = cost.as_ref().map(|cost| format!(" ${:.5}", cost.usd));
            let error = error.as_ref().map(|error| format!(" {}: {}", error.code, error.detail));
            format!(
                "turn_ended {outcome:?}{}{}{}",
                error.unwrap_or_default(),
                usage.unwrap_or_default(),
                cost.unwrap_or_default()
            )
        }
    }
}

fn optional(text: &Option<String>) -> String {
    text.as_ref().map(|text| format!(" {text:?}")).unwrap_or_default()
}

fn flag(set: bool, name: &str) -> &str {
    if set { name } else { "" }
}
