//! Subagents.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::Session;

#[test]
fn what_parallel_subagents_do_is_below_their_tool_uses() {
    let Some(mut session) = Session::start("") else { return };
    let turn = session.run("agents:tool:echo from-one|tool:echo from-two");
    let agents: Vec<Value> = session
        .events
        .iter()
        .filter(|event| {
            event["event"] == "tool_event" && event["phase"] == "start" && event["name"] == "Agent"
        })
        .map(|event| event["call_id"].clone())
        .collect();
    assert_eq!(agents.len(), 2, "{}", session.report());
    for (agent, said) in agents.iter().zip(["from-one", "from-two"]) {
        session.assert_received(&json!({"event": "tool_event", "phase": "start", "name": "Bash",
            "parent_call_id": agent, "turn_id": turn, "arguments": {"command": format!("echo {said}")}}));
        session.assert_received(&json!({"event": "tool_event", "phase": "end", "parent_call_id": agent,
            "turn_id": turn, "result": said}));
        // The result is what the subagent said, without what Claude Code writes around it for the model.
        session.assert_received(&json!({"event": "tool_event", "phase": "end", "call_id": agent,
            "parent_call_id": null, "result": format!("tool said: {said}")}));
    }
    let uses: BTreeSet<String> = agents.iter().map(Value::to_string).collect();
    let stray = session.events.iter().find(|event| {
        !event["parent_call_id"].is_null() && !uses.contains(&event["parent_call_id"].to_string())
    });
    assert_eq!(stray, None);
    assert!(session.text(&turn).starts_with("Using a tool. tool said: "), "{}", session.report());
    session.assert_received(
        &json!({"event": "turn_end", "turn_id": turn, "outcome": "completed", "error": null}),
    );
    session.assert_balanced();
}
