//! Messages that meet the turns that the agent begins by itself.

use std::{env, thread, time::Duration};

use serde_json::{Value, json};

use switchboard_test_support::{Rng, answer_text, matches};

use crate::Session;

/// How many messages are sent. `SWITCHBOARD_CLAUDE_RACES` is another number.
const RACES: usize = 20;

/// At most this lies between the message and the end of the work in the background. Claude Code takes about as long to
/// begin its turn.
const LONGEST: Duration = Duration::from_millis(50);

#[test]
fn no_message_is_taken_for_answered_by_the_end_of_another_turn() {
    let Some(mut session) = Session::start("[limits]\nmessages_per_minute = \"off\"\n") else { return };
    let races = env::var("SWITCHBOARD_CLAUDE_RACES").map_or(RACES, |races| races.parse().unwrap());
    let mut rng = Rng::for_test("races");
    let (mut answered_first, mut told_first) = (0, 0);
    for race in 0..races {
        let (gate, told, answer) =
            (format!("gate-{race}"), format!("told-{race}."), format!("answer-{race}."));
        session.begin_background_work(&gate, &format!("say:{told}"));
        let begin = session.events.len();
        let micros = rng.below(LONGEST.as_micros().try_into().unwrap());
        let pause = || thread::sleep(Duration::from_micros(micros));
        let turn = if race % 2 == 0 {
            session.open(&gate);
            session.until(&json!({"event": "task", "status": "completed"}));
            pause();
            session.prompt(&format!("say:{answer}"))
        } else {
            let turn = session.prompt(&format!("say:{answer}"));
            pause();
            session.open(&gate);
            turn
        };
        let said = |session: &Session, text: &str| all_text(&session.events[begin..]).contains(text);
        let ended = json!({"event": "turn_end", "turn_id": turn});
        session.until(&ended);
        let end = session.events.last().unwrap();
        assert!(matches(&json!({"outcome": "completed", "error": null}), end), "{end}{}", session.report());
        // Claude Code may have taken the message into a turn of its own, which then says the answer.
        assert!(said(&session, &answer), "race {race}: ended without an answer{}", session.report());
        *(if said(&session, &told) { &mut told_first } else { &mut answered_first }) += 1;
        while !said(&session, &told) || session.is_in_turn_of_the_agent() {
            session.until(&json!({}));
        }
    }
    session.assert_balanced();
    assert!(answered_first > 0 && told_first > 0, "one order only: {answered_first} and {told_first}");
}

impl Session {
    fn is_in_turn_of_the_agent(&self) -> bool {
        let of_the_agent = self.events.iter().rfind(|event| event["origin"] == "agent");
        of_the_agent.is_some_and(|event| event["event"] == "turn_started")
    }
}

/// What was said in all turns.
fn all_text(events: &[Value]) -> String {
    let mut turns: Vec<&Value> = events.iter().map(|event| &event["turn_id"]).collect();
    turns.dedup();
    turns.into_iter().map(|turn| answer_text(events, turn, &Value::Null)).collect()
}
