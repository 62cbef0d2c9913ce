//! Turns that the agent begins by itself, beside those of messages.

use super::*;

fn began(seq: u64) -> String {
    event(seq, "own", r#""event":"turn_started","started_at_ms":1,"origin":"agent","reason":"background""#)
}

fn ended(seq: u64) -> String {
    let rest = r#""event":"turn_end","origin":"agent","outcome":"completed","latency_ms":1"#;
    event(seq, "own", rest)
}

fn cancel(turn_id: &str) -> String {
    format!(r#"send {{"type":"cancel","chat_id":"d","turn_id":"{turn_id}"}}"#)
}

/// A session without a running turn, in which the agent begins one by itself.
fn working() -> Session {
    let mut session = streaming();
    hear(&mut session, &end(4, "completed"));
    assert_eq!(hear(&mut session, &began(5)), ["show 5"]);
    session
}

#[test]
fn the_agents_own_turn_is_shown_and_the_prompt_waits_for_its_end() {
    let mut session = working();
    let said = event(6, "own", r#""event":"delta","stream_id":"s","text":"x""#);
    assert_eq!(hear(&mut session, &said), ["show 6"]);
    assert_eq!(line(&mut session, "", "x"), [""; 0]);
    assert!(!session.awaits_message(), "a turn runs");
    assert_eq!(hear(&mut session, &ended(7)), ["show 7"]);
    assert!(session.awaits_message());
}

#[test]
fn stop_concerns_the_agents_own_turn_first_and_then_the_waiting_message() {
    let mut session = working();
    line(&mut session, "more", "t2");
    assert_eq!(hear(&mut session, &accepted("t2", 6)), ["note"], "it waits");
    hear(&mut session, &event(7, "t2", r#""event":"turn_started","started_at_ms":1"#));
    assert_eq!(line(&mut session, "/stop", "x"), ["note".to_owned(), cancel("own")]);
    assert_eq!(line(&mut session, "/stop", "x"), ["note".to_owned(), cancel("t2")]);
    session.handle_disconnect();
    hear(&mut session, READY);
    let attached = r#"{"event":"attached","chat_id":"d","epoch":"e","head":7,"recovered":true}"#;
    hear(&mut session, attached);
    let again = hear(&mut session, r#"{"event":"replay_end","chat_id":"d","epoch":"e","seq":7}"#);
    assert_eq!(again, [cancel("own"), cancel("t2")]);
    let refused = r#"{"event":"error","code":"rate_limited","detail":"slow","retryable":true,"chat_id":"d","turn_id":"t2"}"#;
    assert_eq!(hear(&mut session, refused), ["note"]);
    assert_eq!(hear(&mut session, &ended(8)), ["show 8"], "the message goes on");
    assert_eq!(line(&mut session, "/stop", "x"), ["note".to_owned(), cancel("t2")]);
}

#[test]
fn requests_in_the_agents_own_turn_are_asked_and_say_whose_they_are() {
    let ask = |seq, rest: &str| asks(seq, rest).replace("t1", "own");
    let mut session = working();
    assert_eq!(hear(&mut session, &ask(6, r#""input":{}"#)), ["ask 5"]);
    armed(&mut session, Instant::now());
    session.handle_line("y", Instant::now() + Duration::from_secs(1), turn("x"));
    let sent = r#"send {"type":"respond","chat_id":"d","request_id":"r","decision":"allow"}"#;
    assert_eq!(did(&mut session), [sent]);
    // A subagent's request has its task besides, if that is known.
    for (known, rows) in [(false, "ask 6"), (true, "ask 7")] {
        let mut session = working();
        if known {
            let used = r#""event":"tool_event","phase":"start","call_id":"a","name":"Agent","title":"Look""#;
            hear(&mut session, &event(6, "own", used));
        }
        assert_eq!(hear(&mut session, &ask(7, r#""input":{},"parent_call_id":"a""#)), [rows]);
    }
}

#[test]
fn a_stop_takes_down_only_the_requests_of_its_turn() {
    let mut session = working();
    line(&mut session, "more", "t2");
    hear(&mut session, &accepted("t2", 6));
    hear(&mut session, &event(7, "t2", r#""event":"turn_started","started_at_ms":1"#));
    let other = asks(8, r#""input":{}"#).replace("t1", "t2").replace(r#""r""#, r#""q""#);
    assert_eq!(hear(&mut session, &other), ["ask 4"]);
    assert_eq!(hear(&mut session, &asks(9, r#""input":{}"#).replace("t1", "own")), [""; 0], "one at a time");
    assert_eq!(line(&mut session, "/stop", "x"), ["note".to_owned(), cancel("own")]);
    armed(&mut session, Instant::now());
    session.handle_line("n", Instant::now() + Duration::from_secs(1), turn("x"));
    let sent = r#"send {"type":"respond","chat_id":"d","request_id":"q","decision":"deny"}"#;
    assert_eq!(did(&mut session), [sent], "and the stopped turn's request is not asked");
}

#[test]
fn a_snapshot_has_the_agents_own_turn_and_tasks() {
    let mut session = Session::new(Some(ChatId::parse("d").unwrap()), false);
    hear(&mut session, READY);
    let attached = r#"{"event":"attached","chat_id":"d","epoch":"e","head":9,"recovered":false}"#;
    hear(&mut session, attached);
    let snapshot = r#"{"event":"snapshot","chat_id":"d","epoch":"e","seq":9,"part":0,"more":false,"events":[],"state":{"queue":[],
        "agent_turn":{"turn_id":"own","started_at_ms":1,"reason":"background"},"requests":[],
        "tasks":[{"task_id":"b","kind":"shell","title":"make","status":"running"}]}}"#;
    assert_eq!(hear(&mut session, snapshot), ["note", "note"]);
    assert_eq!(line(&mut session, "/stop", "x"), ["note".to_owned(), cancel("own")]);
}

#[test]
fn what_the_events_of_a_snapshot_say_is_not_said_again() {
    let task = |id: &str, status: &str| {
        format!(r#""event":"task","task_id":"{id}","kind":"shell","title":"make","status":"{status}""#)
    };
    let events = [
        event(3, "t1", &task("b", "running")),
        event(4, "t1", &task("c", "running")),
        event(5, "t1", &task("c", "completed")),
        began(6),
    ];
    let state = r#"{"queue":[],"requests":[],"agent_turn":{"turn_id":"own","started_at_ms":1,"reason":"background"},
        "tasks":[{"task_id":"a","kind":"shell","title":"earlier","status":"running"},
            {"task_id":"b","kind":"shell","title":"make","status":"running"}]}"#;
    let snapshot = format!(
        r#"{{"event":"snapshot","chat_id":"d","epoch":"e","seq":9,"part":0,"more":false,"events":[{}],"state":{state}}}"#,
        events.join(",")
    );
    let mut session = Session::new(Some(ChatId::parse("d").unwrap()), false);
    hear(&mut session, READY);
    hear(&mut session, r#"{"event":"attached","chat_id":"d","epoch":"e","head":9,"recovered":false}"#);
    assert_eq!(hear(&mut session, &snapshot), ["show 3", "show 4", "show 5", "show 6", "note"]);
    // After a loss the screen begins again, and so does what it says.
    assert_eq!(hear(&mut session, &snapshot.replace(&events.join(","), "")), ["note", "note", "note"]);
}

#[test]
fn a_program_that_waits_for_its_answer_is_not_ended_by_the_agents_own_turn() {
    let mut session = Session::new(None, true);
    hear(&mut session, READY);
    assert_eq!(line(&mut session, "hi", "t1"), [MESSAGE]);
    session.handle_input_end();
    assert_eq!(hear(&mut session, &accepted("t1", 1)), [""; 0]);
    assert_eq!(hear(&mut session, &began(2)), ["show 2"]);
    assert_eq!(hear(&mut session, &ended(3)), ["show 3"]);
    session.handle_interrupt();
    assert_eq!(did(&mut session), ["note".to_owned(), cancel("t1")], "its own turn is stopped");
    assert_eq!(hear(&mut session, &end(4, "cancelled")), ["show 4 own", "quit 130"]);
}
