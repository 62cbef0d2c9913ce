//! Subagents: what they say, use and ask, and how it ends.

use serde_json::{Value, json};

use super::{
    lines::{
        ask, assistant, block_start, block_stop, by, check, message_start, message_stop, result, shown,
        system, text, text_delta, tool_result, tool_use,
    },
    talk::Talk,
};
use crate::dialect::{Codec as _, Delivered};

fn says(parent: Option<&str>, id: &str, block: Value) -> Value {
    by(parent, assistant(id, block))
}

fn uses(id: &str, name: &str) -> Value {
    tool_use(id, name, json!({}))
}

fn ended_use(parent: Option<&str>, id: &str, text: &str) -> Value {
    by(parent, tool_result(id, json!(text)))
}

fn start(parent: Option<&str>, id: &str) -> Vec<Value> {
    vec![by(parent, message_start(id)), by(parent, block_start(0, text("")))]
}

fn piece(parent: Option<&str>, text: &str) -> Value {
    by(parent, text_delta(0, text))
}

fn stop(parent: Option<&str>) -> Vec<Value> {
    vec![by(parent, block_stop(0)), by(parent, message_stop())]
}

fn launched(id: &str) -> Value {
    let more = json!({"task_id": "a1", "tool_use_id": id, "description": "look", "task_type": "local_agent",
        "is_backgrounded": true});
    system("task_started", more)
}

fn notified(status: &str) -> Value {
    system("task_notification", json!({"task_id": "a1", "status": status}))
}

fn ended() -> Value {
    result("x", json!({}))
}

const SUB: Option<&str> = Some("u1");

#[test]
fn texts_of_the_agent_and_of_a_subagent_may_interleave() {
    let lines = [
        start(None, "m1"),
        vec![piece(None, "main ")],
        start(SUB, "s1"),
        vec![piece(SUB, "sub"), piece(None, "text"), says(SUB, "s1", text("sub"))],
        stop(SUB),
        vec![says(None, "m1", text("main text"))],
        stop(None),
        vec![says(SUB, "s2", text("whole"))],
    ];
    check(
        &lines.concat(),
        &[
            r#"text 1-2 "main ""#,
            r#"under u1: text 1-5 "sub""#,
            r#"text 1-2 "text""#,
            "under u1: text_end 1-5",
            "text_end 1-2",
            r#"under u1: message "whole""#,
        ],
    );
}

#[test]
fn a_subagents_text_is_no_answer() {
    let error = "turn_ended Failed no_answer: The agent ended its turn without an answer.";
    let init = system("init", json!({"user_message_uuids": ["another"]}));
    check(
        &[init, says(SUB, "s1", text("sub")), result("", json!({"origin": {}}))],
        &[
            "agent_turn Other",
            r#"under u1: message "sub""#,
            r#"notice Info other "The agent ended its turn without a word.""#,
            "agent_turn_ended Completed",
        ],
    );
    check(
        &[says(None, "m", text("")), says(SUB, "s1", text("sub")), result("", json!({}))],
        &[r#"under u1: message "sub""#, error, "(turn ended)"],
    );
}

#[test]
fn a_subagents_tools_and_requests_are_below_its_tool_use() {
    check(
        &[
            says(None, "m", uses("u1", "Agent")),
            launched("u1"),
            says(SUB, "s1", uses("u2", "Bash")),
            ask("r-1", json!({"tool_use_id": "u2"})),
            ask("r-2", json!({"tool_use_id": "u3", "agent_id": "a1"})),
            ended_use(SUB, "u2", "done"),
            ended_use(None, "u3", "done"),
        ],
        &[
            "tool u1 Agent {}",
            r#"task a1 Agent "look" Running "u1""#,
            "under u1: tool u2 Bash {}",
            r#"under u1: permission 1-4 Bash {} "u2""#,
            "under u1: tool u3 Bash {}",
            r#"under u1: permission 1-5 Bash {} "u3""#,
            r#"under u1: tool_end u2 Bash Ok("done")"#,
            r#"under u1: tool_end u3 Bash Ok("done")"#,
        ],
    );
}

#[test]
fn a_file_that_a_subagent_changes_is_below_its_tool_use() {
    let write = tool_use("u2", "Write", json!({"file_path": "a", "content": "b\n"}));
    // The line with the result does not say that it is a subagent's.
    let lines = [says(None, "m", uses("u1", "Agent")), says(SUB, "s1", write), ended_use(None, "u2", "ok")];
    check(
        &lines,
        &[
            "tool u1 Agent {}",
            r#"under u1: tool u2 Write {"content":"b\n","file_path":"a"} "Write a" @a"#,
            r#"under u1: tool_end u2 Write Ok("ok")"#,
            r#"under u1: file_edit u2 Write a +1 -0 "--- a\n+++ a\n@@ -0,0 +1 @@\n+b\n""#,
        ],
    );
}

#[test]
fn a_background_subagent_goes_on_after_the_turn() {
    let before = [
        says(None, "m", uses("u1", "Agent")),
        launched("u1"),
        ended_use(None, "u1", "Async agent launched successfully. (internal)\nagentId: a1"),
        says(SUB, "s1", uses("u2", "Bash")),
    ];
    let shown = [
        "tool u1 Agent {}",
        r#"task a1 Agent "look" Running "u1""#,
        r#"tool_end u1 Agent Ok("The subagent works in the background.")"#,
        "under u1: tool u2 Bash {}",
    ];
    let answered = [r#"message "x""#, "turn_ended Completed", "(turn ended)"];
    let init = system("init", json!({}));
    let mut talk = Talk::new();
    talk.prompt("t-1");
    talk.says(&init);
    before.iter().for_each(|line| talk.says(line));
    talk.gave(&shown);
    talk.says(ended());
    talk.gave(&answered);
    // A turn of the agent's own, in which the tool use ends.
    talk.says(ended_use(SUB, "u2", "done"));
    talk.gave(&["agent_turn Background", r#"under u1: tool_end u2 Bash Ok("done")"#]);
    talk.prompt("t-2");
    talk.says(init);
    talk.gave(&["agent_turn_ended Completed"]);
    talk.says(says(SUB, "s1", uses("u3", "Bash")));
    talk.gave(&["under u1: tool u3 Bash {}"]);
    talk.says(ended());
    talk.gave(&answered);
    // The hub ends the tool use.
    talk.says(notified("killed"));
    talk.says(ended_use(SUB, "u3", "too late"));
    talk.gave(&[r#"task a1 Agent "look" Stopped "u1""#]);
}

#[test]
fn what_a_background_subagent_asks_is_denied_when_the_turn_ends() {
    let ask = |id: &str| ask(id, json!({"agent_id": "a1"}));
    let withdrawn = json!({"type": "control_cancel_request", "request_id": "r-1"});
    let lines = [
        system("init", json!({})),
        says(None, "m", uses("u1", "Agent")),
        launched("u1"),
        ask("r-1"),
        ask("r-2"),
        withdrawn,
        ended(),
    ];
    check(
        &lines,
        &[
            "tool u1 Agent {}",
            r#"task a1 Agent "look" Running "u1""#,
            "under u1: permission 1-4 Bash {}",
            "under u1: permission 1-5 Bash {}",
            "withdrawn 1-4",
            "withdrawn r-1",
            r#"message "x""#,
            r#"notice Warning request_refused "The turn ended before somebody answered what a subagent had asked; it was denied, and what it wanted is not done.""#,
            "turn_ended Completed",
            r#"reply {"type":"control_response","response":{"subtype":"success","request_id":"r-2","response":{"behavior":"deny","message":"The turn ended before an answer."}}}"#,
            "(turn ended)",
        ],
    );
}

#[test]
fn what_may_be_asked_by_a_background_subagent_is_denied_when_the_turn_ends() {
    let agent = || says(None, "m", uses("u1", "Agent"));
    let of_subagent = || says(SUB, "s1", uses("u2", "Bash"));
    let launch = || ended_use(None, "u1", "Async agent launched successfully. (internal)");
    for (before, request, denied) in [
        // The codec knows no such work, and no such tool use.
        (vec![], json!({"agent_id": "a9"}), true),
        (vec![], json!({"agent_id": "a9", "tool_use_id": "u9"}), true),
        (vec![agent(), launched("u1"), launch()], json!({}), true),
        (vec![agent(), launched("u1"), launch()], json!({"tool_use_id": "u9"}), true),
        // Nothing says that the subagent works in the background, but the agent does not wait for it.
        (vec![agent(), launch(), of_subagent()], json!({"tool_use_id": "u2"}), true),
        // Nobody but the agent itself can ask.
        (vec![], json!({}), false),
        (vec![], json!({"tool_use_id": "u9"}), false),
        // The agent itself asks, or a subagent that it waits for.
        (vec![says(None, "m", uses("u2", "Bash"))], json!({"tool_use_id": "u2"}), false),
        (vec![agent(), of_subagent()], json!({"tool_use_id": "u2"}), false),
        // The tool use has ended without the answer.
        (vec![agent(), launch(), of_subagent()], json!({"tool_use_id": "u2", "ends": true}), false),
    ] {
        let mut lines = vec![system("init", json!({}))];
        lines.extend(before);
        lines.push(ask("r-1", request.clone()));
        lines.extend(request["ends"].as_bool().map(|_| ended_use(None, "u2", "aborted")));
        lines.push(ended());
        let shown = shown(&lines);
        let any = |part: &str| shown.iter().any(|line| line.contains(part));
        assert!(any("permission "), "{shown:?}");
        let found = [
            any("notice Warning request_refused"),
            any(r#""request_id":"r-1","response":{"behavior":"deny""#),
        ];
        assert_eq!(found, [denied; 2], "{request} {shown:?}");
    }
}

#[test]
fn a_denial_is_remembered_while_the_subagent_that_asked_goes_on() {
    let mut denied = ended_use(SUB, "u2", "no");
    denied["message"]["content"][0]["is_error"] = true.into();
    denied["tool_result_meta"] =
        json!([{"id": "u2", "permission_decision": {"decision": "reject", "source": "config"}}]);
    let lines = [
        system("init", json!({})),
        says(None, "m", uses("u1", "Agent")),
        launched("u1"),
        ended_use(None, "u1", "Async agent launched successfully."),
        says(SUB, "s1", uses("u2", "Bash")),
        ask("r-1", json!({"tool_use_id": "u2"})),
        ended(),
        denied,
        result("y", json!({"permission_denials": [{"tool_name": "Bash", "tool_use_id": "u2"}]})),
    ];
    let shown = shown(&lines);
    assert!(shown.iter().any(|line| line == r#"under u1: tool_end u2 Bash Err("no")"#), "{shown:?}");
    assert!(!shown.iter().any(|line| line.contains("permission_denied")), "{shown:?}");
}

#[test]
fn a_stop_ends_a_turn_of_subagents_alone() {
    let mut talk = Talk::new();
    talk.says(launched("u1"));
    talk.says(says(SUB, "s1", text("sub")));
    let task = r#"task a1 Agent "look" Running "u1""#;
    talk.gave(&[task, "agent_turn Background", r#"under u1: message "sub""#]);
    talk.codec.delivered(Delivered::CancelAgentTurn);
    talk.says(json!({"type": "control_response",
        "response": {"subtype": "success", "request_id": "cancel-1", "response": {"still_queued": []}}}));
    talk.gave(&["agent_turn_ended Cancelled"]);
}

#[test]
fn a_stream_that_a_turns_end_cuts_is_void() {
    let lines = [
        vec![system("init", json!({}))],
        vec![says(None, "m", uses("u1", "Agent")), launched("u1")],
        start(SUB, "s1"),
        vec![piece(SUB, "half"), ended(), piece(SUB, " and half"), says(SUB, "s1", text("half and half"))],
    ];
    check(
        &lines.concat(),
        &[
            "tool u1 Agent {}",
            r#"task a1 Agent "look" Running "u1""#,
            r#"under u1: text 1-5 "half""#,
            r#"message "x""#,
            "under u1: text_end 1-5 VOID",
            "turn_ended Completed",
            "(turn ended)",
            "agent_turn Background",
            r#"under u1: message "half and half""#,
        ],
    );
}

#[test]
fn the_report_of_a_subagent_is_shown_without_what_is_around_it() {
    let framed = "  <tools-used-before-summary>Bash</tools-used-before-summary>\n\n[Subagent hand-back] The text below \
                  is the report. The report follows:\n  one\n\n    two\nagentId: a1 (internal)\n<usage>1</usage>";
    let more = json!({"status": "completed", "content": [
        text("<tools-used-before-summary>Bash</tools-used-before-summary>\n"), text("one\n\n  two")]});
    let mut reported = ended_use(None, "u1", framed);
    reported["tool_use_result"] = more;
    for result in [ended_use(None, "u1", framed), reported] {
        check(
            &[says(None, "m", uses("u1", "Agent")), result],
            &["tool u1 Agent {}", r#"tool_end u1 Agent Ok("one\n\n  two")"#],
        );
    }
}
