//! Commands that are misspelt, unknown, or need a confirmation.

use super::*;

const DELETE: &str = r#"send {"type":"delete_chat","chat_id":"d"}"#;

#[test]
fn a_chat_is_deleted_once_that_is_certain() {
    let mut session = streaming();
    hear(&mut session, &end(4, "cancelled"));
    assert_eq!(line(&mut session, "/delete", "x"), ["note"]);
    assert!(!session.awaits_message(), "the next line answers whether to delete it");
    assert_eq!(line(&mut session, "yes", "x"), [DELETE]);
    let deleted = r#"{"event":"session_updated","chat_id":"d","scope":"deleted"}"#;
    assert_eq!(hear(&mut session, deleted), ["left", "note"]);
    assert_eq!(hear(&mut session, deleted), [""; 0]);
    // The connection's id for a new chat is used up, so a new chat is requested.
    assert_eq!(line(&mut session, "again", "t2"), [r#"send {"type":"new_chat"}"#]);
    let attached = r#"{"event":"attached","chat_id":"n","epoch":"e","head":0,"recovered":true}"#;
    let message = r#"send {"type":"message","chat_id":"n","content":"again","turn_id":"t2"}"#;
    assert_eq!(hear(&mut session, attached), ["note", message]);
}

#[test]
fn any_other_answer_keeps_the_chat_and_is_no_message() {
    let mut session = streaming();
    for answer in ["no", "", "y", "yes please", "/help"] {
        line(&mut session, "/delete", "x");
        assert_eq!(line(&mut session, answer, "x"), ["note"], "{answer:?}");
    }
    assert!(line(&mut session, "yes", "t2")[0].contains(r#""content":"yes""#), "the question is answered");
    let mut new = Session::new(None, false);
    hear(&mut new, READY);
    assert_eq!(line(&mut new, "/delete", "x"), ["note"], "there is nothing to delete");
    assert!(line(&mut new, "yes", "t3")[0].contains(r#""content":"yes""#));
}

#[test]
fn a_yes_to_the_agent_deletes_nothing() {
    let mut session = streaming();
    line(&mut session, "/delete", "x");
    assert_eq!(hear(&mut session, &asks(4, r#""input":{}"#)), ["note", "ask 4"]);
    assert_eq!(line(&mut session, "yes", "x"), ["note"], "too early for the agent's question");
    armed(&mut session, Instant::now());
    assert!(line(&mut session, "yes", "x")[0].contains(r#""decision":"allow""#));
    // While a request of the agent is open, the line after /delete answers the confirmation.
    hear(&mut session, &asks(5, r#""input":{}"#).replace(r#""r""#, r#""s""#));
    armed(&mut session, Instant::now());
    line(&mut session, "/delete", "x");
    assert_eq!(line(&mut session, "n", "x"), ["note", "prompt"]);
    line(&mut session, "/delete", "x");
    assert_eq!(line(&mut session, "yes", "x"), [DELETE]);
}

/// The notes and frames that a line causes.
fn said_and_sent(session: &mut Session, line: &str) -> (Vec<String>, Vec<String>) {
    session.handle_line(line, Instant::now(), turn("t9"));
    let (mut said, mut sent) = (Vec::new(), Vec::new());
    while let Some(effect) = session.poll_effect() {
        if let Effect::Note(text) = effect {
            said.push(text);
        } else if let Effect::Send(frame) = effect {
            sent.push(frame);
        }
    }
    (said, sent)
}

#[test]
fn a_command_that_is_written_wrong_is_explained_and_not_sent() {
    for asked in [false, true] {
        for line in [
            "/attach",
            "/attach a b",
            "/chats old",
            "/delete all",
            "/allow",
            "/allow r1",
            "/new one",
            "/stop it",
            "/help me",
        ] {
            let mut session = streaming();
            if asked {
                hear(&mut session, &asks(4, r#""input":{}"#));
                armed(&mut session, Instant::now());
            }
            let (said, sent) = said_and_sent(&mut session, line);
            assert!(said.len() == 1 && sent.is_empty(), "{line}: {said:?} {sent:?}");
        }
    }
    let (said, sent) = said_and_sent(&mut streaming(), "/decline");
    assert_eq!((said, sent), (vec!["Nothing is asked.".to_owned()], Vec::new()));
}

#[test]
fn an_unknown_command_is_said_to_go_to_the_agent() {
    let mut session = streaming();
    let (said, sent) = said_and_sent(&mut session, "/bogus now");
    assert!(said[0].starts_with("/bogus is no command of this program, so it goes to the agent"), "{said:?}");
    assert!(sent[0].contains(r#""content":"/bogus now""#), "{sent:?}");
    let (said, sent) = said_and_sent(&mut session, "/etc/hosts is wrong");
    assert!(said.is_empty() && sent.len() == 1, "a path: {said:?}");
    hear(&mut session, &asks(4, r#""input":{}"#));
    armed(&mut session, Instant::now());
    let (said, sent) = said_and_sent(&mut session, "/bogus");
    assert!(said[0].starts_with("Not taken as an answer: /bogus") && sent.is_empty(), "{said:?} {sent:?}");
}

#[test]
fn a_message_that_ends_the_connection_is_not_sent_again_and_the_next_line_is() {
    let mut session = Session::new(None, true);
    hear(&mut session, READY);
    assert_eq!(line(&mut session, "hi", "t1"), [MESSAGE]);
    line(&mut session, "ho", "t2");
    session.handle_input_end();
    session.handle_too_large();
    session.handle_disconnect();
    assert_eq!(did(&mut session), ["note"]);
    session.handle_frame(Frame::read(READY), turn("t2"));
    let sent = did(&mut session);
    assert!(sent.iter().any(|each| each.contains("ho")) && !sent.contains(&MESSAGE.to_owned()), "{sent:?}");
}
