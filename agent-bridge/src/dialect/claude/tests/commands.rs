//! Encodes commands to lines, and answers to requests.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use switchboard_core::{
    agent::{AgentCommand, CommandId},
    ids::{RequestId, TurnId},
    wire::Answer,
};

use super::{codec, decode, sent};
use crate::dialect::{Codec as _, Decoded, claude::ClaudeCodec};

const BASH: &str = r#"{"type":"control_request","request_id":"r-1","request":{"subtype":"can_use_tool","tool_name":"Bash","input":{"z":1,"command":"ls  ","n":1.50},"tool_use_id":"t1"}}"#;
const ASK: &str = r#"{"type":"control_request","request_id":"r-2","request":{"subtype":"can_use_tool","tool_name":"AskUserQuestion","input":{"questions":[{"question":"Which?","header":"Pick","multiSelect":true,"options":[{"label":"A","description":"first"},{"label":"B"}]}]},"tool_use_id":"t2"}}"#;

fn answer(id: &str, answer: Answer) -> AgentCommand {
    AgentCommand::Answer { id: CommandId(3), request_id: RequestId::parse(id).unwrap(), answer }
}

fn prompt(turn: &str, text: &str) -> AgentCommand {
    AgentCommand::Prompt { id: CommandId(1), turn_id: TurnId::parse(turn).unwrap(), text: text.into() }
}

fn cancel() -> AgentCommand {
    AgentCommand::Cancel { id: CommandId(2), turn_id: TurnId::parse("t").unwrap() }
}

fn line(codec: &mut ClaudeCodec, command: &AgentCommand) -> String {
    String::from_utf8(sent(codec, command).unwrap()).unwrap()
}

#[test]
fn prompts_keep_their_text_and_one_line() {
    for text in ["-p --dangerously", "/clear", "two\nlines\u{2028}\u{1b}[0m", "{\"type\":\"user\"}"] {
        let line = line(&mut codec(), &prompt("turn-1", text));
        assert!(!line.contains('\n'));
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["message"]["content"], json!([{"type": "text", "text": text}]));
        assert_eq!(value["uuid"], "6617dec8-2c3c-84bf-af3c-a216b949e654");
    }
}

#[test]
fn leave_is_given_for_exactly_what_was_asked() {
    let mut codec = codec();
    let shown = decode(&mut codec, &[BASH.into()]);
    assert!(shown.contains("tool t1 Bash") && shown.contains("permission "), "{shown}");
    assert_eq!(
        line(&mut codec, &answer("1-1", Answer::Allow { input_sha256: None })),
        r#"{"type":"control_response","response":{"subtype":"success","request_id":"r-1","response":{"behavior":"allow","updatedInput":{"z":1,"command":"ls  ","n":1.50}}}}"#
    );
    assert_eq!(
        sent(&mut codec, &answer("1-1", Answer::Allow { input_sha256: None })),
        None,
        "it no longer stands"
    );
}

#[test]
fn denials_carry_their_message() {
    for (message, said) in [(Some("not now".to_owned()), "not now"), (None, "The person denied this.")] {
        let mut codec = codec();
        decode(&mut codec, &[BASH.into()]);
        let line = line(&mut codec, &answer("1-1", Answer::Deny { message }));
        assert!(line.contains(&format!(r#""response":{{"behavior":"deny","message":"{said}"}}"#)), "{line}");
    }
}

#[test]
fn questions_are_answered_in_their_input() {
    let mut codec = codec();
    let shown = decode(&mut codec, &[ASK.into()]);
    assert!(shown.contains(r#""question":"Which?","header":"Pick","multi_select":true"#), "{shown}");
    let answers = BTreeMap::from([("Which?".to_owned(), vec!["A".to_owned(), "B".to_owned()])]);
    let line: Value =
        serde_json::from_str(&line(&mut codec, &answer("1-1", Answer::Answer { answers }))).unwrap();
    let decision = &line["response"]["response"];
    assert_eq!(decision["behavior"], "allow");
    assert_eq!(decision["updatedInput"]["answers"], json!({"Which?": "A, B"}));
    assert_eq!(decision["updatedInput"]["questions"][0]["options"][1]["label"], "B");
}

#[test]
fn an_answer_of_the_wrong_kind_is_no_consent() {
    let answers = Answer::Answer { answers: BTreeMap::new() };
    let none_of_these = Answer::Answer { answers: [("Who?".to_owned(), vec!["A".to_owned()])].into() };
    for (request, answer_given) in [
        (BASH, answers.clone()),
        (ASK, Answer::Allow { input_sha256: None }),
        (ASK, answers),
        (ASK, none_of_these),
    ] {
        let mut codec = codec();
        decode(&mut codec, &[request.into()]);
        assert!(line(&mut codec, &answer("1-1", answer_given)).contains(r#""behavior":"deny""#));
    }
}

#[test]
fn a_withdrawn_request_takes_no_answer() {
    let mut codec = codec();
    let shown =
        decode(&mut codec, &[BASH.into(), r#"{"type":"control_cancel_request","request_id":"r-1"}"#.into()]);
    assert!(shown.ends_with("  2 withdrawn 1-1\n  2 withdrawn r-1\n"), "{shown}");
    assert_eq!(sent(&mut codec, &answer("1-1", Answer::Allow { input_sha256: None })), None);
}

#[test]
fn what_open_questions_keep_is_bounded() {
    let ask = |id: usize, bytes: usize| {
        let rest = "x".repeat(bytes);
        ASK.replace("r-2", &format!("q-{id}")).replacen(
            "{\"questions\"",
            &format!("{{\"rest\":\"{rest}\",\"questions\""),
            1,
        )
    };
    let mut codec = codec();
    let shown = decode(&mut codec, &[ask(1, 600 * 1024), ask(2, 600 * 1024)]);
    let asked = |position: usize| format!(r#"question {{"request_id":"1-{position}""#);
    assert!(shown.contains(&asked(1)) && shown.contains("notice Warning request_refused"));
    assert!(!shown.contains(&asked(2)));
    // An answered request makes room for another one.
    line(&mut codec, &answer("1-1", Answer::Deny { message: None }));
    assert!(decode(&mut codec, &["{}".into(), "{}".into(), ask(3, 600 * 1024)]).contains(&asked(3)));
}

#[test]
fn an_answer_names_the_request_as_the_agent_does() {
    let mut codec = codec();
    let shown = decode(&mut codec, &[BASH.replace("r-1", "spaces and more")]);
    assert!(shown.contains("permission 1-1 Bash"), "{shown}");
    assert!(
        line(&mut codec, &answer("1-1", Answer::Allow { input_sha256: None }))
            .contains(r#""request_id":"spaces and more""#)
    );
}

#[test]
fn the_end_of_another_turn_is_not_the_end_of_ours() {
    let mut codec = codec();
    let uuid = serde_json::from_str::<Value>(&line(&mut codec, &prompt("t", "x"))).unwrap()["uuid"].clone();
    let mut out = Decoded::default();
    codec.decode(1, br#"{"type":"result","is_error":false,"user_message_uuids":["another"]}"#, &mut out);
    assert!(!out.turn_ended);
    let ours = format!(r#"{{"type":"result","is_error":false,"user_message_uuids":[{uuid}]}}"#);
    codec.decode(2, ours.as_bytes(), &mut out);
    assert!(out.turn_ended);
}

#[test]
fn without_a_reason_a_cancelled_turn_is_known_by_its_cancel() {
    let mut codec = codec();
    line(&mut codec, &prompt("t", "x"));
    line(&mut codec, &cancel());
    let result = r#"{"type":"result","is_error":true,"subtype":"error_during_execution"}"#;
    assert!(decode(&mut codec, &[result.into()]).contains("turn_ended Cancelled"));
}

#[test]
fn a_prompt_that_ends_without_a_result_ends_its_turn() {
    for (state, outcome) in [("completed", "Failed agent_error"), ("cancelled", "Cancelled")] {
        let mut codec = codec();
        let uuid =
            serde_json::from_str::<Value>(&line(&mut codec, &prompt("t", "x"))).unwrap()["uuid"].clone();
        let done = format!(r#"{{"type":"command_lifecycle","command_uuid":{uuid},"state":"{state}"}}"#);
        assert!(decode(&mut codec, std::slice::from_ref(&done)).contains(outcome), "{state}");
        assert!(!decode(&mut codec, &[done]).contains("turn_ended"), "once");
    }
}
