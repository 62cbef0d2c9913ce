//! Prints the wire as JSON Schema: `wire_schema client` and `wire_schema server`.
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

use schemars::{JsonSchema, Schema, generate::SchemaSettings};
use serde_json::{Value, json};
use switchboard_core::wire::{ChatEvent, ClientEnvelope, ControlEvent, PROTOCOL};

/// Whatever a client may receive. `goal_state` without a place is a control event, with one it is a chat event.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is asked for")]
enum ServerEvent {
    Chat(ChatEvent),
    Control(ControlEvent),
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let settings = SchemaSettings::draft2020_12();
    let side = std::env::args().nth(1).ok_or("usage: wire_schema client|server")?;
    let (schema, about) = match side.as_str() {
        "client" => (
            settings.into_generator().into_root_schema_for::<ClientEnvelope>(),
            "A frame that a client sends.",
        ),
        "server" => (
            settings.for_serialize().into_generator().into_root_schema_for::<ServerEvent>(),
            "An event that a client receives. Clients must tolerate unknown fields and unknown kinds.",
        ),
        other => return Err(format!("there is no side `{other}`").into()),
    };
    println!("{}", serde_json::to_string_pretty(&published(schema, &side, about))?);
    Ok(())
}

/// The schema as strangers shall read it.
fn published(schema: Schema, side: &str, about: &str) -> Value {
    let mut value = schema.to_value();
    value["title"] = json!(format!("{PROTOCOL} {side}"));
    value["description"] = json!(about);
    value["$comment"] = json!("Generated from core/src/wire by `cargo xtask schema`; do not edit.");
    clean(&mut value, side == "server");
    // Whether objects are sorted by themselves depends on what else is in the build.
    value.sort_all_objects();
    value
}

/// Takes away formats that are Rust's own and, in what is only received, `null`: no event holds one for an absent field.
fn clean(schema: &mut Value, without_null: bool) {
    match schema {
        Value::Object(object) => {
            let is_foreign =
                |format: &Value| format.as_str().is_some_and(|f| f.contains("int") || f == "double");
            if object.get("format").is_some_and(is_foreign) {
                object.remove("format");
            }
            if without_null {
                take_null_away(object);
            }
            object.values_mut().for_each(|inner| clean(inner, without_null));
        }
        Value::Array(array) => array.iter_mut().for_each(|inner| clean(inner, without_null)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn take_null_away(object: &mut serde_json::Map<String, Value>) {
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    let Some(Value::Array(choices)) = object.get_mut("anyOf") else { return };
    choices.retain(|choice| *choice != json!({ "type": "null" }));
    if let [Value::Object(only)] = choices.as_slice() {
        let mut only = only.clone();
        object.remove("anyOf");
        object.append(&mut only);
    }
}
