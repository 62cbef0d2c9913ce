//! How a prompt is cancelled that the agent has not begun with.

use serde_json::json;
use switchboard_core::{
    agent::{AgentCommand, CommandId},
    ids::TurnId,
};

use super::{sent, talk::Talk};
use crate::dialect::{Codec as _, Delivered, Encoded};

const INIT: &str = r#"{"type":"system","subtype":"init"}"#;
const OWN_RESULT: &str =
    r#"{"type":"result","subtype":"success","result":"mine","origin":{"kind":"task-notification"}}"#;
const INTERRUPT: &str = r#""subtype":"interrupt""#;
const TAKE_BACK: &str = r#""subtype":"cancel_async_message""#;
const CANCELLED: [&str; 2] = ["turn_ended Cancelled", "(turn ended)"];

impl Talk {
    /// Sends the cancellation of the turn `t-1`. Returns the line for the agent.
    fn cancel(&mut self) -> String {
        let cancel = AgentCommand::Cancel { id: CommandId(2), turn_id: TurnId::parse("t-1").unwrap() };
        String::from_utf8(sent(&mut self.codec, &cancel).unwrap()).unwrap()
    }

    fn lifecycle(&mut self, uuid: &str, state: &str) {
        self.says(json!({"type": "command_lifecycle", "command_uuid": uuid, "state": state}));
    }

    /// The agent answers a request with this id.
    fn answers(&mut self, request_id: &str, response: serde_json::Value) {
        let response = json!({"subtype": "success", "request_id": request_id, "response": response});
        self.says(json!({"type": "control_response", "response": response}));
    }

    /// Checks that one reply came since the last call, with this text in it.
    #[track_caller]
    fn replied(&mut self, text: &str) {
        let shown = std::mem::take(&mut self.shown);
        let [reply] = &shown[..] else { panic!("{shown:?}") };
        assert!(reply.starts_with("reply ") && reply.contains(text), "{reply}");
    }
}

/// A prompt that waits behind a turn of the agent's own, and its id at the agent.
fn behind_own_turn() -> (Talk, String) {
    let mut talk = Talk::new();
    talk.says(INIT);
    let uuid = talk.prompt("t-1");
    talk.lifecycle(&uuid, "queued");
    talk.gave(&["agent_turn Other"]);
    (talk, uuid)
}

#[test]
fn a_prompt_behind_a_turn_of_the_agent_is_taken_back_and_that_turn_goes_on() {
    for lifecycle_first in [true, false] {
        let (mut talk, uuid) = behind_own_turn();
        let line = talk.cancel();
        assert!(line.contains(TAKE_BACK) && line.contains(&uuid), "{line}");
        if lifecycle_first {
            talk.lifecycle(&uuid, "cancelled");
        }
        talk.answers(&format!("take-back-{uuid}"), json!({"cancelled": true}));
        talk.gave(&CANCELLED);
        talk.says(OWN_RESULT);
        talk.gave(&[r#"message "mine""#, "agent_turn_ended Completed"]);
    }
}

/// The cancellation may be encoded before the prompt's record is decoded.
#[test]
fn a_prompt_on_its_way_is_taken_back() {
    let mut talk = Talk::new();
    talk.lifecycle("another", "completed");
    talk.says(INIT);
    talk.gave(&["agent_turn Other"]);
    let line = |turn_id: &str, talk: &Talk| {
        let cancel = AgentCommand::Cancel { id: CommandId(2), turn_id: TurnId::parse(turn_id).unwrap() };
        let Encoded::Write(line) = talk.codec.encode(&cancel) else { panic!("nothing is written") };
        String::from_utf8(line).unwrap()
    };
    assert!(line("t-1", &talk).contains(TAKE_BACK));
    assert!(line("~1", &talk).contains(INTERRUPT), "the agent's own turn");
    let uuid = talk.prompt("t-1");
    talk.codec.delivered(Delivered::Cancel);
    talk.answers(&format!("take-back-{uuid}"), json!({"cancelled": true}));
    talk.gave(&CANCELLED);
}

#[test]
fn a_failure_of_the_agents_turn_is_no_cancellation_while_a_prompt_is_taken_back() {
    let (mut talk, _) = behind_own_turn();
    talk.cancel();
    talk.says(
        r#"{"type":"result","subtype":"error_during_execution","is_error":true,"origin":{"kind":"x"}}"#,
    );
    talk.gave(&["agent_turn_ended Failed agent_error: The agent reported an error."]);
}

#[test]
fn a_prompt_that_cannot_be_taken_back_is_interrupted() {
    let (mut talk, uuid) = behind_own_turn();
    talk.cancel();
    talk.lifecycle(&uuid, "started");
    talk.gave(&[]);
    talk.answers(&format!("take-back-{uuid}"), json!({"cancelled": false}));
    talk.replied(INTERRUPT);
    talk.says(r#"{"type":"result","subtype":"error_during_execution","is_error":true}"#);
    talk.gave(&["agent_turn_ended Cancelled", CANCELLED[0], CANCELLED[1]]);
}

#[test]
fn an_answer_about_an_earlier_prompt_changes_nothing() {
    let (mut talk, uuid) = behind_own_turn();
    talk.cancel();
    talk.lifecycle(&uuid, "cancelled");
    talk.gave(&CANCELLED);
    talk.prompt("t-2");
    for cancelled in [true, false] {
        talk.answers(&format!("take-back-{uuid}"), json!({"cancelled": cancelled}));
        talk.gave(&[]);
    }
}

#[test]
fn a_prompt_is_interrupted_where_no_turn_of_the_agent_could_be_hit() {
    // Nothing runs; or subagents in the background alone do, which an interrupt does not stop.
    let subagent = json!({"type": "assistant", "parent_tool_use_id": "a1",
        "message": {"id": "m", "content": [{"type": "text", "text": "by the way"}]}});
    for first in [json!({"type": "system", "subtype": "status"}), subagent] {
        let mut talk = Talk::new();
        talk.says(&first);
        let uuid = talk.prompt("t-1");
        talk.lifecycle(&uuid, "queued");
        assert!(talk.cancel().contains(INTERRUPT), "{first}");
    }
    // An agent that does not report on its prompts may not know how to take one back.
    let mut talk = Talk::new();
    talk.says(INIT);
    talk.prompt("t-1");
    assert!(talk.cancel().contains(INTERRUPT));
}

#[test]
fn a_cancel_that_came_before_its_prompt_began_is_sent_again() {
    let mut talk = Talk::new();
    let uuid = talk.prompt("t-1");
    assert!(talk.cancel().contains(r#""request_id":"cancel-2""#));
    talk.lifecycle(&uuid, "queued");
    talk.gave(&[]);
    talk.answers("cancel-2", json!({"still_queued": [uuid]}));
    talk.replied(TAKE_BACK);
    // It was too late to take the prompt back.
    talk.lifecycle(&uuid, "started");
    talk.replied(INTERRUPT);
    talk.answers(&format!("take-back-{uuid}"), json!({"cancelled": false}));
    talk.replied(INTERRUPT);
    talk.says(r#"{"type":"result","is_error":true,"subtype":"error_during_execution"}"#);
    talk.gave(&CANCELLED);
}

#[test]
fn both_turns_are_cancelled() {
    let (mut talk, uuid) = behind_own_turn();
    talk.codec.delivered(Delivered::CancelAgentTurn);
    talk.cancel();
    talk.answers("cancel-1", json!({"still_queued": [uuid]}));
    talk.replied(TAKE_BACK);
    talk.lifecycle(&uuid, "cancelled");
    talk.gave(&CANCELLED);
    talk.says(r#"{"type":"result","is_error":true,"subtype":"error_during_execution"}"#);
    talk.gave(&["agent_turn_ended Cancelled"]);
}
