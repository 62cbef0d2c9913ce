//! Instances whose host is to be stopped after its turn.

use super::*;

/// The instance of a host that is to be stopped. An earlier gateway has sent the host the prompt of the turn `t1`.
fn retiring() -> Bench {
    let mut bench = Bench::new(STEPS, None);
    let turn = TurnId::parse("t1").unwrap();
    bench.sent_before([("start1", CommandMeaning::Start { session: None })]);
    bench.input("delivered");
    bench.input("out ready");
    bench.sent_before([("c1:t1", CommandMeaning::Prompt { turn: "t1".into() })]);
    bench.session.attach(3, Some(turn.clone()));
    bench.session.retire();
    bench.decoder.pass_only(Some(turn));
    bench
}

#[test]
fn it_ends_with_the_open_turn_whose_commands_are_carried_out() {
    check_with(
        &mut retiring(),
        "> prompt t1
         > delivered
         > answer r1
         < c2:r1 write no r1;
         > cancel t1
         < c3:t1 write stop;
         > delivered
         > out end
         < turn Completed
         < retire",
    );
}

#[test]
fn a_prompt_that_comes_after_the_turn_is_held() {
    check_with(
        &mut retiring(),
        "> prompt t1
         > delivered
         > out end
         < turn Completed
         < retire
         > prompt t2",
    );
    // Before the records of the turn have been decoded.
    let mut bench = retiring();
    bench.session.attach(4, Some(TurnId::parse("t1").unwrap()));
    check_with(
        &mut bench,
        "> prompt t1
         > delivered
         > prompt t2
         > out end
         < turn Completed
         < retire with a prompt",
    );
}

#[test]
fn a_prompt_that_the_host_does_not_have_is_held() {
    let mut bench = Bench::new(STEPS, None);
    bench.session.attach(1, Some(TurnId::parse("t1").unwrap()));
    bench.session.retire();
    bench.decoder.pass_only(Some(TurnId::parse("t1").unwrap()));
    bench.sent_before([("start1", CommandMeaning::Start { session: None })]);
    check_with(
        &mut bench,
        "> prompt t1
         > delivered
         < retire with a prompt",
    );
}

#[test]
fn a_turn_of_the_agents_own_is_waited_for() {
    check_with(
        &mut retiring(),
        "> prompt t1
         > delivered
         > out begin
         < agent turn Background
         < a4 note of a turn
         > delivered
         > out end
         < turn Completed
         > out over
         < agent turn Completed
         < retire",
    );
}
