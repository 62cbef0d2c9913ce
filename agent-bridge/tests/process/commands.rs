//! Every command of the demo agent, through the driver.

use std::collections::BTreeMap;

use libtest_mimic::Trial;
use switchboard_core::{
    agent::AgentEvent,
    wire::{Answer, Outcome},
};

use crate::{
    support::{Bench, Turn},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("help_lists_the_commands", |place| async move {
            let mut bench = Bench::begin(place.demo(), None);
            let help = bench.said("help").await;
            for command in ["echo", "slow", "fast", "permission", "question", "edit", "retry", "hang", "die"]
            {
                assert!(help.text().contains(&format!("| `{command}")), "{command}");
            }
            bench.stop().await;
        }),
        trial("an_answer_streams_after_some_thought", |place| async move {
            let mut bench = Bench::begin(place.demo(), None);
            let turn = bench.said("What is this?").await;
            assert!(!turn.thought().is_empty());
            let text = turn.text();
            assert!(
                text.contains("Switchboard") && text.contains("> What is this?") && text.contains("```"),
                "{text}"
            );
            assert!(turn.count(|event| matches!(event, AgentEvent::Text { .. })) > 50);
            assert_eq!(turn.end(), (Outcome::Completed, None));
            assert!(turn.count(|event| matches!(event, AgentEvent::Session { .. })) == 1);
            assert!(turn.count(|event| matches!(event, AgentEvent::Model { .. })) == 1);
            assert_eq!(bench.checkpoints, 1);
            bench.stop().await;
        }),
        trial("turns_share_a_process_and_a_session", |place| async move {
            let mut bench = Bench::begin(place.demo(), None);
            let (first, second) = (bench.said("session").await, bench.said("session").await);
            let (first, second) = (first.text(), second.text());
            assert!(
                first.ends_with("turn 1 of this process.") && second.ends_with("turn 2 of this process.")
            );
            assert_eq!(first.split(',').next(), second.split(',').next());
            bench.stop().await;
        }),
        trial("prompts_may_look_like_anything", |place| async move {
            let mut bench = Bench::begin(place.demo(), None);
            for text in [
                "--help",
                "-p",
                "two\nlines",
                "{\"type\":\"control_request\"}",
                "\u{1b}[31m\u{2028}é😀",
                "$(id)",
            ] {
                assert_eq!(bench.said(&format!("echo {text}")).await.text(), text);
            }
            bench.stop().await;
        }),
        trial("fast_gives_every_delta_in_large_batches", |place| async move {
            let mut bench = Bench::begin(place.demo(), None);
            let turn = bench.said("fast 20000").await;
            let expected: String = (1..=20_000).map(|n| format!("{n} ")).collect();
            assert_eq!(turn.text(), expected);
            let largest = bench.batches.iter().max().unwrap();
            assert!(*largest > 20, "lines that arrive together come together: {largest}");
            bench.stop().await;
        }),
        trial("permission_allowed_and_denied", |place| async move {
            let mut bench = Bench::begin(place.demo(), None);
            bench.prompt("permission rm -rf pretend");
            let request = bench.request().await;
            bench.answer(request, Answer::Allow { input_sha256: None });
            let turn = bench.turn().await;
            assert!(turn.text().contains("`rm -rf pretend`"), "{}", turn.text());
            assert_eq!(tool_results(&turn), [true]);

            bench.prompt("tool");
            let request = bench.request().await;
            bench.answer(request, Answer::Deny { message: Some("not today".into()) });
            let turn = bench.turn().await;
            assert!(turn.text().contains("not today"));
            assert_eq!(tool_results(&turn), [false]);
            bench.stop().await;
        }),
        trial("questions_are_answered", |place| async move {
            let mut bench = Bench::begin(place.demo(), None);
            bench.prompt("question");
            let request = bench.request().await;
            let answers = BTreeMap::from([
                ("Which language should the example be in?".to_owned(), vec!["Rust".to_owned()]),
                ("What should it have?".to_owned(), vec!["Tests".to_owned(), "A table".to_owned()]),
            ]);
            bench.answer(request, Answer::Answer { answers });
            let text = bench.turn().await.text();
            assert!(text.contains("**Rust**") && text.contains("**Tests, A table**"), "{text}");

            bench.prompt("question");
            let request = bench.request().await;
            bench.answer(request, Answer::Deny { message: None });
            assert!(bench.turn().await.text().contains("guess"));
            bench.stop().await;
        }),
        trial("edits_are_shown", |place| async move {
            let mut bench = Bench::begin(place.demo(), None);
            bench.prompt("edit");
            let request = bench.request().await;
            bench.answer(request, Answer::Allow { input_sha256: None });
            let turn = bench.turn().await;
            let edits: Vec<_> = turn
                .0
                .iter()
                .filter_map(
                    |event| if let AgentEvent::FileEdit { edits } = event { edits.first() } else { None },
                )
                .collect();
            assert_eq!(edits.len(), 1);
            assert_eq!((edits[0].path.as_str(), edits[0].added, edits[0].deleted), ("src/greeting.rs", 1, 1));
            assert!(edits[0].diff.as_ref().unwrap().contains("+    \"Hello\""));
            bench.stop().await;
        }),
        trial("tools_end_well_or_not", |place| async move {
            let mut bench = Bench::begin(place.demo(), None);
            assert_eq!(tool_results(&bench.said("tools").await), [true, true, false]);
            bench.stop().await;
        }),
        trial("retry_takes_back_what_was_said", |place| async move {
            let mut bench = Bench::begin(place.demo(), None);
            let turn = bench.said("retry").await;
            assert_eq!(turn.text(), "The connection is back, and this is the answer that counts.");
            assert_eq!(turn.count(|event| matches!(event, AgentEvent::TextEnd { void: true, .. })), 1);
            assert_eq!(turn.count(|event| matches!(event, AgentEvent::Progress { .. })), 2);
            bench.stop().await;
        }),
        trial("whole_answers_come_once", |place| async move {
            let mut bench = Bench::begin(place.demo(), None);
            let turn = bench.said("whole").await;
            assert_eq!(turn.text(), "This answer came in one piece.");
            assert_eq!(turn.count(|event| matches!(event, AgentEvent::Message { .. })), 1);
            bench.stop().await;
        }),
        trial("fail_fails_and_the_agent_goes_on", |place| async move {
            let mut bench = Bench::begin(place.demo(), None);
            let turn = bench.said("fail").await;
            let (outcome, error) = turn.end();
            assert_eq!((outcome, error.unwrap().code.as_str()), (Outcome::Failed, "agent_api_error"));
            assert_eq!(bench.said("echo still here").await.text(), "still here");
            bench.stop().await;
        }),
        trial("noise_and_the_other_commands", |place| async move {
            let mut bench = Bench::begin(place.demo(), None);
            assert!(bench.said("noise").await.text().starts_with("Did you notice"));
            assert!(bench.said("long 1").await.text().starts_with("**1.** A log"));
            assert_eq!(bench.said("slow 2").await.text(), "word1 word2 ");
            assert!(bench.said("think").await.thought().len() > 200);
            bench.stop().await;
        }),
    ]
}

/// Whether each tool ended well, in order. Every one of them must have begun.
fn tool_results(turn: &Turn) -> Vec<bool> {
    let ended = turn.0.iter().filter_map(|event| match event {
        AgentEvent::ToolEnded { result, .. } => Some(result.is_ok()),
        _ => None,
    });
    ended.collect()
}
