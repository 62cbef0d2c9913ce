//! Cases of the codec that do not occur in the recordings.

use serde_json::{Value, json};

use super::{
    codec, decode,
    lines::{
        assistant, block_start, block_stop, check, input_delta, message_start, message_stop, shown, text,
        text_delta, tool_result, tool_use, with,
    },
};
use crate::dialect::{Codec as _, Decoded};

#[test]
fn abandoned_text_is_void() {
    let abandoned = json!({"abandoned_blocks": {"api_message_id": "m1", "from_block_index": 0}});
    check(
        &[
            message_start("m1"),
            block_start(0, text("")),
            text_delta(0, "half an ans"),
            block_stop(0),
            with(message_stop(), abandoned),
            assistant("m2", text("the answer")),
        ],
        &["text 1-2 \"half an ans\"", "text_end 1-2 VOID", "message \"the answer\""],
    );
}

#[test]
fn a_stream_that_begins_again_voids_what_came_before() {
    check(
        &[
            message_start("m1"),
            block_start(0, text("")),
            text_delta(0, "one"),
            message_start("m2"),
            block_start(0, text("")),
            text_delta(0, "two"),
        ],
        &["text 1-2 \"one\"", "text_end 1-2 VOID", "text 1-5 \"two\""],
    );
}

#[test]
fn a_block_without_deltas_ends_with_its_text() {
    check(
        &[
            message_start("m1"),
            block_start(0, text("")),
            assistant("m1", text("whole")),
            block_stop(0),
            message_stop(),
        ],
        &["text_end 1-2 \"whole\""],
    );
}

#[test]
fn text_in_the_blocks_start_counts() {
    check(&[message_start("m1"), block_start(0, text("first"))], &["text 1-2 \"first\""]);
}

#[test]
fn empty_deltas_make_no_event() {
    check(&[message_start("m1"), block_start(0, text("")), text_delta(0, ""), block_stop(0)], &[]);
}

#[test]
fn a_tools_input_may_come_in_pieces_only() {
    let result = tool_result("t1", json!([text("a"), {"type": "image"}]));
    check(
        &[
            message_start("m1"),
            block_start(0, tool_use("t1", "Bash", json!({}))),
            input_delta(0, r#"{"comm"#),
            input_delta(0, r#"and":"ls"}"#),
            block_stop(0),
            result.clone(),
            result,
        ],
        &[r#"tool t1 Bash {"command":"ls"} "ls""#, r#"tool_end t1 Bash Ok("a\n[image]")"#],
    );
}

#[test]
fn long_results_are_cut() {
    let lines =
        [assistant("m", tool_use("t1", "Bash", json!({}))), tool_result("t1", json!("é".repeat(40_000)))];
    let said = shown(&lines);
    assert!(said[1].ends_with(" TRUNCATED") && said[1].len() < 66_000);
}

fn edit(tool: &str, input: Value, report: Value) -> Vec<String> {
    let done = with(tool_result("t1", json!("ok")), json!({"tool_use_result": report}));
    shown(&[assistant("m", tool_use("t1", tool, input)), done]).split_off(2)
}

#[test]
fn file_edits() {
    let hunk =
        json!({"oldStart": 3, "oldLines": 2, "newStart": 3, "newLines": 2, "lines": [" x", "-y", "+z"]});
    let patch = json!({"filePath": "/workspace/a.rs", "structuredPatch": [hunk]});
    assert_eq!(
        edit("Edit", json!({"file_path": "/workspace/a.rs", "old_string": "y", "new_string": "z"}), patch),
        [r#"file_edit t1 Edit a.rs +1 -1 "--- a.rs\n+++ a.rs\n@@ -3,2 +3,2 @@\n x\n-y\n+z\n""#]
    );
    assert_eq!(
        edit(
            "Write",
            json!({"file_path": "/etc/motd", "content": "a\nb\n"}),
            json!({"type": "create", "structuredPatch": []})
        ),
        [r#"file_edit t1 Write motd +2 -0 "--- motd\n+++ motd\n@@ -0,0 +1,2 @@\n+a\n+b\n""#]
    );
    assert_eq!(
        edit(
            "MultiEdit",
            json!({"file_path": "src/b", "edits": [{"old_string": "1", "new_string": "2"},
                {"old_string": "3\n4", "new_string": ""}]}),
            Value::Null
        ),
        [
            r#"file_edit t1 MultiEdit src/b +1 -3 "--- src/b\n+++ src/b\n@@ -1 +1 @@\n-1\n+2\n@@ -1,2 +0,0 @@\n-3\n-4\n""#
        ]
    );
    assert_eq!(
        edit(
            "NotebookEdit",
            json!({"notebook_path": "/workspace/n.ipynb", "new_source": "print(1)"}),
            json!(3)
        )
        .len(),
        1
    );
}

#[test]
fn a_failed_edit_changed_nothing() {
    let write = tool_use("t1", "Write", json!({"file_path": "a", "content": "b"}));
    let mut result = tool_result("t1", json!("denied at /workspace/a"));
    result["message"]["content"][0]["is_error"] = true.into();
    let said = shown(&[assistant("m", write), result]);
    assert_eq!(said[1..], [r#"tool_end t1 Write Err("denied at /workspace/a")"#]);
}

#[test]
fn results_are_judged_by_error_and_reason() {
    for (result, expected) in [
        (
            r#"{"type":"result","is_error":false,"terminal_reason":"completed"}"#,
            "turn_ended Failed no_answer: The agent ended its turn without an answer.",
        ),
        (
            r#"{"type":"result","is_error":false,"stop_reason":"refusal"}"#,
            "turn_ended Failed no_answer: The model declined to answer.",
        ),
        (
            r#"{"type":"result","is_error":true,"terminal_reason":"prompt_too_long","result":"Prompt is too long"}"#,
            "turn_ended Failed agent_limit: The conversation no longer fits the model's context: shorten it with \
             /compact, or begin a new chat.",
        ),
        (
            r#"{"type":"result","subtype":"error_during_execution","is_error":true,"errors":["[some_diagnostic] x"]}"#,
            "turn_ended Failed agent_error: The agent reported an error.",
        ),
        (r#"{"is_error":true,"terminal_reason":"aborted_tools","type":"result"}"#, "turn_ended Cancelled"),
        (
            r#"{"type":"result","subtype":"success","is_error":true,"terminal_reason":"api_error","result":"API Error: 500"}"#,
            "turn_ended Failed agent_api_error: API Error: 500",
        ),
        (
            r#"{"type":"result","subtype":"error_max_turns","is_error":true}"#,
            "turn_ended Failed agent_limit: The agent stopped at its limit of steps.",
        ),
        (
            r#"{"type":"result","subtype":"error_max_turns","is_error":false,"num_turns":25,"errors":[]}"#,
            "turn_ended Failed agent_limit: The agent stopped at its limit of steps, after 25.",
        ),
        (
            r#"{"type":"result","subtype":"error_max_structured_output_retries"}"#,
            "turn_ended Failed agent_limit: The agent stopped at its limit of structured output retries.",
        ),
        (
            r#"{"type":"result","subtype":"error_during_execution","is_error":true,"errors":["at /usr/lib/x.js"]}"#,
            "turn_ended Failed agent_error: at x.js",
        ),
        (
            r#"{"type":"result","subtype":"error_new"}"#,
            "turn_ended Failed agent_error: The agent reported an error.",
        ),
        (
            r#"{"type":"result","is_error":"odd","usage":7,"total_cost_usd":"x"}"#,
            "turn_ended Failed no_answer: The agent ended its turn without an answer.",
        ),
    ] {
        assert_eq!(shown(&[result]), [expected, "(turn ended)"], "{result}");
    }
}

#[test]
fn an_answer_that_was_not_streamed_is_given_once() {
    let result = r#"{"type":"result","is_error":false,"result":"all of it"}"#;
    assert_eq!(shown(&[result])[0], "message \"all of it\"");
    let whole = assistant("m1", text("all of it")).to_string();
    let said = shown(&[&whole, result]);
    assert_eq!(said, ["message \"all of it\"", "turn_ended Completed", "(turn ended)"]);
}

#[test]
fn cost_is_what_the_session_grew_by() {
    let result =
        |usd: &str| format!(r#"{{"type":"result","is_error":false,"result":"x","total_cost_usd":{usd}}}"#);
    let said = shown(&[&result("0.5"), &result("0.75"), &result("0.7")]);
    let costs: Vec<&String> = said.iter().filter(|line| line.starts_with("turn_ended")).collect();
    assert_eq!(
        costs,
        ["turn_ended Completed $0.50000", "turn_ended Completed $0.25000", "turn_ended Completed"]
    );
}

#[test]
fn model_and_session_are_told_when_they_change() {
    let init = |session: &str, model: &str| {
        format!(r#"{{"type":"system","subtype":"init","session_id":"{session}","model":"{model}"}}"#)
    };
    let said = shown(&[&init("s", "m"), &init("s", "m"), &init("t", "m"), &init("t", "n")]);
    assert_eq!(said, ["session s", "model m", "session t", "model n"]);
}

#[test]
fn what_is_not_understood_is_refused_and_never_granted() {
    for request in [
        r#"{"subtype":"hook_callback","callback_id":"x"}"#,
        r#"{"subtype":"can_use_everything","tool_name":"Bash","input":{}}"#,
        r#"{"subtype":"can_use_tool"}"#,
        r#"{"subtype":"can_use_tool","tool_name":"Bash"}"#,
        r#"{"subtype":"can_use_tool","tool_name":"Bash","input":null}"#,
        r#"{"subtype":"can_use_tool","tool_name":"Bash","input":{},"input":{"command":"x"}}"#,
        r#"{"subtype":"can_use_tool","tool_name":"Read","tool_name":"Bash","input":{}}"#,
        r#"{"subtype":"can_use_tool","tool_name":"Bash","input":{}},"request":{"subtype":"interrupt"}"#,
        r#"{"subtype":"can_use_tool","tool_name":"AskUserQuestion","input":{"questions":[
            {"question":"Go on?","header":"Keep all"},{"question":"Go on?","header":"Delete all"}]}}"#,
        r#"7"#,
    ] {
        let said = shown(&[&format!(r#"{{"type":"control_request","request_id":"r","request":{request}}}"#)]);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].starts_with("notice Warning request_refused"), "{said:?}");
        assert!(said[1].starts_with("reply ") && said[1].contains(r#""subtype":"error""#), "{said:?}");
    }
}

#[test]
fn a_request_beyond_the_most_that_are_open_is_refused() {
    let ask = |n: usize| {
        format!(
            r#"{{"type":"control_request","request_id":"r-{n}","request":{{"subtype":"can_use_tool","tool_name":"Bash","input":{{}}}}}}"#
        )
    };
    let asks: Vec<String> = (0..257).map(ask).collect();
    let said = decode(&mut codec(), &asks);
    let last: Vec<&str> = said.lines().filter(|line| line.starts_with("257 ")).collect();
    assert_eq!(said.matches(" permission ").count(), 256);
    assert!(last.len() == 2 && last[0].contains("notice Warning request_refused"), "{last:?}");
    assert!(last[1].contains("reply ") && last[1].contains(r#""request_id":"r-256""#), "{last:?}");
}

#[test]
fn garbage_is_tolerated() {
    assert!(
        shown(&["", "   ", "npm warn deprecated", "{\"type\":\"res", "\u{feff}{}", "[1,2]", "null", "\"x\""])
            .is_empty()
    );
    let mut out = Decoded::default();
    codec().decode(1, b"{\"type\":\"assistant\xff\"}", &mut out);
    codec().decode(1, &[0, 159, 146, 150], &mut out);
    for odd in [
        r#"{"type":"brand_new","x":1}"#,
        r#"{"type":"stream_event"}"#,
        r#"{"type":"stream_event","event":{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"no message"}}}"#,
        r#"{"type":"stream_event","event":{"type":"citations"}}"#,
        r#"{"type":"assistant","message":{"content":[7,{"type":"new_block"},{"type":5}]}}"#,
        r#"{"type":"user","message":"text"}"#,
        r#"{"type":"control_cancel_request","request_id":"unknown"}"#,
    ] {
        assert!(shown(&[odd]).is_empty(), "{odd}");
    }
}

#[test]
fn other_text_on_a_line_costs_no_event() {
    let result = r#"{"type":"result","is_error":false,"result":"x","terminal_reason":"completed"}"#;
    let ended = ["message \"x\"", "turn_ended Completed", "(turn ended)"];
    for (before, after) in [
        ("npm notice ", ""),
        ("[1]", ""),
        ("\u{1b}[0m", " "),
        (r#"{"level":"info"}"#, ""),
        ("", "npm notice"),
    ] {
        assert_eq!(shown(&[&format!("{before}{result}{after}")]), ended, "{before} {after}");
    }
    // An incomplete object gives no event, and neither do objects inside of it.
    for cut in
        [format!(r#"{{"type":"assistant","input":{result}"#), format!(r#"x {{"type":"user","a":{result}"#)]
    {
        assert_eq!(shown(&[&cut]), [""; 0], "{cut}");
    }
}
