//! Whose turn a record belongs to, and which turns a result ends.

use serde_json::{Value, json};
use switchboard_core::ids::RequestId;

use super::{lines, talk::Talk};
use crate::dialect::{Codec as _, Delivered, claude::ClaudeCodec};

const INIT: &str = r#"{"type":"system","subtype":"init"}"#;
const NOTIFICATION: &str =
    r#"{"type":"system","subtype":"task_notification","task_id":"b1","status":"completed"}"#;

fn begins(uuid: &str) -> String {
    json!({"type": "system", "subtype": "init", "user_message_uuids": [uuid]}).to_string()
}

fn lifecycle(uuid: &str, state: &str) -> String {
    json!({"type": "command_lifecycle", "command_uuid": uuid, "state": state}).to_string()
}

fn text(text: &str) -> String {
    lines::assistant("m", lines::text(text)).to_string()
}

fn tool(id: &str) -> String {
    lines::assistant("m", lines::tool_use(id, "Bash", json!({}))).to_string()
}

fn result(text: &str, more: Value) -> String {
    lines::result(text, more).to_string()
}

fn own_result(text: &str) -> String {
    result(text, json!({"origin": {"kind": "task-notification"}}))
}

fn answer_to(uuid: &str, text: &str) -> String {
    result(text, json!({"user_message_uuids": [uuid]}))
}

fn old_result(text: &str) -> String {
    result(text, json!({}))
}

const ENDED: [&str; 2] = ["turn_ended Completed", "(turn ended)"];

/// Case `notif-first`: the result of a turn of the agent's own comes before the prompt's.
#[test]
fn a_result_with_an_origin_does_not_end_a_prompt() {
    let mut talk = Talk::new();
    talk.prompt("t-1");
    talk.says(INIT);
    talk.says(
        json!({"type": "user", "origin": {"kind": "task-notification"},
        "message": {"content": "<task-notification></task-notification>"}})
        .to_string(),
    );
    talk.says(own_result(""));
    talk.gave(&[]);
    talk.says(INIT);
    talk.says(text("The real answer."));
    talk.says(old_result("The real answer."));
    talk.gave(&[r#"message "The real answer.""#, ENDED[0], ENDED[1]]);
}

/// Case `late-second-result`: a second result comes when the next prompt has been written, and not begun.
#[test]
fn a_late_result_does_not_end_the_next_prompt() {
    let said = "First answer.";
    let more = [r#"notice Info last_words "More.""#];
    for (late, expected) in [
        (own_result("More."), &more[..]),
        (old_result("More."), &more),
        (answer_to("another", "More."), &more),
        // This text was sent.
        (own_result(said), &[]),
        (old_result(said), &[]),
        (answer_to("another", said), &[]),
    ] {
        let mut talk = Talk::new();
        talk.prompt("t-1");
        talk.says(INIT);
        talk.says(text("First answer."));
        talk.says(old_result("First answer."));
        talk.gave(&[r#"message "First answer.""#, ENDED[0], ENDED[1]]);
        talk.prompt("t-2");
        talk.says(&late);
        talk.gave(expected);
        talk.says(INIT);
        talk.says(text("Second answer."));
        talk.says(old_result("Second answer."));
        talk.gave(&[r#"message "Second answer.""#, ENDED[0], ENDED[1]]);
    }
}

/// Cases `autonomous` and `autonomous-stream`.
#[test]
fn the_agent_begins_a_turn_by_itself() {
    let mut talk = Talk::new();
    talk.prompt("t-1");
    talk.says(INIT);
    talk.says(text("Started."));
    talk.says(old_result("Started."));
    talk.gave(&[r#"message "Started.""#, ENDED[0], ENDED[1]]);
    talk.says(NOTIFICATION);
    talk.gave(&[]);
    talk.says(INIT);
    talk.gave(&["agent_turn Background"]);
    talk.says(lines::message_start("m").to_string());
    talk.says(lines::block_start(0, lines::text("")).to_string());
    for piece in ["The build", " passed."] {
        talk.says(lines::text_delta(0, piece).to_string());
    }
    talk.says(text("The build passed."));
    talk.says(lines::block_stop(0).to_string());
    talk.says(lines::message_stop().to_string());
    talk.says(tool("u1"));
    talk.says(lines::tool_result("u1", json!("a.txt")).to_string());
    talk.says(own_result("x"));
    talk.gave(&[
        r#"text 1-7 "The build""#,
        r#"text 1-7 " passed.""#,
        "text_end 1-7",
        "tool u1 Bash {}",
        r#"tool_end u1 Bash Ok("a.txt")"#,
        "agent_turn_ended Completed",
    ]);
}

/// Case `autonomous-perm`.
#[test]
fn a_request_may_begin_a_turn_of_the_agents() {
    let ask = r#"{"type":"control_request","request_id":"r1","request":{"subtype":"can_use_tool","tool_name":"Bash","input":{},"tool_use_id":"u9"}}"#;
    for first in [INIT, ask] {
        let mut talk = Talk::new();
        talk.prompt("t-1");
        talk.says(INIT);
        talk.says(old_result("Started."));
        talk.gave(&[r#"message "Started.""#, ENDED[0], ENDED[1]]);
        talk.says(first);
        if first == INIT {
            talk.says(ask);
        }
        let request = format!(r#"permission 1-{} Bash {{}} "u9""#, talk.position);
        talk.gave(&["agent_turn Other", "tool u9 Bash {}", &request]);
        let answered = RequestId::parse(&format!("1-{}", talk.position)).unwrap();
        talk.codec.delivered(Delivered::Answer(&answered));
        talk.says(own_result("Removed it."));
        talk.gave(&[r#"message "Removed it.""#, "agent_turn_ended Completed"]);
    }
}

#[test]
fn a_prompt_that_waits_is_answered_after_the_agents_turn() {
    let mut talk = Talk::new();
    talk.says(INIT);
    let uuid = talk.prompt("t-1");
    talk.says(lifecycle(&uuid, "queued"));
    talk.says(text("by itself"));
    talk.says(own_result("by itself"));
    talk.gave(&["agent_turn Other", r#"message "by itself""#, "agent_turn_ended Completed"]);
    talk.says(lifecycle(&uuid, "started"));
    talk.says(begins(&uuid));
    talk.says(text("the answer"));
    talk.says(answer_to(&uuid, "the answer"));
    talk.gave(&[r#"message "the answer""#, ENDED[0], ENDED[1]]);
    talk.says(lifecycle(&uuid, "completed"));
    talk.gave(&[]);
}

#[test]
fn a_prompt_that_begins_ends_the_agents_turn_first() {
    for started in [true, false] {
        let mut talk = Talk::new();
        talk.says(INIT);
        let uuid = talk.prompt("t-1");
        if started {
            talk.says(lifecycle(&uuid, "started"));
        }
        talk.gave(&["agent_turn Other"]);
        talk.says(begins(&uuid));
        talk.gave(&["agent_turn_ended Completed"]);
        talk.says(text("the answer"));
        talk.says(answer_to(&uuid, "the answer"));
        talk.gave(&[r#"message "the answer""#, ENDED[0], ENDED[1]]);
    }
}

#[test]
fn a_folded_prompt_ends_with_the_agents_turn() {
    let folded = |result: fn(&str) -> String| {
        let mut talk = Talk::new();
        talk.says(INIT);
        talk.gave(&["agent_turn Other"]);
        let uuid = talk.prompt("t-1");
        talk.says(lifecycle(&uuid, "started"));
        talk.says(text("both"));
        talk.says(lifecycle(&uuid, "completed"));
        talk.gave(&[r#"message "both""#]);
        talk.says(result(&uuid));
        talk.shown
    };
    let both = |uuid: &str| {
        let more = json!({"origin": {"kind": "task-notification"}, "user_message_uuids": [uuid],
            "total_cost_usd": 0.5, "usage": {"input_tokens": 1, "output_tokens": 2}});
        result("both", more)
    };
    assert_eq!(
        folded(both),
        ["agent_turn_ended Completed in 1 out 2 cached 0+0 $0.50000", ENDED[0], ENDED[1]],
        "tokens and cost count once"
    );
    let one = ["agent_turn_ended Completed", ENDED[0], ENDED[1]];
    assert_eq!(folded(|_| own_result("both")), one, "the agent is done with the prompt");
    assert_eq!(folded(|_| old_result("both")), one);
}

#[test]
fn a_prompt_that_starts_as_the_agents_turn_ends_goes_on() {
    let mut talk = Talk::new();
    talk.says(INIT);
    let uuid = talk.prompt("t-1");
    talk.says(lifecycle(&uuid, "started"));
    talk.says(own_result("by itself"));
    talk.gave(&["agent_turn Other", r#"message "by itself""#, "agent_turn_ended Completed"]);
    talk.says(text("the answer"));
    talk.says(answer_to(&uuid, "the answer"));
    talk.gave(&[r#"message "the answer""#, ENDED[0], ENDED[1]]);
}

#[test]
fn a_prompt_that_is_done_waits_for_the_next_result() {
    let mut talk = Talk::new();
    let uuid = talk.prompt("t-1");
    talk.says(lifecycle(&uuid, "started"));
    talk.says(lifecycle(&uuid, "completed"));
    talk.gave(&[]);
    let mut answered =
        Talk { codec: ClaudeCodec::restore("/".as_ref(), &talk.codec.checkpoint()).unwrap(), ..Talk::new() };
    answered.says(answer_to(&uuid, "the answer"));
    answered.gave(&[r#"message "the answer""#, ENDED[0], ENDED[1]]);
    for next in [own_result("another"), INIT.into()] {
        let codec = ClaudeCodec::restore("/".as_ref(), &talk.codec.checkpoint()).unwrap();
        let mut unanswered = Talk { codec, ..Talk::new() };
        unanswered.says(next);
        let ended = "turn_ended Failed agent_error: The agent finished with this message and gave no answer.";
        assert!(unanswered.shown.iter().any(|line| line == ended), "{:?}", unanswered.shown);
    }
}

/// Case `stop-old`.
#[test]
fn a_stop_that_worked_is_a_cancellation() {
    let stopped = r#"{"type":"result","subtype":"error_during_execution","is_error":false,"num_turns":1}"#;
    let aborted = r#"{"type":"result","subtype":"error_during_execution","is_error":true,"terminal_reason":"aborted_streaming"}"#;
    for result in [stopped, aborted] {
        let mut talk = Talk::new();
        talk.prompt("t-1");
        talk.says(INIT);
        talk.codec.delivered(Delivered::Cancel);
        talk.says(result);
        talk.gave(&["turn_ended Cancelled", "(turn ended)"]);
        talk.says(INIT);
        talk.codec.delivered(Delivered::CancelAgentTurn);
        let uuid = talk.prompt("t-2");
        talk.says(lifecycle(&uuid, "queued"));
        talk.says(result);
        talk.gave(&["agent_turn Other", "agent_turn_ended Cancelled"]);
        talk.says(lifecycle(&uuid, "started"));
        talk.says(answer_to(&uuid, "goes on"));
        talk.gave(&[r#"message "goes on""#, ENDED[0], ENDED[1]]);
    }
}

#[test]
fn a_stop_that_came_too_late_changes_nothing() {
    for (result, ended) in [
        (old_result("done"), "turn_ended Completed"),
        (
            r#"{"type":"result","subtype":"success","is_error":true,"terminal_reason":"api_error","result":"down"}"#
                .into(),
            "turn_ended Failed agent_api_error: down",
        ),
        (
            r#"{"type":"result","subtype":"error_max_turns","is_error":false}"#.into(),
            "turn_ended Failed agent_limit: The agent stopped at its limit of steps.",
        ),
    ] {
        let mut talk = Talk::new();
        talk.prompt("t-1");
        talk.says(INIT);
        talk.codec.delivered(Delivered::Cancel);
        talk.says(result);
        assert!(talk.shown.iter().any(|line| line == ended), "{:?}", talk.shown);
    }
}

/// Cases `max-turns` and `max-turns-error`.
#[test]
fn a_limit_of_steps_is_named() {
    for more in [r#""is_error":false"#, r#""is_error":true,"terminal_reason":"max_turns""#] {
        let mut talk = Talk::new();
        talk.prompt("t-1");
        talk.says(INIT);
        talk.says(text("Working on it."));
        talk.says(format!(
            r#"{{"type":"result","subtype":"error_max_turns","num_turns":25,"errors":[],{more}}}"#
        ));
        talk.gave(&[
            r#"message "Working on it.""#,
            "turn_ended Failed agent_limit: The agent stopped at its limit of steps, after 25.",
            "(turn ended)",
        ]);
    }
}

#[test]
fn a_turn_without_a_word_says_so() {
    let mut talk = Talk::new();
    talk.prompt("t-1");
    talk.says(INIT);
    talk.says(old_result(""));
    talk.gave(&["turn_ended Failed no_answer: The agent ended its turn without an answer.", "(turn ended)"]);
    let silent = r#"notice Info other "The agent ended its turn without a word.""#;
    talk.prompt("t-2");
    talk.says(INIT);
    talk.says(tool("u1"));
    talk.says(old_result(""));
    talk.gave(&["tool u1 Bash {}", silent, ENDED[0], ENDED[1]]);
    talk.prompt("t-3");
    talk.says(INIT);
    talk.says(result("", json!({"num_turns": 0})));
    talk.gave(&[silent, ENDED[0], ENDED[1]]);
}

#[test]
fn the_first_records_of_an_agent_that_reports_no_beginnings_are_the_prompts() {
    let mut talk = Talk::new();
    talk.prompt("t-1");
    talk.says(text("the answer"));
    talk.says(old_result("the answer"));
    talk.gave(&[r#"message "the answer""#, ENDED[0], ENDED[1]]);
}

#[test]
fn what_came_after_a_turn_is_no_answer_to_the_next_prompt() {
    let mut talk = Talk::new();
    let output = "<local-command-stdout>done</local-command-stdout>";
    talk.says(json!({"type": "system", "subtype": "local_command", "content": output}).to_string());
    talk.gave(&[r#"notice Info command_output "done""#]);
    let uuid = talk.prompt("t1");
    talk.says(begins(&uuid));
    talk.says(result("The answer.", json!({"user_message_uuids": [uuid]})));
    talk.gave(&[r#"message "The answer.""#, "turn_ended Completed", "(turn ended)"]);
}

#[test]
fn the_text_of_a_late_result_is_cleaned_and_bounded() {
    let mut talk = Talk::new();
    let long = format!("\u{1b}[31mLate\u{1b}[0m {}", "x".repeat(100_000));
    talk.says(own_result(&long));
    let notice = talk.shown.pop().unwrap();
    assert!(notice.starts_with(r#"notice Info last_words "Late xxx"#), "{}", &notice[..80]);
    assert!(notice.len() < 20_000, "{} bytes", notice.len());
}
