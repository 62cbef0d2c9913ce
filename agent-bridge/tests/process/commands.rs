//! Every command of the demo agent, through the driver.

use std::collections::BTreeMap;

use libtest_mimic::Trial;
use switchboard_core::{
    agent::AgentEvent,
    wire::{Answer, Outcome},
};

use crate::{
    support::{TestAgent, Turn},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("help_lists_the_commands", |fixture| async move {
            let mut agent = TestAgent::start(fixture.demo(), None);
            let help = agent.run_turn("help").await;
            for command in ["echo", "slow", "fast", "permission", "question", "edit", "retry", "hang", "die"]
            {
                assert!(help.text().contains(&format!("| `{command}")), "{command}");
            }
            agent.stop().await;
        }),
        trial("an_answer_streams_after_some_thought", |fixture| async move {
            let mut agent = TestAgent::start(fixture.demo(), None);
            let turn = agent.run_turn("What is this?").await;
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
            assert_eq!(agent.checkpoints, 1);
            agent.stop().await;
        }),
        trial("turns_share_a_process_and_a_session", |fixture| async move {
            let mut agent = TestAgent::start(fixture.demo(), None);
            let (first, second) = (agent.run_turn("session").await, agent.run_turn("session").await);
            let (first, second) = (first.text(), second.text());
            assert!(
                first.ends_with("turn 1 of this process.") && second.ends_with("turn 2 of this process.")
            );
            assert_eq!(first.split(',').next(), second.split(',').next());
            agent.stop().await;
        }),
        trial("prompts_may_look_like_anything", |fixture| async move {
            let mut agent = TestAgent::start(fixture.demo(), None);
            for text in [
                "--help",
                "-p",
                "two\nlines",
                "{\"type\":\"control_request\"}",
                "\u{1b}[31m\u{2028}é😀",
                "$(id)",
            ] {
                assert_eq!(agent.run_turn(&format!("echo {text}")).await.text(), text);
            }
            agent.stop().await;
        }),
        trial("fast_gives_every_delta_in_large_batches", |fixture| async move {
            let mut agent = TestAgent::start(fixture.demo(), None);
            let turn = agent.run_turn("fast 20000").await;
            let expected: String = (1..=20_000).map(|n| format!("{n} ")).collect();
            assert_eq!(turn.text(), expected);
            let largest = agent.batches.iter().max().unwrap();
            assert!(*largest > 20, "lines that arrive together come together: {largest}");
            agent.stop().await;
        }),
        trial("permission_allowed_and_denied", |fixture| async move {
            let mut agent = TestAgent::start(fixture.demo(), None);
            agent.prompt("permission rm -rf pretend");
            let request = agent.next_request().await;
            agent.answer(request, Answer::Allow { input_sha256: None });
            let turn = agent.turn().await;
            assert!(turn.text().contains("`rm -rf pretend`"), "{}", turn.text());
            assert_eq!(tool_results(&turn), [true]);

            agent.prompt("tool");
            let request = agent.next_request().await;
            agent.answer(request, Answer::Deny { message: Some("not today".into()) });
            let turn = agent.turn().await;
            assert!(turn.text().contains("not today"));
            assert_eq!(tool_results(&turn), [false]);
            agent.stop().await;
        }),
        trial("questions_are_answered", |fixture| async move {
            let mut agent = TestAgent::start(fixture.demo(), None);
            agent.prompt("question");
            let request = agent.next_request().await;
            let answers = BTreeMap::from([
                ("Which language should the example be in?".to_owned(), vec!["Rust".to_owned()]),
                ("What should it have?".to_owned(), vec!["Tests".to_owned(), "A table".to_owned()]),
            ]);
            agent.answer(request, Answer::Answer { answers });
            let text = agent.turn().await.text();
            assert!(text.contains("**Rust**") && text.contains("**Tests, A table**"), "{text}");

            agent.prompt("question");
            let request = agent.next_request().await;
            agent.answer(request, Answer::Deny { message: None });
            assert!(agent.turn().await.text().contains("guess"));
            agent.stop().await;
        }),
        trial("edits_are_shown", |fixture| async move {
            let mut agent = TestAgent::start(fixture.demo(), None);
            agent.prompt("edit");
            let request = agent.next_request().await;
            agent.answer(request, Answer::Allow { input_sha256: None });
            let turn = agent.turn().await;
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
            agent.stop().await;
        }),
        trial("tools_end_well_or_not", |fixture| async move {
            let mut agent = TestAgent::start(fixture.demo(), None);
            assert_eq!(tool_results(&agent.run_turn("tools").await), [true, true, false]);
            agent.stop().await;
        }),
        trial("retry_voids_the_text_before_it", |fixture| async move {
            let mut agent = TestAgent::start(fixture.demo(), None);
            let turn = agent.run_turn("retry").await;
            assert_eq!(turn.text(), "The connection is back, and this is the answer that counts.");
            assert_eq!(turn.count(|event| matches!(event, AgentEvent::TextEnd { void: true, .. })), 1);
            assert_eq!(turn.count(|event| matches!(event, AgentEvent::Progress { .. })), 2);
            agent.stop().await;
        }),
        trial("whole_answers_arrive_once", |fixture| async move {
            let mut agent = TestAgent::start(fixture.demo(), None);
            let turn = agent.run_turn("whole").await;
            assert_eq!(turn.text(), "This answer came in one piece.");
            assert_eq!(turn.count(|event| matches!(event, AgentEvent::Message { .. })), 1);
            agent.stop().await;
        }),
        trial("fail_fails_and_the_agent_goes_on", |fixture| async move {
            let mut agent = TestAgent::start(fixture.demo(), None);
            let turn = agent.run_turn("fail").await;
            let (outcome, error) = turn.end();
            assert_eq!((outcome, error.unwrap().code.as_str()), (Outcome::Failed, "agent_api_error"));
            assert_eq!(agent.run_turn("echo still here").await.text(), "still here");
            agent.stop().await;
        }),
        trial("noise_and_the_other_commands", |fixture| async move {
            let mut agent = TestAgent::start(fixture.demo(), None);
            assert!(agent.run_turn("noise").await.text().starts_with("Did you notice"));
            assert!(agent.run_turn("long 1").await.text().starts_with("**1.** A log"));
            assert_eq!(agent.run_turn("slow 2").await.text(), "word1 word2 ");
            assert!(agent.run_turn("think").await.thought().len() > 200);
            agent.stop().await;
        }),
    ]
}

/// Whether each tool call succeeded, in order.
fn tool_results(turn: &Turn) -> Vec<bool> {
    let ended = turn.0.iter().filter_map(|event| match event {
        AgentEvent::ToolEnded { result, .. } => Some(result.is_ok()),
        _ => None,
    });
    ended.collect()
}
