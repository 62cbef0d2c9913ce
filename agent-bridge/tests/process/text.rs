//! Dialect `text`: a process for each message.

use std::sync::Arc;

use libtest_mimic::Trial;
use switchboard_agent_bridge::{ProcessAgent, dialect};
use switchboard_core::{
    agent::{AgentEvent, AgentExit},
    wire::Outcome,
};

use crate::{
    Place,
    support::{Bench, alive, eventually},
    trial,
};

fn begin(place: &Place, script: &str) -> Bench {
    Bench::begin(Arc::new(ProcessAgent::new(place.config(&["sh", "-c", script], dialect::TEXT))), None)
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("text_the_prompt_goes_in_and_the_answer_comes_out", |place| async move {
            let mut bench = begin(&place, "cat");
            for text in ["-p --help", "é😀\nsecond line", &"long ".repeat(50_000)] {
                let turn = bench.said(text).await;
                assert_eq!(turn.text(), text);
                assert_eq!(turn.end(), (Outcome::Completed, None));
                assert_eq!(turn.count(|event| matches!(event, AgentEvent::TextEnd { .. })), 1);
            }
            bench.stop().await;
        }),
        trial("text_bytes_that_are_no_text_are_replaced", |place| async move {
            let mut bench = begin(&place, r"printf 'a\377b\342\202'");
            assert_eq!(bench.said("x").await.text(), "a\u{fffd}b\u{fffd}");
            bench.stop().await;
        }),
        trial("text_an_answer_comes_as_it_is_printed", |place| async move {
            let mut bench =
                begin(&place, "read prompt; echo first; mkfifo gate; read go < gate; echo second");
            bench.prompt("x\n");
            bench.until(|event| matches!(event, AgentEvent::Text { text, .. } if text == "first\n")).await;
            let gate = place.workspace().join("gate");
            eventually("it waits", || gate.exists()).await;
            std::fs::write(gate, "go\n").unwrap();
            assert_eq!(bench.turn().await.text(), "second\n");
            bench.stop().await;
        }),
        trial("text_a_status_fails_the_turn_and_nothing_else", |place| async move {
            let mut bench = begin(&place, "echo half; echo 'no model: token=abcd12345' >&2; exit 3");
            for _ in 0..2 {
                let turn = bench.said("x").await;
                let (outcome, error) = turn.end();
                assert_eq!((turn.text().as_str(), outcome), ("half\n", Outcome::Failed));
                let why = "The command exited with status 3. Its last words: no model: token=[removed]";
                assert_eq!(error.unwrap().detail, why);
            }
            bench.stop().await;
        }),
        trial("text_a_cancel_ends_the_process", |place| async move {
            let mut bench = begin(&place, "echo begun; trap '' TERM; while :; do sleep 1; done");
            bench.prompt("x");
            bench.until(|event| matches!(event, AgentEvent::Text { .. })).await;
            bench.cancel();
            assert_eq!(bench.turn().await.end(), (Outcome::Cancelled, None));
            assert!(alive(&place.mark).is_empty());
            bench.stop().await;
        }),
        trial("text_what_holds_the_output_open_does_not_hold_the_turn", |place| async move {
            let mut bench = begin(&place, "setsid sleep 1000 & echo done");
            let turn = bench.said("x").await;
            assert_eq!((turn.text().as_str(), turn.end().0), ("done\n", Outcome::Completed));
            assert!(alive(&place.mark).is_empty());
            bench.stop().await;
        }),
        trial("text_a_program_that_is_not_there", |place| async move {
            let config = place.config(&["nowhere-to-be-found"], dialect::TEXT);
            let mut bench = Bench::begin(Arc::new(ProcessAgent::new(config)), None);
            bench.prompt("x");
            assert!(matches!(bench.exit().await.0, AgentExit::StartFailed(_)));
        }),
    ]
}
