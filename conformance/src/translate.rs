//! Translates the words of a trace into values of the core, for every runner of traces.

use serde_json::Value;
use switchboard_core::{
    Limits,
    agent::{AgentCommand, AgentEvent, AgentExit, PermissionAsk, ToolInput},
    ids::RequestId,
    wire::{AgentState, Answer, Cost, NoticeLevel, Outcome, TurnError, Usage},
};

use crate::trace::{Names, Says, shorten};

/// Repeats a string of a frame that is written as `"x"*9`.
///
/// # Errors
///
/// There is no string before the `*`, or no number after it.
pub fn expand(frame: &str) -> Result<String, String> {
    let Some(at) = frame.find("\"*") else { return Ok(frame.to_owned()) };
    let begin = frame[..at].rfind('"').ok_or("no text to repeat")?;
    let rest = &frame[at + 2..];
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let times: usize = rest[..end].parse().map_err(|_| "how often?")?;
    Ok(format!("{}\"{}\"{}", &frame[..begin], frame[begin + 1..at].repeat(times), &rest[end..]))
}

/// Parses a gateway's description of its agents.
///
/// # Errors
///
/// The text is no description.
pub fn described(agent: &str) -> Result<AgentState, String> {
    serde_json::from_str(agent).map_err(|e| e.to_string())
}

/// Sets a limit by its name.
///
/// # Errors
///
/// No trace may set a limit of this name.
pub fn set_limit(limits: &mut Limits, name: &str, value: u64) -> Result<(), String> {
    let size = usize::try_from(value).map_err(|e| e.to_string())?;
    let few = u32::try_from(value).unwrap_or(u32::MAX);
    match name {
        "text_bytes" => limits.text_bytes = size,
        "chats_per_connection" => limits.chats_per_connection = size,
        "connections_per_principal" => limits.connections_per_principal = Some(size),
        "connections" => limits.connections = size,
        "messages_per_minute" => limits.messages_per_minute = Some(few),
        "new_chats_per_minute" => limits.new_chats_per_minute = Some(few),
        "frames_per_second" => limits.frames_per_second = few,
        "frames_burst" => limits.frames_burst = few,
        "frames_refused" => limits.frames_refused = few,
        "ring_bytes" => limits.ring_bytes = size,
        "outbox_bytes" => limits.outbox_bytes = size,
        "queued_turns" => limits.queued_turns = size,
        "open_requests" => limits.open_requests = size,
        "open_request_bytes" => limits.open_request_bytes = size,
        "open_work" => limits.open_work = size,
        "reader_active_ms" => limits.reader_active_ms = value,
        "reader_stall_ms" => limits.reader_stall_ms = value,
        "background_ms" => limits.background_ms = value,
        "agents" => limits.agents = size,
        "merge_bytes" => limits.merge_bytes = size,
        "event_text_bytes" => limits.event_text_bytes = size,
        "pending_bytes" => limits.pending_bytes = size,
        "history_events" => limits.history_events = few,
        "page_bytes" => limits.page_bytes = size,
        "list_chats" => limits.list_chats = few,
        "idle_chats" => limits.idle_chats = size,
        _ => return Err(format!("no limit {name}")),
    }
    Ok(())
}

/// Translates an event of an agent.
///
/// # Errors
///
/// The kind is unknown, or its arguments are wrong.
pub fn agent_event(says: &Says) -> Result<AgentEvent, String> {
    let text = |at| text_of(says, at);
    let value = |at| value_of(says, at);
    let void = says.args.get(1).is_some_and(|word| word == "void");
    let partial = says.args.last().is_some_and(|word| word == "partial");
    let input = |at| value(at).map(|arguments| ToolInput { partial, ..ToolInput::whole(arguments) });
    Ok(match says.kind.as_str() {
        "text" => AgentEvent::Text { stream: text(0)?.into(), text: text(1)? },
        "reason" => AgentEvent::Reasoning { stream: text(0)?.into(), text: text(1)? },
        "text_end" => {
            let whole = says.args.get(1).filter(|_| !void).and_then(Value::as_str).map(str::to_owned);
            AgentEvent::TextEnd { stream: text(0)?.into(), text: whole, void, sources: Vec::new() }
        }
        "reason_end" => AgentEvent::ReasoningEnd { stream: text(0)?.into(), void },
        "message" => AgentEvent::Message { text: text(0)? },
        "progress" => AgentEvent::Progress { text: text(0)? },
        "alive" => AgentEvent::Alive,
        "agent_turn" => AgentEvent::AgentTurnStarted { reason: typed(value(0)?)? },
        "agent_end" => {
            let (outcome, error, usage, cost) = ending(says)?;
            AgentEvent::AgentTurnEnded { outcome, error, usage, cost }
        }
        "task" => AgentEvent::Task(typed(value(0)?)?),
        "notice" => {
            let level: NoticeLevel = typed(value(0)?)?;
            AgentEvent::Notice { level, code: text(1)?, text: text(2)?, data: None }
        }
        "under" => {
            let inner = Says { kind: text(1)?, args: says.args.iter().skip(2).cloned().collect() };
            AgentEvent::Subagent { parent_call_id: text(0)?, event: Box::new(agent_event(&inner)?) }
        }
        "tool_update" => {
            let output = says.args.get(3).filter(|_| !partial).and_then(Value::as_str).map(str::to_owned);
            let input = Some(input(2)?).filter(|input| input.arguments != "-");
            AgentEvent::ToolUpdated { call_id: text(0)?, name: text(1)?, input, output }
        }
        "tool" => AgentEvent::ToolStarted { call_id: text(0)?, name: text(1)?, input: input(2)? },
        "tool_end" => {
            let result = if text(2)? == "ok" { Ok(text(3)?) } else { Err(text(3)?) };
            AgentEvent::ToolEnded {
                call_id: text(0)?,
                name: text(1)?,
                result,
                truncated: false,
                media: Vec::new(),
                sources: Vec::new(),
            }
        }
        "edit" => AgentEvent::FileEdit { edits: vec![typed(value(0)?)?] },
        "permission" => AgentEvent::Permission(permission(&value(0)?)?),
        "question" => AgentEvent::Question(typed(value(0)?)?),
        "withdrawn" => {
            AgentEvent::Withdrawn { request_id: RequestId::parse(&text(0)?).map_err(|e| e.to_string())? }
        }
        "model" => AgentEvent::Model { name: text(0)? },
        "session" => AgentEvent::Session { token: text(0)? },
        "end" => {
            let (outcome, error, usage, cost) = ending(says)?;
            AgentEvent::TurnEnded { outcome, error, usage, cost }
        }
        kind => return Err(format!("an agent does not say {kind}")),
    })
}

fn text_of(says: &Says, at: usize) -> Result<String, String> {
    let value = says.args.get(at).and_then(Value::as_str);
    value.map(str::to_owned).ok_or_else(|| format!("{} lacks a text", says.kind))
}

fn value_of(says: &Says, at: usize) -> Result<Value, String> {
    says.args.get(at).cloned().ok_or_else(|| format!("{} lacks a value", says.kind))
}

fn typed<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|e| e.to_string())
}

/// How a turn ends.
type Ending = (Outcome, Option<TurnError>, Option<Usage>, Option<Cost>);

fn ending(says: &Says) -> Result<Ending, String> {
    let outcome = says.args.first().cloned().ok_or_else(|| format!("{} lacks an outcome", says.kind))?;
    let more = says.args.get(1).cloned().unwrap_or(Value::Null);
    let (error, usage, cost) = (more["error"].clone(), more["usage"].clone(), more["cost"].clone());
    Ok((typed(outcome)?, typed(error)?, typed(usage)?, typed(cost)?))
}

/// Translates a permission request. An `input` that is a string is the text of the input, so that a trace can contain a
/// text that no JSON value holds.
fn permission(ask: &Value) -> Result<PermissionAsk, String> {
    let text = |name: &str| ask.get(name).and_then(Value::as_str).map(str::to_owned);
    let request_id = text("request_id").ok_or("a permission lacks its request_id")?;
    Ok(PermissionAsk {
        request_id: RequestId::parse(&request_id).map_err(|e| e.to_string())?,
        tool: text("tool").ok_or("a permission lacks its tool")?,
        input: text("input").unwrap_or_else(|| ask["input"].to_string()),
        description: text("description"),
        call_id: text("call_id"),
    })
}

/// Translates the exit of an agent instance.
///
/// # Errors
///
/// The word is unknown.
pub fn agent_exit(how: &str) -> Result<AgentExit, String> {
    let error = |code: &str| TurnError { code: code.into(), detail: "it went away".into() };
    Ok(match how {
        "gone" => AgentExit::Gone(error("agent_exited")),
        "unprompted" => AgentExit::Unprompted(error("agent_exited")),
        "stopped" => AgentExit::Stopped,
        "failed" => AgentExit::StartFailed(error("agent_start_failed")),
        _ => return Err("exit how?".to_owned()),
    })
}

/// Describes a command for an agent as in a trace.
pub fn show_command(names: &mut Names, command: &AgentCommand) -> String {
    match command {
        AgentCommand::Prompt { turn_id, text, .. } => {
            format!("prompt {} {}", names.turn(turn_id.as_str()), shorten(&format!("{text:?}")))
        }
        AgentCommand::Cancel { turn_id, .. } => format!("cancel {}", names.turn(turn_id.as_str())),
        AgentCommand::Answer { request_id, answer, .. } => {
            let answer = match answer {
                Answer::Allow { input_sha256 } => {
                    let hash = input_sha256.as_deref().and_then(|hash| hash.get(..8));
                    format!("allow {}", hash.unwrap_or("no input"))
                }
                Answer::Deny { message } => format!("deny {message:?}"),
                Answer::Answer { answers } => format!("answers {answers:?}"),
            };
            format!("answer {request_id} {answer}")
        }
    }
}
