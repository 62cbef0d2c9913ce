//! Stopping a turn: which turn is stopped, and what happens to its requests.

use super::*;

fn cancel(turn_id: &str) -> String {
    format!(r#"send {{"type":"cancel","chat_id":"d","turn_id":"{turn_id}"}}"#)
}

fn queued(session: &mut Session, id: &str, seq: u64) {
    line(session, "more", id);
    hear(session, &accepted(id, seq).replace("true", "false"));
}

#[test]
fn ctrl_c_stops_the_turn_and_then_the_program() {
    let mut session = streaming();
    session.handle_interrupt();
    assert_eq!(did(&mut session), ["note".to_owned(), cancel("t1")]);
    assert_eq!(hear(&mut session, &end(4, "cancelled")), ["show 4 own"]);
    session.handle_interrupt();
    assert_eq!(did(&mut session), ["quit 130"]);
    let mut session = streaming();
    session.handle_interrupt();
    did(&mut session);
    session.handle_interrupt();
    assert_eq!(did(&mut session), ["quit 130"]);
}

#[test]
fn stopping_leaves_what_is_queued() {
    for by_line in [true, false] {
        let mut session = streaming();
        queued(&mut session, "t2", 4);
        line(&mut session, "not accepted yet", "t3");
        if by_line {
            session.handle_line("/stop", Instant::now(), turn("x"));
        } else {
            session.handle_interrupt();
        }
        assert_eq!(
            did(&mut session),
            ["note".to_owned(), cancel("t1")],
            "nothing else is stopped or forgotten"
        );
        assert_eq!(hear(&mut session, &end(5, "cancelled")), ["show 5 own"], "the next one is to run");
        hear(&mut session, &event(6, "t2", r#""event":"turn_started","started_at_ms":1"#));
        assert_eq!(line(&mut session, "/stop", "x"), ["note".to_owned(), cancel("t2")]);
    }
}

#[test]
fn a_message_that_is_not_accepted_yet_is_taken_back_where_nothing_runs() {
    let mut session = Session::new(None, false);
    hear(&mut session, READY);
    session.handle_line("hi", Instant::now(), turn("t1"));
    session.handle_line("/stop", Instant::now(), turn("x"));
    assert_eq!(kept(&mut session), ["keep t1 for d", "forget t1"]);
    assert_eq!(line(&mut session, "/stop", "x"), ["note"], "nothing is left to stop");
}

#[test]
fn what_a_turn_asks_is_taken_down_with_its_stop() {
    let mut session = streaming();
    hear(&mut session, &asks(4, r#""input":{}"#));
    armed(&mut session, Instant::now());
    assert_eq!(line(&mut session, "/stop", "x"), ["note".to_owned(), cancel("t1")]);
    let later = asks(5, r#""input":{}"#).replace(r#""r""#, r#""s""#);
    assert_eq!(hear(&mut session, &later), [""; 0], "an agent that does not listen asks in vain");
    assert_eq!(armed(&mut session, Instant::now()), [""; 0]);
    let sent = line(&mut session, "y", "t2");
    assert!(sent.len() == 1 && sent[0].contains(r#""content":"y""#), "it answers nothing: {sent:?}");
    let resolved = event(6, "t1", r#""event":"request_resolved","request_id":"r","resolution":"turn_ended""#);
    assert_eq!(hear(&mut session, &resolved), ["show 6 own"]);
}

#[test]
fn what_a_turn_asks_comes_back_where_its_stop_is_refused() {
    let mut session = streaming();
    hear(&mut session, &asks(4, r#""input":{}"#));
    line(&mut session, "/stop", "x");
    let refused = r#"{"event":"error","code":"rate_limited","detail":"slow","retryable":true,"chat_id":"d","turn_id":"t1","retry_after_ms":9}"#;
    assert_eq!(hear(&mut session, refused), ["note", "ask 4"]);
}

#[test]
fn a_stop_is_sent_again_after_a_lost_connection() {
    let ready = r#"{"event":"ready","chat_id":"other"}"#;
    let attached = r#"{"event":"attached","chat_id":"d","epoch":"e","head":4,"recovered":true}"#;
    let replay_end = r#"{"event":"replay_end","chat_id":"d","epoch":"e","seq":4}"#;
    for ended in [false, true] {
        let mut session = streaming();
        line(&mut session, "/stop", "x");
        session.handle_disconnect();
        assert_eq!(line(&mut session, "/stop", "x"), ["note"], "not connected");
        hear(&mut session, ready);
        hear(&mut session, attached);
        if ended {
            hear(&mut session, &end(4, "cancelled"));
        }
        let sent = hear(&mut session, replay_end);
        assert_eq!(sent.contains(&cancel("t1")), !ended, "{sent:?}");
    }
}

#[test]
fn background_work_is_stopped_where_no_turn_runs() {
    let task = |seq: u64, status: &str| {
        let rest =
            format!(r#""event":"task","task_id":"b","kind":"shell","title":"make","status":"{status}""#);
        event(seq, "t1", &rest)
    };
    let stop = r#"send {"type":"cancel","chat_id":"d"}"#;
    let mut session = streaming();
    hear(&mut session, &task(4, "running"));
    assert_eq!(line(&mut session, "/stop", "x"), ["note".to_owned(), cancel("t1")], "the turn first");
    hear(&mut session, &end(5, "cancelled"));
    assert_eq!(line(&mut session, "/stop", "x"), ["note", stop]);
    hear(&mut session, &task(6, "stopped"));
    assert_eq!(line(&mut session, "/stop", "x"), ["note"], "nothing is left to stop");
}
