//! Lines that were too long to be kept.

use serde_json::{Value, json};

use super::{codec, render::render};
use crate::dialect::{Codec as _, Decoded, Delivered, claude::ClaudeCodec};

const BYTES: u64 = 24 * 1024 * 1024;

/// A codec with a prompt that has begun, and a use of a tool that a subagent makes and one that the agent makes.
fn at_work() -> ClaudeCodec {
    let mut codec = codec();
    codec.delivered(Delivered::Prompt(&switchboard_core::ids::TurnId::parse("t-1").unwrap()));
    let uses = |id: &str, parent: Option<&str>| {
        let block = json!({"type": "tool_use", "id": id, "name": "Read", "input": {}});
        json!({"type": "assistant", "message": {"id": "m", "content": [block]}, "parent_tool_use_id": parent})
    };
    for line in [uses("t1", None), uses("t2", Some("t1"))] {
        codec.decode(1, line.to_string().as_bytes(), &mut Decoded::default());
    }
    codec
}

/// What a skipped line with this beginning gives.
fn skip(codec: &mut ClaudeCodec, prefix: &str) -> Vec<String> {
    let mut out = Decoded::default();
    codec.skipped(2, prefix.as_bytes(), BYTES, &mut out);
    render(0, &out).lines().map(|line| line[4..].to_owned()).collect()
}

fn user(block: &str) -> String {
    format!(r#"{{"type":"user","message":{{"role":"user","content":[{block}"#)
}

const LEFT_OUT: &str =
    r#"notice Warning other "The agent wrote a line of 24 MiB, which is too long and was left out.""#;

#[test]
fn a_result_of_a_tool_that_is_too_long_ends_the_tool_use() {
    let image = r#"{"tool_use_id":"t1","type":"tool_result","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBO"#;
    let unnamed = r#"{"tool_use_id":"t1","type":"tool_result","content":[{"type":"image","source":{"type":"base64","data":"iVBO"#;
    let text = r#"{"tool_use_id":"t2","type":"tool_result","content":"{\"tool_use_id\":\"t1\",\ud83d"#;
    let failed = r#"{"type":"tool_result","is_error":true,"tool_use_id":"t1","content":"much"#;
    let said = r#""The output of 24 MiB was too long to be kept.""#;
    for (block, expected) in [
        (image, format!("tool_end t1 Read Ok({said}) TRUNCATED [image/png 9437184]")),
        (unnamed, format!("tool_end t1 Read Ok({said}) TRUNCATED [image/* 9437184]")),
        (text, format!("under t1: tool_end t2 Read Ok({said}) TRUNCATED")),
        (failed, format!("tool_end t1 Read Err({said}) TRUNCATED")),
    ] {
        let mut codec = at_work();
        assert_eq!(skip(&mut codec, &user(block)), [expected]);
        let open = if block == text { ["t1"] } else { ["t1\nt2"] };
        assert!(open.iter().all(|key| codec.state.tools.contains_key(*key)), "{block}");
        assert_eq!(skip(&mut codec, &user(block)), [LEFT_OUT], "there is no such use any more");
    }
}

#[test]
fn a_result_of_a_tool_that_is_whole_is_shown_though_its_line_is_not() {
    let block = r#"{"tool_use_id":"t2","type":"tool_result","content":"updated"}]},"parent_tool_use_id":"t1","tool_use_result":{"originalFile":"much"#;
    assert_eq!(skip(&mut at_work(), &user(block)), [r#"under t1: tool_end t2 Read Ok("updated")"#]);
}

#[test]
fn what_says_nothing_of_a_tool_or_a_turn_is_left_out() {
    for prefix in
        ["", "much", "{", r#"{"type":"assistant","message":{"content":[{"type":"text","text":"much"#]
    {
        assert_eq!(skip(&mut at_work(), prefix), [LEFT_OUT], "{prefix}");
    }
    let text = r#"{"type":"text","text":"\"tool_use_id\":\"t1\""#;
    assert_eq!(skip(&mut at_work(), &user(text)), [LEFT_OUT]);
    let inside = r#"{"type":"user","message":{"content":[{"type":"text","text":"{\"type\":\"result\",\"#;
    assert_eq!(skip(&mut at_work(), inside), [LEFT_OUT]);
}

#[test]
fn a_result_that_is_too_long_ends_its_turn() {
    let missing = "turn_ended Failed no_answer: The agent's answer of 24 MiB was too long to be kept.";
    let limit = "turn_ended Failed agent_limit: The agent stopped at its limit of steps, after 3.";
    for (prefix, expected) in [
        (r#"{"type":"result","subtype":"success","is_error":false,"num_turns":1,"result":"much"#, missing),
        (r#"{"is_error":false,"type":"result","result":"much"#, missing),
        (
            r#"{"total_cost_usd":0.5,"usage":{"input_tokens":7},"num_turns":1,"result":"much"#,
            "turn_ended Failed no_answer: The agent's answer of 24 MiB was too long to be kept. in 7 out 0 cached 0+0 $0.50000",
        ),
        (r#"{"type":"result","subtype":"error_max_turns","num_turns":3,"usage":{"input_tokens":7"#, limit),
        (r#"{"type":"result","terminal_reason":"aborted_streaming","errors":["much"#, "turn_ended Cancelled"),
    ] {
        assert_eq!(skip(&mut at_work(), prefix), [expected, "(turn ended)"], "{prefix}");
    }
}

#[test]
fn a_turn_with_its_answer_is_complete_though_its_result_is_too_long() {
    let prefix = r#"{"type":"result","is_error":false,"num_turns":1,"result":"much"#;
    let mut codec = at_work();
    let block = json!({"type": "text", "text": "The answer."});
    let answer = json!({"type": "assistant", "message": {"id": "m2", "content": [block]}});
    codec.decode(2, answer.to_string().as_bytes(), &mut Decoded::default());
    assert_eq!(skip(&mut codec, prefix), ["turn_ended Completed", "(turn ended)"]);
    let denials =
        r#"{"type":"result","result":"The answer.","num_turns":1,"permission_denials":[{"tool_input":"much"#;
    assert_eq!(
        skip(&mut at_work(), denials),
        [r#"message "The answer.""#, "turn_ended Completed", "(turn ended)"]
    );
}

#[test]
fn a_result_that_is_too_long_ends_no_turn_of_another_prompt() {
    let prefix = r#"{"type":"result","user_message_uuids":["another"],"result":"much"#;
    let shown = skip(&mut at_work(), prefix);
    assert_eq!(shown, [LEFT_OUT]);
    let value: Value = serde_json::from_str(&at_work().checkpoint()).unwrap();
    assert!(value["turn"].is_object());
}
