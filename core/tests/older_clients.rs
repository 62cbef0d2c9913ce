//! What a client sees that was written before agents had turns, tasks and subagents. It takes a turn of the agent's for
//! one that somebody else began, and knows none of the newer events and members.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;
use switchboard_conformance::trace::{Line, Step, parse};

#[path = "older_clients/client.rs"]
mod client;

use client::{OlderClient, Seen};

/// The traces, by the names of their files.
fn traces() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/traces");
    let paths = fs::read_dir(folder)
        .expect("the traces are there")
        .map(|entry| entry.expect("it can be listed").path());
    let traces = paths.filter(|path| path.extension().is_some_and(|extension| extension == "trace"));
    traces
        .map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).expect("it can be read"))
        })
        .collect()
}

/// Has an older client in place of each client of the trace, and says what is inconsistent for the first one.
fn read(trace: &str) -> Result<(), String> {
    let (mut clients, mut seen) = (BTreeMap::<String, OlderClient>::new(), Seen::default());
    for line in parse(trace).expect("a trace") {
        match &line {
            Line::Output(text) => {
                let is_client = |name: &str| !name.contains(' ') && name != "journal";
                let Some((name, event)) = text.split_once("< ").filter(|(name, _)| is_client(name)) else {
                    continue;
                };
                let event = serde_json::from_str(event).expect("an event");
                let client = clients.get_mut(name).expect("a client that is open");
                client.receives(&event, &mut seen).map_err(|why| format!("{why}: {text}"))?;
                continue;
            }
            Line::Remark(_) => continue,
            Line::Input(text, step) => {
                let agree = clients.values().try_for_each(OlderClient::status_agrees);
                agree.map_err(|why| format!("before {text}: {why}"))?;
                if let Step::Open { client, principal } = step {
                    let principal = principal.clone().unwrap_or_default();
                    clients.insert(client.clone(), OlderClient::new(principal));
                } else if let Step::Send { client, frame } = step {
                    let frame = serde_json::from_str(frame).unwrap_or_default();
                    clients.get_mut(client).expect("a client that is open").sends(&frame);
                }
            }
        }
    }
    clients.values().try_for_each(OlderClient::all_is_over)
}

#[test]
fn every_trace_is_consistent_for_older_clients() {
    let wrong: Vec<String> = traces()
        .iter()
        .filter_map(|(name, trace)| read(trace).err().map(|why| format!("{name}: {why}")))
        .collect();
    assert!(wrong.is_empty(), "{} traces:\n{}", wrong.len(), wrong.join("\n"));
}

/// The trace of own turns, a folded prompt, a subagent and background work.
const NEW: &str = "older_clients.trace";

/// The trace with the event that has this number as one of a kind that is not known, also in snapshots.
fn without(trace: &str, seq: &Value) -> String {
    let hide = |event: &mut Value| {
        if event["seq"] == *seq && event["turn_id"].is_string() {
            event["event"] = "newer".into();
        }
    };
    let lines = trace.lines().map(|line| {
        let Some((name, event)) = line.split_once("< ").filter(|(name, _)| !name.contains(' ')) else {
            return line.to_owned();
        };
        let mut event: Value = serde_json::from_str(event).expect("an event");
        hide(&mut event);
        event["events"].as_array_mut().into_iter().flatten().for_each(hide);
        format!("{name}< {event}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn an_older_client_sees_a_turn_of_the_agents_as_one_of_somebody_else() {
    let trace = &traces()[NEW];
    read(trace).unwrap();
    for word in [
        "\"origin\":\"agent\"",
        "\"event\":\"task\"",
        "\"event\":\"notice\"",
        "\"parent_call_id\"",
        "\"phase\":\"update\"",
    ] {
        assert!(trace.contains(word), "{word} is not in the trace");
    }
}

/// What a gateway must not leave to newer events alone.
#[test]
fn an_older_client_misses_what_it_is_not_told() {
    let trace = &traces()[NEW];
    let kinds = [
        "permission_request",
        "reasoning_end",
        "request_resolved",
        "stream_end",
        "tool_event",
        "turn_end",
        "turn_started",
    ];
    let mut missed = BTreeSet::new();
    for line in trace.lines().filter_map(|line| line.strip_prefix("a< ")) {
        let event: Value = serde_json::from_str(line).unwrap();
        let Some(kind) = kinds.into_iter().find(|kind| event["event"] == **kind) else { continue };
        if event["phase"] != "update" {
            read(&without(trace, &event["seq"])).expect_err(line);
            missed.insert(kind);
        }
    }
    assert_eq!(missed, BTreeSet::from(kinds));
    read(&without(trace, &Value::Null)).unwrap();
}

#[test]
fn an_older_client_sees_other_defects() {
    let trace = &traces()[NEW];
    for (was, is, why) in [
        // An event twice, and one that is not there.
        (r#""seq":2,"turn_id":"t1""#, r#""seq":3,"turn_id":"t1""#, "a hole in the numbers"),
        (r#""event":"task""#, r#""event":"turn_end""#, "work in a turn that does not run"),
        (
            r#""state":{"turn":{"turn_id":"t2","started_at_ms":"~"},"#,
            r#""state":{"turn":{"turn_id":"t1","started_at_ms":"~"},"#,
            "more turns run",
        ),
        (r#""text":"files.""#, r#""text":"files!""#, "another client at the same place sees something else"),
        (r#""status":"running""#, r#""status":"idle""#, "do not agree on whether a turn runs"),
    ] {
        assert!(trace.contains(was), "{was} is not in the trace");
        let found = read(&trace.replacen(was, is, 1)).unwrap_err();
        assert!(found.contains(why), "{was} as {is}: {found}");
    }
}
