//! The types of stream-json lines, as far as the codec uses them. Every field is optional, because the format changes
//! between versions of the agent: a missing or unexpected field must not make the rest of the line unreadable.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

pub(super) use crate::dialect::json::{lenient, lenient_text, parse, value};

/// Any line. Parts that depend on the type of the line stay unparsed until the type is known.
#[derive(Deserialize)]
pub(super) struct Line<'a> {
    #[serde(borrow, default, rename = "type")]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    pub(super) subtype: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) event: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) request: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) response: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) tool_use_result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) tool_result_meta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) abandoned_blocks: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    pub(super) parent_tool_use_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    pub(super) request_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    pub(super) uuid: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    pub(super) session_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    pub(super) model: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    pub(super) command_uuid: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    pub(super) state: Option<Cow<'a, str>>,
    /// What had scheduled the command that the agent starts by itself.
    #[serde(borrow, default, deserialize_with = "lenient")]
    pub(super) wakeup_source: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "lenient", rename = "isReplay")]
    pub(super) is_replay: Option<bool>,
    /// The ids of the prompts that the line belongs to.
    #[serde(default, deserialize_with = "lenient")]
    pub(super) user_message_uuids: Option<Vec<String>>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) origin: Option<Origin>,
}

impl Line<'_> {
    /// The tool use that runs the subagent which wrote the line, if a subagent wrote it.
    pub(super) fn subagent(&self) -> Option<&str> {
        let of_subagents = matches!(&*self.kind, "stream_event" | "assistant" | "user");
        self.parent_tool_use_id.as_deref().filter(|parent| of_subagents && !parent.is_empty())
    }
}

/// What caused a line that is no answer to a prompt.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Origin {
    #[serde(deserialize_with = "lenient_text")]
    pub(super) kind: String,
    #[serde(deserialize_with = "lenient_text")]
    pub(super) subkind: String,
}

/// One streamed piece of a content block.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Delta<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) text: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) thinking: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) partial_json: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) citation: Option<&'a RawValue>,
}

/// A streaming event of the Anthropic Messages API.
#[derive(Deserialize)]
pub(super) struct StreamEvent<'a> {
    #[serde(borrow, default, rename = "type")]
    pub(super) kind: Cow<'a, str>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) index: Option<u64>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    pub(super) delta: Option<Delta<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    pub(super) content_block: Option<Block<'a>>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    pub(super) message: Option<MessageHead<'a>>,
}

#[derive(Deserialize)]
pub(super) struct MessageHead<'a> {
    #[serde(borrow, default, deserialize_with = "lenient_text")]
    pub(super) id: Cow<'a, str>,
}

/// The `message` of an `assistant` or `user` line.
#[derive(Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow, default, deserialize_with = "lenient")]
    pub(super) id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    pub(super) model: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) content: Option<&'a RawValue>,
}

/// The content blocks of `content`, which may also be plain text. An unreadable block is skipped.
pub(super) fn blocks(content: Option<&RawValue>) -> Vec<Block<'_>> {
    let Some(content) = content.map(RawValue::get) else { return Vec::new() };
    if let Ok(text) = serde_json::from_str::<String>(content) {
        return vec![Block { kind: "text".into(), text: Some(text.into()), ..Block::default() }];
    }
    let raw: Vec<&RawValue> = serde_json::from_str(content).unwrap_or_default();
    raw.into_iter().filter_map(|block| serde_json::from_str(block.get()).ok()).collect()
}

/// A content block of a message.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Block<'a> {
    #[serde(borrow, rename = "type", deserialize_with = "lenient_text")]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "lenient")]
    pub(super) text: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "lenient")]
    pub(super) thinking: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "lenient")]
    pub(super) id: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "lenient")]
    pub(super) name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) input: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "lenient")]
    pub(super) tool_use_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) content: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) citations: Option<&'a RawValue>,
    #[serde(deserialize_with = "lenient")]
    pub(super) is_error: Option<bool>,
}

/// The `tool_use_result` of a `user` line: the agent's report on the use. Its members depend on the tool.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ToolReport<'a> {
    /// The kind of a file that was read as a medium.
    #[serde(borrow, rename = "type", deserialize_with = "lenient_text")]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "lenient")]
    pub(super) file: Option<ReadFile<'a>>,
    /// What a search found: lists of pages between texts.
    #[serde(borrow, deserialize_with = "lenient")]
    pub(super) results: Option<Vec<&'a RawValue>>,
    /// How far a subagent is.
    #[serde(borrow, deserialize_with = "lenient_text")]
    pub(super) status: Cow<'a, str>,
    /// The parts of a subagent's report, or the text of a file that was written.
    #[serde(borrow)]
    pub(super) content: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "lenient")]
    pub(super) structured_patch: Option<Vec<Hunk<'a>>>,
    /// The text of a file before it was written.
    #[serde(borrow, deserialize_with = "lenient")]
    pub(super) original_file: Option<Cow<'a, str>>,
}

/// A file that the agent read as a medium.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ReadFile<'a> {
    #[serde(borrow, rename = "type", deserialize_with = "lenient")]
    pub(super) media_type: Option<Cow<'a, str>>,
    #[serde(deserialize_with = "lenient")]
    pub(super) original_size: Option<u64>,
}

/// Neighbouring changed lines of a file.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Hunk<'a> {
    pub(super) old_start: u64,
    pub(super) old_lines: u64,
    pub(super) new_start: u64,
    pub(super) new_lines: u64,
    #[serde(borrow)]
    pub(super) lines: Vec<Cow<'a, str>>,
}

#[derive(Deserialize)]
pub(super) struct Abandoned<'a> {
    #[serde(borrow, default)]
    pub(super) api_message_id: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(super) from_block_index: u64,
}

/// The `request` of a `control_request` line.
#[derive(Deserialize, Default)]
pub(super) struct ControlRequest<'a> {
    #[serde(borrow, default)]
    pub(super) subtype: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    pub(super) tool_name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) input: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    pub(super) description: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    pub(super) decision_reason: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    pub(super) tool_use_id: Option<Cow<'a, str>>,
    /// The task id of the subagent that asks.
    #[serde(borrow, default, deserialize_with = "lenient")]
    pub(super) agent_id: Option<Cow<'a, str>>,
}

/// The `response` of a `control_response` line.
#[derive(Deserialize)]
pub(super) struct ControlResponse<'a> {
    #[serde(borrow, default)]
    pub(super) subtype: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) request_id: Cow<'a, str>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) response: Option<CancelReceipt>,
}

/// The agent's answer to an interrupt, or to the request to take a prompt back.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct CancelReceipt {
    /// The prompts that wait after the interrupt.
    pub(super) still_queued: Vec<Value>,
    /// Whether the prompt was taken back.
    pub(super) cancelled: bool,
}

/// A `system` line with subtype `api_retry`.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ApiRetry {
    pub(super) attempt: u64,
    pub(super) max_retries: u64,
    pub(super) retry_delay_ms: f64,
    pub(super) error_status: Option<u64>,
}

/// What a `system` line about background work says beside the [`TaskItem`]. The members depend on its subtype.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct TaskLine {
    #[serde(deserialize_with = "lenient")]
    pub(super) is_backgrounded: Option<bool>,
    #[serde(deserialize_with = "lenient_text")]
    pub(super) status: String,
    #[serde(deserialize_with = "lenient_text")]
    pub(super) summary: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) patch: Option<TaskPatch>,
    #[serde(deserialize_with = "lenient")]
    pub(super) tasks: Option<Vec<TaskItem>>,
}

/// A piece of background work, also the one that a line is about.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct TaskItem {
    #[serde(deserialize_with = "lenient_text")]
    pub(super) task_id: String,
    #[serde(deserialize_with = "lenient_text")]
    pub(super) task_type: String,
    #[serde(deserialize_with = "lenient_text")]
    pub(super) description: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) tool_use_id: Option<String>,
}

/// What changed about background work.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct TaskPatch {
    #[serde(deserialize_with = "lenient_text")]
    pub(super) status: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) is_backgrounded: Option<bool>,
}

/// A `result` line.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct TurnResult {
    #[serde(deserialize_with = "lenient_text")]
    pub(super) subtype: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) is_error: Option<bool>,
    #[serde(deserialize_with = "lenient")]
    pub(super) terminal_reason: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub(super) result: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub(super) errors: Option<Vec<String>>,
    #[serde(deserialize_with = "lenient")]
    pub(super) num_turns: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    pub(super) total_cost_usd: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub(super) usage: Option<ApiUsage>,
    #[serde(deserialize_with = "lenient")]
    pub(super) model_usage_since_last_result: Option<BTreeMap<String, ModelUsage>>,
    #[serde(deserialize_with = "lenient")]
    pub(super) user_message_uuids: Option<Vec<String>>,
    #[serde(deserialize_with = "lenient")]
    pub(super) origin: Option<Origin>,
    #[serde(deserialize_with = "lenient")]
    pub(super) stop_reason: Option<String>,
    pub(super) permission_denials: Option<Vec<Denial>>,
}

/// A tool use that was denied, by a person or by the agent's own rules.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Denial {
    pub(super) tool_name: String,
    pub(super) tool_use_id: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ApiUsage {
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
    pub(super) cache_creation_input_tokens: u64,
    pub(super) cache_read_input_tokens: u64,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ModelUsage {
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
    pub(super) cache_read_input_tokens: u64,
    pub(super) cache_creation_input_tokens: u64,
    #[serde(rename = "costUSD")]
    pub(super) cost_usd: f64,
}
