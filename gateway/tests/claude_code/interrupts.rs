//! A cancel, in each state of an agent.

use serde_json::{Value, json};

use switchboard_test_support::eventually;

use crate::Session;

impl Session {
    /// Cancels a turn, and expects that it ends so and that the agent goes on.
    fn cancel(&mut self, turn: &Value) {
        self.send(json!({"type": "cancel", "turn_id": turn}));
        self.until(&json!({"event": "turn_end", "turn_id": turn}));
        self.assert_received(
            &json!({"event": "turn_end", "turn_id": turn, "outcome": "cancelled", "error": null}),
        );
        let next = self.run("say:still here");
        assert_eq!(self.text(&next), "still here", "{}", self.report());
        self.assert_received(
            &json!({"event": "turn_end", "turn_id": next, "outcome": "completed", "error": null}),
        );
        self.assert_balanced();
    }
}

#[test]
fn a_turn_of_the_agent_is_cancelled_while_it_speaks_and_while_it_asks() {
    let Some(mut session) = Session::start("") else { return };
    session.begin_background_work("gate-1", "slow:600");
    session.open("gate-1");
    let began = session.until(&json!({"event": "turn_started", "origin": "agent"}));
    session.until(&json!({"event": "delta", "turn_id": began["turn_id"]}));
    session.cancel(&began["turn_id"]);

    session.begin_background_work("gate-2", "tool:touch never");
    session.open("gate-2");
    let request = session.until(&json!({"event": "permission_request"}));
    session.cancel(&request["turn_id"]);
    session.assert_received(
        &json!({"event": "request_resolved", "request_id": request["request_id"], "resolution": "withdrawn"}),
    );
    assert!(!session.path("never").exists());
}

#[test]
fn a_turn_of_a_person_is_cancelled_while_it_speaks_works_and_asks() {
    let Some(mut session) = Session::start("") else { return };
    let turn = session.prompt("slow:600");
    session.until(&json!({"event": "delta", "turn_id": turn}));
    session.cancel(&turn);

    let turn = session.prompt("tool:touch begun; until [ -e never ]; do sleep 0.05; done");
    let request = session.until(&json!({"event": "permission_request"}));
    session.allow(&request);
    eventually("the tool runs", || session.path("begun").exists());
    session.cancel(&turn);

    for asking in ["tool:touch never", "ask"] {
        let turn = session.prompt(asking);
        let request = session.until(&json!({"turn_id": turn, "request_id": {"has": "r"}}));
        session.cancel(&turn);
        session.assert_received(&json!({"event": "request_resolved", "request_id": request["request_id"], "resolution": "withdrawn"}));
    }
    assert!(!session.path("never").exists());
}
