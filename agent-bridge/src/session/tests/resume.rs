//! Sessions that the agent cannot resume.

use super::*;

const LOST: &str = "notice memory_lost: The agent could not continue the conversation and begins a new one. It does \
                    not remember what was said before.";

const FIRST: &str = "> prompt t1\n< start1 start--resume s1 hello;\n> delivered\n";

#[test]
fn a_session_that_cannot_be_resumed_is_tried_once_and_then_a_new_one_begins() {
    for (failure, words) in [
        ("> out unknown\n< end1 kill\n> exit 1", ""),
        ("> exit 1 no account", " Its last words: no account"),
        ("> exit 0", ""),
        ("> out text\n> exit", ""),
        // Silence, output without an end, and a closed output.
        ("> after 14999\n< idle\n> after 1\n< end1 kill\n> exit", ""),
        (
            "> after 10000\n< idle\n> out text\n> after 14999\n> after 1\n< end1 kill\n> after 60000\n> exit",
            "",
        ),
        ("> closed\n> after 1000\n< idle\n< end1 kill\n> exit", ""),
    ] {
        let second = format!("{failure}\n< start2 start hello;\n> delivered\n< {LOST}{words}");
        let mut bench = check(STEPS, Some("s1"), &format!("{FIRST}{second}"));
        check_with(
            &mut bench,
            "> out ready\n< c1:t1 write turn t1;hi;\n> delivered\n> out end\n< turn Completed",
        );
    }
}

#[test]
fn output_without_end_does_not_lengthen_a_resume_beyond_the_limit_of_a_start() {
    let steps = "> after 10000\n> out text\n".repeat(5).replacen("> out", "< idle\n> out", 1);
    let end = "> after 9999\n> after 1\n< end1 kill\n> exit\n< start2 start hello;";
    check(STEPS, Some("s1"), &format!("{FIRST}{steps}{end}"));
}

#[test]
fn a_second_start_that_fails_fails_the_turn() {
    for (failure, why) in [
        ("> exit 3", "it exited with status 3 before it was ready"),
        ("> out unknown\n< end2 kill\n> exit 1", "it refused to begin a session"),
    ] {
        let script = format!(
            "{FIRST}> exit 1
             < start2 start hello;
             > delivered
             < {LOST}
             {failure}
             < failed: The agent \"test\" could not be started: {why}."
        );
        check(STEPS, Some("s1"), &script);
    }
}

#[test]
fn a_session_that_is_unknown_only_to_the_first_prompt_costs_the_prompt_nothing() {
    let prompted = format!("{FIRST}> out ready\n< c1:t1 write turn t1;hi;\n> delivered\n");
    let lost = format!("> exit 1\n< start2 start hello;\n> delivered\n< {LOST}\n");
    for (failure, end) in [
        (
            "> out unknown\n< end1 kill\n",
            "> out ready\n< c1:t1.2 write turn t1;hi;\n> delivered\n> out end\n< turn Completed",
        ),
        // Cancelled before and after the process is gone.
        (
            "> out unknown\n< end1 kill\n> cancel t1\n< c2:t1 write stop;\n> delivered\n",
            "> out ready\n< v1:t1 note\n> delivered\n< turn Cancelled",
        ),
        (
            "> out unknown\n< end1 kill\n",
            "> cancel t1\n< v2:t1 note\n> delivered\n< turn Cancelled\n> out ready",
        ),
    ] {
        check(STEPS, Some("s1"), &format!("{prompted}{failure}{lost}{end}"));
    }
    // A process that was ready and exits without a word on its session has not lost it.
    check(
        STEPS,
        Some("s1"),
        &format!("{prompted}> exit 1\n< gone agent_exited: The agent exited with status 1."),
    );
}

#[test]
fn a_second_start_goes_on_under_another_gateway() {
    let mut bench = Bench::new(STEPS, Some("s1"));
    bench.session.attach(3, None);
    bench.sent_before([("start1", CommandMeaning::Start { session: Some("s1".into()) })]);
    check_with(
        &mut bench,
        "> delivered
         > out unknown
         > exit 1
         > prompt t1
         < start2 start hello;",
    );
    // The gateway before has started the second process, which has not got the prompt.
    let turn = || CommandMeaning::Prompt { turn: "t1".into() };
    let start = |session: Option<&str>| CommandMeaning::Start { session: session.map(Into::into) };
    let mut bench = Bench::new(STEPS, Some("s1"));
    bench.session.attach(6, Some(TurnId::parse("t1").unwrap()));
    bench.sent_before([("start1", start(Some("s1"))), ("c1:t1", turn())]);
    check_with(&mut bench, "> delivered\n> out ready\n> out unknown\n> exit 1");
    bench.sent_before([("start2", start(None))]);
    check_with(
        &mut bench,
        &format!("> delivered\n< {LOST}\n> prompt t1\n> out ready\n< c1:t1.2 write turn t1;hi;"),
    );
}

#[test]
fn a_cancel_that_an_earlier_gateway_wrote_to_a_process_that_is_gone_ends_the_turn() {
    let turn = || "t1".to_owned();
    let mut bench = Bench::new(STEPS, Some("s1"));
    bench.session.attach(6, Some(TurnId::parse("t1").unwrap()));
    bench.sent_before([
        ("start1", CommandMeaning::Start { session: Some("s1".into()) }),
        ("c1:t1", CommandMeaning::Prompt { turn: turn() }),
        ("c2:t1", CommandMeaning::Cancel { turn: turn() }),
    ]);
    check_with(
        &mut bench,
        &format!(
            "> delivered
             > out ready
             > out unknown
             > exit 1
             > prompt t1
             < start2 start hello;
             > cancel t1
             < v2:t1 note
             > delivered
             < {LOST}
             < turn Cancelled"
        ),
    );
}
