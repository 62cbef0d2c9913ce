//! Lines and frames in, effects out; nothing else.

use std::time::Duration;

use super::*;

mod agent_turns;
mod commands;
mod stopping;

fn turn(text: &str) -> TurnId {
    TurnId::parse(text).unwrap()
}

/// The session's effects in short.
fn did(session: &mut Session) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(effect) = session.poll_effect() {
        all.push(match effect {
            Effect::Send(frame) => format!("send {frame}"),
            Effect::Print { event, own, .. } => {
                format!("show {}{}", event.place.seq, if own { " own" } else { "" })
            }
            Effect::Replaced => "replaced".into(),
            Effect::LeftChat => "left".into(),
            Effect::Note(_) => "note".into(),
            Effect::DrawRequest(rows) => format!("ask {}", rows.len()),
            Effect::Prompt(_) => "prompt".into(),
            // Every message causes these; separate tests check when.
            Effect::Store(_) | Effect::Forget(_) => continue,
            Effect::List { chats, .. } => format!("list {}", chats.len()),
            Effect::RetryAfter(ms) => format!("retry {ms}"),
            Effect::Quit(status) => format!("quit {status}"),
        });
    }
    all
}

fn hear(session: &mut Session, frame: &str) -> Vec<String> {
    session.handle_frame(Frame::read(frame), turn("spare"));
    did(session)
}

fn line(session: &mut Session, line: &str, id: &str) -> Vec<String> {
    session.handle_line(line, Instant::now(), turn(id));
    did(session)
}

const READY: &str = r#"{"event":"ready","chat_id":"d"}"#;
const MESSAGE: &str = r#"send {"type":"message","chat_id":"d","content":"hi","turn_id":"t1"}"#;

fn accepted(id: &str, seq: u64) -> String {
    format!(
        r#"{{"event":"message_accepted","chat_id":"d","turn_id":"{id}","starts_turn":true,"epoch":"e","seq":{seq}}}"#
    )
}

fn event(seq: u64, id: &str, rest: &str) -> String {
    format!(r#"{{"chat_id":"d","epoch":"e","seq":{seq},"turn_id":"{id}",{rest}}}"#)
}

fn delta(seq: u64) -> String {
    event(seq, "t1", r#""event":"delta","stream_id":"s","text":"x""#)
}

fn end(seq: u64, outcome: &str) -> String {
    event(seq, "t1", &format!(r#""event":"turn_end","outcome":"{outcome}","latency_ms":1"#))
}

/// A session in the middle of an answer.
fn streaming() -> Session {
    let mut session = Session::new(None, false);
    assert!(!session.awaits_message(), "not connected");
    assert_eq!(hear(&mut session, READY), [""; 0]);
    assert!(session.awaits_message());
    assert_eq!(line(&mut session, "hi", "t1"), [MESSAGE]);
    assert_eq!(hear(&mut session, &accepted("t1", 1)), [""; 0]);
    hear(&mut session, &event(2, "t1", r#""event":"turn_started","started_at_ms":1"#));
    assert_eq!(hear(&mut session, &delta(3)), ["show 3 own"]);
    session
}

#[test]
fn an_answer_streams_and_ends() {
    let mut session = streaming();
    assert_eq!(hear(&mut session, &delta(3)), [""; 0], "known already");
    assert!(!session.awaits_message());
    assert_eq!(hear(&mut session, &end(4, "completed")), ["show 4 own"]);
    assert!(session.awaits_message());
    session.handle_disconnect();
    assert!(!session.awaits_message());
}

#[test]
fn a_lost_connection_is_taken_up_at_the_cursor() {
    let mut session = streaming();
    session.handle_disconnect();
    let attach = r#"send {"type":"attach","chat_id":"d","after":{"epoch":"e","seq":3}}"#;
    assert_eq!(hear(&mut session, r#"{"event":"ready","chat_id":"other"}"#), [attach]);
    let attached = r#"{"event":"attached","chat_id":"d","epoch":"e","head":5,"recovered":true}"#;
    assert_eq!(hear(&mut session, attached), [""; 0]);
    assert_eq!(hear(&mut session, &delta(4)), ["show 4 own"]);
    assert_eq!(hear(&mut session, &end(5, "completed")), ["show 5 own"]);
}

#[test]
fn a_message_without_an_answer_is_sent_again_under_its_id() {
    let mut session = Session::new(None, false);
    hear(&mut session, READY);
    assert_eq!(line(&mut session, "hi", "t1"), [MESSAGE]);
    session.handle_disconnect();
    assert_eq!(line(&mut session, "ho", "t2"), ["note"]);
    let sent = hear(&mut session, r#"{"event":"ready","chat_id":"other"}"#);
    let second = r#"send {"type":"message","chat_id":"d","content":"ho","turn_id":"t2"}"#;
    assert_eq!(sent, [r#"send {"type":"attach","chat_id":"d"}"#, MESSAGE, second]);
    // The first message had been accepted: the replay contains it, and it is not printed as another client's message.
    let user = event(1, "t1", r#""event":"user_message","text":"hi","starts_turn":true,"created_at_ms":1"#);
    assert_eq!(hear(&mut session, &user), [""; 0]);
    session.handle_disconnect();
    let sent = hear(&mut session, READY);
    assert_eq!(sent.len(), 2, "attach, and the second only: {sent:?}");
}

#[test]
fn a_refused_cursor_gives_the_chat_anew() {
    let mut session = streaming();
    session.handle_disconnect();
    hear(&mut session, READY);
    let attached = r#"{"event":"attached","chat_id":"d","epoch":"f","head":9,"recovered":false}"#;
    assert_eq!(hear(&mut session, attached), ["replaced"]);
    let snapshot = format!(
        r#"{{"event":"snapshot","chat_id":"d","epoch":"e","seq":9,"part":0,"more":false,"events":[{},{}],
            "state":{{"queue":[],"requests":[]}}}}"#,
        delta(3),
        end(4, "interrupted")
    );
    assert_eq!(hear(&mut session, &snapshot), ["show 3 own", "show 4 own"]);
}

fn asks(seq: u64, rest: &str) -> String {
    event(seq, "t1", &format!(r#""event":"permission_request","request_id":"r","tool":"Bash",{rest}"#))
}

/// Ends the arming delay, and draws the prompt at this time.
fn armed(session: &mut Session, now: Instant) -> Vec<String> {
    session.handle_armed();
    session.handle_prompted(now);
    did(session)
}

#[test]
fn a_request_is_asked_and_the_next_line_answers_it() {
    let mut session = streaming();
    assert_eq!(hear(&mut session, &asks(4, r#""input":{}"#)), ["ask 4"]);
    assert_eq!(armed(&mut session, Instant::now()), ["prompt"]);
    let respond = r#"send {"type":"respond","chat_id":"d","request_id":"r","decision":"allow"}"#;
    assert_eq!(line(&mut session, "y", "t2"), [respond]);
    assert_eq!(line(&mut session, "and then", "t3").len(), 1, "a message again");
}

#[test]
fn what_is_asked_is_declined_with_a_reason() {
    let mut session = streaming();
    hear(&mut session, &asks(4, r#""input":{}"#));
    armed(&mut session, Instant::now());
    let sent = &line(&mut session, "/decline not here", "t2")[0];
    assert!(sent.ends_with(r#""decision":"deny","message":"not here"}"#), "{sent}");
}

#[test]
fn a_damaged_chat_is_left_and_the_next_message_begins_another() {
    let damaged =
        r#"{"event":"error","code":"damaged","detail":"it is damaged","retryable":false,"chat_id":"d"}"#;
    let mut session = streaming();
    assert_eq!(hear(&mut session, damaged), ["left", "note"]);
    assert_eq!(line(&mut session, "on we go", "t2")[0], r#"send {"type":"new_chat"}"#);
}

#[test]
fn an_answer_that_is_refused_or_lost_is_asked_for_again() {
    let respond = r#"send {"type":"respond","chat_id":"d","request_id":"r","decision":"allow"}"#;
    let refusal = |code: &str| {
        format!(
            r#"{{"event":"error","code":"{code}","detail":"No.","retryable":false,"chat_id":"d","request_id":"r"}}"#
        )
    };
    let mut session = streaming();
    assert_eq!(hear(&mut session, &asks(4, r#""input":{}"#)), ["ask 4"]);
    for code in ["input_unseen", "invalid_field", "unavailable"] {
        assert_eq!(armed(&mut session, Instant::now()), ["prompt"]);
        assert_eq!(line(&mut session, "y", "t2"), [respond]);
        assert_eq!(hear(&mut session, &refusal(code)), ["note", "ask 4"], "{code}");
    }
    armed(&mut session, Instant::now());
    assert_eq!(line(&mut session, "y", "t2"), [respond]);
    session.handle_disconnect();
    hear(&mut session, r#"{"event":"ready","chat_id":"other"}"#);
    let attached = r#"{"event":"attached","chat_id":"d","epoch":"e","head":4,"recovered":true}"#;
    assert_eq!(hear(&mut session, attached), [""; 0], "the log may have it");
    let replay_end = r#"{"event":"replay_end","chat_id":"d","epoch":"e","seq":4}"#;
    assert_eq!(hear(&mut session, replay_end), ["note", "ask 4"]);
    armed(&mut session, Instant::now());
    assert_eq!(line(&mut session, "y", "t2"), [respond]);
    assert_eq!(hear(&mut session, &refusal("already_resolved")), [""; 0]);
    assert_eq!(line(&mut session, "y", "t4").len(), 1, "a message: nothing is asked any more");
}

#[test]
fn an_answer_that_arrived_is_not_asked_for_again() {
    let mut session = streaming();
    hear(&mut session, &asks(4, r#""input":{}"#));
    armed(&mut session, Instant::now());
    line(&mut session, "y", "t2");
    session.handle_disconnect();
    hear(&mut session, r#"{"event":"ready","chat_id":"other"}"#);
    hear(&mut session, r#"{"event":"attached","chat_id":"d","epoch":"e","head":5,"recovered":true}"#);
    let resolved = event(5, "t1", r#""event":"request_resolved","request_id":"r","resolution":"allowed""#);
    assert_eq!(hear(&mut session, &resolved), ["show 5 own"]);
    let replay_end = r#"{"event":"replay_end","chat_id":"d","epoch":"e","seq":5}"#;
    assert_eq!(hear(&mut session, replay_end), [""; 0]);
}

#[test]
fn a_notice_does_not_leave_the_person_without_the_prompt() {
    let mut session = streaming();
    hear(&mut session, &asks(4, r#""input":{}"#));
    armed(&mut session, Instant::now());
    let notice =
        |seq| event(seq, "t1", r#""event":"notice","level":"warning","code":"request_refused","text":"x""#);
    assert_eq!(hear(&mut session, &notice(5)), ["show 5 own", "prompt"]);
    line(&mut session, "n", "t2");
    assert_eq!(hear(&mut session, &notice(6)), ["show 6 own"]);
}

#[test]
fn what_was_typed_before_the_prompt_answers_nothing() {
    let mut session = streaming();
    let start = Instant::now();
    hear(&mut session, &asks(4, r#""input":{}"#));
    assert_eq!(line(&mut session, "y", "t2"), ["note"], "drawn, and not armed");
    assert_eq!(armed(&mut session, start + Duration::from_millis(500)), ["prompt"]);
    session.handle_line("y", start + Duration::from_millis(499), turn("t2"));
    assert_eq!(did(&mut session), ["note", "prompt"], "read earlier than the prompt was there");
    session.handle_line("y", start + Duration::from_millis(500), turn("t2"));
    assert_eq!(did(&mut session).len(), 1);
}

#[test]
fn what_is_cut_is_fetched_and_allowed_with_its_hash() {
    let hash = "e33dc8ea3f5a4a02da6943462c8132821956d0c38f6d6e32dfa74c796789ec45";
    let mut session = streaming();
    let cut = asks(4, &format!(r#""input":"hell","truncated":true,"raw":true,"input_sha256":"{hash}""#));
    let page = |offset: u64| {
        format!(r#"send {{"type":"request_input","chat_id":"d","request_id":"r","offset":{offset}}}"#)
    };
    assert_eq!(hear(&mut session, &cut), [page(0)]);
    assert_eq!(armed(&mut session, Instant::now()), [""; 0], "there is nothing to answer yet");
    let first =
        r#"{"event":"request_input","chat_id":"d","request_id":"r","offset":0,"text":"hello ","next":6}"#;
    assert_eq!(hear(&mut session, first), [page(6)]);
    session.handle_disconnect();
    hear(&mut session, READY);
    let attached = r#"{"event":"attached","chat_id":"d","epoch":"e","head":4,"recovered":true}"#;
    assert_eq!(hear(&mut session, attached), [page(6)], "taken up where it was lost");
    let last = r#"{"event":"request_input","chat_id":"d","request_id":"r","offset":6,"text":"switchboard"}"#;
    assert_eq!(hear(&mut session, last), ["ask 4"]);
    armed(&mut session, Instant::now());
    let allowed = format!(
        r#"send {{"type":"respond","chat_id":"d","request_id":"r","decision":"allow","input_sha256":"{hash}"}}"#
    );
    assert_eq!(line(&mut session, "yes", "x"), [allowed]);
}

#[test]
fn what_cannot_be_fetched_cannot_be_allowed() {
    let error = r#"{"event":"error","code":"internal","detail":"no","retryable":false}"#;
    let other =
        r#"{"event":"request_input","chat_id":"d","request_id":"r","offset":0,"text":"something else"}"#;
    for answer in [error, other] {
        let mut session = streaming();
        hear(&mut session, &asks(4, r#""input":{"command":"ls"},"truncated":true,"input_sha256":"00""#));
        assert_eq!(hear(&mut session, answer), ["ask 5"], "{answer}");
        armed(&mut session, Instant::now());
        assert_eq!(line(&mut session, "y", "x"), ["note", "prompt"]);
        let denied = r#"send {"type":"respond","chat_id":"d","request_id":"r","decision":"deny"}"#;
        assert_eq!(line(&mut session, "n", "x"), [denied]);
    }
}

#[test]
fn nothing_is_answered_where_nobody_sees_what_is_asked() {
    let mut session = streaming();
    session.answer_nothing();
    assert_eq!(hear(&mut session, &asks(4, r#""input":{}"#)), ["note"]);
    assert_eq!(armed(&mut session, Instant::now()), [""; 0]);
    let sent = line(&mut session, "y", "t2");
    assert!(sent.len() == 1 && sent[0].contains(r#""content":"y""#), "ordinary text: {sent:?}");
}

#[test]
fn the_agent_is_named_once_and_again_when_it_changes() {
    let mut session = Session::new(None, false);
    let ready =
        r#"{"event":"ready","chat_id":"d","agent":{"agent":"claude","workspace":"~/x","sandbox":"off"}}"#;
    assert_eq!(hear(&mut session, ready), ["note"]);
    session.handle_disconnect();
    assert_eq!(hear(&mut session, ready), [""; 0]);
    let changed = r#"{"event":"agent_state","chat_id":"d","agent":"demo"}"#;
    assert_eq!(hear(&mut session, changed), [""; 0], "of no chat that is shown here");
    line(&mut session, "hi", "t1");
    assert_eq!(hear(&mut session, changed), ["note"]);
}

#[test]
fn a_notice_of_the_gateway_itself_is_shown() {
    let mut session = streaming();
    let notice =
        r#"{"event":"notice","level":"error","code":"degraded","text":"The gateway can keep nothing."}"#;
    assert_eq!(hear(&mut session, notice), ["note"]);
}

#[test]
fn lines_of_a_pipe_are_sent_one_after_the_other() {
    let mut session = Session::new(None, true);
    assert_eq!(line(&mut session, "hi", "t1"), [""; 0], "not connected yet");
    line(&mut session, "", "t0");
    line(&mut session, "ho", "t2");
    session.handle_input_end();
    assert_eq!(did(&mut session), [""; 0]);
    session.handle_frame(Frame::read(READY), turn("t1"));
    assert_eq!(did(&mut session), [MESSAGE]);
    hear(&mut session, &accepted("t1", 1));
    let request = event(2, "t1", r#""event":"permission_request","request_id":"r","tool":"Bash","input":{}"#);
    assert_eq!(hear(&mut session, &request), ["note"], "nobody is there to ask");
    session.handle_frame(Frame::read(&end(3, "failed")), turn("t2"));
    let second = r#"send {"type":"message","chat_id":"d","content":"ho","turn_id":"t2"}"#;
    assert_eq!(did(&mut session), ["show 3 own", second]);
    hear(&mut session, &accepted("t2", 4));
    let last = event(5, "t2", r#""event":"turn_end","outcome":"completed","latency_ms":1"#);
    assert_eq!(hear(&mut session, &last), ["show 5 own", "quit 1"], "one of them failed");
}

#[test]
fn a_refusal_for_the_rate_is_tried_again_and_others_are_told() {
    let mut session = Session::new(None, false);
    hear(&mut session, READY);
    line(&mut session, "hi", "t1");
    let busy = r#"{"event":"error","code":"rate_limited","detail":"slow","retryable":true,"turn_id":"t1",
        "chat_id":"d","retry_after_ms":2000}"#;
    assert_eq!(hear(&mut session, busy), ["note", "retry 2000"]);
    session.flush();
    assert_eq!(did(&mut session), [MESSAGE]);
    let large = r#"{"event":"error","code":"too_large","detail":"long","retryable":false,"turn_id":"t1"}"#;
    assert_eq!(hear(&mut session, large), ["note"]);
}

#[test]
fn commands_change_the_chat() {
    let mut session = streaming();
    assert_eq!(
        line(&mut session, "/attach b", "x"),
        [r#"send {"type":"detach","chat_id":"d"}"#, "left", r#"send {"type":"attach","chat_id":"b"}"#]
    );
    assert_eq!(hear(&mut session, &delta(4)), [""; 0], "of the chat that was left");
    assert_eq!(line(&mut session, "/new", "x")[2], r#"send {"type":"new_chat"}"#);
    assert_eq!(line(&mut session, "hi", "t9"), [""; 0], "waits for the new chat");
    let attached = r#"{"event":"attached","chat_id":"n","epoch":"e","head":0,"recovered":true}"#;
    let message = r#"send {"type":"message","chat_id":"n","content":"hi","turn_id":"t9"}"#;
    assert_eq!(hear(&mut session, attached), ["note", message]);
    assert_eq!(line(&mut session, "/chats", "x"), [r#"send {"type":"list_chats"}"#]);
    assert_eq!(line(&mut session, "/compact", "t10").len(), 2, "others are said to be for the agent");
    assert_eq!(line(&mut session, "/quit", "x"), ["note", "quit 0"], "two are not accepted yet");
}

fn updated(scope: &str, title: &str) -> String {
    format!(r#"{{"event":"session_updated","chat_id":"d","scope":"{scope}","title":"{title}"}}"#)
}

#[test]
fn a_chat_is_renamed() {
    let mut session = Session::new(None, false);
    hear(&mut session, READY);
    assert_eq!(line(&mut session, "/rename Sea", "x"), ["note"], "there is none yet");
    let mut session = streaming();
    assert_eq!(hear(&mut session, &updated("metadata", "hi")), [""; 0], "made of the first message");
    let sent = line(&mut session, "  /rename  Sea  and sky ", "x");
    assert_eq!(sent, [r#"send {"type":"rename_chat","chat_id":"d","title":"Sea  and sky"}"#]);
    assert_eq!(hear(&mut session, &updated("metadata", "Sea  and sky")), ["note"]);
    assert_eq!(hear(&mut session, &updated("thread", "Sea  and sky")), [""; 0]);
    assert_eq!(line(&mut session, "/rename", "x"), ["note"]);
}

#[test]
fn a_chat_that_is_deleted_ends_a_batch() {
    let mut session = Session::new(ChatId::parse("d").ok(), true);
    hear(&mut session, READY);
    line(&mut session, "hi", "t1");
    hear(&mut session, &accepted("t1", 1));
    let deleted = r#"{"event":"session_updated","chat_id":"d","scope":"deleted"}"#;
    assert!(hear(&mut session, deleted).contains(&"quit 1".to_owned()));
}

#[test]
fn the_list_of_chats_goes_on() {
    let mut session = Session::new(None, false);
    hear(&mut session, READY);
    assert_eq!(line(&mut session, "/chats", "x"), [r#"send {"type":"list_chats"}"#]);
    assert_eq!(hear(&mut session, r#"{"event":"chats","chats":[],"before":"p1"}"#), ["list 0", "note"]);
    assert_eq!(line(&mut session, "/chats more", "x"), [r#"send {"type":"list_chats","before":"p1"}"#]);
    assert_eq!(hear(&mut session, r#"{"event":"chats","chats":[]}"#), ["list 0"]);
    assert_eq!(line(&mut session, "/chats more", "x"), ["note"]);
}

/// The messages that were stored and removed, in order.
fn kept(session: &mut Session) -> Vec<String> {
    std::iter::from_fn(|| session.poll_effect())
        .filter_map(|effect| {
            if let Effect::Store(unsent) = effect {
                let chat = unsent.chat.map_or("none".to_owned(), |chat| chat.to_string());
                Some(format!("keep {} for {chat}", unsent.turn_id))
            } else if let Effect::Forget(turn_id) = effect {
                Some(format!("forget {turn_id}"))
            } else {
                None
            }
        })
        .collect()
}

#[test]
fn a_message_is_kept_until_it_is_accepted() {
    let mut session = Session::new(None, false);
    session.handle_line("hi", Instant::now(), turn("t1"));
    assert_eq!(kept(&mut session), ["keep t1 for none"]);
    session.handle_frame(Frame::read(READY), turn("spare"));
    assert_eq!(kept(&mut session), ["keep t1 for d"], "now it is known where it goes");
    session.handle_frame(Frame::read(&accepted("t1", 1)), turn("spare"));
    assert_eq!(kept(&mut session), ["forget t1"]);
    let mut batch = Session::new(None, true);
    batch.handle_frame(Frame::read(READY), turn("spare"));
    batch.handle_line("hi", Instant::now(), turn("t1"));
    assert_eq!(kept(&mut batch), [""; 0], "who writes lines can write them again");
}

#[test]
fn what_an_earlier_run_left_is_sent_under_its_ids() {
    let unsent = |chat: Option<&str>, id: &str| crate::chat::unsent::Unsent {
        chat: chat.map(|chat| ChatId::parse(chat).unwrap()),
        turn_id: turn(id),
        content: "left".into(),
    };
    let mut session = Session::new(ChatId::parse("d").ok(), false);
    session.queue_stored(vec![unsent(Some("far"), "f1"), unsent(Some("d"), "t1"), unsent(Some("far"), "f2")]);
    assert_eq!(did(&mut session), ["note"]);
    let message = |chat: &str, id: &str| {
        format!(r#"send {{"type":"message","chat_id":"{chat}","content":"left","turn_id":"{id}"}}"#)
    };
    let sent = hear(&mut session, READY);
    assert_eq!(sent, [r#"send {"type":"attach","chat_id":"d"}"#, &message("far", "f1"), &message("d", "t1")]);
    // The connection is lost again, and the message is sent again.
    session.handle_disconnect();
    assert_eq!(hear(&mut session, READY)[1], message("far", "f1"));
    let there = |id: &str| accepted(id, 1).replace(r#""chat_id":"d""#, r#""chat_id":"far""#);
    let detach = r#"send {"type":"detach","chat_id":"far"}"#;
    assert_eq!(hear(&mut session, &there("f1")), ["note", detach, &message("far", "f2")]);
    let busy = r#"{"event":"error","code":"unavailable","detail":"no","retryable":true,"chat_id":"far","turn_id":"f2"}"#;
    assert_eq!(hear(&mut session, busy), ["retry 1000"]);
    session.flush();
    assert_eq!(did(&mut session), [message("far", "f2")]);
    let gone = r#"{"event":"error","code":"unknown_chat","detail":"no such chat","retryable":false,"chat_id":"far","turn_id":"f2"}"#;
    assert_eq!(hear(&mut session, gone), ["note"]);
    assert_eq!(line(&mut session, "/quit", "x"), ["note", "quit 0"], "the last one is not accepted yet");
}
