//! Work in the background, and the turns that the agent begins when it ends.

use serde_json::json;

use switchboard_test_support::{Client as _, eventually, matches};

use crate::Session;

#[test]
fn background_work_outlives_its_turn_and_begins_another() {
    let Some(mut session) = Session::start("[limits]\nagent_idle_ms = 1000\n") else { return };
    session.begin_background_work("gate", "say:it has passed");

    // While the work runs, an agent that is idle is stopped: that of another chat.
    let working = session.gateway.processes();
    let mut client = session.gateway.websocket();
    let chat = client.new_chat();
    client.message(&chat, "other", "say:nothing to do");
    client.wait_for("turn_end");
    let idle = &session.gateway.processes() - &working;
    assert!(!idle.is_empty());
    eventually("the idle agent is stopped", || session.gateway.processes().is_disjoint(&idle));

    session.open("gate");
    session.until(&json!({"event": "turn_end", "origin": "agent", "outcome": "completed", "error": null}));
    session.assert_received(&json!({"event": "task", "kind": "shell", "status": "completed"}));
    session.assert_received(&json!({"event": "turn_started", "origin": "agent", "reason": "background"}));
    let turn = session.agent_turn();
    assert_eq!(session.text(&turn), "it has passed");
    // The session is the same one.
    let turn = session.run("say:still here");
    assert_eq!(session.text(&turn), "still here");
    assert!(!session.received(&json!({"event": "notice", "code": "agent_stopped"})), "{}", session.report());
    session.assert_balanced();
}

#[test]
fn a_permission_in_a_turn_of_the_agent_is_answered() {
    let Some(mut session) = Session::start("") else { return };
    session.begin_background_work("gate", "tool:touch made; echo did-it");
    session.open("gate");
    let request = session.until(&json!({"event": "permission_request"}));
    let turn = session.agent_turn();
    assert_eq!(request["turn_id"], turn, "{}", session.report());
    session.send(json!({"type": "list_chats"}));
    let chats = session.until(&json!({"event": "chats"}));
    assert_eq!(chats["chats"][0]["waiting"], true, "{chats}");
    assert!(!session.path("made").exists(), "nothing is done before it is allowed");
    session.allow(&request);
    session.until(&json!({"event": "turn_end", "origin": "agent", "outcome": "completed"}));
    session.assert_received(&json!({"event": "request_resolved", "turn_id": turn, "resolution": "allowed"}));
    assert!(session.text(&turn).ends_with("tool said: did-it"), "{}", session.report());
    assert!(session.path("made").exists());
    session.assert_balanced();
}

#[test]
fn a_message_that_the_agent_takes_into_its_own_turn_ends_with_it() {
    let Some(mut session) = Session::start("") else { return };
    session.begin_background_work("gate", "tool:touch made");
    session.open("gate");
    let request = session.until(&json!({"event": "permission_request"}));
    let message = session.prompt("say:both are done");
    // Claude Code reads its input while it asks, and takes the message in once the tool has ended.
    session.until(&json!({"event": "turn_started", "turn_id": message}));
    session.allow(&request);
    session.until(&json!({"event": "turn_end", "origin": "agent", "outcome": "completed", "error": null}));
    // The result is that of both, and so is what was said; what it cost is told once.
    let end = session.until(&json!({"event": "turn_end"}));
    let folded =
        json!({"turn_id": message, "outcome": "completed", "error": null, "usage": null, "cost": null});
    assert!(matches(&folded, &end), "{end}{}", session.report());
    assert_eq!(session.text(&message), "");
    assert!(session.text(&request["turn_id"]).contains("tool said: "), "{}", session.report());
    session.assert_balanced();
}
