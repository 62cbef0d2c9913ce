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

/// Fields that say what an agent may do, which agent that is, or what it is given besides the text. Here and below in one
/// spelling for all: `permission_mode` stands for `permissionMode`, too.
const OF_AGENTS: [&str; 31] = [
    "media",
    "images",
    "attachments",
    "files",
    "workspace_scope",
    "workspace",
    "cwd",
    "env",
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
    "system_prompt",
    "append_system_prompt",
    "tools",
    "allowed_tools",
    "disallowed_tools",
    "mcp_servers",
    "mode",
    "permission_mode",
    "permissions",
    "rules",
    "sandbox",
    "temporary",
];

/// Fields that would make an answer grant something else than the request shows.
const OF_ANSWERS: [&str; 9] = [
    "option_id",
    "updated_input",
    "updated_permissions",
    "permission_suggestions",
    "permission_mode",
    "always",
    "always_allow",
    "remember",
    "scope",
];

/// The first field that asks for something which is not served, in a frame of this kind, as the client spells it.
pub(super) fn field<'a>(kind: &str, object: &'a Map<String, Value>) -> Option<&'a str> {
    let names: &[&str] = match kind {
        "message" | "new_chat" | "attach" => &OF_AGENTS,
        "respond" => &OF_ANSWERS,
        _ => return None,
    };
    let is_unserved = |field: &str| names.iter().any(|name| is_spelling_of(field, name));
    let mut fields = object.iter().filter(|(_, value)| !asks_nothing(value));
    fields.find(|(field, _)| is_unserved(field)).map(|(field, _)| field.as_str())
}

/// Longest field that is looked at, in bytes: the error repeats it.
const LONGEST: usize = 64;

/// Whether a field is this name, in whatever case and with or without separators.
fn is_spelling_of(field: &str, name: &str) -> bool {
    let is_letter = |byte: &u8| !matches!(byte, b'_' | b'-');
    let letters = field.bytes().filter(is_letter).map(|byte| byte.to_ascii_lowercase());
    field.len() <= LONGEST && letters.eq(name.bytes().filter(is_letter))
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
