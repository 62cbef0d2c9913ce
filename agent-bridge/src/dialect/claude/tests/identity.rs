//! Request ids: an answer belongs to one request and to no other.

use std::path::Path;

use serde_json::{Value, json};
use switchboard_core::{
    agent::{AgentCommand, AgentEvent, CommandId, PermissionAsk},
    ids::RequestId,
    wire::{Answer, Question},
};

use super::{codec, sent};
use crate::dialect::{Codec as _, Decoded, claude::ClaudeCodec};

fn ask(request: &Value) -> String {
    json!({"type": "control_request", "request_id": "r-1", "request": request}).to_string()
}

fn tool(name: &str, input: &Value) -> String {
    ask(&json!({"subtype": "can_use_tool", "tool_name": name, "input": input}))
}

fn question(text: &str) -> String {
    tool("AskUserQuestion", &json!({"questions": [{"question": text, "options": ["yes", "no"]}]}))
}

fn form(message: &str) -> String {
    let schema = json!({"required": ["sure"], "properties": {"sure": {"type": "boolean"}}});
    ask(&json!({"subtype": "elicitation", "message": message, "requested_schema": schema}))
}

const WITHDRAW: &str = r#"{"type":"control_cancel_request","request_id":"r-1"}"#;

/// The ids of the requests that a line opens, and of the requests that it withdraws.
fn decode(codec: &mut ClaudeCodec, position: u64, line: &str) -> (Vec<String>, Vec<String>) {
    let mut out = Decoded::default();
    codec.decode(position, line.as_bytes(), &mut out);
    let (mut opened, mut withdrawn) = (Vec::new(), Vec::new());
    for event in out.events {
        if let AgentEvent::Permission(PermissionAsk { request_id, .. })
        | AgentEvent::Question(Question { request_id, .. }) = event
        {
            opened.push(request_id.as_str().to_owned());
        } else if let AgentEvent::Withdrawn { request_id } = event {
            withdrawn.push(request_id.as_str().to_owned());
        }
    }
    (opened, withdrawn)
}

fn asked(codec: &mut ClaudeCodec, position: u64, line: &str) -> String {
    decode(codec, position, line).0.pop().expect("a request")
}

fn encode(codec: &mut ClaudeCodec, request_id: &str, answer: Answer) -> Option<String> {
    let request_id = RequestId::parse(request_id).unwrap();
    let line = sent(codec, &AgentCommand::Answer { id: CommandId(1), request_id, answer });
    line.map(|line| String::from_utf8(line).unwrap())
}

fn allow() -> Answer {
    Answer::Allow { input_sha256: None }
}

fn answers(question: &str, text: &str) -> Answer {
    Answer::Answer { answers: [(question.to_owned(), vec![text.to_owned()])].into() }
}

fn restored(codec: &ClaudeCodec) -> ClaudeCodec {
    ClaudeCodec::restore(Path::new("/workspace"), &codec.checkpoint()).unwrap()
}

#[test]
fn an_answer_to_a_withdrawn_request_reaches_no_other() {
    let command = json!({"command": "make"});
    for (first, second, answer) in [
        (tool("mcp__ci__dryrun", &command), tool("Bash", &command), allow()),
        (tool("Bash", &json!({})), tool("Bash", &command), allow()),
        (tool("Bash", &command), tool("Bash", &command), Answer::Deny { message: None }),
        (question("Go on?"), question("Go on?"), answers("Go on?", "yes")),
        (form("Keep?"), form("Delete?"), answers("Keep?\nsure", "true")),
        (form("Go on?"), form("Go on?"), answers("Go on?\nsure", "true")),
    ] {
        for over_checkpoints in [false, true] {
            let mut codec = codec();
            let mut step = |position, line: &str| {
                let said = decode(&mut codec, position, line);
                if over_checkpoints {
                    codec = restored(&codec);
                }
                said
            };
            let (first, _) = step(1, &first);
            assert_eq!(step(2, WITHDRAW).1, [first[0].as_str(), "r-1"]);
            let (second, _) = step(3, &second);
            assert_eq!(encode(&mut codec, &first[0], answer.clone()), None, "{answer:?}");
            // The other request is still open.
            assert!(encode(&mut codec, &second[0], Answer::Deny { message: None }).is_some());
        }
    }
}

#[test]
fn an_answer_that_comes_twice_reaches_no_other() {
    let mut codec = codec();
    let request = tool("Bash", &json!({}));
    let first = asked(&mut codec, 1, &request);
    assert!(encode(&mut codec, &first, allow()).is_some());
    let second = asked(&mut codec, 2, &request);
    assert_eq!(encode(&mut codec, &first, allow()), None);
    assert!(encode(&mut codec, &second, allow()).is_some());
}

#[test]
fn requests_on_one_line_are_told_apart() {
    let mut codec = codec();
    let line = format!("{} {WITHDRAW} {}", tool("Read", &json!({})), tool("Bash", &json!({})));
    let (opened, withdrawn) = decode(&mut codec, 1, &line);
    assert!(opened.len() == 2 && opened[0] != opened[1]);
    assert_eq!(withdrawn, [opened[0].as_str(), "r-1"]);
    assert_eq!(encode(&mut codec, &opened[0], allow()), None);
    assert!(encode(&mut codec, &opened[1], allow()).is_some());
}

/// A codec restored from a checkpoint of the version that named requests by the agent's ids.
fn earlier() -> ClaudeCodec {
    let request = json!({"agent_id": "r-1", "input": "{}", "question": false, "form": false});
    let checkpoint = json!({"version": 1, "prefix": "1-", "pending": {"r-1": request}});
    ClaudeCodec::restore(Path::new("/workspace"), &checkpoint.to_string()).unwrap()
}

#[test]
fn a_request_in_an_earlier_versions_checkpoint_is_answered_or_withdrawn() {
    assert!(encode(&mut earlier(), "r-1", allow()).unwrap().contains(r#""behavior":"allow""#));
    let mut codec = earlier();
    assert_eq!(decode(&mut codec, 8, WITHDRAW).1, ["r-1"]);
    let again = asked(&mut codec, 9, &tool("Bash", &json!({})));
    assert_eq!(encode(&mut codec, "r-1", allow()), None);
    assert!(encode(&mut restored(&codec), &again, allow()).is_some());
}

#[test]
fn a_request_that_an_earlier_version_published_is_answered_or_withdrawn() {
    let known = || {
        let mut codec = codec();
        codec.set_published(1);
        let request = asked(&mut codec, 1, &tool("Bash", &json!({})));
        (codec, request)
    };
    let (mut codec, _) = known();
    assert!(encode(&mut codec, "r-1", allow()).unwrap().contains(r#""behavior":"allow""#));
    assert_eq!(encode(&mut codec, "r-1", allow()), None);
    let (mut codec, request) = known();
    assert_eq!(decode(&mut codec, 2, WITHDRAW).1, [request.as_str(), "r-1"], "whichever it is published as");
    let again = asked(&mut codec, 3, &tool("Bash", &json!({})));
    assert_eq!(encode(&mut codec, "r-1", allow()), None, "this one was not published under that id");
    assert!(encode(&mut codec, &again, allow()).is_some());
}
