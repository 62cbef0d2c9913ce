//! Dialect `text`: a process for each message.

use std::sync::Arc;

use libtest_mimic::Trial;
use switchboard_agent_bridge::{ProcessAgent, dialect};
use switchboard_core::{
    agent::{AgentEvent, AgentExit},
    wire::Outcome,
};

use crate::{
    Fixture,
    support::{TestAgent, alive, eventually},
    trial,
};

fn begin(fixture: &Fixture, script: &str) -> TestAgent {
    TestAgent::start(Arc::new(ProcessAgent::new(fixture.config(&["sh", "-c", script], dialect::TEXT))), None)
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("text_the_prompt_goes_in_and_the_answer_comes_out", |fixture| async move {
            let mut agent = begin(&fixture, "cat");
            for text in ["-p --help", "é😀\nsecond line", &"long ".repeat(50_000)] {
                let turn = agent.run_turn(text).await;
                assert_eq!(turn.text(), text);
                assert_eq!(turn.end(), (Outcome::Completed, None));
                assert_eq!(turn.count(|event| matches!(event, AgentEvent::TextEnd { .. })), 1);
            }
            agent.stop().await;
        }),
        trial("text_bytes_that_are_no_text_are_replaced", |fixture| async move {
            let mut agent = begin(&fixture, r"printf 'a\377b\342\202'");
            assert_eq!(agent.run_turn("x").await.text(), "a\u{fffd}b\u{fffd}");
            agent.stop().await;
        }),
        trial("text_a_command_knows_its_chat_and_that_nobody_sees_colours", |fixture| async move {
            let print = "printf '%s %s %s' \"$SWITCHBOARD_CHAT_ID\" \"$NO_COLOR\" \"$TERM\"";
            let mut agent = begin(&fixture, print);
            assert_eq!(agent.run_turn("x").await.text(), "c 1 dumb");
            agent.stop().await;
        }),
        trial("text_what_is_meant_for_a_terminal_is_removed", |fixture| async move {
            let mut agent = begin(&fixture, r"printf '\033[32mgreen\033[0m\n1%%\r50%%\r100%%\n'");
            assert_eq!(agent.run_turn("x").await.text(), "green\n1%\n100%\n");
            agent.stop().await;
        }),
        trial("text_an_answer_comes_as_it_is_printed", |fixture| async move {
            let mut agent =
                begin(&fixture, "read prompt; echo first; mkfifo gate; read go < gate; echo second");
            agent.prompt("x\n");
            agent.until(|event| matches!(event, AgentEvent::Text { text, .. } if text == "first\n")).await;
            let gate = fixture.workspace().join("gate");
            eventually("the agent waits", || gate.exists()).await;
            std::fs::write(gate, "go\n").unwrap();
            assert_eq!(agent.turn().await.text(), "second\n");
            agent.stop().await;
        }),
        trial("text_a_status_fails_the_turn_and_nothing_else", |fixture| async move {
            let mut agent = begin(&fixture, "echo half; echo 'no model: token=abcd12345' >&2; exit 3");
            for _ in 0..2 {
                let turn = agent.run_turn("x").await;
                let (outcome, error) = turn.end();
                assert_eq!((turn.text().as_str(), outcome), ("half\n", Outcome::Failed));
                let why = "The command exited with status 3. Its last words: no model: token=[removed]";
                assert_eq!(error.unwrap().detail, why);
            }
            agent.stop().await;
        }),
        trial("text_a_cancel_ends_the_process", |fixture| async move {
            let mut agent = begin(&fixture, "echo begun; trap '' TERM; while :; do sleep 1; done");
            agent.prompt("x");
            agent.until(|event| matches!(event, AgentEvent::Text { .. })).await;
            agent.cancel();
            assert_eq!(agent.turn().await.end(), (Outcome::Cancelled, None));
            assert!(alive(&fixture.mark).is_empty());
            agent.stop().await;
        }),
        trial("text_a_helper_that_keeps_the_output_open_does_not_keep_the_turn_open", |fixture| async move {
            let mut agent = begin(&fixture, "setsid sleep 1000 & echo done");
            let turn = agent.run_turn("x").await;
            assert_eq!((turn.text().as_str(), turn.end().0), ("done\n", Outcome::Completed));
            assert!(alive(&fixture.mark).is_empty());
            agent.stop().await;
        }),
        trial("text_a_program_that_is_not_there", |fixture| async move {
            let config = fixture.config(&["nowhere-to-be-found"], dialect::TEXT);
            let mut agent = TestAgent::start(Arc::new(ProcessAgent::new(config)), None);
            agent.prompt("x");
            assert!(matches!(agent.exit().await.0, AgentExit::StartFailed(_)));
        }),
    ]
}
