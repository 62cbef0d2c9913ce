//! Turns that the agent begins by itself.

use super::*;

const READY: &str = "> prompt t1
    < start1 start hello;
    > delivered
    > out ready
    < c1:t1 write turn t1;hi;
    > delivered
    > out end
    < turn Completed
    > after 50
    < idle
    > out begin
    < agent turn Background
    < a5 note of a turn
    > delivered
";

fn check_in_agent_turn(script: &str) {
    check(STEPS, None, &format!("{READY}{script}"));
}

#[test]
fn an_agent_is_not_idle_while_it_works_by_itself() {
    check_in_agent_turn(
        "> after 60000
         > out text
         > out over
         < agent turn Completed
         > after 49
         > after 1
         < idle",
    );
}

#[test]
fn a_prompt_goes_to_an_agent_that_works_by_itself() {
    check_in_agent_turn(
        "> prompt t2
         < c2:t2 write turn t2;hi;
         > delivered
         > out over
         < agent turn Completed
         > after 50
         > out end
         < turn Completed
         > after 50
         < idle",
    );
}

#[test]
fn a_cancel_says_which_of_the_two_turns_it_is_for() {
    check_in_agent_turn(
        "> cancel t1
         > cancel a1
         < c3:a1 write stop;
         > delivered
         > out what
         < reply the agent's turn
         > prompt t2
         < c4:t2 write turn t2;hi;
         > delivered
         > cancel t2
         < c5:t2 write stop;
         > delivered
         > out what
         < reply the prompt's turn
         > cancel a1
         < c6:a1 write stop;
         > out over
         < agent turn Completed
         > delivered
         > out what
         < reply the prompt's turn
         > cancel a1",
    );
}

#[test]
fn a_stop_interrupts_an_agent_that_works_by_itself() {
    check_in_agent_turn(
        "> stop
         < c0:~agent write stop;
         < stop",
    );
}

#[test]
fn a_stop_of_an_agent_that_works_in_the_background_does_not_wait_for_the_end_of_that() {
    check_in_agent_turn(
        "> out background
         > stop
         < c0:~agent write stop;
         < stop1 terminate
         < stop",
    );
    check_in_agent_turn(
        "> out background
         > out over
         < agent turn Completed
         > stop
         < stop1 terminate
         < stop",
    );
}

#[test]
fn a_turn_of_the_agent_is_over_when_its_process_is() {
    let mut bench = check(STEPS, None, READY);
    assert!(bench.decoder.state().agent_turn);
    check_with(&mut bench, "> exit 1\n< gone agent_exited: The agent exited with status 1.");
    assert!(!bench.decoder.state().agent_turn);
}

#[test]
fn a_lost_turn_hides_nothing_of_a_turn_of_the_agent() {
    let mut bench = Bench::new(STEPS, None);
    bench.session.attach(2, None);
    bench.decoder.pass_only(None);
    bench.sent_before([
        ("start1", CommandMeaning::Start { session: None }),
        ("c9:lost", CommandMeaning::Prompt { turn: "lost".into() }),
    ]);
    check_with(
        &mut bench,
        "> delivered
         > out ready
         > out begin
         < agent turn Background
         < a4 note of a turn
         > out over
         < agent turn Completed
         > out end",
    );
}

#[test]
fn work_that_no_codec_declares_can_be_cancelled_while_no_prompt_could_be_hit() {
    check_in_agent_turn(
        "> out over
         < agent turn Completed
         > cancel t1
         > cancel a1
         < c3:a1 write stop;
         > delivered
         > out what
         < reply the agent's turn
         > prompt t2
         < c4:t2 write turn t2;hi;
         > cancel a1
         > delivered
         > cancel a1
         > out end
         < turn Completed
         > cancel a1
         < c7:a1 write stop;",
    );
    check(STEPS, None, "> prompt t1\n< start1 start hello;\n> delivered\n> cancel a1");
}

#[test]
fn a_turn_of_the_agent_ends_with_its_process_if_another_process_follows() {
    check(
        STEPS,
        Some("s1"),
        "> prompt t1
         < start1 start--resume s1 hello;
         > delivered
         > out ready
         < c1:t1 write turn t1;hi;
         > delivered
         > out begin
         < agent turn Background
         < a4 note of a turn
         > out unknown
         < end1 kill
         > delivered
         > exit 1
         < agent turn Interrupted
         < start2 start hello;",
    );
}
