//! A cancel, in each state of an agent.

use std::{thread, time::Duration};

use serde_json::{Value, json};

use switchboard_test_support::{Client as _, Rng, eventually, matches};

use crate::Session;

/// At most this lies between a prompt and its cancel: Claude Code has reported the beginning of the turn by then.
const BEGINNING: Duration = Duration::from_millis(50);

/// At most this lies between the first prompt of a chat and its cancel: Claude Code has started by then.
const START: Duration = Duration::from_millis(1000);

/// A command that does not end by itself.
const ENDLESS: &str = "until [ -e never ]; do sleep 0.05; done";

impl Session {
    /// Cancels a turn, and expects that it ends so and that the agent goes on.
    fn cancel(&mut self, turn: &Value) {
        self.send_cancel(turn);
        self.expect_cancelled(turn);
        self.expect_answer();
    }

    /// `turn`: null for a cancel that names no turn.
    fn send_cancel(&mut self, turn: &Value) {
        let mut cancel = json!({"type": "cancel"});
        if !turn.is_null() {
            cancel["turn_id"] = turn.clone();
        }
        self.send(cancel);
    }

    /// Waits for the end of a turn, unless it came.
    fn until_ended(&mut self, turn: &Value) {
        let ended = json!({"event": "turn_end", "turn_id": turn});
        if !self.received(&ended) {
            self.until(&ended);
        }
    }

    #[track_caller]
    fn expect_cancelled(&mut self, turn: &Value) {
        self.until_ended(turn);
        self.assert_received(
            &json!({"event": "turn_end", "turn_id": turn, "outcome": "cancelled", "error": null}),
        );
    }

    #[track_caller]
    fn expect_completed(&mut self, turn: &Value) {
        self.until_ended(turn);
        self.assert_received(
            &json!({"event": "turn_end", "turn_id": turn, "outcome": "completed", "error": null}),
        );
    }

    /// Expects that the next prompt is answered whole, and that all has ended that began.
    #[track_caller]
    fn expect_answer(&mut self) {
        let next = self.prompt("say:still here");
        self.expect_completed(&next);
        assert_eq!(self.text(&next), "still here", "{}", self.report());
        self.assert_balanced();
    }

    /// Has the agent begin a turn by itself in which it speaks until it is stopped, and returns the turn.
    fn begin_long_agent_turn(&mut self, gate: &str) -> Value {
        self.begin_background_work(gate, "slow:600");
        self.open(gate);
        let began = self.until(&json!({"event": "turn_started", "origin": "agent"}));
        self.until(&json!({"event": "delta", "turn_id": began["turn_id"]}));
        began["turn_id"].clone()
    }

    /// Has the agent begin a turn by itself in which it asks, and returns the request.
    fn begin_asking_agent_turn(&mut self, gate: &str, command: &str) -> Value {
        self.begin_background_work(gate, &format!("tool:{command}"));
        self.open(gate);
        self.until(&json!({"event": "permission_request"}))
    }

    /// Has the agent begin a turn by itself into which it takes a message, and in which it then speaks until it is
    /// stopped. Returns both turns.
    fn begin_folded(&mut self, gate: &str) -> (Value, Value) {
        let request = self.begin_asking_agent_turn(gate, "touch made; echo slow:600");
        let message = self.prompt("say:never");
        self.until(&json!({"event": "turn_started", "turn_id": message}));
        self.allow(&request);
        let turn = request["turn_id"].clone();
        self.until(&json!({"event": "delta", "turn_id": turn, "text": {"has": "chunk"}}));
        (turn, message)
    }

    /// Stops background work while no turn is open.
    fn stop_background_work(&mut self) {
        self.send_cancel(&Value::Null);
        self.until(&json!({"event": "task", "status": "stopped"}));
        self.assert_received(&json!({"event": "notice", "code": "agent_stopped"}));
        self.expect_answer();
    }

    #[track_caller]
    fn assert_withdrawn(&self, request: &Value) {
        self.assert_received(
            &json!({"event": "request_resolved", "request_id": request["request_id"], "resolution": "withdrawn"}),
        );
    }
}

#[test]
fn a_turn_is_cancelled_before_claude_code_has_started_or_reported_it() {
    let Some(mut session) = Session::start("") else { return };
    let mut rng = Rng::for_test("interrupts");
    let mut pause = |longest: Duration| {
        thread::sleep(Duration::from_micros(rng.below(longest.as_micros().try_into().unwrap())));
    };
    for longest in [Duration::from_micros(1), START, START] {
        session.chat = session.client.new_chat();
        let turn = session.prompt("silent:/dev/null");
        pause(longest);
        session.cancel(&turn);
    }
    for _ in 0..10 {
        let turn = session.prompt("silent:/dev/null");
        pause(BEGINNING);
        session.cancel(&turn);
    }
}

#[test]
fn a_turn_of_a_person_is_cancelled_while_the_agent_waits_speaks_works_and_asks() {
    let Some(mut session) = Session::start("") else { return };
    let turn = session.prompt("slow:600");
    session.until(&json!({"event": "delta", "turn_id": turn}));
    session.cancel(&turn);

    let asked = session.path("asked");
    let turn = session.prompt(&format!("silent:{}", asked.display()));
    eventually("the model is asked", || asked.exists());
    session.cancel(&turn);

    let turn = session.prompt(&format!("tool:touch begun; {ENDLESS}"));
    let request = session.until(&json!({"event": "permission_request"}));
    session.allow(&request);
    eventually("the tool runs", || session.path("begun").exists());
    session.cancel(&turn);

    for asking in ["tool:touch never", "ask"] {
        let turn = session.prompt(asking);
        let request = session.until(&json!({"turn_id": turn, "request_id": {"has": "r"}}));
        session.cancel(&turn);
        session.assert_withdrawn(&request);
    }
    assert!(!session.path("never").exists());
}

#[test]
fn a_turn_is_cancelled_while_its_subagents_wait_work_and_ask() {
    let Some(mut session) = Session::start("") else { return };
    let asked = session.path("asked");
    let working = format!("touch begun; {ENDLESS}");
    let turn = session.prompt(&format!("agents:silent:{}|tool:{working}|tool:touch never", asked.display()));
    let request = |command: &str| json!({"event": "permission_request", "turn_id": turn, "input": {"command": command}});
    let [working, asking] = [request(&working), request("touch never")].map(|request| {
        if !session.received(&request) {
            session.until(&request);
        }
        session.events.iter().find(|event| matches(&request, event)).unwrap().clone()
    });
    session.allow(&working);
    eventually("one waits for the model, and one for its tool", || {
        asked.exists() && session.path("begun").exists()
    });
    session.cancel(&turn);
    session.assert_withdrawn(&asking);
    assert!(!session.path("never").exists());
}

#[test]
fn a_turn_of_the_agent_is_cancelled_while_it_speaks_and_while_it_asks() {
    let Some(mut session) = Session::start("") else { return };
    let turn = session.begin_long_agent_turn("gate-1");
    session.cancel(&turn);

    for (gate, names_turn) in [("gate-2", true), ("gate-3", false)] {
        let request = session.begin_asking_agent_turn(gate, "touch never");
        let turn = &request["turn_id"];
        session.send_cancel(if names_turn { turn } else { &Value::Null });
        session.expect_cancelled(turn);
        session.assert_withdrawn(&request);
        session.expect_answer();
    }
    assert!(!session.path("never").exists());

    // A prompt that waits behind it is answered.
    let turn = session.begin_long_agent_turn("gate-4");
    let message = session.prompt("say:what you asked");
    session.until(&json!({"event": "turn_started", "turn_id": message}));
    session.send_cancel(&turn);
    session.expect_cancelled(&turn);
    session.expect_completed(&message);
    assert_eq!(session.text(&message), "what you asked", "{}", session.report());
    session.expect_answer();
}

#[test]
fn a_prompt_behind_a_turn_of_the_agent_is_cancelled_without_that_turn() {
    let Some(mut session) = Session::start("") else { return };
    let request = session.begin_asking_agent_turn("gate-1", "touch made; echo did-it");
    let turn = &request["turn_id"];
    let message = session.prompt("say:never");
    session.until(&json!({"event": "turn_started", "turn_id": message}));
    session.send_cancel(&message);
    session.expect_cancelled(&message);
    session.allow(&request);
    session.expect_completed(turn);
    assert!(session.text(turn).ends_with("tool said: did-it"), "{}", session.report());
    session.expect_answer();

    let turn = session.begin_long_agent_turn("gate-2");
    let message = session.prompt("say:never");
    // At once: the agent has not reported the prompt.
    session.send_cancel(&message);
    session.expect_cancelled(&message);
    session.until(&json!({"event": "delta", "turn_id": turn}));
    session.cancel(&turn);
}

#[test]
fn a_cancel_without_a_turn_stops_the_agents_turn_and_the_prompt_behind_it() {
    let Some(mut session) = Session::start("") else { return };
    let turn = session.begin_long_agent_turn("gate-1");
    let message = session.prompt("say:never");
    session.until(&json!({"event": "turn_started", "turn_id": message}));
    session.send_cancel(&Value::Null);
    session.expect_cancelled(&turn);
    session.expect_cancelled(&message);
    session.expect_answer();

    let request = session.begin_asking_agent_turn("gate-2", "touch never");
    let message = session.prompt("say:never");
    session.until(&json!({"event": "turn_started", "turn_id": message}));
    session.send_cancel(&Value::Null);
    session.expect_cancelled(&request["turn_id"]);
    session.expect_cancelled(&message);
    session.assert_withdrawn(&request);
    session.expect_answer();
    assert!(!session.path("never").exists());
}

#[test]
fn a_message_in_a_turn_of_the_agent_is_cancelled_with_it() {
    let Some(mut session) = Session::start("") else { return };
    for cancelled in 0..3 {
        let (turn, message) = session.begin_folded(&format!("gate-{cancelled}"));
        session.send_cancel([&turn, &message, &Value::Null][cancelled]);
        session.expect_cancelled(&turn);
        session.expect_cancelled(&message);
        session.expect_answer();
    }
}

#[test]
fn background_work_alone_is_stopped_by_a_cancel_without_a_turn() {
    let Some(mut session) = Session::start("") else { return };
    session.begin_background_work("gate", "say:never");
    session.stop_background_work();

    let asked = session.path("asked");
    let turn = session.run(&format!("background-agent:silent:{}", asked.display()));
    session.expect_completed(&turn);
    eventually("the subagent works", || asked.exists());
    session.stop_background_work();
}
