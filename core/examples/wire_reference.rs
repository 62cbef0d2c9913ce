//! Prints `docs/reference.md`: every kind of frame with its fields and examples.
//!
//! Sources: the schemas in `docs/schema`, which are generated first, and the fixtures in `core/fixtures`.
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

use std::{collections::BTreeSet, error::Error, fs, path::PathBuf, slice};

use serde_json::Value;
use switchboard_core::wire::ErrorCode;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const INTRODUCTION: &str = "\
<!-- Generated from core/src/wire and core/fixtures by `cargo xtask schema`; do not edit. -->

# The reference

Every kind of frame and event of `switchboard.v1`, with its fields and with examples, which the project's tests use as
fixtures. [protocol.md](protocol.md) explains what they are for, [transports.md](transports.md) how they travel.
[schema/client.json](schema/client.json), [schema/server.json](schema/server.json) (JSON Schema 2020-12) and
[schema/wire.ts](schema/wire.ts) (TypeScript) hold the same for programs.

Each kind is marked:

- *stable*: changes only with a new version of the protocol; new optional fields may be added.
- *settling*: in use, and may still change in a minor version of the gateway. The changelog says so.
- *new*: may change or disappear in a minor version of the gateway.

Optional fields are absent where they do not apply; an optional field with `null` in a client's frame counts as absent.
Ids have the syntax that [protocol.md](protocol.md#identifiers) gives. Names that end in `_ms` are milliseconds.

- [Client frames](#client-frames)
- [Chat events](#chat-events)
- [Control events](#control-events)
- [Types](#types)
- [Error codes](#error-codes)
- [Turn error codes](#turn-error-codes)
";

const TURN_ERROR_CODES: &str = "
## Turn error codes

In `error.code` of a `turn_end`. Codes may be added. An agent that is part of a program that embeds the gateway may use
codes of its own. A turn that a client stopped ends `cancelled` without an `error`, and a message that was still queued
when the gateway stopped ends `interrupted` without one.

| Code | `outcome` | Meaning |
|---|---|---|
| `agent_start_failed` | `failed` | the agent could not be started, or was not ready within 60 s |
| `agent_error` | `failed` | the agent reported an error |
| `agent_api_error` | `failed` | the agent could not reach its model |
| `agent_limit` | `failed` | the agent reached a limit of its own, such as a number of steps, a cost or the model's context |
| `no_answer` | `failed` | the agent ended the turn, did nothing and said nothing |
| `too_many_open` | `failed` | the agent had more than 1,024 streams and tool uses open at once and was stopped |
| `too_many_requests` | `failed` | the agent had more than 64 requests open at once and was stopped |
| `agent_exited` | `interrupted`; `failed` in dialect `text` | the agent's process ended before its answer was complete; in dialect `text`, with a status other than 0 |
| `agent_closed_output` | `interrupted` | the agent closed its output without exiting |
| `agent_host_lost` | `interrupted` | the agent's host process was lost, with the agent's last output |
| `agent_host_version` | `interrupted` | the agent's host process is of a version that this gateway does not know |
| `agent_stopped` | `interrupted` | the agent was stopped before its answer was complete |
| `agent_crashed` | `interrupted` | an agent within the gateway's own process panicked |
| `gateway_stopped` | `interrupted` | the gateway was shut down |
| `journal_lost` | `interrupted` | the turn is over, and a failing disk lost how it ended |
| `gateway_restarted` | `interrupted` | the gateway found the turn open when it started, and its agent gone |
| `agent_silent` | `cancelled` | the agent made no progress for too long and was stopped |
";

/// How firm a kind is. A kind without a row, and a row without a kind, is an error.
const STABLE: [&str; 30] = [
    "type authenticate",
    "type new_chat",
    "type attach",
    "type detach",
    "type message",
    "type cancel",
    "type list_chats",
    "type history",
    "type ping",
    "chat user_message",
    "chat turn_started",
    "chat delta",
    "chat stream_end",
    "chat reasoning_delta",
    "chat reasoning_end",
    "chat message",
    "chat request_resolved",
    "chat turn_end",
    "control ready",
    "control attached",
    "control snapshot",
    "control replay_end",
    "control message_accepted",
    "control goal_status",
    "control session_updated",
    "control chats",
    "control history",
    "control pong",
    "control error",
    "control runtime_model_updated",
];
const SETTLING: [&str; 11] = [
    "type respond",
    "type set_goal_state",
    "type rename_chat",
    "type delete_chat",
    "chat tool_event",
    "chat file_edit",
    "chat permission_request",
    "chat question",
    "chat goal_state",
    "control goal_state",
    "control turn_stalled",
];
const NEW: [&str; 7] = [
    "type request_input",
    "control request_input",
    "control agent_state",
    "control notice",
    "control chats_changed",
    "chat notice",
    "chat task",
];

fn main() -> Result<()> {
    let client = json("docs/schema/client.json")?;
    let server = json("docs/schema/server.json")?;
    let mut reference =
        Reference { types: BTreeSet::new(), kinds: BTreeSet::new(), text: INTRODUCTION.to_owned() };

    reference.text += "\n## Client frames\n\nA client names the kind of a frame in `type`. Unknown fields are ignored, except \
                       [those that would change what an agent may do](compat.md#fields-that-are-refused), which get `unsupported`.\n";
    reference.kinds("type", "client", &client, &client)?;

    let chat_event = &server["$defs"]["ChatEvent"];
    let control_event = &server["$defs"]["ControlEvent"];
    reference.text += "\n## Chat events\n\nThe server names the kind of an event in `event`. Every chat event also has these \
                       fields:\n";
    reference.fields(&server, chat_event, None);
    reference.kinds("chat", "server", &server, chat_event)?;
    reference.text += "\n## Control events\n";
    reference.kinds("control", "server", &server, control_event)?;
    let listed: BTreeSet<String> =
        [&STABLE[..], &SETTLING, &NEW].concat().into_iter().map(str::to_owned).collect();
    let gone: Vec<_> = listed.difference(&reference.kinds).collect();
    if !gone.is_empty() {
        return Err(format!("kinds that no longer exist have a row: {gone:?}").into());
    }

    reference.text += "\n## Types\n";
    reference.types(&[&client, &server]);
    reference.error_codes(&server)?;
    print!("{}{TURN_ERROR_CODES}", reference.text);
    Ok(())
}

/// The document while it is written.
struct Reference {
    /// Names of the types that fields refer to.
    types: BTreeSet<String>,
    /// All kinds that were described, with their group.
    kinds: BTreeSet<String>,
    text: String,
}

impl Reference {
    /// Describes all kinds of a schema that is a choice of kinds.
    fn kinds(&mut self, group: &str, side: &str, root: &Value, schema: &Value) -> Result<()> {
        for kind in array(&schema["oneOf"]) {
            let tag = if side == "client" { "type" } else { "event" };
            let name = kind["properties"][tag]["const"].as_str().ok_or("a kind without a name")?;
            let key = format!("{group} {name}");
            let firmness = if STABLE.contains(&&*key) {
                "stable"
            } else if SETTLING.contains(&&*key) {
                "settling"
            } else if NEW.contains(&&*key) {
                "new"
            } else {
                return Err(format!("`{key}` has no row that says how firm it is").into());
            };
            self.text += &format!("\n### `{name}`\n\n*{firmness}*. {}\n", description(kind));
            self.fields(root, kind, Some(tag));
            let is_numbered = |example: &Value| example.get("seq").is_some() && group == "chat";
            let mut examples = examples(side, name)?;
            // `goal_state`, `history` and others exist as several kinds: chat events are numbered.
            let both = ["goal_state", "notice"].contains(&name) && side == "server";
            examples.retain(|(_, _, value)| !both || is_numbered(value) == (group == "chat"));
            if examples.is_empty() {
                return Err(format!("`{key}` has no fixture").into());
            }
            for (fixture, text, _) in examples {
                self.text += &format!("\n```json {fixture}\n{}\n```\n", compact(&text));
            }
            self.kinds.insert(key);
        }
        Ok(())
    }

    /// A table of the fields of an object, without the field that names its kind.
    fn fields(&mut self, root: &Value, schema: &Value, tag: Option<&str>) {
        let mut rows = Vec::new();
        self.rows(root, schema, "", &mut rows);
        rows.retain(|(name, _)| Some(name.as_str()) != tag);
        if rows.is_empty() {
            return;
        }
        self.text += "\n| Field | Type | |\n|---|---|---|\n";
        for (_, row) in rows {
            self.text += &row;
        }
    }

    /// Required fields in their order of declaration, then the optional ones by name.
    fn rows(&mut self, root: &Value, schema: &Value, note: &str, rows: &mut Vec<(String, String)>) {
        let required: Vec<&str> = array(&schema["required"]).iter().filter_map(Value::as_str).collect();
        let properties = schema["properties"].as_object();
        let mut names: Vec<&str> =
            properties.iter().flat_map(|fields| fields.keys()).map(String::as_str).collect();
        names.sort_by_key(|name| {
            (required.iter().position(|known| known == name).unwrap_or(usize::MAX), *name)
        });
        for name in names {
            let field = &schema["properties"][name];
            let optional = if required.contains(&name) { "" } else { "optional " };
            let kind = self.type_of(name, field);
            let text = one_line(&description(field));
            let row = format!("| `{name}` | {optional}{kind}{note} | {text} |\n");
            rows.push((name.to_owned(), row));
        }
        if let Some(path) = schema["$ref"].as_str() {
            let target = root.pointer(path.trim_start_matches('#')).unwrap_or(&Value::Null);
            self.rows(root, target, note, rows);
        }
        // The fields that a choice within the object brings: `respond` has those of its decision.
        let is_kind = |choice: &Value| choice["properties"]["event"]["const"].is_string();
        let choices: Vec<&Value> = array(&schema["oneOf"]).iter().filter(|choice| !is_kind(choice)).collect();
        if let Some((tag, names)) = choice_names(&choices) {
            rows.push((
                tag.clone(),
                format!(
                    "| `{tag}` | {} | Decides which of the following fields there are. |\n",
                    names.join(" or ")
                ),
            ));
            for (choice, name) in choices.into_iter().zip(names) {
                let mut inner = Vec::new();
                self.rows(root, choice, &format!("; with {name}"), &mut inner);
                rows.extend(inner.into_iter().filter(|(field, _)| *field != tag));
            }
        }
    }

    /// The words for the type of a field.
    fn type_of(&mut self, name: &str, field: &Value) -> String {
        if let Some(reference) = field["$ref"].as_str() {
            let target = reference.rsplit('/').next().unwrap_or(reference);
            return match target {
                "ChatEvent" => "[chat event](#chat-events)".to_owned(),
                "ErrorCode" => "[error code](#error-codes)".to_owned(),
                _ => {
                    self.types.insert(target.to_owned());
                    format!("[`{target}`](#{})", target.to_lowercase())
                }
            };
        }
        let choices = array(&field["anyOf"]);
        if !choices.is_empty() {
            let choices = choices.iter().filter(|choice| choice["type"] != "null");
            return choices.map(|choice| self.type_of(name, choice)).collect::<Vec<_>>().join(" or ");
        }
        let types = field["type"].as_array().map_or(slice::from_ref(&field["type"]), Vec::as_slice);
        let types = types.iter().filter_map(Value::as_str).find(|name| *name != "null");
        match types {
            Some("string") if name != "client_id" && (name.ends_with("_id") || name == "epoch") => {
                "id".to_owned()
            }
            Some("string") => "text".to_owned(),
            Some("integer") => "whole number".to_owned(),
            Some("number") => "number".to_owned(),
            Some("boolean") => "true or false".to_owned(),
            Some("array") => format!("array of {}", self.type_of("", &field["items"])),
            Some("object") => "object".to_owned(),
            _ => "any JSON".to_owned(),
        }
    }

    /// Describes the types that fields refer to, and those that these refer to.
    fn types(&mut self, roots: &[&Value]) {
        let mut described = BTreeSet::new();
        while let Some(name) = self.types.difference(&described).next().cloned() {
            let found = roots.iter().find(|root| root["$defs"][&name].is_object());
            if let Some(root) = found {
                let schema = &root["$defs"][&name];
                self.text += &format!("\n### `{name}`\n\n{}\n", description(schema));
                let values: Vec<&Value> =
                    array(&schema["oneOf"]).iter().filter(|choice| choice["const"].is_string()).collect();
                if values.is_empty() {
                    self.fields(root, schema, None);
                } else {
                    self.text += "\n| Value | |\n|---|---|\n";
                }
                for value in values {
                    let text = one_line(&description(value));
                    self.text += &format!("| `{}` | {text} |\n", value["const"].as_str().unwrap_or_default());
                }
            }
            described.insert(name);
        }
    }

    fn error_codes(&mut self, server: &Value) -> Result<()> {
        let schema = &server["$defs"]["ErrorCode"];
        self.text += &format!("\n## Error codes\n\n{}\n\n", description(schema));
        self.text += "| Code | `retryable` | Meaning |\n|---|---|---|\n";
        for value in array(&schema["oneOf"]) {
            let code: ErrorCode = serde_json::from_value(value["const"].clone())?;
            let name = value["const"].as_str().unwrap_or_default();
            let text = one_line(&description(value));
            self.text += &format!("| `{name}` | {} | {text} |\n", code.is_retryable());
        }
        Ok(())
    }
}

/// The tag and the values of a choice whose branches are told apart by a constant.
fn choice_names(choices: &[&Value]) -> Option<(String, Vec<String>)> {
    let constant = |choice: &&Value| {
        let fields = choice["properties"].as_object()?;
        fields.iter().find_map(|(name, field)| Some((name.clone(), field["const"].as_str()?.to_owned())))
    };
    let found: Vec<(String, String)> = choices.iter().map(constant).collect::<Option<_>>()?;
    let tag = found.first()?.0.clone();
    Some((tag, found.into_iter().map(|(_, value)| format!("`{value}`")).collect()))
}

/// The fixtures of a kind: name, text and value, the plain one first.
fn examples(side: &str, kind: &str) -> Result<Vec<(String, String, Value)>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(root().join("core/fixtures").join(side))? {
        let file = entry?.file_name().into_string().map_err(|_| "a fixture's name is not UTF-8")?;
        let name = file.trim_end_matches(".json").to_owned();
        if name.split('.').next() == Some(kind) {
            names.insert(name);
        }
    }
    let read = |name: String| {
        let value = json(&format!("core/fixtures/{side}/{name}.json"))?;
        Ok((format!("{side}/{name}"), text(&format!("core/fixtures/{side}/{name}.json"))?, value))
    };
    names.into_iter().map(read).collect()
}

/// JSON on one line, in the order of its text: a parsed object may have lost it.
fn compact(json: &str) -> String {
    let (mut in_text, mut escaped) = (false, false);
    let mut line = String::new();
    for c in json.chars().filter(|c| *c != '\n') {
        if in_text || !c.is_whitespace() {
            line.push(c);
        }
        in_text ^= c == '"' && !escaped;
        escaped = in_text && c == '\\' && !escaped;
    }
    line
}

fn description(schema: &Value) -> String {
    // Rustdoc links types; in the reference, the type of a field does.
    schema["description"].as_str().unwrap_or_default().replace("[`", "`").replace("`]", "`")
}

/// The text as a cell of a table.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn root() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), ".."].iter().collect()
}

fn text(path: &str) -> Result<String> {
    Ok(fs::read_to_string(root().join(path)).map_err(|error| format!("{path}: {error}"))?)
}

fn json(path: &str) -> Result<Value> {
    Ok(serde_json::from_str(&text(path)?).map_err(|error| format!("{path}: {error}"))?)
}
