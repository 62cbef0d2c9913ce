//! Frames and fields of the protocol's vocabulary that this gateway does not support. Frames with them are refused:
//! otherwise an agent would run in another way than the person asked for.

use alloc::string::String;

use serde_json::{Map, Value};

/// Types of frames that are refused with `unsupported` instead of `unknown_type`.
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

/// Fields that select the agent or its rights, or give it more than the text. Each name stands for all its spellings:
/// `permission_mode` for `permissionMode`, too.
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

/// Fields that would make an answer allow something else than the request contains.
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

/// The first unsupported field in a frame of this type, as the client spells it.
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

/// Maximum length of a field's name that is checked, in bytes. The error repeats the name.
const LONGEST: usize = 64;

/// Whether a field has this name, in any case and with or without separators.
fn is_spelling_of(field: &str, name: &str) -> bool {
    let is_letter = |byte: &u8| !matches!(byte, b'_' | b'-');
    let letters = field.bytes().filter(is_letter).map(|byte| byte.to_ascii_lowercase());
    field.len() <= LONGEST && letters.eq(name.bytes().filter(is_letter))
}

/// Whether a value asks for nothing, such as `false` or an empty text. Clients send such values for options that were
/// not chosen.
fn asks_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(asks_nothing),
        Value::Bool(true) | Value::Number(_) => false,
    }
}
