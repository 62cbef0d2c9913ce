//! What the agent said, beside the recordings: the inputs of reports about other gateways, and hostile ones.

use serde_json::{Value, json};

use super::{
    codec, decode,
    lines::{assistant, by, result, shown, system, tool_result},
    talk::Talk,
};

fn tool_use(message: &str, id: &str, name: &str, input: &Value) -> Value {
    assistant(message, super::lines::tool_use(id, name, input.clone()))
}

#[test]
fn a_reused_id_is_a_new_use_and_a_repeated_record_is_not() {
    let mut lines = Vec::new();
    for (message, text) in [("m1", "one"), ("m2", "two"), ("m3", "three")] {
        let start = tool_use(message, "Bash:0", "Bash", &json!({"command": text}));
        lines.extend([start.clone(), start.clone(), tool_result("Bash:0", json!(text)), start]);
        lines.push(tool_result("Bash:0", json!("late")));
    }
    assert_eq!(
        shown(&lines),
        [
            r#"tool Bash:0 Bash {"command":"one"} "one""#,
            r#"tool_end Bash:0 Bash Ok("one")"#,
            r#"tool Bash:0 Bash {"command":"two"} "two""#,
            r#"tool_end Bash:0 Bash Ok("two")"#,
            r#"tool Bash:0 Bash {"command":"three"} "three""#,
            r#"tool_end Bash:0 Bash Ok("three")"#,
        ]
    );
}

#[test]
fn subagents_may_use_the_same_id_at_once() {
    let by = |parent, line| by(Some(parent), line);
    let start = |message: &str| tool_use(message, "Bash:0", "Bash", &json!({}));
    let ended = shown(&[
        by("a", start("m1")),
        by("b", start("m2")),
        by("b", tool_result("Bash:0", json!("of b"))),
        by("a", tool_result("Bash:0", json!("of a"))),
    ]);
    let ended: Vec<bool> = ended.iter().map(|event| event.contains("tool_end")).collect();
    assert_eq!(ended, [false, false, true, true]);
}

#[test]
fn a_use_that_begins_with_a_request_begins_once() {
    let request = json!({"type": "control_request", "request_id": "r-1", "request": {
        "subtype": "can_use_tool", "tool_name": "Bash", "input": {}, "tool_use_id": "t1"}});
    let mut whole = tool_use("m1", "t1", "Bash", &json!({}));
    whole["parent_tool_use_id"] = "a".into();
    let mut result = tool_result("t1", json!("ok"));
    result["parent_tool_use_id"] = "a".into();
    for order in [[&request, &whole], [&whole, &request]] {
        let said = shown(&[order[0].clone(), order[1].clone(), result.clone(), whole.clone()]);
        let events: Vec<&str> = said
            .iter()
            .filter_map(|event| event.strip_prefix("under a: ").unwrap_or(event).split(' ').next())
            .collect();
        assert_eq!(events.iter().filter(|event| **event == "tool").count(), 1, "{said:?}");
        assert_eq!(events.iter().filter(|event| **event == "tool_end").count(), 1, "{said:?}");
    }
}

#[test]
fn text_of_tools_is_not_rewritten() {
    let output = "/workspace/a.txt\n/workspace-two/b.txt\n/mnt/snap/workspace/d.txt\nx=/workspace:/usr/bin\n";
    let input = json!({"file_path": "/workspace/src/a.rs", "offset": 3});
    assert_eq!(
        shown(&[tool_use("m", "t1", "Read", &input), tool_result("t1", json!(output))]),
        [
            format!(r#"tool t1 Read {input} "Read src/a.rs" @src/a.rs"#),
            format!("tool_end t1 Read Ok({output:?})"),
        ]
    );
}

#[test]
fn media_in_a_result_are_listed() {
    let content = json!([
        {"type": "text", "text": "Took it."},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
        {"type": "image", "data": "QUJD", "mimeType": "image/webp"},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="}},
        {"type": "resource_link", "uri": "file:///tmp/x"},
    ]);
    assert_eq!(
        shown(&[tool_use("m", "t1", "shot", &json!({})), tool_result("t1", content)])[1],
        r#"tool_end t1 shot Ok("Took it.\n[image]\n[image]\n[document]\n[other content]") [image/png 8] [image/webp 3] [application/pdf 4]"#
    );
    let mut read = tool_result("t1", json!("PDF file read: a.pdf"));
    read["tool_use_result"] = json!({"type": "pdf", "file": {"filePath": "/workspace/a.pdf", "base64": "JVBERg==", "originalSize": 4}});
    assert_eq!(
        shown(&[tool_use("m", "t1", "Read", &json!({})), read])[1],
        r#"tool_end t1 Read Ok("PDF file read: a.pdf") [application/pdf 4]"#
    );
}

#[test]
fn input_that_is_nested_too_deep_is_shown_as_text() {
    let deep = format!("{}1{}", "{\"a\":".repeat(200), "}".repeat(200));
    let line = tool_use("m", "t1", "run", &json!("DEEP")).to_string().replace("\"DEEP\"", &deep);
    let shown = decode(&mut codec(), &[line]);
    assert!(shown.contains("tool t1 run \"{\\\"a\\\":"), "{}", &shown[..60]);
}

#[test]
fn edits_of_large_files_are_counted() {
    let input = json!({"file_path": "/workspace/x", "content": "line\n".repeat(60_000)});
    let shown = shown(&[tool_use("m", "t1", "Write", &input), tool_result("t1", json!("ok"))]);
    assert!(
        shown[2].starts_with("file_edit t1 Write x +60000 -0 \"--- x\\n+++ x\\n@@"),
        "{}",
        &shown[2][..80]
    );
    assert!(shown[2].ends_with(" TRUNCATED"));
}

#[test]
fn a_file_that_was_written_again_is_compared_with_its_content_before() {
    let input = json!({"file_path": "/workspace/x", "content": "a\nc\n"});
    let mut result = tool_result("t1", json!("ok"));
    result["tool_use_result"] = json!({"type": "update", "originalFile": "a\nb\n", "content": "a\nc\n"});
    let shown = shown(&[tool_use("m", "t1", "Write", &input), result]);
    assert_eq!(shown[2], r#"file_edit t1 Write x +1 -1 "--- x\n+++ x\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n""#);
}

/// The result of a turn that failed at the model's API.
fn api_error(text: &str) -> Value {
    result(text, json!({"is_error": true, "terminal_reason": "api_error"}))
}

#[test]
fn a_limit_of_usage_is_told_with_its_end() {
    let limit = |status: &str| {
        json!({"type": "rate_limit_event", "rate_limit_info": {"status": status, "rateLimitType": "five_hour",
            "resetsAt": 1_790_003_600, "utilization": 0.9}})
    };
    let sentence = "You've hit your limit · resets 6pm";
    assert_eq!(
        shown(&[
            limit("allowed"),
            limit("allowed_warning"),
            limit("rejected"),
            limit("rejected"),
            api_error(sentence)
        ]),
        [
            r#"notice Info usage_limit "The agent's account is near its five-hour limit. It resets on 2026-09-21 at 15:13 UTC." {"limit":"five_hour","resets_at_ms":1790003600000,"state":"near","utilization":0.9}"#,
            r#"notice Warning usage_limit "The agent's account has reached its five-hour limit. It resets on 2026-09-21 at 15:13 UTC." {"limit":"five_hour","resets_at_ms":1790003600000,"state":"reached","utilization":0.9}"#,
            "turn_ended Failed agent_api_error: You've hit your limit · resets 6pm",
            "(turn ended)",
        ]
    );
    let other = json!({"type": "rate_limit_event", "rate_limit_info": {
        "status": "allowed_warning", "rateLimitType": "seven_day"}});
    let alternating: Vec<Value> = (0..3)
        .flat_map(|_| [limit("rejected"), other.clone()])
        .chain([limit("allowed"), other.clone()])
        .collect();
    assert_eq!(shown(&alternating).len(), 2, "each limit is told once");
    let again = [limit("rejected"), limit("allowed"), limit("rejected")];
    assert_eq!(shown(&again).len(), 2, "a limit that was lifted is told again");
    let hostile = json!({"type": "rate_limit_event", "rate_limit_info": {"status": "rejected",
        "rateLimitType": "\u{1b}[31mx_y\n", "resetsAt": u64::MAX}});
    assert!(
        shown(&[hostile])[0]
            .starts_with(r#"notice Warning usage_limit "The agent's account has reached its x y limit.""#)
    );
}

#[test]
fn compaction_is_told_when_it_begins_and_when_it_ends() {
    let begins = system("status", json!({"status": "compacting"}));
    let ended = |result: &str| {
        system("status", json!({"status": null, "compact_result": result, "compact_error": "full\nof"}))
    };
    let boundary =
        system("compact_boundary", json!({"compact_metadata": {"trigger": "auto", "pre_tokens": 155_000}}));
    let (compacting, compacted) = (
        r#"notice Info compacting "The agent summarises the conversation so far, to have room.""#,
        r#"notice Info compacted "The conversation so far was summarised.""#,
    );
    assert_eq!(
        shown(&[begins.clone(), begins.clone(), ended("success"), boundary.clone()]),
        [compacting, compacted]
    );
    let detailed = format!("{compacted} {}", r#"{"tokens_before":155000,"trigger":"auto"}"#);
    assert_eq!(shown(&[begins.clone(), boundary.clone(), ended("success")]), [compacting, detailed.as_str()]);
    assert_eq!(shown(&[boundary]), [detailed]);
    assert_eq!(
        shown(&[begins, ended("failed")])[1],
        r#"notice Warning compaction_failed "The agent could not summarise the conversation: full of""#
    );
}

#[test]
fn output_of_a_command_is_told_once() {
    let output = "<local-command-stdout>\u{1b}[1mContext\u{1b}[0m\n37k/200k\u{0}</local-command-stdout>";
    let system = system("local_command", json!({"content": output}));
    let replay = json!({"type": "user", "message": {"role": "user", "content": output}, "isReplay": true});
    let notice = r#"notice Info command_output "Context\n37k/200k""#;
    for lines in [vec![system.clone()], vec![system.clone(), replay.clone()], vec![replay, system.clone()]] {
        assert_eq!(shown(&lines), [notice]);
    }
    assert_eq!(shown(&[system.clone(), system]), [notice, notice]);
    let empty = "<local-command-stdout></local-command-stdout>";
    assert_eq!(shown(&[json!({"type": "user", "message": {"content": empty}, "isReplay": true})]), [""; 0]);
}

#[test]
fn a_cleared_context_has_a_new_session() {
    let init = |session: &str| system("init", json!({"session_id": session}));
    let reset = json!({"type": "conversation_reset", "new_conversation_id": "c-2", "trigger": "clear", "session_id": "s-1"});
    assert_eq!(
        shown(&[init("s-1"), reset, init("s-2"), json!({"type": "result", "result": "", "num_turns": 0})]),
        [
            "session s-1",
            r#"notice Info context_cleared "The agent has forgotten the conversation so far, as it was told to.""#,
            "session s-2",
            "turn_ended Completed",
            "(turn ended)",
        ]
    );
}

#[test]
fn messages_and_failures_of_hooks_are_notices() {
    let text = "UserPromptSubmit says: a\nmessage\u{7}";
    assert_eq!(
        shown(&[
            system("informational", json!({"content": text, "level": "notice"})),
            system("hook_response", json!({"hook_name": "Stop", "exit_code": 0, "stdout": "x"})),
            system("hook_response", json!({"hook_name": "Stop", "exit_code": 1, "stderr": "no\n"})),
        ]),
        [
            r#"notice Info hook "UserPromptSubmit says: a message""#,
            r#"notice Warning hook "The agent's hook Stop failed: no""#,
        ]
    );
}

#[test]
fn what_the_agents_own_rules_denied_is_told_once() {
    let denied = |source: &str| {
        let mut line = tool_result("t1", json!("no"));
        line["message"]["content"][0]["is_error"] = true.into();
        line["tool_result_meta"] =
            json!([{"id": "t1", "permission_decision": {"decision": "reject", "source": source}}]);
        line
    };
    let mut end = result("done", json!({}));
    end["permission_denials"] =
        json!([{"tool_name": "Bash", "tool_use_id": "t1", "tool_input": {"command": "x"}}]);
    let start = tool_use("m", "t1", "Bash", &json!({}));
    let ask = json!({"type": "control_request", "request_id": "r-1", "request": {
        "subtype": "can_use_tool", "tool_name": "Bash", "input": {}, "tool_use_id": "t1"}});
    let notices = |lines: &[Value]| -> Vec<String> {
        shown(lines).into_iter().filter(|event| event.starts_with("notice")).collect()
    };
    let hook = r#"notice Info permission_denied "A hook of the agent denied a use of Bash." {"call_id":"t1","source":"hook","tool":"Bash"}"#;
    assert_eq!(notices(&[start.clone(), denied("hook"), end.clone()]), [hook]);
    let rules = r#"notice Info permission_denied "The agent's own rules denied a use of Bash." {"call_id":"t1","tool":"Bash"}"#;
    assert_eq!(notices(&[start.clone(), end.clone()]), [rules]);
    assert_eq!(notices(&[start.clone(), ask, denied("config"), end.clone()]), [""; 0]);
    end["terminal_reason"] = "aborted_tools".into();
    assert_eq!(notices(&[start, denied("user_reject"), end]), [""; 0]);
}

#[test]
fn an_agent_that_is_not_signed_in_says_where_to_sign_in() {
    for sentence in ["Login expired · Please run /login", "Not logged in"] {
        let told = shown(&[api_error(sentence)]);
        let where_to = "The agent is not signed in: run `claude` in a terminal on the gateway's machine and sign in there.";
        assert_eq!(
            told[..2],
            [
                format!("notice Error sign_in {where_to:?}"),
                format!("turn_ended Failed agent_api_error: {where_to}")
            ]
        );
    }
    assert_eq!(shown(&[result("Run /login.", json!({}))])[0], "message \"Run /login.\"");
    let page = "404: https://example.org/login was not found";
    assert_eq!(shown(&[api_error(page)])[0], format!("turn_ended Failed agent_api_error: {page}"));
}

#[test]
fn a_budget_that_is_used_up_ends_the_turn_and_is_told_once() {
    let mut talk = Talk::new();
    for (turn, named, spent) in [
        ("t-1", json!(["Reached maximum budget ($0.50)"]), ", $0.50"),
        ("t-2", json!(["Reached maximum budget ($0.50)"]), ", $0.50"),
        ("t-3", json!(["Stopped (too late)"]), ""),
        ("t-4", json!([]), ""),
    ] {
        let uuid = talk.prompt(turn);
        talk.says(system("init", json!({"user_message_uuids": [uuid]})));
        talk.says(
            json!({"type": "result", "subtype": "error_max_budget_usd", "is_error": true, "num_turns": 1,
            "terminal_reason": "budget_exhausted", "errors": named, "user_message_uuids": [uuid]}),
        );
        let ended = format!("turn_ended Failed agent_limit: The agent stopped at its limit of cost{spent}.");
        let notice = r#"notice Warning budget "The agent has used up its budget, $0.50. It answers no more until it is started again.""#;
        let notices: &[&str] = if turn == "t-1" { &[notice] } else { &[] };
        talk.gave(&[notices, &[&ended, "(turn ended)"]].concat());
    }
}
