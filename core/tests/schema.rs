//! The published schemas, `docs/schema/{client,server}.json`, agree with the code.
//!
//! Every fixture is valid. Every fixture with one damaged value is either refused by the schema or accepted by the code:
//! the gateway and the types of the wire accept all that a schema allows.

use std::{
    fs,
    path::{Path, PathBuf},
};

use jsonschema::Validator;
use serde_json::{Value, json};
use switchboard_core::{
    Limits,
    wire::{ChatEvent, ControlEvent, decode},
};

fn here() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn schema(side: &str) -> Value {
    read(&here().join(format!("../docs/schema/{side}.json")))
}

fn validator(side: &str) -> Validator {
    let schema = schema(side);
    let invalid = jsonschema::meta::validate(&schema).err();
    assert!(invalid.is_none(), "{side}: {invalid:?}");
    jsonschema::draft202012::new(&schema).expect("the schema is one")
}

fn fixtures(side: &str) -> Vec<(String, Value)> {
    let dir = here().join("fixtures").join(side);
    let entries = fs::read_dir(&dir).expect("the fixtures are there");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.iter().map(|path| (format!("{side}/{}", name(path)), read(path))).collect()
}

fn name(path: &Path) -> String {
    path.file_stem().expect("a file").to_string_lossy().into_owned()
}

/// Whether the code accepts the frame.
fn is_taken(side: &str, value: &Value) -> bool {
    match side {
        "client" => decode(&value.to_string(), &Limits::default(), false).is_ok(),
        _ => {
            serde_json::from_value::<ChatEvent>(value.clone()).is_ok()
                || serde_json::from_value::<ControlEvent>(value.clone()).is_ok()
        }
    }
}

/// Copies of the value with one damaged part each, for each part and kind of damage: removed, null, and of other types.
/// Each comes with a description of the damage.
fn damaged(value: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for pointer in pointers(value, "") {
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer has a slash");
        let mut without = value.clone();
        if let Some(Value::Object(object)) = without.pointer_mut(parent) {
            object.remove(key);
            all.push((format!("without {pointer}"), without));
        }
        for other in
            [json!(null), json!(-1), json!(1.5), json!(""), json!("a b"), json!(true), json!([3]), json!({})]
        {
            let mut with = value.clone();
            *with.pointer_mut(&pointer).expect("the place exists") = other.clone();
            all.push((format!("{pointer} = {other}"), with));
        }
    }
    all
}

/// Pointers to all parts of a value, except within the arguments that an agent gives a tool.
fn pointers(value: &Value, at: &str) -> Vec<String> {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(object) => object.iter().map(|(key, value)| (format!("{at}/{key}"), value)).collect(),
        Value::Array(array) => {
            array.iter().enumerate().map(|(index, value)| (format!("{at}/{index}"), value)).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    let is_open = |pointer: &str| pointer.contains("/arguments/") || pointer.contains("/input/");
    let below = inner.iter().flat_map(|(pointer, value)| pointers(value, pointer));
    inner.iter().map(|(pointer, _)| pointer.clone()).chain(below).filter(|p| !is_open(p)).collect()
}

#[test]
fn every_fixture_is_valid() {
    for side in ["client", "server"] {
        let validator = validator(side);
        for (name, value) in fixtures(side) {
            let errors: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{name}: {errors:?}");
        }
    }
}

#[test]
fn what_the_schema_allows_is_taken() {
    for side in ["client", "server"] {
        let validator = validator(side);
        let (mut refused, mut taken) = (0, 0);
        for (name, value) in fixtures(side) {
            for (damage, damaged) in damaged(&value) {
                if validator.is_valid(&damaged) {
                    taken += 1;
                    assert!(
                        is_taken(side, &damaged),
                        "{name} {damage}: the schema allows it, the code does not"
                    );
                } else {
                    refused += 1;
                }
            }
        }
        assert!(refused > 200 && taken > 20, "{side}: {refused} refused, {taken} taken");
    }
}

/// The other direction, for frames to the gateway: the schema allows all that the code accepts.
#[test]
fn what_the_gateway_takes_the_schema_allows() {
    let validator = validator("client");
    for (name, value) in fixtures("client") {
        for (damage, damaged) in damaged(&value) {
            assert!(
                validator.is_valid(&damaged) || !is_taken("client", &damaged),
                "{name} {damage}: the code takes it, the schema does not"
            );
        }
    }
}

#[test]
fn the_schema_refuses_invalid_frames() {
    let client = validator("client");
    let server = validator("server");
    for wrong in [
        json!("hello"),
        json!([]),
        json!({}),
        json!({ "type": "fly" }),
        json!({ "type": "message", "chat_id": "c", "content": "  " }),
        json!({ "type": "message", "chat_id": "no spaces", "content": "hello" }),
        json!({ "type": "message", "chat_id": "x".repeat(65), "content": "hello" }),
        json!({ "type": "message", "chat_id": "c", "content": "hello", "turn_id": "" }),
        json!({ "type": "attach", "chat_id": "c", "after": { "epoch": "e" } }),
        json!({ "type": "attach", "chat_id": "c", "after": { "epoch": "too-long-for-an-epoch", "seq": 1 } }),
        json!({ "type": "history", "chat_id": "c", "limit": 0 }),
        json!({ "type": "respond", "chat_id": "c", "request_id": "r", "decision": "perhaps" }),
        json!({ "type": "ping", "nonce": "n".repeat(129) }),
    ] {
        assert!(!client.is_valid(&wrong), "{wrong}");
        assert!(!is_taken("client", &wrong), "{wrong}");
    }
    let place = json!({ "chat_id": "c", "epoch": "e", "seq": 1 });
    let at = |place: &Value, body: Value| {
        let mut event = place.clone();
        event.as_object_mut().expect("an object").extend(body.as_object().expect("an object").clone());
        event
    };
    for wrong in [
        json!({}),
        json!({ "event": "delta", "stream_id": "s", "text": "no place" }),
        at(&place, json!({ "event": "delta", "text": "no stream" })),
        at(&place, json!({ "event": "turn_end", "outcome": "lost", "latency_ms": 1 })),
        at(&place, json!({ "event": "flown" })),
        json!({ "event": "error", "code": "flown", "detail": "d", "retryable": false }),
        json!({ "event": "pong", "nonce": null }),
    ] {
        assert!(!server.is_valid(&wrong), "{wrong}");
    }
}

/// All frames in the traces, with numbers in place of hidden times.
fn traced() -> Vec<(String, Value)> {
    let dir = here().join("../conformance/traces");
    let mut frames = Vec::new();
    for entry in fs::read_dir(&dir).expect("the traces are there") {
        let path = entry.expect("an entry").path();
        let text = fs::read_to_string(&path).expect("a trace is text").replace(r#""~""#, "1");
        for line in text.lines() {
            let Some((client, frame)) = line.split_once(['<', '>']) else { continue };
            let frame = frame.trim_start();
            if !client.contains(' ') && frame.starts_with('{') {
                let at = format!("{}: {line}", name(&path));
                // A client may send text that is no JSON, or a trace says how often a text is repeated.
                frames.extend(serde_json::from_str(frame).ok().map(|frame| (at, frame)));
            }
        }
    }
    frames
}

#[test]
fn every_event_in_the_traces_is_valid() {
    let validator = validator("server");
    let mut valid = 0;
    for (at, event) in traced().iter().filter(|(_, frame)| frame.get("event").is_some()) {
        let errors: Vec<String> = validator.iter_errors(event).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{at}: {errors:?}");
        valid += 1;
    }
    assert!(valid > 500, "{valid}");
}

#[test]
fn every_kind_occurs_in_a_trace() {
    let traced = traced();
    let (client, server) = (schema("client"), schema("server"));
    let kinds = [
        ("type", &client),
        ("event", &server["$defs"]["ChatEvent"]),
        ("event", &server["$defs"]["ControlEvent"]),
    ];
    for (tag, schema) in kinds {
        for kind in schema["oneOf"].as_array().expect("a choice of kinds") {
            let name = &kind["properties"][tag]["const"];
            assert!(name.is_string(), "{kind}");
            let numbered =
                kind["properties"].get("seq").is_some() || schema["properties"].get("seq").is_some();
            let is_it = |frame: &Value| {
                // Two kinds are named `goal_state`.
                frame[tag] == *name && (*name != "goal_state" || frame.get("seq").is_some() == numbered)
            };
            assert!(
                traced.iter().any(|(_, frame)| is_it(frame)),
                "no trace has {name}, numbered: {numbered}"
            );
        }
    }
}
