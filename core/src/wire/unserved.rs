//! What the vocabulary has and this gateway does not serve. Ignoring it would let an agent run otherwise than its person
//! asked, so frames that ask for it are refused.

use alloc::string::String;

use serde_json::{Map, Value};

/// Kinds of frames that get `unsupported`, not `unknown_type`.
pub(super) const TYPES: [&str; 12] = [
    "set_workspace_scope",
    "set_agent_option",
    "fork_chat",
    "edit_message",
    "tool_result",
    "register_tools",
    "new_temporary_chat",
    "discard_temporary_chat",
    "transcribe_audio",
    "set_sidebar_state",
    "webui_request",
    "ticket",
];

/// Fields that say what an agent may do, which agent that is, or what it is given besides the text.
const OF_MESSAGES: [&str; 19] = [
    "media",
    "workspace_scope",
    "workspace",
    "access_mode",
    "cli_apps",
    "mcp_presets",
    "session_mentions",
    "quoted_context",
    "user_shell",
    "image_generation",
    "agent",
    "machine",
    "model",
    "model_preset",
    "mode",
    "permission_mode",
    "rules",
    "sandbox",
    "temporary",
];

/// Fields that would make an answer grant something else than the request shows.
const OF_ANSWERS: [&str; 7] = [
    "option_id",
    "updated_input",
    "updatedInput",
    "updated_permissions",
    "updatedPermissions",
    "always",
    "remember",
];

/// The first field that asks for something which is not served, in a frame of this kind.
pub(super) fn field(kind: &str, object: &Map<String, Value>) -> Option<&'static str> {
    let names: &'static [&'static str] = match kind {
        "message" | "new_chat" => &OF_MESSAGES,
        "respond" => &OF_ANSWERS,
        _ => &[],
    };
    names.iter().copied().find(|name| object.get(*name).is_some_and(|value| !asks_nothing(value)))
}

/// Clients send empty fields for what nobody chose.
fn asks_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(asks_nothing),
        Value::Bool(true) | Value::Number(_) => false,
    }
}
