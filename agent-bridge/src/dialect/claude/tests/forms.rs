//! Questions and forms, from the agent's line to the line with the answer.

use serde_json::{Value, json};
use switchboard_core::{
    agent::{AgentCommand, AgentEvent, CommandId},
    ids::RequestId,
    wire::{Answer, Question},
};

use super::{codec, sent};
use crate::dialect::{Codec as _, Decoded, claude::ClaudeCodec};

fn asked(request: &Value) -> (ClaudeCodec, Question) {
    let mut codec = codec();
    let line = json!({"type": "control_request", "request_id": "r-1", "request": request}).to_string();
    let mut out = Decoded::default();
    codec.decode(1, line.as_bytes(), &mut out);
    let Some(AgentEvent::Question(question)) = out.events.pop() else {
        panic!("it is not asked as a question")
    };
    (codec, question)
}

/// The agent's part of the line for an answer to such a request.
fn answered(request: &Value, answer: Answer) -> Value {
    let request_id = RequestId::parse("1-1").unwrap();
    let command = AgentCommand::Answer { id: CommandId(1), request_id, answer };
    let (mut codec, _) = asked(request);
    let line: Value = serde_json::from_slice(&sent(&mut codec, &command).expect("a line")).unwrap();
    assert_eq!(line["response"]["request_id"], "r-1");
    line["response"]["response"].clone()
}

fn answers(question: &str, text: &str) -> Answer {
    Answer::Answer { answers: [(question.to_owned(), vec![text.to_owned()])].into() }
}

#[test]
fn a_question_that_was_written_as_a_string_is_one_and_cannot_be_allowed() {
    let questions = json!([{"question": "Which?", "options": [{"label": "red"}]}]).to_string();
    let request = json!({"subtype": "can_use_tool", "tool_name": "AskUserQuestion", "tool_use_id": "t1",
        "input": {"questions": questions}});
    assert_eq!(asked(&request).1.questions[0].options[0].label, "red");
    let response = answered(&request, answers("Which?", "red"));
    assert_eq!(response["behavior"], "allow");
    assert_eq!(response["updatedInput"]["answers"], json!({"Which?": "red"}));
    assert_eq!(answered(&request, Answer::Allow { input_sha256: None })["behavior"], "deny");
}

#[test]
fn a_form_is_asked_and_its_answer_reaches_the_server() {
    let request = json!({"subtype": "elicitation", "mcp_server_name": "tracker", "message": "Delete ticket 12?",
        "mode": "form", "requested_schema": {"type": "object", "properties": {"confirm": {"type": "boolean"}}}});
    let question = "Delete ticket 12?\nconfirm";
    assert_eq!(asked(&request).1.questions[0].question, question);
    let response = answered(&request, answers(question, "true"));
    assert_eq!(response, json!({"action": "accept", "content": {"confirm": true}}));
    for other in ["Keep ticket 12?\nconfirm", "confirm"] {
        assert_eq!(answered(&request, answers(other, "true")), json!({"action": "cancel"}));
    }
    for refused in [Answer::Deny { message: None }, Answer::Allow { input_sha256: None }] {
        assert_eq!(answered(&request, refused), json!({"action": "decline"}));
    }
}
